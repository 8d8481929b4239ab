"""How a shell gets from a URL to something it can connect to: addresses, and whom to trust."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.urls import ServerUrl, join_host_port

if TYPE_CHECKING:
    from farcast.proto._core import ClientTls


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom an outgoing connection takes for the server; the first that is set counts.

    Anybody (``insecure``), the holder of one certificate (``fingerprints``, SHA-256 of its DER), who
    chains to the authorities in a PEM file (``ca``), else who chains to the system's authorities.
    """

    ca: Path | None = None
    fingerprints: tuple[bytes, ...] = ()
    insecure: bool = False

    def client_tls(self) -> ClientTls:
        """The datapath's form of it; `UserError` if a file is not readable."""
        from farcast.proto._core import ClientTls

        if self.insecure:
            return ClientTls(insecure=True)
        if self.fingerprints:
            return ClientTls(fingerprints=self.fingerprints)
        return ClientTls(roots=system_roots() if self.ca is None else load_certificates(self.ca))


def load_certificates(file: Path) -> list[bytes]:
    """The certificates (DER) in a PEM file."""
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}", EXIT_USAGE) from error
    except (ValueError, x509.InvalidVersion) as error:
        raise UserError(
            f"{file}: holds no PEM certificate (-----BEGIN CERTIFICATE-----)", EXIT_USAGE
        ) from error
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


def system_roots() -> list[bytes]:
    """The certificates (DER) of the authorities that this machine trusts; often none in a container."""
    return ssl.create_default_context().get_ca_certs(binary_form=True)


async def resolve(url: ServerUrl, families: Sequence[int] = (socket.AF_INET, socket.AF_INET6)) -> str:
    """``ip:port`` of a server, of the first family that has an address; `UserError` if there is none."""
    try:
        found = await trio.socket.getaddrinfo(url.host, url.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        # UnicodeError: what no name can be, such as an empty or overlong label.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{url}: the name {url.host!r} has no address: {reason}") from error
    for family in families:
        for entry in found:
            if entry[0] == family:
                return join_host_port(str(entry[4][0]), url.port)
    raise UserError(f"{url}: the name {url.host!r} has no address that can be reached from here")
