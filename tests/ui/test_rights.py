"""Who may see what: videos are as private as the XComs that tell of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.ui.conftest import Site
from tests.ui.people import PASSWORD
from tests.ui.seeding import order, succeeded

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
Get = Callable[..., requests.Response]
MEDIA = {"run_id": "one", "task_id": "submit", "map_index": 0, "key": "wiro_video_end", "item": 0, "file": 0}
ROUTES = ["api/videos", "media?dag_id=gallery&run_id=one&task_id=submit&key=wiro_video_end", "static/wiro.js", "watch"]


@pytest.fixture(scope="module")
def site(guarded: Site) -> Site:
    guarded.seeds.forget()  # the sums below are of all that is there
    for dag_id in ("gallery", "foreign"):
        run = guarded.seeds.run(dag_id, "one")
        run.mapped([order(1, f"Of {dag_id}")], [succeeded(1, f"{guarded.videos}/wide.mp4")])
    return guarded


@pytest.fixture(scope="module")
def get(site: Site) -> Get:
    """Ask as somebody."""
    tokens: dict[str, str] = {}

    def ask(path: str, who: str | None = None, **params: Any) -> requests.Response:
        headers = {}
        if who is not None:
            if who not in tokens:
                body = {"username": who, "password": PASSWORD}
                tokens[who] = requests.post(f"{site.url}/auth/token", json=body, timeout=30).json()["access_token"]
            headers = {"Authorization": f"Bearer {tokens[who]}"}
        url = f"{site.url}/wiro/{path}"
        return requests.get(url, params=params, headers=headers, timeout=30, allow_redirects=False)

    return ask


@pytest.mark.parametrize("path", [*ROUTES, "docs", "openapi.json", "nothing"])
def test_who_has_not_signed_in_gets_nothing(get: Get, path: str) -> None:
    answer = get(path)
    assert answer.status_code == (401 if path in ROUTES else 404)
    assert "Of gallery" not in answer.text


def test_a_wrong_token_gets_nothing(site: Site) -> None:
    headers = {"Authorization": "Bearer abc.def.ghi"}
    assert requests.get(f"{site.url}/wiro/api/videos", headers=headers, timeout=30).status_code in (401, 403)


def test_who_may_see_all_sees_all(get: Get) -> None:
    found = get("api/videos", "ada").json()
    assert {video["prompt"] for video in found["videos"]} == {"Of gallery", "Of foreign"}
    assert (found["total"], found["cost"]) == (2, "0.24")
    assert get("media", "ada", dag_id="foreign", **MEDIA).status_code == 200


def test_a_foreign_dag_is_in_no_list_and_no_sum(get: Get) -> None:
    for asked in ({}, {"dag_id": "~"}, {"dag_id": "{DAG_ID}"}, {"search": "foreign"}):
        found = get("api/videos", "bob", **asked)
        if found.status_code == 200:
            assert "foreign" not in found.text.replace('"search"', "")
            assert found.json()["total"] <= 1
        else:
            assert found.status_code == 403
    found = get("api/videos", "bob").json()
    assert ([video["prompt"] for video in found["videos"]], found["cost"]) == (["Of gallery"], "0.12")


def test_a_foreign_dag_cannot_be_asked_for(get: Get) -> None:
    assert get("api/videos", "bob", dag_id="foreign").status_code == 403
    assert get("media", "bob", dag_id="foreign", **MEDIA).status_code == 403
    assert get("media", "bob", dag_id="gallery", **MEDIA).status_code == 200
    both = get("media?dag_id=gallery&dag_id=foreign", "bob", **MEDIA)
    assert both.status_code in (403, 404)


def test_who_may_see_dags_and_no_xcoms_sees_no_videos(get: Get) -> None:
    found = get("api/videos", "eve").json()
    assert (found["videos"], found["total"], found["cost"], sum(found["counts"].values())) == ([], 0, "0.00", 0)
    assert get("api/videos", "eve", dag_id="gallery").status_code == 403
    assert get("media", "eve", dag_id="gallery", **MEDIA).status_code == 403


def test_a_dag_that_does_not_exist_tells_nothing(get: Get) -> None:
    assert get("api/videos", "ada", dag_id="no_such_dag").json()["total"] == 0


def test_the_button_leads_to_the_tab_wherever_airflow_is(get: Get, site: Site) -> None:
    answer = get("watch", "ada", dag_id="gallery", run_id="manual__1+00:00", task_id="group.submit", map_index=2)
    assert answer.status_code == 307
    target = requests.compat.urljoin(answer.url, answer.headers["Location"])  # type: ignore[attr-defined]
    place = "dags/gallery/runs/manual__1%2B00%3A00/tasks/group.submit/mapped/2/plugin/videos-ti"
    assert target == f"{site.url}/{place}"
