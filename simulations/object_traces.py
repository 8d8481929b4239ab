"""When each object's first and last byte came to which host: for one object's timeline over all its hops."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from farcast.proto._core import World
from farcast.proto.moqt.names import FullTrackName
from farcast.simulations.raw import OBJECT_HOP_DTYPE, Array
from farcast.simulations.records import OBJECT_TRACE_DTYPE

ROWS_MAX = 5_000_000

TrackNames = Callable[[], Mapping[int, FullTrackName]]
"""The tracks that a host's datapath holds now, by its numbers."""


class ObjectTraces:
    """Collects the traces of some hosts. ``indices``: of the film's tracks; all others are left out."""

    def __init__(self, world: World, indices: Mapping[FullTrackName, int]) -> None:
        self._world = world
        self._indices = indices
        self._hosts: list[tuple[str, int, TrackNames]] = []
        self._known: list[dict[int, int]] = []
        self._parts: list[Array] = []
        self._count = 0

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of hosts, as rows number them."""
        return tuple(name for name, _, _ in self._hosts)

    def start(self, name: str, host: int, names: TrackNames) -> None:
        """Trace this host from now on."""
        self._hosts.append((name, host, names))
        self._known.append({})
        self._world.trace_objects(host, True)

    def take(self) -> None:
        """Take what has come since the last time."""
        for number, (_, host, names) in enumerate(self._hosts):
            trace = np.frombuffer(self._world.take_object_trace(host), OBJECT_TRACE_DTYPE)
            if not len(trace) or self._count >= ROWS_MAX:
                continue
            known = self._known[number]
            for track, name in names().items():
                known[track] = self._indices.get(name, -1)
            for track in np.unique(trace["track"]).tolist():
                if known.get(track, -1) >= 0:
                    self._keep(number, known[track], trace[trace["track"] == track])

    def _keep(self, number: int, index: int, trace: Array) -> None:
        part = np.zeros(len(trace), OBJECT_HOP_DTYPE)
        for name in ("group", "object", "first_us", "last_us"):
            part[name] = trace[name]
        part["host"], part["track"] = number, index
        self._parts.append(part)
        self._count += len(part)

    def rows(self) -> Array:
        """All rows, in order of the last byte."""
        if not self._parts:
            return np.empty(0, OBJECT_HOP_DTYPE)
        whole = np.concatenate(self._parts)
        return whole[np.argsort(whole["last_us"], kind="stable")]
