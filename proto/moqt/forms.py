"""Forms of parameter values: how one value is read and written.

A *form* is a pair of functions over :class:`Reader` and :class:`Writer`. The drafts differ in which form a
parameter has, not in the forms: draft 16 knows varints (even types) and length-prefixed bytes (odd types);
later drafts also have single bytes and bare structures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farcast.proto.moqt.errors import ProtocolError, SessionCode, violation
from farcast.proto.moqt.keyvalue import VALUE_BYTES_MAX
from farcast.proto.moqt.parameters import HOP_PATH_NODES_MAX, NODE_TEXT_BYTES_MAX
from farcast.proto.moqt.values import (
    U64_MAX,
    AuthToken,
    Filter,
    FilterKind,
    GroupOrder,
    Location,
    TokenAliasType,
)
from farcast.proto.moqt.wire import Reader, Writer


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is read from and written to a message."""

    read: Callable[[Reader], Any]
    write: Callable[[Writer, Any], None]


def prefixed(form: Form, mismatch: SessionCode = SessionCode.KEY_VALUE_FORMATTING_ERROR) -> Form:
    """``form`` behind its length; bytes that are not exactly the value are a session error ``mismatch``."""

    def read(reader: Reader) -> Any:
        inner = Reader(reader.length_prefixed(VALUE_BYTES_MAX, "parameter"), reader.varint_kind)
        try:
            value = form.read(inner)
            inner.finish()
        except ProtocolError as error:
            raise ProtocolError(mismatch, error.reason) from None
        return value

    def write(writer: Writer, value: Any) -> None:
        inner = Writer(writer.varint_kind)
        form.write(inner, value)
        writer.length_prefixed(inner.data())

    return Form(read, write)


def checked(form: Form, allowed: Callable[[Any], bool], what: str) -> Form:
    """``form``, with a PROTOCOL_VIOLATION for a value that is not allowed; ``ValueError`` when writing
    one."""

    def read(reader: Reader) -> Any:
        value = form.read(reader)
        if not allowed(value):
            raise violation(f"{value} is not a valid {what}")
        return value

    def write(writer: Writer, value: Any) -> None:
        if not allowed(value):
            raise ValueError(f"{value} is not a valid {what}")
        form.write(writer, value)

    return Form(read, write)


def mapped(form: Form, decode: Callable[[Any], Any], encode: Callable[[Any], Any]) -> Form:
    """``form`` with its value converted; ``decode`` may raise :class:`ProtocolError`."""
    return Form(
        lambda reader: decode(form.read(reader)), lambda writer, value: form.write(writer, encode(value))
    )


VARINT = Form(Reader.varint, lambda writer, value: writer.varint(min(value, writer.varint_kind.value_max)))
"""Durations, counts and places from another session may exceed what this draft can say: the largest it can is
as good as they are."""

UINT8 = Form(Reader.uint8, Writer.uint8)
NAMESPACE = Form(Reader.namespace, Writer.namespace)


def _write_location(writer: Writer, location: Location) -> None:
    largest = writer.varint_kind.value_max
    writer.location(Location(min(location.group, largest), min(location.object, largest)))


LOCATION = Form(Reader.location, _write_location)


def boolean(number: Form) -> Form:
    """0 or 1 in the given form of number."""
    return mapped(checked(number, lambda value: value in (0, 1), "flag"), bool, int)


def small(number: Form) -> Form:
    """0 to 255 in the given form of number."""
    return checked(number, lambda value: 0 <= value <= 255, "priority")


def positive(number: Form) -> Form:
    """Anything but 0."""
    return checked(number, lambda value: value > 0, "duration")


_GROUP_ORDERS = {1: GroupOrder.ASCENDING, 2: GroupOrder.DESCENDING}
_GROUP_ORDER_NUMBERS = {order: number for number, order in _GROUP_ORDERS.items()}


def group_order(number: Form) -> Form:
    """1 (ascending) or 2 (descending) in the given form of number."""
    valid = checked(number, lambda value: value in _GROUP_ORDERS, "group order")
    return mapped(valid, _GROUP_ORDERS.__getitem__, _GROUP_ORDER_NUMBERS.__getitem__)


def subscription_filter(*, end_is_delta: bool) -> Form:
    """A Subscription Filter; its last field is the end group, or (from draft 17 on) its distance from the
    start."""

    def read(reader: Reader) -> Filter:
        kind = reader.varint()
        if kind not in _FILTER_KINDS:
            raise violation(f"filter type {kind:#x}")
        start = reader.location() if kind in _WITH_START else None
        end = reader.varint() if kind == FilterKind.ABSOLUTE_RANGE else None
        if start is not None and end is not None:
            end = start.group + end if end_is_delta else end
            if not start.group <= end <= U64_MAX:
                raise violation(f"filter from group {start.group} to group {end}")
        return Filter(FilterKind(kind), start, end)

    def write(writer: Writer, value: Filter) -> None:
        writer.varint(value.kind)
        if value.start is not None:
            _write_location(writer, value.start)
        if value.start is not None and value.end_group is not None:
            VARINT.write(writer, value.end_group - value.start.group if end_is_delta else value.end_group)

    return prefixed(Form(read, write), SessionCode.PROTOCOL_VIOLATION)


_FILTER_KINDS = frozenset(FilterKind)
_WITH_START = (FilterKind.ABSOLUTE_START, FilterKind.ABSOLUTE_RANGE)


def read_token(reader: Reader) -> AuthToken:
    """A Token structure (draft 18, section 10.2.2)."""
    number = reader.varint()
    if number not in _ALIAS_TYPES:
        raise violation(f"token alias type {number:#x}")
    kind = TokenAliasType(number)
    alias = reader.varint() if kind is not TokenAliasType.USE_VALUE else None
    if kind in (TokenAliasType.DELETE, TokenAliasType.USE_ALIAS):
        return AuthToken(kind, alias)
    return AuthToken(kind, alias, reader.varint(), reader.rest())


def write_token(writer: Writer, token: AuthToken) -> None:
    """The inverse."""
    writer.varint(token.alias_type)
    if token.alias is not None:
        writer.varint(token.alias)
    if token.token_type is not None and token.value is not None:
        writer.varint(token.token_type)
        writer.raw(token.value)


_ALIAS_TYPES = frozenset(TokenAliasType)
TOKEN = Form(read_token, write_token)


def _read_node_text(reader: Reader) -> str:
    data = reader.length_prefixed(NODE_TEXT_BYTES_MAX, "node id")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise violation("node id is not UTF-8") from None


def _write_node_text(writer: Writer, text: str) -> None:
    data = text.encode()
    if len(data) > NODE_TEXT_BYTES_MAX:
        raise ValueError(f"node id of {len(data)} bytes, at most {NODE_TEXT_BYTES_MAX} are allowed")
    writer.length_prefixed(data)


NODE_TEXT = Form(_read_node_text, _write_node_text)


def _read_hop_path(reader: Reader) -> tuple[str, ...]:
    count = reader.varint()
    if count > HOP_PATH_NODES_MAX:
        raise violation(f"hop path of {count} nodes, at most {HOP_PATH_NODES_MAX} are allowed")
    return tuple(_read_node_text(reader) for _ in range(count))


def _write_hop_path(writer: Writer, path: tuple[str, ...]) -> None:
    if len(path) > HOP_PATH_NODES_MAX:
        raise ValueError(f"hop path of {len(path)} nodes, at most {HOP_PATH_NODES_MAX} are allowed")
    writer.varint(len(path))
    for node in path:
        _write_node_text(writer, node)


HOP_PATH = Form(_read_hop_path, _write_hop_path)
