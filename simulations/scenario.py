"""A scenario as plain data: what is asked for, before anything is drawn.

A scenario is a world (edges and what lies between them), a load (who publishes what, who watches it, over
which access), events, and promises. `scenario_file.load_scenario` reads one from TOML and checks it;
`worlds.build_world` draws the world of one seed from it. Rates are bit/s, times integer microseconds, shares
0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, TypeAlias

from farcast.simulations.events import AnyEvent

SCENARIO_VERSION: Final = 1
"""Of the file format: a file says which it is written for."""

Scale: TypeAlias = Literal["packets", "flows"]
Stack: TypeAlias = Literal["farcast", "stock"]
Transport: TypeAlias = Literal["quic", "webtransport"]
Quality: TypeAlias = Literal["fixed", "auto"]
BackboneKind: TypeAlias = Literal["aws", "azure", "public", "flat", "import"]
"""Whose matrix lies between edges: AWS (median and p90), Azure (medians), the public Internet as synthesised
from AWS (`matrices.public_internet`), one round trip for all pairs, or a file that real edges measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeGroup:
    """``count`` edges in a region: ``sin-1``, ``sin-2``, …

    ``region``: a short name of `matrices.REGIONS`, an AWS region, or for Azure worlds a display name.
    ``capacity_bps``: what an edge may send, 0 for no bound.
    """

    region: str
    count: int = 1
    provider: str = ""
    capacity_bps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """What lies between edges.

    ``dispersion``: delays follow a shifted lognormal fitted to median and p90 of the pair; else the median
    only. ``loss``: ``None`` draws each directed link's from `matrices.LOSS_QUANTILES`. ``rtt_ms``: of the
    kind ``flat``. ``rate_bps``: ``None`` for links that nobody fills; ``queue_ms`` is what may wait for it.
    ``file``: of the kind ``import``.
    """

    kind: BackboneKind = "aws"
    dispersion: bool = True
    loss: float | None = None
    loss_burst: float = 3.0
    rtt_ms: float = 0.0
    rate_bps: int | None = None
    queue_ms: float = 100.0
    file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChange:
    """How some links differ from the backbone's. What is ``None`` stays. ``links``: pairs of places."""

    links: tuple[tuple[str, str], ...]
    one_way: bool = False
    rtt_ms: float | None = None
    loss: float | None = None
    loss_burst: float | None = None
    rate_bps: int | None = None
    queue_ms: float | None = None
    policer_bps: int | None = None
    policer_burst_bytes: int | None = None
    mtu_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskGroupConfig:
    """What fails together, as the planner is told: links by pairs of regions, or nodes by id."""

    name: str
    kind: Literal["cable", "provider", "region", "site"] = "cable"
    links: tuple[tuple[str, str], ...] = ()
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """Edges and what lies between them. ``control_region``: where the control plane is (a region that has an
    edge). ``access``: everybody may do everything, or what a token says (`tokens`)."""

    edges: tuple[EdgeGroup, ...]
    control_region: str
    backbone: Backbone = field(default_factory=Backbone)
    changes: tuple[LinkChange, ...] = ()
    groups: tuple[RiskGroupConfig, ...] = ()
    access: Literal["open", "tokens"] = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """One video track. ``fps`` frames a second."""

    height: int
    bitrate_bps: int
    fps: int = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmConfig:
    """What a publisher sends: renditions (best first), sound, length of a group of pictures.

    ``sizes``: ``recorded``, frame sizes of a really encoded film, scaled to each rendition's rate; ``model``,
    a key frame of ``key_ratio`` times the others' size.
    """

    name: str
    renditions: tuple[Rendition, ...]
    audio_bps: int = 96_000
    gop_ms: int = 1_000
    sizes: Literal["recorded", "model"] = "recorded"
    key_ratio: float = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a client is connected; see `access` for the profiles.

    ``profile``: ``mlab`` (fixed access, percentiles of the country), ``wifi-weak``, ``mobile-good``,
    ``mobile-median``, ``mobile-poor``, ``pantheon:ID``, ``atc:NAME``, ``rfc8867:CASE``, ``plain``.
    ``quantile``: how bad, 0 to 1: 0.75 is RTT and loss at p75 and rates at p25. A pair: drawn evenly between
    the two for each client, RTT, loss and rates each on their own account but for ``rank_correlation``.
    A single figure: that for all of them.
    ``loss_fraction``: the part of M-Lab's retransmission share that a media flow meets.
    For ``plain`` (and, where given, in place of what the profile says): ``rtt_ms``, ``down_bps``, ``up_bps``,
    ``loss``, ``queue_ms``, ``jitter_ms``, ``policer_bps``.
    ``loss`` comes in runs of ``loss_burst`` packets; or, with ``loss_burst_ms``, in outages of that length on
    average, however many packets they hit; or, with ``loss_bad``, on two levels: for the share ``bad_share``
    of packets, ``bad_packets`` on end, the access is in a bad state that loses so much.
    """

    profile: str = "mlab"
    quantile: tuple[float, float] = (0.05, 0.95)
    rank_correlation: float = 0.5
    loss_fraction: float = 0.1
    rtt_ms: float | None = None
    down_bps: int | None = None
    up_bps: int | None = None
    loss: float | None = None
    loss_burst: float = 3.0
    loss_burst_ms: float | None = None
    loss_bad: float | None = None
    bad_share: float = 0.05
    bad_packets: float = 500.0
    queue_ms: float | None = None
    jitter_ms: float | None = None
    policer_bps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherGroup:
    """``count`` publishers (``name``; with more than one ``name-1``, ``name-2``, …) in a country, each of
    ``film`` into ``room`` (``live/room1``: each publishes ``live/room1/NAME``)."""

    name: str
    room: str
    country: str
    film: str
    city: str = ""
    count: int = 1
    market: str = ""
    access: Access = field(default_factory=Access)
    transport: Transport = "quic"
    at_us: int = 0
    until_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerGroup:
    """``count`` viewers (``name-1``, …) in a country who watch everything in ``room``.

    ``city``: the first of the country's if empty. ``market``: what promises call them, the country if empty.
    ``stock_share``: how many of them are stock clients (last mile in plain QUIC, no recovery of ours).
    ``webtransport_share``: the rest speaks raw QUIC. They come evenly over ``joins_us`` (first, last) and
    leave at ``leaves_us``. ``quality``: of several renditions the best that the access's rate has room for,
    once (``fixed``), or what the tools choose by what arrives (``auto``; own viewers only).
    """

    name: str
    room: str
    country: str
    count: int
    city: str = ""
    market: str = ""
    access: Access = field(default_factory=Access)
    stock_share: float = 0.5
    webtransport_share: float = 0.5
    joins_us: tuple[int, int] = (0, 5_000_000)
    leaves_us: int | None = None
    quality: Quality = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Who publishes and who watches."""

    films: tuple[FilmConfig, ...]
    publishers: tuple[PublisherGroup, ...]
    viewers: tuple[ViewerGroup, ...]

    def film(self, name: str) -> FilmConfig:
        """By name; ``KeyError`` if there is none."""
        for film in self.films:
            if film.name == name:
                return film
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """The form of the project's gate: so long, at most so many viewers, these events.

    ``scale``: ``packets`` where the full form is at the flow level. ``viewers_max`` keeps the share of each
    group, and one viewer of each at least. ``edges_per_group_max``: of each group of edges so many, 0: all.
    """

    duration_us: int = 30_000_000
    viewers_max: int = 20
    edges_per_group_max: int = 0
    scale: Scale = "packets"
    events: tuple[AnyEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario. ``sources``: where figures come from; ``measured`` and ``synthesised``: which of them
    were measured, and which were drawn or assumed and how. ``file`` is where it was read."""

    name: str
    title: str
    version: int
    sources: tuple[str, ...]
    measured: tuple[str, ...]
    synthesised: tuple[str, ...]
    seed: int = 1
    duration_us: int
    scale: Scale = "packets"
    world: WorldConfig
    load: Load
    events: tuple[AnyEvent, ...]
    promises: tuple[str, ...]
    short: Short
    file: Path
    viewers_max: int | None = None
    """At most so many viewers are made (`shortened` sets it)."""
    is_short: bool = False

    @property
    def duration_s(self) -> float:
        """Seconds of virtual time, from when the network stands."""
        return self.duration_us / 1e6

    @property
    def digest(self) -> str:
        """SHA-256 of everything that a run depends on but its seed and data files; in hex."""
        return sha256(repr(replace(self, file=Path(), title="", promises=())).encode()).hexdigest()

    def shortened(self) -> Scenario:
        """Its short form, as the gate runs it: the same world, fewer viewers, less time. Viewers come within
        the first third of it."""
        return replace(
            self,
            duration_us=self.short.duration_us,
            scale=self.short.scale,
            events=self.short.events,
            world=replace(self.world, edges=tuple(map(self._fewer, self.world.edges))),
            load=replace(self.load, viewers=tuple(map(self._hurried, self.load.viewers))),
            viewers_max=self.short.viewers_max,
            is_short=True,
        )

    def _hurried(self, group: ViewerGroup) -> ViewerGroup:
        first, last = group.joins_us
        latest = self.short.duration_us // 3
        return replace(group, joins_us=(min(first, latest), min(last, latest)))

    def _fewer(self, group: EdgeGroup) -> EdgeGroup:
        most = self.short.edges_per_group_max
        return replace(group, count=min(group.count, most)) if most else group
