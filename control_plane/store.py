"""What the control plane must not forget, in one SQLite file: its reign, last plan, directory and intents.

`Store.save` returns when the change is on disk (``synchronous=FULL``); the service sends nothing that depends
on a change before. A file that cannot be trusted (damaged, cut off, of something else, of another cluster)
ends the start with one line that names it and the way out: edges keep their plans, so there is no hurry to
serve from a guess. A file that can no longer be written, later, is a log line: all goes on from memory.

Each start is a new reign: the epoch's number rises by one and is durable before anybody is welcomed. So a
copy of the file that is put back rules nobody who has seen a later epoch; ``epoch_min`` is the way out then.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from farcast.control_plane.access_book import NOTHING_KEPT, KeptAccess
from farcast.control_plane.branches import Tree, Upstreams
from farcast.control_plane.directory import Fields, OfferChange
from farcast.control_plane.intents import NO_INTENTS, Intents, decode, encode
from farcast.control_plane.quota_shares import Shares
from farcast.control_plane.trust_book import NO_TRUST_KEPT, KeptTrust
from farcast.control_plane.usage_book import NO_USAGE_KEPT, Account, KeptUsage, Meter, Seen, UsageChange
from farcast.errors import UserError
from farcast.proto.control.messages import Epoch, Hello

STATE_FILE: Final = "control.sqlite3"

_APPLICATION_ID: Final = 0x46434350
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = f"""
BEGIN;
PRAGMA application_id={_APPLICATION_ID};
PRAGMA user_version={_SCHEMA_VERSION};
CREATE TABLE facts (name TEXT PRIMARY KEY, body BLOB NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE trees (origin TEXT PRIMARY KEY, body BLOB NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE offers (
    namespace BLOB NOT NULL, node_id TEXT NOT NULL, since_unix_us INTEGER NOT NULL, sha256 BLOB NOT NULL,
    PRIMARY KEY (namespace, node_id)
) WITHOUT ROWID;
COMMIT;
"""
_SCHEMA_OF_USAGE: Final = """
CREATE TABLE IF NOT EXISTS usage (
    key_id TEXT PRIMARY KEY, body BLOB NOT NULL, sha256 BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meters (
    node_id TEXT NOT NULL, meter TEXT NOT NULL, body BLOB NOT NULL, sha256 BLOB NOT NULL,
    PRIMARY KEY (node_id, meter)
) WITHOUT ROWID;
"""
"""Came later; a version that does not know these tables leaves them alone, so the format stays 1."""
_NAMESPACE: Final = msgspec.msgpack.Decoder(tuple[bytes, ...])


@dataclass(frozen=True, slots=True)
class Save:
    """What changed, to be made durable together; ``None`` is unchanged. ``trees``: a tree of ``None`` has
    gone. Offers carry wall-clock times, which outlive a process."""

    sequence: int
    members: tuple[Hello, ...] | None = None
    intents: Intents | None = None
    trees: Mapping[str, Tree | None] = field(default_factory=dict)
    offers: tuple[OfferChange, ...] = ()
    access: KeptAccess | None = None
    trust: KeptTrust | None = None
    usage: UsageChange | None = None
    shares: Shares | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """What an earlier run left, and the reign that begins now."""

    epoch: Epoch
    sequence: int = 0
    members: tuple[Hello, ...] = ()
    intents: Intents = NO_INTENTS
    trees: Mapping[str, Tree] = field(default_factory=dict)
    offers: tuple[tuple[Fields, str, int], ...] = ()
    """Namespace, node id, since when by the wall clock, microseconds."""
    access: KeptAccess = NOTHING_KEPT
    trust: KeptTrust = NO_TRUST_KEPT
    usage: KeptUsage = NO_USAGE_KEPT
    shares: Shares = field(default_factory=dict)


class StoreError(UserError):
    """The state cannot be read, or is not ours; the message names the file and the way out."""


class Store:
    """The state file in a directory; one process at a time.

    `open_reign` reads it and begins the next epoch. Later failures are in `failure`, once each.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / STATE_FILE
        self.failures = 0
        self.failure: str | None = None
        """Why the newest change is not on disk; ``None`` where all is."""
        self._missed: list[Save] = []
        self._connection: sqlite3.Connection | None = None

    def open_reign(self, cluster: str, epoch_min: int = 1) -> Restored:
        """What is known, with an epoch above all earlier ones. Raises `StoreError`."""
        try:
            connection = self._connect()
            with connection:
                restored = self._read(connection, cluster, epoch_min)
                self._write_facts(
                    connection, {"cluster": cluster, "epoch": restored.epoch.number, "sequence": 0}
                )
            return restored
        except (sqlite3.Error, ValueError, TypeError, OSError) as error:
            self.close()
            raise StoreError(self._explain(error)) from error
        except StoreError:
            self.close()
            raise

    def save(self, save: Save) -> None:
        """Make a change durable; where that fails, `failure` says why, and the next one tries again."""
        pending = [*self._missed, save]
        try:
            if self._connection is None:
                raise sqlite3.OperationalError("the file is closed")
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                for each in pending:
                    self._write(connection, each)
        except (sqlite3.Error, OSError) as error:
            self.failures += 1
            self.failure = f"{self.file}: {error}"
            self._missed = [_merge(pending)]
        else:
            self.failure = None
            self._missed = []

    def replace(self, restored: Restored) -> None:
        """Make the file say this, whatever it said. Raises `StoreError`."""
        offers = tuple(OfferChange(*row) for row in restored.offers)
        whole = Save(
            restored.sequence,
            restored.members,
            restored.intents,
            dict(restored.trees),
            offers,
            restored.access,
            restored.trust,
            UsageChange(restored.usage.accounts, restored.usage.meters),
            restored.shares,
        )
        try:
            if self._connection is None:
                raise sqlite3.OperationalError("the file is closed")
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                for table in ("trees", "offers", "usage", "meters"):
                    connection.execute(f"DELETE FROM {table}")
                self._write(connection, whole)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(self._explain(error)) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- Reading ----------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        is_new = not self.file.exists()
        if is_new:
            os.close(os.open(self.file, os.O_CREAT | os.O_WRONLY, 0o600))
        elif self.file.is_file() and self.file.stat().st_size == 0:
            raise StoreError(f"{self.file}: is empty; {self._way_out}")
        connection = sqlite3.connect(
            self.file, timeout=1.0, isolation_level="DEFERRED", check_same_thread=False
        )
        self._connection = connection
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA synchronous=FULL")
        if is_new:
            connection.executescript(_SCHEMA)
        self._check(connection)
        connection.executescript(_SCHEMA_OF_USAGE)
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        def pragma(name: str) -> Any:
            with closing(connection.execute(f"PRAGMA {name}")) as rows:
                return rows.fetchone()[0]

        if pragma("application_id") != _APPLICATION_ID:
            raise StoreError(f"{self.file}: is a database of something else; {self._way_out}")
        if (version := pragma("user_version")) != _SCHEMA_VERSION:
            raise StoreError(f"{self.file}: has format {version}, this version reads {_SCHEMA_VERSION}")
        if (found := pragma("quick_check(1)")) != "ok":
            raise StoreError(f"{self.file}: is damaged ({' '.join(str(found).split())}); {self._way_out}")

    def _read(self, connection: sqlite3.Connection, cluster: str, epoch_min: int) -> Restored:
        rows = connection.execute("SELECT name, body, sha256 FROM facts")
        facts = {name: self._checked("fact", name, body, sha256) for name, body, sha256 in rows}
        held = msgspec.msgpack.decode(facts["cluster"], type=str) if "cluster" in facts else cluster
        if held != cluster:
            raise StoreError(
                f"{self.file}: belongs to cluster {held!r}, the certificate to {cluster!r}; "
                "choose another --state-dir or certificate"
            )
        number = msgspec.msgpack.decode(facts["epoch"], type=int) if "epoch" in facts else 0
        trees = {}
        for origin, body, sha256 in connection.execute("SELECT origin, body, sha256 FROM trees"):
            checked = self._checked("tree", origin, body, sha256)
            trees[origin] = msgspec.msgpack.decode(checked, type=dict[str, Upstreams])
        return Restored(
            Epoch(cluster=cluster, number=max(number + 1, epoch_min)),
            members=msgspec.msgpack.decode(facts["members"], type=tuple[Hello, ...])
            if "members" in facts
            else (),
            intents=_read_intents(facts),
            trees=trees,
            offers=tuple(self._read_offers(connection)),
            access=msgspec.msgpack.decode(facts["access"], type=KeptAccess)
            if "access" in facts
            else NOTHING_KEPT,
            trust=msgspec.msgpack.decode(facts["trust"], type=KeptTrust)
            if "trust" in facts
            else NO_TRUST_KEPT,
            usage=self._read_usage(connection),
            shares=msgspec.msgpack.decode(facts["shares"], type=Shares) if "shares" in facts else {},
        )

    def _read_usage(self, connection: sqlite3.Connection) -> KeptUsage:
        accounts: dict[str, Account] = {}
        for key_id, body, sha256 in connection.execute("SELECT * FROM usage"):
            checked = self._checked("usage", key_id, body, sha256)
            accounts[key_id] = msgspec.msgpack.decode(checked, type=Account)
        meters: dict[Meter, Seen] = {}
        for node_id, meter, body, sha256 in connection.execute("SELECT * FROM meters"):
            checked = self._checked("meter", f"{node_id}/{meter}", body, sha256)
            meters[node_id, meter] = msgspec.msgpack.decode(checked, type=Seen)
        return KeptUsage(accounts, meters)

    def _read_offers(self, connection: sqlite3.Connection) -> Iterator[tuple[Fields, str, int]]:
        for namespace, node_id, since_us, sha256 in connection.execute("SELECT * FROM offers"):
            self._checked("offer", node_id, _offer_body(namespace, since_us), sha256)
            yield _NAMESPACE.decode(namespace), node_id, since_us

    def _checked(self, what: str, key: str, body: bytes, sha256: bytes) -> bytes:
        if _sha256(what, key, body) != sha256:
            raise StoreError(
                f"{self.file}: is damaged ({what} {key!r} has another checksum); {self._way_out}"
            )
        return body

    @property
    def _way_out(self) -> str:
        return (
            "put back a copy, or move it away and start with --epoch-min above the epoch that edges log "
            "(they keep their plans meanwhile)"
        )

    def _explain(self, error: Exception) -> str:
        text = " ".join(str(error).split())
        if "locked" in text:
            return f"{self.file}: another process holds it, perhaps a running farcast control"
        is_damaged = "malformed" in text or "decode" in text
        if isinstance(error, sqlite3.OperationalError | OSError) and not is_damaged:
            return f"{self.file}: cannot be opened for writing: {text}; choose another with --state-dir"
        return f"{self.file}: is damaged or something else ({text}); {self._way_out}"

    # ---- Writing ----------------------------------------------------------------------------------

    def _write(self, connection: sqlite3.Connection, save: Save) -> None:
        facts: dict[str, object] = {"sequence": save.sequence}
        if save.members is not None:
            facts["members"] = save.members
        if save.intents is not None:
            facts["drains"], facts["intents"] = dict(save.intents.drains), encode(save.intents)
        if save.access is not None:
            facts["access"] = save.access
        if save.trust is not None:
            facts["trust"] = save.trust
        if save.shares is not None:
            facts["shares"] = save.shares
        self._write_facts(connection, facts)
        for origin, tree in save.trees.items():
            if tree is None:
                connection.execute("DELETE FROM trees WHERE origin=?", (origin,))
            else:
                body = msgspec.msgpack.encode(dict(tree))
                connection.execute(
                    "INSERT OR REPLACE INTO trees VALUES (?, ?, ?)",
                    (origin, body, _sha256("tree", origin, body)),
                )
        for offer in save.offers:
            key = (msgspec.msgpack.encode(offer.namespace), offer.node_id)
            if offer.since_us is None:
                connection.execute("DELETE FROM offers WHERE namespace=? AND node_id=?", key)
            else:
                body = _offer_body(key[0], offer.since_us)
                row = (*key, offer.since_us, _sha256("offer", offer.node_id, body))
                connection.execute("INSERT OR REPLACE INTO offers VALUES (?, ?, ?, ?)", row)

        if save.usage is not None:
            self._write_usage(connection, save.usage)

    def _write_usage(self, connection: sqlite3.Connection, usage: UsageChange) -> None:
        for key_id, account in usage.accounts.items():
            body = msgspec.msgpack.encode(account)
            row = (key_id, body, _sha256("usage", key_id, body))
            connection.execute("INSERT OR REPLACE INTO usage VALUES (?, ?, ?)", row)
        for (node_id, meter), seen in usage.meters.items():
            if seen is None:
                connection.execute("DELETE FROM meters WHERE node_id=? AND meter=?", (node_id, meter))
                continue
            body = msgspec.msgpack.encode(seen)
            of_meter = (node_id, meter, body, _sha256("meter", f"{node_id}/{meter}", body))
            connection.execute("INSERT OR REPLACE INTO meters VALUES (?, ?, ?, ?)", of_meter)

    def _write_facts(self, connection: sqlite3.Connection, facts: Mapping[str, object]) -> None:
        for name, value in facts.items():
            body = msgspec.msgpack.encode(value)
            row = (name, body, _sha256("fact", name, body))
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", row)


def _merge(saves: Iterable[Save]) -> Save:
    """Several changes as one, so that a disk that stays full costs no more memory than the state itself."""
    merged = Save(sequence=0)
    for save in saves:
        offers = {(offer.namespace, offer.node_id): offer for offer in (*merged.offers, *save.offers)}
        merged = Save(
            sequence=save.sequence,
            members=merged.members if save.members is None else save.members,
            intents=merged.intents if save.intents is None else save.intents,
            trees={**merged.trees, **save.trees},
            offers=tuple(offers.values()),
            access=merged.access if save.access is None else save.access,
            trust=merged.trust if save.trust is None else save.trust,
            usage=_merge_usage(merged.usage, save.usage),
            shares=merged.shares if save.shares is None else save.shares,
        )
    return merged


def _merge_usage(one: UsageChange | None, other: UsageChange | None) -> UsageChange | None:
    if one is None or other is None:
        return one or other
    return UsageChange({**one.accounts, **other.accounts}, {**one.meters, **other.meters})


def _read_intents(facts: Mapping[str, bytes]) -> Intents:
    """Drains count as they stand by themselves: a version that knows nothing else may have written last."""
    drains = msgspec.msgpack.decode(facts["drains"], type=dict[str, int]) if "drains" in facts else {}
    if "intents" not in facts:
        return Intents(drains)
    return replace(decode(msgspec.msgpack.decode(facts["intents"], type=bytes)), drains=drains)


def _offer_body(namespace: bytes, since_us: int) -> bytes:
    return msgspec.msgpack.encode((namespace, since_us))


def _sha256(what: str, key: str, body: bytes) -> bytes:
    """Of a row with its table and its key: what stands under another key is no less damaged."""
    return hashlib.sha256(msgspec.msgpack.encode((what, key, body))).digest()
