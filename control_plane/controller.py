"""The control plane as an engine: what edges say comes in, plans go out.

    bytes of edges ─► ServerChannel ─► members, links, directory ─► PlanCycle ─► Pushes ─► bytes to edges
                                              │                                   ▲
                                              └──────────► Save (durable first) ──┘

The shell calls a ``handle_*`` or a command, then polls, in this order: `poll_save` and makes it durable,
`poll_data` and sends it, `poll_close`, `poll_job` and runs it, `poll_log`. Because nothing is sent before
what it depends on is on disk, an acknowledged report and a pushed plan survive a crash.

Nothing an edge sends raises, and nothing it sends concerns anybody but itself: a report speaks of the links
of its sender only, links to nobody we know are counted and left out, and whoever breaks a rule loses its
session and nothing more. An edge never loses media for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from farcast.control_plane.access_book import AccessBook
from farcast.control_plane.branches import reached_everywhere
from farcast.control_plane.directory import Directory
from farcast.control_plane.edge_list import EdgeListing, EdgeLists, Sign
from farcast.control_plane.issuing import (
    CLOCK_SKEW_SECONDS,
    Certificate,
    Certify,
    Issuer,
    Joining,
    revoked_reason,
    why_not_serial,
)
from farcast.control_plane.journal import Entry, Journal
from farcast.control_plane.link_state import LinkState, LinkStateConfig
from farcast.control_plane.members import Member, Members, MembersConfig
from farcast.control_plane.orders import Orders, OrdersConfig
from farcast.control_plane.plan_cycle import CycleConfig, PlanCycle
from farcast.control_plane.plan_log import PlanLog
from farcast.control_plane.planning import PlanJob, Planned
from farcast.control_plane.pushes import PushConfig, Pushes
from farcast.control_plane.quota_shares import LOOK_US, QuotaShares, ShareEdge
from farcast.control_plane.reports import judged, take_offers
from farcast.control_plane.risk_groups import AbsentNames
from farcast.control_plane.saving import Saver
from farcast.control_plane.store import Restored, Save
from farcast.control_plane.trust_book import Invitation, TrustBook
from farcast.control_plane.usage_book import UsageBook
from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.records import write_shares
from farcast.proto.control.events import (
    Broken,
    CertificateAsked,
    HelloReceived,
    PlanAcked,
    PlanNacked,
    ReportReceived,
    ServerEvent,
)
from farcast.proto.control.messages import Hello, Report
from farcast.proto.control.ranges import is_node_id
from farcast.proto.control.server_channel import ServerChannel, ServerChannelConfig
from farcast.proto.joining.revocations import Certified

STANDBY_RETRY_MS = 2_000
"""Within this time an edge asks a control plane again that stands by: at half of it, on average."""

TICK_US = 1_000_000
"""Deadlines of sessions and members are looked at so often."""

ABSENT_NAMES_US = 60_000_000
"""After a start, names in risk groups that no edge has are told only then: edges may still be joining."""


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """Everything that can be set. ``regions``: the ones that may join; empty is any."""

    regions: frozenset[str] = frozenset()
    channel: ServerChannelConfig = field(default_factory=ServerChannelConfig)
    members: MembersConfig = field(default_factory=MembersConfig)
    links: LinkStateConfig = field(default_factory=LinkStateConfig)
    cycle: CycleConfig = field(default_factory=CycleConfig)
    push: PushConfig = field(default_factory=PushConfig)
    sessions_max: int = 2_048
    orders: OrdersConfig = field(default_factory=OrdersConfig)
    rejoin_hold_ms_max: int = 20_000
    """An edge that nobody remembers and that holds a plan keeps it so long, or until it is planned for."""


@dataclass(slots=True)
class _Session:
    channel: ServerChannel
    certified: Certified
    hello: Hello | None = None
    sent_us: int = -1
    """Of the newest report, by the edge's clock."""


