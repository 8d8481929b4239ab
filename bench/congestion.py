"""Our congestion controller beside CUBIC, NewReno and BBR3 of noq-proto, over one bottleneck in virtual time.

Every experiment is one run of `simulations/net/examples/congestion`: bare QUIC on the simulator's kernel and
links, one receiver, so that only the controller differs. A table on stderr, one line of JSON on stdout: per
controller and test an object of figures. ``--short`` is for CI (a minute); goals that are missed are named.

Traffic: ``bulk`` sends as much as goes; ``film`` is 30 frames a second at a fixed rate, the rest of a group
given up when a frame has waited for 400 ms; ``encoder`` makes frames of what its controller allows.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from farcast.simulations.access import draw_access
from farcast.simulations.links import LinkModel, WindowLoss
from farcast.simulations.scenario import Access

ROOT: Final = Path(__file__).resolve().parent.parent
BINARY: Final = ROOT / "target" / "release" / "examples" / "congestion"
DATA: Final = ROOT / "simulations" / "data"

CONTROLLERS: Final = ("media", "cubic", "newreno", "bbr3")
SAMPLES_PER_SECOND: Final = 100
PACKET_BYTES: Final = 1_500
FILM_FPS: Final = 30

QUEUE_P95_MS_MAX: Final = 50.0
STALL_MS_MAX: Final = 183.0
CONVERGED_MS: Final = 20.0
LEFT_MIN: Final = 0.25
JAIN_MIN: Final = 0.9
FIXED_RATE_MIN: Final = 0.95
FADING_MIN: Final = 0.85
"""Goals: queueing delay where we are alone, how late a frame may be beyond what a longer path adds (the
freeze rule at 30 frames a second; it has converged when none is so much later than key frames are anyway),
share left to (and taken beside) one CUBIC flow, fairness among four of ours, and the share of a film's frames
that arrive through 20 % of bursts, or in time over a fading access whose lowest rate carries them."""

IN_TIME_MS: Final = 600.0
"""A frame over a fading access that comes later has been missed: the promise to the worst market."""

FADING: Final = (
    ("ID", 0.85, 500_000),
    ("ID", 0.93, 200_000),
    ("PH", 0.85, 500_000),
    ("PH", 0.95, 200_000),
    ("VN", 0.85, 1_400_000),
)
"""Fading accesses: country, quantile, and the film that they are to carry, bit/s. The lowest rate
carries it, but for PH at 0.95."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow; ``controller`` empty: the one that is tested."""

    traffic: str = "bulk"
    controller: str = ""
    options: str = ""


@dataclass(frozen=True, slots=True)
class Test:
    """One experiment. ``link``: lines of both directions; ``measure`` makes figures of a run's result."""

    name: str
    link: tuple[str, ...]
    flows: tuple[Flow, ...]
    seconds: int
    measure: Callable[[Run], Figures]
    is_short: bool = False

    def text(self, controller: str, seed: int) -> str:
        """As the example reads it."""
        flows = (
            f"flow {flow.controller or controller} {flow.traffic} {flow.options}".rstrip()
            for flow in self.flows
        )
        return "\n".join((f"seed {seed}", f"seconds {self.seconds}", *self.link, *flows))


