"""What a leader knows lies in Consul, under its lock, and the next one begins with it."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from consul_kv import SECOND, Caller, ConsulKv, Key
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.control_plane.access_book import KeptAccess
from farcast.control_plane.branches import Upstreams
from farcast.control_plane.directory import OfferChange
from farcast.control_plane.intents import Intents, Pin
from farcast.control_plane.registry import documents
from farcast.control_plane.registry.calls import Lane, Reply, Request
from farcast.control_plane.registry.documents import BadDocument, Known, unpack
from farcast.control_plane.registry.shared_state import (
    PACES,
    SharedState,
    Verdict,
)
from farcast.control_plane.store import Restored, Save, Store
from farcast.control_plane.trust_book import Invitation, KeptTrust
from farcast.control_plane.usage_book import (
    DAYS_MAX,
    ENTRIES_MAX,
    Account,
    KeptUsage,
    Seen,
    UsageBook,
    UsageChange,
)
from farcast.proto.access.quotas import Amounts, Totals
from farcast.proto.control.messages import Epoch, Hello, KeyUsage
from farcast.proto.joining.revocations import RevokedNode

LOCK = "farcast/shows/leader"
PREFIX = "farcast/shows/state"
NOTHING = Restored(Epoch(cluster="shows", number=1))
HELLO = Hello(versions=(1,), node_id="sin-1", region="sin", boot_id="b1", advertise="192.0.2.1:443")
FILM = ((b"live", b"film"), "sin-1", 1_700)
EVERYTHING = Restored(
    Epoch(cluster="shows", number=1),
    members=(HELLO,),
    intents=Intents({"sin-1": 30_000}, (Pin(("sin-1", "fra-1", "iad-1")),)),
    trees={"sin-1": {"fra-1": Upstreams("sin-1"), "iad-1": Upstreams("fra-1", ("sin-1",))}},
    offers=(FILM,),
    access=KeptAccess(revoked_tokens={"t1": 5}, revoked_keys=("k1",)),
    trust=KeptTrust(
        invitations=(
            Invitation(
                token_id="j1",
                secret_sha256=b"s" * 32,
                region="sin",
                node_id=None,
                expires_unix_us=9,
                used_by=b"k" * 32,
                joined="sin-1",
            ),
        ),
        revoked_nodes={"lon-1": RevokedNode(node_id="lon-1", until_unix_s=7)},
    ),
    shares={"sin-1": {"k1": Amounts(1, 200, 3, 4_000_000)}},
    usage=KeptUsage(
        {"k1": Account(Totals(1, 2, 3, 4), {20_000: Totals(1, 2, 3, 4)})},
        {("sin-1", "b1"): Seen({"k1": Totals(1, 2, 3, 4)}, 1_700)},
    ),
)


class Leader:
    """One control plane's shared state; ``session`` is that of its lock, or none."""

    def __init__(self, consul: ConsulKv, session: str | None) -> None:
        self.consul, self.session, self.acquired, self.now_us = consul, session, 1, 0
        self.state = SharedState("shows", LOCK, lambda: 0.5)
        self.caller = Caller(consul, self._poll, self._take)

    def _poll(self, now_us: int) -> Request | None:
        return self.state.poll_request(self.session, self.acquired, now_us)

    def _take(self, lane: Lane, reply: Reply, now_us: int) -> None:
        assert lane is Lane.STATE
        self.state.handle_reply(reply, now_us)

    def run(self, seconds: float) -> None:
        end_us = self.now_us + int(seconds * SECOND)
        while self.now_us < end_us:
            self.now_us += 50_000
            self.caller.turn(self.now_us)

    def begin(self, restored: Restored = NOTHING) -> Restored:
        self.state.load()
        self.run(0.2)
        assert self.state.loaded is not None, self.state.failure
        return self.state.begin(restored, self.acquired, self.now_us)

    def verdict(self) -> Verdict:
        return self.state.verdict


