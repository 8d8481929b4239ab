"""SETUP: what we say in ours and what we make of the peer's (draft 18, section 10.3; draft 16, section
9.3)."""

from __future__ import annotations

import re
from dataclasses import replace

from farcast.proto.moqt.core import Core
from farcast.proto.moqt.errors import ProtocolError, SessionCode, violation
from farcast.proto.moqt.events import Established
from farcast.proto.moqt.messages import AnySetup
from farcast.proto.moqt.quirks import quirks_for
from farcast.proto.moqt.values import SetupOptions

_URI_CHARACTER = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
_PATH = re.compile(rf"(?:/{_URI_CHARACTER}*)*(?:\?(?:{_URI_CHARACTER}|[/?])*)?")
_AUTHORITY = re.compile(rf"(?:{_URI_CHARACTER}|[\[\]])+")


def send_setup(core: Core) -> None:
    """Writes our SETUP to the control stream, which must be open."""
    message = core.profile.client_setup if core.client else core.profile.server_setup
    core.send_control(message(options=_our_options(core)))


def receive_setup(core: Core, message: AnySetup) -> None:
    """Takes the peer's SETUP in: checks it, reports it, and answers it where the draft makes the server wait.

    Raises :class:`ProtocolError`.
    """
    expected = core.profile.server_setup if core.client else core.profile.client_setup
    if not isinstance(message, expected):
        raise violation(f"{type(message).__name__} from the {'server' if core.client else 'client'}")
    options = message.options
    _check_address(core, options)
    tokens = core.tokens.resolve(options.authorization_tokens, in_setup=True)
    core.id_limit = options.max_request_id or 0
    core.quirks = quirks_for(options.implementation, core.quirk_table)
    core.established = True
    if core.profile.control_bidi and not core.client:
        send_setup(core)
    core.emit(Established(options.implementation, options.path, options.authority, options, tokens))
    core.flush_queue()


def _our_options(core: Core) -> SetupOptions:
    cache_bytes = core.limits.auth_token_cache_bytes_max
    options = replace(
        core.options,
        max_request_id=core.granted_limit if core.profile.request_ids_limited else None,
        max_auth_token_cache_bytes=cache_bytes or None,
    )
    if not core.client or core.webtransport:
        options = replace(options, path=None, authority=None)
    return options


def _check_address(core: Core, options: SetupOptions) -> None:
    """PATH and AUTHORITY are for clients over raw QUIC, and have the form that RFC 3986 gives them."""
    checks = (
        ("PATH", options.path, _PATH, SessionCode.INVALID_PATH, SessionCode.MALFORMED_PATH),
        (
            "AUTHORITY",
            options.authority,
            _AUTHORITY,
            SessionCode.INVALID_AUTHORITY,
            SessionCode.MALFORMED_AUTHORITY,
        ),
    )
    for name, value, form, misplaced, malformed in checks:
        if value is None:
            continue
        if core.client or core.webtransport:
            raise ProtocolError(misplaced, f"{name} from a server or over WebTransport")
        if not form.fullmatch(value):
            raise ProtocolError(malformed, f"{name} is not of the form that a URI has")
