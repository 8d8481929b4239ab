"""Who publishes and who watches, as arrays: a world of some hundred drawn viewers stands for all of them.

A world of 150,000 clients would be gigabytes of objects that differ in nothing that matters. `build_world`
draws some thousand, each with a weight; here every drawn viewer is a *kind*, and each group's full number of
viewers is dealt over its kinds. Viewers come when the group's sample does (quantiles of its
times of joining, evenly filled). A few viewers have a *seat*: they are followed frame by frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.flows.delays import losses_of
from farcast.simulations.flows.joining import (
    EDGES_TRIED_MAX,
    NEVER,
    ROUNDS_QUIC,
    ROUNDS_WEBTRANSPORT,
    Crowd,
)
from farcast.simulations.flows.network import FlowNetwork
from farcast.simulations.scenario import Scenario
from farcast.simulations.worlds import Client, WorldSpec

Times = NDArray[np.int64]
Positions = NDArray[np.int64]

ACCESS_PACKETS_PER_S: Final = 300.0
SEATED_RECORDS_MAX: Final = 10_000_000
"""Frames of all seats together that a run keeps."""

SEATS_MAX: Final = 1_000
WINDOW_US: Final = 12_000_000
"""In a run that is too long to be kept whole, so much is looked at at a time…"""

BEFORE_US: Final = 3_000_000
"""…beginning so long before each event, and once an hour."""

TAP_US: Final = (1_000_000, 2_000_000)
"""When in its piece a viewer comes."""

WHOLE_US_MAX: Final = 240_000_000
HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Seat:
    """A viewer that is followed: its position among all viewers, its kind, and until when."""

    viewer: int
    kind: int
    name: str
    until_us: int


@dataclass(frozen=True, slots=True)
class Audience:
    """All viewers. ``leaves_us`` by viewer, ``entry`` by kind."""

    crowd: Crowd
    kinds: tuple[Client, ...]
    leaves_us: Times
    seats: tuple[Seat, ...]
    windows: tuple[tuple[int, int], ...]
    """When frames are followed: from, until."""

    @property
    def viewers(self) -> int:
        """How many."""
        return len(self.crowd.tap_us)


def audience_of(
    spec: WorldSpec, scenario: Scenario, network: FlowNetwork, seed: int, *, exactly: bool = False
) -> Audience:
    """All viewers of a scenario. ``exactly``: just those of the world."""
    draw = np.random.default_rng([seed, 3])
    kinds = spec.viewers
    by_entry: dict[str, list[int]] = defaultdict(list)
    for number, client in enumerate(kinds):
        by_entry[client.entry].append(number)
    kind, tap_us = [], []
    for _, members in sorted(by_entry.items()):
        count = len(members) if exactly else round(sum(kinds[k].weight for k in members))
        dealt, joins_us = _deal(kinds, members, count, draw)
        kind.append(dealt)
        tap_us.append(joins_us)
    kind_of, taps = np.concatenate(kind), np.concatenate(tap_us)
    windows = _windows(scenario)
    seats, more_kinds, more_taps = _seats(scenario, kinds, kind_of, taps, windows, draw)
    kind_of, taps = np.concatenate([kind_of, more_kinds]), np.concatenate([taps, more_taps])
    leaves = np.array([NEVER if c.leaves_us is None else c.leaves_us for c in kinds], np.int64)
    leaves_us = leaves[kind_of]
    for seat in seats:
        if seat.until_us < leaves_us[seat.viewer] and seat.viewer >= len(taps) - len(more_taps):
            leaves_us[seat.viewer] = seat.until_us
    return Audience(_crowd(kinds, kind_of, taps, network), kinds, leaves_us, seats, windows)


def _deal(
    kinds: Sequence[Client], members: list[int], count: int, draw: np.random.Generator
) -> tuple[Positions, Times]:
    """Kinds and times of joining of one entry's viewers; the kinds themselves first, at their own times."""
    own_us = np.array([kinds[k].joins_us for k in members], np.int64)
    more = count - len(members)
    if more <= 0:
        return np.array(members, np.int64), own_us
    quantiles = (np.arange(more) + 0.5) / more
    spread = np.linspace(0, 1, len(members)) if len(members) > 1 else np.array([0.0])
    joins_us = np.interp(quantiles, spread, np.sort(own_us)).astype(np.int64)
    dealt = np.array(members, np.int64)[np.arange(more) % len(members)]
    return np.concatenate([np.array(members, np.int64), draw.permutation(dealt)]), np.concatenate(
        [own_us, joins_us]
    )


