"""Records of the control channel with what a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from farcast.proto.control.messages import Hello, LinkReport, Report

BOOT = "boot-1"


def hello(node_id: str, region: str = "", **fields: Any) -> Hello:
    """An edge joins; its region is its own by default."""
    known = {"versions": (1,), "boot_id": BOOT, "advertise": f"{node_id}:4443"}
    return Hello(node_id=node_id, region=region or f"at-{node_id}", **{**known, **fields})


def report(sequence: int, links: Iterable[LinkReport] = (), **fields: Any) -> Report:
    """A report of one second."""
    known = {"boot_id": BOOT, "sent_us": sequence * 1_000_000, "interval_us": 1_000_000}
    return Report(sequence=sequence, links=tuple(links), **{**known, **fields})


def link(peer: str, rtt_us: int = 50_000, **fields: Any) -> LinkReport:
    """A link that is well."""
    known = {"rtt_latest_us": rtt_us, "rtt_min_us": rtt_us, "rtt_variation_us": rtt_us // 50}
    return LinkReport(peer=peer, rtt_smoothed_us=rtt_us, **{**known, **fields})
