"""What an edge proves itself with and whom it trusts, from its configuration to the datapath's TLS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from farcast.certificates import Identity, edge_certificate, edge_name, load_identity, make_dev_identity
from farcast.edge.config import ConfigError, EdgeConfig, Upstream
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.joining.revocations import Certified
from farcast.remote import Trust, load_certificates

if TYPE_CHECKING:
    from farcast.proto._core import ClientTls, ServerTls

NODE_ID_DEFAULT = "edge"
"""Name of an edge without hops: nobody but its own logs and status uses it."""


@dataclass(frozen=True, slots=True)
class HopIdentity:
    """Who we are to other edges, and the authorities (DER) that they must chain to."""

    identity: Identity
    roots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificates and names of one edge."""

    public: Identity
    hop: HopIdentity | None
    node_id: str
    region: str

    def server_tls(self) -> ServerTls:
        """For the listener; `UserError` if TLS refuses a certificate or key."""
        from farcast.proto._core import CoreError, ServerTls

        try:
            if self.hop is None:
                return ServerTls(self.public.chain, self.public.key)
            hop = self.hop.identity
            return ServerTls(self.public.chain, self.public.key, hop.chain, hop.key, self.hop.roots)
        except CoreError as error:
            raise UserError(f"a certificate cannot be used: {error}", EXIT_USAGE) from error

    def client_tls(self, upstream: Upstream) -> ClientTls:
        """For the connection to an upstream."""
        if upstream.url.target != "hop" or self.hop is None:
            fingerprints = (upstream.cert_sha256,) if upstream.cert_sha256 else ()
            return Trust(upstream.ca, fingerprints, upstream.insecure).client_tls()
        return self.hop_tls()

    def hop_tls(self) -> ClientTls:
        """For a hop to another edge. Raises ``ValueError`` for an edge without a hop identity."""
        from farcast.proto._core import ClientTls

        if self.hop is None:
            raise ValueError("this edge has no hop certificate")
        hop = self.hop.identity
        return ClientTls(roots=self.hop.roots, chain=hop.chain, key=hop.key)


def load_credentials(config: EdgeConfig, now: datetime) -> Credentials:
    """Read (or make) the certificates that the configuration names, and find out the edge's own name.

    A hop certificate says which edge it is for; `ConfigError` if the configuration says another one.
    """
    public = _public_identity(config, now)
    if config.hop is None:
        return Credentials(public, None, config.node_id or NODE_ID_DEFAULT, config.region)
    identity = load_identity(config.hop.cert, config.hop.key)
    hop = HopIdentity(identity, tuple(load_certificates(config.hop.ca)))
    named = edge_name(identity.chain[0])
    if named is None:
        raise ConfigError(
            [
                f"{config.hop.cert}: names no edge; its subject must hold the URI spiffe://farcast/edge/REGION/NODE_ID"
            ]
        )
    for key, ours, theirs in (("region", config.region, named[0]), ("node_id", config.node_id, named[1])):
        if ours and ours != theirs:
            raise ConfigError([f"{config.hop.cert}: is for {key} {theirs!r}, but {key} is set to {ours!r}"])
    return Credentials(public, hop, named[1], named[0])


def peer_node_id(chain: Sequence[bytes]) -> str | None:
    """The node id that the certificate chain (DER, leaf first) of a hop's peer vouches for."""
    named = edge_name(chain[0]) if chain else None
    return named and named[1]


def peer_certificate(chain: Sequence[bytes]) -> Certified | None:
    """What the certificate chain (DER, leaf first) of a hop's peer says."""
    return edge_certificate(chain[0]) if chain else None


def _public_identity(config: EdgeConfig, now: datetime) -> Identity:
    if config.cert is not None and config.key is not None:
        return load_identity(config.cert, config.key)
    return make_dev_identity(now, [config.listen.host] if config.listen.host not in ("0.0.0.0", "::") else [])
