"""The list that the page asks for: quick among many XComs, and steady whatever an XCom says."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest
import requests

from tests.ui.conftest import Site
from tests.ui.seeding import Run, order, succeeded

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
VIDEOS, XCOMS = 2000, 50_000
QUICK = 0.3  # seconds
# What any process that may write XComs can write.
NONSENSE: list[Any] = [
    None,
    7,
    "text",
    '"more text"',
    [],
    [1, 2],
    {},
    {"status": 7, "wiro_task_id": ["x"], "inputs": "prompt", "files": "all", "outputs": {"url": 1}},
    {"status": "succeeded", "files": [None, 3, {"uri": {"path": "/"}, "size": "NaN", "content_type": []}]},
    {"status": "nonsense", "total_cost": "1e999999999", "elapsed_seconds": "inf", "ordered_at": 10**400},
    {"url": "javascript:alert(1)", "outputs": [{"url": "data:text/html,x"}], "error": {"a": 1}},
    {"inputs": {"prompt": "x" * 500_000, "seed": {"deep": [1]}}, "error": "e" * 50_000, "model": "m" * 9000},
    {"inputs": {"prompt": "a\0b\ud800"}, "total_cost": -5, "index": "first", "reused_from": True},
    {"files": [{"uri": f"/{number}", "video": [1]} for number in range(500)]},
]


@pytest.fixture(scope="module")
def session(site: Site) -> requests.Session:
    session = requests.Session()
    token = session.get(f"{site.url}/auth/token", timeout=30).json()["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    return session


def list_of(site: Site, session: requests.Session, **asked: Any) -> dict[str, Any]:
    answer = session.get(f"{site.url}/wiro/api/videos", params=asked, timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture(scope="module")
def night(site: Site) -> Run:
    """A few videos of the three-task form."""
    run = site.seeds.run("gallery", "three tasks")
    count = 5
    run.instances("submit", ["success"] * count)
    run.instances("fetch", ["success"] * 3 + ["failed", "upstream_failed"])
    run.xcoms("submit", "wiro_video", {i: order(i, f"Prompt {i}", ratio="1:1") for i in range(count)})
    ends = {i: succeeded(i, f"{site.videos}/square.mp4") for i in range(3)}
    run.xcoms("fetch", "wiro_video_end", ends, after=60)
    run.xcoms("fetch", "wiro_video_end", {3: {"status": "failed", "wiro_task_id": "90000003", "error": "no disk"}})
    return run


def test_what_several_tasks_tell_of_a_video_is_one_card(site: Site, session: requests.Session, night: Run) -> None:
    found = list_of(site, session, dag_id="gallery", run_id="three tasks")
    assert (found["total"], found["matching"], found["truncated"]) == (5, 5, False)
    assert found["counts"] == {"queued": 0, "running": 1, "succeeded": 3, "failed": 1, "cancelled": 0}
    assert (found["cost"], found["footage_seconds"]) == ("0.36", 15.1)
    assert found["typical_seconds"] == {"ByteDance/text-to-video-seedance-v1": 41.5}
    first = found["videos"][0]
    assert (first["prompt"], first["ordered"]["ratio"], first["cost"], first["seconds"]) == (
        "Prompt 0",
        "1:1",
        "0.12",
        41.5,
    )
    assert first["ti"] == {"dag_id": "gallery", "run_id": "three tasks", "task_id": "submit", "map_index": 0}
    assert "task_id=fetch" in first["files"][0]["media"]
    assert session.get(f"{site.url}/{first['files'][0]['media']}", timeout=30).status_code == 200
    assert (found["videos"][3]["status"], found["videos"][3]["error"]) == ("failed", "no disk")


def test_every_task_that_had_a_part_in_a_video_shows_it(site: Site, session: requests.Session, night: Run) -> None:
    scope = {"dag_id": "gallery", "run_id": "three tasks"}
    for task_id in ("submit", "fetch"):
        (video,) = list_of(site, session, **scope, task_id=task_id, map_index=1)["videos"]
        assert video["prompt"] == "Prompt 1"
    assert list_of(site, session, **scope, task_id="batch", map_index="{MAP_INDEX}")["videos"] == []
    assert list_of(site, session, **scope, task_id="fetch")["total"] == 4


def test_find_filter_and_page(site: Site, session: requests.Session, night: Run) -> None:
    scope = {"dag_id": "gallery", "run_id": "three tasks"}
    assert [v["prompt"] for v in list_of(site, session, **scope, search="prompt 2")["videos"]] == ["Prompt 2"]
    found = list_of(site, session, **scope, state="succeeded", offset=2, limit=2)
    assert ([v["prompt"] for v in found["videos"]], found["matching"], found["total"]) == (["Prompt 2"], 3, 5)
    answer = session.get(f"{site.url}/wiro/api/videos", params={"limit": 100000}, timeout=30)
    assert answer.status_code == 422
    answer = session.get(f"{site.url}/wiro/api/videos", params={"map_index": "one"}, timeout=30)
    assert (answer.status_code, "allowed: a whole number" in answer.text) == (422, True)


def test_nonsense_breaks_nothing(site: Site, session: requests.Session) -> None:
    run = site.seeds.run("foreign", "nonsense")
    run.instances("submit", ["success"] * len(NONSENSE))
    for key in ("wiro_video", "wiro_video_end", "wiro_video_preview", "wiro_videos_0", "wiro_videos_x", "wiro_videoa"):
        run.xcoms("submit", key, dict(enumerate(NONSENSE)))
    run.instances("batch", ["success"], mapped=False)
    run.xcoms("batch", "wiro_videos_1", {-1: NONSENSE})
    answer = session.get(f"{site.url}/wiro/api/videos", params={"dag_id": "foreign", "limit": 200}, timeout=30)
    assert answer.status_code == 200
    assert "javascript:" not in answer.text
    assert len(answer.content) < 500_000
    for video in answer.json()["videos"]:
        assert video["status"] in ("queued", "running", "succeeded", "failed", "cancelled")
        assert len(video["prompt"]) <= 5000
        assert all(file["media"] is None for file in video["files"])


def test_a_picture_is_shown_only_where_it_is_served(site: Site, session: requests.Session) -> None:
    run = site.seeds.run("foreign", "previews")
    run.instances("submit", ["success"] * 3)
    run.instances("preview", ["success"] * 3)
    run.xcoms("submit", "wiro_video_end", {i: succeeded(i, "/nowhere/a.mp4") for i in range(3)})
    kinds = ["image/webp", "image/webp", "text/html"]
    uris = [f"{site.videos}/a.webp", "/nowhere/a.webp", f"{site.videos}/a.html"]
    files = [[{"uri": uri, "content_type": kind}] for uri, kind in zip(uris, kinds, strict=True)]
    ids = [succeeded(i, "")["wiro_task_id"] for i in range(3)]
    run.xcoms("preview", "wiro_video_preview", {i: {"wiro_task_id": ids[i], "files": files[i]} for i in range(3)})
    scope = {"dag_id": "foreign", "run_id": "previews"}
    posters = [video["poster"] for video in list_of(site, session, **scope)["videos"]]
    assert posters[0].startswith("wiro/media?")
    assert "item" not in posters[0]
    assert posters[1:] == [None, None]
    assert list_of(site, session, **scope, task_id="preview")["total"] == 3
    assert list_of(site, session, **scope, map_index=1)["total"] == 1


def test_more_than_can_be_read_is_told(site: Site, session: requests.Session) -> None:
    run = site.seeds.run("foreign", "endless")
    run.instances("batch", ["success"], mapped=False)
    for number in range(3):
        many = [{"status": "running", "index": number * 4000 + index} for index in range(4000)]
        run.xcoms("batch", f"wiro_videos_{number}", {-1: many})
    found = list_of(site, session, dag_id="foreign", run_id="endless")
    assert (found["truncated"], found["total"]) == (True, 8000)
    run.xcoms("batch", "wiro_videos_0", {-1: [{"status": "running", "model": "m" * (9 << 20)}]})
    assert list_of(site, session, dag_id="foreign", run_id="endless")["total"] == 8000


def test_a_text_in_a_text_is_read(site: Site, session: requests.Session) -> None:
    """As what is pushed over Airflow's REST API lies in the database."""
    run = site.seeds.run("foreign", "text")
    run.instances("submit", ["success"])
    run.xcoms("submit", "wiro_video", {0: json.dumps(order(0, "Twice encoded"))})
    [video] = list_of(site, session, dag_id="foreign", run_id="text")["videos"]
    assert video["prompt"] == "Twice encoded"


