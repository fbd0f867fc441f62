"""A CDN that means ill: what it answers is written by hand, byte by byte, for each path and each time it is asked."""

from __future__ import annotations

import gzip
import hashlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Route = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request, and the means to answer it."""

    protocol_version = "HTTP/1.1"
    server: HostileCdn
    nth: int
    """How often this path was asked before."""

    def do_GET(self) -> None:
        with self.server.lock:
            self.nth = self.server.asked[self.path]
            self.server.asked[self.path] += 1
            self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        self.close_connection = True
        try:
            self.server.routes[self.path.partition("?")[0]](self)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up += 1

    def head(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()
        self.server.sent += len(data)

    def reset(self) -> None:
        """Break the connection in the hardest way."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    @property
    def start(self) -> int | None:
        """The first byte that a range asks for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else None

    def log_message(self, format: str, *args: object) -> None:
        pass


class HostileCdn(ThreadingHTTPServer):
    """Answers by its routes."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.routes: dict[str, Route] = {}
        self.asked: Counter[str] = Counter()
        self.heads: list[dict[str, str]] = []
        self.sent = 0
        self.hung_up = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def hostile_cdn() -> Iterator[HostileCdn]:
    with HostileCdn() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def whole(data: bytes, content_type: str = "video/mp4", **headers: object) -> Route:
    def answer(exchange: Exchange) -> None:
        exchange.head(Content_Type=content_type, Content_Length=len(data), **headers)
        exchange.body(data)

    return answer


def cut(data: bytes, etag: str | None, *, at: int, hard: bool = False) -> Route:
    """Send a part, hang up; later the rest, from where a range asks for it, if `If-Range` names the right file."""

    def answer(exchange: Exchange) -> None:
        start = exchange.start
        tags = {"ETag": etag} if etag else {}
        if start is None or exchange.headers.get("If-Range") != etag:
            exchange.head(Content_Type="video/mp4", Content_Length=len(data), **tags)
            exchange.body(data if exchange.nth >= 4 else data[:at])
        else:
            rest = f"bytes {start}-{len(data) - 1}/{len(data)}"
            exchange.head(206, Content_Type="video/mp4", Content_Length=len(data) - start, Content_Range=rest, **tags)
            exchange.body(data[start : start + at])
        if hard:
            exchange.reset()

    return answer


def in_turn(*routes: Route) -> Route:
    """Answer with one after the other, the last again and again."""

    def answer(exchange: Exchange) -> None:
        routes[min(exchange.nth, len(routes) - 1)](exchange)

    return answer


def status(code: int, **headers: object) -> Route:
    return lambda exchange: exchange.head(code, Content_Length=0, **headers)


def partial(data: bytes, content_range: Callable[[int], str], shift: int = 0) -> Route:
    """Answer a range with a part that is described as `content_range` says."""

    def answer(exchange: Exchange) -> None:
        start = exchange.start or 0
        part = data[start + shift :]
        exchange.head(206, Content_Type="video/mp4", Content_Length=len(part), Content_Range=content_range(start))
        exchange.body(part)

    return answer


def drip(data: bytes, every: float) -> Route:
    """Send a byte from time to time, for ever."""

    def answer(exchange: Exchange) -> None:
        exchange.head(Content_Type="video/mp4", Content_Length=len(data))
        for position in range(len(data)):
            exchange.body(data[position : position + 1])
            time.sleep(every)

    return answer


def chunked(*chunks: bytes, end: bool = True) -> Route:
    def answer(exchange: Exchange) -> None:
        exchange.head(Content_Type="video/mp4", Transfer_Encoding="chunked")
        for chunk in chunks:
            exchange.body(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if end:
            exchange.body(b"0\r\n\r\n")

    return answer


def endless(exchange: Exchange) -> None:
    exchange.head(Content_Type="video/mp4")
    exchange.body(b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2")
    while True:
        exchange.body(bytes(1 << 16))


def endless_redirect(exchange: Exchange) -> None:
    exchange.head(302, Location="/film")
    while True:
        exchange.body(bytes(1 << 16))


def bomb(announce: bool) -> Route:
    data = gzip.compress(bytes(50_000_000))

    def answer(exchange: Exchange) -> None:
        encoding = {"Content_Encoding": "gzip"} if announce else {}
        exchange.head(Content_Type="video/mp4", Content_Length=len(data), **encoding)
        exchange.body(data)

    return answer
