"""What each issuer's key has used in the whole cluster: bytes and minutes, by day, kept.

Edges tell totals of meters (`farcast.proto.access.metering`). The book remembers of each meter the largest
totals that it has seen, and adds to the key's day what a report is above them; both go to disk in one
transaction. So nothing is counted twice: not by a repeated report, not by a restart of either end, not after
a copy of the state was put back. What is on disk is up to `SAVE_US` old, and a control plane that dies loses
nothing by it, because edges tell the same totals again; those of a dead process are on disk before they are
acknowledged.

Days are those of UTC, by this control plane's clock when the report came. What an edge counted while it was
cut off falls on the day on which it is back.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from farcast.proto.access.metering import OLD_METERS_MAX
from farcast.proto.access.quotas import Amounts, Totals
from farcast.proto.control.messages import KeyUsage

SAVE_US: Final = 10_000_000
DAY_US: Final = 86_400_000_000
DAYS_MAX: Final = 400
"""Days that are kept apart; what is older is in a key's total only."""

METERS_PER_NODE_MAX: Final = OLD_METERS_MAX + 2
"""Meters of one edge that are remembered: one more than an edge tells. One that came back after being
forgotten would be counted again."""

ENTRIES_MAX: Final = 400_000
"""Keys in all meters together. Beyond it new ones are not counted, which is told: too little, never twice."""

FORGET_US: Final = 30 * DAY_US
"""A meter that has said nothing for so long is forgotten: its edge has told what it left, or is gone."""

NOTHING: Final = Totals()

Meter = tuple[str, str]
"""Node id, meter."""


@dataclass(slots=True)
class Account:
    """Of one key. ``days``: day since 1970 to what it used on it."""

    total: Totals = NOTHING
    days: dict[int, Totals] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """The largest totals of a meter, by key, and when it last said anything (Unix, microseconds)."""

    totals: Mapping[str, Totals]
    at_unix_us: int


@dataclass(frozen=True, slots=True)
class KeptUsage:
    """What is on disk."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    meters: Mapping[Meter, Seen] = field(default_factory=dict)


NO_USAGE_KEPT: Final = KeptUsage()


@dataclass(frozen=True, slots=True)
class UsageChange:
    """What is to be written: whole accounts and meters; a meter of ``None`` is forgotten."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    meters: Mapping[Meter, Seen | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Using:
    """What a key takes at one edge now, as that last told."""

    amounts: Amounts
    refused: int


