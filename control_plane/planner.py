"""The planner: a pure function from the network, the demand and its own memory to trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from farcast.control_plane.network import Network
from farcast.control_plane.plan import Demand, Move, Plan, PlannerConfig, PlannerMemory, Tree

__all__ = [
    "Candidate",
    "Demand",
    "Explanation",
    "Move",
    "Plan",
    "PlannerConfig",
    "PlannerMemory",
    "Tree",
    "explain",
    "plan",
]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way from ``src`` to ``dst`` and what it costs, ms, term by term. ``within_bounds``: of delay and
    loss. ``why_not``: one sentence, "" for the chosen one."""

    path: tuple[str, ...]
    cost_ms: float
    delay_ms: float
    propagation_ms: float
    repair_ms: float
    jitter_ms: float
    relay_ms: float
    load_ms: float
    price_ms: float
    loss: float
    within_bounds: bool
    chosen: bool
    why_not: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why ``dst`` takes what ``src`` publishes the way it does. ``backups``: node id and what it shares."""

    src: str
    dst: str
    candidates: tuple[Candidate, ...]
    backups: tuple[tuple[str, tuple[str, ...]], ...]
    summary: str


def plan(
    network: Network, demand: Mapping[str, Demand], memory: PlannerMemory, config: PlannerConfig
) -> tuple[Plan, PlannerMemory]:
    """Trees for every origin named in ``demand`` that is in the network (an empty `Demand` will do)."""
    raise NotImplementedError


def explain(
    network: Network, plan: Plan, memory: PlannerMemory, config: PlannerConfig, src: str, dst: str
) -> Explanation:
    """Candidates from ``src`` to ``dst``; ``KeyError`` for a node or an origin that is not in the plan."""
    raise NotImplementedError
