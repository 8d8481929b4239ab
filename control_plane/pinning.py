"""Pins as the planner sees them: which can be in force now, and what they hold every tree to.

A pin names a whole way, so every node on it but the origin has the one parent that the way gives it, and
nothing that the planner moves stands above a pinned node: its depth is fixed. A pin is in force while all its
edges are in the network, its relays may relay, its links are usable, and its origin has a tree. Otherwise it
is suspended, with the reason; its nodes are planned like all others then. Bounds on delay and loss,
capacities and damping do not count for a pinned node: the operator has said what is to be.

One that was suspended because its way failed comes back into force only when that has worked for the
planner's hold-down: a link that comes and goes would otherwise move the route each time.

Pure like the planner: the network has the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from farcast.control_plane.intents import Pin
from farcast.control_plane.network import Indices, Network


@dataclass(frozen=True, slots=True)
class PinState:
    """A pin and why it is not in force, "" where it is. A reason given to the planner stands."""

    pin: Pin
    suspended: str = ""


def judge_pins(
    network: Network,
    pins: Sequence[PinState],
    origins: Sequence[str],
    failed_us: Mapping[tuple[str, ...], int],
    hold_us: int,
) -> tuple[tuple[PinState, ...], dict[tuple[str, ...], int]]:
    """The states of all pins, and when each way was last seen failing; ``failed_us`` is that of the run
    before."""
    states: list[PinState] = []
    failing: dict[tuple[str, ...], int] = {}
    for state in pins:
        way = state.pin.way
        if not state.suspended and state.pin.origin not in origins and state.pin.origin in network.index:
            state = PinState(state.pin, f"{state.pin.origin} publishes nothing")
        if state.suspended:
            states.append(state)
            continue
        reason, since_us = _why_not(network, state.pin), failed_us.get(way)
        if reason:
            failing[way] = network.now_us
        elif since_us is not None and network.now_us < since_us + hold_us:
            failing[way] = since_us
            left_s = (since_us + hold_us - network.now_us) / 1e6
            reason = f"its way works again; in force when it has for {left_s:.0f} s more"
        states.append(PinState(state.pin, reason))
    return tuple(states), failing


def pinned_parents(network: Network, states: Sequence[PinState], origins: Sequence[str]) -> Indices:
    """``[origin, node]``: position of the parent that a pin in force gives a node, -1 where none does."""
    parents = np.full((len(origins), len(network.nodes)), -1)
    rows = {origin: row for row, origin in enumerate(origins)}
    for state in states:
        if not state.suspended:
            for parent, node in pairwise(state.pin.way):
                parents[rows[state.pin.origin], network.index[node]] = network.index[parent]
    return parents


def _why_not(network: Network, pin: Pin) -> str:
    for node_id in pin.way:
        if node_id not in network.index:
            return f"{node_id} is not there"
    for relay in pin.way[1:-1]:
        node = network.node(relay)
        if node.draining:
            return f"{relay} is draining"
        if not node.transit:
            return f"{relay} is kept out of transit"
    for src, dst in pairwise(pin.way):
        if not network.usable[network.index[src], network.index[dst]]:
            return f"the link {src} > {dst} is silent"
    return ""
