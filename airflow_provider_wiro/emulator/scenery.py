"""The pictures: a landscape whose colours, hills and sun come from prompt and seed, with the prompt in it.

They are put together straight in the planes that H.264 wants (Y at full size, Cb and Cr at half), which costs
a fraction of drawing in RGB.
"""

from __future__ import annotations

import colorsys
import functools
import hashlib
import math
import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from airflow_provider_wiro.emulator.lettering import Font, fit, own, printable
from airflow_provider_wiro.emulator.studio import Order

_WHITE = (255, 255, 255)
# Pillow's YCbCr uses the whole range; video uses 16 to 235 (Y) and 16 to 240 (Cb, Cr).
_LUMA = [round(16 + value * 219 / 255) for value in range(256)]
_CHROMA = [round(128 + (value - 128) * 224 / 255) for value in range(256)]

Colour = tuple[int, int, int]
# Hours of the day: the sky from the top to the horizon, the sun or moon, the far hills and the near ones.
_HOURS: tuple[tuple[Colour, Colour, Colour, Colour, Colour, Colour], ...] = (
    ((38, 43, 84), (150, 92, 128), (252, 176, 120), (255, 236, 196), (112, 78, 118), (40, 34, 66)),
    ((32, 82, 130), (96, 156, 190), (236, 222, 190), (255, 248, 222), (84, 134, 152), (22, 54, 78)),
    ((60, 26, 66), (176, 60, 78), (250, 164, 84), (255, 224, 150), (134, 56, 78), (48, 22, 46)),
    ((10, 14, 42), (30, 42, 96), (104, 100, 168), (236, 240, 255), (52, 54, 108), (12, 14, 36)),
    ((54, 120, 140), (122, 184, 176), (240, 232, 200), (255, 250, 230), (94, 152, 140), (30, 72, 72)),
    ((94, 60, 110), (206, 120, 150), (252, 212, 196), (255, 244, 226), (160, 98, 136), (66, 40, 74)),
    ((110, 70, 40), (206, 136, 66), (252, 218, 140), (255, 246, 210), (164, 104, 60), (66, 38, 30)),
    ((40, 60, 100), (120, 156, 196), (224, 234, 244), (255, 255, 250), (120, 148, 182), (40, 56, 90)),
)


