"""What happens during a scenario: one frozen dataclass for each kind of ``[[event]]``.

Times count, in microseconds, from the moment when the network stands and the scenario's clock is at 0.
``for_us=None`` means: to the end of the run, or until a later event undoes it. Places are named by region
(``sin``: all edges there) or by node id (``sin-1``); clients by the name of their entry in the load
(``jakarta``: all of it) or their own (``jakarta-3``).

`EVENTS` maps each ``kind`` of a scenario file to its class; `scenario_file` reads the fields by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

BadPlanKind: TypeAlias = Literal[
    "empty", "older", "foreign", "circular", "nobody", "truncated", "doubled", "garbage"
]
"""A plan without routes; of an earlier version; of another cluster; with a circle; that leaves out every
other node; cut off in the middle; with each entry twice; bytes that are no plan."""

HostileKind: TypeAlias = Literal["silent", "flap", "garbage", "unread", "handshakes", "unauthorised"]
"""Connects and says nothing; connects and goes, again and again; sends control bytes that mean nothing;
subscribes and never reads; begins handshakes and never ends them."""

RandomFaultKind: TypeAlias = Literal[
    "loss", "delay", "clog", "partition", "isolate", "swizzle", "crash", "restart", "pause", "clock",
    "disk", "bad-plan", "upgrade", "mixed-versions",
]  # fmt: skip

RANDOM_FAULTS_MAX: Final = 1_000
"""Faults of one `RandomFaults`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``at_us``: when it begins."""

    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvent(Event):
    """About links between edges: ``links``, pairs of places, and all links of the risk group ``group``;
    and about the access of ``clients``, to whatever edge. Both directions, unless ``one_way``: then from the
    first of a pair to the second, or down to a client."""

    links: tuple[tuple[str, str], ...] = ()
    group: str = ""
    clients: tuple[str, ...] = ()
    one_way: bool = False
    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(LinkEvent):
    """Nothing passes any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend(LinkEvent):
    """The links are as the world made them again, whatever was done to them. ``for_us`` means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detour(LinkEvent):
    """Traffic takes a longer way: the round trip rises by ``rise_ms``, half of it each direction."""

    rise_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LossFault(LinkEvent):
    """In series with the link's own loss: the share ``loss`` of packets, in runs of ``burst`` packets."""

    loss: float
    burst: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gray(LinkEvent):
    """A gray failure: of datagrams larger than ``large_bytes`` the share ``loss`` is lost; heartbeats and
    probes pass."""

    loss: float
    large_bytes: int = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Clog(LinkEvent):
    """What is sent waits: ``delay_ms`` is added to each direction (FoundationDB's clogging)."""

    delay_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity(LinkEvent):
    """The links carry ``rate_bps`` each direction."""

    rate_bps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MtuDrop(LinkEvent):
    """Datagrams of more than ``mtu_bytes`` on the wire vanish."""

    mtu_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(Event):
    """Nothing passes from any place of ``a`` to any of ``b``; nor back, unless ``one_way``. Control links of
    edges cross it where the control plane's region is on the other side."""

    a: tuple[str, ...]
    b: tuple[str, ...]
    one_way: bool = False
    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolate(Event):
    """All edges of ``place`` are cut off from all edges elsewhere, and from the control plane; its clients
    stay connected to it. ``one_way``: they hear, but are not heard."""

    place: str
    one_way: bool = False
    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swizzle(Event):
    """FoundationDB's swizzle-clogging: the edges of ``places`` are cut off one after another, ``gap_us``
    apart, and come back one after another in an order drawn from the seed."""

    places: tuple[str, ...]
    gap_us: int = 500_000
    for_us: int = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Event):
    """An edge is gone, in an instant and without a word. With ``for_us`` it is started again after that."""

    node: str
    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart(Event):
    """An edge that crashed starts again, from its plan file; ``lost_disk``: without one."""

    node: str
    lost_disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Event):
    """An edge is stopped (SIGSTOP) and goes on after ``for_us``, with its clocks ahead. ``agent_only``: its
    datapath, which is another thread, is not; some handler of its agent takes all of the time."""

    node: str
    for_us: int
    agent_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStep(Event):
    """The wall clock of ``place`` (an edge, a region, ``control``, or ``all``) jumps by ``step_us``, and runs
    ``drift_ppm`` fast from then on. Monotonic clocks only drift."""

    place: str
    step_us: int = 0
    drift_ppm: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFault(Event):
    """The stored plan of an edge is damaged: ``what`` is truncated, flipped (one bit) or gone. It matters at
    the next restart."""

    node: str
    what: Literal["truncated", "flipped", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlStop(Event):
    """The control plane is gone; edges' control links break."""

    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlStart(Event):
    """The control plane is back; ``lost_state``: it knows nothing any more."""

    lost_state: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BadPlan(Event):
    """A bad plan reaches every edge of ``places`` (empty: all), as if the control plane had sent it."""

    what: BadPlanKind
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain(Event):
    """An edge is drained, as an operator does it: by the control plane, then GOAWAY. With ``for_us`` it comes
    back after that."""

    node: str
    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade(Event):
    """A rolling upgrade: the edges of ``nodes`` (empty: all), one after another and ``gap_us`` apart, are
    drained, stopped after ``drain_us``, and started again ``down_us`` later.

    ``from_before``: until then they are of the build before (see `dialects`), from the beginning of the run;
    ``to_before``: from then on, as after a rollback. Neither: the same build comes back."""

    nodes: tuple[str, ...] = ()
    gap_us: int = 20_000_000
    drain_us: int = 5_000_000
    down_us: int = 2_000_000
    from_before: bool = False
    to_before: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackOut(Event):
    """Clients have no signal at all for ``for_us``, and come back with another address if ``new_address``
    (lift, metro, Wi-Fi to mobile). ``profile``: the access they have from then on (empty: as before)."""

    clients: tuple[str, ...]
    for_us: int
    new_address: bool = True
    profile: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebind(Event):
    """The NAT in front of clients gives them another address every ``every_us``."""

    clients: tuple[str, ...]
    every_us: int
    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesGone(Event):
    """The resolver has no answer to any name (the domain is on hold): what clients learn of edges from lists
    and farewells they cannot reach, unless they know its address already."""

    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd(Event):
    """``count`` more viewers like those of the load's entry ``viewers`` join within ``over_us``, evenly. They
    are clients of the world that `build_world` makes: whoever runs it has nothing to do at this event."""

    viewers: str
    count: int
    over_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowViewer(Event):
    """The downlink of clients falls to ``rate_bps``."""

    clients: tuple[str, ...]
    rate_bps: int
    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile(Event):
    """``count`` hostile peers at an edge, with clean paths of 20 ms."""

    node: str
    what: HostileKind
    count: int = 1
    for_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomFaults(Event):
    """Faults of ``kinds`` drawn from the seed, ``per_minute`` of them on average, for ``for_us``. Each lasts
    ``fault_us_max`` at most, and the last is undone when the time is over. Then nothing for ``calm_us``;
    after that every viewer must have the newest group."""

    for_us: int
    calm_us: int
    per_minute: float
    kinds: tuple[RandomFaultKind, ...]
    fault_us_max: int = 10_000_000


AnyEvent: TypeAlias = (
    Cut
    | Mend
    | Detour
    | LossFault
    | Gray
    | Clog
    | Capacity
    | MtuDrop
    | Partition
    | Isolate
    | Swizzle
    | Crash
    | Restart
    | Pause
    | ClockStep
    | DiskFault
    | ControlStop
    | ControlStart
    | BadPlan
    | Drain
    | Upgrade
    | BlackOut
    | Rebind
    | NamesGone
    | Crowd
    | SlowViewer
    | Hostile
    | RandomFaults
)

EVENTS: Final[dict[str, type[AnyEvent]]] = {
    "cut": Cut,
    "mend": Mend,
    "detour": Detour,
    "loss": LossFault,
    "gray": Gray,
    "clog": Clog,
    "capacity": Capacity,
    "mtu": MtuDrop,
    "partition": Partition,
    "isolate": Isolate,
    "swizzle": Swizzle,
    "crash": Crash,
    "restart": Restart,
    "pause": Pause,
    "clock-step": ClockStep,
    "disk": DiskFault,
    "control-stop": ControlStop,
    "control-start": ControlStart,
    "bad-plan": BadPlan,
    "drain": Drain,
    "upgrade": Upgrade,
    "black-out": BlackOut,
    "rebind": Rebind,
    "names-gone": NamesGone,
    "crowd": Crowd,
    "slow-viewer": SlowViewer,
    "hostile": Hostile,
    "random-faults": RandomFaults,
}
"""By the ``kind`` of a scenario file."""


def kind_of(event: AnyEvent) -> str:
    """The ``kind`` by which a scenario file calls it."""
    return next(kind for kind, made in EVENTS.items() if made is type(event))
