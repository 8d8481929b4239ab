"""One profile per draft: everything on the wire that differs between drafts, as data.

A new draft is a new profile, mostly a copy of its predecessor with some rows replaced. The hop between two
edges speaks draft 18 with two parameters and one setup option of our own:

==========  ======  ==============================================================================
name        number  value
==========  ======  ==============================================================================
HOP_PATH    0x4641  parameter of SUBSCRIBE, SUBSCRIBE_NAMESPACE and PUBLISH_NAMESPACE, length-prefixed:
                    count, then node ids (each with its length) of the edges that the request has
                    passed, the sender last
ORIGIN      0x4643  parameter of SUBSCRIBE, length-prefixed: node id (with its length) of the edge
                    where the publisher is
NODE        0x4645  setup option, bytes: node id and region (each with its length), recovery bits
==========  ======  ==============================================================================

The ALPN of the hop negotiates these, so that they may be used before the peer's SETUP is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from farcast.proto.moqt import forms
from farcast.proto.moqt import messages as m
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode, StreamCode
from farcast.proto.moqt.fields import (
    ALIAS,
    CODE,
    END,
    END_OF_TRACK,
    EXISTING_REQUEST_ID,
    FETCH,
    INTEREST,
    NAME,
    NAMESPACE,
    OPTIONS,
    PARAMETERS,
    PREFIX,
    REASON,
    REDIRECT,
    REQUEST_ID,
    RETRY,
    STATUS,
    STREAM_COUNT,
    SUFFIX,
    TIMEOUT,
    TRACK_NAME,
    TRACK_PROPERTIES,
    TRAILING_REQUEST_ID,
    URI,
)
from farcast.proto.moqt.forms import LOCATION, TOKEN, UINT8, VARINT, Form, prefixed
from farcast.proto.moqt.parameter_block import ParameterRow
from farcast.proto.moqt.profile import MessageRow, Place, Profile
from farcast.proto.moqt.setup_options import COMMON_OPTIONS, MAX_REQUEST_ID_OPTION, NODE_OPTION, OptionRow
from farcast.proto.moqt.varint import RFC9000, VI64

CONTROL, REQUEST = Place.CONTROL, Place.REQUEST
FIRST = Place.REQUEST | Place.FIRST

# --- error codes ----------------------------------------------------------------------------------------

_REQUEST_CODES_16: Final = {
    RequestCode.INTERNAL_ERROR: 0x0,
    RequestCode.UNAUTHORIZED: 0x1,
    RequestCode.TIMEOUT: 0x2,
    RequestCode.NOT_SUPPORTED: 0x3,
    RequestCode.MALFORMED_AUTH_TOKEN: 0x4,
    RequestCode.EXPIRED_AUTH_TOKEN: 0x5,
    RequestCode.DOES_NOT_EXIST: 0x10,
    RequestCode.INVALID_RANGE: 0x11,
    RequestCode.MALFORMED_TRACK: 0x12,
    RequestCode.DUPLICATE_SUBSCRIPTION: 0x19,
    RequestCode.UNINTERESTED: 0x20,
    RequestCode.PREFIX_OVERLAP: 0x30,
    RequestCode.INVALID_JOINING_REQUEST_ID: 0x32,
}
_REQUEST_CODES_18: Final = _REQUEST_CODES_16 | {
    RequestCode.GOING_AWAY: 0x6,
    RequestCode.EXCESSIVE_LOAD: 0x9,
    RequestCode.NAMESPACE_TOO_LARGE: 0x31,
    RequestCode.UNSUPPORTED_EXTENSION: 0x33,
    RequestCode.REDIRECT: 0x34,
}
_PUBLISH_DONE_CODES_16: Final = {
    PublishDoneCode.INTERNAL_ERROR: 0x0,
    PublishDoneCode.UNAUTHORIZED: 0x1,
    PublishDoneCode.TRACK_ENDED: 0x2,
    PublishDoneCode.SUBSCRIPTION_ENDED: 0x3,
    PublishDoneCode.GOING_AWAY: 0x4,
    PublishDoneCode.EXPIRED: 0x5,
    PublishDoneCode.TOO_FAR_BEHIND: 0x6,
    PublishDoneCode.UPDATE_FAILED: 0x8,
    PublishDoneCode.MALFORMED_TRACK: 0x12,
}
_PUBLISH_DONE_CODES_18: Final = _PUBLISH_DONE_CODES_16 | {
    PublishDoneCode.TOO_FAR_BEHIND: 0x5,
    PublishDoneCode.EXPIRED: 0x6,
    PublishDoneCode.EXCESSIVE_LOAD: 0x9,
}
_STREAM_CODES_16: Final = {
    StreamCode.INTERNAL_ERROR: 0x0,
    StreamCode.CANCELLED: 0x1,
    StreamCode.DELIVERY_TIMEOUT: 0x2,
    StreamCode.SESSION_CLOSED: 0x3,
    StreamCode.UNKNOWN_OBJECT_STATUS: 0x4,
    StreamCode.MALFORMED_TRACK: 0x12,
}
_STREAM_CODES_18: Final = _STREAM_CODES_16 | {
    StreamCode.GOING_AWAY: 0x4,
    StreamCode.TOO_FAR_BEHIND: 0x5,
    StreamCode.UNKNOWN_OBJECT_STATUS: 0x6,
    StreamCode.EXPIRED_AUTH_TOKEN: 0x7,
    StreamCode.EXCESSIVE_LOAD: 0x9,
}

# --- messages -------------------------------------------------------------------------------------------

_MESSAGES_16: Final = (
    MessageRow(0x02, m.RequestUpdate, CONTROL | REQUEST, (REQUEST_ID, EXISTING_REQUEST_ID, PARAMETERS)),
    MessageRow(0x03, m.Subscribe, CONTROL, (REQUEST_ID, NAME, PARAMETERS)),
    MessageRow(0x04, m.SubscribeOk, CONTROL, (REQUEST_ID, ALIAS, PARAMETERS, TRACK_PROPERTIES)),
    MessageRow(0x05, m.RequestError, CONTROL | REQUEST, (REQUEST_ID, CODE, RETRY, REASON)),
    MessageRow(0x06, m.PublishNamespace, CONTROL, (REQUEST_ID, NAMESPACE, PARAMETERS)),
    MessageRow(0x07, m.RequestOk, CONTROL | REQUEST, (REQUEST_ID, PARAMETERS)),
    MessageRow(0x08, m.Namespace, REQUEST, (SUFFIX,)),
    MessageRow(0x09, m.PublishNamespaceDone, CONTROL, (REQUEST_ID,)),
    MessageRow(0x0A, m.Unsubscribe, CONTROL, (REQUEST_ID,)),
    MessageRow(0x0B, m.PublishDone, CONTROL, (REQUEST_ID, STATUS, STREAM_COUNT, REASON)),
    MessageRow(0x0C, m.PublishNamespaceCancel, CONTROL, (REQUEST_ID, CODE, REASON)),
    MessageRow(0x0D, m.TrackStatus, CONTROL, (REQUEST_ID, NAME, PARAMETERS)),
    MessageRow(0x0E, m.NamespaceDone, REQUEST, (SUFFIX,)),
    MessageRow(0x10, m.Goaway, CONTROL, (URI,)),
    MessageRow(0x11, m.SubscribeNamespace, FIRST, (REQUEST_ID, PREFIX, INTEREST, PARAMETERS)),
    MessageRow(0x15, m.MaxRequestId, CONTROL, (REQUEST_ID,)),
    MessageRow(0x16, m.Fetch, CONTROL, (REQUEST_ID, FETCH, PARAMETERS)),
    MessageRow(0x17, m.FetchCancel, CONTROL, (REQUEST_ID,)),
    MessageRow(0x18, m.FetchOk, CONTROL, (REQUEST_ID, END_OF_TRACK, END, PARAMETERS, TRACK_PROPERTIES)),
    MessageRow(0x1A, m.RequestsBlocked, CONTROL, (REQUEST_ID,)),
    MessageRow(0x1D, m.Publish, CONTROL, (REQUEST_ID, NAME, ALIAS, PARAMETERS, TRACK_PROPERTIES)),
    MessageRow(0x1E, m.PublishOk, CONTROL, (REQUEST_ID, PARAMETERS)),
    MessageRow(0x20, m.ClientSetup, CONTROL, (OPTIONS,)),
    MessageRow(0x21, m.ServerSetup, CONTROL, (OPTIONS,)),
)
_MESSAGES_18: Final = (
    MessageRow(0x02, m.RequestUpdate, REQUEST, (REQUEST_ID, PARAMETERS)),
    MessageRow(0x03, m.Subscribe, FIRST, (REQUEST_ID, NAME, PARAMETERS)),
    MessageRow(0x04, m.SubscribeOk, REQUEST, (ALIAS, PARAMETERS, TRACK_PROPERTIES)),
    MessageRow(0x05, m.RequestError, REQUEST, (CODE, RETRY, REASON, REDIRECT)),
    MessageRow(0x06, m.PublishNamespace, FIRST, (REQUEST_ID, NAMESPACE, PARAMETERS)),
    MessageRow(0x07, m.RequestOk, REQUEST, (PARAMETERS, TRACK_PROPERTIES)),
    MessageRow(0x08, m.Namespace, REQUEST, (SUFFIX,)),
    MessageRow(0x0B, m.PublishDone, REQUEST, (STATUS, STREAM_COUNT, REASON)),
    MessageRow(0x0D, m.TrackStatus, FIRST, (REQUEST_ID, NAME, PARAMETERS)),
    MessageRow(0x0E, m.NamespaceDone, REQUEST, (SUFFIX,)),
    MessageRow(0x0F, m.PublishBlocked, REQUEST, (SUFFIX, TRACK_NAME)),
    MessageRow(0x10, m.Goaway, CONTROL | REQUEST, (URI, TIMEOUT, TRAILING_REQUEST_ID)),
    MessageRow(0x16, m.Fetch, FIRST, (REQUEST_ID, FETCH, PARAMETERS)),
    MessageRow(0x18, m.FetchOk, REQUEST, (END_OF_TRACK, END, PARAMETERS, TRACK_PROPERTIES)),
    MessageRow(0x1D, m.Publish, FIRST, (REQUEST_ID, NAME, ALIAS, PARAMETERS, TRACK_PROPERTIES)),
    MessageRow(0x1E, m.PublishOk, REQUEST, (PARAMETERS, TRACK_PROPERTIES)),
    MessageRow(0x50, m.SubscribeNamespace, FIRST, (REQUEST_ID, PREFIX, PARAMETERS)),
    MessageRow(0x51, m.SubscribeTracks, FIRST, (REQUEST_ID, PREFIX, PARAMETERS)),
    MessageRow(0x2F00, m.Setup, CONTROL, (OPTIONS,)),
)

# --- parameters -----------------------------------------------------------------------------------------

_SUBSCRIBING: Final = (m.Subscribe, m.PublishOk, m.RequestUpdate)
_AUTHORIZED: Final = (
    m.Publish,
    m.Subscribe,
    m.RequestUpdate,
    m.SubscribeNamespace,
    m.PublishNamespace,
    m.TrackStatus,
    m.Fetch,
)


def _parameter(
    kind: int, attribute: str, form: Form, *messages: type[m.Message], repeatable: bool = False
) -> ParameterRow:
    """A row. From draft 17 on PUBLISH_OK is a REQUEST_OK, so what the one may carry, the other may."""
    allowed = {*messages, *((m.RequestOk,) if m.PublishOk in messages else ())}
    return ParameterRow(kind, attribute, form, frozenset(allowed), repeatable)


_FILTER_16: Final = forms.subscription_filter(end_is_delta=False)
_FILTER_18: Final = forms.subscription_filter(end_is_delta=True)
_LOCATED: Final = (m.SubscribeOk, m.Publish, m.RequestOk)

_PARAMETERS_16: Final = (
    _parameter(0x02, "object_delivery_timeout_ms", forms.positive(VARINT), *_SUBSCRIBING),
    _parameter(0x03, "authorization_tokens", prefixed(TOKEN), *_AUTHORIZED, repeatable=True),
    _parameter(0x08, "expires_ms", VARINT, m.SubscribeOk, m.Publish, m.PublishOk, m.RequestOk),
    _parameter(0x09, "largest", prefixed(LOCATION), *_LOCATED),
    _parameter(0x10, "forward", forms.boolean(VARINT), *_SUBSCRIBING, m.Publish, m.SubscribeNamespace),
    _parameter(0x20, "subscriber_priority", forms.small(VARINT), *_SUBSCRIBING, m.Fetch),
    _parameter(0x21, "filter", _FILTER_16, *_SUBSCRIBING),
    _parameter(0x22, "group_order", forms.group_order(VARINT), m.Subscribe, m.PublishOk, m.Fetch),
    _parameter(0x32, "new_group_request", VARINT, *_SUBSCRIBING),
)
_PARAMETERS_18: Final = (
    _parameter(0x02, "object_delivery_timeout_ms", VARINT, *_SUBSCRIBING),
    _parameter(
        0x03, "authorization_tokens", prefixed(TOKEN), *_AUTHORIZED, m.SubscribeTracks, repeatable=True
    ),
    _parameter(0x04, "rendezvous_timeout_ms", VARINT, m.Subscribe),
    _parameter(0x06, "subgroup_delivery_timeout_ms", VARINT, *_SUBSCRIBING),
    _parameter(0x08, "expires_ms", VARINT, m.SubscribeOk, m.Publish, m.PublishOk),
    _parameter(0x09, "largest", LOCATION, *_LOCATED),
    _parameter(0x0A, "fill_timeout_ms", VARINT, m.Fetch),
    _parameter(0x10, "forward", forms.boolean(UINT8), *_SUBSCRIBING, m.Publish, m.SubscribeTracks),
    _parameter(0x20, "subscriber_priority", UINT8, *_SUBSCRIBING, m.Fetch),
    _parameter(0x21, "filter", _FILTER_18, *_SUBSCRIBING),
    _parameter(0x22, "group_order", forms.group_order(UINT8), m.Subscribe, m.PublishOk, m.Fetch),
    _parameter(0x32, "new_group_request", VARINT, *_SUBSCRIBING),
    _parameter(0x34, "namespace_prefix", forms.NAMESPACE, m.RequestUpdate),
)
_PARAMETERS_HOP: Final = (
    _parameter(
        0x4641, "hop_path", prefixed(forms.HOP_PATH), m.Subscribe, m.SubscribeNamespace, m.PublishNamespace
    ),
    _parameter(0x4643, "origin", prefixed(forms.NODE_TEXT), m.Subscribe),
)

# --- track properties -----------------------------------------------------------------------------------

_TRACK_PROPERTY_VALUES_18: Final[Mapping[int, Callable[[int], bool]]] = {
    0x0E: lambda priority: priority <= 255,
    0x22: lambda order: order in (1, 2),
    0x30: lambda dynamic_groups: dynamic_groups <= 1,
}
_TRACK_PROPERTY_VALUES_16: Final = {0x02: lambda timeout_ms: timeout_ms > 0, **_TRACK_PROPERTY_VALUES_18}

# --- the profiles ---------------------------------------------------------------------------------------


def _by_type(rows: Iterable[MessageRow]) -> Mapping[int, MessageRow]:
    return {row.number: row for row in rows}


def _by_class(rows: Iterable[MessageRow]) -> Mapping[type[m.Message], MessageRow]:
    return {row.message: row for row in rows}


def _ordered_parameters(*tables: Iterable[ParameterRow]) -> Mapping[int, ParameterRow]:
    return {
        row.number: row
        for row in sorted((row for table in tables for row in table), key=lambda row: row.number)
    }


def _ordered_options(*rows: OptionRow) -> Mapping[int, OptionRow]:
    return {row.number: row for row in sorted(rows, key=lambda row: row.number)}


DRAFT_16: Final = Profile(
    name="draft-16",
    draft=16,
    varint=RFC9000,
    control_bidi=True,
    requests_on_streams=False,
    request_ids_limited=True,
    parameter_scope_enforced=False,
    setup_options_counted=True,
    namespace_fields_min=1,
    session_namespaces_reserved=False,
    mandatory_track_properties=range(0),
    client_setup=m.ClientSetup,
    server_setup=m.ServerSetup,
    messages=_by_type(_MESSAGES_16),
    layouts=_by_class(_MESSAGES_16),
    parameters=_ordered_parameters(_PARAMETERS_16),
    setup_options=_ordered_options(*COMMON_OPTIONS, MAX_REQUEST_ID_OPTION),
    track_property_values=_TRACK_PROPERTY_VALUES_16,
    request_codes=_REQUEST_CODES_16,
    publish_done_codes=_PUBLISH_DONE_CODES_16,
    stream_codes=_STREAM_CODES_16,
)

DRAFT_18: Final = Profile(
    name="draft-18",
    draft=18,
    varint=VI64,
    control_bidi=False,
    requests_on_streams=True,
    request_ids_limited=False,
    parameter_scope_enforced=True,
    setup_options_counted=False,
    namespace_fields_min=0,
    session_namespaces_reserved=True,
    mandatory_track_properties=range(0x4000, 0x8000),
    client_setup=m.Setup,
    server_setup=m.Setup,
    messages=_by_type(_MESSAGES_18),
    layouts=_by_class(_MESSAGES_18),
    parameters=_ordered_parameters(_PARAMETERS_18),
    setup_options=_ordered_options(*COMMON_OPTIONS),
    track_property_values=_TRACK_PROPERTY_VALUES_18,
    request_codes=_REQUEST_CODES_18,
    publish_done_codes=_PUBLISH_DONE_CODES_18,
    stream_codes=_STREAM_CODES_18,
)

HOP: Final = replace(
    DRAFT_18,
    name="hop",
    parameters=_ordered_parameters(_PARAMETERS_18, _PARAMETERS_HOP),
    setup_options=_ordered_options(*COMMON_OPTIONS, NODE_OPTION),
)

PROFILES: Final[Mapping[int, Profile]] = {16: DRAFT_16, 18: DRAFT_18}
"""The drafts spoken to anybody, by number; hops use :data:`HOP`."""


def profile_for_draft(draft: int) -> Profile:
    """The profile of a draft number. Raises ``KeyError`` for one that is not spoken."""
    return PROFILES[draft]