def _windows(scenario: Scenario) -> tuple[tuple[int, int], ...]:
    """The whole run, or pieces of it."""
    end_us = scenario.duration_us
    if end_us <= WHOLE_US_MAX:
        return ((0, end_us),)
    begins = {max(event.at_us - BEFORE_US, 0) for event in scenario.events}
    lengths_us: list[int | None] = [getattr(event, "for_us", None) for event in scenario.events]
    begins |= {
        event.at_us + length_us - BEFORE_US
        for event, length_us in zip(scenario.events, lengths_us, strict=True)
        if length_us is not None
    }
    begins |= set(range(0, end_us, HOUR_US))
    found: list[tuple[int, int]] = []
    for begin_us in sorted(begins):
        begin_us -= begin_us % 1_000_000
        if begin_us + WINDOW_US <= end_us and (not found or begin_us >= found[-1][1]):
            found.append((begin_us, begin_us + WINDOW_US))
    return tuple(found)


def _seats(
    scenario: Scenario,
    kinds: Sequence[Client],
    kind_of: Positions,
    taps: Times,
    windows: tuple[tuple[int, int], ...],
    draw: np.random.Generator,
) -> tuple[tuple[Seat, ...], Positions, Times]:
    """Seats among the viewers; in a run of pieces, viewers more that come for one piece each."""
    whole = len(windows) == 1 and windows[0] == (0, scenario.duration_us)
    seconds = sum(end - begin for begin, end in windows) / 1e6
    frames = 50.0 + max((r.fps for film in scenario.load.films for r in film.renditions), default=30)
    room = int(SEATED_RECORDS_MAX / max(frames * (seconds if whole else WINDOW_US / 1e6), 1))
    if whole:
        count = min(len(kind_of), SEATS_MAX, max(room, 1))
        order = np.lexsort((taps, kind_of))
        chosen = order[np.linspace(0, len(order) - 1, count).astype(np.int64)]
        seats = [
            Seat(
                int(v),
                int(kind_of[v]),
                f"{kinds[kind_of[v]].name}-{v}" if count < len(kind_of) else kinds[kind_of[v]].name,
                windows[0][1],
            )
            for v in np.unique(chosen).tolist()
        ]
        return tuple(seats), np.zeros(0, np.int64), np.zeros(0, np.int64)
    each = max(min(room // len(windows), SEATS_MAX // len(windows), len(kinds)), 1)
    seats = []
    more_kinds: list[int] = []
    more_taps: list[int] = []
    for begin_us, end_us in windows:
        for kind in draw.permutation(len(kinds))[:each].tolist():
            viewer = len(kind_of) + len(more_kinds)
            seats.append(Seat(viewer, kind, f"{kinds[kind].name}@{begin_us // 1_000_000}s", end_us))
            more_kinds.append(kind)
            more_taps.append(begin_us + int(draw.integers(*TAP_US)))
    return tuple(seats), np.array(more_kinds, np.int64), np.array(more_taps, np.int64)


def _crowd(kinds: Sequence[Client], kind_of: Positions, taps: Times, network: FlowNetwork) -> Crowd:
    at = {node: k for k, node in enumerate(network.node_ids)}
    edges = np.full((len(kinds), EDGES_TRIED_MAX), -1, np.int64)
    rtt_us = np.zeros((len(kinds), EDGES_TRIED_MAX), np.int64)
    loss = np.zeros(len(kinds))
    for number, client in enumerate(kinds):
        for k, reach in enumerate(client.reaches[:EDGES_TRIED_MAX]):
            edges[number, k] = at[reach.node_id]
            rtt_us[number, k] = sum(model.median_delay_us for model in client.models_to(reach.node_id))
        loss[number] = max(
            losses_of(client.access_up, ACCESS_PACKETS_PER_S).share, client.access_down.mean_loss
        )
    rounds = [ROUNDS_QUIC if client.transport == "quic" else ROUNDS_WEBTRANSPORT for client in kinds]
    return Crowd(taps, kind_of, edges, rtt_us, loss, np.array(rounds))
