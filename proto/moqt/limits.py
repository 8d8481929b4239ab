"""Limits of one session. What a peer can make us hold is bounded by these and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Named bounds; the comment says what happens beyond each."""

    message_bytes_max: int = 65_535
    """Body of one control message (the wire cannot say more). Beyond: PROTOCOL_VIOLATION."""

    requests_open_max: int = 1_024
    """Requests of the peer that are open at a time. Beyond: draft 16 closes with TOO_MANY_REQUESTS (the peer
    was given that many request ids); others answer REQUEST_ERROR EXCESSIVE_LOAD."""

    requests_queued_max: int = 4_096
    """Our own requests that wait for the peer to grant request ids (draft 16). Beyond: ``RequestRejected``
    with EXCESSIVE_LOAD, at once and locally."""

    request_id_gaps_max: int = 1_024
    """How far the peer's request ids may run ahead of one that is missing. Beyond, in one leap:
    INVALID_REQUEST_ID; by and by: the missing ones are given up."""

    namespaces_max: int = 4_096
    """Namespaces that one SUBSCRIBE_NAMESPACE of ours may be answered with. Beyond: it is cancelled."""

    updates_pending_max: int = 16
    """REQUEST_UPDATEs of one request that we have not answered. Beyond: refused with EXCESSIVE_LOAD."""

    updates_unanswered_max: int = 1_024
    """REQUEST_UPDATEs of ours on one request that the peer has not answered (some never do). Beyond:
    ``UpdateRejected`` with EXCESSIVE_LOAD, at once and locally."""

    early_streams_max: int = 64
    """Request streams that are ahead of the peer's SETUP. Beyond: reset with EXCESSIVE_LOAD."""

    early_stream_bytes_max: int = 65_536
    """Bytes on those streams together. Beyond: the stream that has one too many is reset."""

    finished_streams_max: int = 1_024
    """Streams remembered after we are done with them, so that what is still in flight is not taken for a
    new request. Beyond: the oldest is forgotten."""

    auth_token_cache_bytes_max: int = 4_096
    """Registered authorization tokens, 16 bytes each and their values. Beyond: AUTH_TOKEN_CACHE_OVERFLOW."""
