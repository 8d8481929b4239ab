"""How fast routes may leave hops that work.

A plan is the one thing that can hurt everywhere at once, and measurements can be wrong (Facebook 2021,
Cloudflare 2020-07: one bad input moved all traffic to one place). So moves are of two kinds. **Escapes**
leave a dead or bad hop, or a node that drains: they are applied at once and to everybody, whatever their
number.
**Upgrades** leave a hop that works. They go to one edge first (the canary), to the rest when it has
acknowledged its plan and then sent a good report, or after `GateConfig.canary_ms_max`; and of all routes only
a share moves at a time, the rest follows in slices, top down (`farcast.control_plane.branches`). A canary
that refuses its plan, or reports a silent new parent, is taken back, and upgrades rest for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeAlias

from farcast.control_plane.branches import (
    Move,
    Tree,
    Trees,
    Upstreams,
    count_routes,
    mix,
    moves_between,
    path_to,
    paths,
    top_down,
)

IsEscape: TypeAlias = Callable[[Move], bool]
"""Whether the old hop of a move, or anything above it, is dead, bad or draining."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Bounds on upgrades."""

    share_max: float = 0.30
    """Of all routes that may leave healthy hops in one slice."""
    moves_min: int = 2
    """So many always may, however few routes there are."""
    slice_ms: int = 1_000
    """Between two slices."""
    canary_ms_max: int = 3_000
    """A canary that has not spoken against its plan by then has passed."""
    rest_ms: int = 30_000
    """No upgrades for so long after a canary failed."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be in force now. ``hurried``: nodes with a route that escapes, and those that move with it
    because they stand above it in its new tree; ``kept_back``: upgrades that have to wait; ``refused``: more
    were wanted at once than may move; ``canary``: the edge that just became one."""

    trees: Trees
    escapes: int = 0
    hurried: frozenset[str] = frozenset()
    upgrades: int = 0
    kept_back: int = 0
    refused: bool = False
    canary: str | None = None


@dataclass(slots=True)
class _Canary:
    node: str
    started_us: int
    moved: dict[str, tuple[Upstreams, str]]
    """Origin to the old upstreams and the new parent."""
    tested: frozenset[Move]
    acked: bool = False
    passed: bool = False


