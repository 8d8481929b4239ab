"""Why a route is what it is: candidates, their costs term by term, and what keeps a better one back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from farcast.control_plane.costs import OUT_OF_BOUNDS_MS, Costs
from farcast.control_plane.network import Network
from farcast.control_plane.pinning import PinState
from farcast.control_plane.plan import DEPTH_MAX, Plan, PlannerConfig, PlannerMemory, Tree

CANDIDATES_MAX: Final = 8
"""Ways that are told, the chosen one and the direct one among them."""

_TERMS: Final = (
    ("propagation_ms", "propagation"),
    ("repair_ms", "repair of losses"),
    ("jitter_ms", "varying delay"),
    ("relay_ms", "relays"),
    ("load_ms", "load"),
    ("price_ms", "price"),
)


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
    """Why ``dst`` takes what ``src`` publishes the way it does; candidates by cost, within bounds first.
    ``backups``: node id and what its branch shares with the chosen one. ``pins``: those of ``src`` whose way
    leads to ``dst`` or through it."""

    src: str
    dst: str
    candidates: tuple[Candidate, ...]
    backups: tuple[tuple[str, tuple[str, ...]], ...]
    summary: str
    pins: tuple[PinState, ...] = ()


def explain(
    network: Network, plan: Plan, memory: PlannerMemory, config: PlannerConfig, src: str, dst: str
) -> Explanation:
    """Candidates from ``src`` to ``dst``, judged by the network now and the fill of the plan.

    ``KeyError`` names a node that is not in the network, or an origin that the plan has no tree for.
    """
    for name in (src, dst):
        if name not in network.index:
            raise KeyError(f"node {name!r} is not in the network")
    if src not in plan.trees:
        raise KeyError(f"node {src!r} is the origin of no tree in the plan")
    tree = plan.trees[src]
    asked = _Asked(network, plan, memory, _costs(network, plan, config), tree, src, dst)
    chosen = tree.path(dst)
    if src == dst:
        return Explanation(src, dst, (), (), f"{dst} is the origin itself")
    candidates = tuple(asked.candidates())
    known = dst in tree.node_ids
    backups = tuple(zip(tree.backups.get(dst, ()), tree.shared(dst), strict=True)) if known else ()
    summary = _summary(chosen, candidates, dst, asked.pin)
    for state in asked.pins:
        if state.suspended:
            summary += f"; the pin {state.pin.name} is suspended: {state.suspended}"
    return Explanation(src, dst, candidates, backups, summary, asked.pins)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question and all it takes to answer it."""

    network: Network
    plan: Plan
    memory: PlannerMemory
    costs: Costs
    tree: Tree
    src: str
    dst: str

    @property
    def pins(self) -> tuple[PinState, ...]:
        """Of this origin, to the node or through it."""
        return tuple(
            state for state in self.plan.pins if state.pin.origin == self.src and self.dst in state.pin.way
        )

    @property
    def pin(self) -> PinState | None:
        """The one in force."""
        return next((state for state in self.pins if not state.suspended), None)

    def candidates(self) -> Iterator[Candidate]:
        chosen = self.tree.path(self.dst)
        paths = self._paths(chosen)
        judged = {path: self._candidate(path, path == chosen) for path in paths}
        best = judged.get(chosen)
        for candidate in sorted(judged.values(), key=_order):
            if candidate.chosen:
                yield candidate
            else:
                yield _with_reason(candidate, self._why_not(candidate, best))

    def _paths(self, chosen: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The chosen way, the direct one, those of the backups, and the cheapest others by real cost."""
        told = [
            path for path in (chosen, (self.src, self.dst)) if path and set(path) <= set(self.network.index)
        ]
        for backup in self.tree.backups.get(self.dst, ()):
            above = self.tree.path(backup)
            if (
                above
                and self.dst not in above
                and len(above) <= DEPTH_MAX
                and set(above) <= set(self.network.index)
            ):
                told.append((*above, self.dst))
        told = list(dict.fromkeys(told))
        for path in self._cheapest():
            if len(told) >= CANDIDATES_MAX:
                break
            if path not in told:
                told.append(path)
        return [path for path in told if self._exists(path)]

    def _cheapest(self) -> list[tuple[str, ...]]:
        """Ways by one relay, all of them judged, and by two, judged where promising by additive cost."""
        src, dst = self.network.index[self.src], self.network.index[self.dst]
        edges, count = self.costs.known_ms, len(self.network.nodes)
        others = np.array([u for u in range(count) if u not in (src, dst)], np.int64)
        if not len(others):
            return []
        by_one = np.full((DEPTH_MAX, len(others)), -1)
        by_one[0], by_one[1] = others, src
        two = edges[src, others][:, None] + edges[np.ix_(others, others)] + edges[others, dst][None, :]
        np.fill_diagonal(two, np.inf)
        first = np.argsort(two, axis=None, kind="stable")[: 4 * CANDIDATES_MAX]
        a, b = np.unravel_index(first, two.shape)
        both = np.concatenate([by_one, np.stack([others[b], others[a], np.full(len(a), src)])], axis=1)
        lower = np.concatenate([np.full((1, both.shape[1]), dst), both[:-1]])
        usable = np.isfinite(edges[both, lower]) | (both < 0)
        cost = self.costs.judge(both, np.full(both.shape[1], dst)).cost_ms
        cost[~usable.all(axis=0)] = np.inf
        order = [k for k in np.argsort(cost, kind="stable").tolist() if np.isfinite(cost[k])]
        ids = self.network.node_ids
        return [(*(ids[u] for u in reversed(both[:, k].tolist()) if u >= 0), self.dst) for k in order]

    def _exists(self, path: tuple[str, ...]) -> bool:
        """Whether all its links have ever been measured."""
        at = [self.network.index[node] for node in path]
        return all(self.network.rtt_ms[a, b] > 0 for a, b in pairwise(at))

    def _candidate(self, path: tuple[str, ...], chosen: bool) -> Candidate:
        at = tuple(self.network.index[node] for node in path)
        above = np.full((DEPTH_MAX, 1), -1)
        above[: len(at) - 1, 0] = at[-2::-1]
        judged = self.costs.judge(above, np.array([at[-1]]))
        terms = self.costs.terms(at)
        within = bool(judged.within_bounds[0])
        cost = float(judged.cost_ms[0]) - (0.0 if within else OUT_OF_BOUNDS_MS)
        return Candidate(
            path,
            cost,
            float(judged.delay_ms[0]),
            terms.propagation_ms,
            terms.repair_ms,
            terms.jitter_ms,
            terms.relay_ms,
            terms.load_ms,
            terms.price_ms,
            float(judged.loss[0]),
            within,
            chosen,
            "",
        )

    # ---- Why not ----------------------------------------------------------------------------------

    def _why_not(self, candidate: Candidate, chosen: Candidate | None) -> str:
        blocked = self._blocked(candidate.path)
        if blocked:
            return blocked
        if self.pin is not None:
            return _held_by(self.pin, self.dst)
        if not candidate.within_bounds and (chosen is None or chosen.within_bounds):
            return self._beyond(candidate)
        if chosen is None:
            return "taken with the next plan"
        if candidate.within_bounds and not chosen.within_bounds:
            return self._damped(candidate, chosen)
        if candidate.cost_ms >= chosen.cost_ms:
            return _dearer(candidate, chosen)
        return self._damped(candidate, chosen)

    def _blocked(self, path: tuple[str, ...]) -> str:
        """What forbids a way, whatever it costs."""
        for relay in path[1:-1]:
            node = self.network.node(relay)
            if node.draining:
                return f"{relay} is draining"
            if not node.transit:
                return f"{relay} is kept out of transit by order"
            if not node.connected:
                return f"{relay} has no control session and gets no new children"
        for a, b in pairwise(path):
            i, j = self.network.index[a], self.network.index[b]
            if not self.network.usable[i, j]:
                return f"the link {a} > {b} is silent"
            if not self.network.fresh[i, j]:
                return f"nothing new is known of the link {a} > {b}"
        return ""

    def _beyond(self, candidate: Candidate) -> str:
        config = self.costs.config
        if candidate.delay_ms > config.delay_ms_max:
            return f"beyond the bound on delay: {candidate.delay_ms:.0f} of {config.delay_ms_max:.0f} ms"
        return f"beyond the bound on loss: {candidate.loss:.1%} of {config.loss_max:.1%}"

    def _damped(self, candidate: Candidate, chosen: Candidate) -> str:
        """A better way that is not taken, or not yet."""
        config, gain_ms = self.costs.config, chosen.cost_ms - candidate.cost_ms
        for at in range(2, len(candidate.path)):
            above, node = candidate.path[at - 1], candidate.path[at - 2]
            if self.tree.parent.get(above) != node and above != self.src:
                taken = " > ".join(self.tree.path(above)) or "nowhere"
                return f"{above} takes this origin by {taken}; an edge has one upstream per origin"
        full = self._full(candidate.path[-2])
        if full:
            return full
        if chosen.within_bounds and (
            gain_ms < config.upgrade_ms or gain_ms < config.upgrade_ratio * chosen.cost_ms
        ):
            share = gain_ms / chosen.cost_ms
            return (
                f"better by {gain_ms:.1f} ms ({share:.0%}); a move needs "
                f"{config.upgrade_ms:.0f} ms and {config.upgrade_ratio:.0%}"
            )
        return self._not_yet()

    def _full(self, parent: str) -> str:
        fill = dict(zip(self.plan.node_ids, self.plan.node_fill.tolist(), strict=True))
        if fill.get(parent, 0.0) > self.costs.config.fill_target:
            return f"{parent} is at {fill[parent]:.0%} of its capacity"
        return ""

    def _not_yet(self) -> str:
        config, memory = self.costs.config, self.memory
        try:
            at = memory.origins.index(self.src), memory.node_ids.index(self.dst)
        except ValueError:
            return "taken with the next plan"
        until_us = int(memory.moved_us[at]) + config.hold_down_us
        if until_us > self.network.now_us:
            return (
                f"moved a short while ago; held down for {(until_us - self.network.now_us) / 1e6:.0f} s more"
            )
        return (
            f"better for {int(memory.streak[at])} of {config.upgrade_reports} reports in a row that it takes"
        )


def _costs(network: Network, plan: Plan, config: PlannerConfig) -> Costs:
    """Costs now, at the fill that the plan reckoned with."""
    old = {node: k for k, node in enumerate(plan.node_ids)}
    now = [k for k, node in enumerate(network.node_ids) if node in old]
    before = [old[network.node_ids[k]] for k in now]
    node_fill, link_fill = np.zeros(len(network.nodes)), np.zeros(network.rtt_ms.shape)
    if now:
        node_fill[now] = plan.node_fill[before]
        link_fill[np.ix_(now, now)] = plan.link_fill[np.ix_(before, before)]
    return Costs(network, config, node_fill, link_fill)


def _order(candidate: Candidate) -> tuple[bool, float, tuple[str, ...]]:
    return not candidate.within_bounds, candidate.cost_ms, candidate.path


def _with_reason(candidate: Candidate, reason: str) -> Candidate:
    fields = {name: getattr(candidate, name) for name in candidate.__slots__}
    return Candidate(**{**fields, "why_not": reason})


def _dearer(candidate: Candidate, chosen: Candidate) -> str:
    """By how much, and by which term most."""
    more_ms = candidate.cost_ms - chosen.cost_ms
    by_term = [(getattr(candidate, name) - getattr(chosen, name), words) for name, words in _TERMS]
    most_ms, words = max(by_term)
    why = f", by {words} ({most_ms:+.1f} ms)" if most_ms > 0 else ""
    return f"costs {more_ms:.1f} ms more{why}"


def _held_by(state: PinState, dst: str) -> str:
    return f"{dst} is held to another way by the pin {state.pin.name}"


def _summary(
    chosen: tuple[str, ...], candidates: tuple[Candidate, ...], dst: str, pin: PinState | None
) -> str:
    taken = next((c for c in candidates if c.chosen), None)
    if taken is None:
        return f"nothing reaches {dst}: no link into it, or into a relay before it, is usable"
    way = " > ".join(chosen)
    if pin is not None and taken.path == pin.pin.way[: len(taken.path)]:
        open_ones = (c for c in candidates if c.within_bounds and c.why_not in ("", _held_by(pin, dst)))
        best = min(open_ones, key=_order, default=taken)
        free = "" if best.chosen else f"; the best known is {' > '.join(best.path)} at {best.cost_ms:.0f} ms"
        return f"{way} at {taken.cost_ms:.0f} ms by order, pinned{free}"
    others = [c for c in candidates if not c.chosen and c.within_bounds >= taken.within_bounds]
    better = [c for c in others if c.cost_ms < taken.cost_ms]
    if better:
        return f"{way} at {taken.cost_ms:.0f} ms; {' > '.join(better[0].path)} is better: {better[0].why_not}"
    direct = next((c for c in candidates if len(c.path) == 2 and not c.chosen), None)
    if direct is None:
        return f"{way} at {taken.cost_ms:.0f} ms is the best known"
    return f"{way} at {taken.cost_ms:.0f} ms is the best known; direct it would be {direct.cost_ms:.0f} ms"
