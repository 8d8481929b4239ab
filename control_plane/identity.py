"""Who this control plane is, from three PEM files, and who the edges are, from their certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farcast.certificates import control_name, edge_certificate, edge_name, load_identity
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.joining.revocations import Certified
from farcast.remote import load_certificates


@dataclass(frozen=True, slots=True)
class ControlIdentity:
    """Certificate chain (DER, leaf first) and PKCS#8 key (DER), the names in it, and the authorities (DER)
    that edges must chain to."""

    chain: tuple[bytes, ...]
    key: bytes
    cluster: str
    name: str
    roots: tuple[bytes, ...]


def load_control_identity(cert: Path, key: Path, ca: Path) -> ControlIdentity:
    """Read the files; `UserError` names the one that is wrong."""
    identity = load_identity(cert, key)
    named = control_name(identity.chain[0])
    if named is None:
        edge = edge_name(identity.chain[0])
        found = f"is for the edge {edge[1]!r}" if edge else "names no control plane"
        raise UserError(
            f"{cert}: {found}; needed is spiffe://farcast/control/CLUSTER/NAME "
            "(farcast ca issue --role control)",
            EXIT_USAGE,
        )
    return ControlIdentity(identity.chain, identity.key, *named, tuple(load_certificates(ca)))


def edge_identity(chain: Sequence[bytes]) -> Certified | None:
    """What a chain (DER, leaf first) says of the edge that it vouches for; ``None`` for any other role."""
    return edge_certificate(chain[0]) if chain else None
