"""Judges promises over what runs measured."""

from __future__ import annotations

from collections.abc import Sequence

from farcast.simulations.measured import Measured
from farcast.simulations.promises import Promise
from farcast.simulations.results import Verdict


def judge(text: str, promise: Promise, runs: Sequence[Measured]) -> Verdict:
    """Whether a promise holds over all runs together, and how sure that is; ``text`` as the scenario has
    it."""
    raise NotImplementedError
