"""What repair on a hop achieves, beside other ways: a film and sound over one bad link, in virtual time.

The link: 100 ms each way, 20 Mbit/s, losses in bursts of three datagrams (``--time``: of 2.85 ms). The
film: 30 frames a second, 3 Mbit/s, a key frame of 60 kB every two seconds; sound of 64 kbit/s in 50 frames
a second. The budget is 400 ms. On links that lose alike:

- real datapaths: our hop with the pushed table, with the built-in table of copies, with plain ARQ (a table
  of one copy), and subscriptions over QUIC streams (our controller for media, CUBIC, BBR3);
- models of datagrams: SRT's rule with the same budget, and block FEC for each frame, its parity from the
  closed form for this loss (``simulations/net/examples/recovery/rules.rs``).

Then, at 5 %, the same with bursts in time, feedback lost, jitter, reordering, and a pipe that repairs fill;
the last mile, 20 ms, with 70 and 80 % lost independently; instructions (callgrind) for the hop beside plain
streams on a clean link; and the closed forms.

Latencies are those of whole frames as they leave the hop, in any order; ``never``: so many never came.
``missed`` came later than the budget, or never. ``frozen_share``: frames not shown at their deadline because
they, or one before them in their group, were missing. ``extra_bytes``: what crossed the link forwards beyond
what the same way took without loss. ``instructions_ratio``: of all that carries an object, both ends and the
kernel in memory, over the same by streams; null without valgrind. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from typing import Any, Final

from bench import callgrind
from bench.recovery_runs import (
    CHUNKS,
    EXAMPLE,
    FPS,
    Figures,
    Way,
    block_fec,
    copies,
    extra,
    lines,
    parity_needed,
    point,
)

from farcast.proto.recovery.policy import (
    COLLECT_MS,
    SPACING_MS,
    SPANS_MS,
    TARGET_ESSENTIAL,
    Assumptions,
    table,
)

LOSSES: Final = (2, 5, 10, 20)
FRAMES: Final = 60_000
SHORT_FRAMES: Final = 6_000
PAYLOAD_BPS: Final = 30 * (59 * 11_700 + 60_000) / 60 * 8 + 50 * 160 * 8
"""Film and sound without any header."""
CONDITIONS: Final = {
    "bursts of 2.85 ms": ("time=1", "burst=2.85"),
    "1 % of feedback lost": ("burst=3", "back=0.01"),
    "5 ms of jitter": ("burst=3", "jitter_us=5000"),
    "1 % reordered": ("burst=3", "reorder=0.01"),
    "pipe of 4 Mbit/s": ("burst=3", "rate_bps=4000000"),
}
CONDITION_PEERS: Final = ("arq", "cubic", "srt", "fec")
LAST_MILE: Final = (("film and sound", 70, ()), ("sound alone", 80, ("film=0",)))
GOALS: Final = {
    5: {"p99_ms": 350.0, "missed": 1.5e-4, "extra_bytes": 0.13},
    10: {"p99_ms": 360.0, "missed": 1e-3, "extra_bytes": 0.30},
    20: {"missed": 2e-3, "audio_missed": 2e-4, "extra_bytes": 0.75},
}
STREAMS: Final = Way("streams", "quic")
ARQ: Final = Way("plain ARQ", "hop", copies(1))
SRT: Final = Way("SRT's rule", "rule")
INSTRUCTION_SECONDS: Final = (4, 12)
"""Of two runs: what both spend on beginning and ending falls out."""


def ways(policy: str) -> dict[str, Way]:
    """All that are compared but block FEC, whose parity depends on the loss."""
    return {
        "ours": Way("ours", "hop", policy),
        "copies": Way("copies", "hop"),
        "arq": ARQ,
        "streams": STREAMS,
        "cubic": Way("streams, CUBIC", "quic", values=("cc=1",)),
        "bbr3": Way("streams, BBR3", "quic", values=("cc=2",)),
        "srt": SRT,
        "fec": block_fec(0, 1),
    }


def at(way: Way, percent: int) -> Way:
    """A way where so much is lost in bursts of three."""
    return block_fec(percent / 100, 3) if way.name == "block FEC" else way


def show(name: str, percent: int, got: Figures, clean: Figures) -> None:
    """One row of the table."""
    p50, p99, p999 = (
        "never" if got[key] is None else str(got[key]) for key in ("p50_ms", "p99_ms", "p999_ms")
    )
    print(
        f"{name:22} {percent:3} %  {p50:>7} {p99:>7} {p999:>7}  {got['missed']:9.2e} "
        f"{got['audio_missed']:9.2e}  {100 * got['frozen_share']:6.2f} %  {100 * extra(got, clean):+6.1f} %",
        flush=True,
    )


def figures(got: Figures, clean: Figures) -> Figures:
    """A point of the JSON line."""
    keys = ("p50_ms", "p99_ms", "p999_ms", "missed", "frozen_share", "audio_missed")
    return {**{key: got[key] for key in keys}, "extra_bytes": round(extra(got, clean), 4)}


def by_loss(way: Way, frames: int, values: Sequence[str], losses: Sequence[int]) -> tuple[Figures, Figures]:
    """Rows of one way; what it took without loss, and its points."""
    clean = point(way, frames, [*values, "loss=0"])
    show(way.name, 0, clean, clean)
    points: Figures = {}
    for percent in losses:
        got = point(at(way, percent), frames, [*values, f"loss={percent / 100}"])
        show(way.name, percent, got, clean)
        points[f"loss_{percent}"] = figures(got, clean)
    return clean, points


def clean_link(ours: Way, clean: Figures, frames: int, values: Sequence[str]) -> Figures:
    """What the layer takes where nothing is lost: bytes beside plain ARQ's, instructions beside streams'."""
    plain = point(ARQ, frames, [*values, "loss=0"])
    headers = plain["bytes"] * 8 / (PAYLOAD_BPS * plain["frames"] / FPS) - 1
    print(f"Headers of IP, UDP, QUIC and the layer, and its heartbeats: {100 * headers:+.1f} %")
    ratio = beside_arq = None
    if shutil.which("valgrind"):
        counted = {way.name: instructions(way) for way in (ours, ARQ, STREAMS)}
        ratio = round(counted["ours"] / counted["streams"], 3)
        beside_arq = round(counted["ours"] / counted["plain ARQ"], 3)
        print(
            f"Instructions an object on a clean link: {counted['ours']:.0f}; {ratio} of streams', "
            f"{beside_arq} of plain ARQ's"
        )
    else:
        print("Instructions: not counted, valgrind is not installed")
    return {
        "extra_bytes": round(extra(clean, plain), 5),
        "headers": round(headers, 4),
        "instructions_ratio": ratio,
        "instructions_ratio_to_arq": beside_arq,
    }


def instructions(way: Way) -> float:
    """An object's, of both ends and the kernel that carries datagrams in memory."""
    short, long = (
        callgrind.instructions([str(EXAMPLE), way.kind, str(seconds), "1", "loss=0"], text=way.policy)
        for seconds in INSTRUCTION_SECONDS
    )
    return (long - short) / (INSTRUCTION_SECONDS[1] - INSTRUCTION_SECONDS[0]) / (FPS + 50)


