"""How late frames come over a hop that repairs: closed forms, no simulation.

A frame is a handful of packets and is of use when its last one is there. On a link that loses packets in
bursts (Gilbert: loss p, mean burst L) a frame of k packets is hit with probability

    T1 = 1 - (1 - p) (1 - g)^(k-1),      g = p / (L (1 - p))        (chance per packet that a burst begins)

and then waits for at least one round of repair: the loss is noticed and sent again, which takes
``round_rtt * RTT + round_ms``. Of the m packets being repaired some are lost again: with probability

    h = 1 - (1 - q) (1 - g)^(m-1),       q = p + (1 - p) exp(-round / (B (1 - p)))

where B is how long a burst lasts; q is p for all but short hops. So T2 = T1 h, and so on: tails of the number
of rounds J. With c copies per repair, spaced by more than a burst, q becomes q^c.

Over several hops the rounds of each are independent, and each costs that hop's own round trip: that is what
makes relays pay on lossy paths. The p99 of the sum is found exactly from the few values that it takes. To
it come half of each RTT, and the variation of RTTs: one-way p99 variations of independent hops add up as
squares. Adding the p99 of rounds and that of variation is on the safe side of the p99 of their sum.

A sum of distributions is not what a search for trees can add up edge by edge. `search_ms` is a number per hop
that can be: the entropic (exponential) mean ln E[exp(theta X)] / theta, exactly additive over independent
hops, smooth in loss, and near the largest value that is likely enough to matter. What is less likely than
`SEARCH_TAIL` does not count, since a quantile does not see it either. Trees are searched by it and judged by
what each branch has (`edge_table`).

Rejected: expected delay RTT (1 + loss), which hides the tail that viewers see; adding up p99s of hops, which
counts two unlikely things as if they came together and jumps where one hop crosses 1 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from farcast.control_plane.network import LOSS_MAX, Floats

CERTAIN = 1 - 1e-12
"""Shares are kept below this where their complement's logarithm is taken."""

ROUNDS_MAX: Final = 4
"""Rounds of repair that are told apart; what needs more counts as this many."""

TAIL: Final = 0.01
"""Share of frames that may be later than what is called their delay."""

SEARCH_THETA_PER_MS: Final = 1 / 15
SEARCH_TAIL: Final = TAIL / 2
"""Of the values tried (1/50 … 1/10 per ms; 0, 0.3, 0.5 %) those with which searches end nearest to the exact
optimum of small networks."""


@dataclass(frozen=True, slots=True)
class FrameModel:
    """The media and the repair that delays are reckoned for.

    12 packets 3.2 ms apart: a frame of 14 kB, or 3 Mbit/s in packets of 1200 bytes. A round takes 1.125 RTT
    as in RFC 9002, and what the receiver holds an acknowledgement back; one copy, as our hops send.
    """

    packets_per_frame: int = 12
    packet_spacing_ms: float = 3.2
    copies: int = 1
    round_rtt: float = 1.125
    round_ms: float = 10.0


@dataclass(frozen=True, slots=True)
class HopDelays:
    """Of hops, in arrays of one shape: ``base_ms`` without loss or variation, ``round_ms`` per round of
    repair, ``tails[..., j-1]`` the share of frames that need at least j rounds, ``jitter_ms`` one-way p99."""

    base_ms: Floats
    round_ms: Floats
    tails: Floats
    jitter_ms: Floats


def hop_delays(
    model: FrameModel, rtt_ms: Floats, rtt_p99_ms: Floats, loss: Floats, burst: Floats
) -> HopDelays:
    """Delays of hops by what was measured of them; arrays of one shape."""
    rounds_ms = model.round_rtt * rtt_ms + model.round_ms
    return HopDelays(
        base_ms=rtt_ms / 2,
        round_ms=rounds_ms,
        tails=round_tails(model, loss, burst, rounds_ms),
        jitter_ms=np.maximum(rtt_p99_ms - rtt_ms, 0.0) / np.sqrt(2.0),
    )


