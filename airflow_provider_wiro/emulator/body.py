"""Reads what a request brings: JSON, or a form with files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from airflow_provider_wiro.emulator.account import RefusedError

MAX_BYTES = 100 * 1024 * 1024
_INVALID = "Request parameters are invalid."


@dataclass(frozen=True)
class Upload:
    """A file that came along."""

    name: str
    content_type: str
    data: bytes


@dataclass(frozen=True)
class Body:
    """The fields and files of a request."""

    fields: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, Upload] = field(default_factory=dict)

    def text(self, *names: str) -> str:
        """Return the first of these fields that is there, as text; empty if none is."""
        for name in names:
            value = self.fields.get(name)
            if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
                return str(value)
        return ""

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a field as a whole number.

        :raises RefusedError: with Wiro's documented words if it is none, or out of range.
        """
        text = self.text(name) or str(default)
        if not text.isascii() or not text.isdigit():
            raise RefusedError(0, f"Request parameter [{name}] must be integer or float")
        if not low <= int(text[:18]) <= high:
            raise RefusedError(0, f"Request parameter [{name}] must be between {low} and {high}")
        return int(text)


async def _read_form(request: Request) -> Body:
    fields: dict[str, object] = {}
    files: dict[str, Upload] = {}
    try:
        async with request.form() as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    kind = value.content_type or "application/octet-stream"
                    files[name] = Upload(value.filename or "file", kind, await value.read())
                else:
                    fields[name] = value
    except MultiPartException as broken:
        raise RefusedError(0, _INVALID) from broken
    return Body(fields, files)


async def read_body(request: Request) -> Body:
    """Return the fields and files of a request.

    The sheet's curl lines put a multipart header without a boundary over a JSON body, so only a boundary
    makes a form.

    :param request: its size is limited to 100 MB, as Wiro's documentation says of uploads.
    :raises RefusedError: for anything that is neither JSON nor a form.
    """
    if int(request.headers.get("content-length", "0")) > MAX_BYTES + 64 * 1024:
        raise RefusedError(0, "Request files are larger than 100 MB.")
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith("application/x-www-form-urlencoded") or (kind.startswith("multipart/") and "boundary=" in kind):
        return await _read_form(request)
    raw = await request.body()
    try:
        fields = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as broken:
        raise RefusedError(0, _INVALID) from broken
    if not isinstance(fields, dict):
        raise RefusedError(0, _INVALID)
    return Body(fields)
