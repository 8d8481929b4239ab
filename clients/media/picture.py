"""The picture of the synthetic film: bars, a moving ball, a clock, the frame number twice.

Drawn with numpy into one YUV 4:2:0 buffer. The still parts are drawn once; a frame is a copy of them plus a
few small rectangles, so that drawing costs a fraction of a millisecond.

::

    +--------------------------------------+
    | frame number for machines (framecode)|
    |  12:34:56.789    wall clock, UTC     |
    |  #000123         frame number        |
    |  colour bars, a ball that bounces    |
    |  once a second a white square flashes|
    +--------------------------------------+
"""

from __future__ import annotations

import av
import numpy as np

from farcast.clients.media.framecode import Image, draw_frame_number, strip_height

SIZE_MIN = (128, 72)

_BLACK, _WHITE, _NEUTRAL = 16, 235, 128
# Luma, Cb, Cr of the eight bars.
_BARS = (
    (180, 128, 128), (162, 44, 142), (131, 156, 44), (112, 72, 58),
    (84, 184, 198), (65, 100, 212), (35, 212, 114), (40, 128, 128),
)  # fmt: skip
# 5 x 7 bitmaps, one row a string of bits.
_GLYPHS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11111 00010 00100 00010 00001 10001 01110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    ":": "00000 00100 00100 00000 00100 00100 00000",
    ".": "00000 00000 00000 00000 00000 01100 01100",
    "#": "01010 01010 11111 01010 11111 01010 01010",
}
_CELL_WIDTH, _CELL_HEIGHT = 6, 9
_DAY_US = 86_400_000_000


class Painter:
    """Draws frames of one size. Width and height must be even."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._scale = max(min(width // (13 * _CELL_WIDTH), height // (4 * _CELL_HEIGHT)), 1)
        self._line = (_CELL_HEIGHT + 2) * self._scale
        self._text_top = strip_height(height) + 2 * self._scale
        self._still = self._draw_still()
        self._glyphs = {text: _glyph(text, self._scale) for text in _GLYPHS}
        self._ball = _draw_ball(max(height // 8, 4) // 2 * 2)

    def paint(self, number: int, clock_us: int, *, flash: bool = False) -> av.VideoFrame:
        """Frame ``number`` with the wall clock ``clock_us`` (microseconds since the Unix epoch)."""
        planes = self._still.copy()
        luma = planes[: self._height]
        self._paint_ball(luma, number)
        if flash:
            self._paint_flash(luma)
        draw_frame_number(luma, number)
        self._paint_text(luma, clock_text(clock_us), self._text_top)
        self._paint_text(luma, f"#{number:06d}", self._text_top + self._line)
        return av.VideoFrame.from_ndarray(planes, format="yuv420p")

    def _draw_still(self) -> Image:
        """The bars, without colour where black and white must be told apart."""
        planes = _draw_bars(self._width, self._height)
        text_width = (2 + 12 * _CELL_WIDTH) * self._scale
        for chroma in _chroma_planes(planes, self._width, self._height):
            chroma[: strip_height(self._height) // 2 + 1] = _NEUTRAL
            chroma[: (self._text_top + 2 * self._line) // 2, : text_width // 2] = _NEUTRAL
        return planes

    def _paint_ball(self, luma: Image, number: int) -> None:
        size = len(self._ball)
        left = _bounce(number * 5, self._width - size)
        top = self._height // 2 + _bounce(number * 3, self._height // 2 - size)
        area = luma[top : top + size, left : left + size]
        np.copyto(area, _WHITE, where=self._ball)

    def _paint_flash(self, luma: Image) -> None:
        size = self._height // 6
        luma[-size:, -size:] = _WHITE

    def _paint_text(self, luma: Image, text: str, top: int) -> None:
        left = 2 * self._scale
        for character in text:
            glyph = self._glyphs[character]
            area = luma[top : top + glyph.shape[0], left : left + glyph.shape[1]]
            area[:] = glyph[: area.shape[0], : area.shape[1]]
            left += glyph.shape[1]


def clock_text(clock_us: int) -> str:
    """Time of day (UTC) with milliseconds: ``HH:MM:SS.mmm``."""
    milliseconds = clock_us % _DAY_US // 1000
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"


def _draw_bars(width: int, height: int) -> Image:
    """All three planes as one array of shape (height * 3 / 2, width)."""
    bars = np.array(_BARS, dtype=np.uint8)
    luma = np.tile(bars[np.arange(width) * len(bars) // width, 0], (height, 1))
    half = np.arange(width // 2) * len(bars) * 2 // width
    chroma = [np.tile(bars[half, plane], (height // 2, 1)).reshape(-1) for plane in (1, 2)]
    planes: Image = np.concatenate([luma.reshape(-1), *chroma]).reshape(height * 3 // 2, width)
    return planes


def _chroma_planes(planes: Image, width: int, height: int) -> list[Image]:
    """Views of the two chroma planes."""
    flat, size = planes.reshape(-1), width * height
    return [
        flat[start : start + size // 4].reshape(height // 2, width // 2) for start in (size, size + size // 4)
    ]


def _draw_ball(size: int) -> Image:
    axis = np.arange(size) - (size - 1) / 2
    disc: Image = axis[:, None] ** 2 + axis[None, :] ** 2 <= (size / 2) ** 2
    return disc


def _glyph(character: str, scale: int) -> Image:
    rows = [[int(bit) for bit in row] for row in _GLYPHS[character].split()]
    cell = np.zeros((_CELL_HEIGHT, _CELL_WIDTH), dtype=np.uint8)
    cell[1:8, :5] = rows
    levels = np.where(cell, _WHITE, _BLACK).astype(np.uint8)
    scaled: Image = levels.repeat(scale, axis=0).repeat(scale, axis=1)
    return scaled


def _bounce(position: int, span: int) -> int:
    """A position that runs to and fro between 0 and ``span``."""
    if span <= 0:
        return 0
    phase = position % (2 * span)
    return phase if phase < span else 2 * span - phase
