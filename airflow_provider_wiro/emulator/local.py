"""A local Wiro inside this process: the server in a thread, its control in your hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_provider_wiro.emulator.account import Account
from airflow_provider_wiro.emulator.faults import Faults
from airflow_provider_wiro.emulator.settings import read_balance, read_cdn_host, read_clock_offset, read_limit

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
        limit: int | None = None,
        clock_offset: float = 0.0,
        cdn_host: str = "",
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
        :param limit: how many tasks may be alive at once, None for what the balance allows.
        :param clock_offset: by how many seconds the clock is wrong that callers see.
        :param cdn_host: another loopback address for the output files, at the same port (``127.0.0.2``).
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
        self._limit = read_limit(limit)
        self._clock_offset = read_clock_offset(clock_offset)
        self._cdn_host = read_cdn_host(cdn_host)
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
        return self._address("127.0.0.1" if self._host in ("0.0.0.0", "") else self._host)

    def _address(self, host: str) -> str:
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

    def set_limit(self, limit: int | None) -> None:
        """Set how many tasks may be alive at once.

        :param limit: None for what the balance allows.
        :raises ValueError: it is not a whole number from 0 to a million.
        """
        self._do(lambda server: setattr(server.account, "fixed_limit", read_limit(limit)))

    def set_clock_offset(self, seconds: float) -> None:
        """Set the clock that callers see wrong. Tasks keep the one under which they were accepted.

        :param seconds: ahead of the right time; negative for behind.
        :raises ValueError: it is not a number of at most three years.
        """
        self._do(lambda server: setattr(server.account, "skew", read_clock_offset(seconds)))

    def run_foreign(self, *, count: int = 1, **inputs: object) -> list[str]:
        """Accept runs of somebody else in the same project, and return their ids.

        They are in the list, cost the account's money and count for its limit; in the ledger they are ``foreign``
        and no call.

        :param count: how many.
        :param inputs: ``model`` (``owner/model``) and its inputs; a Seedance model and a prompt by default.
        :raises RefusedError: there is no such model, its inputs are wrong, or the account may not run it now.
        """
        return self._do(lambda server: server.run_foreign({"count": count, **inputs}))

    def reset(self) -> None:
        """Forget tasks, ledger and faults, and go back to the balance that was set; limit and clock stay."""
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
        with contextlib.ExitStack() as opened:
            socks = [opened.enter_context(self._listen(self._host))]
            self._port = socks[0].getsockname()[1]
            if self._cdn_host not in ("", self._host) and self._host not in ("0.0.0.0", "", "::"):
                socks.append(opened.enter_context(self._listen(self._cdn_host)))
            self._build()
            opened.pop_all()
        self._thread = threading.Thread(target=self._serve, args=(socks,), name="wiro-local", daemon=True)
        self._thread.start()
        self._wait_until_up()
        return self

    def _listen(self, host: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Told the protocol, asyncio sends small answers at once: else each costs 40 ms over a connection that is kept.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, self._port))
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
        account.skew, account.fixed_limit = self._clock_offset, self._limit
        files_base = self._address(self._cdn_host) if self._cdn_host else ""
        callbacks = Callbacks(files_base or self.url)
        self._close_callbacks = callbacks.close
        self._server = Server(
            account=account,
            faults=self._faults,
            endpoints=Endpoints(account, self._faults, _borrow_studio().draw, self._seed),
            api_key=self._api_key,
            api_secret=self._api_secret,
            callbacks=callbacks,
            files_base=files_base,
        )
        config = uvicorn.Config(
            self._server,
            http=Line,
            loop="asyncio",
            ws="none",
            lifespan="on",
            # The process around this server has its own idea of logging.
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=1,
            backlog=512,
        )
        self._uvicorn = uvicorn.Server(config)

    def _serve(self, socks: list[socket.socket]) -> None:
        assert self._uvicorn is not None
        with contextlib.ExitStack() as opened:
            for sock in socks:
                opened.enter_context(sock)
            self._uvicorn.run(sockets=socks)

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
