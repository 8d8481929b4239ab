"""Fields of message layouts: what stands between the length of a control message and its end.

A layout is a tuple of these fields; the profiles spell one out per message and draft. Each field reads into,
and writes from, the attribute of the message that it is named after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farcast.proto.moqt.errors import RequestCode, violation
from farcast.proto.moqt.keyvalue import Pairs, decode_pairs, encode_pairs, expressible
from farcast.proto.moqt.messages import (
    REASON_BYTES_MAX,
    URI_BYTES_MAX,
    JoiningFetch,
    Message,
    StandaloneFetch,
)
from farcast.proto.moqt.names import FULL_TRACK_NAME_BYTES_MAX, FullTrackName
from farcast.proto.moqt.parameter_block import read_parameters, write_parameters
from farcast.proto.moqt.setup_options import read_options, write_options
from farcast.proto.moqt.values import Interest, Location, Redirect
from farcast.proto.moqt.wire import Reader, Writer

if TYPE_CHECKING:
    from farcast.proto.moqt.profile import Profile

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """Where a field stands: in which draft and in which kind of message."""

    profile: Profile
    message: type[Message]


@dataclass(frozen=True, slots=True)
class Field:
    """One attribute of a message. ``read`` also gets the values of the fields before it."""

    attribute: str
    read: Callable[[Reader, Context, Values], Any]
    write: Callable[[Writer, Context, Any], None]


def number(attribute: str) -> Field:
    """A varint."""
    return Field(attribute, lambda reader, _context, _values: reader.varint(), _write_number)


def _write_number(writer: Writer, _context: Context, value: int) -> None:
    writer.varint(value)


def text(attribute: str, bytes_max: int) -> Field:
    """Length-prefixed text for people; ours is cut to ``bytes_max``."""

    def write(writer: Writer, _context: Context, value: str) -> None:
        writer.length_prefixed(cut(value, bytes_max))

    return Field(attribute, lambda reader, _context, _values: reader.text(bytes_max, attribute), write)


def cut(value: str, bytes_max: int) -> bytes:
    """UTF-8 of at most so many bytes, never ending inside a character."""
    return value.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore").encode()


def _read_uri(reader: Reader, _context: Context, _values: Values) -> str:
    return reader.text(URI_BYTES_MAX, "URI")


def _write_uri(writer: Writer, _context: Context, value: str) -> None:
    data = value.encode()
    if len(data) > URI_BYTES_MAX:
        raise ValueError(f"URI of {len(data)} bytes, at most {URI_BYTES_MAX} are allowed")
    writer.length_prefixed(data)


def _read_trailing_id(reader: Reader, _context: Context, _values: Values) -> int | None:
    return reader.varint() if reader.remaining else None


def _write_trailing_id(writer: Writer, _context: Context, value: int | None) -> None:
    if value is not None:
        writer.varint(value)


def _write_timeout(writer: Writer, _context: Context, value: int | None) -> None:
    writer.varint(value or 0)


def _read_interest(reader: Reader, _context: Context, _values: Values) -> Interest:
    value = reader.varint()
    if value not in _INTERESTS:
        raise violation(f"subscribe options {value:#x}")
    return Interest(value)


def _write_interest(writer: Writer, _context: Context, value: Interest | None) -> None:
    writer.varint(Interest.NAMESPACE if value is None else value)


_INTERESTS = frozenset(Interest)


def _read_track_properties(reader: Reader, context: Context, _values: Values) -> Pairs:
    pairs = decode_pairs(reader.rest(), reader.varint_kind)
    for kind, value in pairs:
        allowed = context.profile.track_property_values.get(kind)
        if allowed is not None and isinstance(value, int) and not allowed(value):
            raise violation(f"track property {kind:#x} must not be {value}")
    return pairs


def _write_track_properties(writer: Writer, _context: Context, value: Pairs) -> None:
    writer.raw(encode_pairs(expressible(value, writer.varint_kind), writer.varint_kind))


def _read_redirect(reader: Reader, context: Context, values: Values) -> Redirect | None:
    if values["code"] != context.profile.request_codes[RequestCode.REDIRECT]:
        return None
    return Redirect(reader.text(URI_BYTES_MAX, "URI"), reader.track_name())


def _write_redirect(writer: Writer, context: Context, value: Redirect | None) -> None:
    if value is not None:
        _write_uri(writer, context, value.uri)
        writer.track_name(value.name)


_JOINING_KINDS = {2: True, 3: False}


def _read_fetch(reader: Reader, context: Context, _values: Values) -> StandaloneFetch | JoiningFetch:
    kind = reader.varint()
    if kind == 1:
        name = reader.track_name(context.profile.namespace_fields_min)
        return StandaloneFetch(name, reader.location(), reader.location())
    if kind not in _JOINING_KINDS:
        raise violation(f"fetch type {kind:#x}")
    return JoiningFetch(_JOINING_KINDS[kind], reader.varint(), reader.varint())


def _write_fetch(writer: Writer, _context: Context, value: StandaloneFetch | JoiningFetch) -> None:
    if isinstance(value, StandaloneFetch):
        writer.varint(1)
        writer.track_name(value.name)
        writer.location(value.start)
        writer.location(value.end)
        return
    writer.varint(2 if value.relative else 3)
    writer.varint(value.subscription_request_id)
    writer.varint(value.start)


def _read_flag(reader: Reader, _context: Context, _values: Values) -> bool:
    value = reader.uint8()
    if value > 1:
        raise violation(f"flag of {value}")
    return bool(value)


def _read_location(reader: Reader, _context: Context, _values: Values) -> Location:
    return reader.location()


def _write_location(writer: Writer, _context: Context, value: Location) -> None:
    writer.location(value)


def _read_track_name(reader: Reader, context: Context, _values: Values) -> FullTrackName:
    return reader.track_name(context.profile.namespace_fields_min)


REQUEST_ID = number("request_id")
EXISTING_REQUEST_ID = number("existing_request_id")
ALIAS = number("alias")
CODE = number("code")
RETRY = number("retry")
STATUS = number("status")
STREAM_COUNT = number("stream_count")
REASON = text("reason", REASON_BYTES_MAX)
URI = Field("uri", _read_uri, _write_uri)
TIMEOUT = Field("timeout_ms", lambda reader, _context, _values: reader.varint(), _write_timeout)
TRAILING_REQUEST_ID = Field("request_id", _read_trailing_id, _write_trailing_id)
NAME = Field("name", _read_track_name, lambda writer, _context, value: writer.track_name(value))
NAMESPACE = Field(
    "namespace",
    lambda reader, context, _values: reader.namespace(context.profile.namespace_fields_min),
    lambda writer, _context, value: writer.namespace(value),
)
PREFIX = Field(
    "prefix",
    lambda reader, _context, _values: reader.namespace(),
    lambda writer, _context, value: writer.namespace(value),
)
OPTIONS = Field(
    "options",
    lambda reader, context, _values: read_options(reader, context.profile),
    lambda writer, context, value: write_options(writer, context.profile, value),
)
SUFFIX = Field(
    "suffix",
    lambda reader, _context, _values: reader.namespace(),
    lambda writer, _context, value: writer.namespace(value),
)
TRACK_NAME = Field(
    "track_name",
    lambda reader, _context, _values: reader.length_prefixed(FULL_TRACK_NAME_BYTES_MAX, "track name"),
    lambda writer, _context, value: writer.length_prefixed(value),
)
INTEREST = Field("interest", _read_interest, _write_interest)
FETCH = Field("fetch", _read_fetch, _write_fetch)
END_OF_TRACK = Field("end_of_track", _read_flag, lambda writer, _context, value: writer.uint8(int(value)))
END = Field("end", _read_location, _write_location)
TRACK_PROPERTIES = Field("track_properties", _read_track_properties, _write_track_properties)
PARAMETERS = Field(
    "parameters",
    lambda reader, context, _values: read_parameters(reader, context.profile, context.message),
    lambda writer, context, value: write_parameters(writer, context.profile, context.message, value),
)
REDIRECT = Field("redirect", _read_redirect, _write_redirect)