Identity: TypeAlias = Certified | tuple[str, str]
"""What a certificate says, or region and node id alone."""


class Controller:
    """One control plane. ``unix_us`` is the wall clock at ``now_us``; it is for people and for the disk."""

    def __init__(
        self,
        config: ControllerConfig,
        restored: Restored,
        now_us: int,
        unix_us: int,
        sign: Sign | None = None,
        certify: Certify | None = None,
    ) -> None:
        self.config = config
        self.epoch = restored.epoch
        self.epoch_seen = 0
        """The highest epoch that an edge said it follows."""
        self.standby: str | None = None
        """Why no edge may join: who leads instead of us."""
        self.started_us = now_us
        self.journal = Journal()
        self.members = Members(config.members)
        self.directory = Directory()
        self.links = LinkState(config.links)
        self.cycle = PlanCycle(config.cycle, self.links, restored.trees, self.journal, now_us)
        self.pushes = Pushes(config.push, restored.epoch, self.journal)
        self.plan_log = PlanLog()
        self._unix_minus_clock_us = unix_us - now_us
        self.access = AccessBook(restored.access)
        self.trust_book = TrustBook(restored.trust)
        self.usage = UsageBook(restored.usage)
        self.shares = QuotaShares({node: dict(keys) for node, keys in restored.shares.items()})
        self._shares_due = True
        self._look_us = now_us
        self._now_us = now_us
        self._absent_names = AbsentNames(config.links.risk_groups)
        self._issuer = Issuer(self.trust_book, certify, self.journal)
        self._edge_lists = EdgeLists(restored.epoch.cluster, sign)
        self._sessions: dict[int, _Session] = {}
        self._dirty: dict[int, None] = {}
        self._refused: dict[str, str] = {}
        """Edges that may not join, and why: they come again and again, and are told of once."""
        self._closing: deque[tuple[int, str]] = deque()
        self._tick_us = now_us + TICK_US
        self._saver = Saver(restored.trees, self._unix_minus_clock_us)
        self._unplanned: dict[str, int] = {}
        """Edges that keep the plan they came with, and until when."""
        self._planned_for: set[str] = set()
        self.orders = Orders(
            config.orders, restored.intents, self.members, self.links, self.cycle, self.pushes, self.journal
        )
        self._restore(restored, now_us)

    def unix_us(self, now_us: int) -> int:
        """The wall clock at ``now_us``, as this control plane has it."""
        return self._unix(now_us)

    @property
    def sessions(self) -> int:
        """Control sessions that are open."""
        return len(self._sessions)

    def channel_of(self, node_id: str) -> ServerChannel | None:
        """The session of an edge, while it is connected."""
        member = self.members.get(node_id)
        session = self._sessions.get(member.session) if member and member.session is not None else None
        return session.channel if session else None

    # ---- Input ------------------------------------------------------------------------------------

    def handle_connected(self, session: int, identity: Identity | None, now_us: int) -> None:
        """A session is open; ``identity`` is what the edge's certificate says, ``None`` for any other one."""
        certified = None if identity is None else Certified(*identity)
        if certified is None or not all(map(is_node_id, (certified.region, certified.node_id))):
            self._turn_away(session, "certificate names no edge: spiffe://farcast/edge/REGION/NODE_ID")
        elif certified in self.trust_book.revoked:
            self._turn_away(session, revoked_reason(certified.node_id))
        elif len(self._sessions) >= self.config.sessions_max:
            self._turn_away(session, f"{len(self._sessions)} control sessions are open already")
        else:
            channel = ServerChannel(self.config.channel, certified.node_id, certified.region, now_us)
            self._sessions[session] = _Session(channel, certified)

    def handle_data(self, session: int, data: bytes, now_us: int) -> None:
        """Bytes of the one stream of a session."""
        state = self._sessions.get(session)
        if state is not None:
            state.channel.handle_data(data, now_us)
            self._take_events(session, state, now_us)
            self._advance(now_us)

    def handle_disconnected(self, session: int, reason: str, now_us: int) -> None:
        """A session is gone."""
        state = self._sessions.pop(session, None)
        if state is not None:
            self._leave(session, state, reason, now_us)
            self._advance(now_us)

    def handle_turned_away(self, reason: str) -> None:
        """TLS refused somebody: no certificate, or one that is no good here. Anybody can cause it."""
        self.journal.count("handshakes_failed")
        self.journal.write("debug", "no good certificate", reason=reason)

    def handle_planned(self, planned: Planned, now_us: int) -> None:
        """The result of the job that `poll_job` gave."""
        step = self.cycle.handle_planned(planned, self.members, now_us)
        if step.escapes or step.upgrades:
            self.journal.write("info", "routes moved", escapes=step.escapes, upgrades=step.upgrades)
        self.pushes.commit_trees(step.trees, now_us, hurried=step.hurried)
        self._release(self._planned_for & reached_everywhere(step.trees, self._unplanned))
        self._advance(now_us)

    def handle_plan_failed(self, reason: str, now_us: int) -> None:
        """The job broke: a defect of ours. The routes in force stay."""
        self.journal.count("plans_failed")
        self.journal.write("error", "planner failed, the plan in force stays", reason=reason)
        self.cycle.handle_failed(now_us)

    def handle_timeout(self, now_us: int) -> None:
        """The time that `poll_timeout` gave has come; does nothing before it."""
        if now_us >= self._tick_us:
            self._tick_us = now_us + TICK_US
            self._tick(now_us)
        self._advance(now_us)

    # ---- Commands ---------------------------------------------------------------------------------

    def drain(self, node_id: str, drain_ms: int | None, now_us: int) -> str | None:
        """Empty an edge: its children first, then its viewers; ``None``, or why not."""
        return self.order(lambda orders: orders.drain(node_id, drain_ms, now_us), now_us)

    def undrain(self, node_id: str, now_us: int) -> str | None:
        """Take an order to drain back; an edge that has been told goes on by itself. ``None``, or why not."""
        return self.order(lambda orders: orders.undrain(node_id), now_us)

    def order(self, give: Callable[[Orders], str | None], now_us: int) -> str | None:
        """Give an order to `orders`; ``None``, or why not."""
        why_not = give(self.orders)
        if why_not is None:
            self._advance(now_us)
        return why_not

    def trust(self, key: TrustedKey, now_us: int) -> str | None:
        """Take the tokens of an issuer's key; ``None``, or why not."""
        return self._change_access("key trusted", key.key_id, self.access.trust(key), now_us)

    def distrust(self, key_id: str, now_us: int) -> str | None:
        """Forget an issuer's key; ``None``, or why not."""
        return self._change_access("key forgotten", key_id, self.access.distrust(key_id), now_us)

    def revoke_key(self, key_id: str, now_us: int) -> str | None:
        """Take a key's tokens never again; ``None``, or why not."""
        return self._change_access("key revoked", key_id, self.access.revoke_key(key_id), now_us)

    def revoke_token(self, token_id: str, now_us: int) -> str | None:
        """Take a token no more; ``None``, or why not."""
        why_not = self.access.revoke_token(token_id, self._unix(now_us))
        return self._change_access("token revoked", token_id, why_not, now_us)

    def invite(self, invitation: Invitation, now_us: int) -> str | None:
        """Let an edge in that shows a join token; ``None``, or why not."""
        why_not = self._issuer.invite(invitation, self.config.regions, self._unix(now_us))
        self._advance(now_us)
        return why_not

    def admit(self, joining: Joining, now_us: int) -> Certificate | str:
        """Certify an edge that shows a join token, or say why not. The token is used from the next `Save` on:
        nothing must be answered before that."""
        issued = self._issuer.admit(joining, self.members.ids, self._unix(now_us))
        self._advance(now_us)
        return issued

    def revoke_node(self, node_id: str, now_us: int) -> str | None:
        """Take no certificate of a node any more that was issued until now; ``None``, or why not."""
        until_unix_s = self._unix(now_us) // 1_000_000 - CLOCK_SKEW_SECONDS
        why_not = None if is_node_id(node_id) else f"{node_id[:80]!r} cannot be the name of an edge"
        why_not = why_not or self.trust_book.revoke_node(node_id, until_unix_s)
        return self._change_trust("certificates of an edge revoked", why_not, now_us, node_id=node_id)

    def revoke_serial(self, serial: str, now_us: int) -> str | None:
        """Take one certificate no more; ``None``, or why not."""
        serial = serial.lower().replace(":", "").lstrip("0")
        why_not = why_not_serial(serial) or self.trust_book.revoke_serial(serial, self._unix(now_us))
        return self._change_trust("certificate revoked", why_not, now_us, serial=serial)

    def revoke_join_token(self, token_id: str, now_us: int) -> str | None:
        """Let nobody in by a join token any more; ``None``, or why not."""
        why_not = self.trust_book.withdraw(token_id)
        return self._change_trust("join token revoked", why_not, now_us, token_id=token_id)

    def remove(self, node_id: str, now_us: int) -> str | None:
        """Take an edge out of the cluster for good: its certificates count no more; ``None``, or why not."""
        if node_id not in self.members and node_id not in self.trust_book.issued:
            return f"no edge {node_id!r}; known are {_names(self.members)}"
        return self.revoke_node(node_id, now_us)

    # ---- Output -----------------------------------------------------------------------------------

    def poll_save(self) -> Save | None:
        """What must be durable before anything of `poll_data` is sent."""
        if self.orders.intents_changed:
            self.orders.intents_changed, self._saver.intents_changed = False, True
        state = (self.members, self.directory, self.cycle.trees, self.pushes.sequence)
        usage = self.usage.poll_changes(self._now_us)
        shares = self.shares.possible if self.shares.kept_changed else None
        self.shares.kept_changed = False
        return self._saver.poll(*state, self.access, self.trust_book, self.orders, usage, shares)

    def poll_data(self) -> tuple[int, bytes] | None:
        """A session, and bytes for its stream."""
        while self._dirty:
            session = next(iter(self._dirty))
            state = self._sessions.get(session)
            data = None if state is None else state.channel.poll_data()
            if data is not None:
                return session, data
            del self._dirty[session]
            if state is not None and state.channel.should_close:
                del self._sessions[session]
                self._closing.append((session, ""))
        return None

    def poll_close(self) -> tuple[int, str] | None:
        """A session that is over, and why where its stream did not say it: to be closed once its bytes are
        out."""
        return self._closing.popleft() if self._closing else None

    def poll_job(self, now_us: int) -> PlanJob | None:
        """A run of the planner that is due; the next one only after `handle_planned`."""
        job = self.cycle.poll_job(self.members, self.directory, now_us)
        if job is not None:
            self._planned_for = {member.node_id for member in self.members if member.fully_reported}
        return job

    def poll_log(self) -> Entry | None:
        """A line for the log."""
        return self.journal.poll()

    def poll_timeout(self) -> int:
        """When `handle_timeout` (and then `poll_job`) is due."""
        others = (self.cycle.poll_timeout(), self.pushes.poll_timeout())
        return min([self._tick_us, *(due_us for due_us in others if due_us is not None)])

    # ---- Messages ---------------------------------------------------------------------------------

    def _take_events(self, session: int, state: _Session, now_us: int) -> None:
        while (event := state.channel.poll_event()) is not None:
            self._take_event(session, state, event, now_us)
        self._dirty[session] = None

    def _take_event(self, session: int, state: _Session, event: ServerEvent, now_us: int) -> None:
        node_id = state.channel.node_id
        match event:
            case HelloReceived(hello):
                self._take_hello(session, state, hello, now_us)
            case ReportReceived(report):
                self._take_report(session, state, report, now_us)
            case PlanAcked(version):
                if self.pushes.rollout(node_id).handle_ack(version, now_us):
                    self.journal.count("plans_acked")
                    self.plan_log.handle_ack(node_id, version.sequence, now_us)
                    self._take_shares_ack(node_id)
                    if self.pushes.is_current(node_id):
                        self.cycle.handle_ack(node_id)
                    self.pushes.look_at([node_id])
            case PlanNacked(version, reason, _):
                if self.pushes.rollout(node_id).handle_nack(version, reason, now_us):
                    self.journal.count("plans_refused_by_edges")
                    self.journal.write(
                        "warning",
                        "edge refused a plan",
                        node_id=node_id,
                        sequence=version.sequence,
                        reason=reason,
                    )
                    if self.cycle.handle_nack(node_id, self.members, now_us):
                        self.pushes.commit_trees(self.cycle.trees, now_us)
                    self.pushes.look_at([node_id])
            case CertificateAsked(request):
                self._renew(state, request)
            case Broken(reason):
                self._leave(session, state, reason, now_us)

    def _take_hello(self, session: int, state: _Session, hello: Hello, now_us: int) -> None:
        refusal = self._why_not_join(hello)
        if refusal is not None:
            self.journal.count("joins_refused")
            said = self._refused.get(hello.node_id) == refusal
            self.journal.write(
                "debug" if said else "warning", "edge refused", node_id=hello.node_id, reason=refusal
            )
            if len(self._refused) < self.config.sessions_max or hello.node_id in self._refused:
                self._refused[hello.node_id] = refusal
            state.channel.refuse(refusal, STANDBY_RETRY_MS if self.standby is not None else 0)
            return
        self._refused.pop(hello.node_id, None)
        state.hello = hello
        is_newcomer = hello.node_id not in self.members
        self._shares_due = True
        replaced = self.members.join(hello, session, now_us)
        if replaced is not None and (old := self._sessions.get(replaced)) is not None:
            old.channel.refuse("this edge has joined anew")
            self._dirty[replaced] = None
        self.links.join(hello, now_us)
        self.orders.set_draining(self._member(hello.node_id))
        self._saver.members_changed = True
        rollout = self.pushes.rollout(hello.node_id)
        rollout.handle_join(hello.holds)
        if rollout.acked is None and hello.holds is not None:
            self.pushes.overtake(hello.holds)
        state.channel.welcome(self.epoch, issues=self._issuer.can_issue, unix_us=self._unix(now_us))
        self.pushes.look_at([hello.node_id])
        if is_newcomer:
            self._take_newcomer(hello, now_us)
        self.journal.count("joins")
        self.journal.write("info", "edge joined", node_id=hello.node_id, region=hello.region)

    def _take_newcomer(self, hello: Hello, now_us: int) -> None:
        """An edge that nobody remembers: the plan that it may hold is better than one without its routes."""
        self.cycle.handle_newcomer(now_us, holds_plan=hello.holds is not None)
        if hello.holds is not None and self.pushes.rollout(hello.node_id).acked is None:
            self._unplanned[hello.node_id] = now_us + self.config.rejoin_hold_ms_max * 1_000

    def _release(self, node_ids: Collection[str]) -> None:
        """These edges are planned for, or nobody can wait for that any longer."""
        for node_id in self._unplanned.keys() & node_ids:
            del self._unplanned[node_id]
            self.pushes.look_at([node_id])

    def _why_not_join(self, hello: Hello) -> str | None:
        if self.config.regions and hello.region not in self.config.regions:
            known = ", ".join(sorted(self.config.regions))
            return f"region {hello.region!r} is not of this cluster; its regions are {known}"
        holds = hello.holds.epoch if hello.holds else None
        if holds is not None and holds.cluster == self.epoch.cluster:
            self.epoch_seen = max(self.epoch_seen, holds.number)
        if self.standby is not None:
            return self.standby
        if holds is not None and holds.cluster != self.epoch.cluster:
            return f"edge belongs to cluster {holds.cluster!r}, this is {self.epoch.cluster!r}"
        if holds is not None and holds.number > self.epoch.number:
            return (
                f"edge follows epoch {holds.number}, this control plane is of epoch {self.epoch.number}: "
                "another one rules, or its state was lost "
                f"(then start it with --epoch-min {holds.number + 1})"
            )
        return self.members.why_not_join(hello)

    def _take_report(self, session: int, state: _Session, report: Report, now_us: int) -> None:
        member = self.members.get(state.channel.node_id)
        if member is None or member.session != session:
            return
        report = judged(report, member, self.members, state.sent_us, self.journal)
        state.sent_us = report.sent_us
        drained = member.draining
        newly_silent = self.members.handle_report(member, report, now_us)
        urgent = self.links.handle_report(member.node_id, report, now_us)
        take_offers(report, member, self.directory, self.journal, now_us)
        self.usage.take(
            member.node_id, report.boot_id, report.usage, self.access.keys, now_us, self._unix(now_us)
        )
        if member.draining != drained:
            self.orders.set_draining(member)
        if newly_silent or urgent:
            self.cycle.want()
        if not report.distrust and self.cycle.handle_report(member, self.members, now_us):
            self.pushes.commit_trees(self.cycle.trees, now_us)
        self.journal.count("reports")
        state.channel.ack_report(report.sequence)

    # ---- Below ------------------------------------------------------------------------------------

    def _leave(self, session: int, state: _Session, reason: str, now_us: int) -> None:
        node_id = state.channel.node_id
        if self.members.leave(node_id, session, now_us):
            self.usage.leave(node_id)
            self._shares_due = True
            self.links.leave(node_id, now_us)
            self.journal.count("sessions_lost")
            self.journal.write("warning", "edge lost its control session", node_id=node_id, reason=reason)
        elif state.hello is None:
            self.journal.count("sessions_refused")
            self.journal.write("warning", "session ended before it joined", node_id=node_id, reason=reason)

    def _turn_away(self, session: int, reason: str) -> None:
        self.journal.count("sessions_refused")
        self.journal.write("warning", "control session refused", reason=reason)
        self._closing.append((session, reason))

    def _member(self, node_id: str) -> Member:
        member = self.members.get(node_id)
        if member is None:
            raise LookupError(node_id)
        return member

    def _tick(self, now_us: int) -> None:
        for session, state in list(self._sessions.items()):
            state.channel.handle_timeout(now_us)
            self._take_events(session, state, now_us)
        for node_id in self.pushes.overdue(now_us):
            self._give_up(node_id, "a plan was not answered in time", now_us)
        self._withdraw(now_us)
        self.access.forget_ended(self._unix(now_us))
        self.trust_book.forget_ended(self._unix(now_us))
        self.orders.forget_ended(self._unix(now_us))
        self.usage.forget_ended(self._unix(now_us))
        self._shares_due |= now_us >= self._look_us
        self.links.sample(now_us, self._unix(now_us))
        self._note_current(now_us)
        self._tell_absent_names(now_us)
        if self._renew_edge_list(now_us):
            self.pushes.commit()
        self._release([node_id for node_id, due_us in self._unplanned.items() if due_us <= now_us])
        if self.cycle.holding(now_us) and not self.members.awaited():
            self.cycle.end_hold(now_us)
        self.pushes.retry(now_us)

    def _tell_absent_names(self, now_us: int) -> None:
        """Say once of each name in the risk groups that no edge of the cluster has it."""
        if now_us - self.started_us < ABSENT_NAMES_US:
            return
        node_ids = {member.node_id for member in self.members}
        regions = {member.region for member in self.members}
        for absent in self._absent_names.untold(node_ids, regions):
            self.journal.count("risk_group_names_unknown")
            self.journal.write(
                "warning",
                "risk group names nobody here",
                group=absent.group,
                what=absent.what,
                name=absent.name,
            )

    def _note_current(self, now_us: int) -> None:
        """Who follows the plan in force has all versions, also those that changed nothing for it."""
        connected = [member.node_id for member in self.members if member.session is not None]
        self.plan_log.handle_current(filter(self.pushes.is_current, connected), now_us)

    def _give_up(self, node_id: str, reason: str, now_us: int) -> None:
        """End the session of an edge that does not keep up; it comes back and says what it holds."""
        self.pushes.rollout(node_id).sent = None
        member, channel = self.members.get(node_id), self.channel_of(node_id)
        if member is None or member.session is None or channel is None:
            return
        self.journal.count("answers_missing")
        self._touch(node_id)
        channel.refuse(reason)
        self._leave(member.session, self._sessions[member.session], reason, now_us)

    def _withdraw(self, now_us: int) -> None:
        """Take out edges that are really gone."""
        gone, kept = self.members.overdue(now_us)
        if kept:
            self.journal.count("withdrawals_kept_back", len(kept))
            self.journal.write(
                "warning",
                "edges of a second region seem gone; kept for now",
                node_ids=[member.node_id for member in kept],
            )
        self._take_out(gone, now_us)

    def _take_out(self, gone: Collection[Member], now_us: int) -> None:
        """These are members no more."""
        for member in gone:
            self.members.withdraw(member.node_id)
            self.directory.remove_node(member.node_id)
            self.links.leave(member.node_id, now_us)
            self.cycle.remove(member.node_id, self.members)
            self.pushes.forget(member.node_id)
            self.plan_log.forget(member.node_id)
            self._unplanned.pop(member.node_id, None)
            self._saver.members_changed = True
            self.orders.intents_changed = self.orders.nodes_changed = True
            self.journal.count("edges_withdrawn")
            self.journal.write("warning", "edge withdrawn", node_id=member.node_id, region=member.region)
        if gone:
            self.pushes.commit_trees(self.cycle.trees, now_us)

    # ---- Certificates -----------------------------------------------------------------------------

    def _renew(self, state: _Session, request: bytes) -> None:
        issued = self._issuer.renew(state.certified, request)
        if isinstance(issued, str):
            state.channel.answer_certificate(b"", issued)
        else:
            state.channel.answer_certificate(issued.der)

    def _change_trust(self, what: str, why_not: str | None, now_us: int, **about: object) -> str | None:
        if why_not is None:
            self.journal.write("info", what, **about)
            self._send_away_revoked(now_us)
            self._advance(now_us)
        return why_not

    def _send_away_revoked(self, now_us: int) -> None:
        """End the sessions of certificates that count no more, and take out who has no other one."""
        revoked = self.trust_book.revoked
        gone: dict[str, Member] = {}
        for session, state in list(self._sessions.items()):
            if state.certified not in revoked:
                continue
            node_id = state.channel.node_id
            member = self.members.get(node_id)
            if member is not None and member.session == session:
                gone[node_id] = member
            state.channel.refuse(revoked_reason(node_id))
            self._leave(session, state, "its certificate was revoked", now_us)
            self._dirty[session] = None
        for member in self.members:
            if member.session is None and self.trust_book.is_out(member.node_id):
                gone[member.node_id] = member
        self._take_out(gone.values(), now_us)

    def _advance(self, now_us: int) -> None:
        """Bring the plan up to what is known, and send it."""
        self._now_us = now_us
        views = self.pushes.views
        changed = views.set_directory(self.directory.table)
        self._shares_due |= self.access.changed or self.orders.nodes_changed
        if self.access.changed:
            self.access.changed, self._saver.access_changed = False, True
            changed |= views.set_access(self.access.rules())
        if self.trust_book.changed:
            self.trust_book.changed, self._saver.trust_changed = False, True
            changed |= views.set_revoked(self.trust_book.revocations())
        if self.orders.nodes_changed:
            self.orders.nodes_changed = False
            changed |= views.set_nodes({member.node_id: member.info for member in self.members})
            changed |= self._renew_edge_list(now_us)
        if self._shares_due:
            changed |= self._deal_shares(now_us)
        if changed:
            self.pushes.commit()
        self.plan_log.note(self.pushes.sequence, now_us)
        for node_id in self.pushes.push_all(self._channel_to_push, now_us, self._unix(now_us)):
            self._touch(node_id)
        for node_id in self.orders.tell_edges(self.channel_of, now_us):
            self._touch(node_id)

    def _take_shares_ack(self, node_id: str) -> None:
        """An edge follows a plan: what it may give out is what that plan said."""
        acked = self.pushes.rollout(node_id).acked
        if acked is not None and acked[1].shares == self.pushes.views.shares.get(node_id):
            self.shares.acknowledged(node_id)
            self._shares_due |= self.shares.is_wanting

    def _deal_shares(self, now_us: int) -> bool:
        """Give edges their shares of quotas; whether any are others."""
        look = now_us >= self._look_us
        self._look_us = now_us + LOOK_US if look else self._look_us
        self._shares_due = False
        edges = [
            ShareEdge(
                member.node_id,
                takes=member.session is not None and member.hello.takes_shares,
                divides=not member.hello.takes_shares,
            )
            for member in self.members
        ]
        self.shares.deal(self.access.quotas(), edges, self.usage.now, look=look)
        if not self.shares.changed:
            return False
        self.shares.changed = False
        told = {node_id: write_shares(shares) for node_id, shares in self.shares.targets.items()}
        return self.pushes.views.set_shares(told)

    def _change_access(self, what: str, about: str, why_not: str | None, now_us: int) -> str | None:
        if why_not is None:
            self.journal.count("access_changes")
            self.journal.write("info", what, id=about)
            self._advance(now_us)
        return why_not

    def _channel_to_push(self, node_id: str) -> ServerChannel | None:
        return None if node_id in self._unplanned else self.channel_of(node_id)

    def _renew_edge_list(self, now_us: int) -> bool:
        listings = [EdgeListing.of(member) for member in self.members if member.hello.public_url]
        edge_list = self._edge_lists.signed(listings, now_us, self._unix(now_us))
        return self.pushes.views.set_edge_list(edge_list)

    def _touch(self, node_id: str) -> None:
        """Bytes may wait in the edge's session."""
        member = self.members.get(node_id)
        if member is not None and member.session is not None:
            self._dirty[member.session] = None

    def _restore(self, restored: Restored, now_us: int) -> None:
        self.members.restore(restored.members, dict(restored.intents.drains), now_us)
        for member in self.members:
            self.links.join(member.hello, now_us)
            self.links.leave(member.node_id, now_us)
            self.links.set_draining(member.node_id, member.draining)
        shift = self._unix_minus_clock_us
        self.directory.restore(
            (namespace, node_id, since_us - shift)
            for namespace, node_id, since_us in restored.offers
            if node_id in self.members
        )
        self.pushes.views.set_nodes({member.node_id: member.info for member in self.members})
        self.pushes.views.set_directory(self.directory.table)
        self.pushes.views.set_access(self.access.rules())
        self.pushes.views.set_revoked(self.trust_book.revocations())
        self.pushes.commit_trees(restored.trees, now_us)
        self.journal.write(
            "info",
            "reign begins",
            cluster=self.epoch.cluster,
            epoch=self.epoch.number,
            edges_awaited=len(self.members),
        )

    def _unix(self, now_us: int) -> int:
        return max(now_us + self._unix_minus_clock_us, 0)


def _names(members: Collection[Member] | Members) -> str:
    return ", ".join(sorted(member.node_id for member in members)) or "none"
