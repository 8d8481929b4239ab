"""What a new leader has to know, as documents in Consul's KV: the same records as in the state file.

    farcast/CLUSTER/state/NAME               head: JSON {"format", "bytes", "parts", "sha256"}
    farcast/CLUSTER/state/NAME/SHA256/0 …    the document in parts, MessagePack under zlib

A value in Consul holds 512 KiB and so does a transaction, so a document is cut into parts under the hash of
the whole, and is there from the moment its head says so: whoever reads all keys at once sees each document
old or new, never half of one. Names of parts come from what is in them, so a leader that was cut off while it
wrote has spoiled nothing.

Two kinds of documents. *Orders* (intents, access, trust) are what people have said; an answer to them waits
for Consul. The others *follow* within seconds: members, trees, offers and shares are what a plan begins with,
so that a new leader plans from the routes that run and not from none, and gives out no quota that edges hold
already; usage is what keys have used. What edges measure of links is in none of them.

Usage is one document, because accounts and meters are only right together: the book counts what a meter says
beyond what it saw of it (`usage_book`). So a new leader that reads a document of half a minute ago misses
nothing of the edges that run on, for they tell totals; only what an edge's process had left over that ended
since then is lost. What is longer than `USAGE_BYTES_MAX` (400 days of some 2,000 keys) lacks its oldest days.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from farcast.control_plane.access_book import KeptAccess
from farcast.control_plane.branches import Tree, Upstreams
from farcast.control_plane.directory import Fields
from farcast.control_plane.intents import BadIntents, decode, encode
from farcast.control_plane.quota_shares import Shares
from farcast.control_plane.store import Restored, Save
from farcast.control_plane.trust_book import KeptTrust
from farcast.control_plane.usage_book import DAYS_MAX, Account, KeptUsage, Meter, Seen
from farcast.proto.control.messages import Hello

FORMAT: Final = 1
PART_BYTES_MAX: Final = 192 << 10
"""A part as JSON in a transaction takes a third more, and has company."""
PARTS_MAX: Final = 256
DOCUMENT_BYTES_MAX: Final = 64 << 20
"""Of a document, unpacked."""
USAGE_BYTES_MAX: Final = 48 << 20
"""Of the usage, unpacked."""
ORDERS: Final = ("intents", "access", "trust")
FOLLOWING: Final = ("members", "trees", "offers", "shares", "usage")
NAMES: Final = (*ORDERS, *FOLLOWING)


class BadDocument(ValueError):
    """What stands in Consul is not to be trusted; one sentence that names the key."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A document as it lies in Consul."""

    sha256: str
    parts: tuple[bytes, ...]

    @property
    def head(self) -> bytes:
        """Its head."""
        size = sum(map(len, self.parts))
        told = {"format": FORMAT, "bytes": size, "parts": len(self.parts), "sha256": self.sha256}
        return json.dumps(told).encode()


@dataclass(slots=True)
class Known:
    """All documents of a leader, kept up to date by its saves."""

    restored: Restored
    trees: dict[str, Tree] = field(init=False)
    offers: dict[tuple[Fields, str], int] = field(init=False)
    accounts: dict[str, Account] = field(init=False)
    meters: dict[Meter, Seen] = field(init=False)

    def __post_init__(self) -> None:
        self.trees = dict(self.restored.trees)
        self.offers = {(namespace, node_id): at_us for namespace, node_id, at_us in self.restored.offers}
        self.accounts = dict(self.restored.usage.accounts)
        self.meters = dict(self.restored.usage.meters)

    def take(self, save: Save) -> set[str]:
        """What may have changed: names of documents."""
        whole = {name: getattr(save, name) for name in (*ORDERS, "members", "shares")}
        given = {name: value for name, value in whole.items() if value is not None}
        self.restored = replace(self.restored, **given)
        for origin, tree in save.trees.items():
            if tree is None:
                self.trees.pop(origin, None)
            else:
                self.trees[origin] = tree
        for offer in save.offers:
            if offer.since_us is None:
                self.offers.pop((offer.namespace, offer.node_id), None)
            else:
                self.offers[offer.namespace, offer.node_id] = offer.since_us
        if save.usage is not None:
            self.accounts.update(save.usage.accounts)
            for meter, seen in save.usage.meters.items():
                if seen is None:
                    self.meters.pop(meter, None)
                else:
                    self.meters[meter] = seen
        rows = {"trees": save.trees, "offers": save.offers, "usage": save.usage}
        return {*given, *(name for name, changes in rows.items() if changes)}

    def pack(self, name: str) -> Packed:
        """A document."""
        body = zlib.compress(_WRITERS[name](self), 1)
        parts = tuple(body[at : at + PART_BYTES_MAX] for at in range(0, len(body), PART_BYTES_MAX))
        return Packed(hashlib.sha256(body).hexdigest(), parts)