def round_tails(model: FrameModel, loss: Floats, burst: Floats, round_ms: Floats) -> Floats:
    """Share of frames that need at least 1, 2 … `ROUNDS_MAX` rounds of repair, in a last dimension."""
    p = np.clip(loss, 0.0, LOSS_MAX)
    begins = np.minimum(p / (np.maximum(burst, 1.0) * (1 - p)), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = 1 - (1 - p) * (1 - begins) ** (model.packets_per_frame - 1)
        lost = np.where(tail > 0, model.packets_per_frame * p / tail, 1.0)
    burst_ms = np.maximum(burst, 1.0) * model.packet_spacing_ms
    again = (p + (1 - p) * np.exp(-round_ms / (burst_ms * (1 - p)))) ** model.copies
    tails = [tail]
    for _ in range(ROUNDS_MAX - 1):
        # By logarithms, or digits are lost where repairs nearly always succeed.
        unhit = np.log1p(-np.minimum(again, CERTAIN)) + (np.maximum(lost, 1.0) - 1) * np.log1p(
            -np.minimum(begins, CERTAIN)
        )
        hit = -np.expm1(unhit)
        lost = np.where(hit > 0, lost * again / np.maximum(hit, 1e-300), 1.0)
        tail = tail * hit
        tails.append(tail)
    stacked: Floats = np.stack(tails, axis=-1)
    return stacked


def search_ms(hops: HopDelays) -> Floats:
    """Additive stand-in for a hop's p99 delay, ms (see above)."""
    total: Floats = hops.base_ms + _entropic_rounds_ms(hops) + hops.jitter_ms
    return total


def repair_ms(round_ms: Floats, tails: Floats, tail: float = TAIL) -> Floats:
    """Time that repair takes over paths, but for a share ``tail`` of frames: ``round_ms[hop, path]``,
    ``tails[hop, path, j-1]``."""
    result = np.zeros(round_ms.shape[1])
    unsettled = np.flatnonzero(tails[:, :, 0].sum(axis=0) > tail)
    hops = (tails[:, unsettled, 0] > 0).sum(axis=0)
    for count in range(1, round_ms.shape[0] + 1):
        paths = unsettled[hops == count]
        if len(paths):
            lossy = np.argsort(-tails[:, paths, 0], axis=0, kind="stable")[:count]
            result[paths] = _quantile(round_ms[lossy, paths], tails[lossy, paths], tail)
    return result


def _quantile(round_ms: Floats, tails: Floats, tail: float) -> Floats:
    """By all combinations of rounds: (ROUNDS_MAX + 1) ** hops values of each path, sorted."""
    paths = np.arange(round_ms.shape[1])
    values, shares = np.zeros((len(paths), 1)), np.ones((len(paths), 1))
    rounds = np.arange(ROUNDS_MAX + 1)
    for hop in range(len(round_ms)):
        exactly = _exactly(tails[hop])
        values = (values[:, :, None] + round_ms[hop, :, None, None] * rounds).reshape(len(paths), -1)
        shares = (shares[:, :, None] * exactly[:, None, :]).reshape(len(paths), -1)
    order = np.argsort(values, axis=1, kind="stable")
    within = np.cumsum(shares[paths[:, None], order], axis=1)
    first = np.argmax(within >= 1 - tail - 1e-12, axis=1)
    found: Floats = values[paths, order[paths, first]]
    return found


def _exactly(tails: Floats) -> Floats:
    """Shares that need exactly 0, 1 … rounds."""
    ones, zeros = np.ones((*tails.shape[:-1], 1)), np.zeros((*tails.shape[:-1], 1))
    return -np.diff(np.concatenate([ones, tails, zeros], axis=-1), axis=-1)


def _entropic_rounds_ms(hops: HopDelays) -> Floats:
    theta = SEARCH_THETA_PER_MS
    rounds = np.arange(ROUNDS_MAX + 1)
    powers = np.exp(np.minimum(theta * hops.round_ms[..., None] * rounds, 600.0))
    likely = np.maximum(hops.tails - SEARCH_TAIL, 0.0) / (1 - SEARCH_TAIL)
    mean: Floats = np.log((_exactly(likely) * powers).sum(axis=-1)) / theta
    return mean