@dataclass(frozen=True, slots=True)
class Run:
    """What an experiment showed."""

    test: Test
    bytes_per_second: Sequence[Sequence[int]]
    frames: Sequence[int]
    delays_ms: Sequence[Sequence[float]]
    queue_ms: Sequence[float]
    lost_share: float
    dropped_share: float
    """Of packets: lost on the wire, and dropped by queue or policer."""

    def mbps(self, flow: int, begin_s: int = 0, end_s: int | None = None) -> float:
        """Mean rate of what arrived of a flow."""
        series = self.bytes_per_second[flow][begin_s:end_s]
        return statistics.fmean(series) * 8 / 1e6 if series else 0.0

    def queue_p95_ms(self, begin_s: int = 0, end_s: int | None = None) -> float:
        """Queueing delay."""
        end = None if end_s is None else end_s * SAMPLES_PER_SECOND
        return quantile(self.queue_ms[begin_s * SAMPLES_PER_SECOND : end], 0.95)

    def delays_at(self, second: float) -> Sequence[float]:
        """Delays of the first film's frames from a moment on, which all arrived before it."""
        return self.delays_ms[0][round(second * FILM_FPS) :]

    def settled_s(self, from_s: int, bound_ms: float) -> float:
        """Seconds after a moment until the queue stays below a bound for two."""
        since = from_s * SAMPLES_PER_SECOND
        calm = 0
        for number, queue in enumerate(self.queue_ms[since:]):
            calm = calm + 1 if queue <= bound_ms else 0
            if calm == 2 * SAMPLES_PER_SECOND:
                return (number + 1 - calm) / SAMPLES_PER_SECOND
        return math.inf


def quantile(values: Sequence[float], share: float) -> float:
    """By order; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def jain(rates: Sequence[float]) -> float:
    """Jain's index of fairness, 1 for equal rates."""
    square = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * square) if square else 0.0


# ---- Figures ---------------------------------------------------------------------------------------


def of_film(run: Run) -> Figures:
    """A film: what arrived, and how late."""
    delays = run.delays_ms[0]
    return {
        "frames_share": len(delays) / max(run.frames[0], 1),
        "p50_ms": quantile(delays, 0.5),
        "p99_ms": quantile(delays, 0.99),
        "queue_p95_ms": run.queue_p95_ms(2),
    }


def of_access(run: Run) -> Figures:
    """A film over an access that moves: what came in time, and all that did."""
    delays = run.delays_ms[0]
    in_time = sum(ms <= IN_TIME_MS for ms in delays)
    return {
        "in_time_share": in_time / max(run.frames[0], 1),
        "frames_share": len(delays) / max(run.frames[0], 1),
        "mbps": run.mbps(0, 3),
        "p50_ms": quantile(delays, 0.5),
        "queue_p95_ms": run.queue_p95_ms(3),
    }


def of_bulk(run: Run) -> Figures:
    """As much as goes."""
    return {
        "mbps": run.mbps(0, 3),
        "queue_p95_ms": run.queue_p95_ms(3),
        "dropped_share": run.dropped_share,
    }


def of_several(run: Run) -> Figures:
    """Several flows: the last third, those that are there then."""
    begin_s = run.test.seconds * 2 // 3
    flows = (number for number, flow in enumerate(run.test.flows) if "end_s" not in flow.options)
    rates = [run.mbps(number, begin_s) for number in flows]
    return {
        "jain": jain(rates),
        "mbps": sum(rates),
        "least_mbps": min(rates),
        "queue_p95_ms": run.queue_p95_ms(begin_s),
    }


def of_harm(run: Run) -> Figures:
    """Flow 0 is CUBIC, flow 1 the one that is tested."""
    begin_s = run.test.seconds // 4
    left, taken = run.mbps(0, begin_s), run.mbps(1, begin_s)
    total = max(left + taken, 1e-9)
    return {
        "left_share": left / total,
        "taken_share": taken / total,
        "mbps": total,
        "queue_p95_ms": run.queue_p95_ms(begin_s),
    }


def of_halving(run: Run) -> Figures:
    """Capacity halved in the middle."""
    middle_s = run.test.seconds // 2
    return {
        "mbps_before": run.mbps(0, 3, middle_s),
        "mbps_after": run.mbps(0, middle_s + 3),
        "settled_s": run.settled_s(middle_s, QUEUE_P95_MS_MAX),
        "queue_p95_ms": run.queue_p95_ms(3),
    }


