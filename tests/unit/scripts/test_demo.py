from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.demo import Progress, count, printed_connection, videos_folder


def test_progress_is_counted_video_by_video() -> None:
    states = {
        "submit": ["success", "success", "success", "failed", "running"],
        "wait": ["success", "deferred", "success", "upstream_failed", None],
        "fetch": ["success", None, "failed", "upstream_failed", None],
    }
    instances = [
        {"task_id": task, "map_index": index, "state": state}
        for task, row in states.items()
        for index, state in enumerate(row)
    ]
    instances.append({"task_id": "read_prompts", "map_index": -1, "state": "success"})
    instances.append({"task_id": "summary", "map_index": -1, "state": None})

    assert count(instances) == Progress(videos=5, submitted=3, waiting=1, done=1, failed=2)
    assert str(count(instances)) == "5 videos: 3 submitted, 1 waiting, 1 done, 2 failed"


def test_before_the_mapping_is_known_there_are_no_videos() -> None:
    assert count([{"task_id": "submit", "map_index": -1, "state": None}]).videos == 0


def test_the_connection_is_found_in_what_the_local_wiro_prints() -> None:
    connection = {"conn_type": "wiro", "host": "http://127.0.0.1:1/v1", "extra": {"api_secret": "s"}}
    line = f"export AIRFLOW_CONN_WIRO_DEFAULT='{json.dumps(connection)}'"
    printed = printed_connection(f"The local Wiro is up\n\n{line}\n\nLedger: …\n")
    assert json.loads(printed) == connection


def test_no_connection_is_found_while_it_is_not_printed() -> None:
    assert printed_connection("The local Wiro is up\n") == ""


@pytest.mark.parametrize(
    ("wanted", "folder"),
    [
        ("", str(Path.cwd() / "videos")),
        ("out/night", str(Path.cwd() / "out" / "night")),
        ("/srv/videos", "/srv/videos"),
        ("s3://conn@bucket/videos", "s3://conn@bucket/videos"),
    ],
)
def test_the_folder_means_the_same_in_every_process(wanted: str, folder: str) -> None:
    assert videos_folder(wanted) == folder
