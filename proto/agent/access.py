"""Who may do what at this edge: the agent asks here before it takes a request of a client.

Edges are not asked: both ends of a hop proved who they are by certificates, and every edge asks its own
clients. The edge list (``.farcast``) is for everybody, because a client needs it before anything else.

A client shows its tokens in SETUP, in a request, in REQUEST_UPDATE (a fresh one, for what runs), or, where
all it has is a URL, as ``?jwt=`` in its path. A session that shows nothing good for `shown_ms_max` is closed.
When a session has lost a grant and does something that no other grant covers, it is closed: half a session
that goes on without its sound would help nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from farcast.proto.access.gate import EXPIRY_GRACE_SECONDS, AccessPolicy, Gate, Refusal
from farcast.proto.access.quotas import Amounts, QuotaTable
from farcast.proto.access.scopes import Action
from farcast.proto.access.tokens import TOKEN_BYTES_MAX, TOKEN_TYPE
from farcast.proto.agent.discovery import Announcing
from farcast.proto.agent.local_tracks import is_own_namespace
from farcast.proto.agent.namespaces import PrefixSubscriber
from farcast.proto.agent.tracks import Downstream, Pending, Publication
from farcast.proto.moqt.errors import RequestCode, SessionCode
from farcast.proto.moqt.names import TrackNamespace

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.moqt.values import Token

TOKEN_QUERY: Final = "jwt"
"""Of a URL's query, as moq-rs and ``@moq`` name it."""

SHOWN_MS_MAX: Final = 10_000
"""A session without a grant is closed after this."""

Close = Callable[["Peer", SessionCode, str], None]


