"""What an edge reads from its plan: routes by longest prefix, upstreams in order, nearest nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.control import messages as m
from farcast.proto.control.edge_plan import EdgePlan, Route
from farcast.proto.moqt.names import TrackNamespace

from .records import node, version

Fields = tuple[bytes, ...]


def plan(directory: Mapping[Fields, str] | None = None, **fields: Any) -> EdgePlan:
    nodes = {n.node_id: n for n in fields.pop("nodes", map(node, ("sin-1", "jkt-1", "fra-1", "iad-1")))}
    routes = {r.origin: r for r in fields.pop("routes", ())}
    return EdgePlan("sin-1", version(1), nodes, routes, directory or {}, **fields)


def space(path: str) -> TrackNamespace:
    return TrackNamespace.parse(path)


def test_the_longest_prefix_wins() -> None:
    held = plan({(b"live",): "jkt-1", (b"live", b"film"): "fra-1", (): "iad-1"})
    assert held.route_for(space("live/film/en")) == Route("fra-1", ("fra-1",))
    assert held.route_for(space("live/film")) == Route("fra-1", ("fra-1",))
    assert held.route_for(space("live/filming")) == Route("jkt-1", ("jkt-1",))
    assert held.route_for(space("other")) == Route("iad-1", ("iad-1",))
    assert held.route_for(TrackNamespace()) == Route("iad-1", ("iad-1",))


def test_a_namespace_nobody_holds_has_no_route() -> None:
    assert plan().route_for(space("live")) is None
    assert plan({(b"live", b"film"): "fra-1"}).route_for(space("live")) is None


def test_our_own_namespace_has_no_upstreams() -> None:
    assert plan({(b"live",): "sin-1"}).route_for(space("live/x")) == Route("sin-1", ())


_fields = st.lists(st.sampled_from((b"a", b"b", b"c")), max_size=4).map(tuple)


@given(st.dictionaries(_fields, st.sampled_from(("jkt-1", "fra-1")), max_size=20), _fields)
def test_the_directory_answers_as_a_scan_would(directory: dict[Fields, str], asked: Fields) -> None:
    holders = [
        (len(fields), origin) for fields, origin in directory.items() if asked[: len(fields)] == fields
    ]
    expected = max(holders)[1] if holders else None
    assert plan(directory).origin_of(TrackNamespace(asked)) == expected


class _Counting(Mapping[Fields, str]):
    """A directory that counts what is looked up."""

    def __init__(self, entries: dict[Fields, str]) -> None:
        self.entries, self.looked_up = entries, 0

    def __getitem__(self, key: Fields) -> str:
        self.looked_up += 1
        return self.entries[key]

    def __iter__(self) -> Iterator[Fields]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def test_a_look_up_among_10000_namespaces_takes_one_step_per_length() -> None:
    directory = _Counting({(b"live", b"room", b"%d" % n): "jkt-1" for n in range(10_000)})
    held = plan(directory)
    directory.looked_up = 0
    assert held.origin_of(space("live/room/9999/en")) == "jkt-1"
    assert held.origin_of(space("live/room")) is None
    assert held.origin_of(space("a/b/c/d/e/f")) is None
    assert directory.looked_up == 2


def test_candidates_are_parent_backups_and_at_last_the_origin() -> None:
    routes = (
        m.RouteEntry(origin="jkt-1", upstreams=("fra-1", "iad-1")),
        m.RouteEntry(origin="fra-1", upstreams=("iad-1", "fra-1")),
    )
    held = plan(routes=routes)
    assert held.candidates("jkt-1") == ("fra-1", "iad-1", "jkt-1")
    assert held.candidates("fra-1") == ("iad-1", "fra-1")
    assert held.candidates("iad-1") == ("iad-1",)
    assert held.candidates("sin-1") == ()
    assert held.candidates("lon-1") == ()


def test_nearest_are_those_that_are_heard_then_of_the_same_region_then_by_rtt_then_by_id() -> None:
    nodes = [node(n) for n in ("sin-1", "sin-3", "sin-2", "jkt-1", "fra-1", "iad-1", "lon-1")]
    nodes.append(node("dxb-1", draining=True))
    held = plan(nodes=nodes)
    by_id = ["sin-2", "sin-3", "fra-1", "iad-1", "jkt-1", "lon-1"]
    assert [n.node_id for n in held.nearest()] == by_id
    rtt_us = {"jkt-1": 13_000, "fra-1": 160_000, "sin-3": 900}
    by_rtt = ["sin-3", "jkt-1", "fra-1", "sin-2", "iad-1", "lon-1"]
    assert [n.node_id for n in held.nearest(rtt_us=rtt_us)] == by_rtt
    assert [n.node_id for n in held.nearest({"sin-3", "jkt-1"}, rtt_us)] == by_rtt[2:]


def test_an_edge_that_the_plan_does_not_know_still_finds_the_others() -> None:
    held = plan(nodes=[node("fra-1"), node("jkt-1")])
    assert [n.node_id for n in held.nearest(rtt_us={"jkt-1": 5})] == ["jkt-1", "fra-1"]


def test_a_plan_cannot_be_written_to() -> None:
    with pytest.raises(AttributeError):
        plan().version = version(2)  # type: ignore[misc]
