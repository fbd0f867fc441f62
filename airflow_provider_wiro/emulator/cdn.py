"""The CDN: files by plain GET with ranges, as a cache in front of a bucket serves them, and its faults."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

_CREDENTIALS = ("authorization", "proxy-authorization", "cookie")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_DRIPS = 20
ERROR_PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Bad gateway</body></html>"


def credential_headers(request: Request) -> set[str]:
    """Return the names of headers that have no business at a CDN: credentials, and all that start with x-."""
    return {name for name in request.headers if name in _CREDENTIALS or name.startswith("x-")}


def etag_of(data: bytes) -> str:
    """Return a strong entity tag."""
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def _span(wanted: str | None, size: int) -> tuple[int, int] | None:
    """Return first and last byte of a range; None for all of it.

    :raises ValueError: the range cannot be satisfied.
    """
    found = _RANGE.fullmatch(wanted or "")
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last or size - 1), size - 1)
        if last and int(last) < start:
            return None
    if start >= size or start > end:
        raise ValueError(wanted)
    return start, end


def serve_bytes(request: Request, data: bytes, content_type: str) -> Response:
    """Return a file, or the part of it that the request asks for (Range, If-Range, If-None-Match, HEAD).

    :param request: GET or HEAD.
    :param data: the whole file.
    :param content_type: what it is.
    """
    etag = etag_of(data)
    headers = {"accept-ranges": "bytes", "etag": etag, "cache-control": "public, max-age=86400"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    try:
        span = _span(wanted, len(data))
    except ValueError:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{len(data)}"})
    status = 200
    if span is not None:
        headers["content-range"] = f"bytes {span[0]}-{span[1]}/{len(data)}"
        data = data[span[0] : span[1] + 1]
        status = 206
    if request.method == "HEAD":
        headers["content-length"] = str(len(data))
        data = b""
    return Response(data, status, headers, content_type)


def _with_body(answer: Response, chunks: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(chunks, answer.status_code, dict(answer.headers))


def drip(answer: Response, seconds: float) -> Response:
    """Return the answer sent in small pieces.

    :param answer: to be sent.
    :param seconds: how long that takes in all.
    """

    async def pieces() -> AsyncIterator[bytes]:
        body = bytes(answer.body)
        step = max(1, -(-len(body) // _DRIPS))
        for start in range(0, len(body), step):
            await asyncio.sleep(seconds / _DRIPS)
            yield body[start : start + step]

    return _with_body(answer, pieces())


def cut(answer: Response, close: Callable[[], Awaitable[None]]) -> Response:
    """Return the answer with half of its body, after which the connection closes.

    :param answer: to be sent.
    :param close: closes the connection.
    """

    async def half() -> AsyncIterator[bytes]:
        yield bytes(answer.body)[: len(answer.body) // 2]
        await close()

    return _with_body(answer, half())


def shorten(answer: Response) -> Response:
    """Return an answer with less than the file, and with a Content-Length that agrees with that."""
    body = bytes(answer.body)[: max(0, len(answer.body) - 7)]
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return Response(body, answer.status_code, headers)


def pretend(answer: Response) -> Response:
    """Return an HTML page that claims to be the file."""
    return Response(ERROR_PAGE, 200, {"content-type": answer.headers.get("content-type", "video/mp4")})
