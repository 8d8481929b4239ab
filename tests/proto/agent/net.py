"""A small planned network, as most tests of standbys and moves want it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plans import Plans
from .world import Host, World, events_of


class Net:
    """Origin ``o``, relays ``r`` and ``s``, egress ``e``: e takes from r, then from s, then from o."""

    def __init__(
        self, *more: str, viewer: bool = True, settings: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """``settings``: of single edges."""
        self.world = World()
        names = ("o", "r", "s", "e", *more)
        own = settings or {}
        self.edges = {name: self.world.planned_edge(name, **own.get(name, {})) for name in names}
        self.o, self.r, self.s, self.e = (self.edges[name] for name in names[:4])
        self.plans = Plans(self.world, *self.edges.values())
        self.publisher = self.world.publisher(self.o, "live/a", "video")
        self.push(e=("r", "s", "o"))
        self.world.run(200)
        self.viewer = self.world.viewer(self.e, "live/a", "video") if viewer else None
        self.world.run(500)

    def push(self, *, directory: str = "o", **upstreams: tuple[str, ...]) -> None:
        """The plan: relays take from the origin unless said otherwise."""
        routes: dict[str, Any] = {name: {"o": ["o"]} for name in self.edges if name != "o"}
        routes.update({name: {"o": list(list_)} for name, list_ in upstreams.items()})
        self.plans.push({"live/a": directory}, routes)

    def counter(self, edge: Host, name: str) -> int:
        return int(edge.engine.status(self.world.now_us)["counters"].get(name, 0))

    def news(self) -> list[type]:
        """What the viewer was told since the last time."""
        assert self.viewer is not None
        return [type(event) for event in events_of(self.viewer)]
