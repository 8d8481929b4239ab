"""What an operator reads when hops fail."""

from __future__ import annotations

import io
import json
from itertools import count
from typing import Any

from farcast.edge.event_log import EventLog
from farcast.edge.logs import configure_logs
from farcast.proto._core import Event


def switched(track: int, cause: str = "silent", session: int = 3) -> Any:
    return Event.UpstreamSwitched(track, 1, track, session, track, cause, 210_000)  # type: ignore[arg-type]


def lines(events: list[Any], seconds_apart: float = 0.0) -> list[dict[str, Any]]:
    times = count(100.0, seconds_apart)
    stream = io.StringIO()
    configure_logs("info", stream)
    log = EventLog(lambda: next(times))
    for event in events:
        log(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_hop_that_fails_with_all_its_tracks_is_one_line() -> None:
    (line,) = lines([switched(track) for track in range(1_000)])
    assert (line["event"], line["level"]) == ("track took another upstream", "warning")
    assert (line["cause"], line["silent_ms"]) == ("silent", 210)


def test_another_cause_or_another_hop_is_another_line() -> None:
    events = [switched(1), switched(2, "command"), switched(3, session=5), switched(4)]
    assert [line["level"] for line in lines(events)] == ["warning", "info", "warning"]


def test_it_is_told_again_when_it_happens_again_later() -> None:
    assert len(lines([switched(1)] * 3, seconds_apart=2.0)) == 3
