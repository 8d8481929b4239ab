"""Reading and writing the body of one control message.

A :class:`Reader` turns whatever is wrong with the bytes into :class:`ProtocolError`; a :class:`Writer` raises
``ValueError`` for what our own side cannot say in this draft.
"""

from __future__ import annotations

from farcast.proto.moqt.errors import violation
from farcast.proto.moqt.names import (
    FULL_TRACK_NAME_BYTES_MAX,
    NAMESPACE_FIELDS_MAX,
    FullTrackName,
    InvalidName,
    TrackNamespace,
)
from farcast.proto.moqt.values import Location
from farcast.proto.moqt.varint import Truncated, Varint


class Reader:
    """A cursor over the body of a message."""

    def __init__(self, data: bytes, varint: Varint) -> None:
        self.varint_kind = varint
        self._data = data
        self._offset = 0

    @property
    def remaining(self) -> int:
        """Bytes that have not been read."""
        return len(self._data) - self._offset

    def varint(self) -> int:
        """A variable-length integer of this draft's kind."""
        try:
            value, self._offset = self.varint_kind.decode(self._data, self._offset)
        except Truncated:
            raise violation("message ends inside an integer") from None
        return value

    def uint8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def take(self, length: int) -> bytes:
        """Exactly ``length`` bytes."""
        if length > self.remaining:
            raise violation(f"message ends {length - self.remaining} bytes inside a field")
        data = self._data[self._offset : self._offset + length]
        self._offset += length
        return data

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.remaining)

    def length_prefixed(self, bytes_max: int, what: str) -> bytes:
        """A length and that many bytes; a length above ``bytes_max`` is a violation."""
        length = self.varint()
        if length > bytes_max:
            raise violation(f"{what} of {length} bytes, at most {bytes_max} are allowed")
        return self.take(length)

    def text(self, bytes_max: int, what: str) -> str:
        """Length-prefixed UTF-8. Bytes that are not UTF-8 are replaced, as such text is for people only."""
        return self.length_prefixed(bytes_max, what).decode("utf-8", "replace")

    def location(self) -> Location:
        """Group and object."""
        return Location(self.varint(), self.varint())

    def namespace(self, fields_min: int = 0) -> TrackNamespace:
        """A track namespace, prefix or suffix with at least ``fields_min`` fields."""
        count = self.varint()
        if not fields_min <= count <= NAMESPACE_FIELDS_MAX:
            raise violation(
                f"namespace of {count} fields, {fields_min} to {NAMESPACE_FIELDS_MAX} are allowed"
            )
        fields = tuple(
            self.length_prefixed(FULL_TRACK_NAME_BYTES_MAX, "namespace field") for _ in range(count)
        )
        try:
            return TrackNamespace(fields)
        except InvalidName as error:
            raise violation(str(error)) from None

    def track_name(self, fields_min: int = 0) -> FullTrackName:
        """A namespace and a track name."""
        namespace = self.namespace(fields_min)
        name = self.length_prefixed(FULL_TRACK_NAME_BYTES_MAX, "track name")
        try:
            return FullTrackName(namespace, name)
        except InvalidName as error:
            raise violation(str(error)) from None

    def finish(self) -> None:
        """Checks that nothing is left."""
        if self.remaining:
            raise violation(f"{self.remaining} bytes follow the last field of the message")


class Writer:
    """Collects the body of a message."""

    def __init__(self, varint: Varint) -> None:
        self.varint_kind = varint
        self._data = bytearray()

    def varint(self, value: int) -> None:
        """A variable-length integer of this draft's kind."""
        self._data += self.varint_kind.encode(value)

    def uint8(self, value: int) -> None:
        """One byte."""
        self._data.append(value)

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self._data += data

    def length_prefixed(self, data: bytes) -> None:
        """A length and the bytes."""
        self.varint(len(data))
        self._data += data

    def location(self, location: Location) -> None:
        """Group and object."""
        self.varint(location.group)
        self.varint(location.object)

    def namespace(self, namespace: TrackNamespace) -> None:
        """A track namespace, prefix or suffix."""
        self.varint(len(namespace.fields))
        for field in namespace.fields:
            self.length_prefixed(field)

    def track_name(self, name: FullTrackName) -> None:
        """A namespace and a track name."""
        self.namespace(name.namespace)
        self.length_prefixed(name.name)

    def data(self) -> bytes:
        """What was written."""
        return bytes(self._data)
