"""What an edge bears, between one look and the next: for its reports."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.proto.control.messages import Load

if TYPE_CHECKING:
    from farcast.proto._core import SnapshotDict


class LoadMeter:
    """Turns totals into rates. ``cpu_ns`` is the time that this process has computed, over all its threads;
    the share is of all cores that it may use."""

    def __init__(self, cpu_ns: Callable[[], int] = time.process_time_ns, cores: int | None = None) -> None:
        self._cpu_ns = cpu_ns
        self._cores = cores or len(os.sched_getaffinity(0))
        self._before: tuple[int, int, int] | None = None

    def handle_snapshot(self, snapshot: SnapshotDict, publishers: int) -> Load:
        """The load since the snapshot before; rates are 0 at the first."""
        now_us, cpu_ns = snapshot["now_us"], self._cpu_ns()
        bytes_out = snapshot["totals"]["udp_bytes_out"]
        cpu, egress_bps = 0.0, 0
        if self._before is not None:
            before_us, before_cpu_ns, before_bytes = self._before
            elapsed_us = max(1, now_us - before_us)
            cpu = (cpu_ns - before_cpu_ns) / 1_000 / elapsed_us / self._cores
            egress_bps = (bytes_out - before_bytes) * 8_000_000 // elapsed_us
        self._before = now_us, cpu_ns, bytes_out
        hops = {session["session"] for session in snapshot["sessions"] if session["hop"] is not None}
        viewers = {d["session"] for d in snapshot["downstreams"]} - hops
        return Load(
            cpu=min(max(cpu, 0.0), 1.0),
            egress_bps=max(egress_bps, 0),
            viewers=len(viewers),
            publishers=publishers,
            tracks=snapshot["tracks"],
            queue_bytes=sum(d["queue_bytes"] for d in snapshot["downstreams"]),
        )