def held_by(*sessions: str) -> ConsulKv:
    consul = ConsulKv(sessions=dict.fromkeys(sessions, "check"), checks={"check": 2**60})
    consul.keys[LOCK] = Key(b"{}", 1, sessions[0], 1)
    return consul


def hand_over(consul: ConsulKv, session: str) -> None:
    consul.keys[LOCK].session = session


def writes(consul: ConsulKv) -> list[list[dict[str, Any]]]:
    return [[each["KV"] for each in json.loads(r.body)] for r in consul.asked if r.path == "/v1/txn"]


def test_the_next_leader_begins_with_everything_that_the_one_before_knew() -> None:
    consul = held_by("s1", "s2")
    first = Leader(consul, "s1")
    assert first.begin(EVERYTHING) == EVERYTHING
    first.run(15)
    assert first.verdict() is Verdict.SHARED
    hand_over(consul, "s2")
    assert Leader(consul, "s2").begin() == EVERYTHING


def test_what_changes_in_a_reign_reaches_the_next_one() -> None:
    consul = held_by("s1", "s2")
    first = Leader(consul, "s1")
    first.begin(EVERYTHING)
    first.run(15)
    intents = Intents({}, (), (), ())
    later: dict[str, Any] = {"iad-1": Upstreams("sin-1")}
    namespace = (b"live", b"news")
    offers = (OfferChange(namespace, "sin-1", 2_000), OfferChange(FILM[0], "sin-1", None))
    first.state.handle_save(Save(3, None, intents, {"fra-1": later, "sin-1": None}, offers))
    first.run(15)
    hand_over(consul, "s2")
    found = Leader(consul, "s2").begin()
    expected = replace(
        EVERYTHING, intents=intents, trees={"fra-1": later}, offers=((namespace, "sin-1", 2_000),)
    )
    assert found == expected


def test_an_order_is_shared_only_when_consul_has_it() -> None:
    consul = held_by("s1")
    leader = Leader(consul, "s1")
    leader.begin()
    leader.run(15)
    leader.state.handle_save(Save(1, intents=Intents({"sin-1": 1_000})))
    assert leader.verdict() is Verdict.WAITING
    consul.failing = 500
    leader.run(5)
    assert leader.verdict() is Verdict.WAITING
    assert leader.state.failure == "Consul says 500: No cluster leader"
    consul.failing = None
    leader.run(2)
    assert leader.verdict() is Verdict.SHARED
    assert leader.state.failure is None


def test_who_lost_the_lock_writes_nothing_and_says_so() -> None:
    consul = held_by("s1", "s2")
    old = Leader(consul, "s1")
    old.begin(EVERYTHING)
    old.run(15)
    hand_over(consul, "s2")
    new = Leader(consul, "s2")
    new.begin()
    new.state.handle_save(Save(1, intents=Intents({"fra-1": 5_000})))
    new.run(15)
    old.state.handle_save(Save(9, intents=Intents({"iad-1": 5_000})))
    old.run(3)
    assert old.verdict() is Verdict.FENCED
    assert dict(Leader(consul, "s2").begin().intents.drains) == {"fra-1": 5_000}


def test_who_takes_its_own_lock_again_is_fenced_no_more() -> None:
    consul = held_by("s1", "s2")
    leader = Leader(consul, "s1")
    leader.begin()
    leader.run(15)
    hand_over(consul, "s2")
    leader.state.handle_save(Save(1, intents=Intents({"iad-1": 5_000})))
    leader.run(2)
    assert leader.verdict() is Verdict.FENCED
    leader.session, leader.acquired = "s2", 2
    leader.run(3)
    assert leader.verdict() is Verdict.SHARED


def test_kv_emptied_everything_is_written_again() -> None:
    consul = held_by("s1")
    leader = Leader(consul, "s1")
    leader.begin(EVERYTHING)
    leader.run(15)
    lock = consul.keys[LOCK]
    consul.empty()
    consul.keys[LOCK] = lock  # The election puts that back, and counts it.
    leader.acquired += 1
    leader.run(15)
    assert Leader(consul, "s1").begin() == EVERYTHING


