"""Certificates that nobody renews by itself: who has to act hears it, in time and once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from hostile_certificates import at

from farcast.certificate_watch import LOOK_SECONDS_MAX, CertificateWatch
from farcast.certificates import HopAuthority

ISSUED = datetime(2026, 11, 1, tzinfo=UTC)
DAY = 86_400
AUTHORITY = HopAuthority(ISSUED, valid_days=40)


@pytest.fixture
def lines() -> Any:
    kept: list[tuple[str, str]] = []

    def keep(_: Any, level: str, line: Any) -> Any:
        kept.append((level, line["event"]))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    yield kept
    structlog.configure(**before)


def test_the_last_tenth_and_the_end_are_a_line_each_with_what_to_do(lines: list[tuple[str, str]]) -> None:
    now = [0.0]
    leaf = at(AUTHORITY, ISSUED, "sin", "sin-1", timedelta(days=10)).chain[0]
    watch = CertificateWatch(lambda: {"hop": leaf}, lambda: now[0])
    for day in range(14):
        now[0] = ISSUED.timestamp() + day * DAY
        assert 0 < watch.look() <= LOOK_SECONDS_MAX
        watch.look()
    assert lines == [
        (
            "warning",
            "hop certificate ends soon: farcast ca renew, then SIGHUP (systemd unit: restart)",
        ),
        (
            "error",
            "hop certificate has ended: farcast ca renew, then SIGHUP (systemd unit: restart)",
        ),
    ]


def test_a_certificate_in_its_place_begins_anew(lines: list[tuple[str, str]]) -> None:
    now = [ISSUED.timestamp() + 11 * DAY]
    old, new = (
        at(AUTHORITY, ISSUED + timedelta(days=begins), "sin", "sin-1", timedelta(days=10)).chain[0]
        for begins in (0, 10)
    )
    shown = [old]
    watch = CertificateWatch(lambda: {"hop": shown[0]}, lambda: now[0])
    watch.look()
    shown[0] = new
    watch.look()
    assert len(lines) == 1
    now[0] += 10 * DAY
    watch.look()
    assert len(lines) == 2


def test_it_looks_again_when_there_will_be_something_to_say() -> None:
    leaf = at(AUTHORITY, ISSUED, "sin", "sin-1", timedelta(seconds=100)).chain[0]
    watch = CertificateWatch(lambda: {"hop": leaf}, lambda: ISSUED.timestamp() + 80)
    assert watch.look() == pytest.approx(10)
