"""What all sessions by tokens of one key take at an edge together, and whether one more may be let in.

A session is a publisher of a key from its first publication that a token of the key allowed, and a viewer
from its first subscription, until it ends; one that takes its requests back and stays still holds its
connection here. Namespaces are counted as they are held (``held``).

An edge alone enforces the key's quota. Edges of a plan divide it: the plan gives each its share by where the
key is used (`farcast.control_plane.quota_shares`), and that stands while the control plane is gone. Of a
control plane that gives none, each of N edges takes an Nth, and those first by node id one more where that
does not come out even. So all together never are more than the quota, and nobody gets N quotas from N edges.

The bit rate is measured by snapshots, a second late: it keeps new sessions out (`admit`) and ends the
newest publisher of a key that sends more than its share for `OVER_SNAPSHOTS` snapshots (`over`). Sessions of
other keys never pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from farcast.proto.access.keys import KEYS_MAX, Quotas
from farcast.proto.access.scopes import Action
from farcast.proto.moqt.names import TrackNamespace

OVER_SNAPSHOTS: Final = 5
"""About as many seconds may a key send more than it may."""

STATUS_KEYS_MAX: Final = 256
"""Keys of which `QuotaTable.status` tells."""

_PUBLISHING: Final = frozenset({Action.PUBLISH, Action.PUBLISH_NAMESPACE})


class Amounts(NamedTuple):
    """Of one key at one edge: what is used, or what may be."""

    publishers: int = 0
    viewers: int = 0
    namespaces: int = 0
    bps: int = 0


def amounts_of(quotas: Quotas) -> Amounts:
    """The bounds of a key; 0 is none."""
    return Amounts(quotas.publishers_max, quotas.viewers_max, quotas.namespaces_max, quotas.egress_bps_max)


class Totals(NamedTuple):
    """What a key has used here since this process began; never falls."""

    bytes_in: int = 0
    bytes_out: int = 0
    publisher_us: int = 0
    viewer_us: int = 0


@dataclass(slots=True)
class _Key:
    """Sessions in the order in which they came."""

    publishers: dict[int, None] = field(default_factory=dict)
    viewers: dict[int, None] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    in_bps: int = 0
    out_bps: int = 0
    over: int = 0
    refused: int = 0


class QuotaTable:
    """The keys of one edge; of `KEYS_MAX` at most something is counted. ``held``: the namespaces that a
    session publishes in now."""

    def __init__(self, held: Callable[[int], Iterable[TrackNamespace]]) -> None:
        self._held = held
        self._quotas: dict[str, Amounts] = {}
        self._planned: frozenset[str] = frozenset()
        self._edges, self._rank = 1, 0
        self._shares: Mapping[str, Amounts] = {}
        self._keys: dict[str, _Key] = {}
        self._payers: dict[int, str] = {}
        self._bytes: dict[int, tuple[int, int]] = {}
        self._before_us: int | None = None

    # ---- Getters ----------------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of which anything was counted here."""
        return tuple(self._keys)

    def limits(self, key_id: str) -> Amounts | None:
        """What the key may take here; ``None`` is all. A field is bounded only where its quota is."""
        quotas = self._quotas.get(key_id)
        if quotas is None or not any(quotas):
            return None
        if key_id not in self._planned:
            return quotas
        if (share := self._shares.get(key_id)) is not None:
            return Amounts(*map(min, share, quotas))
        return Amounts(*(most // self._edges + (self._rank < most % self._edges) for most in quotas))

    def used(self, key_id: str) -> Amounts:
        """What it takes now; the bit rate is the larger one of both directions."""
        key = self._keys.get(key_id)
        if key is None:
            return Amounts()
        rate = max(key.in_bps, key.out_bps)
        return Amounts(len(key.publishers), len(key.viewers), len(self._namespaces(key)), rate)

    def totals(self, key_id: str) -> Totals:
        """What it has used."""
        key = self._keys.get(key_id)
        return key.totals if key else Totals()

    def refused(self, key_id: str) -> int:
        """How often its quota kept something out."""
        key = self._keys.get(key_id)
        return key.refused if key else 0

    def over(self) -> tuple[int, str] | None:
        """A publisher to be closed, the newest one of a key that sends too much, and that key."""
        for key_id, key in self._keys.items():
            if key.over >= OVER_SNAPSHOTS and key.publishers:
                key.over = 0
                return next(reversed(key.publishers)), key_id
        return None

    def status(self) -> dict[str, dict[str, int]]:
        """For people, by key: what it uses now and has used, and how often its quota refused something."""
        return {
            key_id: {
                **self.used(key_id)._asdict(),
                **self.totals(key_id)._asdict(),
                "refused": self.refused(key_id),
            }
            for key_id in self.keys[:STATUS_KEYS_MAX]
        }

    # ---- Input ------------------------------------------------------------------------------------

    def handle_quotas(
        self,
        quotas: Mapping[str, Quotas],
        planned: Iterable[str],
        edges: int,
        rank: int,
        shares: Mapping[str, Amounts] | None = None,
    ) -> None:
        """The keys in force, those of them that all ``edges`` of a network divide, how many these are, and
        which of them, from 0, this one is; ``shares``: what the plan gives this one, where it says so."""
        self._shares = shares or {}
        self._quotas = {key_id: amounts_of(quota) for key_id, quota in quotas.items()}
        self._planned, self._edges, self._rank = frozenset(planned), max(edges, 1), rank

    def admit(
        self, keys: Iterable[str], session: int, action: Action, namespace: TrackNamespace
    ) -> str | None:
        """Count a session's request to the first of its keys that has room; ``None``, or why none has."""
        why = ""
        for key_id in keys:
            why = self._why_not(key_id, session, action, namespace)
            if not why:
                self._count(key_id, session, action)
                return None
            self._key(key_id).refused += 1
        return why or None

    def handle_snapshot(self, sessions: Iterable[Mapping[str, int]], now_us: int) -> None:
        """The datapath's counters of every session (``session``, ``bytes_received``, ``bytes_sent``)."""
        elapsed_us = max(0, now_us - self._before_us) if self._before_us is not None else 0
        self._before_us = now_us
        moved = {key_id: [0, 0] for key_id in self._keys}
        for session in sessions:
            number = session["session"]
            key_id = self._payers.get(number)
            if key_id is None:
                continue
            received, sent = self._bytes.get(number, (0, 0))
            self._bytes[number] = session["bytes_received"], session["bytes_sent"]
            moved[key_id][0] += max(0, session["bytes_received"] - received)
            moved[key_id][1] += max(0, session["bytes_sent"] - sent)
        for key_id, key in self._keys.items():
            received, sent = moved[key_id]
            self._meter(key_id, key, received, sent, elapsed_us)

    def forget(self, session: int) -> None:
        """The session is over."""
        self._payers.pop(session, None)
        self._bytes.pop(session, None)
        for key in self._keys.values():
            key.publishers.pop(session, None)
            key.viewers.pop(session, None)

    # ---- Below ------------------------------------------------------------------------------------

    def _key(self, key_id: str) -> _Key:
        if key_id not in self._keys and len(self._keys) >= KEYS_MAX:
            idle = next((k for k, key in self._keys.items() if not key.publishers and not key.viewers), None)
            self._keys.pop(idle or next(iter(self._keys)))
        return self._keys.setdefault(key_id, _Key())

    def _count(self, key_id: str, session: int, action: Action) -> None:
        key = self._key(key_id)
        self._payers.setdefault(session, key_id)
        if action in _PUBLISHING:
            key.publishers[session] = None
        elif action is Action.SUBSCRIBE:
            key.viewers[session] = None

    def _why_not(self, key_id: str, session: int, action: Action, namespace: TrackNamespace) -> str:
        limits, quotas = self.limits(key_id), self._quotas.get(key_id, Amounts())
        if limits is None:
            return ""
        key = self._keys.get(key_id) or _Key()
        if action in _PUBLISHING:
            if (
                quotas.publishers
                and session not in key.publishers
                and len(key.publishers) >= limits.publishers
            ):
                return _full(key_id, "publishers", limits.publishers, quotas.publishers)
            held = self._namespaces(key) if quotas.namespaces else set()
            if quotas.namespaces and namespace not in held and len(held) >= limits.namespaces:
                return _full(key_id, "namespaces", limits.namespaces, quotas.namespaces)
            if quotas.bps and session not in key.publishers and key.in_bps >= limits.bps:
                return _full(key_id, "bit/s", limits.bps, quotas.bps)
        elif action is Action.SUBSCRIBE and session not in key.viewers:
            if quotas.viewers and len(key.viewers) >= limits.viewers:
                return _full(key_id, "viewers", limits.viewers, quotas.viewers)
            if quotas.bps and key.out_bps >= limits.bps:
                return _full(key_id, "bit/s", limits.bps, quotas.bps)
        return ""

    def _namespaces(self, key: _Key) -> set[TrackNamespace]:
        return {namespace for session in key.publishers for namespace in self._held(session)}

    def _meter(self, key_id: str, key: _Key, received: int, sent: int, elapsed_us: int) -> None:
        key.totals = Totals(
            key.totals.bytes_in + received,
            key.totals.bytes_out + sent,
            key.totals.publisher_us + elapsed_us * len(key.publishers),
            key.totals.viewer_us + elapsed_us * len(key.viewers),
        )
        if elapsed_us:
            key.in_bps, key.out_bps = received * 8_000_000 // elapsed_us, sent * 8_000_000 // elapsed_us
        limits, quotas = self.limits(key_id), self._quotas.get(key_id, Amounts())
        too_much = limits is not None and quotas.bps > 0 and key.in_bps > limits.bps
        key.over = key.over + 1 if too_much else 0


def _full(key_id: str, what: str, here: int, everywhere: int) -> str:
    return f"key {key_id} has used up its quota of {everywhere} {what} ({here} at this edge)"
