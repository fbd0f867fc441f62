"""Many videos in one task: each ordered once, a window as wide as the account, partial failure as a policy."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroBatchError, WiroConfigurationError, WiroInputError, WiroSupersededError
from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator, SeedanceRunOperator
from airflow_provider_wiro.submission import driver, shelf
from airflow_provider_wiro.triggers.batch import WiroBatchTrigger
from tests.readme import row
from tests.unit.instances import Instance, billed, finish, runs

Make = Callable[..., SeedanceBatchOperator]


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Video {number}"} for number in range(count)]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(**arguments: Any) -> SeedanceBatchOperator:
        defaults = {
            "task_id": "video",
            "videos": prompts(3),
            "poll_interval": 0.05,
            "settle": 0.5,
            "retries": 3,
            "destination": str(tmp_path / "videos"),
        }
        return SeedanceBatchOperator(**{**defaults, **arguments})

    return make


def manifest(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(result["manifest"].removeprefix("file://")).read_text().splitlines()]


def test_every_video_is_made_once_and_has_a_line(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    result = finish(make, instance.start())
    lines = manifest(result)
    assert (result["videos"], result["succeeded"], result["failed"], result["failures"]) == (3, 3, 0, [])
    assert [line["inputs"]["prompt"] for line in lines] == ["Video 0", "Video 1", "Video 2"]
    assert [line["wiro_task_id"] for line in lines] == sorted(
        billed(wiro), key=[x["wiro_task_id"] for x in lines].index
    )
    assert len({line["inputs"]["seed"] for line in lines}) == 3
    for line in lines:
        (file,) = line["files"]
        assert Path(file["uri"].removeprefix("file://")).stat().st_size == file["size"] > 0
    assert float(result["total_cost"]) == pytest.approx(sum(float(line["total_cost"]) for line in lines))


def test_more_than_one_value_of_the_store_holds(
    wiro: LocalWiro, make: Make, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "PER_VALUE", 5)
    count = 13
    result = finish(lambda: make(videos=prompts(count)), instance.start())
    assert (result["succeeded"], len(runs(wiro)), len(billed(wiro))) == (count, count, count)
    values = json.loads((instance.folder / "state-1.json").read_text())["values"]
    assert sorted(values) == ["wiro_0", "wiro_1", "wiro_2"]
    assert "Video" not in json.dumps(values), "a record holds no prompt"


def test_twins_are_two_orders(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    result = finish(lambda: make(videos=[{"prompt": "The same"}] * 3), instance.start())
    assert len({line["wiro_task_id"] for line in manifest(result)}) == 3
    assert len(billed(wiro)) == 3


def test_the_account_s_limit_is_the_window(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    wiro.set_limit(2)
    try:
        result = finish(lambda: make(videos=prompts(9)), instance.start())
    finally:
        wiro.set_limit(None)
    assert (result["succeeded"], len(billed(wiro)), instance.try_number) == (9, 9, 1)


@row("some videos of a batch fail")
def test_a_video_that_fails_is_named_and_a_retry_makes_only_that(
    row: str, wiro: LocalWiro, make: Make, instance: Instance
) -> None:
    videos = [*prompts(4), {"prompt": "Bad luck [wiro:fail]"}]
    with pytest.raises(WiroBatchError, match=r"1 of 5 videos failed, .*video 4: WiroTaskFailedError") as raised:
        finish(lambda: make(videos=videos), instance.start())
    assert raised.value.retryable
    assert instance.xcoms["batch"]["succeeded"] == 4
    made = billed(wiro)
    assert len(made) == 4
    lines = manifest(instance.xcoms["batch"])
    assert [line["status"] for line in lines] == ["succeeded"] * 4 + ["failed"]
    with pytest.raises(WiroBatchError):
        finish(lambda: make(videos=videos), instance.start())
    assert (billed(wiro), len(runs(wiro))) == (made, 6)


def test_enough_is_enough(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    videos = [*prompts(3), {"prompt": "Bad luck [wiro:fail]"}]
    result = finish(lambda: make(videos=videos, min_success_ratio=0.75), instance.start())
    assert (result["succeeded"], result["failed"]) == (3, 1)
    assert [failure["index"] for failure in result["failures"]] == [3]


def test_a_late_video_is_stopped_and_the_others_are_delivered(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    videos = [*prompts(2), {"prompt": "For ever [wiro:hang]"}]
    result = finish(lambda: make(videos=videos, timeout=2, min_success_ratio=0.5), instance.start())
    assert "did not end within 2 s and was stopped" in result["failures"][0]["error"]
    assert wiro.ledger()["stops"] != {"cancelled": 0, "killed": 0}


def test_a_process_that_dies_anywhere_loses_nothing_and_pays_nothing_twice(
    wiro: LocalWiro, make: Make, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die at every write of the first try, a bit later each time."""

    monkeypatch.setattr(driver, "FENCE", 1.0)
    monkeypatch.setattr(driver, "POST", 1.0)

    class Death(BaseException):
        """kill -9"""

    for writes in range(1, 12):
        context, left = instance.start(), [writes]

        def die(value: dict[str, Any], left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Death

        context["task_state_store"].after_set = die
        try:
            finish(lambda: make(videos=prompts(6)), context)
            break
        except Death:
            pass
    result = finish(lambda: make(videos=prompts(6)), instance.start())
    assert (result["succeeded"], len(billed(wiro)), len(runs(wiro))) == (6, 6, 6)


def test_runs_whose_outcome_is_lost_are_found(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    wiro.set_faults(["run:error_after:rate=0.3", "run:reset_after:rate=0.3"])
    result = finish(lambda: make(videos=prompts(20)), instance.start())
    assert (result["succeeded"], len(billed(wiro)), len(runs(wiro))) == (20, 20, 20)


def test_a_superseded_try_orders_nothing(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    old = instance.start()
    instance.start()
    with pytest.raises(WiroSupersededError):
        make().execute(old)
    assert runs(wiro) == []


def test_a_clear_delivers_again_or_orders_anew(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    first = finish(make, instance.start())
    instance.clear()
    assert finish(make, instance.start()) == first
    assert len(runs(wiro)) == 3
    instance.clear()
    finish(lambda: make(on_clear="resubmit"), instance.start())
    assert len(billed(wiro)) == 6


def test_other_videos_than_before_are_refused_without_a_clear(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    with pytest.raises(TaskDeferred):
        make().execute(instance.start())
    with pytest.raises(AirflowFailException, match="3 orders of an earlier try are not in `videos` any more"):
        make(videos=[{"prompt": "It is 12:00"}]).execute(instance.start())
    assert len(runs(wiro)) == 3
    more = [*reversed(prompts(3)), {"prompt": "One more"}]
    assert finish(lambda: make(videos=more), instance.start())["succeeded"] == 4
    assert len(billed(wiro)) == 4


def test_its_log_tells_which_task_each_video_is(
    wiro: LocalWiro, make: Make, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = manifest(finish(make, instance.start()))
    log = capsys.readouterr().out
    for line in lines:
        url = f"{wiro.url}/tasks/{line['wiro_task_id']}"
        assert f"Video {line['index']}: Wiro task {line['wiro_task_id']} has the order: {url}" in log
    assert "3 of 3 videos run, 0 wait for a place." in log
    assert log.count("Wiro tasks have ended.") <= 3
    assert "3 of 3 Wiro tasks have ended." in log


def test_its_log_folds_what_is_about_single_videos_and_no_failure(
    wiro: LocalWiro, make: Make, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(lambda: make(videos=[*prompts(2), {"prompt": "[wiro:fail]"}], min_success_ratio=0.5), instance.start())
    folded, seen = False, []
    for line in capsys.readouterr().out.splitlines():
        folded = "::group::" in line or (folded and "::endgroup::" not in line)
        if not folded and "::endgroup::" not in line:
            seen.append(line)
    assert not folded
    assert [line for line in seen if "Video " in line] == []
    (told,) = (line for line in seen if "Failed: " in line)
    assert "Failed: videos[2]. The lines folded above tell why." in told


def test_its_trigger_holds_ids_and_numbers_only(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    with pytest.raises(TaskDeferred) as raised:
        make().execute(instance.start())
    trigger = raised.value.trigger
    assert isinstance(trigger, WiroBatchTrigger)
    path, arguments = trigger.serialize()
    assert sorted(arguments["ids"]) == sorted(run["taskid"] for run in runs(wiro))
    assert WiroBatchTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)
    assert "Video" not in json.dumps(arguments)


def test_a_worker_waits_where_it_was_told_to(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    wiro.set_limit(2)
    try:
        result = finish(lambda: make(deferrable=False, videos=prompts(5)), instance.start())
    finally:
        wiro.set_limit(None)
    assert result["succeeded"] == 5


def test_who_is_ended_while_ordering_sends_nothing_more(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    operator = make(videos=[{"prompt": f"For ever {number} [wiro:hang]"} for number in range(40)])
    context = instance.start()
    sent = threading.Event()

    def kill(value: dict[str, Any]) -> None:
        if any(order["record"]["phase"] == "receipt" for order in value["orders"].values()) and not sent.is_set():
            sent.set()
            instance.state = "failed"
            operator.on_kill()

    context["task_state_store"].after_set = kill
    with pytest.raises(AirflowFailException, match="nothing more was sent"):
        operator.execute(context)
    assert 0 < len(runs(wiro)) < 40
    assert {run["status"] for run in runs(wiro)} == {"task_cancel"}


def test_no_video_is_no_failure(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    result = finish(lambda: make(videos=[]), instance.start())
    assert (result["videos"], manifest(result)) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"videos": "prompts.csv"}, "videos is str, allowed: a list of mappings"),
        ({"videos": ["a kite"]}, r"videos\[0\] is 'a kite', allowed: a mapping"),
        ({"videos": [{"prompt": "x"}, {"prompt": "y", "duration": 7}]}, r"videos\[1\]: duration is 7, allowed"),
        ({"videos": [{"prompt": "x", "colour": "red"}]}, r"videos\[0\]: .*colour"),
        ({"videos": [{}]}, r"videos\[0\]: prompt is"),
        ({"min_success_ratio": 1.5}, "min_success_ratio is 1.5, allowed: a number from 0 to 1"),
        ({"min_success_ratio": True}, "min_success_ratio is True"),
        ({"destination": ""}, "destination is ''"),
        ({"max_poll_interval": 0}, "max_poll_interval is 0"),
        ({"on_unknown": "hope"}, "on_unknown is 'hope'"),
    ],
)
def test_what_is_not_allowed_is_said_when_the_dag_is_parsed(make: Make, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises((WiroConfigurationError, WiroInputError), match=says):
        make(**arguments)


def test_its_defaults_are_those_of_the_run_operator(wiro: LocalWiro, make: Make) -> None:
    single = SeedanceRunOperator(task_id="single", prompt="Alike").wire_inputs()
    assert make(videos=[{"prompt": "Alike"}]).wire_videos() == [("ByteDance/text-to-video-seedance-v1", single)]
