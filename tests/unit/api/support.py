"""What the tests of the client share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_wiro.exceptions import WiroError

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro

TOY = "local/echo-text"  # a model without files: nothing has to be drawn
QUEUED = "[wiro:slow=999999] in the queue for half a minute"
HANGING = "[wiro:hang][wiro:slow=10] never ends"
GOOD = {"result": True, "errors": []}
NO_TASKS = {**GOOD, "tasklist": [], "total": "0"}


def toy(client: WiroClient, prompt: str = "hello") -> str:
    return client.run(TOY, {"prompt": prompt}).wiro_task_id


def calls(wiro: LocalWiro) -> dict[str, int]:
    return dict(wiro.ledger()["calls"])


def runs(wiro: LocalWiro) -> list[dict[str, Any]]:
    return list(wiro.ledger()["runs"])


def one_task(status: str, **fields: Any) -> dict[str, Any]:
    return {**GOOD, "tasklist": [{"id": "5", "status": status, **fields}], "total": "1"}


def run_and_read(client: WiroClient) -> list[WiroError]:
    """Return the errors of a Run and of a read."""
    errors = []
    for call in (lambda: toy(client), lambda: client.list_tasks()):
        with pytest.raises(WiroError) as caught:
            call()
        errors.append(caught.value)
    return errors
