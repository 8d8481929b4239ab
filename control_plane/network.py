"""The network at one instant, as the planner sees it: nodes, and what is known of every directed link.

Arrays are indexed ``[src, dst]`` by the position of a node in ``nodes``, which are sorted by node id; so two
networks of the same content are the same arrays, whatever order reports came in. Whatever judges risk does it
by bits: risk ``k`` of ``risk_names`` is bit ``k % 64`` of word ``k // 64``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Masks: TypeAlias = NDArray[np.uint64]
Indices: TypeAlias = NDArray[np.int64]

RISKS_MAX: Final = 1_024
"""Risk groups of one network."""

LOSS_MAX: Final = 0.99
"""More is treated as this: a link that loses everything is silent, not lossy."""


@dataclass(frozen=True, slots=True)
class Node:
    """One edge.

    ``capacity_bps`` bounds what it sends, 0 is no bound; ``egress_bps`` is what it sends already that no plan
    steers (to viewers). ``pressure``: how busy it is by its own word, as a share of what it can (`pressure`).
    ``connected``: its control session stands; one that is not connected but still heard
    by others keeps the children it has and gets no new ones. ``price_per_gb`` is of what it sends.
    ``transit``: it may relay what others publish.
    """

    node_id: str
    region: str
    provider: str = ""
    groups: frozenset[str] = frozenset()
    capacity_bps: int = 0
    egress_bps: int = 0
    pressure: float = 0.0
    draining: bool = False
    connected: bool = True
    price_per_gb: float = 0.0
    transit: bool = True
    address: str = ""
    public_url: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Nodes and links at ``now_us``.

    ``usable``: media may cross the link now (somebody measured it, it is not silent). ``fresh``: what is
    known of it is recent enough to move media onto it; a link that is usable and not fresh keeps what it has.
    ``loss`` is the best estimate, ``loss_low`` and ``loss_high`` what it may be at best and what to reckon
    with (see `link_estimate`); ``burst`` is the mean length of a run of losses, packets. ``capacity_bps`` of
    a link: 0 is no bound. ``price_per_gb`` is that of the sending node, unless the link has one of its own.
    """

    now_us: int
    nodes: tuple[Node, ...]
    rtt_ms: Floats
    rtt_p99_ms: Floats
    loss: Floats
    loss_low: Floats
    loss_high: Floats
    burst: Floats
    usable: Bools
    fresh: Bools
    capacity_bps: Floats
    price_per_gb: Floats
    risk_names: tuple[str, ...]
    node_risks: Masks
    link_risks: Masks
    index: Mapping[str, int] = field(repr=False)

    @property
    def node_ids(self) -> tuple[str, ...]:
        """In the order of the arrays."""
        return tuple(self.index)

    def node(self, node_id: str) -> Node:
        """The node; ``KeyError`` where there is none."""
        return self.nodes[self.index[node_id]]

    @classmethod
    def build(
        cls,
        nodes: Iterable[Node],
        rtt_ms: ArrayLike,
        *,
        now_us: int = 0,
        loss: ArrayLike = 0.0,
        loss_low: ArrayLike | None = None,
        loss_high: ArrayLike | None = None,
        rtt_p99_ms: ArrayLike | None = None,
        burst: ArrayLike = 1.0,
        usable: ArrayLike = True,
        fresh: ArrayLike = True,
        capacity_bps: ArrayLike = 0.0,
        link_prices: Mapping[tuple[str, str], float] | None = None,
        link_groups: Mapping[tuple[str, str], Iterable[str]] | None = None,
    ) -> Network:
        """A network of ``nodes`` in the order of the matrices given; scalars stand for whole matrices.

        A link whose RTT is not a positive number is not usable. ``link_groups`` names the risk groups of
        links by (region, region), both directions; ``link_prices`` by (node id, node id), one direction.
        ``ValueError`` for shapes that do not fit.
        """
        given = tuple(nodes)
        order = sorted(range(len(given)), key=lambda i: given[i].node_id)
        ordered = tuple(given[i] for i in order)
        if len({node.node_id for node in ordered}) != len(ordered):
            raise ValueError("two nodes have one node id")
        take = np.ix_(order, order) if order else (np.zeros((0, 1), int), np.zeros((1, 0), int))

        def matrix(value: ArrayLike, dtype: Any) -> NDArray[Any]:
            full = np.broadcast_to(np.asarray(value, dtype), (len(given), len(given)))
            return np.ascontiguousarray(full[take])

        rtt = matrix(rtt_ms, np.float64)
        measured = np.isfinite(rtt) & (rtt > 0)
        np.fill_diagonal(measured, False)
        rtt = np.where(measured, rtt, 0.0)
        p99 = rtt if rtt_p99_ms is None else np.fmax(matrix(rtt_p99_ms, np.float64), rtt)
        lost = _ratio(matrix(loss, np.float64))
        names, node_risks, link_risks = _risks(ordered, link_groups or {})
        return cls(
            now_us=now_us,
            nodes=ordered,
            rtt_ms=rtt,
            rtt_p99_ms=p99,
            loss=lost,
            loss_low=lost if loss_low is None else _ratio(matrix(loss_low, np.float64)),
            loss_high=lost if loss_high is None else _ratio(matrix(loss_high, np.float64)),
            burst=np.fmax(matrix(burst, np.float64), 1.0),
            usable=matrix(usable, np.bool_) & measured,
            fresh=matrix(fresh, np.bool_) & measured,
            capacity_bps=np.fmax(matrix(capacity_bps, np.float64), 0.0),
            price_per_gb=_prices(ordered, link_prices or {}),
            risk_names=names,
            node_risks=node_risks,
            link_risks=link_risks,
            index={node.node_id: i for i, node in enumerate(ordered)},
        )


