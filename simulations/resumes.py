"""How long viewers were without a new picture after a fault: the output ``resume``.

A fault is judged by the gap that it tore. What counts is a picture that was shown, at the moment when it was
there to be shown: frames that came and could not be decoded, or that the player left out, bring nobody
anything, and a jitter buffer that hides a gap is no merit of the network.

Faults follow one another. What the next one tears is not the work of the first, but a gap that was torn and
is still open when the next one comes goes on counting: the viewer is in the dark all the same. For the next
one it counts from that one's own moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from farcast.simulations.constants import (
    PICTURE_GRACE_US,
    RESUME_BEGINS_US,
    RESUME_GAP_US,
    RESUME_WINDOW_US,
)
from farcast.simulations.measured import Floats
from farcast.simulations.playout import NEVER, Times
from farcast.simulations.raw import Fault, RawResult
from farcast.simulations.views import View

RESUMES_FROM_ITS_END: Final = frozenset({"black-out"})
"""Faults that nothing can be done about while they last: what is judged begins when they are over."""


def resumes(raw: RawResult, views: Sequence[View]) -> Iterator[tuple[int, Floats]]:
    """For each fault, the gaps of the viewers (places in ``views``) that it hit, in ms; if it hit none, of
    all that watched. Infinite for who never had a picture again."""
    faults = sorted((fault for fault in raw.faults if fault.is_fault), key=lambda fault: fault.at_us)
    pictures = [np.unique(view.playout.decoded_us) for view in views]
    for number, fault in enumerate(faults):
        next_us = min(
            (other.at_us for other in faults[number + 1 :] if other.at_us > fault.at_us), default=NEVER
        )
        window_us = min(fault.at_us + RESUME_WINDOW_US, raw.ended_us)
        gaps = [
            (place, _gap_us(pictures[place], fault, min(window_us, view.until_us), next_us))
            for place, view in enumerate(views)
        ]
        watching = [(place, gap_us) for place, gap_us in gaps if gap_us is not None]
        hit = [(place, gap_us) for place, gap_us in watching if gap_us >= RESUME_GAP_US]
        for place, gap_us in hit or watching:
            yield place, np.array([np.inf if gap_us >= NEVER else gap_us / 1e3])


def _gap_us(pictures: Times, fault: Fault, end_us: int, next_us: int) -> int | None:
    """The longest time without a new picture of those that a fault can have torn.

    ``end_us``: when watching, or the window, ends; ``next_us``: when the next fault comes. None for who was
    not watching, or not long enough after it to tell; `NEVER` if no picture came again. A gap that is open at
    the end, and not for long enough to be called that, counts with what it is until then.
    """
    judged_from_us = fault.at_us
    if fault.kind in RESUMES_FROM_ITS_END and fault.until_us is not None:
        judged_from_us = fault.until_us
    before = pictures[pictures <= fault.at_us]
    watched_us = end_us - judged_from_us
    if before.size == 0 or watched_us < RESUME_BEGINS_US:
        return None
    inside = pictures[(pictures > fault.at_us) & (pictures <= end_us)]
    begins, ends = np.concatenate((before[-1:], inside)), np.append(inside, end_us)
    if begins[0] < fault.at_us - RESUME_GAP_US:  # torn by what came before
        begins[0] = fault.at_us
    if judged_from_us > fault.at_us:
        begins = np.maximum(begins, np.minimum(judged_from_us, ends))
    torn = (begins <= judged_from_us + RESUME_BEGINS_US) & (begins <= max(next_us, judged_from_us))
    longest_us = int((ends - begins)[torn].max())
    open_us = int(ends[-1] - begins[-1]) if torn[-1] else 0
    if open_us >= PICTURE_GRACE_US:
        return NEVER
    return longest_us
