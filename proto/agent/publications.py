"""PUBLISH: tracks that clients offer one by one, without being asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farcast.proto.access.scopes import Action
from farcast.proto.agent.local_tracks import is_own_namespace
from farcast.proto.agent.routes import detach_route
from farcast.proto.agent.tracks import Publication
from farcast.proto.moqt.errors import RequestCode

if TYPE_CHECKING:
    from farcast.proto.agent.access import Access
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer
    from farcast.proto.agent.sourcing import Sourcing
    from farcast.proto.agent.takeover import Takeover
    from farcast.proto.agent.tracks import TrackTable
    from farcast.proto.moqt import events as moqt


class Publications:
    """Takes and refuses them; what becomes of them is the business of `sourcing`."""

    def __init__(
        self, hub: Hub, access: Access, tracks: TrackTable, sourcing: Sourcing, takeover: Takeover
    ) -> None:
        self._hub = hub
        self._access = access
        self._tracks = tracks
        self._sourcing = sourcing
        self._takeover = takeover

    def requested(self, peer: Peer, event: moqt.PublishRequested) -> None:
        """PUBLISH: take it, and let it flow if somebody waits for it."""
        refusal = self._refusal(peer, event)
        if refusal is not None:
            peer.moqt.reject(event.request, *refusal)
            return
        track = self._tracks.by_name.get(event.name)
        wanted = track is not None and track.source is None and track.is_watched()
        publication = Publication(
            session=peer.id,
            request=event.request,
            name=event.name,
            alias=event.alias,
            largest=event.largest,
            properties=detach_route(event.track_properties)[0],
            forward=wanted,
        )
        peer.roles[event.request] = publication
        self._tracks.add_publication(publication)
        peer.moqt.accept_publish(event.request, forward=wanted)
        if track is not None and track.source is None:
            self._sourcing.appeared(track, here=True)
        elif track is not None:
            self._takeover.offered(track, peer)

    def _refusal(self, peer: Peer, event: moqt.PublishRequested) -> tuple[RequestCode, str] | None:
        limit = self._hub.config.limits.published_tracks_per_session_max
        if self._hub.draining:
            return RequestCode.GOING_AWAY, f"edge {self._hub.config.node_id} is going away"
        if is_own_namespace(event.name.namespace):
            return RequestCode.UNAUTHORIZED, "this namespace belongs to the edges"
        if any(p.session == peer.id for p in self._tracks.publications.get(event.name, ())):
            return RequestCode.DUPLICATE_SUBSCRIPTION, "this session publishes this track already"
        if peer.count_roles(Publication) >= limit:
            return RequestCode.EXCESSIVE_LOAD, f"a session may publish {limit} tracks"
        name = event.name
        return self._access.refusal(peer, Action.PUBLISH, name.namespace, name.name, event.tokens)
