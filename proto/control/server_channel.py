"""The control plane's end of one edge's control channel, as an engine.

    greeting --Hello--> greeted --welcome()--> joined
        |                  |                      |
        +------------------+----------------------+--> ended

Who the edge is comes from its certificate, never from its words: a `Hello` that differs is refused, and no
later message says who it is from. Reports are taken strictly rising; where one is missed, or the first one
of a channel is not full, the acknowledgements ask for a full one until it comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from farcast.proto.control.codec import (
    FROM_EDGE_BYTES_MAX,
    VERSIONS,
    BadMessage,
    MessageTooLarge,
    decode_from_edge,
)
from farcast.proto.control.events import (
    Broken,
    CertificateAsked,
    HelloReceived,
    PlanAcked,
    PlanNacked,
    ReportReceived,
    ServerEvent,
)
from farcast.proto.control.messages import (
    CertificateIssued,
    CertificateWanted,
    DrainOrder,
    Epoch,
    FromControl,
    FromEdge,
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

_ANSWERED_REMEMBERED = 16
"""Answered plans whose repeated answer is ignored instead of breaking the channel."""


@dataclass(frozen=True, slots=True)
class ServerChannelConfig:
    """Limits of one edge's channel."""

    versions: tuple[int, ...] = VERSIONS
    hello_ms_max: int = 5_000
    """An edge says `Hello` by then."""
    silence_ms_max: int = 15_000
    """An edge that joined and says nothing this long is gone."""
    message_ms_max: int = 30_000
    """A message that has begun is complete by then."""
    reports_unacked_max: int = 16
    reports_per_second_max: int = 20
    """Sustained; an edge sends one a second, and a few more where it has news. Those above it are answered
    and not looked at, and a full one is asked for later."""
    reports_burst_max: int = 40
    reports_dropped_max: int = 400
    """So many in a row above the rate end the session."""
    plans_unanswered_max: int = 4
    queue_bytes_max: int = 32 << 20
    """Bytes that wait for the edge to read."""
    report_interval_us: int = 1_000_000
    certificate_ms_min: int = 1_000
    """Between two certificates of one session; who asks more often is told to wait."""


_SECOND_US = 1_000_000


class _State(Enum):
    GREETING = auto()
    GREETED = auto()
    JOINED = auto()
    ENDED = auto()


