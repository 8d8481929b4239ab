"""What a frame meets on its way, drawn from closed forms instead of from packets.

Over a hop a frame takes the hop's one-way delay (shifted lognormal, a new draw every second, as the links of
the packet level have it) and as many rounds of repair as chance has it: the shares that need at least j
rounds are those that the planner reckons with (`control_plane.frame_delay.round_tails`, Gilbert losses), for
the packets that this frame really has. Over an access the same, with the rounds of QUIC's streams, and a line
for the access rate: frames leave it one after another. Frames of one stream come in order: one that waits for
a repair holds up those behind it in its group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.frame_delay import ROUNDS_MAX, FrameModel, round_tails
from farcast.simulations.flows.joining import NEVER
from farcast.simulations.links import (
    BurstLoss,
    LinkModel,
    LossModel,
    TimedBurstLoss,
    TwoLevelLoss,
    WindowLoss,
)

Times = NDArray[np.int64]
Floats = NDArray[np.float64]

PAYLOAD_BYTES: Final = 1_140
"""Media in one datagram of a hop; of a stream's packet a little more."""

HOP_ROUND_RTT: Final = 1.0
HOP_ROUND_MS: Final = 12.0
"""A round of repair between edges: a gap is noticed by the next packet and its reordering time."""

STREAM_ROUND_RTT: Final = 1.125
STREAM_ROUND_MS: Final = 30.0
"""A round of QUIC's: its time threshold, and the wait for packets that show the gap; frames are few packets,
so that often the next frame shows it."""

MATHIS: Final = 1.22
SEGMENT_BITS: Final = 9_600.0

WIRE_OVERHEAD: Final = 1.06
QUEUE_US_MAX: Final = 6_000_000
"""What waits longer for a viewer is thrown away, by whole groups. An edge's own queue ends at 2 s
(`MediaLimits.queue_ms_max`), but what QUIC has taken is not thrown away any more: frames of the packet level
wait up to 13 s. Fitted to its seed 1."""

DRAW_US: Final = 1_000_000
_FAR: Final = 1 << 41
"""Later than any time of a run (25 days), so that many groups can stand in one array."""

_EXPONENT_MAX: Final = 3.5
"""A lognormal's draws are cut off here: beyond it no link was measured."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one direction: share of packets, mean run of losses (packets), and how long a run lasts (0: as long
    as its packets take)."""

    share: float
    burst: float
    burst_ms: float = 0.0


def losses_of(model: LinkModel, packets_per_s: float) -> Losses:
    """All losses of a link as one Gilbert model, for so many packets a second."""
    share = model.mean_loss
    if share <= 0:
        return Losses(0.0, 1.0)
    bursts, spans, weights = zip(*(_burst(loss, packets_per_s) for loss in model.losses), strict=True)
    total = sum(weights) or 1.0
    burst = sum(b * w for b, w in zip(bursts, weights, strict=True)) / total
    return Losses(share, max(burst, 1.0), sum(s * w for s, w in zip(spans, weights, strict=True)) / total)


def _burst(loss: LossModel, packets_per_s: float) -> tuple[float, float, float]:
    """Mean run in packets, its length in ms, and the weight of this loss among several."""
    match loss:
        case BurstLoss():
            return loss.burst_packets, 0.0, loss.mean
        case TimedBurstLoss():
            return max(loss.burst_us * packets_per_s / 1e6, 1.0), loss.burst_us / 1e3, loss.mean
        case TwoLevelLoss():
            part = loss.good.mean + loss.bad.mean
            mean = (loss.good.burst_packets * loss.good.mean + loss.bad.burst_packets * loss.bad.mean) / (
                part or 1
            )
            return mean, 0.0, loss.mean
        case WindowLoss():
            shares = [share for _, _, share in loss.windows] or [0.0]
            length_us = sum(length for _, length, _ in loss.windows) / max(len(loss.windows), 1)
            # Inside a window losses are independent of one another: short runs, that come together.
            return 1 / max(1 - float(np.mean(shares)), 0.05), length_us / 1e3, loss.mean
        case _:
            return 1.0, 0.0, loss.mean


