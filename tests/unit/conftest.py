"""One local Wiro for all unit tests, and a tiny server for answers that it cannot give."""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_wiro.api.client import WiroClient
    from airflow_provider_wiro.api.tasks import WiroTask
    from airflow_provider_wiro.emulator.local import LocalWiro
    from tests.unit.fetching import Fetching

    Until = Callable[..., WiroTask]
    Scripting = Callable[..., "Scripted"]
    MakeClient = Callable[..., WiroClient]

# Airflow writes its configuration file where it is imported first: not into somebody's home.
if "AIRFLOW_HOME" not in os.environ:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")

# What they find wrong is told as fully as in a test.
pytest.register_assert_rewrite("tests.unit.fetching", "tests.unit.api.family", "tests.unit.api.support")

PATIENCE = 20.0


@pytest.fixture(scope="session")
def running_wiro() -> Iterator[LocalWiro]:
    """The server of the whole session; tests take `wiro`."""
    from airflow_provider_wiro.emulator.local import LocalWiro

    with LocalWiro(speed=1000) as server:
        yield server


@pytest.fixture
def wiro(running_wiro: LocalWiro) -> LocalWiro:
    """A local Wiro without tasks, ledger and faults, a thousand times faster than the real one."""
    running_wiro.reset()
    running_wiro.set_balance(500)
    return running_wiro


@pytest.fixture
def naps() -> list[float]:
    """The seconds that `client` would have slept between attempts."""
    return []


@pytest.fixture
def make_client(naps: list[float]) -> Iterator[MakeClient]:
    """Make clients that only note how long they would sleep."""
    from airflow_provider_wiro.api.auth import WiroAuth
    from airflow_provider_wiro.api.client import WiroClient

    clients: list[WiroClient] = []

    def make(
        base_url: str, api_key: str = "local-key", api_secret: str | None = "local-secret", **options: Any
    ) -> WiroClient:
        made = WiroClient(WiroAuth(api_key, api_secret), base_url, **{"sleep": naps.append, **options})
        clients.append(made)
        return made

    yield make
    for one in clients:
        one.close()


@pytest.fixture
def client(wiro: LocalWiro, make_client: MakeClient) -> WiroClient:
    """A client of `wiro` that does not really sleep."""
    return make_client(wiro.base_url)


@pytest.fixture
def until(client: WiroClient) -> Until:
    """Return a function that reads a task until it is as wanted; by default until it has ended."""

    def read(wiro_task_id: str, wanted: Callable[[WiroTask], bool] = lambda task: task.outcome.is_terminal) -> WiroTask:
        deadline = time.monotonic() + PATIENCE
        while not wanted(task := client.get_task(wiro_task_id)):
            assert time.monotonic() < deadline, f"still {task.status}"
            time.sleep(0.01)
        return task

    return read


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def info(self, event: str, *args: Any) -> None:
        self.all.append(("info", event % args))

    def warning(self, event: str, *args: Any) -> None:
        self.all.append(("warning", event % args))

    def error(self, event: str, *args: Any) -> None:
        self.all.append(("error", event % args))

    def of(self, level: str) -> list[str]:
        """Return the lines of one level."""
        return [line for found, line in self.all if found == level]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def no_sleep_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetch again at once what could not be fetched."""
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def fetch(lines: Lines, no_sleep_between_attempts: None) -> Fetching:
    """Return a function that fetches like the operator does."""
    from tests.unit import fetching

    return fetching.Fetching(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place to fetch to, in a folder where nothing else may appear."""
    return tmp_path / "videos" / "tonight"


@pytest.fixture
def video(client: WiroClient, until: Until) -> WiroTask:
    """A real video; it is drawn once, whoever asks for it."""
    inputs = {"prompt": "a lighthouse at dawn", "seed": "7", "fps": "16"}
    return until(client.run("ByteDance/text-to-video-seedance-v1", inputs).wiro_task_id)


@dataclass(frozen=True)
class Answer:
    """What the tiny server sends."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""


@dataclass(frozen=True)
class Asked:
    """What the tiny server was asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


class Scripted(ThreadingHTTPServer):
    """Answers with what `answers` holds, the last one again and again, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.asked: list[Asked] = []
        self.hung_up = 0
        """How many callers did not read their answer to its end."""
        self.lock = threading.Lock()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def next_answer(self) -> Answer:
        with self.lock:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers, body))
        answer = self.server.next_answer()
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(answer.body[: answer.cut_after])
        except OSError:
            self.server.hung_up += 1
            self.close_connection = True
        if answer.cut_after is not None:
            self.close_connection = True

    do_GET = do_POST = _serve

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Scripting]:
    """Start tiny servers: ``scripted(answer, …)`` or ``scripted(json_object, …)``."""
    servers: list[Scripted] = []

    def start(*answers: Any, certificate: tuple[Path, Path] | None = None) -> Scripted:
        server = Scripted()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.scheme = "https"
        server.answers = [
            answer if isinstance(answer, Answer) else Answer(json.dumps(answer).encode()) for answer in answers
        ]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of a server at 127.0.0.1 that nobody trusts by itself."""
    return _certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def cdn_certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of a server that calls itself cdn.wiro.ai, which nobody trusts by itself."""
    return _certificate(tmp_path_factory.mktemp("tls"), "cdn.wiro.ai")


def _certificate(folder: Path, dns_name: str | None = None) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local test")])
    now = datetime.now(UTC)
    where = x509.DNSName(dns_name) if dns_name else x509.IPAddress(IPv4Address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([where]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def answer() -> type[Answer]:
    """The class of the answers that are not plain JSON."""
    return Answer