def unpack(prefix: str, values: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, str]]:
    """Documents by name, as `merged` takes them, and their hashes, from all keys below ``prefix``. Raises
    `BadDocument`."""
    documents, hashes = {}, {}
    for name in NAMES:
        head = values.get(f"{prefix}/{name}")
        if head is None:
            continue
        try:
            sha256, body = _body(head, f"{prefix}/{name}", values)
            documents[name] = _READERS[name](_inflated(body))
        except (ValueError, TypeError, KeyError, RecursionError, zlib.error, BadIntents) as error:
            text = " ".join(str(error).split())[:200]
            raise BadDocument(
                f"{prefix}/{name} in Consul is damaged ({type(error).__name__}: {text}); put a copy back, or "
                "delete that key: then the state directory of this machine counts"
            ) from error
        hashes[name] = sha256
    return documents, hashes


def strays(prefix: str, keys: Iterable[str], hashes: Mapping[str, str]) -> dict[str, set[str]]:
    """What lies there and belongs to no document: name to hashes."""
    found: dict[str, set[str]] = {}
    for key in keys:
        name, _, rest = key.removeprefix(f"{prefix}/").partition("/")
        sha256 = rest.partition("/")[0]
        if sha256 and name in NAMES and sha256 != hashes.get(name):
            found.setdefault(name, set()).add(sha256)
    return found


def merged(restored: Restored, documents: Mapping[str, Any]) -> Restored:
    """What this machine's disk has, with what Consul has instead, where it has something."""
    return replace(restored, **documents)


def _body(head: bytes, folder: str, values: Mapping[str, bytes]) -> tuple[str, bytes]:
    told = json.loads(head)
    if told["format"] != FORMAT:
        raise ValueError(f"its format is {told['format']!r}, this version reads {FORMAT}")
    sha256, count = str(told["sha256"]), told["parts"]
    if type(count) is not int or not 0 < count <= PARTS_MAX:
        raise ValueError(f"{count!r} parts")
    body = b"".join(values[f"{folder}/{sha256}/{at}"] for at in range(count))
    if hashlib.sha256(body).hexdigest() != sha256:
        raise ValueError("it has another checksum")
    return sha256, body


def _inflated(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    unpacked = inflater.decompress(body, DOCUMENT_BYTES_MAX)
    if not inflater.eof:
        raise ValueError(f"it has more than {DOCUMENT_BYTES_MAX} bytes, or is cut off")
    return unpacked


def _write_usage(known: Known) -> bytes:
    accounts, kept = known.accounts, DAYS_MAX
    meters = [(*meter, seen) for meter, seen in known.meters.items()]
    while len(body := _pack((accounts, meters))) > USAGE_BYTES_MAX and kept:
        kept //= 2
        accounts = {key_id: _newest(account, kept) for key_id, account in accounts.items()}
    return body


def _newest(account: Account, days: int) -> Account:
    """The same total, and fewer days."""
    newest = sorted(account.days)[-days:] if days else []
    return Account(account.total, {day: account.days[day] for day in newest})


def _read_usage(body: bytes) -> KeptUsage:
    accounts, meters = msgspec.msgpack.decode(body, type=_Usage)
    return KeptUsage(accounts, {(node_id, meter): seen for node_id, meter, seen in meters})


_Usage = tuple[dict[str, Account], list[tuple[str, str, Seen]]]
_pack: Final = msgspec.msgpack.encode
_WRITERS: Final[Mapping[str, Callable[[Known], bytes]]] = {
    "intents": lambda known: encode(known.restored.intents),
    "access": lambda known: _pack(known.restored.access),
    "trust": lambda known: _pack(known.restored.trust),
    "members": lambda known: _pack(known.restored.members),
    "shares": lambda known: _pack(known.restored.shares),
    "usage": _write_usage,
    "trees": lambda known: _pack({origin: dict(tree) for origin, tree in known.trees.items()}),
    "offers": lambda known: _pack([(*key, at_us) for key, at_us in known.offers.items()]),
}
_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "intents": decode,
    "access": lambda body: msgspec.msgpack.decode(body, type=KeptAccess),
    "trust": lambda body: msgspec.msgpack.decode(body, type=KeptTrust),
    "members": lambda body: msgspec.msgpack.decode(body, type=tuple[Hello, ...]),
    "shares": lambda body: msgspec.msgpack.decode(body, type=Shares),
    "usage": _read_usage,
    "trees": lambda body: msgspec.msgpack.decode(body, type=dict[str, dict[str, Upstreams]]),
    "offers": lambda body: msgspec.msgpack.decode(body, type=tuple[tuple[Fields, str, int], ...]),
}