def propagation_us(model: LinkModel, at_us: Times, draw: np.random.Generator) -> Times:
    """One-way delays of packets sent at some times (in order): propagation, slow wandering, jitter."""
    delay = np.full(at_us.shape, float(model.delay_us))
    if model.jitter_us:
        delay += draw.random(at_us.shape) * model.jitter_us
    if model.delay_log_median_us and len(at_us):
        step_us = max(model.delay_redraw_us, 1)
        first = int(at_us.min()) // step_us
        count = int(at_us.max()) // step_us - first + 2
        normal = np.clip(draw.standard_normal(count), -_EXPONENT_MAX, _EXPONENT_MAX)
        values = model.delay_log_median_us * np.exp(model.delay_log_sigma * normal)
        delay += np.interp(at_us / step_us - first, np.arange(count), values)
    rounded: Times = delay.astype(np.int64)
    return rounded


def repair_us(
    packets: Times,
    losses: Losses,
    rtt_ms: float,
    spacing_ms: float,
    draw: np.random.Generator,
    *,
    is_hop: bool,
) -> Times:
    """How long repair holds up frames of so many packets, each on its own account."""
    result = np.zeros(packets.shape, np.int64)
    if losses.share <= 0:
        return result
    round_rtt, round_ms = (HOP_ROUND_RTT, HOP_ROUND_MS) if is_hop else (STREAM_ROUND_RTT, STREAM_ROUND_MS)
    one_round_ms = np.array([round_rtt * rtt_ms + round_ms])
    if losses.burst_ms:
        spacing_ms = losses.burst_ms / losses.burst
    drawn = draw.random(packets.shape)
    for count in np.unique(packets).tolist():
        model = FrameModel(max(count, 1), spacing_ms, 1, round_rtt, round_ms)
        tails = round_tails(model, np.array([losses.share]), np.array([losses.burst]), one_round_ms)[0]
        mine = packets == count
        rounds = (drawn[mine][:, None] < tails[None, :ROUNDS_MAX]).sum(axis=1)
        result[mine] = (rounds * one_round_ms[0] * 1e3).astype(np.int64)
    return result


def congestion_rate_bps(losses: Losses, rtt_ms: float) -> float:
    """What a loss-based congestion controller lets through (Mathis et al. 1997; CUBIC is Reno-like at these
    rates): a run of losses within a round trip is one event; infinite without loss."""
    if losses.share <= 0:
        return float("inf")
    events = losses.share / losses.burst
    return float(MATHIS * SEGMENT_BITS / (max(rtt_ms, 1.0) / 1e3 * np.sqrt(events)))


def packets_of(frame_bytes: Times) -> Times:
    """Datagrams that frames take."""
    counts: Times = np.maximum(-(-frame_bytes // PAYLOAD_BYTES), 1).astype(np.int64)
    return counts


def in_order(at_us: Times, group: Times) -> Times:
    """Times at which frames, given in the order of sending, can be handed over: each after those before it in
    its group. ``group``: any numbers, equal for frames of one stream."""
    order = np.argsort(group, kind="stable")
    number = np.cumsum(np.append(True, np.diff(group[order]) != 0)) - 1
    shift = number * (2 * _FAR)
    ordered = np.maximum.accumulate(np.minimum(at_us[order], _FAR) + shift) - shift
    result = np.empty(at_us.shape, np.int64)
    result[order] = np.where(ordered >= _FAR, NEVER, ordered)
    return result


def through_rate(at_us: Times, frame_bytes: Times, rate_bps: float | None) -> tuple[Times, Times]:
    """When frames have left a line that sends so fast, and how long each waited for its turn; any order."""
    if not rate_bps:
        return at_us, np.zeros(at_us.shape, np.int64)
    work_us = (frame_bytes * (8e6 * WIRE_OVERHEAD / rate_bps)).astype(np.int64)
    order = np.argsort(at_us, kind="stable")
    total = np.cumsum(work_us[order])
    before = total - work_us[order]
    begin = before + np.maximum.accumulate(at_us[order] - before)
    done, waited = np.empty(at_us.shape, np.int64), np.empty(at_us.shape, np.int64)
    done[order] = begin + work_us[order]
    waited[order] = begin - at_us[order]
    return done, waited
