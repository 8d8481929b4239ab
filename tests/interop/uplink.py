"""``python -m tests.interop.uplink``: what comes over a bad uplink from a browser, beside our own publisher.

A browser sends with its own congestion control and its own repair, which an edge cannot change. So this
measures what that does to a show: @moq/publish in headless Chromium (a synthetic camera of 20 pictures a
second) and ``farcast publish testsrc`` (over WebTransport as well) send to an edge through the same lossy or
narrow link, and ``farcast watch`` beside the edge counts what arrives. Their films differ: only how much of
each comes in time can be compared. Prints a table and, last, one JSON line. Real time, one after the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio
from rich.console import Console
from rich.table import Table

from farcast.proto._core import LinkConfig, UdpShaper

from .browser import Browser, headless_chromium
from .children import child
from .network import FARCAST, PREFIX, Server, two_edges
from .tools import farcast_publish

OUT = Path(__file__).with_name("out")
SECONDS = 20
SETTLE_SECONDS = 3
"""From the publisher's begin until the viewer joins: what is measured is a running show."""
START_SECONDS_MAX = 30
DRAFT = 16


@dataclass(frozen=True, slots=True)
class Uplink:
    """Conditions of the way from the publisher; back they are the same without the rate."""

    name: str
    link: LinkConfig


UPLINKS = (
    Uplink("20 ms, clean", LinkConfig(delay_us=10_000)),
    Uplink("50 ms, 2 % in bursts of 3", LinkConfig(delay_us=25_000, loss=0.02, loss_burst=3.0)),
    Uplink("200 ms, 2 % in bursts of 3", LinkConfig(delay_us=100_000, loss=0.02, loss_burst=3.0)),
    Uplink("200 ms, 5 % in bursts of 3", LinkConfig(delay_us=100_000, loss=0.05, loss_burst=3.0)),
    Uplink("50 ms, 0.4 Mbit/s", LinkConfig(delay_us=25_000, rate_bps=400_000, queue_bytes=40_000)),
)


@asynccontextmanager
async def through(link: LinkConfig, server: Server) -> AsyncIterator[Server]:
    """The server behind a shaped link, for the length of the block."""
    shaper = UdpShaper("127.0.0.1:0", server.address, link, link.replace(rate_bps=None))
    try:
        yield replace(server, address=shaper.local_addr)
    finally:
        shaper.close()


async def browser_sends(browser: Browser, uplink: Uplink, origin: Server, seconds: int) -> dict[str, Any]:
    """What arrives of the browser's camera."""
    namespace = f"{PREFIX}/uplink-browser"
    async with through(uplink.link, origin) as server, browser.page("publish", server, namespace):
        return await watched(origin, namespace, seconds)


async def farcast_sends(uplink: Uplink, origin: Server, seconds: int) -> dict[str, Any]:
    """What arrives of our test film."""
    namespace = f"{PREFIX}/uplink-farcast"
    async with (
        through(uplink.link, origin) as server,
        farcast_publish(server, "webtransport", namespace, OUT, DRAFT, ["--no-edge-list"]),
    ):
        return await watched(origin, namespace, seconds)


async def watched(origin: Server, namespace: str, seconds: int) -> dict[str, Any]:
    """Figures of ``farcast watch`` beside the edge."""
    await trio.sleep(SETTLE_SECONDS)
    flags = [*origin.client_flags("quic"), "--namespace", namespace, "--no-edge-list"]
    more = ["--seconds", str(seconds), "--timeout", str(START_SECONDS_MAX), "--json"]
    async with child("farcast-watch", [FARCAST, "watch", *flags, *more], OUT) as process:
        printed = await process.output()
    if process.returncode or not printed:
        return {"error": process.log_tail().strip().splitlines()[-1]}
    return dict(json.loads(printed))


def figures(report: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Of a viewer's report what is compared."""
    if "error" in report:
        return {
            "pictures_per_s": 0.0,
            "stalled_share": 1.0,
            "longest_stall_ms": seconds * 1_000,
            "kbit_per_s": 0,
        }
    video = next((track for track in report["tracks"].values() if track["kind"] == "video"), {"frames": 0})
    return {
        "pictures_per_s": round(video["frames"] / seconds, 1),
        "stalled_share": round(report["stall_ratio"], 3),
        "longest_stall_ms": round(report["longest_stall_ms"]),
        "kbit_per_s": report["bitrate"] // 1000,
    }


async def measure(uplinks: Sequence[Uplink], seconds: int) -> list[dict[str, Any]]:
    """All uplinks with both publishers."""
    rows: list[dict[str, Any]] = []
    async with two_edges(OUT, (18, 16), (18, 16)) as network, headless_chromium(OUT) as browser:
        for uplink in uplinks:
            for publisher in ("browser", "farcast"):
                if publisher == "browser":
                    report = await browser_sends(browser, uplink, network.origin, seconds)
                else:
                    report = await farcast_sends(uplink, network.origin, seconds)
                rows.append({"uplink": uplink.name, "publisher": publisher, **figures(report, seconds)})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """A table to stderr, a JSON line to stdout."""
    table = Table(*(key.replace("_", " ") for key in rows[0]))
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(stderr=True, width=None if sys.stderr.isatty() else 130).print(table)
    print(json.dumps({"uplinks": rows}))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="two of the uplinks, 6 s each")
    short = parser.parse_args().short
    show(trio.run(measure, UPLINKS[1:4:2] if short else UPLINKS, 6 if short else SECONDS))


if __name__ == "__main__":
    main()
