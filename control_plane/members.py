"""Who belongs to the cluster, and when an edge no longer does.

An edge whose control session is lost is **absent**, not gone: it goes on forwarding, and to take it out of
the plan would break what works. It is withdrawn only when

- the others that report a link to it, `WITNESSES` at least (or all there are), hear nothing from it, or
- it stays absent for `MembersConfig.absent_ms_max`, nobody hears it, and at least half of the members
  are connected and report. Where fewer are, it is the control plane that is cut off, and it takes out nobody.

As long as anybody hears it, it stays. And it is never taken for granted that the others are the ones cut
off: within `MembersConfig.region_hold_ms` nodes of one region at most are withdrawn. A control plane that is
itself isolated sees everybody leave at once; LiveKit once withdrew a whole data centre for seconds of loss
(incident bn1hhrmsy3w1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView
from dataclasses import dataclass, field

from farcast.proto.control.messages import Hello, Load, NodeInfo, Report

WITNESSES = 2
"""One edge that hears nothing from an absent one may have lost only its link to it."""


@dataclass(frozen=True, slots=True)
class MembersConfig:
    """Patience with edges that are absent."""

    nodes_max: int = 1_024
    absent_ms_max: int = 5_000
    """An absent edge that nobody hears is withdrawn after that."""
    restored_ms_max: int = 15_000
    """The same for edges of an earlier run of the control plane, from its start."""
    region_hold_ms: int = 30_000
    """After nodes of one region were withdrawn, those of another wait so long."""
    report_stale_ms: int = 5_000
    """What an edge said of others counts so long."""
    before_join_ms_max: int = 60_000
    """A new process of an edge serves publishers for so long before it joins; what it says to have held for
    longer counts as that old. An edge that held a plan before anybody here knew it is believed."""


@dataclass(slots=True)
class Member:
    """One edge of the cluster. ``session``: its control session; ``None`` while it is absent."""

    hello: Hello
    session: int | None
    since_us: int
    absent_us: int | None = None
    restored: bool = False
    """Of an earlier run of the control plane, and not heard in full in this one."""
    holds_since_us: int | None = None
    """Nothing that it offers is older, where that is known."""
    reported_us: int | None = None
    fully_reported: bool = False
    drains_itself: bool = False
    drain_us: int | None = None
    """When the operator ordered its drain."""
    drain_ms: int = 0
    drain_sent: bool = False
    load: Load = field(default_factory=Load)
    demand: dict[str, int] = field(default_factory=dict)
    """Bits per second taken from each origin."""
    hears: dict[str, bool] = field(default_factory=dict)
    """By peer: whether it hears anything from it."""
    reports: int = 0

    @property
    def node_id(self) -> str:
        """Its name."""
        return self.hello.node_id

    @property
    def region(self) -> str:
        """Where it is."""
        return self.hello.region

    @property
    def draining(self) -> bool:
        """Whether it is to carry nothing that can be elsewhere."""
        return self.drains_itself or self.drain_us is not None

    @property
    def silent(self) -> frozenset[str]:
        """Peers that it hears nothing from."""
        return frozenset(peer for peer, hears in self.hears.items() if not hears)

    @property
    def info(self) -> NodeInfo:
        """As the others see it."""
        hello = self.hello
        return NodeInfo(
            node_id=hello.node_id,
            region=hello.region,
            address=hello.advertise,
            public_url=hello.public_url,
            provider=hello.provider,
            draining=self.draining,
        )


class Members:
    """All members by node id. Times are the caller's, microseconds."""

    def __init__(self, config: MembersConfig) -> None:
        self._config = config
        self._members: dict[str, Member] = {}
        self._withdrawn_region = ""
        self._withdrawn_us = -(1 << 62)

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._members

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ids(self) -> KeysView[str]:
        """Names of all members; a view."""
        return self._members.keys()

    def get(self, node_id: str) -> Member | None:
        """The member of that name."""
        return self._members.get(node_id)

    def restore(self, hellos: Iterable[Hello], drains: dict[str, int], now_us: int) -> None:
        """Members of an earlier run: absent, and expected back. ``drains``: node id to its bound, ms."""
        for hello in hellos:
            member = Member(hello, None, now_us, absent_us=now_us, restored=True)
            if hello.node_id in drains:
                member.drain_us, member.drain_ms = now_us, drains[hello.node_id]
            self._members[hello.node_id] = member

    def why_not_join(self, hello: Hello) -> str | None:
        """Why there is no room for a newcomer."""
        if hello.node_id not in self._members and len(self._members) >= self._config.nodes_max:
            return f"the cluster has {len(self._members)} edges, at most {self._config.nodes_max} are allowed"
        return None

    def join(self, hello: Hello, session: int, now_us: int) -> int | None:
        """An edge has come (back); the session that it had until now and that is void.

        An order to drain that the edge was told is over when it starts anew: it has drained, and ended.
        """
        held = self._members.get(hello.node_id)
        member = Member(hello, session, now_us)
        if held is not None or hello.holds is None:
            member.holds_since_us = now_us - self._config.before_join_ms_max * 1_000
        if held is not None:
            member.load, member.demand, member.restored = held.load, held.demand, held.restored
            is_same_process = held.hello.boot_id == hello.boot_id
            if is_same_process or not held.drain_sent:
                member.drain_us, member.drain_ms = held.drain_us, held.drain_ms
            if is_same_process:
                member.holds_since_us = held.holds_since_us
                member.hears, member.drains_itself = held.hears, held.drains_itself
                member.drain_sent = held.drain_sent
        self._members[hello.node_id] = member
        return held.session if held else None

    def leave(self, node_id: str, session: int, now_us: int) -> bool:
        """A session ended; whether it was the one of the member, which is absent now."""
        member = self._members.get(node_id)
        if member is None or member.session != session:
            return False
        member.session, member.absent_us = None, now_us
        return True

    def handle_report(self, member: Member, report: Report, now_us: int) -> frozenset[str]:
        """Take over load and what the edge hears; peers that it newly hears nothing from."""
        before = member.hears
        member.reported_us = now_us
        member.reports += 1
        member.fully_reported |= report.full
        member.restored &= not report.full
        member.drains_itself = report.draining
        if report.load is not None:
            member.load = report.load
        if report.demand is not None:
            member.demand = {load.origin: load.bps for load in report.demand}
        if report.full:
            named = {link.peer for link in report.links} if report.distrust else frozenset[str]()
            member.hears = {peer: hears for peer, hears in before.items() if peer in named}
        for peer in report.unlinked:
            member.hears.pop(peer, None)
        if report.distrust:
            return frozenset()
        silent = [link.peer for link in report.links if link.silent]
        newly_silent = frozenset(peer for peer in silent if before.get(peer, True))
        member.hears.update(dict.fromkeys([link.peer for link in report.links], True))
        member.hears.update(dict.fromkeys(silent, False))
        return newly_silent

    def is_fresh(self, member: Member, now_us: int) -> bool:
        """Whether it is connected and has reported lately."""
        if member.session is None or member.reported_us is None:
            return False
        return member.reported_us > now_us - self._config.report_stale_ms * 1_000

    def is_heard(self, node_id: str, now_us: int) -> bool | None:
        """Whether any other edge hears the node; ``None`` where nobody has a say."""
        verdict: bool | None = None
        for other in self._members.values():
            hears = other.hears.get(node_id)
            if hears is None or not self.is_fresh(other, now_us):
                continue
            if hears:
                return True
            verdict = False
        return verdict

    def overdue(self, now_us: int) -> tuple[list[Member], list[Member]]:
        """Absent members to withdraw now, and those that would be but for their region's turn."""
        found = [member for member in self._members.values() if self._is_gone(member, now_us)]
        found.sort(key=lambda member: (member.absent_us or 0, member.node_id))
        withdrawn, kept = [], []
        for member in found:
            held = now_us < self._withdrawn_us + self._config.region_hold_ms * 1_000
            if held and member.region != self._withdrawn_region:
                kept.append(member)
                continue
            if not held or member.region != self._withdrawn_region:
                self._withdrawn_region, self._withdrawn_us = member.region, now_us
            withdrawn.append(member)
        return withdrawn, kept

    def withdraw(self, node_id: str) -> None:
        """Forget a member."""
        self._members.pop(node_id, None)
        for member in self._members.values():
            member.hears.pop(node_id, None)

    def awaited(self) -> list[str]:
        """Restored members that have not come back, or not reported in full yet."""
        return [m.node_id for m in self if m.restored]

    def _is_gone(self, member: Member, now_us: int) -> bool:
        if member.absent_us is None or member.session is not None:
            return False
        heard = self.is_heard(member.node_id, now_us)
        if heard:
            return False
        if heard is False and self._witnesses(member.node_id, now_us) >= min(WITNESSES, self._fresh(now_us)):
            return True
        patience_ms = self._config.restored_ms_max if member.restored else self._config.absent_ms_max
        return now_us >= member.absent_us + patience_ms * 1_000 and self._is_quorate(now_us)

    def _witnesses(self, node_id: str, now_us: int) -> int:
        """Edges that say whether they hear the node."""
        return sum(node_id in m.hears and self.is_fresh(m, now_us) for m in self._members.values())

    def _fresh(self, now_us: int) -> int:
        return sum(self.is_fresh(member, now_us) for member in self._members.values())

    def _is_quorate(self, now_us: int) -> bool:
        """Whether at least half of the members are connected and report: who is absent is, then, not we."""
        return 2 * sum(self.is_fresh(member, now_us) for member in self) >= len(self)