def of_detour(run: Run) -> Figures:
    """The path is longer from the middle on: how late frames are beyond that, how long they do not come, and
    how long until all are as late as the path alone makes them."""
    middle_s = run.test.seconds / 2
    before, since = run.delays_ms[0][: round(middle_s - 1) * FILM_FPS], run.delays_at(middle_s)
    added_ms = quantile(run.delays_ms[0][-FILM_FPS * 4 :], 0.5)
    own_ms = quantile(before, 0.995) - quantile(before, 0.5)
    late = [number for number, ms in enumerate(since) if ms > added_ms + own_ms + CONVERGED_MS]
    return {
        "frames_share": len(run.delays_ms[0]) / max(run.frames[0], 1),
        "late_ms": max(since, default=math.inf) - added_ms,
        "converged_s": (late[-1] + 1) / FILM_FPS if late else 0.0,
        "queue_p95_ms": run.queue_p95_ms(2),
    }


# ---- Tests -----------------------------------------------------------------------------------------


def link(
    mbps: float,
    rtt_ms: float,
    queue_ms: float,
    *more: str,
    jitter_ms: float = 0,
    queue_bytes: int | None = None,
) -> tuple[str, ...]:
    """A bottleneck and its way back; ``more``: further lines of the way there."""
    delay_us, jitter_us = round(rtt_ms * 500), round(jitter_ms * 1_000)
    queue = queue_bytes or max(round(mbps * 1e6 / 8 * queue_ms / 1e3), 2 * PACKET_BYTES)
    return (
        f"forward delay_us {delay_us} jitter_us {jitter_us} rate_bps {round(mbps * 1e6)} queue_bytes {queue}",
        f"backward delay_us {delay_us} jitter_us {jitter_us}",
        *(f"forward {line}" for line in more),
    )


def tests() -> Iterator[Test]:
    """All of them, in the order of the table."""
    yield from rfc8868()
    yield from rfc8867()
    moq = link(5, 100, 500)
    yield Test("10-into-5", moq, (Flow("encoder 10000000"),), 30, of_bulk, is_short=True)
    yield Test("bulk-into-5", moq, (Flow(),), 30, of_bulk, is_short=True)
    policed = link(100, 60, 100, "policer_bps 3000000 policer_burst_bytes 15000")
    yield Test("policer-3", policed, (Flow(),), 60, of_bulk, is_short=True)
    yield Test("policer-3-film", policed, (Flow("encoder 8000000"),), 60, of_film)
    yield from akamai()
    yield from fading()
    yield from pantheon()
    for loss in (2, 5, 10, 20):
        for rtt_ms in (50, 150, 300):
            lossy = link(10, rtt_ms, 300, f"bursts {loss / 100} 3")
            is_short = (loss, rtt_ms) in ((5, 150), (20, 50))
            yield Test(
                f"bursts-{loss}-{rtt_ms}", lossy, (Flow("film 3000000"),), 30, of_film, is_short=is_short
            )
    halved = link(6, 100, 300, "rate_at 0 6000000", "rate_at 20000000 3000000")
    yield Test("halved", halved, (Flow("encoder 20000000"),), 40, of_halving, is_short=True)
    for longer_ms in (150, 235):
        path = link(3, 60, 300)
        for way in ("forward", "backward"):
            path += (f"{way} delay_at 15000000 {30_000 + 500 * longer_ms}",)
        is_short = longer_ms == 235
        yield Test(f"longer-{longer_ms}", path, (Flow("film 1400000"),), 30, of_detour, is_short=is_short)
    yield from sharing()


def sharing() -> Iterator[Test]:
    """Flows beside each other."""
    for rtt_ms in (40, 100):
        beside = link(10, rtt_ms, rtt_ms)
        flows = (Flow(controller="cubic"), Flow())
        yield Test(f"harm-{rtt_ms}", beside, flows, 60, of_harm, is_short=rtt_ms == 40)
    four = tuple(Flow(options=f"start_s {2 * n}") for n in range(4))
    yield Test("four", link(12, 60, 150), four, 60, of_several, is_short=True)
    late = (Flow(), Flow(options="start_s 20"))
    yield Test("late-comer", link(6, 80, 200), late, 60, of_several)