def _ratio(values: Floats) -> Floats:
    return np.clip(np.nan_to_num(values, nan=LOSS_MAX), 0.0, LOSS_MAX)


def _prices(nodes: Sequence[Node], of_links: Mapping[tuple[str, str], float]) -> Floats:
    prices = np.repeat(
        np.array([node.price_per_gb for node in nodes], np.float64)[:, None], len(nodes), axis=1
    )
    index = {node.node_id: i for i, node in enumerate(nodes)}
    for (src, dst), price in of_links.items():
        if src in index and dst in index:
            prices[index[src], index[dst]] = price
    return prices


def _risks(
    nodes: Sequence[Node], link_groups: Mapping[tuple[str, str], Iterable[str]]
) -> tuple[tuple[str, ...], Masks, Masks]:
    """Names of all risk groups, their bits per node ``[node, word]`` and per link ``[src, dst, word]``."""
    of_regions = {pair: frozenset(groups) for pair, groups in link_groups.items()}
    names = tuple(sorted(frozenset().union(*(n.groups for n in nodes), *of_regions.values())))
    if len(names) > RISKS_MAX:
        raise ValueError(f"{len(names)} risk groups, at most {RISKS_MAX} are allowed")
    words = max(-(-len(names) // 64), 1)
    bits = {name: (i // 64, np.uint64(1) << np.uint64(i % 64)) for i, name in enumerate(names)}
    node_risks = np.zeros((len(nodes), words), np.uint64)
    link_risks = np.zeros((len(nodes), len(nodes), words), np.uint64)
    for i, node in enumerate(nodes):
        for name in node.groups:
            word, bit = bits[name]
            node_risks[i, word] |= bit
    regions: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        regions.setdefault(node.region, []).append(i)
    for (a, b), groups in of_regions.items():
        for src, dst in ((a, b), (b, a)):
            rows, columns = np.ix_(regions.get(src, []), regions.get(dst, []))
            for name in groups:
                word, bit = bits[name]
                link_risks[rows, columns, word] |= bit
    return names, node_risks, link_risks
