"""What becomes of files once they are stored: reused, deleted at Wiro, told to assets and lineage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.lineage import HookLineageCollector

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.exceptions import WiroConfigurationError
from airflow_provider_wiro.hooks.wiro import WiroHook
from airflow_provider_wiro.operators._depot import Depot
from airflow_provider_wiro.operators.seedance import SeedanceBatchOperator, SeedanceRunOperator
from airflow_provider_wiro.operators.wiro import WiroFetchOutputsOperator, WiroRunOperator
from tests.unit.instances import Instance, finish, runs

Make = Callable[..., SeedanceRunOperator]
VIDEOS = Asset("videos_of_tonight")


@pytest.fixture
def other(tmp_path: Path) -> Instance:
    """Another task instance."""
    (tmp_path / "other").mkdir()
    return Instance(tmp_path / "other", map_index=7)


def content(manifest: str) -> dict[str, Any]:
    return dict(json.loads(Path(manifest).read_text(encoding="utf-8")))


# Reuse


def test_an_equal_request_is_delivered_from_what_is_there(
    wiro: LocalWiro, make: Make, instance: Instance, other: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    first = finish(make, instance.start())
    calls = dict(wiro.ledger()["calls"])
    again = finish(lambda: make(reuse=True), other.start())

    assert wiro.ledger()["calls"] == calls, "nobody was asked for anything"
    assert len(runs(wiro)) == 1
    assert (again["reused_from"], again["total_cost"]) == (first["wiro_task_id"], "0")
    assert again["files"] == first["files"]
    assert again["manifest"] != first["manifest"]
    told = content(again["manifest"])
    assert (told["reused_from"], told["total_cost"]) == (first["wiro_task_id"], "0")
    assert "reused_from" not in content(first["manifest"])
    assert f"Not ordered: Wiro task {first['wiro_task_id']}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "Another"},
        {"ratio": "1:1"},
        {"duration": 10},
        {"seed": 7},
        {"model": "bytedance/seedance-v1-pro-fast"},
    ],
)
def test_another_request_is_ordered(
    wiro: LocalWiro, make: Make, instance: Instance, other: Instance, changes: dict[str, Any]
) -> None:
    finish(make, instance.start())
    done = finish(lambda: make(reuse=True, **changes), other.start())
    assert "reused_from" not in done
    assert len(runs(wiro)) == 2


def test_what_is_not_asked_for_is_not_reused(wiro: LocalWiro, make: Make, instance: Instance, other: Instance) -> None:
    finish(lambda: make(reuse=True), instance.start())
    finish(make, other.start())
    assert len(runs(wiro)) == 2


def test_another_folder_is_another_place(
    wiro: LocalWiro, make: Make, instance: Instance, other: Instance, tmp_path: Path
) -> None:
    finish(make, instance.start())
    finish(lambda: make(reuse=True, destination=str(tmp_path / "elsewhere")), other.start())
    assert len(runs(wiro)) == 2


@pytest.mark.parametrize(("verify", "orders"), [("container", 2), ("none", 1)])
def test_a_video_that_nobody_looked_into_only_answers_who_asks_for_no_look(
    wiro: LocalWiro, make: Make, instance: Instance, other: Instance, verify: str, orders: int
) -> None:
    finish(lambda: make(verify="none"), instance.start())
    finish(lambda: make(reuse=True, verify=verify), other.start())
    assert len(runs(wiro)) == orders


@pytest.mark.parametrize("what", ["the video", "the manifest", "the note"])
def test_files_that_are_gone_or_cut_are_not_reused(
    wiro: LocalWiro, make: Make, instance: Instance, other: Instance, what: str
) -> None:
    first = finish(make, instance.start())
    if what == "the video":
        Path(first["files"][0]["uri"]).write_bytes(b"half of it")
    elif what == "the manifest":
        Path(first["manifest"]).unlink()
    else:
        (note,) = (Path(first["manifest"]).parent / ".requests").iterdir()
        note.write_text("[1, 2")
    done = finish(lambda: make(reuse=True), other.start())
    assert "reused_from" not in done
    assert len(runs(wiro)) == 2


def test_an_order_that_runs_is_gone_on_with(wiro: LocalWiro, make: Make, instance: Instance, other: Instance) -> None:
    """A retry never leaves its own paid Run for somebody else's video."""
    operator = make(wait_for_completion=False, destination=None)
    ordered = operator.execute(other.start())
    first = finish(make, instance.start())
    done = finish(lambda: make(reuse=True), other.start())
    assert done["wiro_task_id"] == ordered["wiro_task_id"] != first["wiro_task_id"]
    assert "reused_from" not in done


