"""Plays a scenario's events on a network."""

from __future__ import annotations

from farcast.simulations.events import AnyEvent
from farcast.simulations.network import Network
from farcast.simulations.raw import Fault


class FaultPlayer:
    """Schedules events; ``played`` is what was done, in order."""

    def __init__(self, network: Network, events: tuple[AnyEvent, ...], seed: int) -> None:
        self.played: list[Fault] = []
        self._network = network

    def schedule(self, event: AnyEvent, began_us: int) -> None:
        """Have it happen at its time."""

    def is_calm(self, now_us: int) -> bool:
        """Whether a calm phase has lasted long enough that everybody must have the newest group."""
        return False
