"""Names in certificates: ``spiffe://farcast/edge/REGION/NODE_ID``, ``spiffe://farcast/control/CLUSTER/NAME``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from farcast.errors import EXIT_USAGE, UserError
from farcast.remote import load_certificates

_SPIFFE = "spiffe://farcast/"


class Name(NamedTuple):
    """What one certificate is for: ``edge`` with its region and node id, ``control`` with its cluster and
    name."""

    role: str
    group: str
    name: str


def name_in(leaf: bytes) -> Name | None:
    """The first name of ours in a certificate (DER); ``None`` where it has none, or is no certificate."""
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier):
        parts = uri.removeprefix(_SPIFFE).split("/")
        if uri.startswith(_SPIFFE) and len(parts) == 3 and all(parts):
            return Name(*parts)
    return None


def edge_identity(chain: Sequence[bytes]) -> tuple[str, str] | None:
    """Region and node id that a chain (DER, leaf first) names; ``None`` for any other role."""
    name = name_in(chain[0]) if chain else None
    return (name.group, name.name) if name is not None and name.role == "edge" else None


@dataclass(frozen=True, slots=True)
class ControlIdentity:
    """Who this control plane is: certificate chain (DER, leaf first), PKCS#8 key (DER), names, and the
    authorities (DER) that edges must chain to."""

    chain: tuple[bytes, ...]
    key: bytes
    cluster: str
    name: str
    roots: tuple[bytes, ...]


def load_control_identity(cert: Path, key: Path, ca: Path) -> ControlIdentity:
    """Read the three PEM files; `UserError` names the one that is wrong."""
    chain = tuple(load_certificates(cert))
    private = _load_key(key)
    if _public(private) != _public(x509.load_der_x509_certificate(chain[0])):
        raise UserError(f"{key}: is not the key of the first certificate in {cert}", EXIT_USAGE)
    named = name_in(chain[0])
    if named is None or named.role != "control":
        found = f"is for the role {named.role!r}" if named else "names nobody of ours"
        raise UserError(
            f"{cert}: {found}; a control plane needs spiffe://farcast/control/CLUSTER/NAME "
            "(farcast ca issue --role control)",
            EXIT_USAGE,
        )
    der = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ControlIdentity(chain, der, named.group, named.name, tuple(load_certificates(ca)))


def _load_key(file: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}", EXIT_USAGE) from error
    except TypeError as error:
        raise UserError(
            f"{file}: the key is encrypted; decrypt it first (openssl pkey)", EXIT_USAGE
        ) from error
    except ValueError as error:
        raise UserError(f"{file}: holds no PEM private key", EXIT_USAGE) from error


def _public(holder: x509.Certificate | PrivateKeyTypes) -> bytes:
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
