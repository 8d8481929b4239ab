"""What encoder, decoder and burnt-in clock of the demo's film say of `simulations/constants.py`.

The film of ``farcast publish testsrc`` is made and encoded as a publisher does, and decoded as a viewer does,
each frame at its own time at 30 a second (so that a processor that sleeps in between is as slow as in life);
the number in the pixels proves that what was decoded is what was captured. Two times are taken: from capture
to encoded frame, and from there to the picture. Cameras, screens and hardware codecs are not in it.
"""

from __future__ import annotations

import json
import platform
import time
from typing import Any

import av
import numpy as np

from farcast.clients.media.framecode import read_frame_number
from farcast.clients.media.testsrc import TestSource, parse_testsrc
from farcast.simulations.constants import DECODE_VIDEO_US, ENCODE_VIDEO_US

SECONDS = 20
SIZES = ("640x360", "1280x720")


def main() -> None:
    """Measure both sizes; the last line is JSON."""
    figures: dict[str, Any] = {"machine": platform.machine()}
    for size in SIZES:
        encode_us, decode_us = measure(size)
        for name, times, constant in (
            ("encode", encode_us, ENCODE_VIDEO_US),
            ("decode", decode_us, DECODE_VIDEO_US),
        ):
            p50, p90, p99 = (round(float(each) / 1e3, 2) for each in np.quantile(times, (0.5, 0.9, 0.99)))
            print(f"{size:>9} {name}: p50 {p50} ms, p90 {p90} ms, p99 {p99} ms; stated {constant / 1e3} ms")
            figures[f"{name}_{size}_p50_ms"], figures[f"{name}_{size}_p90_ms"] = p50, p90
    print(json.dumps(figures))


def measure(size: str) -> tuple[list[int], list[int]]:
    """Microseconds from capture to encoded frame, and to decoded picture, for each frame."""
    source = TestSource(parse_testsrc(f"testsrc=size={size}:bitrate=2500000:duration={SECONDS}"), now_us)
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    encode_us, decode_us = [], []
    began_us, number = now_us(), 0
    while (due_us := source.next_time_us()) is not None:
        time.sleep(max(began_us + due_us - now_us(), 0) / 1e6)
        frame = next(source)
        if frame.track != "video":
            continue
        encoded_us = now_us()
        if decoder.extradata is None:
            decoder.extradata = source.tracks[0].extradata
        pictures = list(decoder.decode(av.Packet(frame.data)))
        decoded_us = now_us()
        if len(pictures) != 1 or read_frame_number(pictures[0].to_ndarray(format="gray")) != number:
            raise SystemExit(f"frame {number} is not what was decoded")
        number += 1
        encode_us.append(encoded_us - (frame.capture_time_us or 0))
        decode_us.append(decoded_us - encoded_us)
    return encode_us, decode_us


def now_us() -> int:
    """A monotonic clock."""
    return time.monotonic_ns() // 1_000


if __name__ == "__main__":
    main()
