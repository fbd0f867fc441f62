"""The routes: Wiro's API under ``/v1``, the CDN, the ledger and the controls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any, cast

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Message, Receive, Scope, Send

from airflow_provider_wiro.emulator import cdn, pages
from airflow_provider_wiro.emulator.account import Account, RefusedError, Task
from airflow_provider_wiro.emulator.body import Body, read_body
from airflow_provider_wiro.emulator.callbacks import Callbacks
from airflow_provider_wiro.emulator.endpoints import POINTS, Endpoints
from airflow_provider_wiro.emulator.faults import Fault, Faults, FaultSpecError
from airflow_provider_wiro.emulator.gate import check_credentials
from airflow_provider_wiro.emulator.line import Line
from airflow_provider_wiro.emulator.settings import read_balance, read_clock_offset, read_limit
from airflow_provider_wiro.emulator.wire import bad

_TICK = 0.1
_BEFORE = frozenset({"error", "error_before", "reset", "reset_before", "rate_limit", "html", "redirect"})
_AFTER = frozenset({"error_after", "reset_after", "slow", "truncated"})
_HTML = "<!DOCTYPE html><html><head><title>Please wait</title></head><body>Checking your browser</body></html>"


def answer(content: object, status: int = 200) -> Response:
    """Return JSON; ASCII only, so that no text can break it."""
    return Response(json.dumps(content), status, media_type="application/json; charset=utf-8")


def line_of(request: Request) -> Line:
    """Return the TCP connection that a request came over."""
    return cast("Line", request.scope["state"]["line"])


class Server:
    """One local Wiro: an account, its faults, and the application that serves them."""

    def __init__(
        self,
        *,
        account: Account,
        faults: Faults,
        endpoints: Endpoints,
        api_key: str,
        api_secret: str,
        callbacks: Callbacks,
        files_base: str = "",
    ) -> None:
        """Build the application.

        :param account: the account that keys open.
        :param faults: what goes wrong.
        :param endpoints: what each endpoint does.
        :param api_key: the project's key.
        :param api_secret: the project's secret, empty for a project that takes the key alone.
        :param callbacks: tells callers that their tasks have ended.
        :param files_base: the CDN's address, ``http://host:port``; empty: the one under which the caller knows
            this server.
        """
        self.faults = faults
        self._endpoints = endpoints
        self._api_key = api_key
        self._api_secret = api_secret
        self._callbacks = callbacks
        self._files_base = files_base
        self._late: set[asyncio.TimerHandle] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.app = FastAPI(openapi_url=None, lifespan=self._lifespan, default_response_class=Response)
        # add_route, not decorators: FastAPI's own parsing of parameters would answer in words that are not
        # Wiro's.
        self.app.add_route("/v1/{path:path}", self._api, methods=["POST", "GET", "PUT", "DELETE", "HEAD"])
        self.app.add_route("/elsewhere", self._elsewhere, methods=["POST", "GET"])
        self.app.add_route("/cdn/{key}/{name:path}", self._cdn, methods=["GET"])
        self.app.add_route("/ledger", self._ledger, methods=["GET"])
        self.app.add_route("/control/{what}", self._control, methods=["POST"])
        self.app.add_route("/", self._front, methods=["GET"])
        self.app.add_route("/tasks/{taskid}", self._one, methods=["GET"])
        self.app.add_route("/tasks/{taskid}/video.mp4", self._film, methods=["GET"])
        self.set_account(account)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, with a Date header in each answer: this server's clock may be wrong, and uvicorn's is not."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start" and not self._leaves_date_out(scope["state"]):
                date = formatdate(self.account.told_now(), usegmt=True).encode()
                message["headers"] = [*message.get("headers", []), (b"date", date)]
            await send(message)

        # A client that dies amid its request is no error of this server.
        with contextlib.suppress(ClientDisconnect):
            await self.app(scope, receive, send_dated)

    def _leaves_date_out(self, state: dict[str, Any]) -> bool:
        if "point" not in state or state["line"].lost:
            return False
        fault = self.faults.pick(state["point"], "no_date", prompt=state["prompt"])
        if fault is not None:
            self.faults.happen(fault, state["point"])
        return fault is not None

    def set_account(self, account: Account) -> None:
        """Serve this account from now on."""
        self.account = self._endpoints.account = account

    def reset(self) -> None:
        """Forget tasks, ledger and faults, and runs that were to be accepted late. Settings stay."""
        for handle in self._late:
            handle.cancel()
        self._late.clear()
        self.faults.set([])
        self.faults.happened.clear()
        self.set_account(self.account.forget())

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self.loop = asyncio.get_running_loop()
        ticker = asyncio.create_task(self._tick())
        yield
        ticker.cancel()

    async def _tick(self) -> None:
        """Notice ended tasks without being asked: callbacks and the balance do not wait for a reader."""
        while True:
            await asyncio.sleep(_TICK)
            self.account.settle()
            while self.account.ended:
                self._callbacks.tell(self.account.ended.pop(0), self.account.now)

    # The API

    def _count(self, request: Request, call: str) -> None:
        self.account.calls[call] += 1
        self._count_line(request)

    def _count_line(self, request: Request) -> None:
        line = line_of(request)
        if not line.counted:
            line.counted = True
            self.account.connections += 1

    async def _api(self, request: Request) -> Response:
        path = request.path_params["path"]
        call = "Run" if path.startswith("Run/") and path.count("/") == 2 else path
        if call not in POINTS or request.method != "POST":
            self.account.refusals["0"] += 1
            return answer(bad(0, "Error parsing url."), 404)
        self._count(request, call)
        try:
            # Reading first keeps the connection usable for the client even where the answer is a refusal.
            body = await _try(read_body(request))
            check_credentials(request.headers, self._api_key, self._api_secret, self.account)
            if isinstance(body, RefusedError):
                raise body
            return await self._serve(request, call, body)
        except RefusedError as refused:
            self.account.refusals[str(refused.code)] += 1
            return answer(bad(refused.code, refused.message), refused.http)

    async def _serve(self, request: Request, call: str, body: Body) -> Response:
        point = POINTS[call]
        prompt = body.text("prompt")
        request.scope["state"].update(point=point, prompt=prompt)
        fault = self.faults.pick(point, *_BEFORE, *_AFTER, "late", prompt=prompt)
        if fault is not None and fault.kind_at(point) in _BEFORE:
            self.faults.happen(fault, point)
            return await self._refuse_badly(request, fault)
        if fault is not None and fault.kind == "late":
            return await self._accept_late(request, fault, body)
        done = answer(self._endpoints.call(call, request.path_params["path"], body, self._base(request)))
        if fault is None:
            return done
        self.faults.happen(fault, point)
        return await self._answer_badly(request, fault.kind, fault.seconds, done)

    def _base(self, request: Request) -> str:
        return self._files_base or f"{request.url.scheme}://{request.url.netloc}"

    async def _refuse_badly(self, request: Request, fault: Fault) -> Response:
        """Fail before anything has happened."""
        if fault.kind.startswith("reset"):
            await line_of(request).reset()
        if fault.kind == "rate_limit":
            limited = answer(bad(0, "Too many requests, please slow down."), 429)
            limited.headers["retry-after"] = str(max(0, round(fault.seconds)))
            return limited
        if fault.kind == "html":
            return HTMLResponse(_HTML)
        if fault.kind == "redirect":
            # Another name for the same machine: a client that follows shows up in the ledger's calls.
            host = "127.0.0.1" if request.url.hostname == "localhost" else "localhost"
            return Response(
                status_code=307, headers={"location": f"http://{host}:{request.scope['server'][1]}/elsewhere"}
            )
        return HTMLResponse("<html><body>Internal Server Error</body></html>", 500)

    async def _answer_badly(self, request: Request, kind: str, seconds: float, done: Response) -> Response:
        """Fail after it has been done."""
        if kind == "reset_after":
            await line_of(request).reset()
        if kind == "slow":
            await asyncio.sleep(seconds)
        if kind == "truncated":
            return Response(bytes(done.body)[: len(done.body) // 2], media_type="application/json; charset=utf-8")
        if kind == "error_after":
            return HTMLResponse("<html><body>502 Bad Gateway</body></html>", 502)
        return done

    async def _accept_late(self, request: Request, fault: Fault, body: Body) -> Response:
        run = self._endpoints.prepare_run(request.path_params["path"], body, self._base(request))
        self.faults.happen(fault, "run")

        def accept() -> None:
            self._late.discard(handle)
            try:
                run()
            except RefusedError as refused:
                self.account.refusals[str(refused.code)] += 1

        handle = asyncio.get_running_loop().call_later(fault.seconds, accept)
        self._late.add(handle)
        await line_of(request).reset()
        return Response()

    async def _elsewhere(self, request: Request) -> Response:
        self._count(request, "elsewhere")
        return answer(bad(0, "You should not have followed."), 403)

    # The CDN

    async def _cdn(self, request: Request) -> Response:
        self._count_line(request)
        self.account.cdn_requests += 1
        self.account.leaked_headers |= cdn.credential_headers(request)
        fault = self.faults.pick("cdn", "cut", "error", "expired", "wrong_size", "html", "slow", "reset")
        found = self._endpoints.file(request.path_params["key"])
        if fault is None:
            done = cdn.serve_bytes(request, *found) if found else _denied(404)
        else:
            self.faults.happen(fault, "cdn")
            done = await self._cdn_fault(request, fault, found)
        if request.method == "GET":
            self.account.cdn_bytes += int(done.headers.get("content-length", "0"))
        return done

    async def _cdn_fault(self, request: Request, fault: Fault, found: tuple[bytes, str] | None) -> Response:
        line = line_of(request)
        if fault.kind == "reset":
            await line.reset()
        if fault.kind == "error":
            return Response(cdn.ERROR_PAGE, 502, media_type="text/html")
        if fault.kind == "expired" or found is None:
            return _denied(403)
        done = cdn.serve_bytes(request, *found)
        if fault.kind == "cut":
            return cdn.cut(done, line.cut)
        if fault.kind == "slow":
            return cdn.drip(done, fault.seconds)
        return cdn.pretend(done) if fault.kind == "html" else cdn.shorten(done)

    # Ledger, controls and pages

    def ledger(self) -> dict[str, Any]:
        """Return all that happened so far."""
        return self.account.ledger(self.faults.happened)

    async def _ledger(self, _: Request) -> Response:
        return answer(self.ledger())

    async def _control(self, request: Request) -> Response:
        if "origin" in request.headers:
            return answer({"error": "not from a web page"}, 403)
        try:
            body = await read_body(request)
            return answer(self._change(request.path_params["what"], body))
        except RefusedError as refused:
            return answer({"error": refused.message}, 400)
        except ValueError as wrong:
            return answer({"error": str(wrong)}, 400)

    def _change(self, what: str, body: Body) -> dict[str, object]:
        fields = body.fields
        match what:
            case "faults":
                return {"faults": self._set_faults(fields.get("faults"))}
            case "balance":
                self.account.set_balance(read_balance(fields.get("balance")))
                return {"balance": str(self.account.balance)}
            case "limit":
                self.account.fixed_limit = read_limit(fields.get("limit"))
                return {"limit": self.account.limit}
            case "clock":
                self.account.skew = read_clock_offset(fields.get("offset"))
                return {"offset": self.account.skew}
            case "foreign":
                return {"taskids": self.run_foreign(fields)}
            case "reset":
                self.reset()
                return {"reset": True}
        raise ValueError(f"{what!r} is not one of faults, balance, limit, clock, foreign, reset")

    def _set_faults(self, specs: object) -> list[str]:
        if not isinstance(specs, list) or not all(isinstance(spec, str) for spec in specs):
            raise FaultSpecError('faults must be a list of strings: {"faults": ["run:error_after:rate=0.1"]}')
        self.faults.set(specs)
        return specs

    def run_foreign(self, fields: Mapping[str, object]) -> list[str]:
        """Accept runs of somebody else, see :meth:`Endpoints.run_foreign`."""
        return self._endpoints.run_foreign(fields)

    async def _front(self, _: Request) -> Response:
        return pages.front(self.account)

    async def _one(self, request: Request) -> Response:
        return pages.one(self.account, self._task(request))

    async def _film(self, request: Request) -> Response:
        """Serve the page's own player: not the CDN, so that looking does not change the ledger."""
        task = self._task(request)
        data = self.account.find_file(task.key) if task else None
        return cdn.serve_bytes(request, data, "video/mp4") if data else Response(status_code=404)

    def _task(self, request: Request) -> Task | None:
        try:
            return self.account.find(request.path_params["taskid"])
        except RefusedError:
            return None


def _denied(status: int) -> Response:
    code = "AccessDenied" if status == 403 else "NoSuchKey"
    return Response(f"<Error><Code>{code}</Code></Error>", status, media_type="application/xml")


async def _try(reading: Awaitable[Body]) -> Body | RefusedError:
    try:
        return await reading
    except RefusedError as refused:
        return refused
