"""What an edge bears, out of totals."""

from __future__ import annotations

from typing import Any

from farcast.edge.load import LoadMeter


def snapshot(now_us: int, bytes_out: int) -> Any:
    return {
        "now_us": now_us,
        "totals": {"udp_bytes_out": bytes_out},
        "sessions": [{"session": 1, "hop": {}}, {"session": 2, "hop": None}, {"session": 4, "hop": None}],
        "downstreams": [
            {"session": 1, "queue_bytes": 5},
            {"session": 2, "queue_bytes": 7},
            {"session": 2, "queue_bytes": 0},
            {"session": 4, "queue_bytes": 1},
        ],
        "tracks": 3,
    }


def test_rates_are_those_since_the_snapshot_before() -> None:
    cpu_ns = iter([0, 500_000_000, 500_000_000])
    meter = LoadMeter(lambda: next(cpu_ns), cores=2)
    first = meter.handle_snapshot(snapshot(0, 10_000), 1)
    assert (first.cpu, first.egress_bps) == (0.0, 0)
    second = meter.handle_snapshot(snapshot(1_000_000, 260_000), 1)
    assert (second.cpu, second.egress_bps) == (0.25, 2_000_000)
    third = meter.handle_snapshot(snapshot(3_000_000, 260_000), 1)
    assert (third.cpu, third.egress_bps) == (0.0, 0)


def test_viewers_are_sessions_that_get_something_and_are_no_edges() -> None:
    load = LoadMeter(lambda: 0, cores=1).handle_snapshot(snapshot(0, 0), 4)
    assert (load.viewers, load.publishers, load.tracks, load.queue_bytes) == (2, 4, 3, 13)


def test_a_share_is_never_above_one() -> None:
    cpu_ns = iter([0, 10**12])
    meter = LoadMeter(lambda: next(cpu_ns), cores=1)
    meter.handle_snapshot(snapshot(0, 0), 0)
    assert meter.handle_snapshot(snapshot(1, 0), 0).cpu == 1.0
