"""Names of namespaces and tracks (draft 18, section 2.4.1; draft 16, section 2.4.1).

A namespace is a tuple of 0 to 32 non-empty byte strings; a track is a namespace and one more byte string,
which may be empty. Together they are at most 4,096 bytes. Comparison is byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NAMESPACE_FIELDS_MAX = 32
FULL_TRACK_NAME_BYTES_MAX = 4096

_LITERAL = re.compile(rb"[a-zA-Z0-9_]")
_FIELD = re.compile(r"(?:[a-zA-Z0-9_]|\.[0-9a-f]{2})*")
_ESCAPE = re.compile(r"\.([0-9a-f]{2})|([a-zA-Z0-9_])")


class InvalidName(ValueError):
    """A namespace or track name that MoQT does not allow."""


@dataclass(frozen=True, slots=True, order=True)
class TrackNamespace:
    """An ordered set of namespace fields; also used for prefixes and suffixes.

    Raises ``InvalidName`` for more than 32 fields, an empty field, or more than 4,096 bytes in all.
    """

    fields: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.fields) > NAMESPACE_FIELDS_MAX:
            raise InvalidName(
                f"{len(self.fields)} namespace fields, at most {NAMESPACE_FIELDS_MAX} are allowed"
            )
        if not all(self.fields):
            raise InvalidName("a namespace field is empty")
        if self.byte_length > FULL_TRACK_NAME_BYTES_MAX:
            raise InvalidName(f"namespace of {self.byte_length} bytes, at most {FULL_TRACK_NAME_BYTES_MAX}")

    @classmethod
    def parse(cls, text: str) -> TrackNamespace:
        """The namespace that a slash-separated path names: ``"live/room1"`` is ``(b"live", b"room1")``.

        Leading, trailing and double slashes are ignored; the empty path is the empty namespace.
        """
        return cls(tuple(part.encode() for part in text.split("/") if part))

    @property
    def byte_length(self) -> int:
        """Sum of the field lengths, as the limit of 4,096 counts it."""
        return sum(map(len, self.fields))

    def starts_with(self, prefix: TrackNamespace) -> bool:
        """Whether ``prefix`` is a tuple prefix of this namespace (or equal to it)."""
        return self.fields[: len(prefix.fields)] == prefix.fields

    def overlaps(self, other: TrackNamespace) -> bool:
        """Whether one of the two is a prefix of the other."""
        return self.starts_with(other) or other.starts_with(self)

    def suffix_after(self, prefix: TrackNamespace) -> TrackNamespace:
        """What follows ``prefix``. Raises ``ValueError`` where this namespace does not start with it."""
        if not self.starts_with(prefix):
            raise ValueError(f"{self} does not start with {prefix}")
        return TrackNamespace(self.fields[len(prefix.fields) :])

    def join(self, suffix: TrackNamespace) -> TrackNamespace:
        """This namespace with the fields of ``suffix`` appended. Raises ``InvalidName`` where too long."""
        return TrackNamespace(self.fields + suffix.fields)

    def path(self) -> str:
        """Slash-separated form for people and configuration; not reversible for arbitrary bytes."""
        return "/".join(field.decode("utf-8", "backslashreplace") for field in self.fields)

    def __str__(self) -> str:
        return "-".join(map(_escape, self.fields))


@dataclass(frozen=True, slots=True, order=True)
class FullTrackName:
    """A namespace and a track name. Raises ``InvalidName`` for more than 4,096 bytes in all."""

    namespace: TrackNamespace
    name: bytes

    def __post_init__(self) -> None:
        length = self.namespace.byte_length + len(self.name)
        if length > FULL_TRACK_NAME_BYTES_MAX:
            raise InvalidName(f"full track name of {length} bytes, at most {FULL_TRACK_NAME_BYTES_MAX}")

    @classmethod
    def of(cls, namespace: str | Iterable[bytes], name: str | bytes) -> FullTrackName:
        """From a slash-separated path (or the fields themselves) and a name."""
        space = (
            TrackNamespace.parse(namespace)
            if isinstance(namespace, str)
            else TrackNamespace(tuple(namespace))
        )
        return cls(space, name.encode() if isinstance(name, str) else name)

    @classmethod
    def parse(cls, text: str) -> FullTrackName:
        """The inverse of ``str()``; raises ``InvalidName`` for any text that ``str()`` cannot give."""
        space, separator, name = text.partition("--")
        if not separator:
            raise InvalidName("no '--' between namespace and track name")
        fields = tuple(_unescape(part) for part in space.split("-")) if space else ()
        return cls(TrackNamespace(fields), _unescape(name))

    def __str__(self) -> str:
        return f"{self.namespace}--{_escape(self.name)}"


def _escape(field: bytes) -> str:
    """The safe form of draft 18, section 1.5: other bytes than letters, digits and ``_`` as ``.xx``."""
    return "".join(chr(byte) if _LITERAL.match(bytes([byte])) else f".{byte:02x}" for byte in field)


def _unescape(text: str) -> bytes:
    if not _FIELD.fullmatch(text):
        raise InvalidName(f"{text!r} is not a serialised name")
    field = bytes(int(code, 16) if code else ord(literal) for code, literal in _ESCAPE.findall(text))
    if _escape(field) != text:
        raise InvalidName(f"{text!r} escapes a byte that needs none")
    return field
