"""Parts of files from stores that cannot make addresses for browsers, and which places are allowed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from airflow_provider_wiro.plugin import media


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        (None, (0, 10, False)),
        ("bytes=0-3", (0, 4, True)),
        ("bytes=4-", (4, 10, True)),
        ("bytes=-3", (7, 10, True)),
        ("bytes=-99", (0, 10, True)),
        ("bytes=9-99", (9, 10, True)),
        ("bytes=10-", None),
        ("bytes=-0", None),
        ("bytes=5-2", (0, 10, False)),
        ("bytes=-", (0, 10, False)),
        ("bytes=0-1,3-4", (0, 10, False)),
        ("bytes=\u0661-", (0, 10, False)),
        ("lines=1-2", (0, 10, False)),
        (f"bytes={'9' * 50}-", (0, 10, False)),
    ],
)
def test_a_range_is_a_part_or_all_or_nothing(asked: str | None, span: tuple[int, int, bool] | None) -> None:
    assert media.span_of(asked, 10) == span


def test_no_part_of_nothing_can_be_had() -> None:
    assert media.span_of(None, 0) == (0, 0, False)
    assert media.span_of("bytes=0-", 0) is None
    assert media.span_of("bytes=-5", 0) is None


@pytest.fixture
def option(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    media._roots_of.cache_clear()
    return monkeypatch


def test_nothing_is_served_by_default(option: pytest.MonkeyPatch) -> None:
    option.delenv("AIRFLOW__WIRO__UI_MEDIA_ROOTS", raising=False)
    assert not media.allowed_roots().admit("/data/videos/a.mp4")


def test_a_root_that_cannot_be_understood_is_told_once_by_its_name(
    option: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    bad = ["videos", "/", "/data/../etc", "s3:///x", "file://host/x"]
    option.setenv("AIRFLOW__WIRO__UI_MEDIA_ROOTS", f"{tmp_path}\n" + ", ".join(bad))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert media.allowed_roots().admit(f"{tmp_path}/a.mp4")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(bad)
    assert all(repr(root) in line for root, line in zip(bad, told, strict=True))
    assert not media.allowed_roots().admit("/etc/passwd")


FILM = bytes(range(256)) * 10_000  # more than two blocks


@pytest.fixture
def unsigned(tmp_path: Path) -> ObjectStoragePath:
    """A file in a store that signs no addresses, as a disk is one."""
    (tmp_path / "a.mp4").write_bytes(FILM)
    return ObjectStoragePath(f"file://{tmp_path}/a.mp4")


def asked(path: ObjectStoragePath, method: str = "GET", **headers: str) -> Response:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": method, "headers": raw, "path": "/media", "query_string": b""})
    return media._from_store(path, "video/mp4", media._HEADERS, request)


def body_of(answer: Response) -> bytes:
    async def read() -> bytes:
        assert isinstance(answer, StreamingResponse)
        return b"".join([bytes(block) async for block in answer.body_iterator])  # type: ignore[arg-type]

    return asyncio.run(read())


def test_where_no_address_can_be_signed_the_bytes_come_through(unsigned: ObjectStoragePath) -> None:
    whole = asked(unsigned)
    assert (whole.status_code, body_of(whole)) == (200, FILM)
    assert whole.headers["content-encoding"] == "identity"
    part = asked(unsigned, range="bytes=1000000-2200000")
    assert (part.status_code, body_of(part)) == (206, FILM[1_000_000:2_200_001])
    assert part.headers["content-range"] == f"bytes 1000000-2200000/{len(FILM)}"
    head = asked(unsigned, "HEAD")
    assert (head.headers["content-length"], body_of(head)) == (str(len(FILM)), b"")


def test_a_part_of_another_version_is_the_whole(unsigned: ObjectStoragePath) -> None:
    tag = asked(unsigned).headers["etag"]
    assert asked(unsigned, range="bytes=0-9", if_range=tag).status_code == 206
    Path(unsigned.path).write_bytes(FILM[::-1])
    assert asked(unsigned).headers["etag"] != tag
    assert asked(unsigned, range="bytes=0-9", if_range=tag).status_code == 200


def test_a_folder_of_a_store_is_no_file(unsigned: ObjectStoragePath) -> None:
    with pytest.raises(FileNotFoundError):
        asked(unsigned.parent)


def test_a_part_is_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "_BLOCK", 7)
    content = bytes(range(100))
    (tmp_path / "film.mp4").write_bytes(content)
    blocks = list(media.blocks_of(ObjectStoragePath(f"file://{tmp_path}/film.mp4"), 3, 40))
    assert (b"".join(blocks), max(map(len, blocks))) == (content[3:40], 7)


@pytest.mark.parametrize("text", ["", "  ", "nonsense", "s3:///shown", "/", "file:///", "../videos", "/videos/../etc"])
def test_a_place_that_means_nothing_admits_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__WIRO__UI_MEDIA_ROOTS", text)
    roots = media.allowed_roots()
    assert roots.roots == ()
    assert not roots.admit("/videos/1.mp4")


def test_several_places_are_separated_by_commas_or_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__WIRO__UI_MEDIA_ROOTS", "/videos/, s3://store@bucket\nfile:///more")
    roots = media.allowed_roots()
    for uri in ("/videos/a/1.mp4", "file:///videos/1.mp4", "s3://store@bucket/1.mp4", "/more/1.mp4"):
        assert roots.admit(uri), uri
    for uri in ("/videos", "/videosx/1.mp4", "s3://bucket/1.mp4", "s3://store@bucket", "gs://store@bucket/1.mp4"):
        assert not roots.admit(uri), uri
