"""What is proposed again over routes that came of the same proposal is those routes, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane.branches import Trees, Upstreams
from farcast.control_plane.network import Network
from farcast.control_plane.plan import Plan, PlannerConfig, PlannerMemory, Tree
from farcast.control_plane.planning import PlanJob, Planned, Reconciler

NODES = ("a", "b", "c", "d")
NETWORK = Network.build([], np.zeros((0, 0)))
JOB = PlanJob(NETWORK, {}, PlannerMemory(), PlannerConfig())


def proposal(trees: Mapping[str, list[tuple[int, int]]]) -> Planned:
    """By origin the positions of each node's parent and one backup, -1 for none."""
    made = {}
    for origin, rows in trees.items():
        parents = np.array([parent for parent, _ in rows])
        ranks = np.array([[backup] for _, backup in rows])
        nothing = np.zeros(len(rows))
        shares = np.zeros(ranks.shape, np.uint8)
        made[origin] = Tree(origin, NODES, parents, ranks, shares, nothing, nothing, nothing)
    return Planned(JOB, Plan(made), PlannerMemory())


_rows = st.tuples(st.just((-1, -1)), *(st.tuples(st.integers(-1, 3), st.integers(-1, 3)) for _ in range(3)))
_proposals = st.dictionaries(st.just("a"), _rows.map(list), max_size=1).map(proposal)
_held = st.dictionaries(
    st.sampled_from(NODES[1:]), st.builds(Upstreams, st.sampled_from(NODES), st.just(())), max_size=3
)
_members = st.sets(st.sampled_from(NODES), min_size=2)
_steps = st.lists(st.tuples(_proposals, _members, st.none() | _held), max_size=6)


@given(_steps, st.integers(1, 3))
def test_it_gives_what_one_that_has_seen_nothing_gives(steps: list[Any], times: int) -> None:
    """Each step several times, over what is in force, which something else may have changed meanwhile."""
    reconciler, trees = Reconciler(), dict[str, Any]()
    for planned, members, changed in steps:
        if changed is not None:
            trees = {"a": changed}
        for _ in range(times):
            fresh = Reconciler().trees(planned, trees, members)
            trees = dict(reconciler.trees(planned, trees, members))
            assert trees == fresh


def test_a_tree_proposed_again_is_the_one_in_force() -> None:
    reconciler = Reconciler()
    chain = proposal({"a": [(-1, -1), (0, 2), (1, 0), (2, 1)]})
    trees: Trees = reconciler.trees(chain, {}, set(NODES))
    assert trees["a"]["c"] == Upstreams("b", ("a",))
    for _ in range(3):
        assert reconciler.trees(chain, trees, set(NODES))["a"] is trees["a"]


def test_another_backup_alone_is_taken_over() -> None:
    reconciler, trees = Reconciler(), dict[str, Any]()
    for backup in (2, 2, 3):
        planned = proposal({"a": [(-1, -1), (0, backup), (0, -1), (0, -1)]})
        trees = dict(reconciler.trees(planned, trees, set(NODES)))
    assert trees["a"]["b"] == Upstreams("a", ("d",))


def test_a_member_that_goes_is_seen_though_the_proposal_is_the_same() -> None:
    reconciler, trees = Reconciler(), dict[str, Any]()
    chain = proposal({"a": [(-1, -1), (0, 2), (1, 0), (2, 1)]})
    for _ in range(3):
        trees = dict(reconciler.trees(chain, trees, set(NODES)))
    trees = dict(reconciler.trees(chain, trees, {"a", "c", "d"}))
    assert trees["a"] == {"c": Upstreams("a"), "d": Upstreams("c", ())}
