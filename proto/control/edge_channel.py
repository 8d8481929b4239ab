"""The edge's end of the control channel, as an engine."""

from __future__ import annotations

from dataclasses import dataclass

from farcast.proto.control.codec import VERSIONS
from farcast.proto.control.events import EdgeEvent
from farcast.proto.control.messages import Hello, PlanVersion, Report


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
    events_max: int = 64


class EdgeChannel:
    """One control channel over all its connections, one at a time.

    Bytes of a connection's one bidirectional stream go in and out; after every ``handle_*`` the shell sends
    what `poll_data` gives, hands on what `poll_event` gives, and closes the connection where `should_close`.
    Nothing a peer sends raises: it ends the connection with a `Broken` that says why.
    """

    def __init__(self, config: EdgeChannelConfig) -> None:
        raise NotImplementedError

    @property
    def holds(self) -> PlanVersion | None:
        """The plan in force here, as the next `Hello` says it."""
        raise NotImplementedError

    @property
    def joined(self) -> bool:
        """Whether reports can be sent now."""
        raise NotImplementedError

    @property
    def version(self) -> int | None:
        """The version of the records in use, once joined."""
        raise NotImplementedError

    @property
    def should_close(self) -> bool:
        """Whether the shell is to close the connection, after sending what `poll_data` still gives."""
        raise NotImplementedError

    @property
    def counters(self) -> dict[str, int]:
        """What was sent, received, dropped and refused, by name; a copy."""
        raise NotImplementedError

    def set_holds(self, version: PlanVersion | None) -> None:
        """The plan in force, where it did not come through `answer_plan` (loaded from disk)."""
        raise NotImplementedError

    def handle_connected(self, now_us: int) -> None:
        """A connection stands and its stream is open: says `Hello`."""
        raise NotImplementedError

    def handle_data(self, data: bytes, now_us: int) -> None:
        """Bytes from the stream."""
        raise NotImplementedError

    def handle_disconnected(self, reason: str, now_us: int) -> None:
        """The connection is gone, or the stream ended."""
        raise NotImplementedError

    def handle_timeout(self, now_us: int) -> None:
        """The time that `poll_timeout` gave has come."""
        raise NotImplementedError

    def send_report(self, report: Report, now_us: int) -> str | None:
        """Send a report; ``None``, or why it was not sent (then a full one must follow)."""
        raise NotImplementedError

    def answer_plan(self, version: PlanVersion, refusal: str | None) -> None:
        """The plan is in force (``None``), or was refused for this reason and the old one stays."""
        raise NotImplementedError

    def poll_data(self) -> bytes | None:
        """Bytes for the stream, or ``None``."""
        raise NotImplementedError

    def poll_event(self) -> EdgeEvent | None:
        """What happened, oldest first, or ``None``."""
        raise NotImplementedError

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due, microseconds, or ``None``."""
        raise NotImplementedError