class Access:
    """The gate of one edge, asked in the agent's terms."""

    def __init__(self, hub: Hub, peers: PeerTable, close: Close) -> None:
        self._hub = hub
        self._peers = peers
        self._close = close
        self.gate = Gate(hub.config.access)
        self._local = hub.config.access
        self._planned: AccessPolicy | None = None
        self._edges: Collection[str] = ()
        self._shares: Mapping[str, Amounts] = {}
        self.quotas = QuotaTable(self._namespaces_of)
        self._set_quotas()

    # ---- Input ------------------------------------------------------------------------------------

    def established(self, peer: Peer, tokens: Iterable[Token], path: str) -> None:
        """A client's SETUP is here."""
        if self.gate.is_open or not self._is_asked(peer):
            return
        self.show(peer, tokens)
        in_path = token_in(path)
        if in_path is not None:
            self._take(peer, [in_path])
        if not self.gate.keys_of(peer.id):
            self._hub.set_timer("unshown", peer.id, after_ms=SHOWN_MS_MAX)
        self._arm()

    def show(self, peer: Peer, tokens: Iterable[Token]) -> None:
        """A client shows tokens with a request."""
        values = [token.value for token in tokens if token.token_type == TOKEN_TYPE]
        if values and self._is_asked(peer):
            self._take(peer, values)
            self._arm()

    def _take(self, peer: Peer, tokens: Iterable[bytes]) -> None:
        for cause in self.gate.handle_tokens(peer.id, tokens, self._hub.unix_s):
            self._hub.counters[f"tokens_refused_{cause}"] += 1

    def policy_changed(
        self,
        *,
        local: AccessPolicy | None = None,
        planned: AccessPolicy | None = None,
        edges: Collection[str] = (),
        shares: Mapping[str, Amounts] | None = None,
    ) -> None:
        """The edge's own configuration or a plan brought other keys or revocations. An open edge stays so.
        ``edges``: node ids of the plan, which divide the quotas of its keys; ``shares``: this one's."""
        if self._local is None:
            return
        self._local = local or self._local
        self._planned = planned or self._planned
        self._edges = edges or self._edges
        self._shares = self._shares if shares is None else shares
        self.gate.handle_policy(self._local.joined(self._planned))
        self._set_quotas()
        self._enforce()

    def forget(self, peer: Peer) -> None:
        """The session is over."""
        self.gate.forget(peer.id)
        self.quotas.forget(peer.id)
        self._hub.cancel_timer("unshown", peer.id)

    def unshown_due(self, session: int) -> None:
        """A session had time enough to show a token."""
        peer = self._peers.get(session)
        if peer is not None and not self.gate.keys_of(session):
            self._close(peer, SessionCode.UNAUTHORIZED, "no token was shown")

    def due(self) -> None:
        """The grace of some grant is over."""
        self.gate.handle_time(self._hub.unix_s)
        self._enforce()
        self._arm()

    # ---- Questions --------------------------------------------------------------------------------

    def refusal(
        self,
        peer: Peer,
        action: Action,
        namespace: TrackNamespace,
        track: bytes | None,
        tokens: Iterable[Token] = (),
    ) -> tuple[RequestCode, str] | None:
        """Why a client may not do this; ``None`` if it may. Tokens that come with the request count."""
        if self.gate.is_open or not self._is_asked(peer):
            return None
        self.show(peer, tokens)
        if action in (Action.SUBSCRIBE, Action.SUBSCRIBE_NAMESPACE) and is_own_namespace(namespace):
            return None
        refusal = self.gate.refusal(peer.id, action, namespace, track, self._hub.unix_s)
        if refusal is None:
            return self._over_quota(peer, action, namespace, track)
        self._hub.counters[f"unauthorized_{action.name.lower()}"] += 1
        return _code(refusal), refusal.reason

    # ---- Enforcing --------------------------------------------------------------------------------

    def handle_snapshot(self, snapshot: Mapping[str, Any], now_us: int) -> bool:
        """The datapath's counters: meter them, and end the newest publisher of a key that sends too much;
        whether there was one."""
        if self.gate.is_open:
            return False
        closed = False
        self.quotas.handle_snapshot(snapshot["sessions"], now_us)
        while (found := self.quotas.over()) is not None:
            session, key_id = found
            peer = self._peers.get(session)
            if peer is None:
                self.quotas.forget(session)
                continue
            self._hub.counters["sessions_over_quota"] += 1
            self._close(peer, SessionCode.UNAUTHORIZED, f"key {key_id} sends more bit/s than its quota")
            closed = True
        return closed

    def _over_quota(
        self, peer: Peer, action: Action, namespace: TrackNamespace, track: bytes | None
    ) -> tuple[RequestCode, str] | None:
        payers = self.gate.payers(peer.id, action, namespace, track, self._hub.unix_s)
        why_not = self.quotas.admit(payers, peer.id, action, namespace)
        if why_not is None:
            return None
        self._hub.counters[f"over_quota_{action.name.lower()}"] += 1
        return RequestCode.EXCESSIVE_LOAD, why_not

    def _namespaces_of(self, session: int) -> Iterator[TrackNamespace]:
        """In which a session publishes now."""
        peer = self._peers.get(session)
        for role in peer.roles.values() if peer is not None else ():
            if isinstance(role, Publication):
                yield role.name.namespace
            elif isinstance(role, Announcing):
                yield role.namespace

    def _set_quotas(self) -> None:
        if self._local is not None:
            planned = self._planned.keys if self._planned is not None else {}
            keys = self._local.joined(self._planned).keys
            quotas = {key_id: key.quotas for key_id, key in keys.items()}
            own = self._hub.config.node_id
            edges = {own, *self._edges}
            rank = sum(node_id < own for node_id in edges)
            self.quotas.handle_quotas(quotas, planned, len(edges), rank, self._shares)

    def _is_asked(self, peer: Peer) -> bool:
        return peer.upstream is None and not peer.is_hop

    def _enforce(self) -> None:
        """Close the sessions that do what nothing allows any more."""
        while (session := self.gate.poll_changed()) is not None:
            peer = self._peers.get(session)
            if peer is not None and not all(self._may_go_on(peer, role) for role in peer.roles.values()):
                self._hub.counters["sessions_unauthorized"] += 1
                self._close(peer, SessionCode.UNAUTHORIZED, "the token has ended or was revoked")
            elif peer is not None and not self.gate.keys_of(session):
                self._hub.set_timer("unshown", session, after_ms=SHOWN_MS_MAX)

    def _may_go_on(self, peer: Peer, role: Any) -> bool:
        track: bytes | None
        match role:
            case Downstream() | Pending():
                action, namespace, track = Action.SUBSCRIBE, role.track.name.namespace, role.track.name.name
            case Publication():
                action, namespace, track = Action.PUBLISH, role.name.namespace, role.name.name
            case Announcing():
                action, namespace, track = Action.PUBLISH_NAMESPACE, role.namespace, None
            case PrefixSubscriber():
                action, namespace, track = Action.SUBSCRIBE_NAMESPACE, role.prefix, None
            case _:
                return True
        return is_own_namespace(namespace) or self.gate.may_go_on(peer.id, action, namespace, track)

    def _arm(self) -> None:
        """Wake up when the next grace is over, by the wall clock as it is now, and at least once a minute,
        because that clock may be set."""
        end = self.gate.next_end()
        if end is None:
            self._hub.cancel_timer("access", 0)
        else:
            wait_s = min(max(end - self._hub.unix_s, 0.0), 2.0 * EXPIRY_GRACE_SECONDS)
            self._hub.set_timer("access", 0, after_ms=int(wait_s * 1_000) + 1)


def token_in(path: str) -> bytes | None:
    """The token in a URL's query."""
    if len(path) > 2 * TOKEN_BYTES_MAX or "?" not in path:
        return None
    try:
        values = parse_qs(urlsplit(path).query, max_num_fields=16).get(TOKEN_QUERY, [])
    except ValueError:
        return None
    return values[0].encode("utf-8", "replace") if values else None


def _code(refusal: Refusal) -> RequestCode:
    if refusal.exhausted:
        return RequestCode.EXCESSIVE_LOAD
    return RequestCode.EXPIRED_AUTH_TOKEN if refusal.expired else RequestCode.UNAUTHORIZED
