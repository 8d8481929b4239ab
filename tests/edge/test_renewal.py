"""An authority that is away for sixteen hours (F22), in virtual time: the edge asks on, says little, and has
its next certificate minutes after the authority is back."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing
from hostile_certificates import at
from structlog.testing import capture_logs

from farcast.certificates import Identity, make_authority
from farcast.control_plane.certifying import certifier
from farcast.control_plane.issuing import Certificate
from farcast.control_plane.trust_book import Admission
from farcast.edge.enrolment import IDENTITY
from farcast.edge.renewal import Renewal
from farcast.proto.control.events import CertificateReceived
from farcast.proto.joining.renewal import RETRY_SECONDS_MAX
from farcast.signing import life_of

ISSUED = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = 3_600.0
AWAY_HOURS = 16.0
DEFAULT_HOURS = 7 * 24.0
"""`farcast control --cert-life`."""


class Edge:
    """Has a certificate, and asks an authority that is away for a while."""

    def __init__(self, folder: Path, life_hours: float, away_from_hours: float) -> None:
        self.life = timedelta(hours=life_hours)
        self.authority = make_authority("shows", ISSUED)
        self.hop_identity = at(self.authority, ISSUED, "sin", "sin-1", self.life)
        self.hop_roots = (self.authority.certificate,)
        self.renewed_hours = math.nan
        self.renewed = trio.Event()
        self.asked = 0
        self._away_from_hours = away_from_hours
        self.renewal = Renewal(self, folder, self._ask, unix_s=self._unix_s, uniform=lambda: 0.0)
        self._began_s = trio.current_time()

    def hours(self) -> float:
        """Since its certificate was issued."""
        return (trio.current_time() - self._began_s) / HOUR

    def renew_hop(self, identity: Identity) -> None:
        self.hop_identity, self.renewed_hours = identity, self.hours()
        self.renewed.set()

    def _unix_s(self) -> float:
        return ISSUED.timestamp() + self.hours() * HOUR

    def _ask(self, request: bytes) -> str | None:
        self.asked += 1
        if self._away_from_hours <= self.hours() < self._away_from_hours + AWAY_HOURS:
            return "the control plane cannot be reached"
        now = datetime.fromtimestamp(self._unix_s(), UTC)
        issued = certifier(self.authority, self.life, lambda: now)(request, Admission("sin", "sin-1"), None)
        assert isinstance(issued, Certificate)
        self.renewal.handle(CertificateReceived(issued.der, ""))
        return None


@pytest.mark.parametrize(
    ("life_hours", "away_from_hours", "told"),
    [
        (DEFAULT_HOURS, DEFAULT_HOURS / 3 - 1, ["warning"]),
        (24.0, 7.0, ["warning", "warning", "error"]),
    ],
)
def test_an_authority_that_is_away_for_16_hours_costs_no_certificate_and_a_line_for_each_concern(
    life_hours: float, away_from_hours: float, told: list[str], tmp_path: Path
) -> None:
    async def until_renewed() -> Edge:
        edge = Edge(tmp_path, life_hours, away_from_hours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(edge.renewal.run)
            await edge.renewed.wait()
            nursery.cancel_scope.cancel()
        return edge

    with capture_logs() as lines:
        edge = trio.run(until_renewed, clock=trio.testing.MockClock(autojump_threshold=0.0))

    back_hours = away_from_hours + AWAY_HOURS
    assert back_hours <= edge.renewed_hours <= back_hours + RETRY_SECONDS_MAX / HOUR
    assert edge.renewed_hours < life_hours, "no hop was ever refused"
    assert life_of(edge.hop_identity.chain[0]).ends_unix_s > ISSUED.timestamp() + life_hours * HOUR
    assert (tmp_path / IDENTITY).read_bytes().startswith(edge.hop_identity.key_pem())
    assert [line["log_level"] for line in lines if line["event"] == "certificate not renewed"] == told
    assert edge.asked > 50
