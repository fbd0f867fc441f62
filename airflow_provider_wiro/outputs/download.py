"""One file from an address to this machine: whole, hashed on the way, resumed where it broke off."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from airflow_provider_wiro.api.tasks import WiroTask, whole_number
from airflow_provider_wiro.exceptions import WiroError, WiroOutputError
from airflow_provider_wiro.outputs.container import contradiction
from airflow_provider_wiro.outputs.sources import Cord, Sources, ask
from airflow_provider_wiro.waiting import Log

if TYPE_CHECKING:
    from concurrent.futures import Future

LARGEST = 2 << 30
"""Bytes of a file at most."""
_BLOCK = 1 << 20
_START = 512
_SMALL, _AHEAD = 8 << 20, 8  # bytes after which another thread hashes, and blocks that may wait for it
_TIMEOUTS = (10.0, 60.0)  # seconds to connect, seconds without a byte
_ATTEMPTS, _PAUSE = 6, 0.5  # requests for a file, seconds before the second
_EXPIRED = frozenset({401, 403, 404, 410})
_SLOWEST, _GRACE = 1024, 5.0  # bytes per second, and the seconds before that counts
_LONGEST = 3600.0  # seconds for one file
_SPARE = 1 << 20  # bytes that stay free on the disk
_PROGRESS = 10.0  # seconds between two log lines


class Download:
    """One output on its way to a local file.

    :param task: the task.
    :param index: which of its outputs.
    :param staged: the local file.
    :param sources: which addresses may be asked.
    :param log: gets the progress of a long download.
    :param read_again: reads the task once more: the address of an output expires.
    :param cord: ends it when it is cut; it is cut here when too much time has passed.
    """

    def __init__(
        self,
        task: WiroTask,
        index: int,
        staged: Path,
        sources: Sources,
        log: Log,
        read_again: Callable[[], WiroTask],
        cord: Cord,
    ) -> None:
        self._task = task
        self._index = index
        self._output = task.outputs[index]
        self._staged = staged
        self._sources = sources
        self._log = log
        self._read_again = read_again
        self._cord = cord
        self._announced = self._output.size
        self._digest: Any = hashlib.sha256()
        self._to_hash: deque[Future[None]] = deque()
        self._size = 0
        self._etag: str | None = None
        self._attempts = 0

    def __call__(self) -> dict[str, Any]:
        """Fetch the file; return its ``size``, ``sha256`` and ``content_type``.

        :raises WiroOutputError: it cannot be had whole, or this machine cannot hold it.
        """
        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            retry=retry_if_exception(lambda error: isinstance(error, WiroError) and error.retryable),
            wait=wait_random_exponential(multiplier=_PAUSE, max=10),
            reraise=True,
        )
        self._said = time.monotonic()
        watch = threading.Timer(_LONGEST, self._cord.cut)
        watch.daemon = True
        watch.start()
        try:
            with ThreadPoolExecutor(1) as self._hasher:
                retrying(self._attempt)
        except OSError as error:
            raise self._error(f"This machine cannot hold the file: {error}.") from error
        finally:
            watch.cancel()
        return facts(self._size, self._digest.hexdigest(), self._output.content_type)

    def _attempt(self) -> None:
        self._attempts += 1
        try:
            self._ensure_time()
            self._ask()
        except WiroOutputError as error:
            error.wiro_task_id = self._task.wiro_task_id
            if error.http_status in _EXPIRED:
                fresh = self._read_again().outputs
                self._output = fresh[self._index] if self._index < len(fresh) else self._output
            raise
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            self._ensure_time()
            raise self._error(f"The download broke: {type(error).__name__}.") from error

    def _ask(self) -> None:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
        if self._size and self._etag:
            headers |= {"Range": f"bytes={self._size}-", "If-Range": self._etag}
        with ask(self._sources, self._output.url or "", headers, _TIMEOUTS, self._attempts, self._cord) as response:
            self._check(response)
            self._make_room()
            with self._staged.open("r+b" if self._size else "wb") as file:
                file.seek(self._size)
                for block in self._blocks(response):
                    file.write(block)
                    self._hash(block)
                    self._size += len(block)
                    self._guard()
                file.flush()
                os.fsync(file.fileno())
        if self._announced is not None and self._announced != self._size:
            raise self._error(f"The file has {self._size} bytes, and Wiro announces {self._announced}.")
        if not self._size:
            raise self._error("The file cannot be what it claims to be: it is empty.")

    def _blocks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield what arrives, as it arrives: a full block could be long in coming."""
        began, start = time.monotonic(), b"" if not self._size else None
        received = 0
        while block := response.raw.read1(_BLOCK, decode_content=False):
            received += len(block)
            if start is not None:
                start += block
                self._check_start(start)
                start = start if len(start) < _START else None
            yield block
            now = time.monotonic()
            if now - began > _GRACE and received / (now - began) < _SLOWEST:
                raise self._error(f"The CDN sends less than {_SLOWEST} bytes per second.")
        self._ensure_time()  # a file of unknown size that is cut seems to be whole

    def _ensure_time(self) -> None:
        if self._cord.is_cut:
            raise self._error(f"The file is not there after {_LONGEST:g} s.", retryable=False)

    def _hash(self, block: bytes) -> None:
        """Hash a block; of a large file at the same time as the next one arrives and is written."""
        if self._size < _SMALL:
            self._digest.update(block)
            return
        self._to_hash.append(self._hasher.submit(self._digest.update, block))
        if len(self._to_hash) > _AHEAD:
            self._to_hash.popleft().result()

    def _check_start(self, start: bytes) -> None:
        why = contradiction(self._output.content_type, start) if len(start) >= 16 or start[:1] == b"<" else None
        if why is not None:
            self._forget()
            raise self._error(f"The file cannot be what it claims to be: {why}.")

    def _guard(self) -> None:
        most = LARGEST if self._announced is None else self._announced
        if self._size > most:
            size = self._size
            self._forget()
            raise self._error(f"The file has {size} bytes or more, and {most} are announced or allowed.")
        now = time.monotonic()
        if self._announced and now - self._said >= _PROGRESS:
            self._said = now
            self._log.info(
                "Output %d of Wiro task %s: %d %% of %.0f MB",
                self._index + 1,
                self._task.wiro_task_id,
                100 * self._size // self._announced,
                self._announced / 1e6,
            )

    def _check(self, response: requests.Response) -> None:
        """Hold an answer's head against what was asked for."""
        if response.status_code not in (200, 206):
            if response.status_code == 416:
                self._forget()
            raise self._error(
                "The CDN does not give the file; addresses expire after some time.", http_status=response.status_code
            )
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        media_type = response.headers.get("Content-Type", "")
        if encoding not in ("", "identity") or media_type.lower().startswith("text/html"):
            raise self._error(f"The CDN answers with something else than the file ({media_type}, {encoding}).")
        length = whole_number(response.headers.get("Content-Length"))
        if response.status_code == 206:
            self._check_range(response.headers.get("Content-Range", ""), length)
            return
        self._forget()
        etag = response.headers.get("ETag", "").strip()
        self._etag = etag if re.fullmatch(r'"[^"]+"', etag) else None
        self._announced = self._task.outputs[self._index].size
        if self._announced is None:
            self._announced = length
        elif length is not None and length != self._announced:
            raise self._error(f"The CDN announces {length} bytes, and Wiro {self._announced}.")
        if self._announced is not None and self._announced > LARGEST:
            raise self._error(f"The file has {self._announced} bytes, allowed: {LARGEST}.", retryable=False)

    def _check_range(self, given: str, length: int | None) -> None:
        """Take a part of the file only if it goes on where the file broke off."""
        found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", given.strip())
        size = self._size
        if found is not None and size:
            first, last = int(found[1]), int(found[2])
            total = None if found[3] == "*" else int(found[3])
            whole = self._announced in (None, last + 1) and total in (None, last + 1)
            if first == size and whole and length in (None, last + 1 - first):
                return
        self._forget()
        raise self._error(f"The CDN answers with another part of the file than was asked for ({given[:60]!r}).")

    def _make_room(self) -> None:
        missing = (self._announced or 0) - self._size
        free = shutil.disk_usage(self._staged.parent).free
        if missing + _SPARE > free:
            raise OSError(f"{missing} bytes are needed, {free} are free in {self._staged.parent}")

    def _forget(self) -> None:
        """Begin anew: what is there does not belong to what comes."""
        self._digest, self._size, self._etag = hashlib.sha256(), 0, None

    def _error(self, message: str, **facts_of_error: Any) -> WiroOutputError:
        return WiroOutputError(message, wiro_task_id=self._task.wiro_task_id, **facts_of_error)


def facts(size: int, sha256: str, content_type: str) -> dict[str, Any]:
    """Return what manifest and XCom say of every file."""
    return {"size": size, "sha256": sha256, "content_type": content_type}
