"""Who gets a certificate from this control plane, and for which names: the engine's side of it.

Names come from the token that was shown, or from the session that the edge has proved; never from what it
says, and never from its signing request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from farcast.control_plane.journal import Journal
from farcast.control_plane.trust_book import Admission, Invitation, TrustBook
from farcast.proto.joining.revocations import Certified

NO_AUTHORITY: Final = (
    "this control plane has no authority to issue certificates with; start it with --ca-dir DIR "
    "(ca.pem and ca.key of farcast ca init)"
)

CLOCK_SKEW_SECONDS: Final = 3_600
"""Validity begins so long before a certificate is issued (`farcast.certificates.CLOCK_SKEW`)."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """As issued: DER, what it says, its end."""

    der: bytes
    certified: Certified
    expires_unix_us: int


Certify: TypeAlias = Callable[[bytes, Admission, int | None], Certificate | str]
"""A signing request (DER), the names to certify, after which moment validity must begin (Unix seconds); a
certificate that begins now, or why there is none."""


@dataclass(frozen=True, slots=True, repr=False)
class Joining:
    """What an edge shows that wants to join; ``key_sha256``: of the key in its signing request."""

    token_id: str
    secret: bytes
    key_sha256: bytes
    request: bytes
    node_id: str | None


class Issuer:
    """Issues by the book. Without ``certify`` it issues nothing, and says so."""

    def __init__(self, book: TrustBook, certify: Certify | None, journal: Journal) -> None:
        self._book = book
        self._certify = certify
        self._journal = journal

    @property
    def can_issue(self) -> bool:
        """Whether there is an authority."""
        return self._certify is not None

    def invite(self, invitation: Invitation, regions: Collection[str], unix_us: int) -> str | None:
        """Let an edge in that shows a join token; ``None``, or why not. ``regions``: empty is any."""
        if not self.can_issue:
            return NO_AUTHORITY
        if regions and invitation.region not in regions:
            known = ", ".join(sorted(regions))
            return f"region {invitation.region!r} is not of this cluster; its regions are {known}"
        why_not = self._book.invite(invitation, unix_us)
        if why_not is None:
            about = {"region": invitation.region, "node_id": invitation.node_id}
            self._journal.write("info", "join token made", token_id=invitation.token_id, **about)
        return why_not

    def admit(self, joining: Joining, known: Collection[str], unix_us: int) -> Certificate | str:
        """Certify an edge that shows a join token, or say why not."""
        if not self.can_issue:
            return NO_AUTHORITY
        admitted = self._book.admit(
            joining.token_id, joining.secret, joining.key_sha256, joining.node_id, known, unix_us
        )
        issued = admitted if isinstance(admitted, str) else self._issue(joining.request, admitted)
        if isinstance(issued, str):
            self._journal.count("join_tokens_refused")
            self._journal.write("warning", "join token refused", token_id=joining.token_id, reason=issued)
        else:
            names = issued.certified
            self._journal.count("join_tokens_used")
            about = {"node_id": names.node_id, "serial": names.serial}
            self._journal.write("info", "join token used", token_id=joining.token_id, **about)
        return issued

    def renew(self, certified: Certified, request: bytes) -> Certificate | str:
        """The next certificate of an edge, for the names that its session has proved; or why not."""
        issued = self._issue(request, Admission(certified.region, certified.node_id))
        if isinstance(issued, str):
            self._journal.write("warning", "certificate refused", node_id=certified.node_id, reason=issued)
        else:
            self._journal.count("certificates_renewed")
            about = {"node_id": certified.node_id, "serial": issued.certified.serial}
            self._journal.write("info", "certificate renewed", **about)
        return issued

    def _issue(self, request: bytes, admitted: Admission) -> Certificate | str:
        if self._certify is None:
            return NO_AUTHORITY
        issued = self._certify(request, admitted, self._book.revoked_until(admitted.node_id))
        if isinstance(issued, Certificate):
            self._book.note_issued(issued.certified, issued.expires_unix_us)
        return issued


def why_not_serial(serial: str) -> str | None:
    """Why this is no serial number of a certificate."""
    if 0 < len(serial) <= 40 and set(serial) <= set("0123456789abcdef"):
        return None
    return "a serial number has 1 to 40 hexadecimal digits (farcast ca show prints it)"


def revoked_reason(node_id: str) -> str:
    """What an edge hears whose certificate counts no more."""
    return f"edge {node_id} was removed, or its certificate revoked; it comes back with a new join token"
