"""Whole control messages to and from bytes, under a profile.

::

    Control Message {
      Message Type (varint),
      Message Length (16),
      Message Payload (..),
    }
"""

from __future__ import annotations

from farcast.proto.moqt.errors import violation
from farcast.proto.moqt.fields import Context, Values
from farcast.proto.moqt.messages import Message
from farcast.proto.moqt.profile import MessageRow, Profile
from farcast.proto.moqt.wire import Reader, Writer

PAYLOAD_BYTES_MAX = 65_535


class MessageTooLarge(ValueError):
    """A message of ours does not fit the 65,535 bytes of a control message in this draft."""


def encode_message(message: Message, profile: Profile) -> bytes:
    """The message with its type and length.

    Raises ``ValueError`` for what the draft cannot say, :class:`MessageTooLarge` for too much of it.
    """
    row = profile.layouts.get(type(message))
    if row is None:
        raise ValueError(f"{profile.name} has no {type(message).__name__}")
    writer = Writer(profile.varint)
    context = Context(profile, row.message)
    for field in row.fields:
        field.write(writer, context, getattr(message, field.attribute))
    payload = writer.data()
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise MessageTooLarge(f"{row.message.__name__} of {len(payload)} bytes")
    return profile.varint.encode(row.number) + len(payload).to_bytes(2, "big") + payload


def decode_message(row: MessageRow, payload: bytes, profile: Profile) -> Message:
    """The message of this row from its payload. Raises :class:`ProtocolError` and nothing else."""
    reader = Reader(payload, profile.varint)
    context = Context(profile, row.message)
    values: Values = {}
    for field in row.fields:
        values[field.attribute] = field.read(reader, context, values)
    reader.finish()
    return row.message(**values)


def row_for(kind: int, profile: Profile) -> MessageRow:
    """The row of a message type. An unknown type is a violation."""
    row = profile.messages.get(kind)
    if row is None:
        raise violation(f"unknown message type {kind:#x}")
    return row