def rfc8868() -> Iterator[Test]:
    """Delays, losses and queues, one by one about the middle: 3 Mbit/s, a film of 1.4."""

    def case(delay_ms: float, loss: int, queue_ms: int, is_short: bool = False) -> Test:
        lines = (f"bursts {loss / 100} 1",) if loss else ()
        name = f"rfc8868-d{delay_ms:g}-l{loss}-q{queue_ms}"
        path = link(3, 2 * delay_ms, queue_ms, *lines, jitter_ms=30)
        return Test(name, path, (Flow("film 1400000"),), 30, of_film, is_short)

    for delay_ms in (0.5, 50, 150, 300):
        yield case(delay_ms, 0, 300, delay_ms == 50)
    for loss in (1, 5, 10, 20):
        yield case(50, loss, 300)
    for queue_ms in (70, 2_000):
        yield case(50, 0, queue_ms)


def rfc8867() -> Iterator[Test]:
    """Changing capacity, and flows beside each other."""
    schedules: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with (DATA / "rfc8867_capacity_schedules.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            bps = float(row["capacity_ratio"]) * float(row["reference_mbps"]) * 1e6
            schedules.setdefault((row["case"], row["direction"]), []).append((float(row["t_s"]), bps))

    def scheduled(case: str) -> tuple[str, ...]:
        lines = list(link(1, 100, 300, jitter_ms=30))
        for way in ("forward", "backward"):
            steps = schedules.get((case, way), [])
            lines += [f"{way} rate_at {round(t * 1e6)} {round(bps)}" for t, bps in steps]
            highest = max((bps for _, bps in steps), default=1e6)
            lines.append(f"{way} queue_bytes {round(highest / 8 * 0.3)}")
        return tuple(lines)

    media = Flow("encoder 2500000")
    yield Test("rfc8867-5.1", scheduled("5.1"), (media,), 100, of_bulk, is_short=True)
    yield Test("rfc8867-5.2", scheduled("5.2"), (media, media), 125, of_several)
    yield Test("rfc8867-5.3", scheduled("5.3"), (media,), 100, of_bulk)
    shared = link(3.5, 100, 300, jitter_ms=30)
    late = tuple(Flow("encoder 2500000", options=f"start_s {20 * n}") for n in range(3))
    yield Test("rfc8867-5.4", shared, late, 120, of_several)
    far = tuple(
        Flow("encoder 2500000", options=f"start_s {10 * n} extra_us {2_000 * ms}")
        for n, ms in enumerate((0, 15, 40, 90, 140))
    )
    yield Test("rfc8867-5.5", link(4, 20, 300, jitter_ms=30), far, 120, of_several)
    tcp = (Flow(controller="cubic"), Flow("encoder 2500000"))
    yield Test("rfc8867-5.6", link(2, 100, 300, jitter_ms=30), tcp, 120, of_harm)
    short = tuple(
        Flow(controller="cubic", options=f"start_s {5 + 10 * n} end_s {9 + 10 * n}") for n in range(10)
    )
    yield Test("rfc8867-5.7", link(2, 100, 300, jitter_ms=30), (media, *short), 120, of_bulk)
    paused = (
        Flow("encoder 2500000"),
        Flow("encoder 2500000"),
        Flow("encoder 2500000", options="end_s 40"),
        Flow("encoder 2500000", options="start_s 60"),
    )
    yield Test("rfc8867-5.8", shared, paused, 120, of_several)


def akamai() -> Iterator[Test]:
    """Windows of 70 ms in which packets are lost, in the order of the file; 6 Mbit/s."""
    rows: dict[str, list[tuple[float, float]]] = {}
    with (DATA / "akamai_cellular_conditions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["mode"] == "loss_based":
                pair = (float(row["gap_between_loss_s"]), float(row["loss_pct_in_70ms_window"]) / 100)
                rows.setdefault(row["condition"], []).append(pair)
    for condition in ("good", "median", "poor"):
        at_us, lines = 0, []
        # Gaps from the other end of the list: the file pairs equal quantiles.
        for (gap_s, _), (_, loss) in zip(reversed(rows[condition]), rows[condition], strict=True):
            at_us += round(gap_s * 1e6)
            lines.append(f"window {at_us} 70000 {loss:.4f}")
            at_us += 70_000
        lines.append(f"windows_repeat_us {at_us}")
        path = link(6, 80, 300, *lines)
        yield Test(
            f"akamai-{condition}", path, (Flow("film 1400000"),), 60, of_film, is_short=condition == "poor"
        )


def fading() -> Iterator[Test]:
    """Fading accesses with loss windows, as the weak markets' scenarios draw them: rates that change every
    second, delay that wanders, windows of 70 ms that lose. A film, and an encoder that would take all."""
    for country, quantile_, film_bps in FADING:
        access = Access(profile="mobile-poor", quantile=(quantile_, quantile_))
        drawn = draw_access(access, country, np.random.default_rng(1))
        path = (*drawn_link("forward", drawn.down), *drawn_link("backward", drawn.up))
        name = f"fading-{country.lower()}-{quantile_ * 100:.0f}"
        is_short = country == "ID"
        yield Test(f"{name}-film", path, (Flow(f"film {film_bps}"),), 60, of_access, is_short)
        yield Test(f"{name}-encoder", path, (Flow("encoder 3000000"),), 60, of_access, is_short)


def drawn_link(way: str, model: LinkModel) -> Iterator[str]:
    """A link of the simulator's scenarios, as the example reads it."""
    yield (
        f"{way} delay_us {model.delay_us} rate_bps {model.rate_bps} queue_bytes {model.queue_bytes}"
        f" rate_repeat_us {model.rate_repeat_us}"
    )
    yield f"{way} delay_log {model.delay_log_median_us} {model.delay_log_sigma} {model.delay_redraw_us}"
    yield from (f"{way} rate_at {at_us} {bps}" for at_us, bps in model.rate_schedule)
    for loss in model.losses:
        if isinstance(loss, WindowLoss):
            yield from (f"{way} window {start} {length} {share:.4f}" for start, length, share in loss.windows)
            yield f"{way} windows_repeat_us {loss.repeat_us}"


def pantheon() -> Iterator[Test]:
    """Calibrated paths, up to 20 Mbit/s in full, wider ones for a shorter time."""
    with (DATA / "pantheon_calibrated_paths.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            mbps, loss = float(row["bottleneck_mbps"]), float(row["uplink_loss"])
            lines = [f"bursts {loss} 1"] if loss else []
            path = link(
                mbps,
                2 * float(row["one_way_delay_ms"]),
                0,
                *lines,
                queue_bytes=int(row["queue_packets"]) * PACKET_BYTES,
            )
            is_short = row["id"].startswith(("nepal_to_aws_india", "mexico")) and mbps < 3
            yield Test(
                f"pantheon-{row['id']}", path, (Flow(),), 40 if mbps < 20 else 10, of_bulk, is_short=is_short
            )


# ---- Runs ------------------------------------------------------------------------------------------


def run(test: Test, controller: str, seed: int) -> Run:
    """One experiment in a process of its own."""
    done = subprocess.run(
        [str(BINARY)],
        input=test.text(controller, seed),
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    result = json.loads(done.stdout)
    flows = result["flows"]
    packets = max(result["packets_in"], 1)
    return Run(
        test,
        [flow["bytes_per_second"] for flow in flows],
        [flow["frames"] for flow in flows],
        [[us / 1_000 for us in flow["delays_us"]] for flow in flows],
        [us / 1_000 for us in result["queue_us"]],
        result["packets_lost"] / packets,
        (result["dropped_queue"] + result["dropped_policer"]) / packets,
    )


@dataclass(slots=True)
class Goals:
    """What was promised of ours, and missed."""

    missed: list[str] = field(default_factory=list)

    def judge(self, results: Mapping[str, Mapping[str, Figures]]) -> None:
        """Look at the media controller's figures."""
        for name, figures in results["media"].items():
            if name.startswith("harm"):
                self._at_least(name, figures, "left_share", LEFT_MIN)
                self._at_least(name, figures, "taken_share", LEFT_MIN)
            elif name == "four":
                self._at_least(name, figures, "jain", JAIN_MIN)
            elif name.startswith("bursts"):
                self._at_least(name, figures, "frames_share", FIXED_RATE_MIN)
            elif name in FADING_FILMS:
                self._at_least(name, figures, "in_time_share", FADING_MIN)
            elif name.startswith("longer"):
                self._at_most(name, figures, "late_ms", STALL_MS_MAX)
            elif name in ALONE:
                self._at_most(name, figures, "queue_p95_ms", QUEUE_P95_MS_MAX)

    def _at_most(self, name: str, figures: Figures, figure: str, most: float) -> None:
        if figures[figure] > most:
            self.missed.append(f"{name}: {figure} {figures[figure]:.0f} > {most:.0f}")

    def _at_least(self, name: str, figures: Figures, figure: str, least: float) -> None:
        if figures[figure] < least:
            self.missed.append(f"{name}: {figure} {figures[figure]:.3f} < {least}")


FADING_FILMS: Final = ("fading-id-85-film", "fading-id-93-film", "fading-ph-85-film", "fading-vn-85-film")
ALONE: Final = ("10-into-5", "bulk-into-5", "halved", "rfc8867-5.1", "rfc8867-5.3")


def measure(chosen: Sequence[Test], controllers: Sequence[str], seed: int) -> dict[str, dict[str, Figures]]:
    """All runs, as many at a time as there are processors."""
    jobs = [(test, controller) for test in chosen for controller in controllers]
    results: dict[str, dict[str, Figures]] = {controller: {} for controller in controllers}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        runs = pool.map(lambda job: run(job[0], job[1], seed), jobs)
        for (test, controller), done in zip(jobs, runs, strict=True):
            results[controller][test.name] = test.measure(done)
            if controller == controllers[-1]:
                show(test.name, results)
    return results


def show(name: str, results: Mapping[str, Mapping[str, Figures]]) -> None:
    """One test's lines of the table."""
    for controller, of in results.items():
        figures = "  ".join(f"{key} {value:.3g}" for key, value in of[name].items())
        print(f"{name:36} {controller:8} {figures}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the tests that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="some tests, for CI")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="tests whose name has this in it")
    parser.add_argument("--controllers", default=",".join(CONTROLLERS))
    options = parser.parse_args()
    if not BINARY.exists():
        print(f"{BINARY} is missing: run this by `make bench-congestion`, which builds it", file=sys.stderr)
        return 2
    chosen = [test for test in tests() if options.only in test.name and (test.is_short or not options.short)]
    results = measure(chosen, options.controllers.split(","), options.seed)
    goals = Goals()
    if "media" in results:
        goals.judge(results)
    for text in goals.missed:
        print(f"missed: {text}", file=sys.stderr)
    rounded = {
        controller: {
            test: {key: round(value, 4) if math.isfinite(value) else None for key, value in figures.items()}
            for test, figures in of.items()
        }
        for controller, of in results.items()
    }
    print(json.dumps(rounded))
    if "media" in results and not goals.missed:
        print("all goals met", file=sys.stderr)
    return 1 if goals.missed else 0


if __name__ == "__main__":
    sys.exit(main())
