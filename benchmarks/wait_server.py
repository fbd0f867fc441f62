"""The server that all ask: a process of its own, so that its work is not counted as theirs.

It speaks just enough HTTP/1.1 over TLS to cost little, and answers for Wiro, OpenAI, Anthropic and dbt Cloud alike.
One line on its standard input, a moment of the monotonic clock, starts the jobs; the end of the input ends it, and it
prints what it counted.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import re
import resource
import socket
import ssl
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, cast

from benchmarks import wait_answers
from benchmarks.wait_jobs import FIRST_NUMBER, Conditions, Job, first_jobs

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REASONS = {200: b"OK", 404: b"Not Found", 500: b"Internal Server Error"}
_Bodies = Callable[[Job, int, float], bytes]
# What a path begins with -> what answers; the rest of the path is the job's number.
_READ_ONE: dict[str, _Bodies] = {
    "/v1/batches/batch_": wait_answers.openai_batch,
    "/v1/messages/batches/msgbatch_": wait_answers.anthropic_batch,
    "/api/v2/accounts/1/runs/": wait_answers.dbt_run,
}
Answer = tuple[int, bytes]


class Api:
    """The jobs, and what is told about them.

    :param conditions: which jobs, and which faults.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._dice = random.Random(conditions.seed)
        self._start: float | None = None
        self._jobs: list[Job] = []
        self._first = first_jobs(conditions)[1]
        self._started = 0.0  # unix time
        self.connections = 0
        self.asked: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def begin(self, at: float) -> None:
        """Start the jobs at a moment of the monotonic clock."""
        self._start, self._started, self._jobs = at, time.time() + at - time.monotonic(), self._first

    def answer(self, path: str, body: bytes) -> Answer | None:
        """Return status and body, or ``None`` for a connection that breaks."""
        at = -1.0 if self._start is None else time.monotonic() - self._start
        kind = path.removeprefix("/v1/") if path.startswith("/v1/Task/") else "another API's"
        self.asked[kind] += 1
        fault = self._fault(kind, at)
        if fault is not None:
            self.faults[fault] += 1
            return None if fault == "reset" else (500, b'"broken on purpose"')
        if kind == "Task/Detail":
            return self._detail(json.loads(body), at)
        if kind == "Task/List":
            return self._list(json.loads(body), at)
        for prefix, bodies in _READ_ONE.items():
            if path.startswith(prefix):
                job = self._find(path.removeprefix(prefix).strip("/"))
                return (404, b"{}") if job is None else (200, bodies(job, job.phase(at), self._started))
        return 404, b"{}"

    def _fault(self, kind: str, at: float) -> str | None:
        wanted = self._conditions
        if kind == "Task/List" and 0 <= at - wanted.outage_begins < wanted.outage:
            return "no list"
        drawn = self._dice.random()
        return "reset" if drawn < wanted.resetting else "500" if drawn < wanted.resetting + wanted.failing else None

    def _find(self, number: object) -> Job | None:
        text = str(number)
        place = int(text) - FIRST_NUMBER if text.isdigit() else -1
        return self._jobs[place] if 0 <= place < len(self._jobs) else None

    def _detail(self, fields: dict[str, Any], at: float) -> Answer:
        job = self._find(fields.get("taskid"))
        if job is None:
            return 200, b'{"errors":[{"code":1,"message":"There is no task yet."}],"result":false}'
        return 200, wait_answers.wiro_envelope([wait_answers.wiro(job, job.phase(at), self._started)], 1)

    def _list(self, fields: dict[str, Any], at: float) -> Answer:
        self._let_others_come(at)
        start, limit = int(fields.get("start", 0)), min(100, int(fields.get("limit", 20)))
        jobs = self._jobs if fields.get("order") == "ASC" else self._jobs[::-1]
        page = jobs[start : start + limit]
        entries = [wait_answers.wiro(job, job.phase(at), self._started) for job in page]
        return 200, wait_answers.wiro_envelope(entries, len(jobs))

    def _let_others_come(self, at: float) -> None:
        if not self._jobs:
            return
        wanted = int(at * self._conditions.others_per_second)
        for newcomer in range(len(self._jobs) - self._conditions.jobs - self._conditions.others, wanted):
            came = newcomer / self._conditions.others_per_second
            self._jobs.append(Job(FIRST_NUMBER + len(self._jobs), came, came + 60.0))


class Connection(asyncio.Protocol):
    """One connection: reads requests, one after the other, and writes their answers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._api.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._received += data
        while self._transport is not None:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if not found or len(rest) < size:
                return
            self._received = rest[size:]
            path = head.split(b" ", 2)[1].decode()
            self._write(self._transport, self._api.answer(path.partition("?")[0], rest[:size]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is left."""
        self._transport = None

    def _write(self, transport: asyncio.Transport, answer: Answer | None) -> None:
        if answer is None:
            self._transport = None
            # Without this, the connection would end in good order.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            return
        status, body = answer
        transport.write(
            b"HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (status, _REASONS[status], formatdate(usegmt=True).encode(), len(body), body)
        )


async def serve(conditions: Conditions, certificate: str, key: str) -> None:
    """Answer until the standard input ends.

    :param conditions: which jobs, and which faults.
    :param certificate: a PEM file.
    :param key: a PEM file.
    """
    loop, over, api = asyncio.get_running_loop(), asyncio.Event(), Api(conditions)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await loop.create_server(lambda: Connection(api), "127.0.0.1", 0, ssl=context, backlog=4096)

    def on_input() -> None:
        line = sys.stdin.readline()
        if line:
            api.begin(float(line))
        else:
            loop.remove_reader(sys.stdin.fileno())
            over.set()

    loop.add_reader(sys.stdin.fileno(), on_input)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    counted = {"connections": api.connections, "asked": api.asked, "faults": api.faults, "cpu": time.process_time()}
    print(json.dumps(counted), flush=True)
    server.close()


def main() -> None:
    """Serve by the arguments: conditions, certificate, key."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        loop_factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        loop_factory = None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(Conditions.loads(sys.argv[1]), sys.argv[2], sys.argv[3]))


if __name__ == "__main__":
    main()