class ServerChannel:
    """One connection of one edge, from its first byte to its end.

    ``node_id`` and ``region`` are those of the certificate. Bytes of the edge's one bidirectional stream go
    in and out; after every ``handle_*`` and command the shell sends what `poll_data` gives, and closes the
    connection where `should_close`. Nothing an edge sends raises: it ends the connection with a `Broken`
    that says why.
    """

    def __init__(self, config: ServerChannelConfig, node_id: str, region: str, now_us: int) -> None:
        self._config = config
        self._node_id = node_id
        self._region = region
        self._state = _State.GREETING
        self._end: StreamEnd[FromEdge, ServerEvent] = StreamEnd(
            decode_from_edge, FROM_EDGE_BYTES_MAX, config.message_ms_max * 1_000
        )
        self._version: int | None = None
        self._boot_id = ""
        self._opened_us = now_us
        self._heard_us = now_us
        self._sequence_received = -1
        self._now_us = now_us
        self._report_tokens_us = config.reports_burst_max * _SECOND_US
        self._tokens_at_us = now_us
        self._dropped_in_a_row = 0
        self._resync_wanted = True
        self._reports_unacked: dict[int, None] = {}
        self._plans_unanswered: dict[PlanVersion, None] = {}
        self._certificate_us: int | None = None
        self._plans_answered: deque[PlanVersion] = deque(maxlen=_ANSWERED_REMEMBERED)

    @property
    def node_id(self) -> str:
        """Of the edge, by its certificate."""
        return self._node_id

    @property
    def region(self) -> str:
        """Of the edge, by its certificate."""
        return self._region

    @property
    def joined(self) -> bool:
        """Whether the edge was welcomed and the connection stands."""
        return self._state is _State.JOINED

    @property
    def version(self) -> int | None:
        """The version of the records in use, once `Hello` was read."""
        return self._version

    @property
    def should_close(self) -> bool:
        """Whether the shell is to close the connection, after sending what `poll_data` still gives."""
        return self._state is _State.ENDED

    @property
    def plans_unanswered(self) -> tuple[PlanVersion, ...]:
        """Plans pushed and neither acknowledged nor refused yet, oldest first."""
        return tuple(self._plans_unanswered)

    @property
    def counters(self) -> dict[str, int]:
        """What was sent, received and left out, by name; a copy."""
        return dict(sorted(self._end.counters.items()))

    # ---- Input ------------------------------------------------------------------------------------

    def handle_data(self, data: bytes, now_us: int) -> None:
        """Bytes from the stream."""
        if self._state is _State.ENDED:
            return
        self._heard_us = self._now_us = now_us
        try:
            for message in self._end.receive(data, now_us):
                _HANDLERS[type(message)](self, message)
                if self.should_close:
                    return
        except BadMessage as bad:
            self._break(f"edge sent what it must not: {bad.reason}")

    def handle_disconnected(self, reason: str, now_us: int) -> None:
        """The connection is gone, or the stream ended."""
        if self._state is not _State.ENDED:
            self._break(reason)
        self._end.stop_sending()

    def handle_timeout(self, now_us: int) -> None:
        """The time that `poll_timeout` gave has come; does nothing before it."""
        overdue = [(due_us, what) for due_us, what in self._deadlines() if due_us <= now_us]
        if overdue:
            self._break(f"edge is silent: {min(overdue)[1]}")

    # ---- Commands ---------------------------------------------------------------------------------

    def welcome(self, epoch: Epoch, *, issues: bool = False, unix_us: int = 0) -> None:
        """Answer `HelloReceived`: the edge is in. Ignored where the edge is gone meanwhile.
        ``issues``: it may ask for certificates. ``unix_us``: our wall clock."""
        if self._state is not _State.GREETED or self._version is None:
            return
        self._state = _State.JOINED
        interval_us = self._config.report_interval_us
        self._end.send(
            Welcome(
                version=self._version,
                epoch=epoch,
                report_interval_us=interval_us,
                issues=issues,
                unix_us=unix_us,
            )
        )

    def refuse(self, reason: str, retry_ms: int = 0) -> None:
        """Answer `HelloReceived`, or send away an edge that was in: the connection ends. No event follows.
        ``retry_ms`` as in `Refusal`."""
        if self._state is not _State.ENDED:
            self._finish()
            self._end.send(Refusal(reason=as_text(reason), retry_ms=retry_ms))

    def ack_report(self, sequence: int, *, resync: bool = False) -> None:
        """Answer `ReportReceived`. Asks for a full report by itself where one before it was missed."""
        if self._state is _State.JOINED and sequence in self._reports_unacked:
            del self._reports_unacked[sequence]
            self._send_small(ReportAck(sequence=sequence, resync=resync or self._resync_wanted))

    def push(self, delta: PlanDelta) -> str | None:
        """Send a plan; ``None``, or why it was not sent (not joined, too many unanswered, too large)."""
        if self._state is not _State.JOINED:
            return "edge has not joined"
        if len(self._plans_unanswered) >= self._config.plans_unanswered_max:
            return f"edge has {len(self._plans_unanswered)} plans to answer"
        if self._end.out_bytes >= self._config.queue_bytes_max:
            return f"{self._end.out_bytes} bytes wait for the edge"
        try:
            self._end.send(delta)
        except MessageTooLarge as error:
            return str(error)
        self._plans_unanswered[delta.version] = None
        return None

    def order_drain(self, drain_ms: int) -> None:
        """Tell the edge to drain; ignored where it has not joined."""
        if self._state is _State.JOINED:
            self._send_small(DrainOrder(drain_ms=drain_ms))

    def answer_certificate(self, certificate: bytes, refusal: str = "") -> None:
        """Answer `CertificateAsked`: DER, or why not."""
        if self._state is _State.JOINED:
            self._send_small(CertificateIssued(certificate=certificate, refusal=as_text(refusal)))

    # ---- Output -----------------------------------------------------------------------------------

    def poll_data(self) -> bytes | None:
        """Bytes for the stream, or ``None``."""
        return self._end.poll_data()

    def poll_event(self) -> ServerEvent | None:
        """What happened, oldest first, or ``None``."""
        return self._end.poll_event()

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due, microseconds, or ``None``."""
        return min((due_us for due_us, _ in self._deadlines()), default=None)

    # ---- Messages ---------------------------------------------------------------------------------

    def _handle_hello(self, hello: Hello) -> None:
        if self._state is not _State.GREETING:
            raise BadMessage("a second Hello")
        common = [version for version in self._config.versions if version in hello.versions]
        refusal = self._why_not_hello(hello, common)
        if refusal is not None:
            self._break(refusal)
            self._end.send(Refusal(reason=as_text(refusal)))
            return
        self._version = common[0]
        self._boot_id = hello.boot_id
        self._state = _State.GREETED
        self._end.emit(HelloReceived(hello))

    def _handle_report(self, report: Report) -> None:
        self._only_joined(report)
        if report.boot_id != self._boot_id:
            raise BadMessage(f"Report of boot {report.boot_id!r}, Hello was of {self._boot_id!r}")
        if report.sequence <= self._sequence_received:
            self._end.counters["reports_repeated"] += 1
            return
        if len(self._reports_unacked) >= self._config.reports_unacked_max:
            raise BadMessage(f"more than {self._config.reports_unacked_max} reports without an answer")
        if not self._may_report():
            self._drop_report(report)
            return
        missed = report.sequence != self._sequence_received + 1
        self._resync_wanted = not report.full and (self._resync_wanted or missed)
        self._sequence_received = report.sequence
        self._reports_unacked[report.sequence] = None
        self._end.emit(ReportReceived(report))

    def _may_report(self) -> bool:
        """A token bucket; a report costs a second divided by the rate."""
        config = self._config
        elapsed_us = max(self._now_us - self._tokens_at_us, 0)
        self._tokens_at_us = max(self._now_us, self._tokens_at_us)
        full_us = config.reports_burst_max * _SECOND_US
        gained_us = elapsed_us * config.reports_per_second_max
        self._report_tokens_us = min(self._report_tokens_us + gained_us, full_us)
        if self._report_tokens_us < _SECOND_US:
            return False
        self._report_tokens_us -= _SECOND_US
        self._dropped_in_a_row = 0
        return True

    def _drop_report(self, report: Report) -> None:
        self._end.counters["reports_too_frequent"] += 1
        self._dropped_in_a_row += 1
        if self._dropped_in_a_row > self._config.reports_dropped_max:
            rate = self._config.reports_per_second_max
            raise BadMessage(f"reports come too often, at most {rate} a second are looked at")
        self._sequence_received = report.sequence
        self._resync_wanted = True
        self._send_small(ReportAck(sequence=report.sequence, resync=True))

    def _handle_plan_ack(self, ack: PlanAck) -> None:
        if self._is_answer(ack):
            self._end.emit(PlanAcked(ack.version))

    def _handle_plan_nack(self, nack: PlanNack) -> None:
        if self._is_answer(nack):
            self._end.emit(PlanNacked(nack.version, nack.reason or "no reason given", nack.holds))

    def _handle_certificate_wanted(self, wanted: CertificateWanted) -> None:
        self._only_joined(wanted)
        last_us, wait_us = self._certificate_us, self._config.certificate_ms_min * 1_000
        if last_us is not None and self._now_us < last_us + wait_us:
            self.answer_certificate(b"", f"one certificate in {self._config.certificate_ms_min} ms, no more")
            return
        self._certificate_us = self._now_us
        self._end.emit(CertificateAsked(wanted.request))

    # ---- Below ------------------------------------------------------------------------------------

    def _only_joined(self, message: FromEdge) -> None:
        if self._state is not _State.JOINED:
            raise BadMessage(f"{type(message).__name__} before Welcome")

    def _why_not_hello(self, hello: Hello, common: list[int]) -> str | None:
        if hello.node_id != self._node_id:
            return f"Hello says node {hello.node_id!r}, the certificate {self._node_id!r}"
        if hello.region != self._region:
            return f"Hello says region {hello.region!r}, the certificate {self._region!r}"
        if not common:
            edge, ours = _list(hello.versions), _list(self._config.versions)
            return f"edge speaks versions {edge} of the control channel, the control plane {ours}"
        return None

    def _is_answer(self, message: PlanAck | PlanNack) -> bool:
        """Whether the message answers a plan that waits for it."""
        self._only_joined(message)
        version = message.version
        if version in self._plans_unanswered:
            del self._plans_unanswered[version]
            self._plans_answered.append(version)
            return True
        if version in self._plans_answered:
            self._end.counters["answers_repeated"] += 1
            return False
        raise BadMessage(f"answer to plan {version}, which was not sent")

    def _send_small(self, message: FromControl) -> None:
        if self._end.out_bytes >= self._config.queue_bytes_max:
            self._break(f"edge does not read: {self._end.out_bytes} bytes wait for it")
        else:
            self._end.send(message)

    def _deadlines(self) -> list[tuple[int, str]]:
        """Moments at which the edge is given up, and what it failed to do."""
        config, deadlines = self._config, []
        if self._state is _State.GREETING:
            due_us = self._opened_us + config.hello_ms_max * 1_000
            deadlines.append((due_us, f"no Hello in {config.hello_ms_max} ms"))
        if self._state is _State.JOINED:
            due_us = self._heard_us + config.silence_ms_max * 1_000
            deadlines.append((due_us, f"nothing heard in {config.silence_ms_max} ms"))
        if self._state is not _State.ENDED and self._end.message_due_us is not None:
            what = f"half a message and no more in {config.message_ms_max} ms"
            deadlines.append((self._end.message_due_us, what))
        return deadlines

    def _break(self, reason: str) -> None:
        self._finish()
        self._end.counters["breaks"] += 1
        self._end.emit_last(Broken(reason))

    def _finish(self) -> None:
        self._state = _State.ENDED
        self._reports_unacked.clear()
        self._plans_unanswered.clear()
        self._end.stop_receiving()
        self._end.stop_sending()


_HANDLERS: Mapping[type, Callable[[ServerChannel, Any], None]] = {
    Hello: ServerChannel._handle_hello,
    Report: ServerChannel._handle_report,
    PlanAck: ServerChannel._handle_plan_ack,
    PlanNack: ServerChannel._handle_plan_nack,
    CertificateWanted: ServerChannel._handle_certificate_wanted,
}


def _list(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions))
