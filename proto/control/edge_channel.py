"""The edge's end of the control channel, as an engine.

It lives as long as the edge and passes from connection to connection:

    disconnected --handle_connected--> greeting --Welcome--> joined
         ^                                 |                    |
         +------- handle_disconnected -----+--- ended <---------+   (refusal, broken rule, silence)

Two rules fence off the wrong control plane before it can send a plan: a `Welcome` of another cluster, or of
a lower epoch than any seen, ends the connection. The shell then tries the next address, and the plan in
force stays in force; nothing here ever takes one away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import msgspec

from farcast.proto.control.codec import (
    FROM_CONTROL_BYTES_MAX,
    VERSIONS,
    BadMessage,
    MessageTooLarge,
    decode_from_control,
)
from farcast.proto.control.events import (
    Broken,
    CertificateReceived,
    DrainOrdered,
    EdgeEvent,
    Joined,
    PlanReceived,
    Refused,
    ReportAcked,
)
from farcast.proto.control.messages import (
    CertificateIssued,
    CertificateWanted,
    DrainOrder,
    Epoch,
    FromControl,
    Hello,
    PlanAck,
    PlanDelta,
    PlanNack,
    PlanVersion,
    Refusal,
    Report,
    ReportAck,
    Welcome,
)
from farcast.proto.control.ranges import as_text
from farcast.proto.control.stream_end import StreamEnd


@dataclass(frozen=True, slots=True)
class EdgeChannelConfig:
    """Who the edge is, and its limits.

    ``hello`` is said at every connection, with ``versions`` and the plan held then in place of its own.
    ``cluster``: the only one to join; empty is any, until a plan or a `Welcome` names one.
    """

    hello: Hello
    cluster: str = ""
    versions: tuple[int, ...] = VERSIONS
    welcome_ms_max: int = 5_000
    """The control plane answers `Hello` by then."""
    ack_ms_max: int = 10_000
    """It acknowledges a report by then."""
    message_ms_max: int = 30_000
    """A message that has begun is complete by then."""
    reports_unacked_max: int = 4
    plans_unanswered_max: int = 8


class _State(Enum):
    DISCONNECTED = auto()
    GREETING = auto()
    JOINED = auto()
    ENDED = auto()


class EdgeChannel:
    """One control channel over all its connections, one at a time.

    Bytes of a connection's one bidirectional stream go in and out; after every ``handle_*`` and command the
    shell sends what `poll_data` gives, hands on what `poll_event` gives, and closes the connection where
    `should_close`. Nothing a peer sends raises: it ends the connection with a `Broken` that says why.
    """

    def __init__(self, config: EdgeChannelConfig) -> None:
        self._config = config
        self._holds = config.hello.holds
        self._fence: Epoch | None = None
        self._state = _State.DISCONNECTED
        self._end = self._new_end()
        self._version: int | None = None
        self._welcome_due_us = 0
        self._sequence_sent = -1
        self._reports_unacked: deque[tuple[int, int]] = deque()
        self._plans_unanswered: deque[PlanVersion] = deque()
        self._certificate_asked = False
        self._issues = False

    @property
    def holds(self) -> PlanVersion | None:
        """The plan in force here, as the next `Hello` says it."""
        return self._holds

    @property
    def joined(self) -> bool:
        """Whether reports can be sent now."""
        return self._state is _State.JOINED

    @property
    def can_issue(self) -> bool:
        """Whether this control plane issues certificates."""
        return self.joined and self._issues

    @property
    def version(self) -> int | None:
        """The version of the records in use, once joined."""
        return self._version

    @property
    def should_close(self) -> bool:
        """Whether the shell is to close the connection, after sending what `poll_data` still gives."""
        return self._state is _State.ENDED

    @property
    def counters(self) -> dict[str, int]:
        """What was sent, received and left out, by name, over all connections; a copy."""
        return dict(sorted(self._end.counters.items()))

    # ---- Input ------------------------------------------------------------------------------------

    def set_holds(self, version: PlanVersion | None) -> None:
        """The plan in force, where it did not come through `answer_plan` (loaded from disk)."""
        self._holds = version

    def handle_connected(self, now_us: int) -> None:
        """A connection stands and its stream is open: says `Hello`."""
        self.handle_disconnected("a new connection takes its place", now_us)
        self._state = _State.GREETING
        self._welcome_due_us = now_us + self._config.welcome_ms_max * 1_000
        hello = msgspec.structs.replace(self._config.hello, versions=self._config.versions, holds=self._holds)
        self._end.send(hello)

    def handle_data(self, data: bytes, now_us: int) -> None:
        """Bytes from the stream."""
        if self._state not in (_State.GREETING, _State.JOINED):
            return
        try:
            for message in self._end.receive(data, now_us):
                _HANDLERS[type(message)](self, message)
                if self.should_close:
                    return
        except BadMessage as bad:
            self._finish(Broken(f"control plane sent what it must not: {bad.reason}"))

    def handle_disconnected(self, reason: str, now_us: int) -> None:
        """The connection is gone, or the stream ended."""
        if self._state in (_State.GREETING, _State.JOINED):
            self._finish(Broken(reason))
        self._state = _State.DISCONNECTED

    def handle_timeout(self, now_us: int) -> None:
        """The time that `poll_timeout` gave has come; does nothing before it."""
        overdue = [(due_us, what) for due_us, what in self._deadlines() if due_us <= now_us]
        if overdue:
            self._finish(Broken(f"control plane is silent: {min(overdue)[1]}"))

    # ---- Commands ---------------------------------------------------------------------------------

    def send_report(self, report: Report, now_us: int) -> str | None:
        """Send a report; ``None``, or why it was not sent (then a full one must follow)."""
        why_not = self._why_not_report(report)
        if why_not is None:
            try:
                self._end.send(report)
            except MessageTooLarge as error:
                why_not = str(error)
        if why_not is not None:
            self._end.counters["reports_not_sent"] += 1
            return why_not
        self._sequence_sent = report.sequence
        self._reports_unacked.append((report.sequence, now_us))
        return None

    def answer_plan(self, version: PlanVersion, refusal: str | None) -> None:
        """The plan is in force (``None``), or was refused for this reason and the old one stays.

        What is in force is remembered for the next `Hello`, even if the connection is gone meanwhile.
        """
        if refusal is None:
            self._holds = version
        if self._state is not _State.JOINED or version not in self._plans_unanswered:
            return
        self._plans_unanswered.remove(version)
        if refusal is None:
            self._end.send(PlanAck(version=version))
        else:
            self._end.counters["plans_refused"] += 1
            self._end.send(PlanNack(version=version, reason=as_text(refusal), holds=self._holds))

    def want_certificate(self, request: bytes) -> str | None:
        """Ask for a certificate (`CertificateWanted`); ``None``, or why that was not asked."""
        if self._state is not _State.JOINED:
            return "not joined"
        if not self._issues:
            return "this control plane issues no certificates (it has no --ca-dir)"
        if self._certificate_asked:
            return "a certificate is on its way"
        self._certificate_asked = True
        self._end.send(CertificateWanted(request=request))
        return None

    # ---- Output -----------------------------------------------------------------------------------

    def poll_data(self) -> bytes | None:
        """Bytes for the stream, or ``None``."""
        return self._end.poll_data()

    def poll_event(self) -> EdgeEvent | None:
        """What happened, oldest first, or ``None``."""
        return self._end.poll_event()

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due, microseconds, or ``None``."""
        return min((due_us for due_us, _ in self._deadlines()), default=None)

    # ---- Messages ---------------------------------------------------------------------------------

    def _handle_welcome(self, welcome: Welcome) -> None:
        if self._state is not _State.GREETING:
            raise BadMessage("a second Welcome")
        if welcome.version not in self._config.versions:
            raise BadMessage(f"version {welcome.version}, this edge offered {_list(self._config.versions)}")
        refusal = self._why_not_join(welcome.epoch)
        if refusal is not None:
            self._finish(Refused(refusal))
            return
        self._fence = welcome.epoch
        self._version = welcome.version
        self._issues = welcome.issues
        self._state = _State.JOINED
        self._end.emit(Joined(welcome))

    def _handle_refusal(self, refusal: Refusal) -> None:
        self._finish(Refused(refusal.reason or "no reason given", refusal.retry_ms))

    def _handle_report_ack(self, ack: ReportAck) -> None:
        self._only_joined(ack)
        if ack.sequence > self._sequence_sent:
            raise BadMessage(f"acknowledgement of report {ack.sequence}, which was not sent")
        if not self._reports_unacked or ack.sequence < self._reports_unacked[0][0]:
            self._end.counters["acks_repeated"] += 1
            return
        while self._reports_unacked and self._reports_unacked[0][0] <= ack.sequence:
            self._reports_unacked.popleft()
        self._end.emit(ReportAcked(ack.sequence, ack.resync))

    def _handle_plan(self, delta: PlanDelta) -> None:
        self._only_joined(delta)
        if len(self._plans_unanswered) >= self._config.plans_unanswered_max:
            raise BadMessage(f"more than {self._config.plans_unanswered_max} plans without an answer")
        self._end.emit(PlanReceived(delta))
        self._plans_unanswered.append(delta.version)

    def _handle_drain(self, order: DrainOrder) -> None:
        self._only_joined(order)
        self._end.emit(DrainOrdered(order.drain_ms))

    def _handle_certificate(self, issued: CertificateIssued) -> None:
        self._only_joined(issued)
        if not self._certificate_asked:
            raise BadMessage("a certificate that nobody asked for")
        self._certificate_asked = False
        refusal = issued.refusal or ("" if issued.certificate else "no reason given")
        self._end.emit(CertificateReceived(issued.certificate, refusal))

    # ---- Below ------------------------------------------------------------------------------------

    def _only_joined(self, message: FromControl) -> None:
        if self._state is not _State.JOINED:
            raise BadMessage(f"{type(message).__name__} before Welcome")

    def _why_not_join(self, epoch: Epoch) -> str | None:
        """Why this control plane must not be followed, or ``None``."""
        seen = [e for e in (self._fence, self._holds.epoch if self._holds else None) if e is not None]
        cluster = self._config.cluster or (seen[0].cluster if seen else epoch.cluster)
        if epoch.cluster != cluster:
            return f"control plane is of cluster {epoch.cluster!r}, this edge belongs to {cluster!r}"
        newest = max((e.number for e in seen if e.cluster == cluster), default=0)
        if epoch.number < newest:
            return f"control plane is deposed: its epoch {epoch.number} is older than {newest}, seen here"
        return None

    def _why_not_report(self, report: Report) -> str | None:
        if self._state is not _State.JOINED:
            return "not joined"
        if len(self._reports_unacked) >= self._config.reports_unacked_max:
            return f"{len(self._reports_unacked)} reports wait for their acknowledgement"
        if report.sequence <= self._sequence_sent:
            return f"report {report.sequence} is not newer than {self._sequence_sent}"
        return None

    def _deadlines(self) -> list[tuple[int, str]]:
        """Moments at which the peer is given up, and what it failed to do."""
        config, deadlines = self._config, []
        if self._state not in (_State.GREETING, _State.JOINED):
            return []
        if self._state is _State.GREETING:
            deadlines.append((self._welcome_due_us, f"no Welcome in {config.welcome_ms_max} ms"))
        if self._reports_unacked:
            due_us = self._reports_unacked[0][1] + config.ack_ms_max * 1_000
            deadlines.append((due_us, f"no acknowledgement of a report in {config.ack_ms_max} ms"))
        if self._end.message_due_us is not None:
            what = f"half a message and no more in {config.message_ms_max} ms"
            deadlines.append((self._end.message_due_us, what))
        return deadlines

    def _finish(self, event: Refused | Broken) -> None:
        """End the connection: what was meant for it is void."""
        self._state = _State.ENDED
        self._version = None
        self._sequence_sent = -1
        self._certificate_asked = self._issues = False
        self._reports_unacked.clear()
        self._plans_unanswered.clear()
        self._end.stop_receiving()
        self._end.stop_sending()
        self._end.counters["refusals" if isinstance(event, Refused) else "breaks"] += 1
        self._end.emit_last(event)

    def _new_end(self) -> StreamEnd[FromControl, EdgeEvent]:
        return StreamEnd(decode_from_control, FROM_CONTROL_BYTES_MAX, self._config.message_ms_max * 1_000)


_HANDLERS: Mapping[type, Callable[[EdgeChannel, Any], None]] = {
    Welcome: EdgeChannel._handle_welcome,
    Refusal: EdgeChannel._handle_refusal,
    ReportAck: EdgeChannel._handle_report_ack,
    PlanDelta: EdgeChannel._handle_plan,
    DrainOrder: EdgeChannel._handle_drain,
    CertificateIssued: EdgeChannel._handle_certificate,
}


def _list(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions))
