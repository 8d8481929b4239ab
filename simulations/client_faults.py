"""What happens to clients: no signal, other addresses, slow links; and peers that mean harm.

What is in force on a client is kept, so that one that comes later than the event finds it so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from farcast.proto.urls import parse_url
from farcast.simulations import events as e
from farcast.simulations.access import draw_access
from farcast.simulations.hostile import HostilePeer
from farcast.simulations.links import LinkModel, in_series
from farcast.simulations.network import LinkChangeFn, Network, url_of
from farcast.simulations.scenario import Access

UNREAD_US: Final = 3_000_000
"""A viewer that stops reading has subscribed by then."""

REBINDS_MAX: Final = 10_000


class ClientFaults:
    """Does events to clients, those that are there and those that come."""

    def __init__(self, network: Network, seed: int) -> None:
        self._network = network
        self._seed = seed
        self._keys = 0
        self._in_force: dict[object, tuple[tuple[str, ...], Callable[[int], None]]] = {}
        """What is in force: on which clients, and how to do it to one at a host."""
        network.on_client = self._came

    def _new_key(self) -> tuple[str, int]:
        self._keys += 1
        return "client", self._keys

    def hampered(self) -> frozenset[str]:
        """Clients to which something is being done now."""
        return frozenset(name for names, _ in self._in_force.values() for name in names)

    def _named(self, names: tuple[str, ...]) -> tuple[str, ...]:
        clients = self._network.clients.values()
        return tuple(c.name for c in clients if c.name in names or c.entry in names)

    def _came(self, name: str, host: int) -> None:
        for names, apply in self._in_force.values():
            if name in names:
                apply(host)

    def _on_clients(
        self,
        clients: tuple[str, ...],
        apply: Callable[[int], None],
        undo: Callable[[int], None],
        for_us: int | None,
        now_us: int,
    ) -> None:
        """Do something to clients, those that come meanwhile included, and take it back."""
        key, names = self._new_key(), self._named(clients)
        self._in_force[key] = (names, apply)
        for host in self._hosts(names):
            apply(host)

        def end(at_us: int) -> None:
            self._in_force.pop(key, None)
            for host in self._hosts(names):
                undo(host)

        if for_us is not None:
            self._network.twin.at(now_us + for_us, end)

    def _hosts(self, names: Iterable[str]) -> list[int]:
        found = (self._network.client_host(name) for name in names)
        return [client.host for client in found if client is not None]

    def _access(self, host: int) -> list[tuple[int, int]]:
        """The directed links of a client's host."""
        return self._network.paths.of_host(host)

    def change(
        self,
        clients: tuple[str, ...],
        up: LinkChangeFn,
        down: LinkChangeFn,
        for_us: int | None,
        now_us: int,
    ) -> None:
        key, paths = self._new_key(), self._network.paths

        def apply(host: int) -> None:
            for src, dst in self._access(host):
                paths.change(key, src, dst, up if src == host else down)

        def undo(host: int) -> None:
            for src, dst in self._access(host):
                paths.undo(key, src, dst)

        self._on_clients(clients, apply, undo, for_us, now_us)

    def cut(
        self, clients: tuple[str, ...], for_us: int | None, now_us: int, *, one_way: bool = False
    ) -> None:
        """Nothing passes on their access; ``one_way``: nothing comes down."""
        key, paths = self._new_key(), self._network.paths

        def apply(host: int) -> None:
            for src, dst in self._access(host):
                if not one_way or dst == host:
                    paths.cut(key, src, dst)

        def undo(host: int) -> None:
            for src, dst in self._access(host):
                paths.undo(key, src, dst)

        self._on_clients(clients, apply, undo, for_us, now_us)

    def mend(self, clients: tuple[str, ...]) -> None:
        """Their access is as the world made it; so it is for those that come later."""
        mended = self._named(clients)
        for host in self._hosts(mended):
            for src, dst in self._access(host):
                self._network.paths.mend(src, dst)
        for key, (names, apply) in list(self._in_force.items()):
            self._in_force[key] = (tuple(name for name in names if name not in mended), apply)

    def black_out(self, event: e.BlackOut, now_us: int) -> None:
        key, network = self._new_key(), self._network

        def apply(host: int) -> None:
            for src, dst in self._access(host):
                network.paths.cut(key, src, dst)

        def undo(host: int) -> None:
            if event.new_address:
                network.twin.world.move_host(host, network.next_address())
            if event.profile:
                self._change_access(host, event.profile)
            for src, dst in self._access(host):
                network.paths.undo(key, src, dst)

        self._on_clients(event.clients, apply, undo, event.for_us, now_us)

    def _change_access(self, host: int, profile: str) -> None:
        """Another access network from now on, drawn like the first one."""
        network = self._network
        client = network.clients[network.name_of(host)]
        seed = np.random.SeedSequence([self._seed, *profile.encode(), host])
        drawn = draw_access(Access(profile=profile), client.country, np.random.default_rng(seed))
        for reach in client.reaches:
            edge = network.edges[reach.node_id].host
            up = in_series(drawn.up, reach.up) if reach.up else drawn.up
            down = in_series(drawn.down, reach.down) if reach.down else drawn.down
            network.paths.replace(host, edge, up)
            network.paths.replace(edge, host, down)

    def rebind(self, event: e.Rebind, now_us: int) -> None:
        network = self._network
        for_us = network.until_us - now_us if event.for_us is None else event.for_us
        for k in range(1, min(for_us // max(event.every_us, 1), REBINDS_MAX) + 1):

            def move(at_us: int) -> None:
                for host in self._hosts(self._named(event.clients)):
                    network.twin.world.move_host(host, network.next_address())

            network.twin.at(now_us + k * event.every_us, move, ())

    def slow(self, event: e.SlowViewer, now_us: int) -> None:
        self.change(
            event.clients,
            lambda model: model,
            lambda model: at_rate(model, event.rate_bps),
            event.for_us,
            now_us,
        )

    def hostile(self, event: e.Hostile, now_us: int) -> None:
        network = self._network
        if event.what == "unread":
            for _ in range(event.count):
                host = network.add_stranger_viewer(event.node, now_us)
                until_us = now_us + UNREAD_US + (event.for_us or network.until_us)
                self._pause_later(host, now_us + UNREAD_US, until_us)
            return
        if event.what == "unauthorised":
            for number in range(event.count):
                end = network.add_intruder(event.node, number, now_us)
                if event.for_us is not None:
                    end(now_us + event.for_us)
            return
        target = network.names.known(parse_url(url_of(event.node, "quic")))
        if target is None:
            return
        for k in range(event.count):
            peer = HostilePeer(event.what, target, self._seed * 1_000 + k)
            host = network.add_stranger(peer, event.node, hears=event.what != "handshakes")
            peer.start(now_us)
            network.twin.touch(host)
            if event.for_us is not None:
                network.twin.at(now_us + event.for_us, partial(_stop, peer), (host,))

    def _pause_later(self, host: int, at_us: int, until_us: int) -> None:
        world = self._network.twin.world
        self._network.twin.at(at_us, lambda _: world.pause_host(host, until_us), ())


def _stop(peer: HostilePeer, now_us: int) -> None:
    peer.stop()


def at_rate(model: LinkModel, rate_bps: int) -> LinkModel:
    """A link that carries so much at most."""
    rate = rate_bps if model.rate_bps is None else min(rate_bps, model.rate_bps)
    return replace(model, rate_bps=rate, rate_schedule=())
