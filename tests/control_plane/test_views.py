"""The plan as edges get it: what an edge takes of one version after the other is what is in force."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane.branches import Trees, Upstreams
from farcast.control_plane.views import Differ, Views, same
from farcast.proto.control.edge_plan import EdgePlan, PlanStore
from farcast.proto.control.messages import Epoch, NodeInfo, PlanVersion
from farcast.proto.control.plan_rules import Tables

NODES = ("fra-1", "iad-1", "jkt-1", "sin-1")


def info(*node_ids: str) -> dict[str, NodeInfo]:
    return {
        node: NodeInfo(node_id=node, region=node.partition("-")[0], address="192.0.2.1:443")
        for node in node_ids
    }


def version(sequence: int) -> PlanVersion:
    return PlanVersion(epoch=Epoch(cluster="shows", number=1), sequence=sequence)


def test_a_route_is_the_branch_with_its_parent_first_and_then_the_backups() -> None:
    views = Views()
    views.set_nodes(info(*NODES))
    views.set_trees({"jkt-1": {"sin-1": Upstreams("jkt-1"), "fra-1": Upstreams("sin-1", ("iad-1", "sin-1"))}})
    route = views.of("fra-1").routes["jkt-1"]
    assert route.upstreams == ("sin-1", "iad-1")
    assert route.path == ("jkt-1", "sin-1", "fra-1")


def test_equal_trees_change_nothing_and_keep_the_tables() -> None:
    views = Views()
    views.set_nodes(info(*NODES))
    assert views.set_trees({"jkt-1": {"sin-1": Upstreams("jkt-1")}})
    before = views.of("sin-1")
    assert not views.set_trees({"jkt-1": {"sin-1": Upstreams("jkt-1", ())}})
    assert views.of("sin-1").routes is before.routes


def test_a_move_high_in_the_tree_changes_the_routes_below_it() -> None:
    views = Views()
    views.set_nodes(info(*NODES))
    views.set_trees({"jkt-1": {"sin-1": Upstreams("jkt-1"), "fra-1": Upstreams("sin-1")}})
    assert views.set_trees(
        {
            "jkt-1": {
                "sin-1": Upstreams("iad-1"),
                "iad-1": Upstreams("jkt-1"),
                "fra-1": Upstreams("sin-1"),
            }
        }
    )
    assert views.of("fra-1").routes["jkt-1"].path == ("jkt-1", "iad-1", "sin-1", "fra-1")


def test_a_node_that_comes_back_finds_the_routes_that_name_it_again() -> None:
    views = Views()
    views.set_nodes(info(*NODES))
    views.set_trees({"jkt-1": {"sin-1": Upstreams("jkt-1", ("iad-1",))}})
    views.set_nodes(info("fra-1", "jkt-1", "sin-1"))
    assert "jkt-1" not in views.of("sin-1").routes
    views.set_nodes(info(*NODES))
    assert views.of("sin-1").routes["jkt-1"].upstreams == ("jkt-1", "iad-1")


def test_an_edge_is_never_left_without_a_route_while_others_are_there() -> None:
    views = Views()
    views.set_nodes(info(*NODES))
    views.set_trees({"jkt-1": {"sin-1": Upstreams("jkt-1")}})
    views.set_trees({})
    assert [route.path for route in views.of("sin-1").routes.values()] == [("fra-1", "sin-1")]


@st.composite
def _plans(draw: st.DrawFn) -> tuple[tuple[str, ...], Trees, dict[tuple[bytes, ...], str]]:
    nodes = tuple(sorted({"sin-1", *draw(st.sets(st.sampled_from(NODES), min_size=1))}))
    trees: dict[str, dict[str, Upstreams]] = {}
    for origin in draw(st.sets(st.sampled_from(nodes))):
        order = draw(st.permutations([node for node in nodes if node != origin]))
        tree: dict[str, Upstreams] = {}
        for k, node in enumerate(order):
            backups = tuple(b for b in draw(st.permutations(nodes))[:2] if b != node)
            tree[node] = Upstreams(draw(st.sampled_from((origin, *order[:k]))), backups)
        trees[origin] = tree
    names = st.sampled_from(((b"a",), (b"b",), (b"c", b"d")))
    return nodes, trees, draw(st.dictionaries(names, st.sampled_from(nodes)))


@given(st.lists(_plans(), min_size=1, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_deltas_bring_a_real_edge_to_what_is_in_force(
    plans: list[tuple[tuple[str, ...], Trees, dict[tuple[bytes, ...], str]]], whole: list[bool]
) -> None:
    views, differ, edge = Views(), Differ(), PlanStore("sin-1")
    held: tuple[PlanVersion, Tables] | None = None
    for sequence, ((nodes, trees, directory), anew) in enumerate(zip(plans, whole, strict=False), 1):
        views.set_nodes(info(*nodes))
        views.set_directory(directory)
        views.set_trees(trees)
        view = views.of("sin-1")
        # That all others are gone an edge believes only by name, of a plan that it holds the base of.
        anew = anew and len(nodes) > 1
        delta = differ.delta(version(sequence), None if anew else held, view, 0)
        taken = edge.consider(delta)
        assert isinstance(taken, EdgePlan), taken
        assert same(Tables(dict(taken.nodes), dict(taken.routes), dict(taken.directory), None), view)
        held = (version(sequence), view)


def test_a_backup_that_is_fed_by_the_edge_itself_is_left_out() -> None:
    views = Views()
    views.set_nodes(info(*NODES))
    chain = {
        "sin-1": Upstreams("jkt-1"),
        "fra-1": Upstreams("sin-1", ("iad-1",)),
        "iad-1": Upstreams("fra-1"),
    }
    views.set_trees({"jkt-1": chain})
    assert views.of("fra-1").routes["jkt-1"].upstreams == ("sin-1", "jkt-1")
    views.set_trees({"jkt-1": {**chain, "iad-1": Upstreams("sin-1")}})
    assert views.of("fra-1").routes["jkt-1"].upstreams == ("sin-1", "iad-1")
