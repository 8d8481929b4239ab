"""Usage of keys in the control plane: counted once, kept, and told."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane import usage_book
from farcast.control_plane.store import Save, Store
from farcast.control_plane.usage_book import (
    DAY_US,
    FORGET_US,
    METERS_PER_NODE_MAX,
    SAVE_US,
    Account,
    KeptUsage,
    UsageBook,
    UsageChange,
)
from farcast.proto.access.quotas import Totals
from farcast.proto.control.messages import KeyUsage

UNIX_US = 20_000 * DAY_US
KEYS = ("k1", "k2")


def told(bytes_out: int, key_id: str = "k1", meter: str = "b1", **more: int) -> KeyUsage:
    return KeyUsage(meter=meter, key_id=key_id, bytes_out=bytes_out, **more)


def take(
    book: UsageBook, *usage: KeyUsage, node_id: str = "sin-1", boot_id: str = "b1", at_us: int = 0
) -> None:
    book.take(node_id, boot_id, usage, KEYS, at_us, UNIX_US + at_us)


def total(book: UsageBook, key_id: str = "k1") -> int:
    return book.accounts.get(key_id, Account()).total.bytes_out


def kept(book: UsageBook, before: KeptUsage | None = None, now_us: int = SAVE_US) -> KeptUsage:
    """What is on disk after a save."""
    change = book.poll_changes(now_us) or UsageChange()
    before = before or KeptUsage()
    meters = {**before.meters, **change.meters}
    return KeptUsage(
        {**before.accounts, **change.accounts},
        {meter: seen for meter, seen in meters.items() if seen is not None},
    )


def test_totals_of_meters_add_up_over_edges_and_processes_and_repeats_add_nothing() -> None:
    book = UsageBook(KeptUsage())
    take(book, told(100), told(5, "k2"))
    take(book, told(100))
    take(book, told(150))
    take(book, told(149))
    take(book, told(30), node_id="fra-1")
    take(book, told(40, meter="b2"), told(160), boot_id="b2")
    assert (total(book), total(book, "k2")) == (160 + 30 + 40, 5)


def test_a_control_plane_that_dies_catches_up_and_counts_nothing_twice() -> None:
    book = UsageBook(KeptUsage())
    take(book, told(100))
    disk = kept(book)
    take(book, told(170), at_us=SAVE_US)
    again = UsageBook(disk)
    assert total(again) == 100
    take(again, told(180))
    assert total(again) == 180
    older = UsageBook(KeptUsage())
    take(older, told(180))
    assert total(older) == 180, "a copy from before it all counts what edges still know"


def test_it_is_written_now_and_then_but_at_once_what_a_dead_process_left() -> None:
    book = UsageBook(KeptUsage())
    take(book, told(100))
    assert book.poll_changes(SAVE_US - 1) is None
    assert book.poll_changes(SAVE_US) is not None
    assert book.poll_changes(9 * SAVE_US) is None, "nothing is new"
    take(book, told(7, meter="b0"), at_us=SAVE_US)
    assert book.poll_changes(SAVE_US) is not None, "its edge forgets it when it is acknowledged"


def test_keys_that_only_an_edge_trusts_are_not_counted_and_forgotten_ones_go_on() -> None:
    book = UsageBook(KeptUsage())
    take(book, told(9, "stranger"))
    assert "stranger" not in book.accounts
    take(book, told(9))
    book.take("sin-1", "b1", [told(12)], (), 0, UNIX_US)
    assert total(book) == 12


def test_days_are_kept_apart_and_old_ones_are_in_the_total_only() -> None:
    book = UsageBook(KeptUsage())
    take(book, told(10))
    take(book, told(25), at_us=DAY_US)
    assert {day - 20_000: used.bytes_out for day, used in book.accounts["k1"].days.items()} == {0: 10, 1: 15}
    assert book.since("k1", 20_001).bytes_out == 15
    book.forget_ended(UNIX_US + usage_book.DAYS_MAX * DAY_US)
    assert set(book.accounts["k1"].days) == {20_001}
    assert total(book) == 25


def test_what_is_remembered_of_meters_is_bounded() -> None:
    book = UsageBook(KeptUsage())
    for number in range(3 * METERS_PER_NODE_MAX):
        take(book, told(10, meter=f"b{number}"), boot_id=f"b{number}", at_us=number)
    disk = kept(book)
    assert len(disk.meters) == METERS_PER_NODE_MAX
    assert total(book) == 30 * METERS_PER_NODE_MAX
    book.forget_ended(UNIX_US + FORGET_US + 100)
    take(book, told(1, "k2", meter="b99"), boot_id="b99")
    assert len(kept(book, disk, 1 << 60).meters) == 1


def test_what_finds_no_room_is_left_out_and_told() -> None:
    book = UsageBook(KeptUsage())
    book._entries = usage_book.ENTRIES_MAX
    take(book, told(10))
    assert (total(book), book.left_out) == (0, 1)


def test_what_a_key_takes_now_is_the_sum_of_edges_that_are_there() -> None:
    book = UsageBook(KeptUsage())
    take(book, told(1, viewers=3, bps=10))
    take(book, told(1, viewers=4), node_id="fra-1")
    assert sum(each.amounts.viewers for each in book.now("k1").values()) == 7
    book.leave("sin-1")
    assert set(book.now("k1")) == {"fra-1"}
    take(book, told(2), node_id="fra-1")
    assert book.now("k1") == {}


STEP = st.tuples(
    st.sampled_from(["sin-1", "fra-1"]), st.sampled_from(KEYS), st.integers(0, 50), st.booleans()
)


@given(st.lists(st.tuples(STEP, st.sampled_from(["", "save", "restart", "edge"])), max_size=40))
def test_the_sum_is_what_edges_counted_whatever_restarts(
    steps: list[tuple[tuple[str, str, int, bool], str]],
) -> None:
    """Every report arrives or is overtaken by the next one; the control plane dies between saves."""
    meters: dict[tuple[str, str, str], int] = {}
    boots = {"sin-1": 0, "fra-1": 0}
    book, disk, used = UsageBook(KeptUsage()), KeptUsage(), dict.fromkeys(KEYS, 0)

    def report(node_id: str) -> None:
        every = [told(n, key, boot) for (node, boot, key), n in meters.items() if node == node_id]
        take(book, *every, node_id=node_id, boot_id=f"b{boots[node_id]}")

    for (node_id, key, amount, arrives), what in steps:
        at = (node_id, f"b{boots[node_id]}", key)
        meters[at] = meters.get(at, 0) + amount
        used[key] += amount
        if arrives:
            report(node_id)
        if what == "save":
            disk = kept(book, disk, 1 << 60)
        elif what == "restart":
            book = UsageBook(disk)
        elif what == "edge" and boots[node_id] < 3:
            boots[node_id] += 1
        assert all(total(book, key) <= used[key] for key in KEYS)
    for node_id in boots:
        report(node_id)
    assert {key: total(book, key) for key in KEYS} == used


def test_it_survives_on_disk_and_an_older_file_has_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.open_reign("shows").usage == KeptUsage()
    book = UsageBook(KeptUsage())
    take(book, told(100, bytes_in=7, viewer_us=3), told(5, "k2"))
    store.save(Save(sequence=1, usage=book.poll_changes(SAVE_US)))
    take(book, told(130), at_us=DAY_US)
    store.save(Save(sequence=2, usage=book.poll_changes(1 << 60)))
    store.close()
    again = Store(tmp_path)
    restored = again.open_reign("shows").usage
    again.close()
    assert restored.accounts["k1"].total == Totals(7, 130, 0, 3)
    assert len(restored.accounts["k1"].days) == 2
    after = UsageBook(restored)
    take(after, told(140))
    assert total(after) == 140


def test_a_full_disk_merges_changes_and_loses_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.open_reign("shows")
    held, store._connection = store._connection, None
    book = UsageBook(KeptUsage())
    for amount, key in ((100, "k1"), (120, "k1"), (5, "k2")):
        take(book, told(amount, key))
        store.save(Save(sequence=1, usage=book.poll_changes(1 << 60)))
    assert store.failure is not None
    store._connection = held
    store.save(Save(sequence=2))
    assert store.failure is None
    store.close()
    again = Store(tmp_path)
    accounts = again.open_reign("shows").usage.accounts
    again.close()
    assert {key: account.total.bytes_out for key, account in accounts.items()} == {"k1": 120, "k2": 5}