def other_conditions(known: dict[str, Way], names: Sequence[str], frames: int, values: Sequence[str]) -> None:
    """At 5 % where something else is bad too."""
    for condition, changed in CONDITIONS.items():
        print(f"\n5 %, {condition}")
        for name in names:
            clean = point(known[name], frames, [*changed, *values, "loss=0"])
            got = point(at(known[name], 5), frames, [*changed, *values, "loss=0.05"])
            show(known[name].name, 5, got, clean)


def last_mile(ours: Way, frames: int) -> Figures:
    """20 ms, independent loss, as commercial networks advertise it."""
    print("\nLast mile: round trip 20 ms, 50 Mbit/s, losses independent of one another")
    out: Figures = {}
    for name, percent, changed in LAST_MILE:
        values = ["burst=1", "delay_us=10000", "rate_bps=50000000", *changed]
        clean = point(ours, frames, [*values, "loss=0"])
        got = point(ours, frames, [*values, f"loss={percent / 100}"])
        show(name, percent, got, clean)
        out[f"last_mile_{percent}"] = figures(got, clean)
    return out


def closed_forms() -> None:
    """What needs no run."""
    print(
        "\nClosed forms: SRT's latency by its guide at 200 ms; FEC of other and of key frames for a failure"
    )
    print("of 1e-3, bursts of three; a round of m copies, well spaced: packets still missing, bytes")
    for percent, times in ((2, 4), (5, 5), (10, 6), (20, None)):
        loss = percent / 100
        srt = f"{200 * times} ms" if times else "beyond it"
        other, key = (
            f"+{parity_needed(chunks, loss, 3) / chunks:.0%}"
            for chunks in (CHUNKS["parity_other"], CHUNKS["parity_key"])
        )
        rounds = "  ".join(f"m={m} {loss ** (1 + m):.1e} +{loss * m:.0%}" for m in (1, 2, 3, 4))
        print(f"{percent:3} %  SRT {srt:9}  FEC {other}, {key}  {rounds}")


def unmet(points: Figures) -> list[str]:
    """Goals that were not reached."""
    return [
        f"{percent} %: {key} {got[key]} > {most}"
        for percent, goals in GOALS.items()
        if (got := points.get(f"loss_{percent}"))
        for key, most in goals.items()
        if got[key] is None or got[key] > most
    ]


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT_FRAMES} frames a point, our hop alone")
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--time", action="store_true", help="bursts of 2.85 ms in place of three datagrams")
    parser.add_argument("--spacing-ms", type=float, default=SPACING_MS)
    parser.add_argument("--collect-ms", type=float, default=COLLECT_MS)
    parser.add_argument("--span-ms", type=float, nargs="*", default=SPANS_MS, help="downwards")
    parser.add_argument("--losses", type=int, nargs="*", default=LOSSES, help="per cent")
    parser.add_argument("--target", type=float, default=TARGET_ESSENTIAL)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the link (see the example)"
    )
    parser.add_argument("--only", nargs="*", default=[], choices=list(ways("")), help="ways in the table")
    return parser.parse_args()


def main() -> None:
    """Print the tables and the JSON line."""
    options = arguments()
    frames = options.frames or (SHORT_FRAMES if options.short else FRAMES)
    assumed = Assumptions(
        spacing_ms=options.spacing_ms,
        collect_ms=options.collect_ms,
        target_essential=options.target,
        spans_ms=tuple(options.span_ms),
    )
    known = ways(lines(table(assumed)))
    names = options.only or (["ours"] if options.short else list(known))
    values = [*(["time=1", "burst=2.85"] if options.time else ["burst=3"]), *options.set]
    print(f"{'':22} loss      p50     p99   p99.9 ms  missed  audio missed   frozen   extra bytes")
    out: dict[str, Any] = {}
    for name in names:
        clean, points = by_loss(known[name], frames, values, options.losses)
        if name == "ours":
            out = {**points, "clean": clean_link(known[name], clean, frames, values)}
    if not options.short:
        peers = [name for name in ("ours", *CONDITION_PEERS) if name in names]
        other_conditions(known, peers, frames, options.set)
        closed_forms()
    if "ours" in names:
        out |= last_mile(known["ours"], frames)
        print("goals not reached: " + ("; ".join(unmet(out)) or "none"))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