def test_a_clear_that_asks_for_a_new_video_gets_one(
    wiro: LocalWiro, make: Make, instance: Instance, other: Instance
) -> None:
    finish(make, instance.start())
    other.start()
    other.clear()
    done = finish(lambda: make(reuse=True, on_clear="resubmit"), other.start())
    assert "reused_from" not in done
    assert len(runs(wiro)) == 2


def test_a_batch_orders_only_what_is_not_there(wiro: LocalWiro, make: Make, instance: Instance, tmp_path: Path) -> None:
    finish(make, instance.start())
    (tmp_path / "batch").mkdir()
    tonight = Instance(tmp_path / "batch")

    def batch() -> SeedanceBatchOperator:
        return SeedanceBatchOperator(
            task_id="video",
            videos=[{"prompt": "New"}, {"prompt": "Once only"}],
            destination=str(tmp_path / "videos"),
            poll_interval=0.05,
            settle=0.5,
            retries=3,
            reuse=True,
        )

    result = finish(batch, tonight.start())
    lines = [json.loads(line) for line in Path(result["manifest"]).read_text(encoding="utf-8").splitlines()]
    assert len(runs(wiro)) == 2
    assert [line["status"] for line in lines] == ["succeeded", "succeeded"]
    assert "reused_from" not in lines[0]
    assert lines[1]["reused_from"] == lines[1]["wiro_task_id"] == runs(wiro)[0]["taskid"]
    assert lines[1]["total_cost"] == "0"
    assert result["total_cost"] == lines[0]["total_cost"]
    again = finish(batch, tonight.start())
    assert (again["succeeded"], len(runs(wiro))) == (2, 2)


# Deleting at Wiro


@pytest.mark.parametrize("form", ["one task", "fetch"])
def test_the_files_at_wiro_are_deleted_when_ours_are_there(
    wiro: LocalWiro, make: Make, instance: Instance, other: Instance, tmp_path: Path, form: str
) -> None:
    if form == "one task":
        done = finish(lambda: make(delete_remote=True), instance.start())
    else:
        task = finish(lambda: make(destination=None), instance.start())
        fetch = WiroFetchOutputsOperator(
            task_id="fetch", task=task, destination=str(tmp_path / "videos"), delete_remote=True
        )
        done = fetch.execute(other.start())
    assert wiro.ledger()["calls"]["Task/InputOutputDelete"] == 1
    assert Path(done["files"][0]["uri"]).stat().st_size == done["files"][0]["size"]


def test_nothing_is_deleted_unless_asked_for(wiro: LocalWiro, make: Make, instance: Instance) -> None:
    finish(make, instance.start())
    assert "Task/InputOutputDelete" not in wiro.ledger()["calls"]


def test_nothing_is_deleted_of_what_is_not_stored(
    wiro: LocalWiro, make: Make, instance: Instance, other: Instance, tmp_path: Path
) -> None:
    task = finish(lambda: make(destination=None), instance.start())
    wiro.set_faults(["cdn:error"])
    fetch = WiroFetchOutputsOperator(
        task_id="fetch", task=task, destination=str(tmp_path / "videos"), delete_remote=True
    )
    with pytest.raises(Exception, match="does not give"):
        fetch.execute(other.start())
    assert "Task/InputOutputDelete" not in wiro.ledger()["calls"]


