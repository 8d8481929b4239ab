"""What survives a restart, and what happens to files that cannot be trusted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from farcast.control_plane.branches import Upstreams
from farcast.control_plane.directory import OfferChange
from farcast.control_plane.intents import NO_INTENTS, Intents, KeptOut, Override, Pin
from farcast.control_plane.store import STATE_FILE, Restored, Save, Store, StoreError
from farcast.proto.control.messages import Hello

HELLO = Hello(versions=(1,), node_id="sin-1", region="sin", boot_id="b1", advertise="192.0.2.1:443")
INTENTS = Intents(
    drains={"sin-1": 30_000},
    pins=(Pin(("jkt-1", "sin-1", "fra-1"), 1_800_000_000_000_000, "live/film"),),
    kept_out=(KeptOut("lon-1"),),
    overrides=(Override("sin-1", "", 0.08), Override("sin-1", "fra-1", None, 1_000_000)),
)
SAVE = Save(
    sequence=7,
    members=(HELLO,),
    intents=INTENTS,
    trees={"jkt-1": {"sin-1": Upstreams("jkt-1", ("fra-1",))}, "fra-1": {"sin-1": Upstreams("fra-1")}},
    offers=(
        OfferChange((b"live", b"film"), "jkt-1", 1_700_000_000_000_000),
        OfferChange((b"a",), "sin-1", 5),
    ),
)
OFFERS = [((b"a",), "sin-1", 5), ((b"live", b"film"), "jkt-1", 1_700_000_000_000_000)]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    store = Store(tmp_path)
    store.open_reign("shows")
    store.save(SAVE)
    store.close()
    return tmp_path


def reopen(directory: Path, cluster: str = "shows", epoch_min: int = 1) -> Restored:
    store = Store(directory)
    try:
        return store.open_reign(cluster, epoch_min)
    finally:
        store.close()


def attempt(directory: Path) -> Restored | StoreError:
    try:
        return reopen(directory)
    except StoreError as error:
        return error


def test_each_start_is_a_higher_epoch_of_one_cluster(tmp_path: Path) -> None:
    assert [reopen(tmp_path).epoch.number for _ in range(3)] == [1, 2, 3]
    assert reopen(tmp_path, epoch_min=40).epoch.number == 40
    assert reopen(tmp_path).epoch.number == 41


def test_everything_that_was_saved_comes_back(written: Path) -> None:
    restored = reopen(written)
    assert restored.members == (HELLO,)
    assert restored.intents == INTENTS
    assert restored.trees == SAVE.trees
    assert sorted(restored.offers) == OFFERS


def test_what_has_gone_is_gone_after_a_restart(written: Path) -> None:
    store = Store(written)
    store.open_reign("shows")
    store.save(Save(sequence=8, trees={"fra-1": None}, offers=(OfferChange((b"a",), "sin-1", None),)))
    store.close()
    restored = reopen(written)
    assert set(restored.trees) == {"jkt-1"}
    assert [offer[1] for offer in restored.offers] == ["jkt-1"]


def test_the_file_is_for_its_owner_only(written: Path) -> None:
    assert (written / STATE_FILE).stat().st_mode & 0o777 == 0o600


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.open_reign("shows")
    assert store._connection is not None
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


def test_a_second_process_is_told_so(tmp_path: Path) -> None:
    first = Store(tmp_path)
    first.open_reign("shows")
    with pytest.raises(StoreError, match="another process holds it"):
        reopen(tmp_path)
    first.close()


def test_another_clusters_state_is_refused(written: Path) -> None:
    with pytest.raises(StoreError, match="belongs to cluster 'shows', the certificate to 'other'"):
        reopen(written, "other")
    assert reopen(written).epoch.number == 2


@pytest.mark.parametrize("content", [b"not a database, but long enough" * 40, b"\x00" * 5_000, b""])
def test_a_file_of_something_else_is_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(StoreError, match=f"{STATE_FILE}: .*--epoch-min") as caught:
        reopen(tmp_path)
    assert len(caught.value.message.splitlines()) == 1
    assert (tmp_path / STATE_FILE).read_bytes() == content


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / STATE_FILE)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="database of something else"):
        reopen(tmp_path)


def test_no_cut_or_flipped_bit_passes_for_good_state(written: Path) -> None:
    """Whatever is done to the file, the start fails with one line or the state is what was saved."""
    good = (written / STATE_FILE).read_bytes()
    file, refused = written / STATE_FILE, 0
    damages = [good[:length] for length in range(512, len(good), 1_499)]
    for at in range(0, len(good), 397):
        damages.append(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
    for damaged in damages:
        for suffix in ("-journal", "-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        file.write_bytes(damaged)
        outcome = attempt(written)
        if isinstance(outcome, StoreError):
            refused += 1
            assert str(file) in outcome.message
            assert len(outcome.message.splitlines()) == 1
        else:
            assert outcome.members == (HELLO,)
            assert outcome.trees == SAVE.trees
            assert sorted(outcome.offers) == OFFERS
    assert refused > len(damages) / 10


def test_a_disk_that_takes_nothing_is_told_and_caught_up_with_later(written: Path) -> None:
    store = Store(written)
    store.open_reign("shows")
    assert store._connection is not None
    store._connection.execute("PRAGMA query_only=1")
    store.save(Save(sequence=8, intents=NO_INTENTS))
    assert store.failure is not None
    assert STATE_FILE in store.failure
    store.save(Save(sequence=9, trees={"fra-1": None}))
    assert store.failures == 2
    store._connection.execute("PRAGMA query_only=0")
    store.save(Save(sequence=10))
    assert store.failure is None
    store.close()
    restored = reopen(written)
    assert restored.intents == NO_INTENTS
    assert set(restored.trees) == {"jkt-1"}


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).mkdir()
    with pytest.raises(StoreError, match=f"{STATE_FILE}: cannot be opened for writing"):
        reopen(tmp_path)


@pytest.mark.parametrize("content", [b"192.0.2.1:443", b"film"])
def test_a_changed_letter_is_found_out_wherever_it_stands(written: Path, content: bytes) -> None:
    """It would still be a database, and still be MessagePack."""
    file = written / STATE_FILE
    good = file.read_bytes()
    at = good.index(content)
    file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    outcome = attempt(written)
    assert isinstance(outcome, StoreError)
    assert "checksum" in outcome.message or "damaged" in outcome.message


def test_a_row_that_stands_under_another_key_is_damage(written: Path) -> None:
    with closing(sqlite3.connect(written / STATE_FILE)) as connection, connection:
        connection.execute("UPDATE trees SET origin='jkt-2' WHERE origin='jkt-1'")
    with pytest.raises(StoreError, match="tree 'jkt-2' has another checksum"):
        reopen(written)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trees SET origin=CAST(x'ff6a6b' AS TEXT) WHERE origin='jkt-1'",
        "UPDATE facts SET body=17 WHERE name='members'",
        "UPDATE offers SET namespace='text'",
        "UPDATE offers SET since_unix_us='soon'",
        "UPDATE facts SET name=CAST(x'ff' AS TEXT) WHERE name='drains'",
    ],
)
def test_values_of_another_kind_are_damage_with_the_way_out(written: Path, change: str) -> None:
    with closing(sqlite3.connect(written / STATE_FILE)) as connection, connection:
        connection.execute(change)
    with pytest.raises(StoreError, match=f"{STATE_FILE}: is damaged.*--epoch-min"):
        reopen(written)
