"""Words in pictures: fonts that have the characters, lines that fit."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator

from PIL import ImageFont

_LONGEST_TEXT = 1200
_SMALLEST = 11
# Pillow's own font is used where it has all characters, else the first of these with the fewest gaps.
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arialuni.ttf",
    "Arial.ttf",
)

Font = ImageFont.FreeTypeFont


@functools.lru_cache(maxsize=64)
def load(name: str, size: int) -> Font | None:
    """Return a font, None if this machine does not have it.

    :param name: its file; empty for Pillow's own.
    :param size: pixels.
    """
    try:
        if not name:
            default = ImageFont.load_default(size)
            return default if isinstance(default, Font) else None
        # The simple layout: the complex one is slower, and not needed to recognise a prompt.
        return ImageFont.truetype(name, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        return None


def own(size: int) -> Font:
    """Return Pillow's own font.

    :param size: pixels.
    """
    font = load("", size)
    if font is None:
        raise RuntimeError("this Pillow was built without FreeType")
    return font


def _gaps(font: Font, text: str) -> int:
    """Return how many characters a font does not have: they look like the one that no font has."""
    nothing = font.getmask("\U0010ffff")
    missing = (nothing.size, bytes(nothing))
    count = 0
    for character in set(text) - set(" \n"):
        glyph = font.getmask(character)
        count += (glyph.size, bytes(glyph)) == missing
    return count


@functools.lru_cache(maxsize=64)
def _best_name(text: str) -> str:
    best, fewest = "", sys.maxsize
    for name in ("", *_FONTS):
        font = load(name, 24)
        if font is None:
            continue
        gaps = _gaps(font, text)
        if gaps < fewest:
            best, fewest = name, gaps
        if not gaps:
            break
    return best


def printable(text: str) -> str:
    """Return the text without what no picture shows: control characters, direction marks, surrogates."""
    text = text.encode("utf-8", "replace").decode()
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:_LONGEST_TEXT]


def _words(text: str, font: Font, width: int) -> Iterator[str]:
    """Yield words, those that are too long for a line in pieces (and so every script without spaces)."""
    for word in text.split(" "):
        piece = ""
        for letter in word:
            if piece and font.getlength(piece + letter) > width:
                yield piece
                piece = ""
            piece += letter
        yield piece + " "


def wrap(text: str, font: Font, width: int) -> list[str]:
    """Return the text in lines.

    :param text: one paragraph.
    :param font: decides what fits.
    :param width: pixels.
    """
    lines = [""]
    for word in _words(text, font, width):
        if lines[-1] and font.getlength((lines[-1] + word).rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]


def fit(text: str, width: int, height: int, largest: int) -> tuple[Font, list[str]]:
    """Return the largest font, and the lines, with which a text fits; a text that never does is cut.

    :param text: one paragraph.
    :param width: pixels.
    :param height: pixels.
    :param largest: font size to begin with.
    """
    name = _best_name(text)
    font = own(largest)
    lines = [text]
    smallest = max(_SMALLEST, largest // 3)
    for size in range(largest, smallest - 1, -1):
        font = load(name, size) or font
        lines = wrap(text, font, width)
        if len(lines) * size * 1.3 <= height:
            return font, lines
    lines = lines[: max(1, int(height / (smallest * 1.3)))]
    lines[-1] = lines[-1][:-1].rstrip() + "..."
    return font, lines