class Planes:
    """A picture as video sees it."""

    def __init__(self, picture: Image.Image) -> None:
        """Convert.

        :param picture: RGB, or RGBA where some of it is to be seen through. Width and height are even.
        """
        half = (picture.width // 2, picture.height // 2)
        y, cb, cr = picture.convert("RGB").convert("YCbCr").split()
        self.planes = (
            y.point(_LUMA),
            cb.resize(half, Image.Resampling.BOX).point(_CHROMA),
            cr.resize(half, Image.Resampling.BOX).point(_CHROMA),
        )
        mask = picture.getchannel("A") if picture.mode == "RGBA" else None
        small = mask.resize(half, Image.Resampling.BOX) if mask else None
        self.masks = (mask, small, small)

    def paste(self, canvas: list[Image.Image], x: int, y: int) -> None:
        """Lay this picture over another one's planes.

        :param canvas: Y, Cb and Cr.
        :param x: pixels from the left, rounded down to an even number.
        :param y: pixels from the top, rounded down to an even number.
        """
        for below, plane, mask, scale in zip(canvas, self.planes, self.masks, (1, 2, 2), strict=True):
            below.paste(plane, (x // 2 * 2 // scale, y // 2 * 2 // scale), mask)


def _turn(colour: Colour, hue: float) -> Colour:
    """Return the colour with its hue turned a little (1 is once around)."""
    own, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    red, green, blue = (round(part * 255) for part in colorsys.hsv_to_rgb((own + hue) % 1, saturation, value))
    return red, green, blue


def _between(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _even(number: float) -> int:
    return int(number) // 2 * 2


def _gradient(width: int, height: int, colours: list[Colour]) -> Image.Image:
    column = Image.new("RGB", (1, len(colours)))
    column.putdata(colours)
    return column.resize((width, height), Image.Resampling.BICUBIC)


def _sun(size: int, colour: Colour) -> Image.Image:
    disc = Image.new("L", (size, size), 0)
    edge = size * 0.32
    ImageDraw.Draw(disc).ellipse((edge, edge, size - edge, size - edge), fill=255)
    glow = disc.filter(ImageFilter.GaussianBlur(size * 0.09)).point([value * 2 // 5 for value in range(256)])
    sun = Image.new("RGBA", (size, size), colour)
    sun.putalpha(ImageChops.lighter(disc.filter(ImageFilter.GaussianBlur(1)), glow))
    return sun


def _hills(dice: random.Random, width: int, height: int, colour: Colour) -> Image.Image:
    waves = [(dice.uniform(0.5, 1), dice.uniform(0, math.tau), count) for count in (1, 2.3, 4.1)]
    scale = math.tau / max(width, 600)
    ridge = []
    for x in range(0, width + 8, 8):
        lift = sum(size / count * math.sin(phase + x * scale * count) for size, phase, count in waves)
        ridge.append((x, height * (0.35 - 0.2 * lift)))
    # Drawn twice as large, for a smooth ridge.
    mask = Image.new("L", (width * 2, height * 2), 0)
    outline = [*ridge, (width, height), (0, height)]
    ImageDraw.Draw(mask).polygon([(x * 2, y * 2) for x, y in outline], fill=255)
    mask = mask.resize((width, height), Image.Resampling.BOX)
    hills = _gradient(width, height, [colour, _between(colour, (0, 0, 0), 0.3)])
    hills.putalpha(mask)
    return hills


def _plate(width: int, height: int, radius: float, strength: int) -> Image.Image:
    plate = Image.new("RGBA", (width, height), (12, 14, 22, 0))
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), radius, fill=strength)
    plate.putalpha(mask)
    return plate


def _write(plate: Image.Image, place: tuple[float, float], text: str, font: Font, strength: int = 255) -> None:
    ImageDraw.Draw(plate).text(place, text, font=font, fill=(*_WHITE, strength))


def _caption(order: Order) -> Image.Image:
    """Return the prompt on a dark plate, with what was ordered below it."""
    short = min(order.width, order.height)
    width, pad = _even(order.width * 0.92), short // 28
    prompt = printable(order.prompt) or "(no prompt)"
    font, lines = fit(prompt, width - 2 * pad, int(order.height * 0.42), max(16, short // 17))
    step = font.size * 1.3
    small = own(max(11, short // 34))
    height = _even(2 * pad + step * len(lines) + small.size * 1.7)
    plate = _plate(width, height, short / 30, 176)
    for number, line in enumerate(lines):
        _write(plate, (pad, pad * 0.8 + number * step), line, font)
    details = f"seed {order.seed}    {order.width} x {order.height}    {order.fps} fps    {order.seconds} s"
    _write(plate, (pad, height - pad * 0.8 - small.size * 1.2), details, small, 205)
    return plate


def _label(text: str, size: int) -> Image.Image:
    font = own(size)
    width = _even(font.getlength(text) + size * 1.6)
    plate = _plate(width, _even(size * 2), size, 150)
    _write(plate, (size * 0.8, size * 0.35), text, font)
    return plate


class Scene:
    """A landscape that moves."""

    def __init__(self, order: Order) -> None:
        """Make its parts.

        :param order: what to draw; colours and shapes come from prompt and seed.
        """
        self.order = order
        prompt = order.prompt.encode("utf-8", "replace")
        self._dice = random.Random(hashlib.sha256(prompt + b"\0" + str(order.seed).encode()).digest())
        turn = self._dice.uniform(-0.03, 0.03)
        top, middle, horizon, sun, far, near = (_turn(colour, turn) for colour in self._dice.choice(_HOURS))
        self._short = min(order.width, order.height)
        self._drift = 0 if order.camera_fixed else 2
        self._sky = Planes(_gradient(order.width, _even(order.height * 1.15), [top, middle, horizon]))
        self._sun = Planes(_sun(_even(self._short * 0.62), sun))
        self._sun_side = self._dice.choice((-1, 1))
        self._hills = [
            Planes(
                _hills(
                    self._dice,
                    order.width + self._drift * number * order.seconds * order.fps // 2 + 2,
                    _even(order.height * share),
                    _between(far, near, (number - 1) / 2),
                )
            )
            for number, share in ((1, 0.52), (2, 0.40), (3, 0.28))
        ]
        self._caption = Planes(_caption(order))
        small = max(11, self._short // 30)
        self._title = Planes(_label("Local Wiro", small))
        self._mark = Planes(_label("AI generated", small)) if order.watermark else None
        self._clocks = functools.lru_cache(maxsize=2)(lambda text: Planes(_label(text, small)))

    def draw(self, number: int, canvas: list[Image.Image]) -> None:
        """Draw one frame over whatever is there.

        :param number: of the frame, from 0.
        :param canvas: Y, Cb and Cr; they may be wider than the picture.
        """
        order = self.order
        done = number / (order.seconds * order.fps)
        # The sky sinks by whole pixels, slowly, so that most of the picture stays what it was: small files.
        self._sky.paste(canvas, 0, -_even(order.height * 0.12 * done))
        size = self._sun.planes[0].width
        across = 0.5 + self._sun_side * (done - 0.5) * 0.7
        rise = math.sin(math.pi * (0.2 + 0.6 * done))
        self._sun.paste(
            canvas, int(order.width * across - size / 2), int(order.height * (0.62 - 0.42 * rise) - size / 2)
        )
        for index, hills in enumerate(self._hills, start=1):
            shift = self._drift * index * number // 2
            hills.paste(canvas, -shift, order.height - hills.planes[0].height)
        self._letter(canvas, number)

    def _letter(self, canvas: list[Image.Image], number: int) -> None:
        order, edge = self.order, _even(self._short * 0.035)
        caption = self._caption.planes[0]
        self._caption.paste(canvas, (order.width - caption.width) // 2, order.height - caption.height - edge)
        self._title.paste(canvas, edge, edge)
        tenths = number * 10 // order.fps
        clock = self._clocks(f"{tenths // 10}.{tenths % 10} s")
        clock.paste(canvas, order.width - clock.planes[0].width - edge, edge)
        if self._mark is not None:
            below = edge + _even(self._title.planes[0].height * 1.3)
            self._mark.paste(canvas, order.width - self._mark.planes[0].width - edge, below)
