"""What the two ends of a control channel report to whoever runs them.

Each connection ends with exactly one `Refused` or `Broken` at the edge, and with one `Broken` at the control
plane, unless it was the control plane that sent the edge away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from farcast.proto.control.messages import Hello, PlanDelta, PlanVersion, Report, Welcome


@dataclass(frozen=True, slots=True)
class Joined:
    """The control plane let the edge in; the next report must be a full one."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class PlanReceived:
    """A plan to be considered; answer with `EdgeChannel.answer_plan`."""

    delta: PlanDelta


@dataclass(frozen=True, slots=True)
class DrainOrdered:
    """The operator wants this edge empty; what is left after ``drain_ms`` is to be cut off."""

    drain_ms: int


@dataclass(frozen=True, slots=True)
class ReportAcked:
    """A report was taken over; with ``resync`` the next one must be full."""

    sequence: int
    resync: bool


@dataclass(frozen=True, slots=True)
class CertificateReceived:
    """The answer to `EdgeChannel.want_certificate`: DER, or why there is none."""

    certificate: bytes
    refusal: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The edge may not join, or must not join this control plane (deposed, or of another cluster).
    ``retry_ms`` as in `Refusal`."""

    reason: str
    retry_ms: int = 0


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection is over: lost, silent, or ended because of what the peer sent."""

    reason: str


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """An edge whose certificate and words agree; answer with `ServerChannel.welcome` or `refuse`."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class ReportReceived:
    """A report newer than all before it on this channel; answer with `ServerChannel.ack_report`."""

    report: Report


@dataclass(frozen=True, slots=True)
class PlanAcked:
    """A pushed plan is in force at the edge."""

    version: PlanVersion


@dataclass(frozen=True, slots=True)
class PlanNacked:
    """The edge refused a pushed plan; ``holds`` stays in force there."""

    version: PlanVersion
    reason: str
    holds: PlanVersion | None


@dataclass(frozen=True, slots=True)
class CertificateAsked:
    """The edge asks for its next certificate; answer with `ServerChannel.answer_certificate`."""

    request: bytes


EdgeEvent: TypeAlias = (
    Joined | PlanReceived | DrainOrdered | ReportAcked | CertificateReceived | Refused | Broken
)
"""What `EdgeChannel.poll_event` gives."""

ServerEvent: TypeAlias = HelloReceived | ReportReceived | PlanAcked | PlanNacked | CertificateAsked | Broken
"""What `ServerChannel.poll_event` gives."""
