"""What a profile is: the shape of the table that describes one draft."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from typing import TypeVar

from farcast.proto.moqt import messages as m
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode, StreamCode
from farcast.proto.moqt.fields import Field
from farcast.proto.moqt.parameter_block import ParameterRow
from farcast.proto.moqt.setup_options import OptionRow
from farcast.proto.moqt.varint import Varint


class Place(Flag):
    """Streams on which a message may stand."""

    CONTROL = auto()
    REQUEST = auto()
    FIRST = auto()
    """Opens a request stream (and stands on one only as the first message)."""


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message of one draft: its number, its class, where it may stand, and its layout."""

    number: int
    message: type[m.Message]
    place: Place
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """A draft. The mappings are keyed as their comments say, in ascending order of number."""

    name: str
    draft: int
    varint: Varint
    control_bidi: bool
    """One bidirectional control stream, opened by the client; else a unidirectional one each way."""
    requests_on_streams: bool
    """Every request has a bidirectional stream of its own and is cancelled by ending it; else only
    SUBSCRIBE_NAMESPACE has one, and the other requests are on the control stream, by number."""
    request_ids_limited: bool
    """The peer grants request ids (MAX_REQUEST_ID)."""
    parameter_scope_enforced: bool
    """A parameter in a message it does not belong into is a violation; else it is ignored."""
    setup_options_counted: bool
    namespace_fields_min: int
    """Least number of fields of a track's namespace (prefixes and suffixes may always be empty)."""
    session_namespaces_reserved: bool
    """Namespaces ``.`` and ``.session`` are not the application's."""
    mandatory_track_properties: range
    """Types of track properties that must be understood."""
    client_setup: type[m.AnySetup]
    server_setup: type[m.AnySetup]
    messages: Mapping[int, MessageRow]
    """By type."""
    layouts: Mapping[type[m.Message], MessageRow]
    """By class."""
    parameters: Mapping[int, ParameterRow]
    """By type."""
    setup_options: Mapping[int, OptionRow]
    """By type."""
    track_property_values: Mapping[int, Callable[[int], bool]]
    """By property type: which values the draft allows."""
    request_codes: Mapping[RequestCode, int]
    publish_done_codes: Mapping[PublishDoneCode, int]
    stream_codes: Mapping[StreamCode, int]

    def request_number(self, code: RequestCode) -> int:
        """The number of a REQUEST_ERROR code; INTERNAL_ERROR's where the draft has none."""
        return self.request_codes.get(code, self.request_codes[RequestCode.INTERNAL_ERROR])

    def request_code(self, number: int) -> RequestCode:
        """The code of a number; INTERNAL_ERROR for an unknown one."""
        return _inverse(self.request_codes).get(number, RequestCode.INTERNAL_ERROR)

    def publish_done_number(self, code: PublishDoneCode) -> int:
        """The number of a PUBLISH_DONE code; INTERNAL_ERROR's where the draft has none."""
        return self.publish_done_codes.get(code, self.publish_done_codes[PublishDoneCode.INTERNAL_ERROR])

    def publish_done_code(self, number: int) -> PublishDoneCode:
        """The code of a number; INTERNAL_ERROR for an unknown one."""
        return _inverse(self.publish_done_codes).get(number, PublishDoneCode.INTERNAL_ERROR)

    def stream_number(self, code: StreamCode) -> int:
        """The number of a stream reset code; INTERNAL_ERROR's where the draft has none."""
        return self.stream_codes.get(code, self.stream_codes[StreamCode.INTERNAL_ERROR])


_Code = TypeVar("_Code", bound=StrEnum)


def _inverse(codes: Mapping[_Code, int]) -> Mapping[int, _Code]:
    return {number: code for code, number in codes.items()}
