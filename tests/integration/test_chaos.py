"""A short chaos run on a distributed Airflow: every video costs one Run, whatever dies. ``make chaos`` is longer."""

from __future__ import annotations

import pytest

from scripts import chaos
from scripts.chaos_plan import small

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    figures, _ = chaos.run(small(), tmp_path_factory.mktemp("chaos"))
    print(chaos.table(small(), figures))
    return figures


@pytest.mark.parametrize("name", sorted(small().all_limits))
def test_figure(figures: dict[str, float], name: str) -> None:
    assert name not in chaos.verdict(small(), figures), chaos.verdict(small(), figures)[name]
