"""A local Wiro inside this process: the server in a thread, its control in your hand."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_provider_wiro.emulator.account import Account, read_balance
from airflow_provider_wiro.emulator.faults import Faults

if TYPE_CHECKING:
    import uvicorn

    from airflow_provider_wiro.emulator.server import Server
    from airflow_provider_wiro.emulator.studio import Studio

T = TypeVar("T")
_PATIENCE = 15.0
# nginx's default. Shorter would only let clients run into connections that close under their hands.
_KEEP_ALIVE = 75

_studio: Studio | None = None
_studio_users = 0
_studio_lock = threading.Lock()


def _borrow_studio() -> Studio:
    """One studio for all local Wiros of a process: drawings are kept from one to the next."""
    from airflow_provider_wiro.emulator.studio import Studio

    global _studio, _studio_users
    with _studio_lock:
        _studio = _studio or Studio()
        _studio_users += 1
        return _studio


def _return_studio() -> None:
    global _studio_users
    with _studio_lock:
        _studio_users -= 1
        if _studio_users == 0 and _studio is not None:
            _studio.close()


class LocalWiro:
    """A server that behaves like Wiro's API; use it in a ``with`` block."""

    def __init__(
        self,
        *,
        api_key: str = "local-key",
        api_secret: str = "local-secret",
        speed: float = 60.0,
        balance: float | str = 500,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        """Keep the settings; the server starts with the ``with`` block.

        :param api_key: the project's API key.
        :param api_secret: its secret; empty for a project that takes the key alone.
        :param speed: Wiro seconds that pass in a real second.
        :param balance: the account's USD.
        :param host: the address to listen on.
        :param port: the port, 0 for a free one.
        :param faults: what goes wrong, see :mod:`airflow_provider_wiro.emulator.faults`.
        :param seed: makes rates of faults and random seeds reproducible.
        :raises ValueError: a setting is out of range; the message says what is allowed.
        """
        if not api_key:
            raise ValueError("the API key must not be empty")
        if not 0 < speed <= 1e9:
            raise ValueError(f"the speed must be a number above 0 and at most 1e9, not {speed!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"the port must be from 0 (any free one) to 65535, not {port!r}")
        self._faults = Faults(faults, seed)
        self._balance = read_balance(balance)
        self._api_key = api_key
        self._api_secret = api_secret
        self._speed = float(speed)
        self._host = host
        self._port = port
        self._seed = seed
        self._server: Server | None = None
        self._uvicorn: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._close_callbacks: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """The server's address, without the API's ``/v1``: the web page is here."""
        host = "127.0.0.1" if self._host in ("0.0.0.0", "") else self._host
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """The API's address: what the connection's host is."""
        return f"{self.url}/v1"

    def connection_json(self) -> str:
        """Return the Airflow connection to this server, as ``AIRFLOW_CONN_WIRO_DEFAULT`` takes it."""
        connection: dict[str, object] = {
            "conn_type": "wiro",
            "host": self.base_url,
            "password": self._api_key,
        }
        if self._api_secret:
            connection["extra"] = {"api_secret": self._api_secret}
        return json.dumps(connection)

    def ledger(self) -> dict[str, Any]:
        """Return what happened so far: runs, money, calls, refusals, faults (see the package's docstring)."""
        return self._do(lambda server: server.ledger())

    def set_faults(self, faults: Sequence[str]) -> None:
        """Replace all faults.

        :param faults: specifications; none ends all faults.
        :raises FaultSpecError: naming what is allowed.
        """
        self._do(lambda server: server.faults.set(faults))

    def set_balance(self, balance: float | str) -> None:
        """Set the account's balance.

        :param balance: USD.
        :raises ValueError: it is not a number from 0 to a million.
        """
        self._do(lambda server: server.account.set_balance(read_balance(balance)))

    def reset(self) -> None:
        """Forget tasks, ledger and faults, and go back to the balance that was set."""
        self._do(lambda server: server.reset())

    @property
    def alive(self) -> bool:
        """Whether the server is running."""
        return self._thread is not None and self._thread.is_alive()

    def _do(self, what: Callable[[Server], T]) -> T:
        """Run something in the server's thread, which alone may touch its state; here if it has ended."""
        if self._server is None:
            raise RuntimeError("this local Wiro was never started: use it in a `with` block")
        server, loop = self._server, self._server.loop
        if loop is None or not self.alive:
            return what(server)

        async def run() -> T:
            return what(server)

        return asyncio.run_coroutine_threadsafe(run(), loop).result(_PATIENCE)

    def __enter__(self) -> Self:
        """Start the server.

        :raises MissingLibraryError: PyAV or Pillow is missing.
        :raises OSError: the port cannot be had.
        """
        from airflow_provider_wiro.emulator.studio import require_libraries

        require_libraries()
        sock = self._listen()
        self._port = sock.getsockname()[1]
        try:
            self._build()
        except BaseException:
            sock.close()
            raise
        self._thread = threading.Thread(target=self._serve, args=(sock,), name="wiro-local", daemon=True)
        self._thread.start()
        self._wait_until_up()
        return self

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._host, self._port))
        except OSError:
            sock.close()
            raise
        return sock

    def _build(self) -> None:
        import uvicorn

        from airflow_provider_wiro.emulator.callbacks import Callbacks
        from airflow_provider_wiro.emulator.endpoints import Endpoints
        from airflow_provider_wiro.emulator.line import Line
        from airflow_provider_wiro.emulator.server import Server

        account = Account(self._balance, self._speed, time.time)
        callbacks = Callbacks(self.url)
        self._close_callbacks = callbacks.close
        self._server = Server(
            account=account,
            faults=self._faults,
            endpoints=Endpoints(account, self._faults, _borrow_studio().draw, self._seed),
            api_key=self._api_key,
            api_secret=self._api_secret,
            callbacks=callbacks,
        )
        config = uvicorn.Config(
            self._server.app,
            http=Line,
            loop="asyncio",
            ws="none",
            lifespan="on",
            # The process around this server has its own idea of logging.
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=1,
            backlog=512,
        )
        self._uvicorn = uvicorn.Server(config)

    def _serve(self, sock: socket.socket) -> None:
        assert self._uvicorn is not None
        with sock:
            self._uvicorn.run(sockets=[sock])

    def _wait_until_up(self) -> None:
        assert self._uvicorn is not None
        deadline = time.monotonic() + _PATIENCE
        while not self._uvicorn.started:
            if not self.alive or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError("the local Wiro did not start; its log says why")
            time.sleep(0.005)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server and the drawing."""
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        self._close_callbacks()
        _return_studio()
