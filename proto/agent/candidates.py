"""Whom a track can come from, in which order, and whom it must not come from.

Candidates in this order: a session that PUBLISHed the track; a publisher here that announced its namespace
(longest prefix, then oldest); then what the plan says: the upstreams for the namespace's origin, parent
first, those with a sound hop before the others. Where this edge is the origin nobody else is asked. What the
plan's directory does not know is asked of the configured upstreams (longest prefix).

An edge that gets the track from here is never asked for it. One that only stands by may be: it is not fed
until it has to be, and the answer's route tells if its own way leads through here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from farcast.proto.agent.local_tracks import is_own_namespace

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.namespaces import NamespaceTable
    from farcast.proto.agent.plan_upstreams import PlanUpstreams
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.agent.tracks import SourceKey, Track, TrackTable
    from farcast.proto.agent.upstreams import UpstreamLink, Upstreams


class Candidates:
    """Reads all tables, changes none."""

    def __init__(
        self,
        hub: Hub,
        peers: PeerTable,
        tracks: TrackTable,
        namespaces: NamespaceTable,
        upstreams: Upstreams,
        plan: PlanUpstreams,
    ) -> None:
        self._hub = hub
        self._peers = peers
        self._tracks = tracks
        self._namespaces = namespaces
        self._upstreams = upstreams
        self._plan = plan

    def keys(self, track: Track) -> Iterator[SourceKey]:
        """All candidates of a track, best first."""
        if is_own_namespace(track.name.namespace):
            return
        yield from self.publishers_here(track)
        asking = self.nodes_asking(track)
        for link in self._links(track):
            if link.node_id is None or link.node_id not in asking:
                yield "upstream", link.index

    def _links(self, track: Track) -> list[UpstreamLink]:
        planned = self._plan.links_for(track.name.namespace)
        if planned is None:
            return self._upstreams.candidates(track.name.namespace)
        return sorted(planned, key=lambda link: not link.is_sound)

    def is_planned(self, track: Track) -> bool:
        """Whether the plan says where the track comes from."""
        return self._plan.links_for(track.name.namespace) is not None

    def publishers_here(self, track: Track) -> Iterator[SourceKey]:
        """Sessions at this edge that offer a track, those that have stalled last."""
        found: list[tuple[SourceKey, Peer | None]] = []
        for publication in self._tracks.publications.get(track.name, ()):
            found.append((("publication", publication.session), self._peers.get(publication.session)))
        for announcement in self._namespaces.announcers(track.name.namespace):
            found.append((("announcer", announcement.session), self._peers.get(announcement.session)))
        usable = [(key, peer) for key, peer in found if peer is not None and peer.is_publisher]
        yield from (key for key, peer in sorted(usable, key=lambda item: item[1].stalled))

    def nodes_asking(self, track: Track) -> set[str]:
        """The edges that would get the track from here, over any number of hops."""
        return {node for way in self._ways(track) for node in way}

    def hop_path(self, track: Track) -> tuple[str, ...]:
        """The way of the first subscriber that came over a hop, and ourselves."""
        way = next((way for way in self._ways(track) if way), ())
        return (*way, self._hub.config.node_id)

    @staticmethod
    def _ways(track: Track) -> list[tuple[str, ...]]:
        ways = [pending.hop_path for pending in track.waiting.values() if pending.forward]
        return ways + [d.hop_path for d in track.edges_below() if d.forward]

    def mutual_wait(self, track: Track, path: tuple[str, ...]) -> str | None:
        """Why a subscriber must not wait: the edge we are asking is asking us. One of the two has to give
        in, so that the other can go on to its next source: the one with the greater node id does."""
        candidate = track.candidate
        if candidate is None or candidate.key[0] != "upstream":
            return None
        node_id = self._upstreams.links[candidate.key[1]].node_id
        if node_id is None or node_id not in path or self._hub.config.node_id < node_id:
            return None
        return f"circle: {self._hub.config.node_id} is asking {node_id} for the track"
