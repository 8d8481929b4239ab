"""What each session of an edge may do: grants out of the tokens it showed, for as long as they are good.

    tokens ──► read_token ──► grants of the session ──► refusal(action, namespace, track)?
                                   ▲
      policy of the plan: keys, revoked tokens and keys, keys that have used up their quota

Without a policy everything is allowed (``--auth open``); with one, everything is denied that no grant allows.
A grant ends with its token, `EXPIRY_GRACE_SECONDS` later for what is running, so that a client whose new
token is on its way loses nothing; and at once when its token or key is revoked. The gate does not end
anything: it says which sessions have lost a grant (`changed`), and the agent asks again for what they do.

Time is the wall clock in Unix seconds, because that is what tokens speak of; a clock that is set moves the
end of grants and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.scopes import Action
from farcast.proto.access.tokens import BadToken, Cause, Grant, read_token
from farcast.proto.moqt.names import TrackNamespace

EXPIRY_GRACE_SECONDS: Final = 30
"""What runs goes on so long after its token's end; nothing new begins in that time."""

GRANTS_PER_SESSION_MAX: Final = 16
"""A session that shows more tokens loses the oldest grants."""


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Whose tokens open this cluster (``audience``). ``exhausted``: keys that have used up a quota."""

    audience: str
    keys: Mapping[str, TrustedKey] = field(default_factory=dict)
    revoked_tokens: frozenset[str] = frozenset()
    revoked_keys: frozenset[str] = frozenset()
    exhausted: frozenset[str] = frozenset()

    def joined(self, other: AccessPolicy | None) -> AccessPolicy:
        """This policy with what another one of the same cluster adds; that one's keys win."""
        if other is None:
            return self
        return AccessPolicy(
            self.audience,
            {**self.keys, **other.keys},
            self.revoked_tokens | other.revoked_tokens,
            self.revoked_keys | other.revoked_keys,
            self.exhausted | other.exhausted,
        )

    def is_revoked(self, grant: Grant) -> bool:
        """Whether a grant is worth nothing any more, whatever its token says."""
        gone = grant.key_id in self.revoked_keys or grant.key_id not in self.keys
        return gone or grant.token_id in self.revoked_tokens


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not allowed. ``expired``: a newer token may do; ``exhausted``: later may do."""

    reason: str
    expired: bool = False
    exhausted: bool = False


@dataclass(slots=True)
class _Session:
    grants: list[Grant] = field(default_factory=list)
    fault: Refusal | None = None
    """Of the newest token that was no good."""


class Gate:
    """The sessions of one edge. Unknown sessions have no grants."""

    def __init__(self, policy: AccessPolicy | None) -> None:
        self._policy = policy
        self._sessions: dict[int, _Session] = {}
        self._changed: dict[int, None] = {}
        self._refused: Counter[Cause] = Counter()

    # ---- Getters ----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return self._policy is None

    @property
    def tokens_refused(self) -> int:
        """So far."""
        return self._refused.total()

    @property
    def refused_by_cause(self) -> dict[Cause, int]:
        """The same, by cause; a copy, in the order of `Cause`."""
        return {cause: self._refused[cause] for cause in Cause if self._refused[cause]}

    def status(self) -> dict[str, object]:
        """For people: the keys that open this edge, and what was refused."""
        policy = self._policy
        return {
            "open": policy is None,
            "cluster": policy.audience if policy else "",
            "keys": len(policy.keys) if policy else 0,
            "revoked_tokens": len(policy.revoked_tokens) if policy else 0,
            "revoked_keys": len(policy.revoked_keys) if policy else 0,
            "grants": sum(len(session.grants) for session in self._sessions.values()),
            "tokens_refused": self.tokens_refused,
            "tokens_refused_by_cause": {cause.value: n for cause, n in self.refused_by_cause.items()},
        }

    def next_end(self) -> float | None:
        """When the next grant ends for good, Unix seconds."""
        ends = (grant.expires_unix_s for session in self._sessions.values() for grant in session.grants)
        return min((end + EXPIRY_GRACE_SECONDS for end in ends), default=None)

    def refusal(
        self, session: int, action: Action, namespace: TrackNamespace, track: bytes | None, unix_s: float
    ) -> Refusal | None:
        """Why a session may not begin something now; ``None`` if it may."""
        if self._policy is None:
            return None
        known = self._sessions.get(session) or _Session()
        allowing = [grant for grant in known.grants if grant.allows(action, namespace, track)]
        good = [grant for grant in allowing if grant.expires_unix_s > unix_s]
        if any(grant.key_id not in self._policy.exhausted for grant in good):
            return None
        if good:
            return Refusal("the quota of this token's key is used up", exhausted=True)
        if allowing:
            return Refusal("the token has expired", expired=True)
        if not known.grants and known.fault is not None:
            return known.fault
        return Refusal("no token allows this" if known.grants else "this needs a token")

    def payers(
        self, session: int, action: Action, namespace: TrackNamespace, track: bytes | None, unix_s: float
    ) -> tuple[str, ...]:
        """The keys whose tokens allow this now, each once, in order: one of them has to have room for it."""
        known = self._sessions.get(session)
        if self._policy is None or known is None:
            return ()
        good = (
            grant.key_id
            for grant in known.grants
            if grant.expires_unix_s > unix_s and grant.allows(action, namespace, track)
        )
        return tuple(key_id for key_id in dict.fromkeys(good) if key_id not in self._policy.exhausted)

    def may_go_on(self, session: int, action: Action, namespace: TrackNamespace, track: bytes | None) -> bool:
        """Whether what a session does is still covered by a grant, were it in its last grace."""
        if self._policy is None:
            return True
        known = self._sessions.get(session)
        return known is not None and any(grant.allows(action, namespace, track) for grant in known.grants)

    def keys_of(self, session: int) -> tuple[str, ...]:
        """The keys behind a session's grants, for metering; each once, in order."""
        known = self._sessions.get(session)
        return tuple(dict.fromkeys(grant.key_id for grant in known.grants)) if known else ()

    def subject_of(self, session: int) -> str:
        """Who a session is to its application; empty where no token says it."""
        known = self._sessions.get(session)
        return known.grants[-1].subject if known and known.grants else ""

    # ---- Input ------------------------------------------------------------------------------------

    def handle_tokens(self, session: int, tokens: Iterable[bytes], unix_s: float) -> list[Cause]:
        """A session shows tokens; those that are good add to what it may do. Why others are not, in order."""
        refused: list[Cause] = []
        if self._policy is None:
            return refused
        for token in tokens:
            known = self._sessions.setdefault(session, _Session())
            try:
                grant = read_token(token, self._policy.keys, self._policy.audience, unix_s)
            except BadToken as error:
                refused.append(error.cause)
                known.fault = Refusal(f"token refused: {error}", expired=error.expired)
                continue
            if self._policy.is_revoked(grant):
                refused.append(Cause.REVOKED)
                known.fault = Refusal("token refused: revoked")
                continue
            known.grants = [*(g for g in known.grants if g.token_id != grant.token_id), grant]
            known.grants = known.grants[-GRANTS_PER_SESSION_MAX:]
        self._refused.update(refused)
        return refused

    def handle_policy(self, policy: AccessPolicy | None) -> None:
        """Another policy is in force; grants that it does not know are gone."""
        self._policy = policy
        if policy is None:
            return
        for number, session in self._sessions.items():
            self._keep(number, session, [grant for grant in session.grants if not policy.is_revoked(grant)])

    def handle_time(self, unix_s: float) -> None:
        """Grants whose grace is over are gone."""
        for number, session in self._sessions.items():
            latest = unix_s - EXPIRY_GRACE_SECONDS
            self._keep(number, session, [grant for grant in session.grants if grant.expires_unix_s > latest])

    def forget(self, session: int) -> None:
        """The session is over."""
        self._sessions.pop(session, None)
        self._changed.pop(session, None)

    def poll_changed(self) -> int | None:
        """The next session that lost a grant."""
        return self._changed.popitem()[0] if self._changed else None

    def _keep(self, number: int, session: _Session, grants: list[Grant]) -> None:
        if len(grants) < len(session.grants):
            session.grants = grants
            self._changed[number] = None
