# Everything runs in .venv, which is built from pyproject.toml and constraints.txt, and again when these change.
# To use a certain interpreter: make clean, then make venv PYTHON=python3.12

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
NEWEST := python3 python3.13 python3.12 python3.11
FITS := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(NEWEST); do $$p -c '$(FITS)' 2>/dev/null && command -v $$p && break; done)

# without .pyc files every Airflow process takes twice as long to start
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test chaos screenshots lint format venv lock clean

help:
	@echo 'make demo     a night of videos: a local Wiro, an Airflow and the nightly Dag (DEMO_ONCE=1: exit at its end)'
	@echo 'make test     lint, then all tests'
	@echo 'make chaos    kill Airflow piece by piece while it orders 200 videos, and count what is paid (40 minutes)'
	@echo 'make screenshots  the pictures of Airflow in docs/, taken in Chromium from what the demo starts'
	@echo 'make lint     ruff and mypy'
	@echo 'make format   let ruff put the code in order'
	@echo 'make venv     only build .venv'
	@echo 'make lock     pin the newest versions in constraints.txt'
	@echo 'make clean    remove all that these made, but for the videos'

demo: venv
	@$(BIN)/python -m scripts.demo

test: lint
	@$(BIN)/python -m pytest

chaos: venv
	@$(BIN)/python -m scripts.chaos

screenshots: venv
	@$(BIN)/python -m scripts.screenshots

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed, and none of $(NEWEST) is. Name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@"$(PYTHON)" -c '$(FITS)' || { echo '$(PYTHON) is not a Python 3.11 or newer' >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { echo '$(PYTHON) lacks the module venv (on Debian and Ubuntu: apt install python3-venv)' >&2; exit 1; }
	@echo 'Installing Airflow and all that it needs into $(VENV); the first time this takes a minute or two ...'
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[emulator,dev]'
	@touch $@

lock:
	"$(PYTHON)" -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/lock/bin/uv --no-config pip compile --quiet --upgrade --universal --python-version 3.11 \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--extra emulator --extra dev --output-file constraints.txt pyproject.toml
	rm -r build/lock

clean:
	rm -rf $(VENV) .demo .bench .chaos build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
