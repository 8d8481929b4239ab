"""The last hour of every directed link, a minute at a time.

Once a second the newest round trips are taken into running figures; at the end of a minute they become one
`Minute`, with the packets due and lost in that minute, and the oldest of `MINUTES` is dropped. A minute holds
only links that were measured in it, as columns of small numbers (22 bytes a link), so an hour of 200 edges is
some 53 MB and of six edges nothing. What is beyond `LINKS_MAX` is left out and counted.

Nothing here is persistent: a control plane that starts anew begins an hour anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.network import Bools, Floats, Indices

MINUTES: Final = 60
MINUTE_US: Final = 60_000_000
LINKS_MAX: Final = 40_000
"""Of one minute: every link between 200 edges."""


class LinkMinute(NamedTuple):
    """One link in one minute. ``unix_s``: its end; ``rtt_ms`` the mean of what was read once a second;
    ``packets`` due from ``src`` at ``dst``, ``lost`` those that never came, in ``runs`` of losses."""

    unix_s: int
    rtt_min_ms: float
    rtt_ms: float
    rtt_max_ms: float
    packets: int
    lost: int
    runs: int


@dataclass(frozen=True, slots=True)
class _Minute:
    unix_s: int
    names: tuple[str, ...]
    src: NDArray[np.uint16]
    dst: NDArray[np.uint16]
    rtts_ms: NDArray[np.float16]
    """``[least, mean, greatest][link]``"""
    counts: NDArray[np.uint32]
    """``[packets / lost / runs][link]``"""


class LinkHistory:
    """Arrays given are ``[src, dst]`` by slot, of any size that does not shrink."""

    def __init__(self, now_us: int) -> None:
        self.links_left_out = 0
        """In all minutes so far."""
        self._minutes: deque[_Minute] = deque(maxlen=MINUTES)
        self._due_us = now_us + MINUTE_US
        self._start(0)

    def sample(self, rtt_ms: Floats, known: Bools) -> None:
        """Take in round trips as they are now; of links not ``known``, or not measured, nothing."""
        if len(known) > len(self._count):
            self._grow(len(known))
        there = known & (rtt_ms > 0)
        self._count += there
        self._sum += np.where(there, rtt_ms, 0.0)
        np.minimum(self._least, rtt_ms, out=self._least, where=there)
        np.maximum(self._most, rtt_ms, out=self._most, where=there)

    def is_due(self, now_us: int) -> bool:
        """Whether the minute is over, and `close` is to be called."""
        return now_us >= self._due_us

    def close(
        self,
        names: Sequence[str],
        slots: Indices,
        counts: NDArray[np.uint32],
        now_us: int,
        unix_us: int,
    ) -> None:
        """End the minute. ``names[k]`` is in ``slots[k]``; ``counts[packets / lost / runs]`` are those of the
        minute by slot."""
        block = np.ix_(slots, slots)
        src, dst = np.nonzero(self._count[block])
        self.links_left_out += max(len(src) - LINKS_MAX, 0)
        src, dst = src[:LINKS_MAX], dst[:LINKS_MAX]
        at = slots[src], slots[dst]
        rtts = np.stack([self._least[at], self._sum[at] / self._count[at], self._most[at]])
        minute = _Minute(
            unix_us // 1_000_000,
            tuple(names),
            src.astype(np.uint16),
            dst.astype(np.uint16),
            np.minimum(rtts, np.finfo(np.float16).max).astype(np.float16),
            counts[:, *at],
        )
        self._minutes.append(minute)
        self._start(len(self._count))
        self._due_us += MINUTE_US
        if self._due_us <= now_us:
            self._due_us = now_us + MINUTE_US

    def links(
        self, src: str | None = None, dst: str | None = None
    ) -> dict[tuple[str, str], list[LinkMinute]]:
        """Links and their minutes, the oldest first; of one sender, one receiver, or all."""
        found: dict[tuple[str, str], list[LinkMinute]] = {}
        for minute in self._minutes:
            for key, row in _rows(minute, src, dst):
                found.setdefault(key, []).append(row)
        return dict(sorted(found.items()))

    def _start(self, slots: int) -> None:
        self._count = np.zeros((slots, slots), np.uint8)
        self._sum = np.zeros((slots, slots), np.float32)
        self._least = np.full((slots, slots), np.inf, np.float32)
        self._most = np.zeros((slots, slots), np.float32)

    def _grow(self, slots: int) -> None:
        more = ((0, slots - len(self._count)),) * 2
        self._count, self._sum = np.pad(self._count, more), np.pad(self._sum, more)
        self._least = np.pad(self._least, more, constant_values=np.inf)
        self._most = np.pad(self._most, more)


def _rows(minute: _Minute, src: str | None, dst: str | None) -> Iterator[tuple[tuple[str, str], LinkMinute]]:
    wanted = np.ones(len(minute.src), np.bool_)
    for name, column in ((src, minute.src), (dst, minute.dst)):
        if name is not None:
            if name not in minute.names:
                return
            wanted &= column == minute.names.index(name)
    at = np.flatnonzero(wanted)
    least, mean, most = (row.tolist() for row in minute.rtts_ms[:, at].astype(np.float64))
    ends = (minute.src[at].tolist(), minute.dst[at].tolist())
    for a, b, *figures in zip(*ends, least, mean, most, *minute.counts[:, at].tolist(), strict=True):
        yield (minute.names[a], minute.names[b]), LinkMinute(minute.unix_s, *figures)