class UsageBook:
    """See above. Times are Unix microseconds, but for ``now_us``."""

    def __init__(self, kept: KeptUsage) -> None:
        self.accounts = {key: Account(each.total, dict(each.days)) for key, each in kept.accounts.items()}
        self.left_out = 0
        """Keys of meters that had no room."""
        self._meters: dict[Meter, dict[str, Totals]] = {m: dict(s.totals) for m, s in kept.meters.items()}
        self._heard: dict[Meter, int] = {meter: seen.at_unix_us for meter, seen in kept.meters.items()}
        self._entries = sum(map(len, self._meters.values()))
        self._now: dict[str, dict[str, Using]] = {}
        self._dirty_accounts: dict[str, None] = {}
        self._dirty_meters: dict[Meter, None] = {}
        self._save_due_us: int | None = None

    # ---- Getters ----------------------------------------------------------------------------------

    def now(self, key_id: str) -> Mapping[str, Using]:
        """What a key takes now, by edge."""
        return self._now.get(key_id, {})

    def since(self, key_id: str, day: int) -> Totals:
        """What a key has used from the beginning of a day on."""
        account = self.accounts.get(key_id, Account())
        return _sum(used for of, used in account.days.items() if of >= day)

    # ---- Input ------------------------------------------------------------------------------------

    def take(
        self,
        node_id: str,
        boot_id: str,
        usage: Iterable[KeyUsage],
        known: Container[str],
        now_us: int,
        unix_us: int,
    ) -> None:
        """What an edge tells; ``known``: keys of the cluster. Others, which only that edge trusts, are not
        counted here, unless they once were."""
        for told in usage:
            if told.meter == boot_id:
                self._note_now(node_id, told)
            if told.key_id in known or told.key_id in self.accounts:
                self._count(node_id, told, unix_us)
                urgent = told.meter != boot_id
                due_us = now_us if urgent else now_us + SAVE_US
                self._save_due_us = min(self._save_due_us or due_us, due_us)

    def leave(self, node_id: str) -> None:
        """The edge is not connected: nobody knows what it serves now."""
        for edges in self._now.values():
            edges.pop(node_id, None)

    def forget_ended(self, unix_us: int) -> None:
        """Forget meters that will say nothing any more, and days long ago."""
        for meter in [m for m, at_us in self._heard.items() if at_us + FORGET_US <= unix_us]:
            self._forget(meter)
        oldest = unix_us // DAY_US - DAYS_MAX
        for key_id, account in self.accounts.items():
            for day in [day for day in account.days if day <= oldest]:
                del account.days[day]
                self._dirty_accounts[key_id] = None

    # ---- Output -----------------------------------------------------------------------------------

    def poll_changes(self, now_us: int) -> UsageChange | None:
        """What is to be written now, if it is time."""
        if self._save_due_us is None or now_us < self._save_due_us:
            return None
        self._save_due_us = None
        changed = {key_id: self.accounts[key_id] for key_id in self._dirty_accounts}
        accounts = {key_id: Account(each.total, dict(each.days)) for key_id, each in changed.items()}
        meters = {meter: self._seen(meter) for meter in self._dirty_meters}
        self._dirty_accounts, self._dirty_meters = {}, {}
        return UsageChange(accounts, meters)

    # ---- Below ------------------------------------------------------------------------------------

    def _count(self, node_id: str, told: KeyUsage, unix_us: int) -> None:
        meter = (node_id, told.meter)
        seen = self._meters.get(meter)
        if seen is None:
            self._make_room(node_id)
            seen = self._meters.setdefault(meter, {})
        before = seen.get(told.key_id)
        if before is None and self._entries >= ENTRIES_MAX:
            self.left_out += 1
            return
        self._entries += before is None
        totals = Totals(told.bytes_in, told.bytes_out, told.publisher_us, told.viewer_us)
        held = before or NOTHING
        more = Totals(*(max(new - old, 0) for new, old in zip(totals, held, strict=True)))
        seen[told.key_id] = _add(held, more)
        self._heard[meter] = unix_us
        self._dirty_meters[meter] = None
        if any(more):
            account = self.accounts.setdefault(told.key_id, Account())
            day = unix_us // DAY_US
            account.total = _add(account.total, more)
            account.days[day] = _add(account.days.get(day, NOTHING), more)
            self._dirty_accounts[told.key_id] = None

    def _note_now(self, node_id: str, told: KeyUsage) -> None:
        amounts = Amounts(told.publishers, told.viewers, told.namespaces, told.bps)
        edges = self._now.setdefault(told.key_id, {})
        if any(amounts) or told.refused:
            edges[node_id] = Using(amounts, told.refused)
        else:
            edges.pop(node_id, None)
        if not edges:
            del self._now[told.key_id]

    def _make_room(self, node_id: str) -> None:
        """One more meter of an edge: its oldest one may go."""
        own = sorted((at_us, meter) for meter, at_us in self._heard.items() if meter[0] == node_id)
        for _, meter in own[: max(len(own) - METERS_PER_NODE_MAX + 1, 0)]:
            self._forget(meter)

    def _forget(self, meter: Meter) -> None:
        self._entries -= len(self._meters.pop(meter, {}))
        self._heard.pop(meter, None)
        self._dirty_meters[meter] = None

    def _seen(self, meter: Meter) -> Seen | None:
        totals = self._meters.get(meter)
        return None if totals is None else Seen(dict(totals), self._heard[meter])


def _add(one: Totals, other: Totals) -> Totals:
    return Totals(*(a + b for a, b in zip(one, other, strict=True)))


def _sum(totals: Iterable[Totals]) -> Totals:
    whole = NOTHING
    for each in totals:
        whole = _add(whole, each)
    return whole
