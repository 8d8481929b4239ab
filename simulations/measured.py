"""What one run measured, as arrays: the table from which promises are judged and summaries are made.

It stands between the packet level, the flow level and everything that reads figures. A sample belongs to a
viewer (by its position in ``viewers``) or, at position `WORLD`, to the run as a whole. A viewer has a weight,
because the flow level lets one stand for many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.output_names import OUTPUTS
from farcast.simulations.results import InvariantFailure, MapLink, MapNode, TimelineEntry

WORLD: Final = -1
"""The position that stands for no viewer, but for the whole run."""

Floats = NDArray[np.float64]
Positions = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ViewerInfo:
    """What a viewer is like; ``weight`` is the number of viewers that it stands for."""

    name: str
    stack: Literal["farcast", "stock"]
    market: str
    region: str
    from_region: str
    """Where what it watches is published."""
    room: str = ""
    transport: str = "quic"
    track: str = ""
    """Whether its first edge had the track of its picture when it tapped: warm, cold, or not known."""
    access_rtt_ms: float = 0.0
    access_rate_mbps: float = 0.0
    weight: float = 1.0

    @property
    def pair(self) -> str:
        """Publisher's and viewer's region."""
        return f"{self.from_region}>{self.region}"


@dataclass(frozen=True, slots=True)
class Samples:
    """A distribution: ``values`` in the output's unit, and whose they are. Infinite: it never happened."""

    values: Floats
    viewer: Positions


@dataclass(frozen=True, slots=True)
class Ratios:
    """Sums of what counts and of what it counts of, one pair of figures a viewer."""

    part: Floats
    whole: Floats
    viewer: Positions


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. Outputs without data have no entry, or an empty one."""

    seed: int
    trace_hash: str
    virtual_s: float
    viewers: tuple[ViewerInfo, ...]
    samples: Mapping[str, Samples] = field(default_factory=dict)
    ratios: Mapping[str, Ratios] = field(default_factory=dict)
    timeline: tuple[TimelineEntry, ...] = ()
    nodes: tuple[MapNode, ...] = ()
    links: tuple[MapLink, ...] = ()
    invariant_failures: tuple[InvariantFailure, ...] = ()


def outputs_from_samples(
    seed: int,
    viewers: Sequence[ViewerInfo],
    *,
    samples: Mapping[str, tuple[Sequence[float] | Floats, Sequence[int] | Positions]] | None = None,
    ratios: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[int]]] | None = None,
    trace_hash: str = "",
    virtual_s: float = 0.0,
    timeline: Sequence[TimelineEntry] = (),
) -> Measured:
    """A run that was not measured packet by packet, as the flow level gives it.

    ``samples``: by output, values (in its unit) and positions of viewers. ``ratios``: by output, what counts,
    what it counts of, positions; both in one unit, not per cent. ``ValueError`` for an output that does not
    exist, is of the other kind, or whose arrays do not fit.
    """
    made = {name: _samples(name, *arrays, len(viewers)) for name, arrays in (samples or {}).items()}
    shares = {name: _ratios(name, *arrays, len(viewers)) for name, arrays in (ratios or {}).items()}
    return Measured(
        seed=seed,
        trace_hash=trace_hash,
        virtual_s=virtual_s,
        viewers=tuple(viewers),
        samples=made,
        ratios=shares,
        timeline=tuple(timeline),
    )


def _samples(
    name: str, values: Sequence[float] | Floats, viewer: Sequence[int] | Positions, viewers: int
) -> Samples:
    _check_kind(name, "samples")
    made = Samples(np.asarray(values, np.float64), np.asarray(viewer, np.int32))
    _check_arrays(name, (made.values,), made.viewer, viewers)
    return made


def _ratios(
    name: str, part: Sequence[float], whole: Sequence[float], viewer: Sequence[int], viewers: int
) -> Ratios:
    _check_kind(name, "ratio")
    made = Ratios(np.asarray(part, np.float64), np.asarray(whole, np.float64), np.asarray(viewer, np.int32))
    _check_arrays(name, (made.part, made.whole), made.viewer, viewers)
    return made


def _check_kind(name: str, kind: str) -> None:
    if name not in OUTPUTS:
        raise ValueError(f"no such output: {name!r}")
    if OUTPUTS[name].kind != kind:
        raise ValueError(f"{name} is an output of the kind {OUTPUTS[name].kind!r}, not {kind!r}")


def _check_arrays(name: str, values: Sequence[Floats], viewer: Positions, viewers: int) -> None:
    if any(array.shape != viewer.shape or array.ndim != 1 for array in values):
        raise ValueError(f"{name}: values and positions must be arrays of one length")
    if any(np.isnan(array).any() for array in values):
        raise ValueError(f"{name}: a value is no number")
    if viewer.size and (viewer.min() < WORLD or viewer.max() >= viewers):
        raise ValueError(f"{name}: a position is not that of one of {viewers} viewers")