def test_a_document_that_somebody_deleted_is_missed_and_written_again() -> None:
    consul = held_by("s1")
    leader = Leader(consul, "s1")
    leader.begin(EVERYTHING)
    leader.run(15)
    del consul.keys[f"{PREFIX}/trust"]
    leader.run(15)
    assert Leader(consul, "s1").begin() == EVERYTHING


def test_nothing_is_written_that_is_there_already() -> None:
    consul = held_by("s1", "s2")
    first = Leader(consul, "s1")
    first.begin(EVERYTHING)
    first.run(15)
    hand_over(consul, "s2")
    second = Leader(consul, "s2")
    second.begin()
    before = len(writes(consul))
    second.state.handle_save(Save(1, intents=EVERYTHING.intents, members=EVERYTHING.members))
    second.run(15)
    assert len(writes(consul)) == before


def test_network_documents_wait_for_their_turn_and_orders_do_not() -> None:
    consul = held_by("s1")
    leader = Leader(consul, "s1")
    leader.begin()
    leader.run(15)
    before = len(writes(consul))
    for at in range(100):
        leader.state.handle_save(Save(at, offers=(OfferChange((b"%d" % at,), "sin-1", at),)))
        leader.run(0.1)
    assert len(writes(consul)) - before <= 10 * SECOND // PACES["offers"].pause_us + 1
    leader.state.handle_save(Save(101, intents=Intents({"sin-1": 7})))
    leader.run(0.1)
    assert leader.verdict() is Verdict.SHARED


def test_an_order_about_an_edge_that_has_just_joined_comes_with_the_edge() -> None:
    consul = held_by("s1", "s2")
    leader = Leader(consul, "s1")
    leader.begin()
    leader.run(15)
    other = Hello(versions=(1,), node_id="fra-1", region="fra", boot_id="b1", advertise="192.0.2.2:443")
    leader.state.handle_save(Save(1, members=(other,)))
    leader.run(0.1)
    leader.state.handle_save(Save(2, members=(HELLO,), intents=Intents({"sin-1": 5})))
    while leader.verdict() is not Verdict.SHARED:
        leader.run(0.05)
    hand_over(consul, "s2")
    found = Leader(consul, "s2").begin()
    assert found.members == (HELLO,)
    assert dict(found.intents.drains) == {"sin-1": 5}


def large(count: int, salt: str = "") -> KeptAccess:
    """Revoked tokens that cannot be compressed much."""
    names = (hashlib.sha256(f"{salt}{at}".encode()).hexdigest() for at in range(count))
    return KeptAccess(revoked_tokens=dict.fromkeys(names, 5))


def test_a_document_of_many_parts_is_old_or_new_and_never_half() -> None:
    consul = held_by("s1", "s2")
    leader = Leader(consul, "s1")
    leader.begin(replace(NOTHING, access=large(12_000)))
    leader.run(15)
    parts = [name for name in consul.keys if name.startswith(f"{PREFIX}/access/")]
    assert len(parts) > 1
    for body in (r.body for r in consul.asked if r.path == "/v1/txn"):
        assert len(body) < 512 << 10, "what a transaction of Consul takes"
    leader.state.handle_save(Save(1, access=large(12_000, "b")))
    leader.now_us += 50_000
    request = leader.state.poll_request("s1", 1, leader.now_us)
    assert request is not None
    consul.answer(request, leader.now_us)  # The first part only; the leader dies.
    hand_over(consul, "s2")
    second = Leader(consul, "s2")
    assert second.begin().access == large(12_000)
    second.state.handle_save(Save(1, access=large(9_000, "c")))
    second.run(15)
    left = {name.split("/")[4] for name in consul.keys if name.startswith(f"{PREFIX}/access/")}
    assert len(left) == 1, "nothing of what was cut off is left"
    assert Leader(consul, "s2").begin().access == large(9_000, "c")


