"""The same world without Farcast in it: what `farcast sim compare` sets beside it.

- ``one-relay``: a relay near the publisher, and every viewer straight to it over the public Internet. That
  is a single server, or an origin without a network. What lies between a client's city and the relay is what
  every world has there (`backbone.Hauls`: synthesised from published quantiles).
- ``direct``: the same edges at the same places, both sides at their nearest one, and each edge gets a track
  straight from the publisher's edge in plain QUIC streams: a network of relays as MoQT describes it, without
  measured routes, without repair of its own, without a second way.
- ``farcast``: the world as it is.

What the hops do for losses is set apart in `HOP_VARIANTS`: repair off (each lost chunk once more) and on,
over one path and over two (and over two at all times), the network as it is in all of them.

All are pure functions of the world and of the scenario, so the clients, their access and the seed are the
same in all three. Faults that a variant has nothing for (a cut between edges where there is one edge) are
left out of it and said; that favours the variant, never Farcast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from farcast.proto.recovery.second_path import Which
from farcast.simulations.events import (
    AnyEvent,
    BadPlan,
    BlackOut,
    ClockStep,
    ControlStart,
    ControlStop,
    Crash,
    Crowd,
    DiskFault,
    Drain,
    Hostile,
    MtuDrop,
    Pause,
    Rebind,
    Restart,
    SlowViewer,
)
from farcast.simulations.scenario import Scenario
from farcast.simulations.world_spec import WorldSpec

VariantName: TypeAlias = Literal[
    "one-relay", "direct", "plain-one-path", "one-path", "plain-two-paths", "two-paths-always", "farcast"
]


@dataclass(frozen=True, slots=True)
class Variant:
    """``world`` derives its world, ``keeps`` says which events mean something in it."""

    name: VariantName
    title: str
    world: Callable[[WorldSpec], WorldSpec]
    keeps: Callable[[AnyEvent, WorldSpec], bool]

    def derive(self, spec: WorldSpec, scenario: Scenario) -> tuple[WorldSpec, Scenario]:
        """World and scenario of the variant."""
        world = self.world(spec)
        events = tuple(event for event in scenario.events if self.keeps(event, world))
        return world, replace(scenario, events=events)


def _one_relay(spec: WorldSpec) -> WorldSpec:
    """One edge, the nearest one of the first publisher; everybody else reaches it over the public
    Internet."""
    return replace(
        spec.with_edges({spec.publishers[0].edges[0]}),
        risk_groups=(),
        control_region=spec.publishers[0].region,
        routing="origin-streams",
    )


def _direct(spec: WorldSpec) -> WorldSpec:
    return replace(spec, routing="origin-streams")


_OF_CLIENTS: Final = (BlackOut, Rebind, Crowd, SlowViewer)
_OF_NODES: Final = (Crash, Restart, Pause, Drain, Hostile)
_OF_CONTROL: Final = (ControlStop, ControlStart, BadPlan, ClockStep, DiskFault)


def _is_about_one_relay(event: AnyEvent, world: WorldSpec) -> bool:
    if isinstance(event, _OF_NODES):
        return event.node == world.edges[0].node_id
    return isinstance(event, _OF_CLIENTS) or (isinstance(event, MtuDrop) and bool(event.clients))


def _is_not_about_control(event: AnyEvent, world: WorldSpec) -> bool:
    return not isinstance(event, _OF_CONTROL)


VARIANTS: Final[dict[VariantName, Variant]] = {
    "one-relay": Variant(
        "one-relay", "one relay near the publisher, public Internet", _one_relay, _is_about_one_relay
    ),
    "direct": Variant("direct", "nearest edges, direct hop, plain streams", _direct, _is_not_about_control),
    "farcast": Variant("farcast", "Farcast", lambda spec: spec, lambda event, world: True),
}
"""In the order of the table."""


def _hops(name: VariantName, title: str, repair: Literal["planned", "plain"], second_paths: Which) -> Variant:
    def world(spec: WorldSpec) -> WorldSpec:
        return replace(spec, repair=repair, second_paths=second_paths)

    return Variant(name, title, world, lambda event, world: True)


HOP_VARIANTS: Final[dict[VariantName, Variant]] = {
    "plain-one-path": _hops("plain-one-path", "repair off, one path", "plain", "off"),
    "one-path": _hops("one-path", "repair on, one path", "planned", "off"),
    "plain-two-paths": _hops("plain-two-paths", "repair off, two paths", "plain", "all"),
    "two-paths-always": _hops("two-paths-always", "repair on, always two paths", "planned", "always"),
    "farcast": replace(VARIANTS["farcast"], title="repair on, two paths"),
}
"""In the order of the table; the last one is Farcast as it is."""

ALL_VARIANTS: Final = {**HOP_VARIANTS, **VARIANTS}


def left_out(scenario: Scenario, spec: WorldSpec, name: VariantName) -> tuple[AnyEvent, ...]:
    """The events of a scenario that a variant has nothing for."""
    variant = ALL_VARIANTS[name]
    world = variant.world(spec)
    return tuple(event for event in scenario.events if not variant.keeps(event, world))
