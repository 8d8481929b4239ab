"""Strictly typed access to the fields of a JSON catalog, with errors that name the place."""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

from farcast.clients.media.errors import MediaError

CATALOG_BYTES_MAX = 1_000_000
"""Largest catalog object that is parsed."""


class Fields:
    """One JSON object of a catalog; ``where`` is how errors call it."""

    __slots__ = ("_values", "where")

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, dict):
            raise MediaError(f"{where} is not a JSON object")
        self._values: dict[str, Any] = values
        self.where = where

    @classmethod
    def parse(cls, data: bytes, where: str) -> Fields:
        """The root of a catalog. Raises :class:`MediaError` if ``data`` is not one JSON object."""
        if len(data) > CATALOG_BYTES_MAX:
            raise MediaError(f"{where} has {len(data)} bytes, more than {CATALOG_BYTES_MAX}")
        try:
            return cls(json.loads(data), where)
        except (ValueError, RecursionError) as error:
            raise MediaError(f"{where} is not JSON: {error}") from None

    def text(self, name: str) -> str | None:
        """A string field, None if absent."""
        value: str | None = self._typed(name, str, "a string")
        return value

    def required_text(self, name: str) -> str:
        """A string field that must be there."""
        value = self.text(name)
        if value is None:
            raise MediaError(f"{self.where}: field {name!r} is missing")
        return value

    def integer(self, name: str) -> int | None:
        """A whole number not below zero, None if absent. 48000.0 is a whole number."""
        value = self.number(name)
        if value is None:
            return None
        if value < 0 or value != int(value) or value > 2**53:
            raise MediaError(f"{self.where}: field {name!r} is {value}, not a whole number from 0 up")
        return int(value)

    def number(self, name: str) -> float | None:
        """A finite number, None if absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MediaError(f"{self.where}: field {name!r} is not a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise MediaError(f"{self.where}: field {name!r} is not a finite number")
        return value

    def objects(self, name: str) -> list[Fields]:
        """An array of objects; empty if absent."""
        values = self._typed(name, list, "an array") or []
        return [Fields(value, f"{self.where}, {name}[{index}]") for index, value in enumerate(values)]

    def object(self, name: str) -> Fields | None:
        """An object, None if absent."""
        value = self._values.get(name)
        return None if value is None else Fields(value, f"{self.where}, {name}")

    def members(self) -> list[tuple[str, Fields]]:
        """All fields, each of which must be an object."""
        return [(name, Fields(value, f"{self.where}, {name}")) for name, value in self._values.items()]

    def base64(self, name: str) -> bytes | None:
        """Base64 bytes, None if absent."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise MediaError(f"{self.where}: field {name!r} is not base64") from None

    def hex(self, name: str) -> bytes | None:
        """Hexadecimal bytes, None if absent."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise MediaError(f"{self.where}: field {name!r} is not hexadecimal") from None

    def raw(self, name: str) -> Any:
        """A field as it is, None if absent."""
        return self._values.get(name)

    def _typed(self, name: str, kind: type, expected: str) -> Any:
        value = self._values.get(name)
        if value is not None and not isinstance(value, kind):
            raise MediaError(f"{self.where}: field {name!r} is not {expected}")
        return value