def test_large_network_documents_do_not_fill_consuls_log() -> None:
    consul = held_by("s1")
    leader = Leader(consul, "s1")
    leader.begin()
    leader.run(15)
    began = len(consul.asked)
    for at in range(60):
        rows = tuple(OfferChange((b"%d-%d" % (at, n),), "sin-1", n * 7919 % 100_003) for n in range(2_000))
        leader.state.handle_save(Save(at, offers=rows))
        leader.run(0.5)
    size = sum(len(request.body) for request in consul.asked[began:])
    assert size < 30 * PACES["offers"].bytes_per_second * 4 / 3 + 600_000


def tells(book: UsageBook, meter: str, bytes_out: int, now_us: int) -> UsageChange:
    """An edge tells the totals of a meter; what is to be written of it."""
    told = KeyUsage(meter=meter, key_id="k1", bytes_out=bytes_out)
    book.take("sin-1", "b1", [told], {"k1"}, now_us, 20_000 * 86_400 * SECOND)
    return book.poll_changes(now_us + 3_600 * SECOND) or UsageChange()


def test_what_keys_have_used_goes_over_and_is_counted_once() -> None:
    consul = held_by("s1", "s2")
    first = Leader(consul, "s1")
    book = UsageBook(first.begin().usage)
    first.run(15)
    first.state.handle_save(Save(1, usage=tells(book, "b1", 1_000, 1)))
    first.run(20)
    unwritten = tells(book, "b1", 1_400, 2)  # The leader dies before Consul has it.
    assert unwritten.accounts["k1"].total.bytes_out == 1_400
    hand_over(consul, "s2")
    second = Leader(consul, "s2")
    book = UsageBook(second.begin().usage)
    assert book.accounts["k1"].total.bytes_out == 1_000
    second.run(15)
    second.state.handle_save(Save(1, usage=tells(book, "b1", 1_500, 3)))
    assert book.accounts["k1"].total.bytes_out == 1_500
    second.state.handle_save(Save(2, usage=UsageChange(meters={("sin-1", "b1"): None})))
    second.run(30)
    third = Leader(consul, "s2").begin().usage
    assert third.accounts["k1"].days == {20_000: Totals(0, 1_500, 0, 0)}
    assert third.meters == {}, "what was forgotten stays so"


def test_usage_is_written_no_faster_than_its_pace() -> None:
    consul = held_by("s1")
    leader = Leader(consul, "s1")
    book = UsageBook(leader.begin().usage)
    leader.run(15)
    before = len(writes(consul))
    for second in range(100):
        leader.state.handle_save(Save(second, usage=tells(book, "b1", second + 1, second)))
        leader.run(1)
    assert len(writes(consul)) - before <= 100 * SECOND // PACES["usage"].pause_us + 1


def test_as_much_usage_as_is_kept_fits_the_document() -> None:
    """A fortieth of it, in proportion: figures that hardly compress."""
    keys = [f"shop-{at:03}" for at in range(25)]
    figures = (int(hashlib.sha256(str(at).encode()).hexdigest()[:10], 16) for at in itertools.count())

    def used() -> Totals:
        return Totals(*itertools.islice(figures, 4))

    accounts = {key: Account(used(), {day: used() for day in range(DAYS_MAX)}) for key in keys}
    nodes = range(ENTRIES_MAX // 40 // len(keys))
    meters = {(f"sin-{at}", "b" * 16): Seen({key: used() for key in keys}, 2**50) for at in nodes}
    known = Known(replace(NOTHING, usage=KeptUsage(accounts, meters)))
    packed = known.pack("usage")
    assert 40 * len(packed.parts) < documents.PARTS_MAX
    assert 40 * len(documents._WRITERS["usage"](known)) < documents.DOCUMENT_BYTES_MAX


def test_usage_that_is_too_long_lacks_its_oldest_days_and_nothing_of_its_totals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "USAGE_BYTES_MAX", 5_000)
    account = Account(Totals(1, 2, 3, 4), {day: Totals(day, day, day, day) for day in range(DAYS_MAX)})
    meters = {("sin-1", "b1"): Seen({"k1": Totals(1, 2, 3, 4)}, 1_700)}
    packed = Known(replace(NOTHING, usage=KeptUsage({"k1": account, "k2": account}, meters))).pack("usage")
    values = {f"{PREFIX}/usage": packed.head, f"{PREFIX}/usage/{packed.sha256}/0": packed.parts[0]}
    found: KeptUsage = unpack(PREFIX, values)[0]["usage"]
    assert found.meters == meters
    for kept in found.accounts.values():
        assert kept.total == account.total
        assert 0 < len(kept.days) < DAYS_MAX
        assert max(kept.days) == DAYS_MAX - 1


