"""Rounds of repair followed datagram by datagram, for many links at once: what a frame lacks, and for how
long.

A round has a copy of each chunk that a frame lost, and behind them further datagrams, any of which may stand
for any chunk (`proto.recovery.policy`). Of each link the state is how many datagrams a frame still lacks, and
whether the last one was lost: losses are Gilbert's, correlated by the packets that lie between two datagrams,
as the table is computed. What lies between a frame and its repair is a round trip, and taken for far enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from farcast.control_plane.network import Bools, Floats
from farcast.proto.recovery.policy import COPIES_SHARE, Row

CHUNKS_FOLLOWED: Final = 8
"""Chunks of one frame that are lost together; more count as so many."""

Time = TypeVar("Time", float, Floats)


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """Of links, ``[link]``: share of packets, mean length of a run of losses."""

    share: Floats
    burst: Floats

    def rho(self, lag: Floats | float) -> Floats:
        """As `policy.correlation`, after so many packets."""
        enter = np.minimum(self.share / self.burst / (1 - self.share), 1.0)
        rho: Floats = np.maximum(1 - 1 / self.burst - enter, 0.0) ** np.maximum(lag, 1.0)
        return rho


def lost_together(losses: Losses, packets: int) -> Floats:
    """``[link, k - 1]``: share of frames of so many packets, one after another, that lose k of them, up to
    `CHUNKS_FOLLOWED`."""
    walk = _Walk(losses, packets)
    for _ in range(packets - 1):
        walk.copy(1.0)
    lost = walk.lacking
    shares = np.zeros((len(lost), CHUNKS_FOLLOWED))
    kept = min(packets, CHUNKS_FOLLOWED)
    shares[:, :kept] = lost[:, :kept]
    shares[:, -1] += lost[:, kept:].sum(axis=1)
    return shares


def part_ends_ms(parts: int, collect_ms: Time, span_ms: Time) -> list[Time]:
    """When each of so many parts of equal length ends, into which the further datagrams of a round fall,
    after it began."""
    return [collect_ms + (span_ms - collect_ms) * part / parts for part in range(1, parts + 1)]


def follow(
    losses: Losses, packets_per_ms: float, rows: Sequence[Row], lost: Floats, parts: int
) -> tuple[list[Floats], Floats]:
    """Rounds of frames that lack chunks as `lost_together` says, by one row for each link. How many of the
    frames still lack any after the copies, and after each of the parts of the rest but the last, ``[link]``;
    and how many lack k datagrams after all, ``[link, k - 1]``."""
    spacing_ms, span_ms, collect_ms = (
        np.array([(row.spacing_us, row.span_us, row.collect_us) for row in rows]).T / 1e3
    )
    ends_ms = part_ends_ms(parts, collect_ms, span_ms)[:-1]
    waiting, lacking = [np.zeros(len(rows)) for _ in range(parts)], np.zeros(lost.shape)
    for k in range(1, lost.shape[1] + 1):
        share, spares = lost[:, k - 1], np.array([row.essential[k - 1] - k for row in rows])
        copy_ms = np.minimum(spacing_ms, span_ms / COPIES_SHARE / k)
        first_ms = np.maximum(collect_ms, k * copy_ms)
        step_ms = np.minimum(spacing_ms, (span_ms - first_ms) / np.maximum(spares - 1, 1))
        walk = _Walk(losses, k)
        for _ in range(k - 1):
            walk.copy(copy_ms * packets_per_ms)
        after = [walk.unsettled] * parts
        for spare in range(int(spares.max())):
            gap_ms = step_ms if spare else first_ms - (k - 1) * copy_ms
            walk.spare(gap_ms * packets_per_ms, spares > spare)
            for part, end_ms in enumerate(ends_ms, 1):
                is_in_time = first_ms + spare * step_ms <= end_ms
                after[part] = np.where(is_in_time, walk.unsettled, after[part])
        waiting = [before + share * more for before, more in zip(waiting, after, strict=True)]
        lacking[:, :k] += share[:, None] * walk.lacking
    return waiting, lacking


class _Walk:
    """One round, begun with its first copy."""

    def __init__(self, losses: Losses, most: int) -> None:
        self._losses = losses
        # [link, whether the last datagram was lost, how many are lacking]
        self._shares = np.zeros((len(losses.share), 2, most + 1))
        self._shares[:, 0, 0], self._shares[:, 1, 1] = 1 - losses.share, losses.share

    def copy(self, lag: Floats | float) -> None:
        """Another copy, so many packets behind: where it is lost, it is lacking."""
        arrived, lost = self._next(lag)
        self._shares[:, 0] = arrived
        self._shares[:, 1, 1:], self._shares[:, 1, 0] = lost[:, :-1], 0.0

    def spare(self, lag: Floats, is_sent: Bools) -> None:
        """A datagram that stands for any that is lacking, of the links where it is sent. Frames that lack
        nothing stay so."""
        arrived, lost = self._next(lag)
        after = np.zeros_like(self._shares)
        after[:, 0, :-1], after[:, 1, 1:] = arrived[:, 1:], lost[:, 1:]
        after[:, 0, 0] += self._shares[:, :, 0].sum(axis=1)
        self._shares = np.where(is_sent[:, None, None], after, self._shares)

    def _next(self, lag: Floats | float) -> tuple[Floats, Floats]:
        """One datagram more: shares where it arrives, and where it is lost."""
        share, rho = self._losses.share, self._losses.rho(lag)
        fall, stay = (share * (1 - rho))[:, None], (share + (1 - share) * rho)[:, None]
        good, bad = self._shares[:, 0], self._shares[:, 1]
        return good * (1 - fall) + bad * (1 - stay), good * fall + bad * stay

    @property
    def lacking(self) -> Floats:
        """``[link, k - 1]``: frames that lack k datagrams."""
        both: Floats = self._shares[:, :, 1:].sum(axis=1)
        return both

    @property
    def unsettled(self) -> Floats:
        """``[link]``: frames that lack any."""
        some: Floats = self.lacking.sum(axis=1)
        return some
