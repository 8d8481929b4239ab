"""The authority at work in a control plane: from a signing request to a certificate.

The key of the authority may lie with the control plane (``--ca-dir``) or stay offline. With it, edges join by
token and renew by themselves; without it, each certificate is issued by hand (``farcast ca issue``) and join
tokens are refused. An intermediate authority would not make a stolen control plane harmless, as long as
nothing but its own revocation could undo it, and every edge would have to hold two certificates; who wants
the key elsewhere keeps it offline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from farcast.certificates import Authority, edge_certificate, load_authority
from farcast.control_plane.issuing import Certificate, Certify
from farcast.control_plane.trust_book import Admission
from farcast.errors import EXIT_USAGE, UserError
from farcast.signing import BadRequest, read_request

CA_CERT: Final = "ca.pem"
CA_KEY: Final = "ca.key"


def open_authority(directory: Path, cluster: str, roots: Sequence[bytes], now: datetime) -> Authority:
    """The authority in a folder; `UserError` unless it is the one that this control plane trusts."""
    authority = load_authority(directory / CA_CERT, directory / CA_KEY, now)
    if authority.cluster != cluster:
        raise UserError(
            f"{directory / CA_CERT}: is of cluster {authority.cluster!r}, this control plane of {cluster!r}",
            EXIT_USAGE,
        )
    if authority.certificate not in roots:
        raise UserError(
            f"{directory / CA_CERT}: is not in --hop-ca: what it issues would be refused here", EXIT_USAGE
        )
    return authority


def certifier(authority: Authority, life: timedelta, clock: Callable[[], datetime]) -> Certify:
    """How the engine has edges certified, for ``life`` each from what ``clock`` says."""

    def certify(request: bytes, admitted: Admission, after_unix_s: int | None) -> Certificate | str:
        after = None if after_unix_s is None else datetime.fromtimestamp(after_unix_s, UTC)
        try:
            key = read_request(request)
        except BadRequest as error:
            return str(error)
        der = authority.certify(key, admitted.region, admitted.node_id, clock(), life, after)
        certified = edge_certificate(der)
        if certified is None:
            return "the certificate that was made names no edge"
        end = x509.load_der_x509_certificate(der).not_valid_after_utc
        return Certificate(der, certified, int(end.timestamp()) * 1_000_000)

    return certify
