"""Which plans an edge takes, which it refuses and why, and what a restart leaves of them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from farcast.proto.control import messages as m
from farcast.proto.control import plan_rules
from farcast.proto.control.edge_plan import BadPlanFile, EdgePlan, PlanStore, Refused
from farcast.proto.moqt.names import TrackNamespace

from .records import PLAN, node, version


def entry(namespace: str, origin: str) -> m.DirectoryEntry:
    return m.DirectoryEntry(namespace=tuple(namespace.encode().split(b"/")), origin=origin)


def route(origin: str, *upstreams: str, path: tuple[str, ...] = ()) -> m.RouteEntry:
    return m.RouteEntry(origin=origin, upstreams=upstreams, path=path)


def delta(sequence: int, base: int | None = 7, **fields: Any) -> m.PlanDelta:
    return m.PlanDelta(version=version(sequence), base=None if base is None else version(base), **fields)


def full(sequence: int, **fields: Any) -> m.PlanDelta:
    return changed(PLAN, version=version(sequence), **fields)


@pytest.fixture
def store() -> PlanStore:
    """The store of sin-1 with plan 7 of epoch 3."""
    store = PlanStore("sin-1")
    assert isinstance(store.consider(PLAN), EdgePlan)
    return store


def taken(store: PlanStore, plan: m.PlanDelta) -> EdgePlan:
    got = store.consider(plan)
    assert isinstance(got, EdgePlan), got
    assert store.plan is got
    return got


# ---- Taking ---------------------------------------------------------------------------------------


def test_a_first_plan_is_taken_whole(store: PlanStore) -> None:
    assert store.plan is not None
    assert store.plan.version == version(7)
    assert list(store.plan.nodes) == ["sin-1", "jkt-1", "fra-1"]
    assert store.plan.route_for(TrackNamespace.parse("live/film/en")) == ("jkt-1", ("jkt-1", "fra-1"))
    assert store.plan.edge_list == PLAN.edge_list
    assert store.plan.issued_unix_us == PLAN.issued_unix_us


def test_a_delta_changes_what_it_names_and_nothing_else(store: PlanStore) -> None:
    plan = taken(
        store,
        delta(
            9,
            nodes=(node("iad-1"), node("fra-1", draining=True)),
            routes=(route("iad-1", "jkt-1", "iad-1", path=("iad-1", "jkt-1", "sin-1")),),
            directory=(entry("live/cup", "iad-1"),),
            directory_removed=((b"live", b"film"),),
        ),
    )
    assert list(plan.nodes) == ["sin-1", "jkt-1", "fra-1", "iad-1"]
    assert plan.nodes["fra-1"].draining
    assert plan.routes["jkt-1"] == PLAN.routes[0]
    assert dict(plan.directory) == {(b"live", b"cup"): "iad-1"}
    assert plan.edge_list == PLAN.edge_list
    plan = taken(
        store,
        delta(
            10,
            base=9,
            nodes_removed=("iad-1",),
            routes_removed=("iad-1",),
            directory_removed=((b"live", b"cup"), (b"not", b"there")),
        ),
    )
    assert (set(plan.nodes), set(plan.routes)) == ({"sin-1", "jkt-1", "fra-1"}, {"jkt-1"})


def test_a_full_plan_replaces_all(store: PlanStore) -> None:
    plan = taken(
        store,
        m.PlanDelta(
            version=version(8), nodes=(node("sin-1"), node("lon-1")), routes=(route("lon-1", "lon-1"),)
        ),
    )
    assert (list(plan.nodes), list(plan.routes), len(plan.directory)) == (["sin-1", "lon-1"], ["lon-1"], 0)


def test_plans_already_taken_never_change(store: PlanStore) -> None:
    before = store.plan
    taken(store, delta(8, directory=(entry("live/cup", "fra-1"),)))
    assert before is not None
    assert dict(before.directory) == {(b"live", b"film"): "jkt-1"}
    with pytest.raises(TypeError):
        before.nodes["x"] = node("x")  # type: ignore[index]


def test_the_next_reign_may_count_from_the_start_and_build_on_the_last_plan(store: PlanStore) -> None:
    plan = taken(store, m.PlanDelta(version=version(0, number=4), base=version(7)))
    assert plan.version == version(0, number=4)
    assert list(plan.nodes) == ["sin-1", "jkt-1", "fra-1"]


def test_the_last_other_edge_may_leave(store: PlanStore) -> None:
    plan = taken(
        store,
        delta(
            8,
            nodes_removed=("jkt-1", "fra-1"),
            routes_removed=("jkt-1",),
            directory_removed=((b"live", b"film"),),
        ),
    )
    assert list(plan.nodes) == ["sin-1"]
    assert not plan.routes


def test_an_edge_that_its_plans_leave_out_may_see_the_last_others_leave_by_name() -> None:
    store = PlanStore("sin-1")
    taken(store, m.PlanDelta(version=version(1), nodes=(node("fra-1"),), routes=(route("fra-1", "fra-1"),)))
    leave = delta(2, base=1, nodes_removed=("fra-1",), routes_removed=("fra-1",))
    assert isinstance(store.consider(m.PlanDelta(version=version(2))), Refused)
    assert not taken(store, leave).nodes


# ---- Refusing -------------------------------------------------------------------------------------

_CIRCLE = ("jkt-1", "fra-1", "jkt-1", "sin-1")

REFUSALS: list[tuple[m.PlanDelta, str]] = [
    (full(6), "plan shows/3.6 is older than shows/3.7, which is in force"),
    (
        changed(PLAN, version=version(99, number=2)),
        "plan shows/2.99 is older than shows/3.7, which is in force",
    ),
    (PLAN, "plan shows/3.7 is in force already"),
    (
        changed(PLAN, version=version(8, cluster="others")),
        "plan others/3.8 is of another cluster: this edge belongs to 'shows'",
    ),
    (delta(9, base=8), "plan shows/3.9 changes plan shows/3.8, and shows/3.7 is in force"),
    (delta(9, base=6), "plan shows/3.9 changes plan shows/3.6, and shows/3.7 is in force"),
    (
        changed(delta(9), base=version(7, number=2)),
        "plan shows/3.9 changes plan shows/2.7, and shows/3.7 is in force",
    ),
    (
        m.PlanDelta(version=version(8)),
        "plan shows/3.8 refused: it is empty, and the one in force has 3 nodes",
    ),
    (
        delta(8, nodes_removed=("sin-1", "jkt-1", "fra-1"), routes_removed=("jkt-1",)),
        "plan shows/3.8 refused: it is empty, and the one in force has 3 nodes",
    ),
    (
        full(8, nodes=(node("sin-1"),), routes=(), directory=()),
        "plan shows/3.8 refused: it is whole and names no other edge, and the one in force has 2 others",
    ),
    (full(8, routes=()), "plan shows/3.8 refused: it takes away all 1 routes while 2 other nodes are left"),
    (
        delta(8, routes_removed=("jkt-1",)),
        "plan shows/3.8 refused: it takes away all 1 routes while 2 other nodes are left",
    ),
    (
        delta(8, routes=(route("fra-1", "lon-1"),)),
        "plan shows/3.8 refused: route to 'fra-1' names node 'lon-1', which the plan does not know",
    ),
    (
        delta(8, routes=(route("lon-1", "fra-1"),)),
        "plan shows/3.8 refused: route to 'lon-1' names node 'lon-1', which the plan does not know",
    ),
    (
        delta(8, routes=(route("fra-1", "fra-1", path=("fra-1", "lon-1", "sin-1")),)),
        "plan shows/3.8 refused: route to 'fra-1' names node 'lon-1', which the plan does not know",
    ),
    (
        delta(8, nodes_removed=("fra-1",)),
        "plan shows/3.8 refused: route to 'jkt-1' names node 'fra-1', which the plan does not know",
    ),
    (
        delta(8, directory=(entry("live/cup", "lon-1"),)),
        "plan shows/3.8 refused: namespace live/cup is at node 'lon-1', which the plan does not know",
    ),
    (
        delta(8, routes=(route("jkt-1", "fra-1", "sin-1"),)),
        "plan shows/3.8 refused: route to 'jkt-1' is a circle: this edge is its own upstream",
    ),
    (
        delta(8, routes=(route("sin-1", "fra-1"),)),
        "plan shows/3.8 refused: route to 'sin-1' is a circle: this edge is the origin and has upstreams",
    ),
    (
        delta(8, routes=(route("jkt-1", "fra-1", path=_CIRCLE),)),
        "plan shows/3.8 refused: route to 'jkt-1' is a circle: jkt-1 > fra-1 > jkt-1 > sin-1",
    ),
    (
        delta(8, routes=(route("jkt-1", "fra-1", path=("jkt-1", "sin-1", "fra-1")),)),
        "plan shows/3.8 refused: route to 'jkt-1' does not end here: jkt-1 > sin-1 > fra-1",
    ),
    (
        delta(8, routes=(route("jkt-1", "fra-1", path=("fra-1", "sin-1")),)),
        "plan shows/3.8 refused: route to 'jkt-1' does not begin there: fra-1 > sin-1",
    ),
    (
        delta(8, routes=(route("jkt-1", "fra-1", path=("jkt-1", "sin-1")),)),
        "plan shows/3.8 refused: route to 'jkt-1' comes by 'jkt-1', and its first upstream is 'fra-1'",
    ),
    (delta(8, routes=(route("jkt-1"),)), "plan shows/3.8 refused: route to 'jkt-1' has no upstream"),
    (
        delta(8, routes=(route("jkt-1", "fra-1", "fra-1"),)),
        "plan shows/3.8 refused: route to 'jkt-1' names an upstream twice: fra-1 > fra-1",
    ),
    (full(8, nodes=PLAN.nodes * 2), "plan shows/3.8 speaks 2 times of node sin-1"),
    (full(8, routes=PLAN.routes * 2), "plan shows/3.8 speaks 2 times of route to jkt-1"),
    (full(8, directory=PLAN.directory * 2), "plan shows/3.8 speaks 2 times of namespace live/film"),
    (
        delta(8, nodes=(node("lon-1"),), nodes_removed=("lon-1",)),
        "plan shows/3.8 speaks 2 times of node lon-1",
    ),
    (
        delta(8, routes=(route("fra-1", "fra-1"),), routes_removed=("fra-1",)),
        "plan shows/3.8 speaks 2 times of route to fra-1",
    ),
    (
        delta(8, directory=(entry("a", "fra-1"),), directory_removed=((b"a",),)),
        "plan shows/3.8 speaks 2 times of namespace a",
    ),
    (
        delta(8, nodes=tuple(node(f"n-{n}") for n in range(1_022))),
        "plan shows/3.8 refused: it has 1025 nodes, at most 1024 are allowed",
    ),
    (
        delta(8, directory=tuple(entry(f"a/{n}", "fra-1") for n in range(65_536))),
        "plan shows/3.8 refused: it has 65537 namespaces, at most 65536 are allowed",
    ),
    (
        delta(8, directory=tuple(entry(f"{n:04000}", "fra-1") for n in range(2_098))),
        "plan shows/3.8 refused: it has 8392008 bytes of namespaces, at most 8388608 are allowed",
    ),
]


@pytest.mark.parametrize(("plan", "reason"), REFUSALS, ids=[reason[:90] for _, reason in REFUSALS])
def test_a_bad_plan_is_refused_with_one_sentence_and_the_old_one_stays(
    store: PlanStore, plan: m.PlanDelta, reason: str
) -> None:
    before, bytes_before = store.plan, store.dump()
    assert store.consider(plan) == Refused(reason)
    assert store.plan is before
    assert store.dump() == bytes_before
    assert "\n" not in reason
    taken(store, delta(100, directory=(entry("live/after", "fra-1"),)))


def test_a_delta_is_refused_where_no_plan_is_held() -> None:
    store = PlanStore("sin-1")
    assert store.consider(delta(9)) == Refused("plan shows/3.9 changes plan shows/3.7, and none is in force")
    assert store.plan is None


def test_a_first_plan_of_another_cluster_than_configured_is_refused() -> None:
    store = PlanStore("sin-1", cluster="mine")
    expected = "plan shows/3.7 is of another cluster: this edge belongs to 'mine'"
    assert store.consider(PLAN) == Refused(expected)


def test_more_routes_than_nodes_are_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_rules, "NODES_MAX", 3)
    store = PlanStore("sin-1")
    routes = tuple(route(n, "fra-1") for n in ("fra-1", "jkt-1", "lon-1", "iad-1"))
    got = store.consider(full(8, routes=routes))
    assert got == Refused("plan shows/3.8 refused: it has 4 routes, at most 3 are allowed")


# ---- Files ----------------------------------------------------------------------------------------


def test_a_plan_survives_a_restart(store: PlanStore) -> None:
    taken(store, delta(8, nodes=(node("iad-1"),), directory=(entry("live/cup", "iad-1"),)))
    again = PlanStore("sin-1")
    assert again.load(store.dump()) == store.plan
    assert again.version == version(8)
    assert again.dump() == store.dump()
    taken(again, delta(9, base=8))


def test_there_is_nothing_to_write_before_the_first_plan() -> None:
    with pytest.raises(ValueError, match="no plan is in force"):
        PlanStore("sin-1").dump()


def _refusal_of(data: bytes, node_id: str = "sin-1", cluster: str = "") -> str:
    store = PlanStore(node_id, cluster)
    with pytest.raises(BadPlanFile) as bad:
        store.load(data)
    assert store.plan is None
    return bad.value.reason


def test_every_single_flipped_bit_is_noticed(store: PlanStore) -> None:
    data = store.dump()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert _refusal_of(bytes(flipped))


def test_a_file_cut_off_anywhere_is_noticed(store: PlanStore) -> None:
    data = store.dump()
    for length in range(len(data)):
        assert "cut off" in _refusal_of(data[:length])
    assert "damaged" in _refusal_of(data + b"\x00")
    assert "damaged" in _refusal_of(data * 2)


@given(st.binary(max_size=300))
def test_any_other_file_is_refused(data: bytes) -> None:
    assert _refusal_of(data)


def _file(contents: object, file_version: int = 1) -> bytes:
    """A file with a right checksum around any contents."""
    body = msgspec.msgpack.encode(contents)
    head = b"FARCAST-PLAN" + file_version.to_bytes(2, "big")
    return head + hashlib.sha256(head + body).digest() + body


def _contents(**fields: Any) -> dict[str, Any]:
    return {"is": "plan_file", "node_id": "sin-1", "plan": PLAN, **fields}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "file of 0 bytes is cut off: its head alone has 46"),
        (b"\x00" * 100, "file is no plan: it begins with other bytes"),
        (_file(_contents(), 2), "plan file of version 2, this edge reads 1"),
        (_file(_contents(node_id="fra-1")), "plan of node 'fra-1', this is 'sin-1'"),
        (_file([1, 2]), "contents of the file: Expected `object`, got `array`"),
        (
            _file(_contents(plan={"is": "plan"})),
            "contents of the file: Object missing required field `version` - at `$.plan`",
        ),
        (
            _file(_contents(plan=changed(PLAN, directory=(entry("a" * 4_097, "fra-1"),)))),
            "contents of the file: namespace of 4097 bytes, at most 4096 are allowed"
            " - at `$.directory[0].namespace`",
        ),
        (
            _file(_contents(plan=changed(PLAN, base=version(3)))),
            "plan shows/3.7 changes plan shows/3.3, and none is in force",
        ),
        (
            _file(_contents(plan=changed(PLAN, routes=(route("fra-1", "lon-1"),)))),
            "plan shows/3.7 refused: route to 'fra-1' names node 'lon-1', which the plan does not know",
        ),
    ],
)
def test_a_file_with_wrong_contents_is_refused_with_one_sentence(data: bytes, reason: str) -> None:
    assert _refusal_of(data) == reason


def test_a_file_of_another_cluster_is_refused(store: PlanStore) -> None:
    assert "another cluster" in _refusal_of(store.dump(), cluster="mine")


def test_a_file_never_replaces_a_newer_plan(store: PlanStore) -> None:
    old = store.dump()
    taken(store, delta(8))
    with pytest.raises(BadPlanFile, match=r"plan shows/3\.7 is older than shows/3\.8"):
        store.load(old)
    assert store.version == version(8)


# ---- Properties -----------------------------------------------------------------------------------

_IDS = ("sin-1", "jkt-1", "fra-1", "iad-1")
_ids = st.sampled_from(_IDS)
_namespaces = st.lists(st.sampled_from((b"a", b"b")), max_size=2).map(tuple)


def _lists(items: st.SearchStrategy[Any], max_size: int = 4) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=max_size).map(tuple)


_versions = st.builds(
    version, st.integers(0, 9), st.integers(1, 2), st.sampled_from(("shows", "shows", "no"))
)
_deltas = st.builds(
    m.PlanDelta,
    version=_versions,
    base=st.none() | _versions,
    nodes=_lists(_ids.map(node)),
    nodes_removed=_lists(_ids, 2),
    routes=_lists(st.builds(m.RouteEntry, origin=_ids, upstreams=_lists(_ids, 3), path=_lists(_ids, 3)), 2),
    routes_removed=_lists(_ids, 2),
    directory=_lists(st.builds(m.DirectoryEntry, namespace=_namespaces, origin=_ids), 2),
    directory_removed=_lists(_namespaces, 1),
)
_ON_TOP = "on top"
_steps = st.lists(st.tuples(_deltas, st.sampled_from((_ON_TOP, "as it is"))), max_size=12)


def _check_valid(plan: EdgePlan) -> None:
    """Independent of the rules' own code: what the agent relies on."""
    known = {*plan.nodes, plan.node_id}
    assert set(plan.directory.values()) <= known
    for origin, entry_ in plan.routes.items():
        assert origin == entry_.origin
        assert {origin, *entry_.upstreams, *entry_.path} <= known
        assert plan.node_id not in entry_.upstreams
        assert len({*entry_.path}) == len(entry_.path)
        assert not entry_.path or (entry_.path[0], entry_.path[-1]) == (origin, plan.node_id)
        assert (origin == plan.node_id) == (not entry_.upstreams)
    for origin in plan.nodes:
        assert (origin == plan.node_id) == (not plan.candidates(origin))
        assert plan.node_id not in plan.candidates(origin)


