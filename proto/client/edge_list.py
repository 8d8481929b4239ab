"""The list of edges that every edge serves: track ``edges`` of namespace ``.farcast``.

An object is one compact JWS (RFC 7515). It comes over a TLS connection whose other end the client trusts
already, to which it would connect as well if that sent it there by GOAWAY, so the signature tells it
nothing; size, shape and URLs are checked nevertheless. A list that is faulty anywhere is refused as a whole,
because half a list would hide the fault. An older one than that at hand is stale and ignored.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from farcast.proto._core import Command, Event, LargestCell
from farcast.proto.agent.config import MediaLimits
from farcast.proto.agent.downstream import cache_limits
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.session import Session
from farcast.proto.urls import ServerUrl, parse_url

EDGE_LIST = FullTrackName(TrackNamespace((b".farcast",)), b"edges")
"""Where the list is."""

EDGE_LIST_BYTES_MAX = 256 << 10
EDGES_LISTED_MAX = 1_024
URL_CHARACTERS_MAX = 512
PRIORITY = 0
"""The list goes before all media; it is small and rare."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MEDIA = MediaLimits(cache_bytes_max=1 << 20, cache_groups_max=2)


@dataclass(frozen=True, slots=True)
class ListedEdge:
    """One edge of the list."""

    node_id: str
    region: str
    url: ServerUrl
    draining: bool = False


@dataclass(frozen=True, slots=True)
class EdgeList:
    """The edges that viewers and publishers may use, at a moment of the control plane's clock (Unix)."""

    issued_unix_us: int
    edges: tuple[ListedEdge, ...]

    def seen_from(self, authority: str) -> list[ListedEdge]:
        """Those that serve first, then those of the region of the edge at ``host:port``; else as listed."""
        here = next((edge.region for edge in self.edges if edge.url.authority == authority), None)
        return sorted(self.edges, key=lambda edge: (edge.draining, edge.region != here))


class BadEdgeList(ValueError):
    """The list cannot be used; the text says where and why."""


class _Edge(msgspec.Struct, frozen=True):
    node_id: str
    region: str
    url: str
    draining: bool = False


class _Payload(msgspec.Struct, frozen=True):
    issued_unix_us: int
    edges: list[_Edge]


def parse_edge_list(token: bytes) -> EdgeList:
    """Read a compact JWS; `BadEdgeList` if anything in it is not as it must be."""
    if len(token) > EDGE_LIST_BYTES_MAX:
        raise BadEdgeList(f"edge list: {len(token)} bytes, more than {EDGE_LIST_BYTES_MAX}")
    parts = token.split(b".")
    if len(parts) != 3:
        raise BadEdgeList(f"edge list: no compact JWS, it has {len(parts)} parts")
    try:
        text = base64.b64decode(parts[1] + b"=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        payload = msgspec.json.decode(text, type=_Payload)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEdgeList(f"edge list: {error}") from error
    if len(payload.edges) > EDGES_LISTED_MAX:
        raise BadEdgeList(f"edge list: {len(payload.edges)} edges, more than {EDGES_LISTED_MAX}")
    if payload.issued_unix_us < 0:
        raise BadEdgeList("edge list: issued_unix_us is negative")
    edges = tuple(_listed(index, edge) for index, edge in enumerate(payload.edges))
    return EdgeList(payload.issued_unix_us, edges)


def _listed(index: int, edge: _Edge) -> ListedEdge:
    where = f"edge list: edges[{index}]"
    for name, text in (("node_id", edge.node_id), ("region", edge.region)):
        if _LABEL.fullmatch(text) is None:
            raise BadEdgeList(f"{where}.{name}: {text[:80]!r} is no name of lower-case letters and digits")
    if len(edge.url) > URL_CHARACTERS_MAX:
        raise BadEdgeList(f"{where}.url: longer than {URL_CHARACTERS_MAX} characters")
    try:
        url = parse_url(edge.url)
    except ValueError as error:
        raise BadEdgeList(f"{where}.url: {error}") from error
    if url.target == "hop":
        raise BadEdgeList(f"{where}.url: {edge.url!r} is a hop, clients speak moqt:// and https://")
    return ListedEdge(edge.node_id, edge.region, url, edge.draining)


class EdgeListFollower:
    """Subscribes the list at each edge, and keeps the newest.

    Each session has a track of its own in the datapath: the group numbers of two edges' lists have nothing
    to do with one another. An edge without a list refuses the subscription, and that is that.
    """

    def __init__(self, commands: deque[Command], new_id: Callable[[], int]) -> None:
        self._commands = commands
        self._new_id = new_id
        self._session: int | None = None
        self._request: int | None = None
        self._track: int | None = None
        self._sink: int | None = None
        self._newest = -1

    def follow(self, moqt_session: Session, session: int) -> None:
        """A session stands: ask for the list there, and no longer at the edge before."""
        self.drop()
        self._session = session
        self._request = moqt_session.subscribe(EDGE_LIST, priority=PRIORITY)

    def drop(self) -> None:
        """Forget what the datapath holds of it."""
        if self._track is not None:
            self._commands.append(Command.RemoveTrack(track=self._track))
        self._request = self._track = self._sink = None

    def takes(self, session: int | None, notice: object) -> bool:
        """Whether an event of a MoQT session is about the list; it is dealt with then."""
        if self._request is None or session != self._session:
            return False
        if getattr(notice, "request", None) != self._request:
            return False
        if isinstance(notice, moqt.SubscribeAccepted):
            self._bind(notice.alias)
        elif isinstance(notice, moqt.RequestRejected | moqt.PublishEnded | moqt.RequestCancelled):
            self._request = None
        return True

    def object(self, event: Event.Object) -> EdgeList | None:
        """A newer list, if this object is one of ours and holds one; `BadEdgeList` if it cannot be used."""
        if event.downstream != self._sink or event.status != 0:
            return None
        found = parse_edge_list(event.payload)
        if found.issued_unix_us <= self._newest:
            return None
        self._newest = found.issued_unix_us
        return found

    def owns(self, downstream: int) -> bool:
        """Whether a sink is the list's."""
        return self._sink is not None and downstream == self._sink

    def _bind(self, alias: int) -> None:
        if self._session is None or self._track is not None:
            return
        self._track, self._sink = self._new_id(), self._new_id()
        limits = cache_limits(_MEDIA)
        self._commands.append(Command.AddTrack(track=self._track, largest=LargestCell(), cache=limits))
        self._commands.append(Command.AddSink(downstream=self._sink, track=self._track, start=(0, 0)))
        self._commands.append(Command.BindUpstream(session=self._session, alias=alias, track=self._track))
