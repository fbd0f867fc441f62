from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==[0-9][0-9a-z.]*(?: ; [a-z_]+ .+)?")


def pinned() -> list[str]:
    return (ROOT / "constraints.txt").read_text().splitlines()


def normal(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_the_pins_are_names_and_versions_and_nothing_else() -> None:
    assert [line for line in pinned() if not PIN.fullmatch(line) or "/" in line] == []


def test_all_that_is_asked_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    names = {normal(line) for line in pinned()}
    assert {normal(requirement) for requirement in asked} - names == set()
