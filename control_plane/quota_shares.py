"""Which part of each key's quota each edge may give out, by where the key is used.

    targets      what the plan says to each edge
    possible     what each edge may act by: the most it was told since it last acknowledged its target

The rule that makes it safe: the *possible* shares of all edges together never exceed the quota. So one edge
is given more only when others have acknowledged less, and an edge that is cut off keeps what it has (static,
for days) and nobody else gets it. Only when it is taken out of the cluster is its share given out again: an
edge that lives on beyond that, unseen, may use up to that share besides.

Desired shares, for each of publishers, viewers, namespaces and bit/s alike: first what is used now (so that
nobody loses what it has), then a floor for everybody, `1 / (FLOOR_PARTS * edges)` of the quota, so that an
edge where the first viewer comes is not at zero; the rest by use, with a little for what was refused. Nothing
moves while every edge has room: shares are looked at every `LOOK_US`, and those of a key are only dealt anew
where an edge is `TIGHT`, has refused somebody, or has come or gone.

An edge of a version that does not know shares divides evenly by itself (`farcast.proto.access.quotas`); its
even part counts as possible, always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from farcast.control_plane.usage_book import Using
from farcast.proto.access.quotas import Amounts

LOOK_US: Final = 5_000_000
FLOOR_PARTS: Final = 4
TIGHT: Final = 0.8
"""Of a share in use: more will soon be wanted."""

HEADROOM: Final = 1.25
"""What is used counts so much more, where there is enough, because it grows."""

NOTHING: Final = Amounts()
FIELDS: Final = range(len(Amounts._fields))

Shares = dict[str, dict[str, Amounts]]
"""Node id to key to share."""


@dataclass(frozen=True, slots=True)
class ShareEdge:
    """An edge of the plan. ``takes``: it is connected, and knows shares; ``divides``: it knows none."""

    node_id: str
    takes: bool = True
    divides: bool = False


@dataclass
class QuotaShares:
    """``possible`` is what is kept."""

    possible: Shares = field(default_factory=dict)
    targets: Shares = field(default_factory=dict)
    changed: bool = False
    """Targets are others since it was last set to false."""
    kept_changed: bool = False
    """Likewise what is kept."""
    _refused: dict[tuple[str, str], int] = field(default_factory=dict)
    _wanting: set[str] = field(default_factory=set)
    """Keys whose targets are not what is desired, because others have not acknowledged less."""
    _dealt: tuple[object, object] = (None, None)

    def of(self, node_id: str) -> Mapping[str, Amounts]:
        """The targets of an edge."""
        return self.targets.get(node_id, {})

    @property
    def is_wanting(self) -> bool:
        """Whether an acknowledgement will let targets move on."""
        return bool(self._wanting)

    # ---- Input ------------------------------------------------------------------------------------

    def acknowledged(self, node_id: str) -> None:
        """The edge follows its targets, and nothing else any more."""
        target = dict(self.targets.get(node_id, {}))
        if self.possible.get(node_id, {}) != target:
            self.possible[node_id] = target
            self.kept_changed = True

    def deal(
        self,
        quotas: Mapping[str, Amounts],
        edges: Sequence[ShareEdge],
        now: Callable[[str], Mapping[str, Using]],
        *,
        look: bool,
    ) -> None:
        """Bring targets up to what is known. ``quotas``: keys that have any; ``now``: what a key takes, by
        edge; ``look``: it is time to look at use."""
        self._drop_gone(quotas, edges)
        dealt = (dict(quotas), tuple(edges))
        everything, self._dealt = dealt != self._dealt, dealt
        for key_id, quota in quotas.items():
            if everything or key_id in self._wanting or (look and self._is_tight(key_id, quota, now(key_id))):
                self._deal_key(key_id, quota, edges, now(key_id))
            if look:
                self._refused.update({(node, key_id): use.refused for node, use in now(key_id).items()})

    # ---- Below ------------------------------------------------------------------------------------

    def _drop_gone(self, quotas: Mapping[str, Amounts], edges: Iterable[ShareEdge]) -> None:
        nodes = {edge.node_id for edge in edges}
        for shares in (self.possible, self.targets):
            for node_id in [node_id for node_id in shares if node_id not in nodes]:
                del shares[node_id]
                self.kept_changed = True
            for keys in shares.values():
                for key_id in [key_id for key_id in keys if key_id not in quotas]:
                    del keys[key_id]
                    self.changed = self.kept_changed = True
        self._wanting &= quotas.keys()
        self._refused = {at: n for at, n in self._refused.items() if at[0] in nodes and at[1] in quotas}

    def _is_tight(self, key_id: str, quota: Amounts, using: Mapping[str, Using]) -> bool:
        for node_id, use in using.items():
            if use.refused > self._refused.get((node_id, key_id), 0):
                return True
            target = self.targets.get(node_id, {}).get(key_id, NOTHING)
            if any(quota[at] and use.amounts[at] >= TIGHT * target[at] > 0 for at in FIELDS):
                return True
        return False

    def _deal_key(
        self, key_id: str, quota: Amounts, edges: Sequence[ShareEdge], using: Mapping[str, Using]
    ) -> None:
        even = even_part(quota, len(edges))
        takers = [edge.node_id for edge in edges if edge.takes]
        fixed = [self._held(edge, key_id, even) for edge in edges if not edge.takes]
        columns: list[dict[str, int]] = []
        wanting = False
        for at in FIELDS:
            used = {node: using[node].amounts[at] if node in using else 0 for node in takers}
            extra = {node: self._refused_since(node, key_id, using) for node in takers}
            room = max(quota[at] - sum(held[at] for held in fixed), 0)
            wanted = desired(room, used, extra)
            column = self._step(key_id, at, wanted, room)
            wanting |= column != wanted
            columns.append(column)
        for node_id in takers:
            self._set(node_id, key_id, Amounts(*(column[node_id] for column in columns)))
        (self._wanting.add if wanting else self._wanting.discard)(key_id)

    def _held(self, edge: ShareEdge, key_id: str, even: Amounts) -> Amounts:
        return even if edge.divides else self.possible.get(edge.node_id, {}).get(key_id, NOTHING)

    def _refused_since(self, node_id: str, key_id: str, using: Mapping[str, Using]) -> int:
        use = using.get(node_id)
        return max(use.refused - self._refused.get((node_id, key_id), 0), 0) if use else 0

    def _step(self, key_id: str, at: int, wanted: Mapping[str, int], room: int) -> dict[str, int]:
        """How far targets can go now: to less at once, to more as far as nobody else may have it."""
        possible = {node: self.possible.get(node, {}).get(key_id, NOTHING)[at] for node in wanted}
        free = max(room - sum(possible.values()), 0)
        column: dict[str, int] = {}
        for node in sorted(wanted, key=lambda node: (wanted[node] - possible[node], node)):
            more = min(max(wanted[node] - possible[node], 0), free)
            free -= more
            column[node] = min(wanted[node], possible[node] + more)
        return column

    def _set(self, node_id: str, key_id: str, share: Amounts) -> None:
        if self.targets.setdefault(node_id, {}).get(key_id) != share:
            self.targets[node_id][key_id] = share
            self.changed = True
        before = self.possible.setdefault(node_id, {}).get(key_id, NOTHING)
        most = Amounts(*map(max, before, share))
        if most != before or key_id not in self.possible[node_id]:
            self.possible[node_id][key_id] = most
            self.kept_changed = True


def even_part(quota: Amounts, edges: int) -> Amounts:
    """What an edge takes that knows no shares."""
    return Amounts(*(-(-most // max(edges, 1)) for most in quota))


def desired(room: int, used: Mapping[str, int], extra: Mapping[str, int]) -> dict[str, int]:
    """Shares of ``room``, which they use up to the last one. ``extra``: wanted besides what is used."""
    if not used:
        return {}
    needs = {node: int(use * HEADROOM) for node, use in used.items()}
    base = needs if sum(needs.values()) <= room else dict(used)
    if sum(base.values()) > room:
        return _split(room, base)
    left = room - sum(base.values())
    floor = room // (FLOOR_PARTS * len(used))
    short = {node: max(floor - share, 0) for node, share in base.items()}
    floors = short if sum(short.values()) <= left else _split(left, short)
    left -= sum(floors.values())
    rest = _split(left, {node: used[node] + extra.get(node, 0) for node in used})
    return {node: base[node] + floors[node] + rest[node] for node in used}


def _split(whole: int, weights: Mapping[str, int]) -> dict[str, int]:
    """All of ``whole`` by weight, evenly where nothing weighs; what is left over one by one, in order."""
    total = sum(weights.values())
    if total <= 0:
        weights, total = dict.fromkeys(weights, 1), len(weights)
    parts = {node: whole * weight // total for node, weight in weights.items()}
    order = sorted(weights, key=lambda node: (-weights[node], node))
    for node in order[: whole - sum(parts.values())]:
        parts[node] += 1
    return parts
