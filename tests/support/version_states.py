"""State directories as other versions leave them: made of real ones, between two runs.

A later version's maps have fields that nobody knows yet, and its database a fact and a table of its own; an
earlier one's lack what came since. Checksums fit, as that version would have written them.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
from versions import earlier, later

FILE_HEAD_BYTES: Final = 14
DIGEST_BYTES: Final = 32

FACTS_SINCE_ADDED: Final = ("intents", "access", "trust", "shares")
TABLES_SINCE_ADDED: Final = ("usage", "meters")
LATER_FACT: Final = "later"

MORE: Final = {"later": {"x": [1, None]}}


def rewrite_plan(file: Path, rewrite: Callable[[Any], Any]) -> None:
    """An edge's plan file, its body rewritten."""
    data = file.read_bytes()
    head, body = data[:FILE_HEAD_BYTES], data[FILE_HEAD_BYTES + DIGEST_BYTES :]
    body = msgspec.msgpack.encode(rewrite(msgspec.msgpack.decode(body)))
    file.write_bytes(head + hashlib.sha256(head + body).digest() + body)


def as_later_control_plane(file: Path) -> None:
    """A control plane's state as version N+1 writes it."""
    with closing(sqlite3.connect(file)) as database, database:
        for name, body in database.execute("SELECT name, body FROM facts").fetchall():
            _write(database, name, _later_fact(name, msgspec.msgpack.decode(body)))
        _write(database, LATER_FACT, {"of": "a version to come"})
        database.execute("CREATE TABLE of_later (name TEXT PRIMARY KEY)")
        database.execute("INSERT INTO of_later VALUES ('kept')")


def as_earlier_control_plane(file: Path) -> None:
    """As version N-1 did: drains, and neither other orders nor trust."""
    with closing(sqlite3.connect(file)) as database, database:
        for name in FACTS_SINCE_ADDED:
            database.execute("DELETE FROM facts WHERE name=?", (name,))
        for table in TABLES_SINCE_ADDED:
            database.execute(f"DROP TABLE {table}")
        (body,) = database.execute("SELECT body FROM facts WHERE name='members'").fetchone()
        _write(database, "members", earlier(msgspec.msgpack.decode(body)))


def what_only_a_later_version_knows(file: Path) -> Iterator[object]:
    """What is still there of it."""
    with closing(sqlite3.connect(file)) as database:
        yield from (row[0] for row in database.execute("SELECT name FROM facts WHERE name=?", (LATER_FACT,)))
        yield from (row[0] for row in database.execute("SELECT name FROM of_later"))


def _write(database: sqlite3.Connection, name: str, value: object) -> None:
    body = msgspec.msgpack.encode(value)
    digest = hashlib.sha256(msgspec.msgpack.encode(("fact", name, body))).digest()
    database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (name, body, digest))


def _later_fact(name: str, value: Any) -> Any:
    """More fields in every record; none in maps whose keys are names of nodes or tokens."""
    match name:
        case "members":
            return later(value)
        case "intents":
            return msgspec.json.encode(
                _with_more(msgspec.json.decode(value), ("pins", "kept_out", "overrides"))
            )
        case "access":
            return _with_more(value, ("keys",))
        case "trust":
            return _with_more(value, ("invitations", "issued", "revoked_nodes"))
        case _:
            return value


def _with_more(record: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for name in parts:
        held = record.get(name, [])
        more = {key: each | MORE for key, each in held.items()} if isinstance(held, dict) else None
        inner[name] = [each | MORE for each in held] if more is None else more
    return record | inner | MORE
