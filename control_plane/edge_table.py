"""Figures of all edges laid flat, so that those of many paths are a few lookups.

An edge stands at ``src * nodes + dst``; the place after the last is that of no edge, all zeros, with which
short paths are filled up. What adds up along a path stands side by side in a row per edge: one lookup of an
edge brings all of it. Repair does not add up, and few paths wait for any at p99 (`frame_delay`): only theirs
is looked at edge by edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from farcast.control_plane.frame_delay import TAIL, HopDelays, repair_ms
from farcast.control_plane.network import Floats, Indices

_BASE, _JITTER, _HIT, _LOG_LOSS = range(4)


@dataclass(frozen=True, slots=True)
class Partial:
    """What is known of paths without the repair of all their edges together; arrays of one shape.

    ``base_ms``, ``jitter_ms2`` (squares) add up along a path; ``repair_ms``: of the edge that takes longest.
    """

    base_ms: Floats
    jitter_ms2: Floats
    repair_ms: Floats

    def at(self, which: Indices) -> Partial:
        """Those of the paths at ``which``, in arrays of its shape."""
        return Partial(self.base_ms[which], self.jitter_ms2[which], self.repair_ms[which])

    def then(self, rest: Partial) -> Partial:
        """Of these paths, each with another behind it."""
        return Partial(
            self.base_ms + rest.base_ms,
            self.jitter_ms2 + rest.jitter_ms2,
            np.maximum(self.repair_ms, rest.repair_ms),
        )

    @property
    def least_ms(self) -> Floats:
        """A bound below the p99 delay, ms: p99 of a sum is not below that of any part."""
        least: Floats = self.base_ms + self.repair_ms + np.sqrt(self.jitter_ms2)
        return least


class EdgeTable:
    """Of ``hops`` and ``log_loss``, the negative logarithm of what arrives, in arrays of one shape, such as
    ``[src, dst]``. ``no_edge``: the place after the last."""

    def __init__(self, hops: HopDelays, log_loss: Floats) -> None:
        rows = np.stack([hops.base_ms, hops.jitter_ms**2, hops.tails[..., 0], log_loss], axis=-1)
        self.no_edge: Final = hops.base_ms.size
        self._sums = _with_no_edge(rows.reshape(-1, rows.shape[-1]))
        self._round_ms = _with_no_edge(hops.round_ms.ravel())
        self._tails = _with_no_edge(hops.tails.reshape(-1, hops.tails.shape[-1]))
        self._repair_ms = repair_ms(self._round_ms[None], self._tails[None])

    def judge(self, edges: Indices) -> tuple[Floats, Floats]:
        """p99 delay of a frame, ms, and loss of packets before repair, of the paths ``edges[hop, ...]``."""
        sums = self._sums[edges].sum(axis=0)
        delay_ms: Floats = sums[..., _BASE] + np.sqrt(sums[..., _JITTER])
        hit = sums[..., _HIT] > TAIL
        if hit.any():
            waiting = edges[:, hit]
            delay_ms[hit] += repair_ms(self._round_ms[waiting], self._tails[waiting])
        loss: Floats = -np.expm1(-sums[..., _LOG_LOSS])
        return delay_ms, loss

    def partial(self, edges: Indices) -> Partial:
        """Of the paths ``edges[hop, ...]``."""
        sums = self._sums[edges].sum(axis=0)
        return Partial(sums[..., _BASE], sums[..., _JITTER], self._repair_ms[edges].max(axis=0))


def _with_no_edge(table: Floats) -> Floats:
    return np.concatenate([table, np.zeros((1, *table.shape[1:]))])
