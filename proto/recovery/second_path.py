"""Where one path cannot hold what a track is owed: the table by which a hop's tracks take a second one.

A lost chunk comes back after ``9/8`` of a round trip (RFC 9002, section 6.1.2) and the time in which its
round of repairs is spread. Two things can be wrong with that, and the table asks for both:

- *It is seen.* Where that, or a second round of it, is longer than a picture may stand still
  (``stall_ms_max``: the freeze of W3C's WebRTC statistics at 30 frames a second), every frame that loses a
  chunk is a stall, and of a frame of ``k`` chunks that is some ``1 - (1 - p)^(k/b)`` in bursts of ``b``.
  Sound is of one chunk and costs next to nothing twice; pictures cost as much again as there is, so they
  wait for a loss at which repair is seen all the time.
- *It does not come.* Where no round of repairs fits in the budget, or the largest round misses its target,
  or repair costs as much as a second path would, the second path is the cheaper one at any delay.

Both are reckoned by closed forms for rounds of `ROUND_CHUNKS`, not by the rows of the repair table
(`policy`), which sizes and spaces its rounds more finely.

And without any loss: where media comes later and later a queue stands before it, and nothing repairs that.

Between the loss at which a second path is taken and the one at which it is given up lies a factor of
``hysteresis``; and the datapath wants the lower one to last (``clear_ms``).

Rejected: the share of frames that would be late as the only measure (it is above any target at once, for
pictures, with losses that a viewer never notices); a second path for whoever could have one (it doubles the
traffic of every hop).

Sources: the reference of the transport; W3C, "Identifiers for WebRTC's Statistics API", freezeCount; Meng
et al., "Hairpin", NSDI 2024; Zheng et al., "XLINK", SIGCOMM 2021 (a second copy only while it is needed).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from farcast.proto.recovery.policy import (
    BURST_WORST,
    LOSS_WORST,
    ROUND_SYMBOLS_MAX,
    Assumptions,
    PolicyError,
    correlation,
    failure,
    rounds_in,
)

Stance: TypeAlias = Literal["off", "keep", "on"]
STANCES: Final[tuple[Stance, ...]] = ("off", "keep", "on")
Which: TypeAlias = Literal["off", "audio", "all", "always"]

RTTS_MS: Final = (60, 90, 120, 160, 200, 240, 300, 0)
"""Upper bounds of the rows by round trip, milliseconds; 0 for any, computed for `RTT_WORST_MS`."""
RTT_WORST_MS: Final = 400
LOSSES_PPM: Final = (
    1_000, 2_500, 5_000, 10_000, 15_000, 20_000, 30_000, 40_000, 60_000, 80_000, 120_000, 200_000, 1_000_000,
)  # fmt: skip
"""Upper bounds of the rows by loss, millionths; a row is computed for the bound before, where it begins."""
ROUND_CHUNKS: Final = 4
"""Chunks that a round of repairs has on the average: those of one or two bursts."""


SEEN_SHARE: Final = 1e-3
"""Of chunks; a stall in so few frames is not what a second path is for."""
ROUNDS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class SecondPaths:
    """What is wanted of second paths, and what they may cost.

    ``which``: tracks that may have one; ``audio`` means those of little rate; ``always``: all, whatever is
    measured. ``stall_ms_max``: how late a
    repair may be before it is seen. ``audio_loss``, ``video_loss``: from this share lost on, where repair is
    seen. ``rise_ms_max``: how much later media may come than it did. ``extra_max``: repair may cost this
    share of the media. The limits are those of `SecondPathPolicy`.
    """

    which: Which = "all"
    stall_ms_max: float = 183.0
    audio_loss: float = 0.01
    video_loss: float = 0.04
    rise_ms_max: int = 80
    extra_max: float = 0.8
    hysteresis: float = 2.0
    small_bps_max: int = 256_000
    tracks_max: int = 256
    percent_max: int = 100
    bps_max: int = 50_000_000
    clear_ms: int = 10_000
    runs_min: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be, naming it."""
        for name in ("audio_loss", "video_loss"):
            if not 0 < getattr(self, name) <= 1:
                raise PolicyError(f"{name} = {getattr(self, name)}: must be above 0 and at most 1")
        if self.hysteresis < 1:
            raise PolicyError(f"hysteresis = {self.hysteresis}: must be at least 1")
        if not 0 <= self.percent_max <= 100:
            raise PolicyError(f"percent_max = {self.percent_max}: must be at most 100")
        if not 100 <= self.clear_ms <= 600_000:
            raise PolicyError(f"clear_ms = {self.clear_ms}: must be from 100 to 600000")


@dataclass(frozen=True, slots=True)
class SecondPathRow:
    """One row, in the units and the order of ``SecondPathPolicy``."""

    loss_ppm_max: int
    rtt_us_max: int
    rise_us_max: int
    small: Stance
    large: Stance


DEFAULT: Final = SecondPaths()
ASSUMED: Final = Assumptions()


def repair_ms(assumed: Assumptions, rtt_ms: float) -> float:
    """How late a chunk is that a round of repairs brings, against one that was not lost."""
    return 1.125 * rtt_ms + assumed.collect_ms + assumed.spans_ms[0] / 2.0