def test_a_machines_own_disk_counts_where_consul_has_nothing() -> None:
    consul = held_by("s1")
    assert Leader(consul, "s1").begin(EVERYTHING) == EVERYTHING


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b'{"format": 2, "parts": 1, "sha256": "x"}',
        b'{"format": 1, "parts": 0, "sha256": "x"}',
        b'{"format": 1, "parts": 100000000, "sha256": "x"}',
        b'{"format": 1, "parts": 1, "sha256": "x"}',
    ],
)
def test_a_damaged_document_is_named_with_the_way_out_and_nobody_leads_by_it(damage: bytes) -> None:
    consul = held_by("s1")
    first = Leader(consul, "s1")
    first.begin(EVERYTHING)
    first.run(15)
    consul.keys[f"{PREFIX}/trust"].value = damage
    second = Leader(consul, "s1")
    second.state.load()
    second.run(5)
    assert second.state.loaded is None
    failure = second.state.failure or ""
    assert failure.startswith(f"{PREFIX}/trust in Consul is damaged")
    assert "delete that key" in failure
    del consul.keys[f"{PREFIX}/trust"]
    second.run(2)
    assert second.state.loaded is not None


def test_a_part_that_is_not_what_its_name_says_is_damage() -> None:
    packed = Known(EVERYTHING).pack("trust")
    values = {
        f"{PREFIX}/trust": packed.head,
        f"{PREFIX}/trust/{packed.sha256}/0": packed.parts[0][:-1] + b"x",
    }
    with pytest.raises(BadDocument, match="another checksum"):
        unpack(PREFIX, values)


def test_a_document_that_unpacks_to_too_much_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Known(replace(EVERYTHING, access=large(100))).pack("access")
    values = {f"{PREFIX}/access": packed.head, f"{PREFIX}/access/{packed.sha256}/0": packed.parts[0]}
    monkeypatch.setattr(documents, "DOCUMENT_BYTES_MAX", 1_000)
    with pytest.raises(BadDocument, match="more than 1000 bytes"):
        unpack(PREFIX, values)


def test_the_disk_says_the_same_after_a_takeover(tmp_path: Any) -> None:
    store = Store(tmp_path)
    store.open_reign("shows")
    stale = {"old-1": {"x-1": Upstreams("old-1")}}
    used = UsageChange({"old": Account(Totals(1))}, {("old-1", "b"): Seen({"old": Totals(1)}, 1)})
    store.save(Save(1, trees=stale, offers=(OfferChange((b"gone",), "old-1", 1),), usage=used))
    store.replace(EVERYTHING)
    store.close()
    found = Store(tmp_path)
    assert replace(found.open_reign("shows"), epoch=EVERYTHING.epoch) == EVERYTHING
    found.close()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 200, 404, 409, 413, 500]),
            st.sampled_from([b"", b"null", b"[]", b"{}", b"[[]]", b'[{"Key": 1, "Value": 2}]', b"[" * 9_000]),
        ),
        max_size=20,
    )
)
def test_whatever_consul_answers_the_state_goes_on(replies: list[tuple[int, bytes]]) -> None:
    state, now_us = SharedState("shows", LOCK, lambda: 0.5), 0
    state.load()
    for status, body in replies:
        now_us += 3 * SECOND
        if state.loaded is not None:
            state.begin(EVERYTHING, 1, now_us)
        request = state.poll_request("s1", 1, now_us)
        if request is not None:
            state.handle_reply(Reply(status, body), now_us)
        due_us = state.poll_timeout("s1")
        assert due_us is None or due_us <= now_us + 10 * SECOND
