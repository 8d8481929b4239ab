"""The server a tool connects to: from its URL and the user's trust to a target and a datapath."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.urls import ServerUrl, join_host_port, parse_url, split_host_port
from farcast.remote import Trust, resolve

if TYPE_CHECKING:
    from farcast.proto._core import DatapathConfig, Runtime
    from farcast.proto.agent.config import Target

DRAFTS = (18, 16)
INITIAL_RTT_MS = 120
"""A guess, short enough that the loss of a handshake's first packet does not cost a second."""

SERVERS_MAX = 16
"""Edges that a user can name."""

CONNECT_SECONDS_MAX = 5.0
"""A server that has not answered by then is reported as unreachable."""

IDLE_MS_MAX = 10_000
"""A session over which nothing comes for so long is over."""

SILENCE_MS = 600
"""A server from which nothing comes for so long is taken for dead: another session is made."""

KEEP_ALIVE_MS = 150
"""A server from which nothing came for so long is asked for a sign of life."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect, whom to trust, which drafts to offer."""

    url: ServerUrl
    trust: Trust
    drafts: tuple[int, ...] = DRAFTS

    @property
    def no_answer(self) -> str:
        """What to tell the user of a server that is silent."""
        return (
            f"no answer from {self.url.authority} within {CONNECT_SECONDS_MAX:g} s "
            "(is the edge running, is UDP open?)"
        )

    async def target(self) -> Target:
        """Its name resolved; `UserError` if that fails."""
        from farcast.proto.agent.config import Target

        return Target(
            kind=self.url.target,
            remote=await resolve(self.url),
            server_name=self.url.host,
            tls=self.trust.client_tls(),
            authority=self.url.authority,
            path=self.url.path or "/",
            drafts=self.drafts,
        )


def server_from_options(
    url: str,
    *,
    draft: int | None = None,
    cert_sha256: str | None = None,
    ca: Path | None = None,
    insecure: bool = False,
) -> Server:
    """A server from what the user typed; `UserError` with exit code 2 for what makes no sense."""
    try:
        parsed = parse_url(url)
    except ValueError as error:
        raise UserError(str(error), EXIT_USAGE) from error
    if parsed.target == "hop":
        raise UserError(f"{parsed}: hops are for edges; use moqt:// or https://", EXIT_USAGE)
    if sum((cert_sha256 is not None, ca is not None, insecure)) > 1:
        raise UserError("--cert-sha256, --ca and --insecure exclude each other", EXIT_USAGE)
    if draft is not None and draft not in DRAFTS:
        raise UserError(f"--draft {draft}: Farcast speaks {' and '.join(map(str, DRAFTS))}", EXIT_USAGE)
    fingerprints = (_fingerprint(cert_sha256),) if cert_sha256 is not None else ()
    return Server(parsed, Trust(ca, fingerprints, insecure), DRAFTS if draft is None else (draft,))


def servers_from_options(
    urls: Sequence[str],
    *,
    draft: int | None = None,
    cert_sha256: str | None = None,
    ca: Path | None = None,
    insecure: bool = False,
) -> tuple[Server, ...]:
    """As `server_from_options`, for several edges with one trust, best first."""
    if len(urls) > SERVERS_MAX:
        raise UserError(f"{len(urls)} URLs: name at most {SERVERS_MAX} edges", EXIT_USAGE)
    return tuple(
        server_from_options(url, draft=draft, cert_sha256=cert_sha256, ca=ca, insecure=insecure)
        for url in urls
    )


def open_runtime(target: Target) -> Runtime:
    """A datapath without a listener's certificates, on a free port of the target's address family.

    Towards a loopback address it is bound to loopback.
    """
    from farcast.proto._core import Runtime

    address = ipaddress.ip_address(split_host_port(target.remote)[0])
    anywhere = "0.0.0.0" if address.version == 4 else "::"
    local = str(address) if address.is_loopback else anywhere
    return Runtime(join_host_port(local, 0), client_datapath(target.drafts))


def client_datapath(drafts: Sequence[int]) -> DatapathConfig:
    """Settings of a client's datapath: it asks for signs of life, and says when none come."""
    from farcast.proto._core import DatapathConfig

    return DatapathConfig(
        drafts=drafts,
        idle_timeout_ms=IDLE_MS_MAX,
        keep_alive_ms=KEEP_ALIVE_MS,
        silence_ms=SILENCE_MS,
        initial_rtt_ms=INITIAL_RTT_MS,
    )


def _fingerprint(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise UserError(f"--cert-sha256: {text!r} is not a SHA-256 of 64 hex digits", EXIT_USAGE)
    return digest
