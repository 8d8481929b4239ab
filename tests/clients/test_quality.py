"""Which rendition a viewer takes, over links that change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.clients.quality import (
    PRIORITY_DOWN,
    PRIORITY_START,
    PRIORITY_UP,
    UP_AFTER_US,
    Begin,
    End,
    QualityChooser,
    Rendition,
)

FRAME_US = 40_000
FRAMES_A_GROUP = 25
SOUND_BPS = 64_000
LADDER = (Rendition("low", 300_000), Rendition("mid", 900_000), Rendition("top", 2_400_000))
RATES = {each.name: each.bitrate_bps for each in LADDER}


@dataclass
class Link:
    """A fluid link: sound first, then the more urgent rendition, in order; what is cancelled leaves it."""

    capacity_bps: Callable[[int], int]
    chooser: QualityChooser = field(default_factory=lambda: QualityChooser(LADDER, SOUND_BPS, 0))
    now_us: int = 0
    queue: dict[str, list[list[int]]] = field(default_factory=dict)
    begins: dict[str, tuple[int, int]] = field(default_factory=dict)
    seen: list[tuple[int, str]] = field(default_factory=list)
    sound_late_us: int = 0
    actions: list[tuple[int, Begin | End]] = field(default_factory=list)

    def run(self, until_us: int) -> None:
        step_us = 5_000
        while self.now_us < until_us:
            self._obey()
            if self.now_us % FRAME_US == 0:
                self._publish()
            self._carry(self.capacity_bps(self.now_us) * step_us / 8e6)
            self.now_us += step_us
            if self.now_us >= self.chooser.poll_timeout():
                self.chooser.handle_timeout(self.now_us)

    def _obey(self) -> None:
        while (action := self.chooser.poll_action()) is not None:
            self.actions.append((self.now_us, action))
            if isinstance(action, End):
                del self.begins[action.name], self.queue[action.name]
                continue
            assert action.name not in self.begins
            group_us = FRAME_US * FRAMES_A_GROUP
            from_us = self.now_us // group_us * group_us + (group_us if action.next_group else 0)
            self.begins[action.name] = (action.priority, from_us)
            self.queue[action.name] = [
                [at_us, self._size(action.name)] for at_us in range(from_us, self.now_us, FRAME_US)
            ]
        assert 1 <= len(self.begins) <= 2
        assert self.chooser.current in self.begins

    def _size(self, name: str) -> int:
        return RATES[name] * FRAME_US // 8_000_000

    def _publish(self) -> None:
        self.queue.setdefault("sound", []).append([self.now_us, SOUND_BPS * FRAME_US // 8_000_000])
        for name, (_, from_us) in self.begins.items():
            if self.now_us >= from_us:
                self.queue[name].append([self.now_us, self._size(name)])

    def _carry(self, room: float) -> None:
        order = sorted(self.queue, key=lambda name: -1 if name == "sound" else self.begins[name][0])
        for name in order:
            frames = self.queue[name]
            while frames and room > 0:
                sent = min(room, frames[0][1])
                frames[0][1] -= round(sent)
                room -= max(sent, 1)
                if frames[0][1] <= 0:
                    self._arrive(name, frames.pop(0)[0])

    def _arrive(self, name: str, made_us: int) -> None:
        if name == "sound":
            self.sound_late_us = max(self.sound_late_us, self.now_us - made_us)
            self.chooser.handle_sound(made_us, self.now_us, SOUND_BPS * FRAME_US // 8_000_000)
        else:
            self.chooser.handle_picture(name, made_us, self.now_us, self._size(name))
            self.seen.append((self.now_us, name))


def drops(*steps: tuple[int, int]) -> Callable[[int], int]:
    """Capacity from each second on."""
    return lambda now_us: next(bps for at_s, bps in reversed(steps) if now_us >= at_s * 1_000_000)


def test_it_begins_with_what_most_links_carry_and_goes_up_quickly_where_there_is_room() -> None:
    link = Link(drops((0, 20_000_000)))
    link.run(500_000)
    assert link.actions == [(0, Begin("mid", PRIORITY_START, next_group=False))]
    link.run(4_000_000)
    assert link.chooser.current == "top"
    assert [type(action) for _, action in link.actions] == [Begin, Begin, End]
    assert link.actions[1][1] == Begin("top", PRIORITY_UP, next_group=True)


def test_a_narrow_link_costs_the_rendition_within_a_group_and_sound_nothing() -> None:
    link = Link(drops((0, 5_000_000), (10, 700_000)))
    link.run(12_000_000)
    went_us, begin = next(each for each in link.actions if each[0] > 10_000_000)
    assert begin == Begin("low", PRIORITY_DOWN, next_group=False)
    assert went_us < 10_900_000
    assert link.chooser.current == "low"
    assert next(at_us for at_us, name in link.seen if name == "low") < 11_100_000
    assert link.sound_late_us <= 20_000


def test_it_comes_back_up_step_by_step_when_the_link_does() -> None:
    link = Link(drops((0, 5_000_000), (10, 700_000), (20, 5_000_000)))
    link.run(60_000_000)
    assert link.chooser.current == "top"
    begun = [action.name for _, action in link.actions if isinstance(action, Begin)]
    assert begun[-2:] == ["mid", "top"]
    assert link.chooser.switches_up >= 3


def test_a_link_between_two_renditions_is_tried_less_and_less_often() -> None:
    link = Link(drops((0, 1_400_000)))
    link.run(240_000_000)
    tries = [at_us for at_us, action in link.actions if action == Begin("top", PRIORITY_UP, next_group=True)]
    assert len(tries) <= 14
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= UP_AFTER_US
    low = [at_us for at_us, name in link.seen if name == "low"]
    assert len(low) * FRAME_US < 0.1 * link.now_us


def test_an_outage_of_everything_costs_no_rendition() -> None:
    link = Link(drops((0, 8_000_000), (10, 0), (11, 8_000_000)))
    link.run(20_000_000)
    assert link.chooser.current == "top"
    assert link.chooser.switches_down == 0


def test_pictures_that_stay_away_while_sound_comes_cost_the_rendition() -> None:
    chooser = QualityChooser(LADDER, SOUND_BPS, 0)
    assert chooser.poll_action() == Begin("mid", PRIORITY_START, next_group=False)
    for number in range(50):
        chooser.handle_picture("mid", number * FRAME_US, number * FRAME_US, 1_000)
    while (action := chooser.poll_action()) is not None:
        assert action != Begin("low", PRIORITY_DOWN, next_group=False)
    for at_us in range(2_000_000, 2_800_000, 20_000):
        chooser.handle_sound(at_us, at_us, 100)
        chooser.handle_timeout(at_us)
    assert Begin("low", PRIORITY_DOWN, next_group=False) in _actions(chooser)


def test_a_first_picture_that_stays_away_while_sound_comes_costs_the_rendition() -> None:
    chooser = QualityChooser(LADDER, SOUND_BPS, 0)
    for at_us in range(0, 3_000_000, 20_000):
        chooser.handle_sound(at_us, at_us, 100)
        chooser.handle_timeout(at_us)
    assert Begin("low", PRIORITY_DOWN, next_group=False) in _actions(chooser)


def _lossy(chooser: QualityChooser, repair_us: int, *, sound_repair_us: int, until_us: int) -> None:
    """Three of four pictures come a repair late, all of it in order, and one of ten frames of sound."""
    there_us = {name: 0 for name in RATES}
    events = [(at_us, True) for at_us in range(0, until_us, FRAME_US)]
    events += [(at_us, False) for at_us in range(0, until_us, FRAME_US // 2)]
    for media_us, is_picture in sorted(events):
        number = media_us // FRAME_US
        if is_picture:
            name = chooser.current
            late_us = repair_us if number % 4 else repair_us // 2
            there_us[name] = max(there_us[name], media_us + late_us)
            chooser.handle_picture(name, media_us, there_us[name], 1_000)
        else:
            late_us = sound_repair_us if number % 10 == 0 else 0
            chooser.handle_sound(media_us, media_us + late_us, 100)
        _answer(chooser, media_us)


def _answer(chooser: QualityChooser, now_us: int) -> None:
    """What is asked for begins at once."""
    for action in _actions(chooser):
        if isinstance(action, Begin) and action.name == chooser.pending:
            chooser.handle_picture(action.name, now_us, now_us, 1_000)


def test_a_lag_that_sound_has_too_is_that_of_losses_and_costs_no_rendition() -> None:
    chooser = QualityChooser(LADDER, SOUND_BPS, 0)
    _lossy(chooser, 400_000, sound_repair_us=400_000, until_us=20_000_000)
    assert chooser.switches_down == 0
    assert chooser.current == "top"


def test_a_lag_that_only_pictures_have_costs_the_rendition() -> None:
    chooser = QualityChooser(LADDER, SOUND_BPS, 0)
    _lossy(chooser, 400_000, sound_repair_us=0, until_us=20_000_000)
    assert chooser.switches_down >= 1


def test_single_late_pictures_keep_nobody_from_stepping_up() -> None:
    chooser = QualityChooser([*LADDER, Rendition("best", 5_000_000)], SOUND_BPS, 0)
    for number in range(150):
        at_us = number * FRAME_US
        late_us = 200_000 if number % 10 == 9 else 0
        chooser.handle_picture(chooser.current, at_us, at_us + late_us, 1_000)
        _answer(chooser, at_us + late_us)
    assert chooser.current == "best"


def _actions(chooser: QualityChooser) -> list[Begin | End]:
    found = []
    while (action := chooser.poll_action()) is not None:
        found.append(action)
    return found


def test_a_track_with_layers_may_lag_longer_because_its_edge_gives_up_layers_first() -> None:
    def down_at(layers: int) -> int:
        chooser = QualityChooser([Rendition("a", 1_000), Rendition("b", 2_000, layers)], 0, 0)
        for number in range(200):
            lag_us = max(0, number - 50) * 20_000
            chooser.handle_picture("b", number * FRAME_US, number * FRAME_US + lag_us, 100)
            if "a" in (chooser.pending, chooser.current):
                return lag_us
        raise AssertionError("it never went down")

    assert down_at(1) + 200_000 <= down_at(2)


def test_a_choice_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no renditions"):
        QualityChooser([], 0, 0)


EVENTS = st.one_of(
    st.tuples(st.just("picture"), st.sampled_from(["low", "mid", "top"]), st.integers(0, 900_000)),
    st.tuples(st.just("sound"), st.just(""), st.integers(0, 300_000)),
    st.tuples(st.just("timeout"), st.just(""), st.integers(0, 2_000_000)),
)


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=300))
def test_whatever_comes_one_rendition_is_watched_and_at_most_one_more(
    events: list[tuple[str, str, int]],
) -> None:
    chooser, now_us, running = QualityChooser(LADDER, SOUND_BPS, 0), 0, set[str]()
    media_us = dict.fromkeys(RATES, 0)
    for kind, name, number in [("timeout", "", 0), *events]:
        if kind == "picture" and name in running:
            media_us[name] += FRAME_US
            now_us += number % 70_000
            chooser.handle_picture(name, media_us[name], now_us, number)
        elif kind == "sound":
            now_us += number
            chooser.handle_sound(now_us - number, now_us, 100)
        elif kind == "timeout":
            now_us += number
            chooser.handle_timeout(now_us)
        for action in _actions(chooser):
            if isinstance(action, Begin):
                assert action.name not in running
                running.add(action.name)
            else:
                running.remove(action.name)
        assert running == {chooser.current, chooser.pending} - {None}
        assert chooser.pending != chooser.current
        assert chooser.poll_timeout() > now_us
