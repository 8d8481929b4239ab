"""Films as files, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av


def packets(file: Path) -> dict[str, list[bytes]]:
    """The encoded samples of each kind (video, audio), in decode order."""
    samples: dict[str, list[bytes]] = {}
    with av.open(str(file)) as film:
        for packet in film.demux():
            if packet.size:
                samples.setdefault(packet.stream.type, []).append(bytes(packet))
    return samples


def keyframes(file: Path) -> list[int]:
    """Indices of the video samples that begin a GOP."""
    with av.open(str(file)) as film:
        video = [packet for packet in film.demux(video=0) if packet.size]
    return [index for index, packet in enumerate(video) if packet.is_keyframe]


def has_b_frames(file: Path) -> bool:
    """Whether pictures are shown in another order than they are decoded in."""
    with av.open(str(file)) as film:
        return any(packet.pts != packet.dts for packet in film.demux(video=0) if packet.size)


def is_tail(part: Sequence[bytes], whole: Sequence[bytes]) -> bool:
    """Whether a late joiner got everything from some sample on, in order, once, unchanged."""
    return 0 < len(part) <= len(whole) and list(part) == list(whole[len(whole) - len(part) :])
