"""Gives decode times back to frames that arrive in decode order with presentation times only.

Decode times are the presentation times of the same frames in rising order, moved earlier until no frame is
presented before it is decoded. Frames of a GOP are held until the next one begins, because only then all of
its presentation times are known. The move found at first stays; where a later GOP would need a larger one,
decode times are squeezed.
"""

from __future__ import annotations

from dataclasses import replace

from farcast.clients.media.tracks import Sample

HELD_FRAMES_MAX = 1200
HELD_BYTES_MAX = 64_000_000
"""A GOP larger than either limit is let go in parts."""


class DecodeClock:
    """Fills in the decode times of one video track."""

    def __init__(self) -> None:
        self._held: list[Sample] = []
        self._held_bytes = 0
        self._delay: int | None = None
        self._last_dts: int | None = None

    def push(self, sample: Sample) -> list[Sample]:
        """Add the next frame; returns the frames whose decode time is now known."""
        full = len(self._held) >= HELD_FRAMES_MAX or self._held_bytes >= HELD_BYTES_MAX
        ready = self.flush() if sample.keyframe or full else []
        self._held.append(sample)
        self._held_bytes += len(sample.data)
        return ready

    def flush(self) -> list[Sample]:
        """The held frames."""
        held, self._held, self._held_bytes = self._held, [], 0
        order = sorted(sample.pts for sample in held)
        if self._delay is None and held:
            self._delay = max(at - sample.pts for at, sample in zip(order, held, strict=True))
        return [self._timed(sample, at) for at, sample in zip(order, held, strict=True)]

    def _timed(self, sample: Sample, at: int) -> Sample:
        dts = min(at - (self._delay or 0), sample.pts)
        if self._last_dts is not None:
            dts = max(dts, self._last_dts + 1)
        self._last_dts = dts
        return replace(sample, dts=dts)
