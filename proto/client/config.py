"""How a client connects, and what a viewer watches."""

from __future__ import annotations

from dataclasses import dataclass, field

from farcast.proto.agent.backoff import BackoffConfig
from farcast.proto.agent.config import MediaLimits, Target
from farcast.proto.moqt.names import TrackNamespace


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """How a client connects. ``seed`` spreads reconnects; ``first_id`` is its first session id, odd."""

    target: Target
    seed: int = 0
    first_id: int = 1
    connect_ms_max: int = 10_000
    """The first connection must stand by then; later ones are tried without end."""
    overlap_ms: int = 1_000
    """Once everything runs over a new session, the old ones are kept this long beside it."""
    move_ms_max: int = 10_000
    """An old session is kept at most this long, whatever still hangs on it."""
    patience_ms: int = 1_500
    """A silent session that carries no media is given so much more time: nobody misses anything, and where
    few packets go, a short burst of loss is a long silence."""
    backoff: BackoffConfig = field(default_factory=BackoffConfig)
    alternatives: tuple[Target, ...] = ()
    """Other edges that serve the same, best first."""
    token: bytes = b""
    """Shown in SETUP (`farcast.proto.access.tokens`); empty is none."""


@dataclass(frozen=True, slots=True)
class ViewerConfig:
    """What to watch. ``wait_ms_max``: how long a track may be missing before the viewer gives up.
    ``follow_edge_list``: ask each edge of ours for its edge list (`EdgesListed`)."""

    connection: ConnectionConfig
    namespace: TrackNamespace
    wait_ms_max: int = 30_000
    media: MediaLimits = field(default_factory=MediaLimits)
    first_id: int = 1
    follow_edge_list: bool = False
    resume_ms_max: int | None = None
    """After a longer silence than this a track goes on at another edge with what is on, not where it stopped;
    ``None``: never. Edges drop what a viewer is further behind by than ``queue_ms_max``."""
