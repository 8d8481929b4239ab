"""The same world without Farcast in it: what `farcast sim compare` sets beside it.

- ``one-relay``: a relay near the publisher, and every viewer straight to it over the public Internet. That
  is a single server, or an origin without a network.
- ``direct``: the same edges at the same places, both sides at their nearest one, and each edge gets a track
  straight from the publisher's edge in plain QUIC streams: a network of relays as MoQT describes it, without
  measured routes, without repair of its own, without a second way.
- ``farcast``: the world as it is.

All are pure functions of the world and of the scenario, so the clients, their access and the seed are the
same in all three. Faults that a variant has nothing for (a cut between edges where there is one edge) are
left out of it and said; that favours the variant, never Farcast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

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
from farcast.simulations.links import BurstLoss, LinkModel, in_series
from farcast.simulations.matrices import REGIONS, Matrix, aws, drawn_loss, public_internet
from farcast.simulations.scenario import Scenario
from farcast.simulations.worlds import Client, EdgeSite, Reach, WorldSpec

VariantName: TypeAlias = Literal["one-relay", "direct", "farcast"]

INTERNET_LOSS_BURST: Final = 3.0
"""Packets in a run of losses on the public Internet, as on the links between edges."""

INTERNET_SEED: Final = 0x1A7E
"""Apart from the seed of the run, so that all seeds of a comparison see one Internet."""


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
    """One edge, where the first publisher is; everybody else reaches it over the public Internet."""
    relay = next(edge for edge in spec.edges if edge.node_id == spec.publishers[0].edges[0])
    internet = _Internet(spec, relay)
    return replace(
        spec,
        edges=(relay,),
        paths=(),
        clients=tuple(internet.client(client) for client in spec.clients),
        risk_groups=(),
        control_region=relay.region,
        routing="origin-streams",
        notes=(*spec.notes, internet.note),
    )


def _direct(spec: WorldSpec) -> WorldSpec:
    return replace(spec, routing="origin-streams")


class _Internet:
    """Ways of clients to one relay: their access, then the public Internet from their region to the
    relay's."""

    def __init__(self, spec: WorldSpec, relay: EdgeSite) -> None:
        self._spec = spec
        self._relay = relay
        self._matrix: Matrix = public_internet(aws(), INTERNET_SEED)
        self._loss = drawn_loss(len(self._matrix.regions), INTERNET_SEED)
        self.note = "round trips and losses of the public Internet are synthesised (matrices.public_internet)"

    def client(self, client: Client) -> Client:
        """The client with the relay as its only edge."""
        up, down, rtt_ms = self._way(client)
        return replace(
            client,
            access_up=in_series(client.access_up, up),
            access_down=in_series(client.access_down, down),
            reaches=(Reach(node_id=self._relay.node_id, extra_us=0, rtt_ms=client.access_rtt_ms + rtt_ms),),
        )

    def _way(self, client: Client) -> tuple[LinkModel, LinkModel, float]:
        """Up, down, and the round trip between the client's region and the relay's."""
        if client.region == self._relay.region:
            return LinkModel(), LinkModel(), 0.0
        here, there = (_aws_region(name) for name in (client.region, self._relay.region))
        if here not in self._matrix.regions or there not in self._matrix.regions:
            return self._as_between_edges(client)
        i, j = self._matrix.index(here), self._matrix.index(there)
        rtt_ms = float(self._matrix.rtt_ms[i, j])
        delay_us = round(rtt_ms * 500)
        up, down = (
            LinkModel(delay_us=delay_us, losses=(BurstLoss(float(loss), INTERNET_LOSS_BURST),))
            for loss in (self._loss[i, j], self._loss[j, i])
        )
        return up, down, rtt_ms

    def _as_between_edges(self, client: Client) -> tuple[LinkModel, LinkModel, float]:
        """Of a region that the matrix does not have: what lies between the edges there."""
        near = client.edges[0]
        up, down = self._spec.path(near, self._relay.node_id), self._spec.path(self._relay.node_id, near)
        return up.model, down.model, up.rtt_ms


def _aws_region(name: str) -> str:
    return REGIONS.get(name, name)


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


def left_out(scenario: Scenario, spec: WorldSpec, name: VariantName) -> tuple[AnyEvent, ...]:
    """The events of a scenario that a variant has nothing for."""
    variant = VARIANTS[name]
    world = variant.world(spec)
    return tuple(event for event in scenario.events if not variant.keeps(event, world))
