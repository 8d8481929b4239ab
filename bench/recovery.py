"""What repair on a hop achieves, beside other ways: a film and sound over one bad link, in virtual time.

The link: 100 ms each way, 20 Mbit/s, losses in bursts of three datagrams (``--time``: of 2.85 ms). The
film: 30 frames a second, 3 Mbit/s, a key frame of 60 kB every two seconds; sound of 64 kbit/s in 50 frames
a second. The budget is 400 ms. Measured with real datapaths (``simulations/net/examples/recovery.rs``): our
hop with the pushed table, the hop with the built-in table of copies, the hop with plain ARQ, and a
subscription over QUIC streams (CUBIC). By closed form, not run: SRT's rule (latency = m times the round
trip, its deployment guide) and block FEC for each frame (MDS, k of the frame, parity for 1e-3 a block, two-
state recursion).

Latencies are those of whole frames as they leave the hop, in any order. ``missed`` came later than the
budget, or never. ``frozen_share``: frames not shown at their deadline because they, or one before them in
their group, were missing. ``extra_bytes``: what crossed the link forwards beyond what the same layer took
without loss. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any

from farcast.proto.recovery.policy import (
    COLLECT_MS,
    ROUND_CHUNKS_MAX,
    SPACING_MS,
    SPANS_MS,
    TARGET_ESSENTIAL,
    Assumptions,
    Row,
    correlation,
    failure,
    table,
)

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "target" / "release" / "examples" / "recovery"
LOSSES = (2, 5, 10, 20)
FRAMES = 60_000
SHORT_FRAMES = 6_000
FPS = 30
SEEDS = 2
"""Runs a point, side by side; a point has all their frames."""
GOALS = {
    5: {"p99_ms": 350.0, "missed": 1.5e-4, "extra_bytes": 0.13},
    10: {"p99_ms": 360.0, "missed": 1e-3, "extra_bytes": 0.30},
    20: {"missed": 2e-3, "audio_missed": 2e-4, "extra_bytes": 0.75},
}


def line(row: Row) -> str:
    """A row as the example reads it."""
    *head, essential, disposable = astuple(row)
    return " ".join(str(int(n)) for n in (*head, *essential, *disposable))


def copies(count: int) -> str:
    """One row: so many copies whatever is lost."""
    symbols = tuple(min(count * k, 64) for k in range(1, ROUND_CHUNKS_MAX + 1))
    return line(Row(4_294_967_295, 0, 0, 0, 12_000, 0, 0, False, count, symbols, symbols))


def run(kind: str, policy: str, frames: int, seed: int, values: Sequence[str]) -> dict[str, Any]:
    """One run of the example."""
    command = [str(RUN), kind, str(frames // FPS), str(seed), *values]
    done = subprocess.run(command, input=policy, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def point(kind: str, policy: str, frames: int, values: Sequence[str]) -> dict[str, Any]:
    """Several seeds as one: shares by frames, the worst of the quantiles."""
    with ThreadPoolExecutor(SEEDS) as pool:
        runs = list(
            pool.map(lambda seed: run(kind, policy, frames // SEEDS, seed, values), range(1, SEEDS + 1))
        )
    mean = ("missed", "frozen_share", "audio_missed", "loss_seen")
    joined = {key: sum(one[key] for one in runs) / len(runs) for key in mean}
    worst = {key: max(one[key] for one in runs) for key in ("p50_ms", "p99_ms", "p999_ms")}
    total = {key: sum(one[key] for one in runs) for key in ("frames", "bytes", "back_bytes", "packets")}
    return {**joined, **worst, **total, "hop": runs[0]["hop"]}


def show(name: str, percent: int, got: dict[str, Any], clean: dict[str, Any]) -> None:
    """One row of the table."""
    extra = got["bytes"] / clean["bytes"] - 1
    print(
        f"{name:22} {percent:3} %  {got['p50_ms']:7} {got['p99_ms']:7} {got['p999_ms']:7}  "
        f"{got['missed']:9.2e} "
        f"{got['audio_missed']:9.2e}  {100 * got['frozen_share']:6.2f} %  {100 * extra:+6.1f} %",
        flush=True,
    )


def figures(got: dict[str, Any], clean: dict[str, Any]) -> dict[str, float]:
    """A point of the JSON line."""
    keys = ("p50_ms", "p99_ms", "p999_ms", "missed", "frozen_share", "audio_missed")
    return {**{key: got[key] for key in keys}, "extra_bytes": round(got["bytes"] / clean["bytes"] - 1, 4)}


def closed_forms() -> None:
    """What needs no run."""
    print("\nClosed forms: SRT's latency for 200 ms RTT; parity a frame for 1e-3, 11 chunks, bursts of 3")
    for percent, m in ((2, 4), (5, 5), (10, 6), (20, None)):
        loss = percent / 100
        rho = correlation(loss, 3, 1)
        parity = next((r for r in range(53) if failure(11, 11 + r, loss, rho) <= 1e-3), None)
        srt = f"{200 * m} ms" if m else "beyond its guide"
        print(
            f"{percent:3} %  SRT {srt} (budget 400: not held)  "
            f"block FEC +{100 * parity / 11 if parity else 0:.0f} %"
        )


def unmet(percent: int, got: dict[str, float]) -> list[str]:
    """Goals that were not reached."""
    goals = GOALS.get(percent, {})
    return [f"{percent} %: {key} {got[key]} > {most}" for key, most in goals.items() if got[key] > most]


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT_FRAMES} frames a point, our hop alone")
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument(
        "--time", action="store_true", help="bursts in time, 2.85 ms, in place of three datagrams"
    )
    parser.add_argument("--spacing-ms", type=float, default=SPACING_MS)
    parser.add_argument("--collect-ms", type=float, default=COLLECT_MS)
    parser.add_argument("--span-ms", type=float, nargs="*", default=SPANS_MS, help="downwards")
    parser.add_argument("--losses", type=int, nargs="*", default=LOSSES, help="per cent")
    parser.add_argument("--target", type=float, default=TARGET_ESSENTIAL)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the link (see the example)"
    )
    parser.add_argument("--only", nargs="*", default=[], help="ours copies arq streams")
    options = parser.parse_args()
    frames = options.frames or (SHORT_FRAMES if options.short else FRAMES)
    only = options.only or (["ours"] if options.short else ["ours", "copies", "arq", "streams"])
    table_of_hop = table(
        Assumptions(
            spacing_ms=options.spacing_ms,
            collect_ms=options.collect_ms,
            target_essential=options.target,
            spans_ms=tuple(options.span_ms),
        )
    )
    ours = "\n".join(line(row) for row in table_of_hop)
    burst = ["time=1", "burst=2.85"] if options.time else ["burst=3"]
    kinds = {"ours": ("hop", ours), "copies": ("hop", ""), "arq": ("hop", copies(1)), "streams": ("quic", "")}
    print(f"{'':22} loss      p50     p99   p99.9 ms  missed  audio missed   frozen   extra bytes")
    out: dict[str, Any] = {}
    missing: list[str] = []
    for name in only:
        kind, policy = kinds[name]
        clean = point(kind, policy, frames, [*burst, *options.set, "loss=0"])
        show(name, 0, clean, clean)
        for percent in options.losses:
            got = point(kind, policy, frames, [*burst, *options.set, f"loss={percent / 100}"])
            show(name, percent, got, clean)
            if name == "ours":
                out[f"loss_{percent}"] = figures(got, clean)
                missing += unmet(percent, out[f"loss_{percent}"])
        if name == "ours":
            plain = point("hop", copies(1), frames, [*burst, *options.set, "loss=0"])
            out["clean"] = {
                "extra_bytes": round(clean["bytes"] / plain["bytes"] - 1, 5),
                "instructions_ratio": None,
            }
    if not options.short:
        closed_forms()
    if "ours" in only:
        print("goals not reached: " + ("; ".join(missing) or "none"))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