@dataclass(slots=True)
class MoveGate:
    """Decides which part of a proposed plan comes into force now; keeps the canary."""

    config: GateConfig = field(default_factory=GateConfig)
    _canary: _Canary | None = None
    _rests_until_us: int = 0
    _slice_us: int = -(1 << 62)
    why_kept_back: str = ""
    """Why upgrades of the last step have to wait, for people; empty if none has to."""

    @property
    def canary(self) -> str | None:
        """The edge that tries out upgrades now, until it has passed."""
        return self._canary.node if self._canary and not self._canary.passed else None

    def step(
        self, old: Trees, new: Trees, is_escape: IsEscape, viewers: Mapping[str, int], now_us: int
    ) -> Step:
        """Go from ``old`` towards ``new``. ``viewers``: of each edge; the canary is one with few."""
        moves = list(moves_between(old, new))
        upgrades = {(move.origin, move.node): move for move in moves if not is_escape(move)}
        escaping = frozenset(move.node for move in moves if (move.origin, move.node) not in upgrades)
        limit = max(self.config.moves_min, int(self.config.share_max * count_routes(old)))
        self.why_kept_back = ""
        if not upgrades:
            self._finish_canary()
            return Step(new, escapes=len(moves), hurried=escaping)
        allowed, canary = self._allowed(old, new, upgrades, viewers, now_us)
        trees, applied, needed = _apply(old, new, upgrades, allowed, limit)
        if canary is not None:
            moved = {o: (old[o][n], trees[o][n].parent) for o, n in applied if n == canary}
            self._canary = _Canary(canary, now_us, moved, frozenset(upgrades.values()))
        if applied:
            self._slice_us = now_us
        if len(applied) == len(upgrades):
            self.why_kept_back = ""
        elif not self.why_kept_back:
            self.why_kept_back = "not all routes may leave healthy hops at once: the others follow in slices"
        return Step(
            trees,
            escapes=len(moves) - len(upgrades),
            hurried=escaping | needed,
            upgrades=len(applied),
            kept_back=len(upgrades) - len(applied),
            refused=len(upgrades) > limit,
            canary=canary,
        )

    def handle_ack(self, node: str) -> None:
        """An edge has put its newest plan into force."""
        if self._canary is not None and self._canary.node == node:
            self._canary.acked = True

    def handle_report(self, node: str, silent: frozenset[str]) -> bool:
        """A report to be trusted; ``silent``: peers it hears nothing from. Whether the canary passed."""
        canary = self._canary
        if canary is None or canary.node != node or not canary.acked or canary.passed:
            return False
        if any(parent in silent for _, parent in canary.moved.values()):
            return False
        canary.passed = True
        return True

    def is_spoilt(self, node: str, silent: frozenset[str]) -> bool:
        """Whether a report shows that the canary's new parents do not work."""
        canary = self._canary
        if canary is None or canary.node != node or canary.passed:
            return False
        return any(parent in silent for _, parent in canary.moved.values())

    def forget(self, node: str) -> None:
        """A node is gone. As the canary it has tried out nothing: the next upgrade needs another one."""
        if self._canary is not None and self._canary.node == node:
            self._canary = None

    def take_back(self, trees: Trees, now_us: int, avoid: AbstractSet[str] = frozenset()) -> Trees:
        """The canary failed: its moves are undone where that makes no circle, and upgrades rest.

        A route that has moved on since then (off a dead hop, say) stays where it is, and so does one whose
        old parent is one to ``avoid`` now: silent to the canary, or draining.
        """
        canary, self._canary = self._canary, None
        if canary is None:
            return trees
        self._rests_until_us = now_us + self.config.rest_ms * 1_000
        restored = dict(trees)
        for origin, (old, new) in canary.moved.items():
            now = restored.get(origin, {}).get(canary.node)
            if now is None or now.parent != new or old.parent in avoid:
                continue
            tree: Tree = {**restored[origin], canary.node: old}
            if path_to(tree, origin, canary.node) is not None:
                restored[origin] = tree
        return restored

    def _finish_canary(self) -> None:
        """Nothing is left to be tried out; one that has not passed yet stays, to be taken back if need be."""
        if self._canary is not None and self._canary.passed:
            self._canary = None

    def _allowed(
        self,
        old: Trees,
        new: Trees,
        upgrades: Mapping[tuple[str, str], Move],
        viewers: Mapping[str, int],
        now_us: int,
    ) -> tuple[set[tuple[str, str]], str | None]:
        """The upgrades that may be applied now, and the node that becomes the canary with them."""
        if now_us < self._rests_until_us:
            seconds = (self._rests_until_us - now_us) // 1_000_000
            self.why_kept_back = f"the last upgrade failed at its canary: none for {seconds} s from now"
            return set(), None
        if now_us < self._slice_us + self.config.slice_ms * 1_000:
            self.why_kept_back = "other routes have just moved: the next ones follow in a second"
            return set(), None
        canary = self._canary
        if canary is not None:
            due_us = canary.started_us + self.config.canary_ms_max * 1_000
            canary.passed = canary.passed or now_us >= due_us
            if not canary.passed:
                self.why_kept_back = f"{canary.node} tries out its new upstream first"
                return set(), None
            tested = {key for key, move in upgrades.items() if move in canary.tested}
            if tested:
                return tested, None
            self._canary = None
        chosen = self._choose_canary(old, new, upgrades, viewers)
        self.why_kept_back = f"{chosen} tries out its new upstream first"
        return {key for key in upgrades if key[1] == chosen}, chosen

    def _choose_canary(
        self,
        old: Trees,
        new: Trees,
        upgrades: Mapping[tuple[str, str], Move],
        viewers: Mapping[str, int],
    ) -> str:
        """Of the nodes that could move alone, the one with the fewest viewers."""
        alone: set[str] = set()
        for origin in {origin for origin, _ in upgrades}:
            held = {node for o, node in upgrades if o == origin}
            above = paths(new[origin], origin)
            waiting = held - _above_escapes(old[origin], new[origin], above, held)
            alone.update(node for node in held if waiting.isdisjoint(above[node][:-1]))
        return min(alone, key=lambda node: (viewers.get(node, 0), node))


def _apply(
    old: Trees,
    new: Trees,
    upgrades: Mapping[tuple[str, str], Move],
    allowed: set[tuple[str, str]],
    limit: int,
) -> tuple[Trees, set[tuple[str, str]], set[str]]:
    """``new`` without the upgrades that are not allowed or above the limit; those that were applied; and the
    nodes that moved for an escape's sake.

    What an escape needs above it is applied with it, allowed or not: a route off a dead hop never waits.
    """
    trees, applied, moved_along = dict(new), set[tuple[str, str]](), set[str]()
    for origin in sorted({origin for origin, _ in upgrades}):
        before, after = old[origin], new[origin]
        held = {node for o, node in upgrades if o == origin}
        above = paths(after, origin)
        needed = _above_escapes(before, after, above, held)
        moved_along |= needed
        kept: set[str] = set()
        for node in top_down(after, origin):
            if node in needed:
                applied.add((origin, node))
            elif node in held:
                free = kept.isdisjoint(above[node][:-1])
                if free and (origin, node) in allowed and len(applied) < limit:
                    applied.add((origin, node))
                else:
                    kept.add(node)
        trees[origin] = mix(before, after, origin, kept)
    return trees, applied, moved_along


def _above_escapes(
    before: Tree, after: Tree, paths: Mapping[str, tuple[str, ...]], held: set[str]
) -> set[str]:
    """Held nodes that stand above a node that escapes or joins, in the new tree."""
    needed: set[str] = set()
    for node, upstreams in after.items():
        if node in held or (node in before and before[node].parent == upstreams.parent):
            continue
        needed.update(name for name in paths.get(node, ()) if name in held)
    return needed