@settings(max_examples=400)
@given(_steps)
def test_any_sequence_of_plans_leaves_a_valid_one_that_is_never_older(
    steps: list[tuple[m.PlanDelta, str]],
) -> None:
    store = PlanStore("sin-1")
    store.consider(PLAN)
    for plan, kind in steps:
        before = store.plan
        assert before is not None
        if kind == _ON_TOP:
            sequence = before.version.sequence + 1 + plan.version.sequence
            plan = changed(plan, version=version(sequence), base=before.version)
        got = store.consider(plan)
        after = store.plan
        assert after is not None
        _check_valid(after)
        if isinstance(got, Refused):
            assert after is before
            continue
        assert after.version.epoch.cluster == "shows"
        order = [(p.version.epoch.number, p.version.sequence) for p in (before, after)]
        assert order[0] < order[1]
        assert after.nodes
        assert PlanStore("sin-1").load(store.dump()) == after


def test_a_large_plan_is_changed_in_one_place_and_read_back() -> None:
    store = PlanStore("sin-1")
    directory = tuple(entry(f"live/{n}", "fra-1") for n in range(10_000))
    taken(store, full(8, directory=directory))
    plan = taken(store, delta(9, base=8, directory=(entry("live/5", "jkt-1"),)))
    assert plan.origin_of(TrackNamespace.parse("live/5/en")) == "jkt-1"
    assert len(plan.directory) == 10_000
    again = PlanStore("sin-1")
    assert again.load(store.dump()) == plan
