"""Every row of the README's table "what happens when" is some test's name, and no test has a row that is gone."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.readme import table

TESTS = Path(__file__).parents[1]


def rows_of(path: Path) -> list[str]:
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return [str(ast.literal_eval(call.args[0])) for call in calls if getattr(call.func, "id", "") == "row"]


def test_each_row_is_a_tests_name() -> None:
    told = [
        line.split(" | ")[0].removeprefix("| ") for line in Path(TESTS.parent / "README.md").read_text().splitlines()
    ]
    proved = [words for path in sorted(TESTS.rglob("test_*.py")) for words in rows_of(path)]
    assert len(proved) == len(set(proved))
    assert set(proved) <= set(told)
    assert len(proved) == len(table("what happens"))
