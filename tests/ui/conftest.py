"""A real api-server whose database the tests fill, and a real browser that looks at it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

import pytest
import requests
from playwright.sync_api import Browser

from airflow_provider_wiro.emulator.drawing import encode
from airflow_provider_wiro.emulator.studio import Order
from scripts.chromium import NoChromium
from scripts.chromium import chromium as running_chromium
from scripts.local_airflow import AIRFLOW, LocalAirflow
from tests.s3 import BUCKET, S3, running_s3
from tests.ui.people import PASSWORD, PEOPLE
from tests.ui.seeding import Seeds

DAGS = Path(__file__).with_name("dags")
ROOT = Path(__file__).parents[2]


class ApiServer(LocalAirflow):
    """Only the part that people look at."""

    components: ClassVar = {"api-server": ("api-server", "--apps", "core")}
    path = ""

    def _configure(self) -> None:
        super()._configure()
        self._env["AIRFLOW__API__BASE_URL"] = self.url + self.path

    def _migrate(self) -> None:
        super()._migrate()
        self.processes.run("reserialize", [*AIRFLOW, "dags", "reserialize"], env=self.environment, cwd=self.home)

    def _not_healthy(self) -> list[str]:
        try:
            self.api.health()
        except requests.RequestException:
            return ["api-server"]
        return []


@dataclass
class Site:
    """A running api-server, its database, and where its videos are."""

    server: ApiServer
    seeds: Seeds
    videos: Path

    @property
    def url(self) -> str:
        return self.server.url + self.server.path


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few real videos of several shapes."""
    folder = tmp_path_factory.mktemp("films")
    shapes = [("wide", 864, 480), ("square", 640, 640), ("tall", 480, 864)]
    for number, (name, width, height) in enumerate(shapes):
        order = Order(f"A {name} film that is drawn for the tests", number, width, height, 5, 24)
        (folder / f"{name}.mp4").write_bytes(encode(order))
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3."""
    with running_s3(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, films: Path, store: S3) -> Iterator[Site]:
    """An api-server that takes everybody as an admin."""
    home = tmp_path_factory.mktemp("site")
    env = {
        "AIRFLOW_CONN_STORE": store.connection(),
        "AIRFLOW_CONN_OTHER": store.connection(),
        "AIRFLOW_CONN_DOWN": store.connection(port=9),
        "AIRFLOW__WIRO__UI_MEDIA_ROOTS": f"{home / 'videos'}, s3://store@{BUCKET}/shown, s3://down@{BUCKET}/shown\nnonsense",
    }
    with running_site(home, films, env) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, films: Path) -> Iterator[Site]:
    """An api-server below a path, where people sign in and may not see everything."""
    home = tmp_path_factory.mktemp("guarded")
    (home / "passwords.json").write_text(json.dumps(dict.fromkeys(PEOPLE, PASSWORD)))
    env = {
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.ui.people.Doorkeeper",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:viewer" for name in PEOPLE),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "PYTHONPATH": str(ROOT),
    }
    with running_site(home, films, env, path="/airflow") as running:
        yield running


@contextmanager
def running_site(home: Path, films: Path, env: Mapping[str, str] | None = None, path: str = "") -> Iterator[Site]:
    """Run an api-server that knows the Dags of the tests and serves videos from one folder of its own.

    :param home: an empty folder.
    :param films: what is copied into the folder of videos.
    :param env: more of its environment.
    :param path: below which Airflow is, as behind a proxy.
    """
    dags, videos = home / "dags", home / "videos"
    shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(films, videos)
    roots = {"AIRFLOW__WIRO__UI_MEDIA_ROOTS": str(videos)}
    server = ApiServer(home, dags, {**roots, **(env or {})})
    server.path = path
    with server:
        seeds = Seeds(home / "airflow.db")
        try:
            yield Site(server, seeds, videos)
        finally:
            seeds.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium; for a module, as no test beside it could have an event loop."""
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(running_chromium())
        except NoChromium as error:
            _do_without(f"{error}: NOTHING OF THE PAGE IS TESTED")
        yield browser


def _do_without(why: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
