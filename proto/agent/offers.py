"""What this edge offers the network, and what it takes from it: for reports to the control plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farcast.proto.control.messages import Offer, TrackLoad
from farcast.proto.control.ranges import is_node_id

if TYPE_CHECKING:
    from farcast.proto.agent.namespaces import NamespaceTable
    from farcast.proto.agent.sessions import PeerTable
    from farcast.proto.agent.tracks import TrackTable
    from farcast.proto.moqt.names import TrackNamespace


class Offers:
    """Namespaces that publishers have here, announced or by tracks that they published, and since when."""

    def __init__(self, peers: PeerTable, tracks: TrackTable, namespaces: NamespaceTable) -> None:
        self._peers = peers
        self._tracks = tracks
        self._namespaces = namespaces
        self._since_us: dict[TrackNamespace, int] = {}

    @property
    def serial(self) -> int:
        """Another number whenever the offers may be other ones."""
        return self._namespaces.changes + self._tracks.publication_changes

    def current(self, now_us: int) -> tuple[Offer, ...]:
        """All of them."""
        found = dict.fromkeys(
            namespace
            for namespace in self._namespaces.namespaces()
            if any(map(self._publishes, self._namespaces.announcers_of(namespace)))
        )
        for name, publications in self._tracks.publications.items():
            if any(self._publishes(publication.session) for publication in publications):
                found[name.namespace] = None
        self._since_us = {namespace: self._since_us.get(namespace, now_us) for namespace in found}
        return tuple(
            Offer(namespace=namespace.fields, age_us=max(0, now_us - since_us))
            for namespace, since_us in self._since_us.items()
            if all(namespace.fields)
        )

    def _publishes(self, session: int) -> bool:
        peer = self._peers.get(session)
        return peer is not None and peer.is_publisher


class DemandMeter:
    """Tracks taken from each origin, and their bit rate.

    A track's rate is that of the fastest of its downstreams between two snapshots: each gets all of it, but
    slow ones fall behind, and new ones get the cache at first.
    """

    def __init__(self, tracks: TrackTable) -> None:
        self._tracks = tracks
        self._bytes: dict[int, int] = {}
        self._at_us = 0

    def handle_snapshot(self, snapshot: Mapping[str, Any], now_us: int) -> tuple[TrackLoad, ...]:
        """The demand since the snapshot before, by origin."""
        before, elapsed_us = self._bytes, max(1, now_us - self._at_us)
        self._bytes = {d["downstream"]: d["bytes"] for d in snapshot["downstreams"]}
        self._at_us = now_us
        tracks: dict[str, int] = {}
        bps: dict[str, int] = {}
        for track in self._tracks.by_id.values():
            source = track.source
            if track.ahead and not track.is_watched():
                continue
            if source is None or not source.route or not is_node_id(source.route[0]):
                continue
            origin = source.route[0]
            grown = (
                self._bytes[d] - before[d] for d in track.downstreams if d in before and d in self._bytes
            )
            tracks[origin] = tracks.get(origin, 0) + 1
            bps[origin] = bps.get(origin, 0) + max(grown, default=0) * 8_000_000 // elapsed_us
        return tuple(TrackLoad(origin=o, tracks=n, bps=bps[o]) for o, n in sorted(tracks.items()))
