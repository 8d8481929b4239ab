"""The parameter block of a message: a count, and then parameters with delta-coded types.

Draft 18, section 10.2; draft 16, section 9.2. From draft 17 on the value of each parameter has the form that
its definition gives it, so that an unknown one cannot be skipped; in draft 16 values are those of key-value
pairs. The rows of the profile say which forms these are and which messages may carry the parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farcast.proto.moqt.errors import violation
from farcast.proto.moqt.forms import Form
from farcast.proto.moqt.messages import Message
from farcast.proto.moqt.parameters import NO_PARAMETERS, Parameters
from farcast.proto.moqt.values import U64_MAX
from farcast.proto.moqt.wire import Reader, Writer

if TYPE_CHECKING:
    from farcast.proto.moqt.profile import Profile


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """One parameter of one draft: its number, the attribute of :class:`Parameters` it fills, its form, and
    the messages that may carry it. A repeatable one fills a tuple."""

    number: int
    attribute: str
    form: Form
    messages: frozenset[type[Message]]
    repeatable: bool = False


def read_parameters(reader: Reader, profile: Profile, message: type[Message]) -> Parameters:
    """The block at the cursor. An unknown or repeated parameter is a violation; one that does not belong into
    ``message`` is ignored by draft 16 and a violation in later ones."""
    count = reader.varint()
    kind = 0
    values: dict[str, Any] = {}
    for _ in range(count):
        kind += reader.varint()
        row = _row(profile, kind)
        value = row.form.read(reader)
        if message not in row.messages:
            if profile.parameter_scope_enforced:
                raise violation(f"parameter {kind:#x} does not belong into {message.__name__}")
        elif row.repeatable:
            values[row.attribute] = (*values.get(row.attribute, ()), value)
        elif row.attribute in values:
            raise violation(f"parameter {kind:#x} is repeated")
        else:
            values[row.attribute] = value
    return Parameters(**values) if values else NO_PARAMETERS


def write_parameters(
    writer: Writer, profile: Profile, message: type[Message], parameters: Parameters
) -> None:
    """Those of ``parameters`` that this draft has for ``message``, in ascending order of type.

    The others are left out: they are hints that an older draft cannot carry.
    """
    present = [
        (row, value)
        for row in profile.parameters.values()
        if message in row.messages
        for value in _values(getattr(parameters, row.attribute), row)
    ]
    writer.varint(len(present))
    previous = 0
    for row, value in present:
        writer.varint(row.number - previous)
        row.form.write(writer, value)
        previous = row.number


def _row(profile: Profile, kind: int) -> ParameterRow:
    row = profile.parameters.get(kind)
    if row is None:
        raise violation(
            "parameter type above 2**64 - 1" if kind > U64_MAX else f"unknown parameter {kind:#x}"
        )
    return row


def _values(value: Any, row: ParameterRow) -> tuple[Any, ...]:
    if row.repeatable:
        return tuple(value)
    return () if value is None or value == () else (value,)
