"""The ledger finds each way in which a film can arrive wrong, and no other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.ledger import GROUPS_REMEMBERED_MAX, FrameLedger


def published(*frames: tuple[int, int]) -> FrameLedger:
    ledger = FrameLedger()
    for group, object in frames:
        ledger.published("video", group, object, bytes([group, object]))
    return ledger


def receive(ledger: FrameLedger, *frames: tuple[int, int]) -> None:
    for group, object in frames:
        ledger.received("video", group, object, bytes([group, object]))


def test_everything_once_in_order_and_unchanged_is_intact() -> None:
    ledger = published((0, 0), (0, 1), (1, 0))
    receive(ledger, (0, 0), (0, 1), (1, 0))
    assert ledger.is_intact
    assert ledger.frames_intact == 3


def test_nothing_at_all_is_not_intact() -> None:
    assert not FrameLedger().is_intact


def test_frames_from_before_the_join_do_not_count() -> None:
    ledger = published((0, 0), (0, 1), (1, 0), (1, 1))
    receive(ledger, (1, 0), (1, 1))
    assert ledger.is_intact


def test_a_missing_frame_is_counted() -> None:
    ledger = published((0, 0), (0, 1), (0, 2))
    receive(ledger, (0, 0), (0, 1))
    assert ledger.frames_missing == 1
    assert not ledger.is_intact


def test_a_changed_frame_is_counted() -> None:
    ledger = published((0, 0))
    ledger.received("video", 0, 0, b"other")
    assert ledger.frames_corrupt == 1
    assert not ledger.is_intact


def test_a_repeated_frame_is_counted() -> None:
    ledger = published((0, 0), (0, 1))
    receive(ledger, (0, 0), (0, 1), (0, 1))
    assert ledger.frames_repeated == 1
    assert not ledger.is_intact


def test_a_frame_out_of_order_is_counted() -> None:
    ledger = published((0, 0), (0, 1), (0, 2))
    receive(ledger, (0, 0), (0, 2), (0, 1))
    assert ledger.frames_disordered == 2


def test_a_frame_that_nobody_published_is_counted() -> None:
    ledger = published((0, 0))
    receive(ledger, (0, 0), (7, 7))
    assert ledger.frames_unknown == 1


def test_groups_may_overlap_and_tracks_are_apart() -> None:
    ledger = published((0, 0), (0, 1), (1, 0))
    ledger.published("audio", 0, 0, b"a")
    receive(ledger, (0, 0), (1, 0), (0, 1))
    assert not FrameLedger().is_intact
    assert ledger.is_intact
    ledger.received("audio", 0, 0, b"a")
    assert ledger.frames_intact == 4


@given(st.integers(1, 300))
def test_memory_does_not_grow_with_the_film(groups: int) -> None:
    ledger = FrameLedger()
    for group in range(groups):
        ledger.published("video", group, 0, b"x")
        ledger.received("video", group, 0, b"x")
    track = ledger._tracks["video"]
    assert not track.outstanding
    assert len(track.next_object) <= GROUPS_REMEMBERED_MAX
    assert ledger.is_intact
