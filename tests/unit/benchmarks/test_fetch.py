"""What the benchmark of fetching makes of its samples."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import fetch as bench

CASE = bench.Case("one file", 1, 1_000_000, 0.0, "curl")


def rows(ours: float, curl: float, memory: float = 20.0) -> list[bench.Row]:
    def sample(seconds: float) -> dict[str, float]:
        return {"seconds": seconds, "cpu": 1.0, "memory": memory}

    return bench.rows_of(CASE, {"ours": [sample(ours)] * 3, "curl": [sample(curl)] * 3})


def test_a_ratio_is_how_many_times_as_fast() -> None:
    own, other = rows(2.0, 8.0)
    assert (own.ratio, own.speed, other.ratio, other.memory) == (4.0, 0.5, 1.0, None)


@pytest.mark.parametrize(
    ("large", "many", "kept"),
    [
        ((1.0, 0.8, 63.9), (1.0, 5.0, 1.0), [True, True, True]),
        ((1.0, 0.79, 63.9), (1.0, 5.0, 1.0), [False, True, True]),
        ((1.0, 0.8, 64.0), (1.0, 5.0, 1.0), [True, False, True]),
        ((1.0, 0.8, 1.0), (1.0, 5.0, 64.0), [True, False, True]),
        ((1.0, 0.8, 1.0), (1.0, 4.9, 1.0), [True, True, False]),
    ],
)
def test_promises(large: tuple[float, float, float], many: tuple[float, float, float], kept: list[bool]) -> None:
    assert [found for found, _ in bench.checks(rows(*large)[0], rows(*many)[0])] == kept


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if sys.platform != "linux" or bench.shutil.which("curl") is None:
        pytest.skip("Linux and curl are needed")
    file = tmp_path / "fetch.json"
    sizes = ["--rounds", "1", "--large", "1", "--files", "3", "--small", "1", "--latency", "0"]
    monkeypatch.setattr(sys, "argv", ["fetch", *sizes, "--folder", str(tmp_path), "--json", str(file)])
    assert bench.main() == 0
    assert [row["way"] for row in json.loads(file.read_text())["rows"]] == ["ours", "curl", "ours", "one-by-one"]
    assert "| one file: 1 × 1 MB, latency 0 ms | ours |" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["fetch.json"]


def test_files_that_are_not_whole_are_no_sample(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    bench.make_file(source / "1000000", 999_999)
    with bench.serving(source, 0.0) as url, pytest.raises(ValueError, match="1 files of 999999 bytes"):
        bench.take_sample(CASE, "curl", url, tmp_path)
