"""Runs of one bad link, for `recovery.py` and `recovery_sweep.py`: ours, and other rules beside it.

Each run is a process of ``simulations/net/examples/recovery``. Of its kinds ``hop`` and ``quic`` are real
datapaths in virtual time; ``rule`` is a model of datagrams on the same links with the same seeds, so that the
nth datagram is lost for all or for none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final, TypeAlias

from farcast.proto.recovery.policy import ROUND_CHUNKS_MAX, Row, correlation, failure

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLE: Final = ROOT / "target" / "release" / "examples" / "recovery"
FPS: Final = 30
SEEDS: Final = 2
"""Runs a point, side by side; a point has all their frames."""
CHUNKS: Final = {"parity_key": 55, "parity_other": 11, "parity_audio": 1}
"""Of the frames of the film and of sound (``rules.rs``)."""
BLOCK_FAILURE: Final = 1e-3
"""Of a block with its parity."""
MEAN: Final = ("missed", "frozen_share", "audio_missed", "loss_seen")
WORST: Final = ("p50_ms", "p99_ms", "p999_ms")
TOTAL: Final = ("frames", "bytes", "back_bytes", "packets")

Figures: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to carry the film: the kind of run, the hop's policy and what else the run is told."""

    name: str
    kind: str
    policy: str = ""
    values: tuple[str, ...] = ()


def line(row: Row) -> str:
    """A row as the example reads it."""
    *head, essential, disposable = astuple(row)
    return " ".join(str(int(n)) for n in (*head, *essential, *disposable))


def lines(rows: Sequence[Row]) -> str:
    """A table as the example reads it."""
    return "\n".join(line(row) for row in rows)


def copies(count: int) -> str:
    """One row: so many copies whatever is lost."""
    symbols = tuple(min(count * k, 64) for k in range(1, ROUND_CHUNKS_MAX + 1))
    return line(Row(4_294_967_295, 0, 0, 0, False, 12_000, 0, 0, False, count, symbols, symbols))


def parity_needed(chunks: int, loss: float, burst: float) -> int:
    """Least parity behind so many chunks with which a block fails so seldom (MDS, Gilbert)."""
    rho = correlation(loss, burst, 1)
    return next((r for r in range(500) if failure(chunks, chunks + r, loss, rho) <= BLOCK_FAILURE), 500)


def block_fec(loss: float, burst: float) -> Way:
    """Parity for each frame by what the link loses, and nothing asked for again."""
    parity = {name: parity_needed(chunks, loss, burst) if loss else 0 for name, chunks in CHUNKS.items()}
    return Way("block FEC", "rule", values=("ask=0", *(f"{name}={count}" for name, count in parity.items())))


def hybrid(share: float, count: int) -> Way:
    """This share of parity for each frame, and so many copies of what it does not complete."""
    parity = (f"{name}={ceil(share * chunks)}" for name, chunks in CHUNKS.items())
    return Way(f"{share:.0%} parity, {count} copies", "rule", values=("spare=1", f"copies={count}", *parity))


def run(way: Way, frames: int, seed: int, values: Sequence[str]) -> Figures:
    """One run of the example."""
    command = [str(EXAMPLE), way.kind, str(max(frames // FPS, 1)), str(seed), *values, *way.values]
    done = subprocess.run(command, input=way.policy, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    result: Figures = json.loads(done.stdout)
    return result


def point(way: Way, frames: int, values: Sequence[str]) -> Figures:
    """Several seeds as one: shares by frames, the worst of the quantiles (None: so many never came)."""
    with ThreadPoolExecutor(SEEDS) as pool:
        runs = list(pool.map(lambda seed: run(way, frames // SEEDS, seed, values), range(1, SEEDS + 1)))
    return joined(runs)


def joined(runs: Sequence[Figures]) -> Figures:
    """Runs of one point."""
    mean = {key: round(sum(one[key] for one in runs) / len(runs), 9) for key in MEAN}
    quantiles = {key: [one[key] for one in runs] for key in WORST}
    worst = {key: None if None in found else max(found) for key, found in quantiles.items()}
    total = {key: sum(one[key] for one in runs) for key in TOTAL}
    return {**mean, **worst, **total}


def extra(got: Mapping[str, Any], clean: Mapping[str, Any]) -> float:
    """Bytes that crossed the link forwards beyond what the same way took without loss, a share."""
    return float(got["bytes"] / clean["bytes"] - 1)
