"""A frame number that a machine reads out of pixels, after encoding, scaling and a screenshot.

A strip across the full width of the picture's top edge holds 32 black or white cells, each a 32nd of the
width wide and as high as 1/18 of the picture (20 x 20 pixels at 640 x 360, at least 16 x 16 from 512 x 288
up)::

    cell   0      1      2 ……………………………… 25       26 ………… 29    30     31
           white  black  24 bits of the frame   4 bits of    black  white
                         number, highest first  checksum

Everything is relative to the picture, so a scaled or stretched picture reads like the original: crop to
the picture, nothing else. The cells at both ends give the levels of black and white; a cell is judged by
its middle half, and one that is neither clearly black nor clearly white makes the whole reading fail, as
does the checksum. Numbers count modulo 2**24.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Image = np.ndarray[Any, np.dtype[Any]]

CELLS = 32
NUMBER_BITS = 24
NUMBER_MAX = (1 << NUMBER_BITS) - 1
STRIP_HEIGHT_RATIO = 18

_BLACK_LUMA = 16
_WHITE_LUMA = 235
_CONTRAST_MIN = 60.0
_MARGIN_RATIO = 0.15
_CHECKSUM_BITS = 4


def strip_height(height: int) -> int:
    """Height of the strip in a picture of ``height`` pixels."""
    return height // STRIP_HEIGHT_RATIO


def draw_frame_number(luma: Image, number: int) -> None:
    """Draw the strip for ``number`` into a luma plane (height, width), uint8, video range."""
    height, width = luma.shape
    levels = np.where(_cells_of(number & NUMBER_MAX), _WHITE_LUMA, _BLACK_LUMA).astype(np.uint8)
    columns = np.arange(width) * CELLS // width
    luma[: strip_height(height)] = levels[columns]


def read_frame_number(image: Image) -> int | None:
    """The number in a picture, None if it cannot be read for certain.

    ``image`` is a luma plane (height, width) or RGB/RGBA (height, width, 3 or 4), uint8, of exactly the
    picture, at any scale from 256 pixels of width up.
    """
    luma = image if image.ndim == 2 else image[:, :, :3].mean(axis=2)
    height, width = luma.shape
    if width < 8 * CELLS or strip_height(height) < 4:
        return None
    levels = _cell_levels(np.asarray(luma[: strip_height(height)], dtype=np.float64))
    white = float(min(levels[0], levels[CELLS - 1]))
    black = float(max(levels[1], levels[CELLS - 2]))
    if white - black < _CONTRAST_MIN:
        return None
    middle, margin = (white + black) / 2, (white - black) * _MARGIN_RATIO
    if bool(np.any(np.abs(levels - middle) < margin)):
        return None
    bits = [int(level > middle) for level in levels]
    number = int("".join(map(str, bits[2 : 2 + NUMBER_BITS])), 2)
    return number if bits == _cells_of(number) else None


def _cells_of(number: int) -> list[int]:
    checksum = (number * 0x9E3779B1 & 0xFFFFFFFF) >> (32 - _CHECKSUM_BITS)
    bits = f"10{number:0{NUMBER_BITS}b}{checksum:0{_CHECKSUM_BITS}b}01"
    return [int(bit) for bit in bits]


def _cell_levels(strip: Image) -> Image:
    """Mean level of the middle half of each cell."""
    height, width = strip.shape
    rows = strip[height // 4 : max(height * 3 // 4, height // 4 + 1)].mean(axis=0)
    edges = (np.arange(CELLS) + 0.25) * width / CELLS
    return np.array([rows[int(left) : int(left + width / CELLS / 2) + 1].mean() for left in edges])
