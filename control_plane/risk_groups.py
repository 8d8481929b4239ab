"""Groups of nodes and links that fail together: cables, providers, regions, sites; from ``risk_groups.toml``.

[[group]]
name = "smw4"
kind = "cable"                              # cable, provider, region or site
links = [["sin", "fra"], ["sin", "dxb"]]    # by region, both directions

[[group]]
name = "equinix-sg3"
kind = "site"
nodes = ["sin-1", "sin-2"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple

from farcast.errors import EXIT_USAGE, UserError

KINDS: Final = ("cable", "provider", "region", "site")
GROUPS_MAX: Final = 1_024
MEMBERS_MAX: Final = 4_096
"""Nodes or links of one group."""


@dataclass(frozen=True, slots=True)
class RiskGroup:
    """What fails together: ``nodes`` by id, ``links`` by pairs of regions, both directions."""

    name: str
    kind: str
    nodes: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RiskGroups:
    """All groups of a file."""

    groups: tuple[RiskGroup, ...] = ()

    def of_node(self, node_id: str) -> frozenset[str]:
        """Names of the groups that a node is in."""
        return frozenset(group.name for group in self.groups if node_id in group.nodes)

    @property
    def of_links(self) -> dict[tuple[str, str], frozenset[str]]:
        """Names of groups by pair of regions, as in the file."""
        pairs: dict[tuple[str, str], frozenset[str]] = {}
        for group in self.groups:
            for pair in group.links:
                pairs[pair] = pairs.get(pair, frozenset()) | {group.name}
        return pairs

    def unknown(self, node_ids: Collection[str], regions: Collection[str]) -> list[str]:
        """One line for each name that is no node or region, in the order of the file."""
        known = {"node": node_ids, "region": regions}
        return [
            _unknown(*name, known[name.what]) for name in self.names() if name.name not in known[name.what]
        ]

    def names(self) -> Iterator[GroupName]:
        """All names in the order of the file, each once a group."""
        for group in self.groups:
            yield from (GroupName(group.name, "node", node) for node in dict.fromkeys(group.nodes))
            regions = dict.fromkeys(region for pair in group.links for region in pair)
            yield from (GroupName(group.name, "region", region) for region in regions)


class GroupName(NamedTuple):
    """One name in a file; ``what``: node or region."""

    group: str
    what: str
    name: str


class AbsentNames:
    """Names of the groups that are nobody's: each is told once, since an edge may simply not have joined."""

    def __init__(self, groups: RiskGroups) -> None:
        self._names = tuple(groups.names())
        self._told: set[GroupName] = set()

    def untold(self, node_ids: Collection[str], regions: Collection[str]) -> list[GroupName]:
        """Those that are nobody's now and have not been told before; they have been from now on."""
        known = {"node": node_ids, "region": regions}
        absent = [n for n in self._names if n.name not in known[n.what] and n not in self._told]
        self._told.update(absent)
        return absent


def load_risk_groups(
    path: Path, node_ids: Collection[str] | None = None, regions: Collection[str] | None = None
) -> RiskGroups:
    """Read a file; with ``node_ids`` or ``regions``, refuse nodes or regions that are not among them.

    `UserError` names every fault of the file, its place and what would be right.
    """
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", EXIT_USAGE) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not TOML: {error}", EXIT_USAGE) from error
    groups, faults = _parse(parsed)
    if not faults:
        names = list(groups.names())
        nodes, named = ({n.name for n in names if n.what == what} for what in ("node", "region"))
        faults = groups.unknown(
            nodes if node_ids is None else node_ids, named if regions is None else regions
        )
    if faults:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults), EXIT_USAGE)
    return groups


def _parse(parsed: Mapping[str, Any]) -> tuple[RiskGroups, list[str]]:
    faults = [f"unknown key {key!r}; the file holds [[group]] tables" for key in parsed if key != "group"]
    tables = parsed.get("group", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return RiskGroups(), [*faults, "'group' must be written as [[group]] tables"]
    if not tables:
        faults.append("'group' names nobody: add a [[group]] table, or leave the file out")
    if len(tables) > GROUPS_MAX:
        return RiskGroups(), [*faults, f"{len(tables)} groups, at most {GROUPS_MAX} are allowed"]
    groups: list[RiskGroup] = []
    for number, table in enumerate(tables, 1):
        faults += [f"group {number}: {fault}" for fault in _faults_of(table)]
        if not faults:
            pairs = tuple((a, b) for a, b in table.get("links", []))
            groups.append(RiskGroup(table["name"], table["kind"], tuple(table.get("nodes", [])), pairs))
    names = [group.name for group in groups]
    faults += [f"two groups are named {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
    return RiskGroups(tuple(groups)), faults


def _faults_of(table: Mapping[str, Any]) -> Iterator[str]:
    name, kind = table.get("name"), table.get("kind")
    if not isinstance(name, str) or not name:
        yield "needs a name (a string)"
    if kind not in KINDS:
        yield f"kind is {kind!r}, one of {', '.join(KINDS)} is allowed"
    for key in table:
        if key not in ("name", "kind", "nodes", "links"):
            close = get_close_matches(key, ("name", "kind", "nodes", "links"), 1)
            yield f"unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    nodes, links = table.get("nodes", []), table.get("links", [])
    if not isinstance(nodes, list) or not all(isinstance(node, str) and node for node in nodes):
        yield "nodes must be a list of node ids"
    elif not isinstance(links, list) or not all(map(_is_pair, links)):
        yield 'links must be a list of pairs of regions, such as [["sin", "fra"]]'
    elif not nodes and not links:
        yield "'nodes' and 'links' name nobody: give one of them"
    elif len(nodes) > MEMBERS_MAX or len(links) > MEMBERS_MAX:
        yield f"more than {MEMBERS_MAX} nodes or links"


def _is_pair(link: object) -> bool:
    return (
        isinstance(link, list)
        and len(link) == 2
        and all(isinstance(region, str) and region for region in link)
    )


def _unknown(group: str, what: str, name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, sorted(known), 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known)) or 'none'}"
    return f"group {group!r} names {what} {name!r}, which does not exist; {hint}"
