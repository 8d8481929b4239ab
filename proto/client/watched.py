"""The tracks that a viewer watches, and its subscription of each at every session it has."""

from __future__ import annotations

from dataclasses import dataclass, field

from farcast.proto._core import LargestCell
from farcast.proto.client.progress import Progress
from farcast.proto.moqt.values import Location

PRIORITY_DEFAULT = 128
"""Of a track, where nobody says another; 0 is first."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One track at one session: asked for (``request``), accepted (``alias``), and bringing objects
    (``delivers``). ``asked_from``: where it was to go on; ``whole``: it is asked for as it runs instead;
    ``skips``: it brings only what comes later."""

    session: int
    request: int | None = None
    alias: int | None = None
    asked_from: Location | None = None
    whole: bool = False
    delivers: bool = False
    skips: bool = False

    @property
    def is_bound(self) -> bool:
        """Whether what comes of it goes into the track."""
        return self.alias is not None


@dataclass(slots=True, eq=False)
class WatchedTrack:
    """``sink`` is where the datapath hands it over, ``restarts`` says that its publisher starts over,
    ``ending`` that it has ended, but for streams on their way, ``full`` why there was no room for us,
    ``arrived_us`` when the last object came, ``next_group`` that it is wanted from the group after the
    running one on."""

    name: bytes
    id: int
    priority: int
    next_group: bool = False
    largest: LargestCell = field(default_factory=LargestCell)
    progress: Progress = field(default_factory=Progress)
    sink: int | None = None
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    restarts: bool = False
    retries: int = 0
    arrived_us: int | None = None
    full: str = ""
    ending: str | None = None

    def at(self, session: int | None) -> Subscription | None:
        """Its subscription at a session."""
        return None if session is None else self.subscriptions.get(session)

    def begin(self, session: int) -> Subscription:
        """Its subscription at a session, made if there is none."""
        return self.subscriptions.setdefault(session, Subscription(session))

    def bound(self) -> list[Subscription]:
        """Those that feed it."""
        return [found for found in self.subscriptions.values() if found.is_bound]

    def note_delivery(self, here: Subscription, group: int) -> bool:
        """Objects of a group come over a subscription; whether it is the first sign that it delivers.

        An edge that has just begun with the track itself may lack what was asked for; another one that has
        it is to be asked too. Where two lack it, it is gone."""
        if here.delivers:
            return False
        here.skips = here.asked_from is not None and group > here.asked_from.group
        here.delivers = not here.skips or sum(found.skips for found in self.bound()) > 1
        return here.delivers

    def is_settled_at(self, session: int | None) -> bool:
        """Whether a session brings all that is wanted of it, so that no other one is needed."""
        here = self.at(session)
        others = any(found.session != session for found in self.bound())
        return not others or (here is not None and here.delivers)
