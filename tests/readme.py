"""The README as data: its snippets and tables, for the tests that hold it to its word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def snippets(language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Return every line of every shell block."""
    return [line for block in snippets("bash") for line in block.splitlines() if line.strip()]


def table(first_heading: str) -> list[list[str]]:
    """Return the rows of every table whose first heading this is, without back quotes."""
    rows: list[list[str]] = []
    inside = False
    for line in README.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif inside and not set(line) <= set("|- "):
            rows.append([cell.strip("| ") for cell in cells])
        elif cells[0] == first_heading:
            inside = True
    return rows


def row(words: str) -> pytest.MarkDecorator:
    """Name a test by the words of the row of "what happens when" that it proves."""
    return pytest.mark.parametrize("row", [words], ids=[words])
