"""What the HTTP API asks of the service behind it. Methods that order something return ``None``, or why
not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from farcast.control_plane.controller import Controller
    from farcast.control_plane.invitations import Invitee
    from farcast.control_plane.orders import Orders
    from farcast.proto.access.keys import TrustedKey
    from farcast.proto.joining.tokens import JoinToken


class Service(Protocol):
    """A control plane."""

    @property
    def controller(self) -> Controller:
        """The engine; only to be read."""
        ...

    @property
    def ready(self) -> bool:
        """Whether edges can join."""
        ...

    def now_us(self) -> int:
        """The engine's clock."""
        ...

    def metrics(self) -> bytes:
        """The Prometheus text."""
        ...

    def order(self, action: str, give: Callable[[Orders], str | None], **about: str) -> str | None:
        """Give an order; ``action`` and ``about`` name it in traces."""
        ...

    def trust(self, key: TrustedKey) -> str | None:
        """Take the tokens of an issuer's key."""
        ...

    def distrust(self, key_id: str) -> str | None:
        """Forget an issuer's key."""
        ...

    def revoke_key(self, key_id: str) -> str | None:
        """Take a key's tokens never again."""
        ...

    def revoke_token(self, token_id: str) -> str | None:
        """Take a token no more."""
        ...

    def invite(self, wanted: Invitee) -> JoinToken | str:
        """A new join token, or why there is none."""
        ...

    def revoke_node(self, node_id: str) -> str | None:
        """Take an edge's certificates no more."""
        ...

    def revoke_serial(self, serial: str) -> str | None:
        """Take one certificate no more."""
        ...

    def revoke_join_token(self, token_id: str) -> str | None:
        """Let nobody in by a join token any more."""
        ...

    def remove(self, node_id: str) -> str | None:
        """Take an edge out for good."""
        ...
