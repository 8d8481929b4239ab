"""Networks for tests of the planner: nodes in a plane, links that are longer than they need to be, losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from farcast.control_plane.network import Floats, Network, Node
from farcast.control_plane.planner import Demand, Plan, PlannerConfig, PlannerMemory, plan

SECOND_US = 1_000_000


def network_of(seed: int, count: int, **changes: Any) -> Network:
    """``count`` nodes in half as many regions, of three providers; ``changes`` as for `Network.build`."""
    draw = np.random.default_rng(seed)
    at = draw.uniform(0, 1, (count, 2))
    away = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
    stretch = draw.choice([1.0, 1.3, 2.5], (count, count), p=[0.5, 0.3, 0.2])
    rtt_ms = 5 + 180 * away * np.maximum(stretch, stretch.T)
    loss = np.where(draw.random((count, count)) < 0.6, 0.0002, draw.exponential(0.02, (count, count)))
    figures: dict[str, Any] = {
        "loss": np.minimum(loss, 0.3),
        "burst": draw.uniform(1, 4, (count, count)),
        "rtt_p99_ms": rtt_ms * draw.uniform(1.0, 1.2, (count, count)),
        "usable": draw.random((count, count)) < 0.95,
    }
    nodes = [Node(f"n{i}", f"r{i // 2}", f"p{i % 3}") for i in range(count)]
    return Network.build(nodes, rtt_ms, **{**figures, **changes})


def with_nodes(network: Network, **changes: Mapping[str, Any]) -> Network:
    """The network with fields of some nodes changed: ``n1={"draining": True}``. No groups of links."""
    nodes = [dataclasses.replace(node, **changes.get(node.node_id, {})) for node in network.nodes]
    names = ("loss", "loss_low", "loss_high", "rtt_p99_ms", "burst", "usable", "fresh", "capacity_bps")
    figures = {name: getattr(network, name) for name in names}
    rtt_ms = np.where(network.rtt_ms > 0, network.rtt_ms, np.nan)
    return Network.build(nodes, rtt_ms, now_us=network.now_us, **figures)


def with_links(network: Network, array: str, value: Any, *links: tuple[str, str]) -> Network:
    """The network with one figure of some directed links changed."""
    changed = getattr(network, array).copy()
    for src, dst in links:
        changed[network.index[src], network.index[dst]] = value
    return dataclasses.replace(network, **{array: changed})


def at(network: Network, seconds: float) -> Network:
    """The network at another time."""
    return dataclasses.replace(network, now_us=round(seconds * SECOND_US))


def all_origins(network: Network) -> dict[str, Demand]:
    """Every node is an origin, nobody watches."""
    return {node_id: Demand() for node_id in network.node_ids}


def first_plan(
    network: Network, demand: Mapping[str, Demand] | None = None, config: PlannerConfig | None = None
) -> tuple[Plan, PlannerMemory]:
    """A plan without a past."""
    wanted = all_origins(network) if demand is None else demand
    return plan(network, wanted, PlannerMemory(), config or PlannerConfig())


def line(rtts_ms: Mapping[tuple[str, str], float], **changes: Any) -> Network:
    """A network of the nodes named in ``rtts_ms``, with these links, both directions, and no others. A node
    is its own region; no providers."""
    names = sorted({name for pair in rtts_ms for name in pair})
    rtt: Floats = np.full((len(names), len(names)), np.nan)
    for (a, b), rtt_ms in rtts_ms.items():
        rtt[names.index(a), names.index(b)] = rtt[names.index(b), names.index(a)] = rtt_ms
    return Network.build([Node(name, f"at-{name}") for name in names], rtt, **changes)