def late_ms(assumed: Assumptions, loss: float, rtt_ms: float) -> float:
    """How late all chunks but `SEEN_SHARE` are at most: short round trips have several rounds, and each of
    them brings less."""
    fails = failure(ROUND_CHUNKS, _datagrams(assumed, loss, rtt_ms), loss, _correlation(assumed, loss))
    rounds, missing = 1, loss * fails
    while missing > SEEN_SHARE and rounds < ROUNDS_MAX:
        rounds, missing = rounds + 1, missing * fails
    return rounds * repair_ms(assumed, rtt_ms)


def repair_share(assumed: Assumptions, loss: float, rtt_ms: float) -> float:
    """Bytes of repairs per byte of media."""
    datagrams = _datagrams(assumed, loss, rtt_ms)
    return loss * datagrams / ROUND_CHUNKS


def residual(assumed: Assumptions, loss: float, rtt_ms: float) -> float:
    """Share of chunks that the repair table leaves missing within the budget."""
    if assumed.budget_ms < rtt_ms / 2.0 + repair_ms(assumed, rtt_ms):
        return loss
    datagrams = _datagrams(assumed, loss, rtt_ms)
    rho = _correlation(assumed, loss)
    return loss * failure(ROUND_CHUNKS, datagrams, loss, rho) ** rounds_in(assumed.budget_ms * 0.75, rtt_ms)


@lru_cache(maxsize=1024)
def _datagrams(assumed: Assumptions, loss: float, rtt_ms: float) -> int:
    """Least datagrams of a round that leave at most the target missing after all rounds that fit."""
    rounds = min(rounds_in(assumed.budget_ms * 0.75, rtt_ms), ROUNDS_MAX)
    wanted, rho = min((assumed.target_essential / loss) ** (1.0 / rounds), 1.0), _correlation(assumed, loss)
    count = ROUND_CHUNKS
    while count < ROUND_SYMBOLS_MAX and failure(ROUND_CHUNKS, count, loss, rho) > wanted:
        count += 1
    return count


def _correlation(assumed: Assumptions, loss: float) -> float:
    lag = max(assumed.spacing_ms * assumed.packets_per_s / 1_000.0, 1.0)
    return correlation(loss, BURST_WORST / 2.0, lag)


def second_path_table(
    wanted: SecondPaths = DEFAULT, assumed: Assumptions = ASSUMED
) -> tuple[SecondPathRow, ...]:
    """All rows, in the order in which they are tried; none where no track may have a second path."""
    if wanted.which == "always":
        return (SecondPathRow(1_000_000, 0, 0, "on", "on"),)
    return tuple(_rows(wanted, assumed)) if wanted.which != "off" else ()


def _rows(wanted: SecondPaths, assumed: Assumptions) -> Iterator[SecondPathRow]:
    rise_us = wanted.rise_ms_max * 1_000
    # On time; late, but not so late that it would begin a second path; too late.
    least: Stance
    for rise_us_max, least in ((int(rise_us / wanted.hysteresis), "off"), (rise_us, "keep")):
        for rtt_ms in RTTS_MS:
            small: Stance = least
            large: Stance = least
            for before_ppm, loss_ppm in zip((0, *LOSSES_PPM), LOSSES_PPM, strict=False):
                loss, rtt = min(before_ppm / 1e6, LOSS_WORST), rtt_ms or RTT_WORST_MS
                # More loss is never less reason, though the repair table has its steps.
                small = _more(small, _stance(wanted, assumed, loss, rtt, wanted.audio_loss))
                large = _more(large, _stance(wanted, assumed, loss, rtt, wanted.video_loss))
                yield _row(wanted, loss_ppm, rtt_ms * 1_000, rise_us_max, (small, large))
    yield _row(wanted, 1_000_000, 0, 0, ("on", "on"))


def _row(
    wanted: SecondPaths, loss_ppm: int, rtt_us: int, rise_us: int, stances: tuple[Stance, Stance]
) -> SecondPathRow:
    small, large = stances
    return SecondPathRow(loss_ppm, rtt_us, rise_us, small, "off" if wanted.which == "audio" else large)


def _more(a: Stance, b: Stance) -> Stance:
    return max(a, b, key=STANCES.index)


def _stance(wanted: SecondPaths, assumed: Assumptions, loss: float, rtt_ms: float, enter: float) -> Stance:
    if _cannot_hold(wanted, assumed, loss, rtt_ms, enter):
        return "on"
    if _cannot_hold(wanted, assumed, min(loss * wanted.hysteresis, LOSS_WORST), rtt_ms, enter):
        return "keep"
    return "off"


def _cannot_hold(wanted: SecondPaths, assumed: Assumptions, loss: float, rtt_ms: float, enter: float) -> bool:
    """Whether one path that loses so much is not enough."""
    if loss <= 0:
        return False
    is_seen = late_ms(assumed, loss, rtt_ms) > wanted.stall_ms_max and loss >= enter
    misses = loss >= enter and residual(assumed, loss, rtt_ms) > 2.0 * assumed.target_essential
    return is_seen or misses or repair_share(assumed, loss, rtt_ms) > wanted.extra_max
