"""What is known of nodes and links, out of the edges' reports.

Reports are taken in the order in which the edges sent them: one of another boot, or with a sequence number
not above the last, is late or repeated, and changes nothing. What a report leaves out stays as it was. A
missing report takes nothing away: a link stays usable until its receiver says that it is silent or gone; it
only stops being fresh, so that nothing new is put on it. A node whose control session is gone stays in the
network while any other node still hears it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from farcast.control_plane.intents import Override
from farcast.control_plane.link_estimate import (
    LinkTable,
    both_ways,
    estimate_loss,
    usable,
    wilson,
)
from farcast.control_plane.link_history import LinkHistory
from farcast.control_plane.network import Bools, Floats, Indices, Network, Node
from farcast.control_plane.plan import Demand
from farcast.control_plane.pressure import Pressure
from farcast.control_plane.risk_groups import RiskGroups
from farcast.proto.control.messages import Hello, Load, Report

SLOTS_LEAST: Final = 8


@dataclass(frozen=True, slots=True)
class LinkStateConfig:
    """Settings. ``prices_per_gb`` by provider, in any one currency."""

    risk_groups: RiskGroups = field(default_factory=RiskGroups)
    prices_per_gb: Mapping[str, float] = field(default_factory=dict)
    nodes_max: int = 1_024
    report_fresh_us: int = 5_000_000
    """Age of a node's last report up to which its links are fresh."""
    link_fresh_us: int = 12_000_000
    """Age of what was last said of a link; edges repeat themselves every 4 s where nothing changes."""
    forget_us: int = 600_000_000
    """A node that is gone and unheard is forgotten after this."""


@dataclass(slots=True)
class _Edge:
    """A node as it has told us."""

    hello: Hello
    slot: int
    connected: bool = True
    draining: bool = False
    drained_by_order: bool = False
    sequence: int = -1
    reported_us: int = -(1 << 62)
    left_us: int = 0
    load: Load = field(default_factory=Load)
    pressure: Pressure = field(default_factory=Pressure)
    demand: dict[str, int] = field(default_factory=dict)
    heard: set[int] = field(default_factory=set)
    """Slots of the nodes that it hears."""


@dataclass(frozen=True, slots=True)
class LinkView:
    """One directed link for people. Loss as shares; ``loss_low`` and ``loss_high`` as in `Network`;
    ``packets`` and ``lost`` by window, 1, 10 and 60 s; ``spacing_ms``: mean variation of transit times;
    ``rx_bps``: what arrives; ``age_ms`` since its receiver last spoke of it."""

    src: str
    dst: str
    rtt_ms: float
    rtt_min_ms: float
    rtt_latest_ms: float
    rtt_p99_ms: float
    rtt_variation_ms: float
    loss: float
    loss_low: float
    loss_high: float
    loss_average: float
    interval_60s: tuple[float, float]
    packets: tuple[int, int, int]
    lost: tuple[int, int, int]
    burst: float
    spacing_ms: float
    rx_bps: int
    media: bool
    silent: bool
    usable: bool
    fresh: bool
    age_ms: float


