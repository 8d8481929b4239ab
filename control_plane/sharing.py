"""What a control plane asks of the store that several of them share, beside its own state directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from farcast.control_plane.store import Restored, Save


@dataclass(frozen=True, slots=True)
class Unshared:
    """Why another control plane would not know what was ordered here. ``fenced``: another one leads."""

    reason: str
    fenced: bool


class Shared(Protocol):
    """Where the next leader finds what this one knew (`farcast.control_plane.registry.consul`)."""

    def begin(self, restored: Restored) -> Restored:
        """A reign begins: what is known, of the disk and of the store."""
        ...

    def save(self, save: Save) -> None:
        """Something has changed."""
        ...

    async def settle(self) -> Unshared | None:
        """Wait, not for long, until all that was ordered is there; ``None``, or why it is not."""
        ...


async def shared_by_nobody() -> Unshared | None:
    """`Shared.settle` where there is one control plane only."""
    return None
