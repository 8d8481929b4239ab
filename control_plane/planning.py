"""Between the controller and the planner: which origins are planned, and what becomes of the result.

A plan may take longer than the event loop can wait, so it is a job: a frozen picture of the network and
everything else that the planner looks at, to be run wherever the shell likes. What comes back may be out of
date by then and is reconciled with what is known: edges that have gone are taken out, and whoever the
planner did not reach keeps the route it has, because a route that may be dead is better than none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from farcast.control_plane.branches import Move, Tree, Trees, Upstreams, path_to, paths
from farcast.control_plane.network import Network
from farcast.control_plane.pinning import PinState
from farcast.control_plane.plan import ESCAPE, PIN, UPGRADE, Demand, Plan, PlannerConfig, PlannerMemory
from farcast.control_plane.plan import Tree as PlannedTree
from farcast.control_plane.planner import plan as make_plan


@dataclass(frozen=True, slots=True)
class PlanJob:
    """One run of the planner; `run` touches nothing else and may be called in another thread."""

    network: Network
    demand: Mapping[str, Demand]
    memory: PlannerMemory
    config: PlannerConfig
    pins: tuple[PinState, ...] = ()

    def run(self) -> Planned:
        """Plan."""
        plan, memory = make_plan(self.network, self.demand, self.memory, self.config, self.pins)
        return Planned(self, plan, memory)


@dataclass(frozen=True, slots=True)
class Planned:
    """What came of a job."""

    job: PlanJob
    plan: Plan
    memory: PlannerMemory
    escapes: frozenset[tuple[str, str]] = field(init=False)
    """Origin and node of moves away from a hop that is dead or bad, as the planner saw it, and of those that
    an operator has ordered: none of them waits."""

    def __post_init__(self) -> None:
        moved = frozenset((m.origin, m.node) for m in self.plan.moves if m.cause in (ESCAPE, PIN))
        object.__setattr__(self, "escapes", moved)

    def memory_of(self, trees: Trees) -> PlannerMemory:
        """The planner's memory for what came into force, where that is not all that it proposed.

        A pair of origin and node that was held back has the parent, the streak and the time of its last move
        that it had before. An upgrade among them has lasted long enough and is proposed by the next run too,
        even if that comes before the next report, as after a canary: else it is not there when it may move.
        """
        memory, before = self.memory, self.job.memory
        upgrades = {(m.origin, m.node) for m in self.plan.moves if m.cause == UPGRADE}
        index = {node: k for k, node in enumerate(memory.node_ids)}
        index_before = {node: k for k, node in enumerate(before.node_ids)}
        rows_before = {origin: k for k, origin in enumerate(before.origins)}
        parent, streak, moved_us = memory.parent.copy(), memory.streak.copy(), memory.moved_us.copy()
        backups = memory.backups.copy()
        changed = False
        for row, origin in enumerate(memory.origins):
            tree, planned = trees.get(origin, {}), self.plan.trees.get(origin)
            wanted = {} if planned is None else planned.parent
            for node, upstreams in tree.items():
                if (
                    wanted.get(node) == upstreams.parent
                    or node not in wanted
                    or upstreams.parent not in index
                ):
                    continue
                column = index[node]
                parent[row, column] = index[upstreams.parent]
                backups[row, column] = _positions(upstreams.backups, index, backups.shape[2])
                if origin in rows_before and node in index_before:
                    old = rows_before[origin], index_before[node]
                    streak[row, column], moved_us[row, column] = before.streak[old], before.moved_us[old]
                if (origin, node) in upgrades:
                    streak[row, column] = self.job.config.upgrade_reports
                changed = True
        if not changed:
            return memory
        return replace(memory, parent=parent, streak=streak, moved_us=moved_us, backups=backups)


class Reconciler:
    """Proposals as trees, run after run. A tree that is proposed again over routes in force that came of the
    same proposal is those routes: in a network at rest nothing is worked out anew."""

    def __init__(self) -> None:
        self._members: frozenset[str] = frozenset()
        self._settled: dict[str, tuple[PlannedTree, Tree]] = {}
        """By origin a proposal, and the tree in force that it leaves as it is."""

    def trees(self, planned: Planned, old: Trees, members: AbstractSet[str]) -> Trees:
        """The proposal as trees: without edges that are no members, and with old routes where nothing is
        proposed."""
        if self._members != members:
            self._members, self._settled = frozenset(members), {}
        trees: dict[str, Tree] = {}
        before, self._settled = self._settled, {}
        for origin in sorted(self._members & (planned.plan.trees.keys() | old.keys())):
            held, proposed = old.get(origin, {}), planned.plan.trees.get(origin)
            trees[origin] = held
            if proposed is None or not _is_settled(before.get(origin), proposed, held):
                tree = _on_members(_filled(proposed, held), held, origin, self._members)
                if tree != held:
                    trees[origin] = tree
                    continue
            if proposed is not None:
                self._settled[origin] = proposed, held
        return trees


def _is_settled(before: tuple[PlannedTree, Tree] | None, proposed: PlannedTree, held: Tree) -> bool:
    return before is not None and before[1] is held and before[0].has_upstreams_of(proposed)


def _filled(proposed: PlannedTree | None, held: Tree) -> Tree:
    """What is proposed, and what is held where nothing is."""
    if proposed is None:
        return held
    backups = proposed.backups
    tree = {node: Upstreams(parent, backups.get(node, ())) for node, parent in proposed.parent.items()}
    return {**{node: held[node] for node in held if node not in tree}, **tree}


def is_escape(move: Move, trees: Trees, planned: Planned, usable: Collection[str]) -> bool:
    """Whether a move leaves something dead, bad or draining: by the planner's word, or because a hop of the
    old branch is not usable or a node of it carries no more. ``usable``: nodes that may relay."""
    if (move.origin, move.node) in planned.escapes:
        return True
    path = path_to(trees[move.origin], move.origin, move.node)
    if path is None or any(relay not in usable for relay in path[1:-1]):
        return True
    network = planned.job.network
    places = [network.index.get(node) for node in path]
    return any(src is None or dst is None or not network.usable[src, dst] for src, dst in pairwise(places))


def memory_from(trees: Trees, node_ids: Iterable[str], now_us: int) -> PlannerMemory:
    """A memory that knows nothing but the routes in force; after a restart.

    They count as having moved just now: upgrades rest for the planner's hold-down, because links of which
    little is known look worse than they are, and that is no reason to leave them. Escapes do not rest.
    """
    ids = tuple(sorted(node_ids))
    index = {node: k for k, node in enumerate(ids)}
    origins = tuple(sorted(origin for origin in trees if origin in index))
    parent = np.full((len(origins), len(ids)), -1, np.int64)
    width = max((len(u.backups) for origin in origins for u in trees[origin].values()), default=0)
    backups = np.full((*parent.shape, width), -1, np.int64)
    for row, origin in enumerate(origins):
        for node, upstreams in trees[origin].items():
            if node in index and upstreams.parent in index:
                parent[row, index[node]] = index[upstreams.parent]
                backups[row, index[node]] = _positions(upstreams.backups, index, width)
    empty = PlannerMemory()
    moved_us = np.full(parent.shape, now_us, np.int64)
    return PlannerMemory(origins, ids, parent, np.zeros_like(parent), moved_us, backups, empty.counted_us)


def demand_for(
    members: Collection[str],
    publishing: Collection[str],
    loads: Mapping[str, Mapping[str, int]],
    idle_origins_max: int,
) -> dict[str, Demand]:
    """What is planned: every edge as an origin while there are few, so that a new namespace finds its tree
    made; else those that hold a namespace. ``loads``: origin to node to bits per second."""
    wanted = set(members) if len(members) <= idle_origins_max else set(publishing) & set(members)
    return {origin: Demand.from_loads(loads.get(origin, {})) for origin in sorted(wanted)}


def without(trees: Trees, node_id: str, members: Collection[str]) -> Trees:
    """The trees after an edge has gone. Whoever hung on it takes its first backup that makes no circle, until
    the planner has had its say."""
    left: dict[str, Tree] = {}
    for origin, tree in trees.items():
        if origin == node_id:
            continue
        left[origin] = _on_members({n: u for n, u in tree.items() if n != node_id}, {}, origin, members)
    return left


def _positions(node_ids: Sequence[str], index: Mapping[str, int], width: int) -> list[int]:
    """Of the first ``width`` of them that are known; -1 beyond."""
    known = [index[node] for node in node_ids if node in index][:width]
    return known + [-1] * (width - len(known))


def _on_members(
    tree: Mapping[str, Upstreams], held: Mapping[str, Upstreams], origin: str, members: Collection[str]
) -> Tree:
    """The tree over members only, and every member of it with a route: whoever hung on a node that has gone
    takes its first backup that makes no circle; whoever still hangs on nothing keeps the upstreams that it
    holds, else takes from the origin itself."""
    repaired = {node: upstreams for node, upstreams in tree.items() if node in members and node != origin}
    for node, upstreams in repaired.items():
        if upstreams.parent not in members:
            repaired[node] = _first_backup(repaired, origin, node, upstreams, members)
    reached = paths(repaired, origin)
    for node in repaired.keys() - reached.keys():
        before = held.get(node)
        kept = before is not None and before.parent in {origin, *reached}
        repaired[node] = before if before is not None and kept else Upstreams(origin)
    return {node: _known_backups(node, upstreams, members) for node, upstreams in repaired.items()}


def _first_backup(
    tree: Mapping[str, Upstreams], origin: str, node: str, upstreams: Upstreams, members: Collection[str]
) -> Upstreams:
    for backup in (*upstreams.backups, origin):
        if backup == node or backup not in members:
            continue
        above = path_to(tree, origin, backup)
        if above is not None and node not in above:
            return Upstreams(backup, tuple(b for b in upstreams.backups if b != backup))
    return Upstreams(origin)


def _known_backups(node: str, upstreams: Upstreams, members: Collection[str]) -> Upstreams:
    if all(
        backup in members and backup != upstreams.parent and backup != node for backup in upstreams.backups
    ):
        return upstreams
    kept = (b for b in upstreams.backups if b in members and b not in (node, upstreams.parent))
    return Upstreams(upstreams.parent, tuple(kept))
