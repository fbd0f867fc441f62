"""The bytes of a file that a task has told of, from those places only that the configuration names.

The address of the file comes from an XCom, which anybody may have written who may write XComs. Without the list of
places, the api-server would read any file, and ask any host, for whoever asks.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from airflow.configuration import conf
from airflow.sdk import ObjectStoragePath
from fastapi import HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from airflow_provider_wiro.page import BATCH_KEY, END_KEY, PREVIEW_KEY

_log = logging.getLogger(__name__)
TYPES = frozenset(
    {
        "video/mp4",
        "video/webm",
        "video/quicktime",
        "audio/mpeg",
        "audio/wav",
        "image/webp",
        "image/png",
        "image/jpeg",
        "image/gif",
    }
)
"""What is served: nothing that a browser would run."""
_PRESIGNED = 300  # seconds that such an address is good for
_BLOCK = 1 << 20
_HEADERS = {
    # Airflow compresses what has no encoding, and a part of a video that is compressed is no part of it.
    "Content-Encoding": "identity",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=300",
}


@dataclass(frozen=True)
class _Address:
    """An address taken to pieces."""

    scheme: str
    place: str
    """Connection and bucket, as they are written."""
    parts: tuple[str, ...]

    @classmethod
    def read(cls, uri: str) -> Self | None:
        """Take an address to pieces, or return ``None`` for one that is not plain."""
        if any(ord(character) < 32 for character in uri) or "\\" in uri:
            return None
        try:
            split = urlsplit(uri if "://" in uri else f"file://{uri}")
        except ValueError:
            return None
        # What a store makes of an escape, of a fragment or of a query, nobody here knows.
        if split.query or split.fragment or unquote(split.path) != split.path:
            return None
        parts = tuple(part for part in split.path.split("/") if part)
        if any(part in (".", "..") for part in parts) or (split.scheme == "file" and not split.path.startswith("/")):
            return None
        if split.scheme == "file" and split.netloc:
            return None
        return cls(split.scheme, split.netloc, parts)

    @property
    def local(self) -> str:
        """The path on this machine."""
        return "/" + "/".join(self.parts)

    def is_below(self, root: _Address) -> bool:
        """Whether this is in a folder, whole names compared."""
        same = (self.scheme, self.place) == (root.scheme, root.place)
        return same and len(self.parts) > len(root.parts) and self.parts[: len(root.parts)] == root.parts


@dataclass(frozen=True)
class Roots:
    """The places from which files are served."""

    roots: tuple[_Address, ...]

    def admit(self, uri: str) -> bool:
        """Tell whether an address is in one of them, by its name."""
        address = _Address.read(uri)
        return address is not None and any(address.is_below(root) for root in self.roots)

    def real(self, uri: str) -> str | None:
        """Return the local file that a local address leads to, unless a link leads out of the place."""
        address = _Address.read(uri)
        if address is None or address.scheme != "file":
            return None
        real = os.path.realpath(address.local)
        homes = [os.path.realpath(root.local) for root in self.roots if address.is_below(root)]
        return real if any(os.path.commonpath([real, home]) == home for home in homes) else None


def allowed_roots() -> Roots:
    """Return what ``[wiro] ui_media_roots`` names; what it cannot mean is logged, and nothing is served from there."""
    return _roots_of(conf.get("wiro", "ui_media_roots", fallback="") or "")


@lru_cache(maxsize=1)  # told once, and not every few seconds
def _roots_of(option: str) -> Roots:
    found = []
    for text in re.split(r"[,\n]", option):
        root = _Address.read(text.strip()) if text.strip() else None
        if root is not None and (root.parts or root.scheme != "file") and (root.place or root.scheme == "file"):
            found.append(root)
        elif text.strip():
            _log.error(
                "[wiro] ui_media_roots has %r, allowed: a path or an address such as s3://aws_default@bucket/videos",
                text.strip(),
            )
    return Roots(tuple(found))


def is_key(key: str) -> bool:
    """Tell whether an XCom of this name tells of files."""
    return key in (END_KEY, PREVIEW_KEY) or re.fullmatch(rf"{BATCH_KEY}\d{{1,6}}", key) is not None


def pick(told: Any, key: str, item: int, file: int) -> Mapping[str, Any] | None:
    """Return what an XCom tells of one file.

    :param told: its value.
    :param key: its name.
    :param item: in a batch, the position of the video.
    :param file: the position of the file.
    """
    if key.startswith(BATCH_KEY):
        told = told[item] if isinstance(told, list) and 0 <= item < len(told) else None
    files = told.get("files") if isinstance(told, Mapping) else None
    found = files[file] if isinstance(files, list) and 0 <= file < len(files) else None
    return found if isinstance(found, Mapping) else None


def answer(facts: Mapping[str, Any], request: Request) -> Response:
    """Return the bytes of a file, or where its store has them.

    :param facts: what an XCom tells of it.
    :param request: what is asked.
    :raises HTTPException: 403 where it is not served from there, 404 where it is not there, 502 where its store fails.
    """
    uri, content_type, roots = facts.get("uri"), facts.get("content_type"), allowed_roots()
    if not isinstance(uri, str) or content_type not in TYPES or not roots.admit(uri):
        raise HTTPException(403, "Files are not served from there; [wiro] ui_media_roots names the places.")
    headers = {**_HEADERS, "Content-Disposition": f'inline; filename="{_name(uri)}"'}
    if "://" not in uri or uri.startswith("file://"):
        real = roots.real(uri)
        if real is None:
            raise HTTPException(403, "Files are not served from there; [wiro] ui_media_roots names the places.")
        if not os.path.isfile(real):
            raise HTTPException(404, "The file is not there any more.")
        if not os.access(real, os.R_OK):
            raise HTTPException(502, "The api-server may not read the file.")
        return FileResponse(real, media_type=str(content_type), headers=headers)
    try:
        return _from_store(ObjectStoragePath(uri), str(content_type), headers, request)
    except FileNotFoundError:
        raise HTTPException(404, "The file is not there any more.") from None
    except HTTPException:
        raise
    except Exception as error:  # every store has errors of its own, and some tell addresses and keys
        _log.error("A file cannot be read from its store: %s", type(error).__name__)
        raise HTTPException(502, f"The store does not give the file ({type(error).__name__}).") from None


def _from_store(path: ObjectStoragePath, content_type: str, headers: dict[str, str], request: Request) -> Response:
    found = path.fs.info(path.path)  # an address would be made for what is not there, or by a store that is down, too
    if found.get("type") != "file":
        raise FileNotFoundError
    size, tag = int(found["size"]), _tag_of(found)
    if request.method == "GET" and (address := _presigned(path)):
        return RedirectResponse(address, 307, {"Cache-Control": "no-store"})
    asked = request.headers.get("range")
    if request.headers.get("if-range", tag) != tag:
        asked = None
    span = span_of(asked, size)
    if span is None:
        raise HTTPException(416, "There is no such part of the file.", {"Content-Range": f"bytes */{size}"})
    first, end, is_part = span
    part = {"Content-Range": f"bytes {first}-{end - 1}/{size}"} if is_part else {}
    return StreamingResponse(
        blocks_of(path, first, end) if request.method == "GET" else iter(()),
        206 if part else 200,
        {**headers, **part, "Content-Length": str(end - first), "Accept-Ranges": "bytes", "ETag": tag},
        content_type,
    )


def _presigned(path: ObjectStoragePath) -> str | None:
    """Return an address that needs no login for a while, or ``None`` where the store makes none."""
    try:
        return str(path.fs.sign(path.path, expiration=_PRESIGNED))
    except Exception as error:  # not made for it, or not with these credentials: each store says so in its own way
        _log.debug("No address is signed for files of %s: %s", path.protocol, type(error).__name__)
        return None


def _tag_of(found: Mapping[str, Any]) -> str:
    """Return what is another one for another version of a file."""
    times = (found.get(name) for name in ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated"))
    version = next((str(each) for each in times if each), "")
    return f'"{found["size"]}-{hashlib.sha256(version.encode()).hexdigest()[:32]}"'


def span_of(asked: str | None, size: int) -> tuple[int, int, bool] | None:
    """Return first byte and end of what is asked for, and whether it is a part; ``None`` where there is no such part.

    :param asked: the header ``Range``; what it cannot mean, and several ranges, are answered with all.
    :param size: bytes of the file.
    """
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", (asked or "").strip())
    if found is None or found[1] == found[2] == "" or (found[1] and found[2] and int(found[1]) > int(found[2])):
        return 0, size, False
    if not found[1]:
        return (max(0, size - int(found[2])), size, True) if int(found[2]) and size else None
    first, end = int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)
    return (first, end, True) if first < end else None


def blocks_of(path: ObjectStoragePath, first: int, end: int) -> Iterator[bytes]:
    """Yield a part of a file; between two blocks, nothing is kept open."""
    for start in range(first, end, _BLOCK):
        yield path.fs.cat_file(path.path, start, min(start + _BLOCK, end))


def _name(uri: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", uri.rsplit("/", 1)[-1])[:150]
