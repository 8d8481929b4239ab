"""Meters: what an edge tells of its keys is counted once, whatever is lost, repeated or started anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.proto.access.keys import Quotas
from farcast.proto.access.metering import (
    OLD_METERS_MAX,
    USAGE_PER_REPORT_MAX,
    BadUsageFile,
    UsageMeter,
    Used,
)
from farcast.proto.access.quotas import QuotaTable, Totals
from farcast.proto.access.scopes import Action
from farcast.proto.moqt.names import TrackNamespace

ROOM = TrackNamespace.parse("live/a")
SECOND = 1_000_000


@dataclass
class Process:
    """One life of an edge: its quotas, and the bytes that its one session per key has sent."""

    meter: UsageMeter
    quotas: QuotaTable = field(default_factory=lambda: QuotaTable(lambda _: ()))
    sent: dict[str, int] = field(default_factory=dict)
    second: int = 0

    def use(self, used: Iterable[tuple[str, int]]) -> None:
        for key, amount in used:
            session = int(key[1:])
            self.quotas.admit((key,), session, Action.SUBSCRIBE, ROOM)
            self.sent[key] = self.sent.get(key, 0) + amount
        self.second += 1
        self.quotas.handle_snapshot(
            [
                {"session": int(key[1:]), "bytes_received": 0, "bytes_sent": sent}
                for key, sent in self.sent.items()
            ],
            self.second * SECOND,
        )


def process(meter: str, file: bytes | None = None, keys: int = 4) -> Process:
    made = Process(UsageMeter(meter))
    made.quotas.handle_quotas({f"k{n}": Quotas() for n in range(keys)}, (), 1, 0)
    if file is not None:
        made.meter.load(file)
    return made


def bytes_of(told: Iterable[Used]) -> dict[tuple[str, str], int]:
    return {(used.meter, used.key_id): used.totals.bytes_out for used in told}


def test_totals_are_told_when_they_change_and_all_of_them_after_a_resync() -> None:
    edge = process("b1")
    edge.use([("k1", 100), ("k2", 50)])
    assert bytes_of(edge.meter.tell(edge.quotas, 1)) == {("b1", "k1"): 100, ("b1", "k2"): 50}
    edge.use([("k1", 0), ("k2", 0)])
    edge.meter.tell(edge.quotas, 2)
    edge.quotas.forget(1)
    edge.quotas.forget(2)
    edge.use([])
    edge.meter.tell(edge.quotas, 3)
    edge.use([])
    assert edge.meter.tell(edge.quotas, 4) == ()
    edge.meter.told_anew()
    assert bytes_of(edge.meter.tell(edge.quotas, 5)) == {("b1", "k1"): 100, ("b1", "k2"): 50}


def test_what_a_process_left_is_told_by_the_next_one_until_it_is_acknowledged() -> None:
    first = process("b1")
    first.use([("k1", 900)])
    file = first.meter.dump(first.quotas)
    assert file is not None
    assert first.meter.dump(first.quotas) is None, "nothing to write twice"
    second = process("b2", file)
    second.use([("k1", 7)])
    assert second.meter.is_owing
    assert bytes_of(second.meter.tell(second.quotas, 1)) == {("b1", "k1"): 900, ("b2", "k1"): 7}
    assert second.meter.tell(second.quotas, 2) == ()
    second.meter.told_anew()
    assert ("b1", "k1") in bytes_of(second.meter.tell(second.quotas, 3))
    second.meter.acknowledged(2)
    assert second.meter.is_owing, "that one was before it was told again"
    third = process("b3", second.meter.dump(second.quotas))
    assert set(bytes_of(third.meter.tell(third.quotas, 1))) == {("b1", "k1"), ("b2", "k1")}
    second.meter.acknowledged(3)
    assert not second.meter.is_owing
    assert set(bytes_of(process("b4", second.meter.dump(second.quotas)).meter.tell(second.quotas, 1))) == {
        ("b2", "k1"),
        ("b4", "k1"),
    }


def test_very_many_keys_come_in_several_reports_and_none_is_left_out() -> None:
    count = 3 * USAGE_PER_REPORT_MAX + 5
    edge = process("b1", keys=count)
    keys = [(f"k{n}", 10) for n in range(1, count)]
    edge.use(keys)
    told: dict[tuple[str, str], int] = {}
    for sequence in range(4):
        page = edge.meter.tell(edge.quotas, sequence)
        assert len(page) <= USAGE_PER_REPORT_MAX
        told |= bytes_of(page)
        edge.use(keys)
    assert len(told) == count - 1, "those that change every second do not starve the others"
    after = process("b2", edge.meter.dump(edge.quotas), keys=count)
    seen: set[tuple[str, str]] = set()
    for sequence in range(1, 5):
        seen |= set(bytes_of(after.meter.tell(after.quotas, sequence)))
    after.meter.acknowledged(3)
    assert after.meter.is_owing
    after.meter.acknowledged(4)
    assert len(seen) == count - 1
    assert not after.meter.is_owing


@pytest.mark.parametrize("damage", ["cut off", "a bit", "empty", "nonsense", "larger than any"])
def test_a_file_that_is_damaged_owes_nothing_and_says_so(damage: str) -> None:
    first = process("b1")
    first.use([("k1", 900)])
    file = first.meter.dump(first.quotas) or b""
    flipped = bytes([*file[:-3], file[-3] ^ 1, *file[-2:]])
    bad = {
        "cut off": file[:-1],
        "a bit": flipped,
        "empty": b"",
        "nonsense": b"?" * 100,
        "larger than any": file + bytes(9 << 20),
    }[damage]
    second = UsageMeter("b2")
    with pytest.raises(BadUsageFile):
        second.load(bad)
    assert not second.is_owing


@given(st.binary(max_size=200))
def test_no_bytes_make_the_file_fail_in_another_way(data: bytes) -> None:
    meter = UsageMeter("b1")
    try:
        meter.load(data)
    except BadUsageFile:
        assert not meter.is_owing


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["use", "report", "lost report", "save", "crash", "end", "resync"]),
        st.integers(1, 3),
        st.integers(0, 1_000),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(STEPS)
def test_the_sum_over_meters_is_never_more_than_was_used_and_less_only_by_what_a_crash_took(
    steps: list[tuple[str, int, int]],
) -> None:
    """A control plane that keeps the largest totals of each meter and key; an edge that dies now and then."""
    edge, lives, file = process("b0"), 0, None
    counted: dict[tuple[str, str], int] = {}
    used = sequence = unsafe = lost = 0
    for what, key, amount in steps:
        if what == "use":
            edge.use([(f"k{key}", amount)])
            used, unsafe = used + amount, unsafe + amount
        elif what in ("report", "lost report"):
            sequence += 1
            told = edge.meter.tell(edge.quotas, sequence)
            if what == "lost report":
                edge.meter.told_anew()
                continue
            for each in told:
                at = each.meter, each.key_id
                counted[at] = max(counted.get(at, 0), each.totals.bytes_out)
            edge.meter.acknowledged(sequence)
            unsafe = 0
        elif what == "resync":
            edge.meter.told_anew()
        elif what in ("save", "end"):
            file = edge.meter.dump(edge.quotas) or file
            unsafe = 0
        if what in ("crash", "end"):
            lost, unsafe, lives = lost + unsafe, 0, lives + 1
            if lives > OLD_METERS_MAX:
                return
            edge = process(f"b{lives}", file)
        assert sum(counted.values()) <= used
    sequence += 1
    for each in edge.meter.tell(edge.quotas, sequence):
        at = each.meter, each.key_id
        counted[at] = max(counted.get(at, 0), each.totals.bytes_out)
    assert used - lost <= sum(counted.values()) <= used


def test_totals_are_of_one_type_with_those_of_the_quotas() -> None:
    edge = process("b1")
    edge.use([("k1", 1)])
    edge.use([("k1", 1)])
    (used,) = edge.meter.tell(edge.quotas, 1)
    assert used.totals == Totals(0, 2, 0, SECOND)
    assert used.now.viewers == 1
