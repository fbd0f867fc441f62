"""An order on its way to the local Wiro."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

pytest.register_assert_rewrite("tests.unit.submission.shelf", "tests.unit.submission.support")

from airflow_provider_wiro.submission.driver import Submission  # noqa: E402
from tests.unit.submission.shelf import Shelf  # noqa: E402

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import Lines

    Begin = Callable[..., Submission]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def begin(client: WiroClient, shelf: Shelf, lines: Lines) -> Begin:
    """Begin a try: with the record that the shelf has."""

    def start(with_client: WiroClient | None = None, **options: Any) -> Submission:
        submission = Submission(with_client or client, shelf, lines, **options)
        submission.load()
        return submission

    return start


@pytest.fixture
def wiro(wiro: LocalWiro) -> Iterator[LocalWiro]:
    """The local Wiro; limit and clock are right again afterwards."""
    yield wiro
    wiro.set_limit(None)
    wiro.set_clock_offset(0)
