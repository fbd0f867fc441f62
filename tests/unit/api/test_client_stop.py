from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_wiro.api.tasks import Outcome
from airflow_provider_wiro.exceptions import WiroAPIError, WiroNotFoundError
from tests.unit.api.support import GOOD, HANGING, QUEUED, calls, one_task, toy

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.conftest import MakeClient, Scripting, Until


# One attempt


def test_cancel_a_queued_task(client: WiroClient, wiro: LocalWiro) -> None:
    wiro_task_id = toy(client, QUEUED)
    client.cancel(wiro_task_id)

    assert client.get_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 1, "killed": 0}


def test_kill_a_running_task(client: WiroClient, wiro: LocalWiro, until: Until) -> None:
    wiro_task_id = toy(client, HANGING)
    until(wiro_task_id, lambda task: task.status == "task_output")
    client.kill(wiro_task_id)

    assert client.get_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 1}


def test_a_task_in_the_wrong_state_cannot_be_stopped(client: WiroClient, wiro: LocalWiro, until: Until) -> None:
    queued, ended = toy(client, QUEUED), toy(client)
    until(ended)
    for stop, wiro_task_id in ((client.kill, queued), (client.kill, ended), (client.cancel, ended)):
        with pytest.raises(WiroAPIError) as caught:
            stop(wiro_task_id)
        assert type(caught.value) is WiroAPIError
        assert not caught.value.retryable
    # A refusal is an answer: it is not asked again.
    assert (calls(wiro)["Task/Kill"], calls(wiro)["Task/Cancel"]) == (2, 1)


# Until it has stopped


def test_stopping_a_queued_task(client: WiroClient, wiro: LocalWiro) -> None:
    wiro_task_id = toy(client, QUEUED)

    assert client.stop_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 1, "killed": 0}


@pytest.mark.parametrize("prompt", [HANGING, "[wiro:slow=9999] runs for a while"])
def test_stopping_a_running_task(wiro: LocalWiro, client: WiroClient, until: Until, prompt: str) -> None:
    wiro_task_id = toy(client, prompt)
    until(wiro_task_id, lambda task: task.status not in ("task_queue", "task_accept", "task_assign"))

    assert client.stop_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 0, "killed": 1}


@pytest.mark.parametrize(
    ("prompt", "outcome"),
    [
        ("hello", Outcome.SUCCEEDED),
        ("[wiro:fail] x", Outcome.FAILED),
        ("[wiro:error] x", Outcome.FAILED),
        ("[wiro:cancel] x", Outcome.CANCELLED),
    ],
)
def test_stopping_a_task_that_has_ended(
    client: WiroClient, wiro: LocalWiro, until: Until, prompt: str, outcome: Outcome
) -> None:
    wiro_task_id = toy(client, prompt)
    until(wiro_task_id)

    assert client.stop_task(wiro_task_id).outcome is outcome
    assert not {"Task/Cancel", "Task/Kill"} & set(calls(wiro))


def test_stopping_a_task_that_does_not_exist(client: WiroClient) -> None:
    with pytest.raises(WiroNotFoundError):
        client.stop_task("1")


NOT_NOW = {"result": False, "errors": [{"code": 1, "message": "Task is not in a cancellable state."}]}


def test_stopping_a_task_that_moves_on_meanwhile(scripted: Scripting, make_client: MakeClient) -> None:
    server = scripted(one_task("task_queue"), NOT_NOW, GOOD, one_task("task_cancel"))

    assert make_client(server.url).stop_task("5").outcome is Outcome.CANCELLED
    assert [asked.path for asked in server.asked] == ["/Task/Detail", "/Task/Cancel", "/Task/Kill", "/Task/Detail"]


def test_stopping_a_task_that_ends_by_itself_meanwhile(
    scripted: Scripting, make_client: MakeClient, naps: list[float]
) -> None:
    server = scripted(one_task("task_output"), NOT_NOW, NOT_NOW, one_task("task_postprocess_end", pexit="0"))

    assert make_client(server.url).stop_task("5").outcome is Outcome.SUCCEEDED
    assert [asked.path for asked in server.asked][1:3] == ["/Task/Kill", "/Task/Cancel"]
    assert sum(naps) < 2


def test_a_task_that_does_not_stop_is_returned_as_it_is(scripted: Scripting, make_client: MakeClient) -> None:
    server = scripted(*[one_task("task_output"), GOOD] * 10)
    task = make_client(server.url).stop_task("5")

    assert task.outcome is Outcome.RUNNING
    assert [asked.path for asked in server.asked].count("/Task/Kill") == 3


@pytest.mark.parametrize("attempts", [1, 5])
@pytest.mark.parametrize("kind", ["truncated", "slow:seconds=0.6", "reset", "error", "html", "rate_limit:seconds=0"])
def test_a_stop_whose_answer_is_lost(
    wiro: LocalWiro, make_client: MakeClient, client: WiroClient, kind: str, attempts: int
) -> None:
    """The next look tells whether it has stopped; and there are three rounds."""
    wiro_task_id = toy(client, QUEUED)
    wiro.set_faults([f"cancel:{kind}:times=1"])
    stopping = make_client(wiro.base_url, attempts=attempts, read_timeout=0.3)

    assert stopping.stop_task(wiro_task_id).outcome is Outcome.CANCELLED
    assert wiro.ledger()["stops"] == {"cancelled": 1, "killed": 0}