def test_thousands_of_videos_among_many_xcoms_are_listed_quickly(site: Site, session: requests.Session) -> None:
    other = site.seeds.run("large", "others")
    other.instances("submit", ["success"] * 1000)
    ends = [succeeded(number, f"{site.videos}/wide.mp4") for number in range(VIDEOS)]
    orders = [order(number, f"A prompt as people write them, number {number}. " * 5) for number in range(VIDEOS)]
    mapped = site.seeds.run("large", "mapped")
    mapped.mapped(orders, ends)
    site.seeds.run("large", "batch").batch(orders, ends)
    mapped.xcoms("submit", "return_value", {i: end for i, end in enumerate(ends)})
    for number in range(XCOMS // 1000):
        other.xcoms("submit", f"value_{number}", dict.fromkeys(range(1000), {"rows": list(range(20))}))
    for run_id in ("mapped", "batch"):
        took = []
        for _ in range(5):
            answer = session.get(
                f"{site.url}/wiro/api/videos", params={"dag_id": "large", "run_id": run_id}, timeout=30
            )
            assert (answer.json()["total"], answer.json()["cost"]) == (VIDEOS, "240.00")
            took.append(answer.elapsed.total_seconds())
        print(f"{run_id}: {statistics.median(took):.3f} s")
        assert statistics.median(took) < QUICK, took
