"""Where a track goes on at another edge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.client.progress import GROUPS_REMEMBERED_MAX, Progress
from farcast.proto.moqt.values import Location


def test_nothing_seen_is_nothing_to_resume() -> None:
    assert Progress().resume() is None


def test_an_open_group_goes_on_with_its_last_object() -> None:
    progress = Progress()
    for number in range(3):
        progress.object(7, 0, number)
    assert progress.resume() == Location(7, 2)


def test_the_older_of_two_open_groups_counts() -> None:
    progress = Progress()
    progress.object(7, 0, 40)
    progress.object(8, 0, 0)
    assert progress.resume() == Location(7, 40)
    progress.ended(7, 0)
    assert progress.resume() == Location(8, 0)


def test_the_least_of_the_open_subgroups_counts() -> None:
    progress = Progress()
    progress.object(3, 0, 8)
    progress.object(3, 1, 5)
    assert progress.resume() == Location(3, 5)
    progress.ended(3, 1)
    assert progress.resume() == Location(3, 8)


def test_a_group_that_has_not_come_at_all_is_asked_for() -> None:
    progress = Progress()
    for group in (1, 2, 4):
        progress.object(group, 0, 9)
        progress.ended(group, 0)
    assert progress.resume() == Location(3, 0)


def test_numbers_that_a_publisher_leaves_out_are_not_asked_for() -> None:
    progress = Progress()
    for group in (100, 200, 300):
        progress.object(group, 0, 9)
        progress.ended(group, 0)
    assert progress.resume() == Location(300, 9)


def test_after_a_restart_nothing_is_held() -> None:
    progress = Progress()
    progress.object(7, 0, 1)
    progress.restart()
    assert progress.resume() is None


def test_only_the_newest_groups_are_remembered() -> None:
    progress = Progress()
    for group in range(100):
        progress.object(group, 0, 1)
    progress.object(2, 0, 1)
    assert progress.resume() == Location(100 - GROUPS_REMEMBERED_MAX, 1)


steps = st.lists(
    st.tuples(st.integers(0, GROUPS_REMEMBERED_MAX - 1), st.integers(0, 3), st.integers(0, 9), st.booleans()),
    max_size=200,
)


@given(steps)
def test_whatever_is_open_lies_at_or_beyond_where_it_resumes(
    seen: list[tuple[int, int, int, bool]],
) -> None:
    progress = Progress()
    still_open: dict[tuple[int, int], int] = {}
    for group, subgroup, number, ends in seen:
        progress.object(group, subgroup, number)
        still_open[group, subgroup] = number
        if ends:
            progress.ended(group, subgroup)
            del still_open[group, subgroup]
    resume = progress.resume()
    assert (resume is None) == (not seen)
    for (group, _), number in still_open.items():
        assert resume is not None
        assert resume <= Location(group, number)
