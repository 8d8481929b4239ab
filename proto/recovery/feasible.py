"""Which budgets, targets and rates of repair cannot be had together, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from farcast.proto.recovery.policy import (
    SPANS_MS,
    Assumptions,
    frames_missed,
    percent_needed,
    round_ms,
)

DATAGRAM_BYTES: Final = 1_162
"""A repair at its largest, as in the datapath."""
SYMBOLS_PLANNED_MIN: Final = 64
"""A round at its largest."""


def first_repair_ms(rtt_ms: float) -> float:
    """When the first repair of what was lost can be there: half a round trip, then one round."""
    return rtt_ms / 2.0 + round_ms(rtt_ms)


def objections(
    assumed: Assumptions,
    loss_max: float,
    rtt_max_ms: float,
    percent_max: int,
    burst_bytes: int,
    planned_max: int,
) -> Iterator[str]:
    """What cannot be, one sentence each: the thing, the reason, the way out.

    ``loss_max``, ``rtt_max_ms``: the worst link that a hop is to stay on, 0 for no such bound;
    ``percent_max``: bytes of repairs for 100 bytes of media; ``burst_bytes``: how far ahead of it;
    ``planned_max``: repairs that may wait.
    """
    yield from _time(assumed, rtt_max_ms)
    if loss_max > 0:
        yield from _bytes(assumed, loss_max, percent_max)
    if burst_bytes < DATAGRAM_BYTES:
        yield (
            f"repair_burst_bytes = {burst_bytes} is less than one repair takes ({DATAGRAM_BYTES} bytes), so "
            f"that repairs would leave one by one: set {DATAGRAM_BYTES} or more"
        )
    if planned_max < SYMBOLS_PLANNED_MIN:
        yield (
            f"repairs_planned_max = {planned_max} is less than one round may have ({SYMBOLS_PLANNED_MIN}), "
            f"so that losses would be repaired in one burst: set {SYMBOLS_PLANNED_MIN} or more"
        )


def _time(assumed: Assumptions, rtt_max_ms: float) -> Iterator[str]:
    needed_ms = int(first_repair_ms(rtt_max_ms) + SPANS_MS[-1]) + 1
    if rtt_max_ms > 0 and assumed.budget_ms < needed_ms:
        yield (
            f"budget_ms = {assumed.budget_ms} is over before what was lost can be there again: on a link of "
            f"rtt_max_ms = {rtt_max_ms:.0f} that takes {needed_ms} ms; set budget_ms to that or "
            "rtt_max_ms lower"
        )


def _bytes(assumed: Assumptions, loss_max: float, percent_max: int) -> Iterator[str]:
    needed = percent_needed(assumed, loss_max)
    if percent_max < needed:
        yield (
            f"repair_percent_max = {percent_max} is not enough for the targets: at the loss that a hop may "
            f"have (loss_max_permille = {loss_max * 1_000:.0f}) repairs take {needed} % of the media; "
            "allow that, raise the share that may be missed, or lower loss_max_permille"
        )
    missed = frames_missed(assumed, loss_max)
    if missed > assumed.target_essential * 20:
        yield (
            f"frames_missed_ppm = {assumed.target_essential * 1e6:.0f} cannot be had at loss_max_permille "
            f"= {loss_max * 1_000:.0f}: with the largest rounds {missed * 1e6:.0f} of a million frames are "
            "missed; raise the one or lower the other"
        )
