"""Where Consul is and how it is spoken to: address, token of its access control, TLS."""

from __future__ import annotations

import http.client
import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from farcast.control_plane.config import ConsulAddress, ControlConfig
from farcast.errors import EXIT_USAGE, UserError
from farcast.redaction import HIDDEN

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ConsulAgent:
    """An agent's HTTP API. ``token``: of access control, empty for none; ``tls``: what its certificate has to
    be, ``None`` for plain HTTP."""

    host: str
    port: int
    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that is not open yet."""
        if self.tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s, context=self.tls)

    def without_token(self, text: bytes) -> bytes:
        """What Consul, or whatever stands before it, complains of: people read it, whatever it quotes."""
        return text.replace(self.token.encode(), HIDDEN.encode()) if self.token else text


def open_agent(config: ControlConfig) -> ConsulAgent:
    """As configured; `UserError` where a file is of no use. Files are read once, at the start."""
    address = config.consul
    token = _read_token(config.consul_token_file)
    if token and not address.tls and not _is_here(address.host):
        log.warning(
            "the token for Consul crosses the network in the clear; use https://", consul=str(address)
        )
    return ConsulAgent(address.host, address.port, token, _context(config, address))


def _context(config: ControlConfig, address: ConsulAddress) -> ssl.SSLContext | None:
    given = {
        "--consul-ca": config.consul_ca,
        "--consul-cert": config.consul_cert,
        "--consul-key": config.consul_key,
    }
    if not address.tls:
        for option, file in given.items():
            if file is not None:
                raise UserError(
                    f"{option} is for TLS, and {address} is none: say --consul https://…", EXIT_USAGE
                )
        return None
    if (config.consul_cert is None) != (config.consul_key is None):
        raise UserError("--consul-cert and --consul-key belong together", EXIT_USAGE)
    file = config.consul_ca
    try:
        context = ssl.create_default_context(cafile=file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.consul_cert is not None and config.consul_key is not None:
            file = config.consul_cert
            context.load_cert_chain(config.consul_cert, config.consul_key, password="")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: of no use for TLS to Consul: {_reason(error)}", EXIT_USAGE) from error
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM file").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _read_token(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: the token of Consul cannot be read: {error}", EXIT_USAGE) from error
    if not token.isascii() or not token.isprintable() or not token:
        raise UserError(f"{file}: holds no token of Consul", EXIT_USAGE)
    return token


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
