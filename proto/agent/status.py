"""The agent's state as plain data for ``/status.json``: what an operator wants to see first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from farcast.proto.agent.discovery import Announcing
from farcast.proto.agent.namespaces import PrefixSubscriber
from farcast.proto.agent.tracks import Downstream, Pending, Publication

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.namespaces import NamespaceTable
    from farcast.proto.agent.plan_upstreams import PlanUpstreams
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.agent.standby import Standby, Switch
    from farcast.proto.agent.tracks import Source, Track, TrackTable
    from farcast.proto.agent.upstreams import UpstreamLink, Upstreams


def describe(
    hub: Hub,
    peers: PeerTable,
    tracks: TrackTable,
    namespaces: NamespaceTable,
    upstreams: Upstreams,
    plan: PlanUpstreams,
    standby: Standby,
) -> dict[str, Any]:
    """Everything at one moment; only JSON types."""
    return {
        "node_id": hub.config.node_id,
        "region": hub.config.region,
        "now_us": hub.now_us,
        "draining": hub.draining,
        "sessions": [_session(peer) for peer in peers.by_id.values()],
        "tracks": [_track(track, peers) for track in tracks.by_id.values()],
        "namespaces": [_namespace(namespaces, n.path()) for n in namespaces.namespaces()],
        "upstreams": [_upstream(link) for link in upstreams.links.values()],
        "plan": _plan(plan),
        "switches": [_switch(switch) for switch in standby.switches],
        "counters": dict(sorted(hub.counters.items())),
    }


def _session(peer: Peer) -> dict[str, Any]:
    roles = Counter(type(role) for role in peer.roles.values())
    return {
        "session": peer.id,
        "transport": peer.transport,
        "draft": peer.draft,
        "incoming": peer.incoming,
        "remote": peer.remote,
        "node_id": peer.node_id,
        "implementation": peer.implementation,
        "established": peer.established,
        "going_away": peer.going_away,
        "subscriptions": roles[Downstream],
        "waiting": roles[Pending],
        "publications": roles[Publication],
        "namespaces": roles[Announcing],
        "prefixes": roles[PrefixSubscriber],
    }


def _plan(plan: PlanUpstreams) -> dict[str, Any] | None:
    now = plan.plan
    if now is None:
        return None
    return {
        "version": str(now.version),
        "issued_unix_us": now.issued_unix_us,
        "nodes": len(now.nodes),
        "namespaces": len(now.directory),
        "routes": {
            origin: {"upstreams": list(route.upstreams), "path": list(route.path)}
            for origin, route in sorted(now.routes.items())
        },
    }


def _switch(switch: Switch) -> dict[str, Any]:
    return {
        "at_us": switch.at_us,
        "namespace": switch.track.name.namespace.path(),
        "name": switch.track.name.name.decode("utf-8", "backslashreplace"),
        "cause": switch.cause,
        "from": switch.from_node,
        "to": switch.to_node,
        "silent_us": switch.silent_us,
        "gap_us": switch.gap_us,
    }


def _track(track: Track, peers: PeerTable) -> dict[str, Any]:
    largest, source = track.largest_location(), track.source
    return {
        "track": track.id,
        "namespace": track.name.namespace.path(),
        "name": track.name.name.decode("utf-8", "backslashreplace"),
        "phase": track.phase(),
        "viewers": len(track.active_downstreams()),
        "taken": track.is_taken(),
        "waiting": len(track.waiting),
        "largest": list(largest) if largest is not None else None,
        "source": source.key[0] if source is not None else None,
        "source_session": source.session if source is not None else None,
        "route": list(source.route) if source is not None else [],
        "standbys": [_standby(source, peers) for source in track.standbys],
        "moving": track.move is not None,
        "two_paths": any(source.sends for source in track.standbys),
        "starved": track.starved,
    }


def _standby(source: Source, peers: PeerTable) -> dict[str, Any]:
    peer = peers.get(source.session)
    return {
        "node_id": peer.node_id if peer is not None else None,
        "session": source.session,
        "bound": source.alias is not None,
        "sends": source.sends,
        "route": list(source.route),
    }


def _namespace(namespaces: NamespaceTable, path: str) -> dict[str, Any]:
    return {"namespace": path}


def _upstream(link: UpstreamLink) -> dict[str, Any]:
    return {
        "prefix": link.config.prefix.path() if link.planned is None else None,
        "planned": link.planned,
        "url": link.config.name,
        "state": link.state,
        "session": link.peer.id if link.peer is not None else None,
        "node_id": link.node_id,
        "failures": link.backoff.failures,
        "last_error": link.last_error,
    }
