"""Who a control plane is, and whom it takes for an edge: by the names in certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farcast.certificates import control_name, edge_name, load_identity
from farcast.errors import EXIT_USAGE, UserError
from farcast.remote import load_certificates


def edge_identity(chain: Sequence[bytes]) -> tuple[str, str] | None:
    """Region and node id that a chain (DER, leaf first) names; ``None`` for any other role."""
    return edge_name(chain[0]) if chain else None


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
    identity = load_identity(cert, key)
    named = control_name(identity.chain[0])
    if named is None:
        edge = edge_name(identity.chain[0])
        found = f"is for the edge {edge[1]}" if edge else "names nobody of ours"
        raise UserError(
            f"{cert}: {found}; a control plane needs spiffe://farcast/control/CLUSTER/NAME "
            "(farcast ca issue --role control)",
            EXIT_USAGE,
        )
    cluster, name = named
    return ControlIdentity(identity.chain, identity.key, cluster, name, tuple(load_certificates(ca)))
