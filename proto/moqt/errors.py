"""Error codes of MoQT, and the one exception that leaves the codec.

Session codes have the same numbers in every draft. The codes of REQUEST_ERROR, PUBLISH_DONE and stream
resets do not (draft 18 swapped two and added some), so here they are names; the numbers are in the
profile of the draft (:mod:`farcast.proto.moqt.profiles`).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class SessionCode(IntEnum):
    """Why a session is closed (draft 18, section 3.5; draft 16, section 3.4)."""

    NO_ERROR = 0x0
    INTERNAL_ERROR = 0x1
    UNAUTHORIZED = 0x2
    PROTOCOL_VIOLATION = 0x3
    INVALID_REQUEST_ID = 0x4
    DUPLICATE_TRACK_ALIAS = 0x5
    KEY_VALUE_FORMATTING_ERROR = 0x6
    TOO_MANY_REQUESTS = 0x7
    INVALID_PATH = 0x8
    MALFORMED_PATH = 0x9
    GOAWAY_TIMEOUT = 0x10
    CONTROL_MESSAGE_TIMEOUT = 0x11
    DATA_STREAM_TIMEOUT = 0x12
    AUTH_TOKEN_CACHE_OVERFLOW = 0x13
    DUPLICATE_AUTH_TOKEN_ALIAS = 0x14
    VERSION_NEGOTIATION_FAILED = 0x15
    MALFORMED_AUTH_TOKEN = 0x16
    UNKNOWN_AUTH_TOKEN_ALIAS = 0x17
    EXPIRED_AUTH_TOKEN = 0x18
    INVALID_AUTHORITY = 0x19
    MALFORMED_AUTHORITY = 0x1A


class RequestCode(StrEnum):
    """Why a request is refused (REQUEST_ERROR).

    A draft that lacks a code sends INTERNAL_ERROR for it; a number that a draft does not know is read as
    INTERNAL_ERROR, as draft 18's section on grease demands.
    """

    INTERNAL_ERROR = "INTERNAL_ERROR"
    UNAUTHORIZED = "UNAUTHORIZED"
    TIMEOUT = "TIMEOUT"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    MALFORMED_AUTH_TOKEN = "MALFORMED_AUTH_TOKEN"
    EXPIRED_AUTH_TOKEN = "EXPIRED_AUTH_TOKEN"
    GOING_AWAY = "GOING_AWAY"
    EXCESSIVE_LOAD = "EXCESSIVE_LOAD"
    DOES_NOT_EXIST = "DOES_NOT_EXIST"
    INVALID_RANGE = "INVALID_RANGE"
    MALFORMED_TRACK = "MALFORMED_TRACK"
    DUPLICATE_SUBSCRIPTION = "DUPLICATE_SUBSCRIPTION"
    UNINTERESTED = "UNINTERESTED"
    PREFIX_OVERLAP = "PREFIX_OVERLAP"
    NAMESPACE_TOO_LARGE = "NAMESPACE_TOO_LARGE"
    INVALID_JOINING_REQUEST_ID = "INVALID_JOINING_REQUEST_ID"
    UNSUPPORTED_EXTENSION = "UNSUPPORTED_EXTENSION"
    REDIRECT = "REDIRECT"


class PublishDoneCode(StrEnum):
    """Why a subscription ended (PUBLISH_DONE)."""

    INTERNAL_ERROR = "INTERNAL_ERROR"
    UNAUTHORIZED = "UNAUTHORIZED"
    TRACK_ENDED = "TRACK_ENDED"
    SUBSCRIPTION_ENDED = "SUBSCRIPTION_ENDED"
    GOING_AWAY = "GOING_AWAY"
    TOO_FAR_BEHIND = "TOO_FAR_BEHIND"
    EXPIRED = "EXPIRED"
    UPDATE_FAILED = "UPDATE_FAILED"
    EXCESSIVE_LOAD = "EXCESSIVE_LOAD"
    MALFORMED_TRACK = "MALFORMED_TRACK"


class StreamCode(StrEnum):
    """Why a stream is reset or stopped."""

    INTERNAL_ERROR = "INTERNAL_ERROR"
    CANCELLED = "CANCELLED"
    DELIVERY_TIMEOUT = "DELIVERY_TIMEOUT"
    SESSION_CLOSED = "SESSION_CLOSED"
    GOING_AWAY = "GOING_AWAY"
    TOO_FAR_BEHIND = "TOO_FAR_BEHIND"
    UNKNOWN_OBJECT_STATUS = "UNKNOWN_OBJECT_STATUS"
    EXPIRED_AUTH_TOKEN = "EXPIRED_AUTH_TOKEN"
    EXCESSIVE_LOAD = "EXCESSIVE_LOAD"
    MALFORMED_TRACK = "MALFORMED_TRACK"


class ProtocolError(Exception):
    """The peer broke the protocol: the session is to be closed with ``code``.

    This is the only exception that decoding raises, whatever the bytes. It never leaves
    :class:`~farcast.proto.moqt.session.Session`, which turns it into ``SessionFailed`` and ``SessionClose``.
    """

    def __init__(self, code: SessionCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason


class LocalError(Exception):
    """Our own side asked for what the protocol forbids in this state: a bug of the caller, not of the
    peer."""


def violation(reason: str) -> ProtocolError:
    """A ``PROTOCOL_VIOLATION`` with this reason."""
    return ProtocolError(SessionCode.PROTOCOL_VIOLATION, reason)
