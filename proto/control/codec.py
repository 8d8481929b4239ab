"""Frames and records of the control channel: four bytes of length, big-endian, then one MessagePack map.

Decoding is the gate: what passes has the right types, is within `farcast.proto.control.ranges`, and obeys
the rules below that look at more than one field. A length above the limit is refused before anything of the
message is held, so that a peer can make an end keep one message at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from farcast.proto.control.messages import (
    BURST_BUCKETS,
    VERSION,
    DirectoryEntry,
    FromControl,
    FromEdge,
    Hello,
    LinkReport,
    NodeInfo,
    Offer,
    PlanDelta,
    Record,
    Report,
)
from farcast.proto.control.ranges import as_text
from farcast.proto.moqt.names import FULL_TRACK_NAME_BYTES_MAX

FROM_EDGE_BYTES_MAX: Final = 1 << 20
"""Longest message of an edge, without its four bytes of length."""

FROM_CONTROL_BYTES_MAX: Final = 16 << 20
"""Longest message of the control plane, likewise."""

VERSIONS: Final[tuple[int, ...]] = tuple(version for version in (VERSION, VERSION - 1) if version >= 1)
"""What an end offers, most wanted first: N and N-1."""

_LENGTH_BYTES = 4
_PORT_MAX = 65_535

_Decoded = TypeVar("_Decoded")


class BadMessage(Exception):
    """The peer sent what it must not; ``reason`` is one sentence that names the place."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MessageTooLarge(ValueError):
    """Our own message is above the limit of what the peer takes."""


_ENCODER = msgspec.msgpack.Encoder()
_FROM_EDGE: msgspec.msgpack.Decoder[FromEdge] = msgspec.msgpack.Decoder(FromEdge)
_FROM_CONTROL: msgspec.msgpack.Decoder[FromControl] = msgspec.msgpack.Decoder(FromControl)


def encode(message: FromEdge | FromControl) -> bytes:
    """The message in its frame. Raises `MessageTooLarge`."""
    limit = FROM_EDGE_BYTES_MAX if isinstance(message, FromEdge) else FROM_CONTROL_BYTES_MAX
    body = _ENCODER.encode(message)
    if len(body) > limit:
        raise MessageTooLarge(f"{type(message).__name__} of {len(body)} bytes, at most {limit}")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def encoded_bytes(record: Record) -> int:
    """Length of a record as MessagePack, without a frame."""
    return len(_ENCODER.encode(record))


def decode_from_edge(body: bytes) -> FromEdge:
    """A message of an edge, without its length. Raises `BadMessage`."""
    return decode_record(_FROM_EDGE, body, FROM_EDGE_BYTES_MAX)


def decode_from_control(body: bytes) -> FromControl:
    """A message of the control plane, without its length. Raises `BadMessage`."""
    return decode_record(_FROM_CONTROL, body, FROM_CONTROL_BYTES_MAX)


def decode_record(decoder: msgspec.msgpack.Decoder[_Decoded], body: bytes, bytes_max: int) -> _Decoded:
    """``body`` by ``decoder``, with all checks. Raises `BadMessage`."""
    if len(body) > bytes_max:
        raise BadMessage(f"message of {len(body)} bytes, at most {bytes_max}")
    try:
        message = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadMessage(as_text(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
        raise BadMessage(as_text(f"not MessagePack: {error}")) from None
    except RecursionError:
        raise BadMessage("nested too deep") from None
    check_message(message)
    return message


class Framer:
    """Cuts a stream of bytes into message bodies; holds one incomplete message at most."""

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._data = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the rest of their message, or to be taken out."""
        return len(self._data)

    def push(self, data: bytes) -> None:
        """Append what arrived."""
        self._data += data

    def next(self) -> bytes | None:
        """The next whole body, or ``None`` until more arrives. Raises `BadMessage` for its length."""
        if len(self._data) < _LENGTH_BYTES:
            return None
        length = int.from_bytes(self._data[:_LENGTH_BYTES], "big")
        if not 0 < length <= self._message_bytes_max:
            raise BadMessage(f"message of {length} bytes, 1 to {self._message_bytes_max} are allowed")
        end = _LENGTH_BYTES + length
        if len(self._data) < end:
            return None
        body = bytes(self._data[_LENGTH_BYTES:end])
        del self._data[:end]
        return body

    def clear(self) -> None:
        """Forget everything held."""
        self._data.clear()


# ---- Rules over more than one field ---------------------------------------------------------------

_Fault = tuple[str, str]
"""What is wrong, and the path to it from the record that was looked at."""

_Item = TypeVar("_Item")


def check_message(message: object) -> None:
    """Apply the rules that a field's type cannot express. Raises `BadMessage`."""
    rule = _RULES.get(type(message))
    fault = None if rule is None else rule(message)
    if fault is not None:
        raise BadMessage(f"{fault[0]} - at `$.{fault[1]}`")


def _check_hello(hello: Hello) -> _Fault | None:
    return _check_address(hello.advertise, "advertise")


def _check_report(report: Report) -> _Fault | None:
    return (
        _check_each(report.links, _check_link, "links")
        or _check_each(report.offered, _check_named, "offered")
        or _check_each(report.withdrawn, _check_namespace, "withdrawn")
    )


def _check_link(link: LinkReport) -> _Fault | None:
    if link.rx_lost > link.rx_packets:
        return f"{link.rx_lost} packets lost of {link.rx_packets}", ".rx_lost"
    lengths = len(link.rx_bursts)
    if lengths not in (0, BURST_BUCKETS):
        return f"{lengths} burst lengths, {BURST_BUCKETS} or none are allowed", ".rx_bursts"
    return None


def _check_plan(delta: PlanDelta) -> _Fault | None:
    return (
        _check_each(delta.nodes, _check_node, "nodes")
        or _check_each(delta.directory, _check_named, "directory")
        or _check_each(delta.directory_removed, _check_namespace, "directory_removed")
    )


def _check_node(node: NodeInfo) -> _Fault | None:
    return _check_address(node.address, ".address")


def _check_named(entry: Offer | DirectoryEntry) -> _Fault | None:
    fault = _check_namespace(entry.namespace)
    return None if fault is None else (fault[0], ".namespace")


def _check_namespace(fields: tuple[bytes, ...]) -> _Fault | None:
    length = sum(map(len, fields))
    if length > FULL_TRACK_NAME_BYTES_MAX:
        return f"namespace of {length} bytes, at most {FULL_TRACK_NAME_BYTES_MAX} are allowed", ""
    return None


def _check_address(address: str, path: str) -> _Fault | None:
    port = int(address.rpartition(":")[2])
    if not 0 < port <= _PORT_MAX:
        return f"port {port}, 1 to {_PORT_MAX} are allowed", path
    return None


def _check_each(
    items: tuple[_Item, ...], check: Callable[[_Item], _Fault | None], path: str
) -> _Fault | None:
    for index, item in enumerate(items):
        fault = check(item)
        if fault is not None:
            return fault[0], f"{path}[{index}]{fault[1]}"
    return None


_RULES: Final[Mapping[type, Callable[[Any], _Fault | None]]] = {
    Hello: _check_hello,
    Report: _check_report,
    PlanDelta: _check_plan,
}
