"""What share of its rate a publisher's encoder uses, over uplinks that change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.clients.uplink import (
    SAMPLE_US,
    SHARE_MIN,
    UP_AFTER_US,
    UP_AFTER_US_MAX,
    UplinkShare,
)

FILM_BPS = 2_000_000
SOUND_BPS = 64_000
FRAME_US = 40_000
STEP_US = 20_000


@dataclass
class Uplink:
    """A fluid link with an encoder before it: key frames of five times the size, once a second."""

    capacity_bps: Callable[[int], float]
    chooser: UplinkShare = field(default_factory=lambda: UplinkShare(FILM_BPS, 0))
    now_us: int = 0
    used: float = 1.0
    """Part of the rate asked for that the picture takes, if it may."""
    waiting: float = 0.0
    made: float = 0.0
    left: float = 0.0
    longest_us: float = 0.0
    shares: list[tuple[int, float]] = field(default_factory=list)

    def run(self, until_us: int) -> None:
        while self.now_us < until_us:
            if self.now_us % FRAME_US == 0:
                picture = self._picture_bytes()
                self.made += picture
                self.waiting += picture + SOUND_BPS * FRAME_US / 8e6
            capacity = self.capacity_bps(self.now_us)
            sent = min(self.waiting, capacity * STEP_US / 8e6)
            self.waiting -= sent
            self.left += sent
            self.now_us += STEP_US
            if self.now_us % SAMPLE_US == 0:
                self.chooser.handle_sample(self.now_us, int(self.waiting), int(self.left), int(self.made))
                self.shares.append((self.now_us, self.chooser.share))

    def _picture_bytes(self) -> float:
        mean = FILM_BPS * min(self.chooser.share, self.used) * FRAME_US / 8e6
        return mean * (5 if self.now_us % 1_000_000 == 0 else 1) / 1.16


def test_an_uplink_with_room_costs_nothing() -> None:
    link = Uplink(lambda _: 3_000_000)
    link.run(60_000_000)
    assert link.chooser.share == 1.0
    assert link.chooser.steps_down == 0


def test_a_narrow_uplink_gets_what_it_carries_within_two_seconds() -> None:
    link = Uplink(lambda now_us: 3_000_000 if now_us < 10_000_000 else 1_200_000)
    link.run(12_000_000)
    assert link.chooser.share * FILM_BPS + SOUND_BPS <= 1_200_000
    link.run(14_000_000)
    assert link.waiting * 8 / 1_200_000 < 0.3, "the queue has run out"


def test_an_uplink_at_a_fifth_is_reached_in_several_steps() -> None:
    link = Uplink(lambda now_us: 3_000_000 if now_us < 5_000_000 else 600_000)
    link.run(9_000_000)
    assert SHARE_MIN <= link.chooser.share <= 0.27
    assert link.chooser.steps_down >= 2
    link.run(25_900_000)
    assert link.waiting * 8 / 600_000 < 0.25, "the queue has run out"


def test_a_picture_in_which_little_moves_is_narrowed_from_what_it_takes() -> None:
    link = Uplink(lambda now_us: 3_000_000 if now_us < 5_000_000 else 250_000, used=0.2)
    link.run(9_000_000)
    assert link.chooser.share * FILM_BPS + SOUND_BPS <= 250_000


def test_the_rate_comes_back_with_the_uplink() -> None:
    link = Uplink(lambda now_us: 1_000_000 if 5_000_000 <= now_us < 15_000_000 else 3_000_000)
    link.run(15_000_000)
    assert link.chooser.share < 0.5
    link.run(60_000_000)
    assert link.chooser.share == 1.0


def test_steps_up_that_fail_become_rare() -> None:
    link = Uplink(lambda _: 1_000_000)
    link.run(200_000_000)
    ups = [
        now_us
        for (_, before), (now_us, after) in zip(link.shares, link.shares[1:], strict=False)
        if after > before
    ]
    late = [now_us for now_us in ups if now_us > 100_000_000]
    assert len(late) <= 100_000_000 // (UP_AFTER_US_MAX // 2)
    assert link.chooser.share * FILM_BPS + SOUND_BPS <= 1_250_000


def test_an_outage_changes_nothing() -> None:
    link = Uplink(lambda now_us: 0 if 5_000_000 <= now_us < 9_000_000 else 30_000_000)
    link.run(20_000_000)
    assert link.chooser.steps_down == 0


def test_another_connection_whose_counts_begin_again_is_judged_anew() -> None:
    chooser = UplinkShare(FILM_BPS, 0)
    chooser.handle_sample(100_000, 0, 1_000_000, 0)
    chooser.handle_sample(200_000, 400_000, 0, 0)
    for now_us in range(300_000, 1_100_000, SAMPLE_US):
        chooser.handle_sample(now_us, 400_000, (now_us - 200_000) // 100, now_us // 4)
    assert chooser.share == 1.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.integers(0, 10_000_000), st.integers(0, 10_000_000)), max_size=200
    )
)
def test_the_share_stays_within_its_bounds_whatever_is_sampled(samples: list[tuple[int, int, int]]) -> None:
    chooser, now_us = UplinkShare(FILM_BPS, 0), 0
    for step_ms, waiting, left in samples:
        now_us += step_ms * 1_000
        chooser.handle_sample(now_us, waiting, left, waiting + left)
        assert SHARE_MIN <= chooser.share_min <= chooser.share <= 1.0
    assert UP_AFTER_US >= SAMPLE_US
