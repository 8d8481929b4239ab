"""Which edge holds a namespace that several offer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane import directory as module
from farcast.control_plane.directory import Directory, OfferChange
from farcast.proto.control.messages import Offer

SECOND = 1_000_000
FILM = (b"live", b"film")
SHOW = (b"live", b"show")


def offer(directory: Directory, node: str, now_s: float, *offers: Offer, full: bool = False) -> bool:
    return directory.handle_offers(node, offers, (), int(now_s * SECOND), full=full)


def film(age_s: float) -> Offer:
    return Offer(namespace=FILM, age_us=int(age_s * SECOND))


def test_the_older_offer_wins_whoever_says_it_first() -> None:
    directory = Directory()
    assert offer(directory, "fra-1", 10, film(1))
    assert offer(directory, "sin-1", 10, film(5))
    assert directory.table == {FILM: "sin-1"}
    assert not offer(directory, "iad-1", 10, film(3))
    assert directory.holders(FILM) == ("sin-1", "iad-1", "fra-1")


def test_between_equally_old_offers_the_smaller_node_id_wins() -> None:
    directory = Directory()
    offer(directory, "sin-1", 10, film(5))
    offer(directory, "fra-1", 10, film(5))
    assert directory.table == {FILM: "fra-1"}


def test_the_next_takes_over_when_the_holder_withdraws() -> None:
    directory = Directory()
    offer(directory, "sin-1", 10, film(5))
    offer(directory, "fra-1", 10, film(1))
    assert directory.handle_offers("sin-1", (), (FILM,), 11 * SECOND, full=False)
    assert directory.table == {FILM: "fra-1"}
    assert directory.handle_offers("fra-1", (), (FILM,), 12 * SECOND, full=False)
    assert directory.table == {}


def test_a_full_report_withdraws_what_it_does_not_name() -> None:
    directory = Directory()
    offer(directory, "sin-1", 10, film(5), Offer(namespace=SHOW))
    assert offer(directory, "sin-1", 11, Offer(namespace=SHOW, age_us=SECOND), full=True)
    assert directory.table == {SHOW: "sin-1"}


def test_an_age_that_wanders_with_the_report_changes_nothing() -> None:
    directory = Directory()
    offer(directory, "sin-1", 10, film(5))
    offer(directory, "fra-1", 10.3, film(5))
    for late in (0.0, 0.4, 1.5):
        assert not offer(directory, "sin-1", 20 + late, film(15), full=True)
    assert directory.table == {FILM: "sin-1"}


def test_an_offer_that_comes_back_younger_is_a_new_one() -> None:
    directory = Directory()
    offer(directory, "sin-1", 10, film(9))
    offer(directory, "fra-1", 10, film(5))
    assert offer(directory, "sin-1", 20, film(1), full=True)
    assert directory.table == {FILM: "fra-1"}


def test_changes_are_told_once_and_restored_ones_not_at_all() -> None:
    directory = Directory()
    directory.restore([(FILM, "sin-1", -5 * SECOND)])
    assert directory.table == {FILM: "sin-1"}
    assert directory.poll_changes() == []
    offer(directory, "fra-1", 1, Offer(namespace=SHOW))
    assert directory.poll_changes() == [OfferChange(SHOW, "fra-1", SECOND)]
    directory.remove_node("fra-1")
    assert directory.poll_changes() == [OfferChange(SHOW, "fra-1", None)]
    assert directory.poll_changes() == []


def test_one_edge_cannot_fill_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMESPACES_PER_NODE_MAX", 2)
    directory = Directory()
    offer(directory, "sin-1", 1, *(Offer(namespace=(bytes([n]),)) for n in range(1, 6)))
    assert len(directory.table) == 2
    assert directory.refused == 3
    offer(directory, "fra-1", 1, Offer(namespace=FILM))
    assert directory.table[FILM] == "fra-1"


def test_the_directory_as_a_whole_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECTORY_BYTES_MAX", 10)
    directory = Directory()
    offer(directory, "sin-1", 1, film(0), Offer(namespace=SHOW))
    assert directory.table == {FILM: "sin-1"}
    directory.remove_node("sin-1")
    offer(directory, "sin-1", 2, Offer(namespace=SHOW))
    assert directory.table == {SHOW: "sin-1"}


_steps = st.lists(
    st.tuples(
        st.sampled_from(("fra-1", "iad-1", "sin-1")),
        st.lists(st.tuples(st.sampled_from((FILM, SHOW)), st.integers(0, 20)), max_size=2),
        st.booleans(),
    ),
    max_size=12,
)


@given(_steps)
def test_the_table_is_always_the_rule_applied_to_the_offers(
    steps: list[tuple[str, list[tuple[tuple[bytes, ...], int]], bool]],
) -> None:
    directory, kept = Directory(), {}
    for now, (node, said, full) in enumerate(steps):
        offers = [Offer(namespace=namespace, age_us=age * SECOND) for namespace, age in said]
        before = directory.table
        changed = directory.handle_offers(node, offers, (), now * SECOND, full=full)
        assert changed == (directory.table != before)
        for change in directory.poll_changes():
            kept[change.namespace, change.node_id] = change.since_us
        standing = {key: since for key, since in kept.items() if since is not None}
        for namespace in (FILM, SHOW):
            offered = [(since, holder) for (name, holder), since in standing.items() if name == namespace]
            assert directory.table.get(namespace) == (min(offered)[1] if offered else None)


HOUR = 3_600


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("first", ["sin-1", "fra-1"])
def test_after_a_restart_with_the_clock_set_nobody_takes_a_namespace_by_a_time_from_the_disk(
    hours: int, first: str
) -> None:
    """sin-1 has held it for longer; on the disk stand times of another clock."""
    directory = Directory()
    shift = hours * HOUR * SECOND
    directory.restore([(FILM, "sin-1", -50 * SECOND + shift), (FILM, "fra-1", -20 * SECOND + shift)])
    ages = {"sin-1": 51, "fra-1": 21}
    second = "fra-1" if first == "sin-1" else "sin-1"
    for node_id in (first, second):
        assert not offer(directory, node_id, 1, film(ages[node_id]), full=True)
        assert directory.table == {FILM: "sin-1"}


def test_a_holder_of_before_that_is_gone_leaves_it_to_one_that_has_reported() -> None:
    directory = Directory()
    times = [(FILM, "sin-1", 0), (FILM, "fra-1", 10 * SECOND), (FILM, "iad-1", 20 * SECOND)]
    directory.restore(times)
    offer(directory, "iad-1", 100, film(5), full=True)
    assert directory.remove_node("sin-1")
    assert directory.table == {FILM: "iad-1"}, "of fra-1 only the disk knows"
    assert directory.remove_node("iad-1")
    assert directory.table == {FILM: "fra-1"}


def test_nobody_holds_a_namespace_for_longer_than_the_control_plane_can_know() -> None:
    directory = Directory()
    offer(directory, "sin-1", 100, film(90))
    claimed = (Offer(namespace=FILM, age_us=1 << 50),)
    assert not directory.handle_offers(
        "fra-1", claimed, (), 200 * SECOND, full=False, since_min_us=140 * SECOND
    )
    assert directory.table == {FILM: "sin-1"}
    assert directory.too_old == 1


def test_what_follows_a_full_report_is_not_taken_for_withdrawn_until_all_of_it_has_come() -> None:
    directory = Directory()
    names = [(b"live", bytes([n])) for n in range(1, 7)]
    offer(directory, "sin-1", 1, *(Offer(namespace=name) for name in names))
    said = [Offer(namespace=name, age_us=9 * SECOND) for name in names[:5]]

    def report(offers: list[Offer], *, full: bool, more: bool) -> None:
        directory.handle_offers("sin-1", offers, (), 10 * SECOND, full=full, more=more)

    report(said[:2], full=True, more=True)
    assert set(directory.table) == set(names)
    report(said[2:4], full=False, more=True)
    assert set(directory.table) == set(names)
    report(said[4:], full=False, more=False)
    assert set(directory.table) == set(names[:5]), "the one that was not said again has gone"
