"""Parts of files from stores that cannot make addresses for browsers, and which places are allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_wiro.plugin import media


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        (None, (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=990-5000", (990, 1000)),
        ("bytes=990-", (990, 1000)),
        ("bytes=-10", (990, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=0-1,5-6", (0, 1000)),
        ("pages=1", (0, 1000)),
        ("bytes=-0", None),
        ("bytes=1000-", None),
        ("bytes=20-10", None),
    ],
)
def test_a_range_is_read(asked: str | None, span: tuple[int, int] | None) -> None:
    assert media.span_of(asked, 1000) == span


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
