"""The control plane's end of one edge's control channel, as an engine."""

from __future__ import annotations

from dataclasses import dataclass

from farcast.proto.control.codec import VERSIONS
from farcast.proto.control.events import ServerEvent
from farcast.proto.control.messages import Epoch, PlanDelta


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
    plans_unanswered_max: int = 4
    queue_bytes_max: int = 32 << 20
    """Bytes that wait for the edge to read."""
    report_interval_us: int = 1_000_000


class ServerChannel:
    """One connection of one edge, from its first byte to its end.

    ``node_id`` and ``region`` are those of the certificate; a `Hello` that says others is refused. Bytes of the
    edge's one bidirectional stream go in and out; after every ``handle_*`` and command the shell sends what
    `poll_data` gives, and closes the connection where `should_close`. Nothing an edge sends raises: it ends
    the connection with a `Broken` that says why. Reports carry no node id: they are those of this edge.
    """

    def __init__(self, config: ServerChannelConfig, node_id: str, region: str, now_us: int) -> None:
        raise NotImplementedError

    @property
    def joined(self) -> bool:
        """Whether the edge was welcomed and the connection stands."""
        raise NotImplementedError

    @property
    def version(self) -> int | None:
        """The version of the records in use, once `Hello` was read."""
        raise NotImplementedError

    @property
    def should_close(self) -> bool:
        """Whether the shell is to close the connection, after sending what `poll_data` still gives."""
        raise NotImplementedError

    @property
    def plans_unanswered(self) -> int:
        """Plans pushed and neither acknowledged nor refused yet."""
        raise NotImplementedError

    @property
    def counters(self) -> dict[str, int]:
        """What was sent, received, dropped and refused, by name; a copy."""
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

    def welcome(self, epoch: Epoch) -> None:
        """Answer `HelloReceived`: the edge is in."""
        raise NotImplementedError

    def refuse(self, reason: str) -> None:
        """Answer `HelloReceived`, or send an edge away that was in: the connection ends. No event follows."""
        raise NotImplementedError

    def ack_report(self, sequence: int, *, resync: bool = False) -> None:
        """Answer `ReportReceived`. Asks for a full report by itself where one before it was missed."""
        raise NotImplementedError

    def push(self, delta: PlanDelta) -> str | None:
        """Send a plan; ``None``, or why it was not sent (not joined, too many unanswered, too large)."""
        raise NotImplementedError

    def order_drain(self, drain_ms: int) -> None:
        """Tell the edge to drain."""
        raise NotImplementedError

    def poll_data(self) -> bytes | None:
        """Bytes for the stream, or ``None``."""
        raise NotImplementedError

    def poll_event(self) -> ServerEvent | None:
        """What happened, oldest first, or ``None``."""
        raise NotImplementedError

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due, microseconds, or ``None``."""
        raise NotImplementedError
