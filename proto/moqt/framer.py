"""Cuts the bytes of a control or request stream into control messages, as they come."""

from __future__ import annotations

from farcast.proto.moqt.codec import row_for
from farcast.proto.moqt.errors import violation
from farcast.proto.moqt.profile import MessageRow, Profile
from farcast.proto.moqt.varint import Truncated


class Framer:
    """Holds at most one incomplete message.

    An unknown type or a length above the limit is an error as soon as it can be read, not when the message is
    complete: nothing is waited for that would be refused.
    """

    def __init__(self, profile: Profile, message_bytes_max: int) -> None:
        self._profile = profile
        self._message_bytes_max = message_bytes_max
        self._data = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of messages that have not been taken out."""
        return len(self._data)

    def push(self, data: bytes) -> None:
        """Appends what arrived."""
        self._data += data

    def next(self) -> tuple[MessageRow, bytes] | None:
        """The next whole message as row and payload, or ``None`` until more arrives.

        Raises :class:`ProtocolError`.
        """
        try:
            kind, offset = self._profile.varint.decode(self._data)
        except Truncated:
            return None
        row = row_for(kind, self._profile)
        body = offset + 2
        if len(self._data) < body:
            return None
        end = body + int.from_bytes(self._data[offset:body], "big")
        if end - body > self._message_bytes_max:
            raise violation(
                f"{row.message.__name__} of {end - body} bytes, at most {self._message_bytes_max}"
            )
        if len(self._data) < end:
            return None
        payload = bytes(self._data[body:end])
        del self._data[:end]
        return row, payload
