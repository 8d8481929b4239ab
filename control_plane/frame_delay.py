"""How late frames come over a hop that repairs: looked up and added up, no simulation.

A frame is a handful of packets and is of use when its last one is there. On a link that loses packets in
bursts (Gilbert: loss p, mean burst L) a frame of k packets is hit with probability

    T1 = 1 - (1 - p) (1 - g)^(k-1),      g = p / (L (1 - p))        (chance per packet that a burst begins)

and then waits for repair, stage by stage, as the policy table has it: rounds of about one copy while another
fits in the budget, and a last one with coded symbols (`repair_stages`). Shares of frames that wait for each
stage, and when it ends, are looked up there; so are the bytes that repair takes.

Over several hops the stages of each are independent, and each costs that hop's own round trip: that is what
makes relays pay on lossy paths. The p99 of the sum is found exactly from the few values that it takes. To
it come half of each RTT, and the variation of RTTs: one-way p99 variations of independent hops add up as
squares. Adding the p99 of repair and that of variation is on the safe side of the p99 of their sum. The time
that a frame takes to leave, a matter of its size and the link's rate, is not in it.

A sum of distributions is not what a search for trees can add up edge by edge. `search_ms` is a number per hop
that can be: the entropic (exponential) mean ln E[exp(theta X)] / theta, exactly additive over independent
hops, smooth in loss, and near the largest value that is likely enough to matter. What is less likely than
`SEARCH_TAIL` does not count, since a quantile does not see it either. Trees are searched by it and judged by
what each branch has (`edge_table`).

Rejected: expected delay RTT (1 + loss), which hides the tail that viewers see; adding up p99s of hops, which
counts two unlikely things as if they came together and jumps where one hop crosses 1 %; one copy per round
whatever is lost, which from 4 % on waits for a second round that hops do not need.

How near this comes to hops is what ``make bench-hop-model`` shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from farcast.control_plane.network import Floats
from farcast.control_plane.repair_stages import stages
from farcast.proto.recovery.policy import Assumptions

TAIL: Final = 0.01
"""Share of frames that may be later than what is called their delay."""

SEARCH_THETA_PER_MS: Final = 1 / 15
SEARCH_TAIL: Final = TAIL / 2
"""Of the values tried (1/50 … 1/10 per ms; 0, 0.3, 0.5 %) those with which searches end nearest to the exact
optimum of small networks."""


@dataclass(frozen=True, slots=True)
class FrameModel:
    """The media and the repair that delays are reckoned for: packets that a frame has (12: 14 kB, or 3 Mbit/s
    in packets of 1200 bytes), and the table and the budget by which hops repair, as they are by default."""

    packets_per_frame: int = 12
    repair: Assumptions = field(default_factory=Assumptions)


@dataclass(frozen=True, slots=True)
class HopDelays:
    """Of hops, in arrays of one shape: ``base_ms`` without loss or variation; ``repair_ms[..., j-1]``, when
    the jth stage of repair ends after that; ``tails[..., j-1]``, the share of frames that wait for it;
    ``jitter_ms`` one-way p99; ``extra``: bytes of repair per byte of media."""

    base_ms: Floats
    repair_ms: Floats
    tails: Floats
    jitter_ms: Floats
    extra: Floats


def hop_delays(
    model: FrameModel, rtt_ms: Floats, rtt_p99_ms: Floats, loss: Floats, burst: Floats
) -> HopDelays:
    """Delays of hops by what was measured of them; arrays of one shape."""
    ends_ms, tails, extra = stages(model.packets_per_frame, model.repair).at(rtt_ms, loss, burst)
    return HopDelays(
        base_ms=rtt_ms / 2,
        repair_ms=ends_ms,
        tails=tails,
        jitter_ms=np.maximum(rtt_p99_ms - rtt_ms, 0.0) / np.sqrt(2.0),
        extra=extra,
    )


def search_ms(hops: HopDelays) -> Floats:
    """Additive stand-in for a hop's p99 delay, ms (see above)."""
    total: Floats = hops.base_ms + _entropic_ms(hops) + hops.jitter_ms
    return total


def repair_ms(ends_ms: Floats, tails: Floats, tail: float = TAIL) -> Floats:
    """Time that repair takes over paths, but for a share ``tail`` of frames; as in `HopDelays`, both
    ``[hop, path, j-1]``."""
    result = np.zeros(tails.shape[1])
    unsettled = np.flatnonzero(tails[:, :, 0].sum(axis=0) > tail)
    hops = (tails[:, unsettled, 0] > 0).sum(axis=0)
    for count in range(1, tails.shape[0] + 1):
        paths = unsettled[hops == count]
        if len(paths):
            lossy = np.argsort(-tails[:, paths, 0], axis=0, kind="stable")[:count]
            result[paths] = _quantile(ends_ms[lossy, paths], tails[lossy, paths], tail)
    return result


def _quantile(ends_ms: Floats, tails: Floats, tail: float) -> Floats:
    """By all combinations of stages: (STAGES + 1) ** hops values of each path, sorted."""
    paths = np.arange(tails.shape[1])
    values, shares = np.zeros((len(paths), 1)), np.ones((len(paths), 1))
    for hop in range(len(tails)):
        waits_ms = _with_none(ends_ms[hop])
        exactly = _exactly(tails[hop])
        values = (values[:, :, None] + waits_ms[:, None, :]).reshape(len(paths), -1)
        shares = (shares[:, :, None] * exactly[:, None, :]).reshape(len(paths), -1)
    order = np.argsort(values, axis=1, kind="stable")
    within = np.cumsum(shares[paths[:, None], order], axis=1)
    first = np.argmax(within >= 1 - tail - 1e-12, axis=1)
    found: Floats = values[paths, order[paths, first]]
    return found


def _with_none(ends_ms: Floats) -> Floats:
    """Before the ends of stages that of none: no time."""
    return np.concatenate([np.zeros((*ends_ms.shape[:-1], 1)), ends_ms], axis=-1)


def _exactly(tails: Floats) -> Floats:
    """Shares that wait for exactly 0, 1 … stages."""
    ones, zeros = np.ones((*tails.shape[:-1], 1)), np.zeros((*tails.shape[:-1], 1))
    return -np.diff(np.concatenate([ones, tails, zeros], axis=-1), axis=-1)


def _entropic_ms(hops: HopDelays) -> Floats:
    theta = SEARCH_THETA_PER_MS
    powers = np.exp(np.minimum(theta * hops.repair_ms, 600.0))
    likely = np.maximum(hops.tails - SEARCH_TAIL, 0.0) / (1 - SEARCH_TAIL)
    exactly = _exactly(likely)
    mean: Floats = np.log(exactly[..., 0] + (exactly[..., 1:] * powers).sum(axis=-1)) / theta
    return mean