class LinkState:
    """Nodes and directed links, fed by reports."""

    def __init__(self, config: LinkStateConfig) -> None:
        self._config = config
        self._edges: dict[str, _Edge] = {}
        self._table = LinkTable(SLOTS_LEAST)
        self._free: list[int] = []
        self._counters: Counter[str] = Counter()
        self.history: LinkHistory | None = None
        """Of the last hour; begins with the first `sample`."""
        self._kept_out: frozenset[str] = frozenset()
        self._overrides: dict[tuple[str, str], Override] = {}

    # ---- Getters ----------------------------------------------------------------------------------

    @property
    def node_ids(self) -> tuple[str, ...]:
        """All nodes that are remembered, in order."""
        return tuple(sorted(self._edges))

    @property
    def counters(self) -> dict[str, int]:
        """Reports and links ignored, by reason; a copy."""
        return dict(self._counters)

    def load(self, node_id: str) -> Load:
        """The load that a node last reported; ``KeyError`` for an unknown node."""
        return self._edges[node_id].load

    def is_connected(self, node_id: str) -> bool:
        """Whether the control session of a node stands."""
        edge = self._edges.get(node_id)
        return edge is not None and edge.connected

    # ---- Input ------------------------------------------------------------------------------------

    def join(self, hello: Hello, now_us: int) -> bool:
        """An edge's control session stands. False where there is no room for another node.

        What others measured of its links stays; its reports count anew if it has started anew.
        """
        edge = self._edges.get(hello.node_id)
        if edge is None:
            self._forget_gone(now_us)
            if len(self._edges) >= self._config.nodes_max:
                self._counters["joins_refused"] += 1
                return False
            self._edges[hello.node_id] = _Edge(hello, self._slot())
            return True
        if edge.hello.boot_id != hello.boot_id:
            edge.sequence, edge.draining, edge.demand = -1, False, {}
            edge.load, edge.pressure = Load(), Pressure()
        edge.hello, edge.connected = hello, True
        return True

    def leave(self, node_id: str, now_us: int) -> None:
        """Its control session is gone. The node stays in the network while others hear it."""
        edge = self._edges.get(node_id)
        if edge is not None:
            edge.connected, edge.left_us = False, now_us

    def set_draining(self, node_id: str, draining: bool) -> None:
        """By order of an operator, whatever the node itself reports. Unknown nodes are ignored."""
        edge = self._edges.get(node_id)
        if edge is not None:
            edge.drained_by_order = draining

    def set_intents(self, kept_out: Iterable[str], overrides: Iterable[Override]) -> None:
        """What operators say of nodes and links, in place of what was said before: who may not relay, and
        prices and capacities that count instead of configured ones. Nodes may be unknown."""
        self._kept_out = frozenset(kept_out)
        self._overrides = {override.key: override for override in overrides}

    def handle_report(self, node_id: str, report: Report, now_us: int) -> bool:
        """Take over a report; True where planning should not wait: a link went silent, came back or is gone,
        or the node began or ceased to drain."""
        edge = self._edges.get(node_id)
        if edge is None or edge.hello.boot_id != report.boot_id:
            self._counters["reports_of_strangers"] += 1
            return False
        if report.sequence <= edge.sequence:
            self._counters["reports_late"] += 1
            return False
        urgent = report.draining != edge.draining
        edge.sequence, edge.reported_us, edge.draining = report.sequence, now_us, report.draining
        if report.load is not None:
            edge.load = report.load
            if not report.distrust:
                edge.pressure.handle_load(report.load, now_us)
        if report.demand is not None:
            edge.demand = {entry.origin: entry.bps for entry in report.demand}
        return self._take_links(edge, report, now_us) or urgent

    def sample(self, now_us: int, unix_us: int) -> None:
        """Take the links as they are into the history of the hour; once a second."""
        self.history = history = self.history or LinkHistory(now_us)
        table = self._table
        table.settle()
        history.sample(table.rtt_ms, table.known)
        if history.is_due(now_us):
            names = self.node_ids
            history.close(names, self._slots(names), table.take_interval(), now_us, unix_us)

    # ---- Output -----------------------------------------------------------------------------------

    def network(self, now_us: int) -> Network:
        """The network as it is known now."""
        self._table.advance(now_us)
        self._table.settle()
        names = [name for name in sorted(self._edges) if self._is_there(self._edges[name])]
        slots = self._slots(names)
        block = np.ix_(slots, slots)
        table = self._table
        losses = estimate_loss(table.counts(10, slots), table.counts(60, slots))
        rtt_ms, tail_ms = both_ways(table.rtt_ms[block]), both_ways(table.tail_ms[block])
        on_hops_bps = table.tx_bps[block].sum(axis=0).astype(np.int64).tolist()
        return Network.build(
            [self._node(self._edges[name], bps) for name, bps in zip(names, on_hops_bps, strict=True)],
            np.where(rtt_ms > 0, rtt_ms, np.nan),
            now_us=now_us,
            rtt_p99_ms=tail_ms,
            loss=losses.loss,
            loss_low=losses.low,
            loss_high=losses.high,
            burst=losses.burst,
            usable=usable(table, slots),
            fresh=self._fresh(names, slots, now_us),
            capacity_bps=self._capacities(names),
            link_prices=self._link_prices(),
            link_groups=self._config.risk_groups.of_links,
        )

    def demand(self, origins: Iterable[str]) -> dict[str, Demand]:
        """What nodes take of each of ``origins``, by their last reports."""
        loads: dict[str, dict[str, int]] = {origin: {} for origin in origins}
        for name in sorted(self._edges):
            for origin, bps in self._edges[name].demand.items():
                if origin in loads and origin != name:
                    loads[origin][name] = bps
        return {origin: Demand.from_loads(of_nodes) for origin, of_nodes in loads.items()}

    def links(self, now_us: int, network: Network | None = None) -> tuple[LinkView, ...]:
        """Every directed link that has been reported, in order; ``network``: that of now, if at hand."""
        network, table = network or self.network(now_us), self._table
        slots, names = self._slots(network.node_ids), network.node_ids
        a, b = np.nonzero(table.known[np.ix_(slots, slots)])
        i, j = slots[a], slots[b]
        windows = [table.counts(seconds)[:2, i, j] for seconds in (1, 10, 60)]
        packets, lost = ([window[kind].astype(np.int64).tolist() for window in windows] for kind in range(2))
        low, high = wilson(windows[2][1], windows[2][0])
        columns = (
            network.rtt_ms[a, b].tolist(),
            *(figure[i, j].tolist() for figure in (table.least_ms, table.latest_ms)),
            network.rtt_p99_ms[a, b].tolist(),
            table.variation_ms[i, j].tolist(),
            *(figure[a, b].tolist() for figure in (network.loss, network.loss_low, network.loss_high)),
            table.loss_average[i, j].tolist(),
            zip(low.tolist(), high.tolist(), strict=True),
            zip(*packets, strict=True),
            zip(*lost, strict=True),
            network.burst[a, b].tolist(),
            table.spacing_ms[i, j].tolist(),
            table.rx_bps[i, j].astype(np.int64).tolist(),
            *(figure[i, j].tolist() for figure in (table.media, table.silent)),
            *(figure[a, b].tolist() for figure in (network.usable, network.fresh)),
            ((now_us - table.heard_us[i, j]) / 1e3).tolist(),
        )
        ends = ((names[x] for x in a.tolist()), (names[y] for y in b.tolist()))
        return tuple(LinkView(*row) for row in zip(*ends, *columns, strict=True))

    # ---- Nodes ------------------------------------------------------------------------------------

    def _slot(self) -> int:
        if self._free:
            return self._free.pop()
        used = len(self._edges)
        if used >= self._table.slots:
            self._table.grow(min(max(2 * self._table.slots, SLOTS_LEAST), self._config.nodes_max))
        return used

    def _slots(self, names: Iterable[str]) -> Indices:
        return np.array([self._edges[name].slot for name in names], np.int64)

    def _is_there(self, edge: _Edge) -> bool:
        """Connected, or heard by somebody who is."""
        if edge.connected:
            return True
        return any(other.connected and edge.slot in other.heard for other in self._edges.values())

    def _forget_gone(self, now_us: int) -> None:
        for name, edge in list(self._edges.items()):
            gone = not edge.connected and now_us - edge.left_us > self._config.forget_us
            if gone and not self._is_there(edge):
                self._table.clear(edge.slot)
                for other in self._edges.values():
                    other.heard.discard(edge.slot)
                self._free.append(edge.slot)
                del self._edges[name]

    def _node(self, edge: _Edge, on_hops_bps: int) -> Node:
        hello = edge.hello
        said = self._overrides.get((hello.node_id, ""), Override(hello.node_id))
        price, capacity = said.price_per_gb, said.capacity_bps
        return Node(
            node_id=hello.node_id,
            region=hello.region,
            provider=hello.provider,
            groups=self._config.risk_groups.of_node(hello.node_id),
            capacity_bps=hello.egress_bps_max if capacity is None else capacity,
            egress_bps=max(edge.load.egress_bps - on_hops_bps, 0),
            pressure=edge.pressure.share,
            draining=edge.draining or edge.drained_by_order,
            connected=edge.connected,
            price_per_gb=self._config.prices_per_gb.get(hello.provider, 0.0) if price is None else price,
            transit=hello.node_id not in self._kept_out,
            address=hello.advertise,
            public_url=hello.public_url,
        )

    # ---- Links ------------------------------------------------------------------------------------

    def _capacities(self, names: list[str]) -> Floats:
        """Of links, by order; 0 where none has been given."""
        index, capacities = {name: k for k, name in enumerate(names)}, np.zeros((len(names), len(names)))
        for (src, dst), override in self._overrides.items():
            if override.capacity_bps is not None and src in index and dst in index:
                capacities[index[src], index[dst]] = override.capacity_bps
        return capacities

    def _link_prices(self) -> dict[tuple[str, str], float]:
        prices = {key: override.price_per_gb for key, override in self._overrides.items() if key[1]}
        return {key: price for key, price in prices.items() if price is not None}

    def _take_links(self, edge: _Edge, report: Report, now_us: int) -> bool:
        """What a distrusted report measured counts for nothing; which links there are, it knows. Whether the
        node hears others than before."""
        edges = self._edges
        said = [(edges[link.peer].slot, link) for link in report.links if link.peer in edges]
        peers = [slot for slot, _ in said if slot != edge.slot]
        links = [link for slot, link in said if slot != edge.slot]
        if len(links) < len(report.links):
            self._counters["links_of_strangers"] += len(report.links) - len(links)
        gone = {self._edges[name].slot for name in report.unlinked if name in self._edges}
        if report.full:
            gone |= {other.slot for other in self._edges.values()} - set(peers)
        if gone:
            self._table.unlink(edge.slot, sorted(gone))
        heard = edge.heard - gone
        if report.distrust:
            self._counters["reports_distrusted"] += 1
        elif links:
            self._table.take(edge.slot, peers, links, now_us)
            heard.update(peers)
            heard.difference_update(edges[link.peer].slot for link in links if link.silent)
        before, edge.heard = edge.heard, heard
        return heard != before

    def _fresh(self, names: list[str], slots: Indices, now_us: int) -> Bools:
        """A link is fresh if its receiver reports, and spoke of it not long ago."""
        config = self._config
        edges = [self._edges[name] for name in names]
        reports = np.array(
            [e.connected and now_us - e.reported_us <= config.report_fresh_us for e in edges], np.bool_
        )
        spoken = now_us - self._table.heard_us[np.ix_(slots, slots)] <= config.link_fresh_us
        fresh: Bools = np.logical_and(spoken, reports[None, :])
        return fresh
