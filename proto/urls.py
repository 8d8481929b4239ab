"""URLs of MoQT servers.

====================================  ==========================================================
``moqt://host[:port][/path]``         MoQT over raw QUIC (draft-ietf-moq-transport §3.1.2)
``https://host[:port]/path``          MoQT over WebTransport
``farcast://host[:port]``             a hop to another Farcast edge
====================================  ==========================================================

The port is 443 unless given, as for https.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

TargetKind = Literal["quic", "webtransport", "hop"]

PORT_DEFAULT = 443
_TARGETS: dict[str, TargetKind] = {"moqt": "quic", "https": "webtransport", "farcast": "hop"}


@dataclass(frozen=True, slots=True, repr=False)
class ServerUrl:
    """Where a MoQT server is and what to speak to it; ``host`` without brackets.

    A query may hold a token (``?jwt=``), so the URL as text is without it; `whole` has it.
    """

    target: TargetKind
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return join_host_port(self.host, self.port)

    @property
    def whole(self) -> str:
        """The URL with its query: to connect by, never to be shown."""
        scheme = next(scheme for scheme, target in _TARGETS.items() if target == self.target)
        return f"{scheme}://{self.authority}{self.path}"

    def __str__(self) -> str:
        return _without_query(self.whole)

    def __repr__(self) -> str:
        return f"ServerUrl({str(self)!r})"


def parse_url(text: str) -> ServerUrl:
    """Read a URL; `ValueError` with a sentence for people, without its query, if it is not one of ours."""
    whole, text = text, _without_query(text)
    if "://" not in text:
        raise ValueError(
            f"{text!r} is no URL: write moqt://{text} (raw QUIC) or https://{text} (WebTransport)"
        )
    try:
        parts = urlsplit(whole)
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL: {_without_query(str(error))}") from None
    target = _TARGETS.get(parts.scheme)
    if target is None:
        raise ValueError(
            f"{text!r}: scheme {parts.scheme!r} is not known; use moqt://, https:// or farcast://"
        )
    if parts.username is not None or parts.fragment:
        raise ValueError(f"{text!r}: user names and fragments mean nothing in a MoQT URL")
    if not parts.hostname:
        raise ValueError(f"{text!r}: the host is missing")
    return ServerUrl(target, parts.hostname, _port(text, parts), _path(text, target, parts))


def _port(text: str, parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
    return PORT_DEFAULT if port is None else port


def _path(text: str, target: TargetKind, parts: SplitResult) -> str:
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if target == "hop" and path not in ("", "/"):
        raise ValueError(f"{text!r}: a hop has no path")
    if target == "hop":
        return ""
    return path or ("/" if target == "webtransport" else "")


def _without_query(text: str) -> str:
    """The text up to a question mark, which is followed by dots then."""
    before, mark, _ = text.partition("?")
    return f"{before}?…" if mark else text


def join_host_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str) -> tuple[str, int]:
    """The host (without brackets) and port of ``host:port``; `ValueError` says what is missing."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:4433 or [::1]:4433")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, such as [::1]:4433")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535):
        raise ValueError(f"{text!r}: the port must be a number from 0 to 65535")
    return host, int(port_text)
