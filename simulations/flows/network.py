"""The edges of a world and the links between them, as arrays; what events do to them.

Arrays ``[src, dst]`` are by the position of an edge in ``node_ids``, which is sorted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.link_estimate import estimate_loss
from farcast.control_plane.network import Network, Node
from farcast.proto.control.messages import Hello
from farcast.simulations.events import (
    AnyEvent,
    Capacity,
    Clog,
    Crash,
    Cut,
    Detour,
    Gray,
    Isolate,
    LinkEvent,
    LossFault,
    Mend,
    Partition,
    Restart,
)
from farcast.simulations.flows.delays import Losses, losses_of
from farcast.simulations.links import LinkModel
from farcast.simulations.worlds import EdgeSite, WorldSpec

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Positions = NDArray[np.int64]

PROBES_PER_S = 25.0
"""Packets on a link without media: heartbeats every 40 ms."""

MEDIA_PACKET_BITS = 9_600.0
RISE_P99 = 2.326
QUEUE_MS = 100.0
"""What a full link holds up, where its model does not say."""


@dataclass(slots=True)
class FlowNetwork:
    """Static figures, and what faults have made of them (`up`, `alive`, `extra_ms` and what follows)."""

    sites: tuple[EdgeSite, ...]
    ends: Positions
    """What the paths of each node are known by: itself, or in a large world its region."""
    models: Mapping[tuple[int, int], LinkModel]
    groups: Mapping[tuple[int, int], frozenset[str]]
    """Of paths, by ends."""
    node_ids: tuple[str, ...] = field(init=False)
    delay_ms: Floats = field(init=False)
    rise_ms: Floats = field(init=False)
    loss: Floats = field(init=False)
    burst: Floats = field(init=False)
    rate_bps: Floats = field(init=False)
    up: Bools = field(init=False)
    alive: Bools = field(init=False)
    extra_ms: Floats = field(init=False)
    fault_loss: Floats = field(init=False)
    link_bps: Floats = field(init=False)
    usable: Bools = field(init=False)
    """Links that carry anything, as of the last `remember`."""
    _log: list[tuple[int, Floats, Floats]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node_ids = tuple(site.node_id for site in self.sites)
        count, ends = len(self.sites), int(self.ends.max()) + 1
        figures = np.full((5, ends, ends), np.nan)
        for (a, b), model in self.models.items():
            losses = losses_of(model, PROBES_PER_S)
            rate_bps = float(model.rate_bps or 0)
            figures[:, a, b] = (
                model.median_delay_us / 1e3,
                _rise_ms(model),
                rate_bps,
                losses.share,
                losses.burst,
            )
        spread = figures[:, self.ends[:, None], self.ends[None, :]]
        spread[:, np.arange(count), np.arange(count)] = np.nan
        self.up = np.isfinite(spread[0])
        self.delay_ms, self.rise_ms, self.rate_bps, self.loss, burst = np.nan_to_num(spread)
        self.burst = np.maximum(burst, 1.0)
        self.alive = np.ones(count, np.bool_)
        self.extra_ms, self.fault_loss = np.zeros((count, count)), np.zeros((count, count))
        self.link_bps = self.rate_bps.copy()
        self.usable = self.up.copy()

    @classmethod
    def of(cls, spec: WorldSpec) -> FlowNetwork:
        """That of a world."""
        sites = tuple(sorted(spec.edges, key=lambda site: site.node_id))
        known = {path.src for path in spec.paths} | {path.dst for path in spec.paths}
        names = sorted(known | {site.node_id for site in sites if site.region not in known})
        at = {name: k for k, name in enumerate(names)}
        ends = [at.get(site.node_id, at.get(site.region, -1)) for site in sites]
        paths = {(at[path.src], at[path.dst]): path for path in spec.paths}
        return cls(
            sites,
            np.array(ends, np.int64),
            {pair: path.model for pair, path in paths.items()},
            {pair: frozenset(path.groups) for pair, path in paths.items() if path.groups},
        )

    @property
    def rtt_ms(self) -> Floats:
        """Median round trips now; NaN where there is no way."""
        one_way = np.where(self.up, self.delay_ms + self.extra_ms, np.nan)
        return one_way + one_way.T

    def rtt_between(self, a: int, b: int) -> float:
        """Median round trip of one pair now, ms."""
        there, back = ((x, y) for x, y in ((a, b), (b, a)))
        one_way = (self.delay_ms[pair] + self.extra_ms[pair] for pair in (there, back))
        return float(sum(one_way))

    def model(self, src: int, dst: int) -> LinkModel:
        """The link as the world made it."""
        return self.models[int(self.ends[src]), int(self.ends[dst])]

    def losses(self, src: int, dst: int) -> Losses:
        """Of the link now, faults included."""
        share = 1 - (1 - self.loss[src, dst]) * (1 - self.fault_loss[src, dst])
        return Losses(float(share), float(self.burst[src, dst]))

    def remember(self, at_us: int) -> None:
        """Links are from now on as they are now, for `usable` and `spells`."""
        self.usable = self.up & self.alive[:, None] & self.alive[None, :]
        self._log.append((at_us, self.extra_ms.copy(), self.fault_loss.copy()))

    def spells(self, src: int, dst: int) -> Iterator[tuple[int, int, float, float]]:
        """From when, until when, a link was how much longer (ms, one way) and lost how much more."""
        begins = [at_us for at_us, _, _ in self._log]
        ends = [*begins[1:], 1 << 62]
        if not begins or begins[0] > 0:
            yield 0, begins[0] if begins else 1 << 62, 0.0, 0.0
        for (at_us, extra_ms, loss), end_us in zip(self._log, ends, strict=False):
            yield at_us, end_us, float(extra_ms[src, dst]), float(loss[src, dst])

    # ---- Events -----------------------------------------------------------------------------------

    def apply(self, event: AnyEvent) -> bool:
        """Let an event begin; whether it concerns the network at this level."""
        match event:
            case Cut():
                self._set(event, self.up, 0.0)
            case Mend():
                self._mend(event)
            case Detour():
                self._set(event, self.extra_ms, event.rise_ms / 2)
            case Clog():
                self._set(event, self.extra_ms, event.delay_ms)
            case LossFault() | Gray():
                self._set(event, self.fault_loss, event.loss)
            case Capacity():
                self._set(event, self.link_bps, float(event.rate_bps))
            case Partition() | Isolate():
                self._part(event, False)
            case Crash():
                self.alive[self.nodes_of(event.node)] = False
            case Restart():
                self.alive[self.nodes_of(event.node)] = True
            case _:
                return False
        return True

    def undo(self, event: AnyEvent) -> None:
        """Its time is over."""
        match event:
            case LinkEvent():
                self._mend(event)
            case Partition() | Isolate():
                self._part(event, True)
            case Crash():
                self.alive[self.nodes_of(event.node)] = True

    def nodes_of(self, place: str) -> list[int]:
        """Positions of a node, or of all in a region."""
        return [k for k, site in enumerate(self.sites) if place in (site.node_id, site.region)]

    def links_of(self, event: LinkEvent) -> Iterator[tuple[int, int]]:
        """Directed links that an event is about."""
        for a, b in event.links:
            for src in self.nodes_of(a):
                for dst in self.nodes_of(b):
                    yield src, dst
                    if not event.one_way:
                        yield dst, src
        for (src_end, dst_end), groups in self.groups.items() if event.group else ():
            if event.group in groups:
                yield from itertools.product(
                    np.flatnonzero(self.ends == src_end).tolist(),
                    np.flatnonzero(self.ends == dst_end).tolist(),
                )

    def _set(self, event: LinkEvent, figures: NDArray[Any], value: float) -> None:
        for src, dst in self.links_of(event):
            if self.delay_ms[src, dst] > 0:
                figures[src, dst] = value

    def _mend(self, event: LinkEvent) -> None:
        for src, dst in self.links_of(event):
            if self.delay_ms[src, dst] > 0:
                self.up[src, dst] = True
                self.extra_ms[src, dst] = self.fault_loss[src, dst] = 0.0
                self.link_bps[src, dst] = self.rate_bps[src, dst]

    def _part(self, event: Partition | Isolate, up: bool) -> None:
        if isinstance(event, Isolate):
            ours = self.nodes_of(event.place)
            theirs = [k for k in range(len(self.sites)) if k not in ours]
        else:
            ours = [k for place in event.a for k in self.nodes_of(place)]
            theirs = [k for place in event.b for k in self.nodes_of(place)]
        for src in ours:
            for dst in theirs:
                for pair in ((src, dst),) if event.one_way else ((src, dst), (dst, src)):
                    if self.delay_ms[pair] > 0:
                        self.up[pair] = up


class LinkCounts:
    """What edges count on their links: packets and losses of about the last 10 and 60 seconds, as sums that
    fade (one array each instead of seventy), judged by the control plane's own estimates."""

    def __init__(self, nodes: int, seed: int) -> None:
        self._draw = np.random.default_rng([seed, 2])
        self._ten, self._minute = np.zeros((3, nodes, nodes)), np.zeros((3, nodes, nodes))

    def count(self, network: FlowNetwork, carried_bits: Floats, fits: Floats | float, seconds: float) -> None:
        """Let time pass over the links. ``carried_bits[src, dst]`` of media meanwhile; ``fits``: the share of
        packets that a link's capacity let through."""
        packets = (PROBES_PER_S * seconds + carried_bits / MEDIA_PACKET_BITS) * network.usable
        share = 1 - (1 - network.loss) * (1 - network.fault_loss) * fits
        lost = self._draw.binomial(packets.astype(np.int64), np.clip(share, 0.0, 1.0)).astype(np.float64)
        new = np.stack([packets, lost, lost / network.burst])
        for sums, time_s in ((self._ten, 10.0), (self._minute, 60.0)):
            sums *= np.exp(-seconds / time_s)
            sums += new

    def network(
        self,
        network: FlowNetwork,
        hellos: Sequence[Hello],
        egress_bps: Floats,
        link_full: Bools,
        now_us: int,
    ) -> Network:
        """The network as the control plane would know it."""
        losses = estimate_loss(self._ten, self._minute)
        queue_ms = QUEUE_MS * link_full
        rtt_ms = network.rtt_ms + queue_ms + queue_ms.T
        rise_ms = network.rise_ms + network.rise_ms.T
        nodes = [
            Node(
                hello.node_id,
                hello.region,
                hello.provider,
                capacity_bps=hello.egress_bps_max,
                egress_bps=int(bps),
            )
            for hello, bps in zip(hellos, egress_bps.tolist(), strict=True)
        ]
        groups: dict[tuple[str, str], set[str]] = {}
        region = {end: site.region for end, site in zip(network.ends.tolist(), network.sites, strict=True)}
        for (one, other), names in network.groups.items():
            groups.setdefault((region[one], region[other]), set()).update(names)
        return Network.build(
            nodes,
            rtt_ms,
            now_us=now_us,
            loss=losses.loss,
            loss_low=losses.low,
            loss_high=losses.high,
            rtt_p99_ms=rtt_ms + rise_ms,
            burst=losses.burst,
            usable=network.usable,
            link_groups=groups,
        )


def _rise_ms(model: LinkModel) -> float:
    """One-way p99 of the delay above its median."""
    log = model.delay_log_median_us * (np.exp(RISE_P99 * model.delay_log_sigma) - 1)
    return float(log + model.jitter_us / 2) / 1e3