def test_nothing_is_deleted_where_the_manifest_cannot_be_read_back(
    wiro: LocalWiro, make: Make, instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = finish(lambda: make(destination=None), instance.start())
    Depot(str(tmp_path / "videos"), "container", True, WiroHook().log).delete(WiroHook(), done["wiro_task_id"])
    assert "nothing is deleted" in capsys.readouterr().out
    assert "Task/InputOutputDelete" not in wiro.ledger()["calls"]


def test_a_delete_that_fails_is_told_and_fails_nothing(
    wiro: LocalWiro, make: Make, instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = finish(make, instance.start())
    wiro.set_faults(["detail:redirect"])
    fetch = WiroFetchOutputsOperator(
        task_id="fetch", task=done["wiro_task_id"], destination=str(tmp_path / "videos"), delete_remote=True
    )
    assert fetch.execute(instance.start())["files"] == done["files"]
    assert f"The files of Wiro task {done['wiro_task_id']} stay at Wiro" in capsys.readouterr().out


# Assets and lineage


def test_the_event_of_an_asset_tells_what_was_made(make: Make, instance: Instance) -> None:
    events = OutletEventAccessors()
    operator = make(outlets=[VIDEOS], deferrable=False)
    done = operator.execute({**instance.start(), "outlet_events": events})
    assert events[VIDEOS].extra == {
        "videos": 1,
        "wiro_task_id": done["wiro_task_id"],
        "total_cost": done["total_cost"],
        "manifest": done["manifest"],
    }


def test_a_batch_has_one_event(instance: Instance, tmp_path: Path) -> None:
    events = OutletEventAccessors()
    operator = SeedanceBatchOperator(
        task_id="video",
        videos=[{"prompt": "a"}, {"prompt": "b"}],
        destination=str(tmp_path / "videos"),
        deferrable=False,
        poll_interval=0.05,
        outlets=[VIDEOS],
    )
    result = operator.execute({**instance.start(), "outlet_events": events})
    told = events[VIDEOS].extra
    assert (told["videos"], told["succeeded"], told["failed"]) == (2, 2, 0)
    assert (told["manifest"], told["total_cost"]) == (result["manifest"], result["total_cost"])


def test_an_asset_of_the_scheme_wiro() -> None:
    assert Asset("wiro://Videos/tonight/").uri == "wiro://videos/tonight"
    for wrong in ("wiro:///x", "wiro://me@videos", "wiro://videos:80/x", "wiro://videos?x=1"):
        with pytest.raises(ValueError, match="allowed: wiro://name"):
            Asset(wrong)
    made = HookLineageCollector().create_asset(scheme="wiro", asset_kwargs={"name": "videos"})
    assert made is not None
    assert made.uri == "wiro://videos"


def test_lineage_shows_where_a_file_came_from_and_went_to(
    make: Make, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow.sdk.lineage.get_hook_lineage_collector", lambda: collector)
    done = finish(make, instance.start())
    seen = collector.collected_assets
    assert [found.asset.uri for found in seen.inputs if "/cdn/" in found.asset.uri] == [done["outputs"][0]["url"]]
    assert f"file://{done['files'][0]['uri']}" in {found.asset.uri for found in seen.outputs}


def test_lineage_that_fails_loses_no_video(
    make: Make, instance: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no asset has such an address")

    monkeypatch.setattr(HookLineageCollector, "add_output_asset", refuse)
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow.sdk.lineage.get_hook_lineage_collector", lambda: collector)
    done = finish(make, instance.start())
    assert Path(done["files"][0]["uri"]).stat().st_size > 0
    assert "Lineage does not know" in capsys.readouterr().out


# Arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"destination": None, "reuse": True}, "reuse is True without a destination"),
        ({"destination": None, "delete_remote": True}, "delete_remote is True without a destination"),
        ({"verify": "frames"}, "verify is 'frames', allowed: 'container', 'none'"),
    ],
)
def test_arguments_that_do_not_go_together(make: Make, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(WiroConfigurationError, match=says):
        make(**arguments)


def test_files_that_are_sent_along_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(WiroConfigurationError, match="reuse is True with files"):
        WiroRunOperator(
            task_id="x",
            model="a/b",
            inputs={},
            files={"image": "/x.png"},
            destination=str(tmp_path),
            wait_for_completion=True,
            reuse=True,
        )
