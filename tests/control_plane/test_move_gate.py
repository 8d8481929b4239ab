"""How fast routes may leave hops that work: guard, canary, and what is never held back."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from farcast.control_plane.branches import Move, Tree, Trees, Upstreams, moves_between, path_to
from farcast.control_plane.move_gate import GateConfig, MoveGate

SECOND = 1_000_000
NODES = tuple(f"n{k}" for k in range(8))


def star(origin: str, parent: str, nodes: tuple[str, ...] = NODES) -> Tree:
    """``parent`` hangs on the origin, everybody else on ``parent``."""
    return {
        node: Upstreams(origin if node == parent or parent == origin else parent)
        for node in nodes
        if node != origin
    }


OLD: Trees = {"o": star("o", "n0")}
NEW: Trees = {"o": star("o", "n1")}


def upgrade(_: Move) -> bool:
    return False


def escape(_: Move) -> bool:
    return True


def test_escapes_go_at_once_whatever_their_number() -> None:
    step = MoveGate().step(OLD, NEW, escape, {}, 0)
    assert step.trees == NEW
    assert (step.escapes, step.kept_back, step.canary) == (8, 0, None)


def test_an_upgrade_goes_to_one_edge_first_and_to_the_rest_after_its_good_report() -> None:
    gate = MoveGate(GateConfig(share_max=1.0))
    step = gate.step(OLD, NEW, upgrade, {}, 0)
    assert step.canary == "n1"
    assert list(moves_between(OLD, step.trees)) == [Move("o", "n1", "n0", "o")]
    assert gate.why_kept_back == "n1 tries out its new upstream first"
    waiting = gate.step(step.trees, NEW, upgrade, {}, SECOND)
    assert waiting.upgrades == 0
    assert gate.why_kept_back == "n1 tries out its new upstream first"
    assert not gate.handle_report("n1", frozenset())
    gate.handle_ack("n1")
    assert gate.handle_report("n1", frozenset())
    rest = gate.step(step.trees, NEW, upgrade, {}, 2 * SECOND)
    assert rest.trees == NEW
    assert (rest.kept_back, gate.why_kept_back) == (0, "")


def test_the_canary_has_the_fewest_viewers_of_those_that_can_move_alone() -> None:
    old: Trees = {"o": star("o", "o")}
    new: Trees = {"o": {**old["o"], "n5": Upstreams("n7"), "n6": Upstreams("n7")}}
    step = MoveGate().step(old, new, upgrade, {"n5": 9, "n6": 3}, 0)
    assert step.canary == "n6"


def test_a_canary_that_says_nothing_passes_in_its_time() -> None:
    gate = MoveGate(GateConfig(share_max=1.0))
    first = gate.step(OLD, NEW, upgrade, {}, 0)
    assert gate.step(first.trees, NEW, upgrade, {}, 3 * SECOND - 1).upgrades == 0
    assert gate.step(first.trees, NEW, upgrade, {}, 3 * SECOND).trees == NEW


def test_a_canary_whose_new_upstream_is_silent_is_taken_back_and_upgrades_rest() -> None:
    gate = MoveGate(GateConfig(share_max=1.0))
    first = gate.step(OLD, NEW, upgrade, {}, 0)
    gate.handle_ack("n1")
    assert gate.is_spoilt("n1", frozenset({"o"}))
    assert not gate.handle_report("n1", frozenset({"o"}))
    assert not list(moves_between(OLD, gate.take_back(first.trees, SECOND)))
    assert gate.step(OLD, NEW, upgrade, {}, 21 * SECOND).upgrades == 0
    assert gate.why_kept_back == "the last upgrade failed at its canary: none for 10 s from now"
    assert gate.step(OLD, NEW, upgrade, {}, 30 * SECOND).upgrades == 0
    assert gate.step(OLD, NEW, upgrade, {}, 31 * SECOND).canary == "n1"


def test_only_a_share_leaves_healthy_hops_at_a_time() -> None:
    gate = MoveGate(GateConfig(share_max=0.30, moves_min=2))
    step = gate.step(OLD, NEW, upgrade, {}, 0)
    assert step.refused
    trees, slices = step.trees, [step.upgrades]
    for second in range(3, 9):
        step = gate.step(trees, NEW, upgrade, {}, second * SECOND)
        trees = step.trees
        slices.append(step.upgrades)
        assert all(path_to(trees["o"], "o", node) for node in NODES)
    assert slices == [1, 2, 2, 2, 1, 0, 0]
    assert trees == NEW


def test_a_small_network_may_always_move_two() -> None:
    old: Trees = {"o": {"a": Upstreams("o"), "b": Upstreams("o"), "c": Upstreams("o")}}
    new: Trees = {"o": {"a": Upstreams("o"), "b": Upstreams("a"), "c": Upstreams("a")}}
    gate = MoveGate()
    assert not gate.step(old, new, upgrade, {}, 0).refused


def test_what_an_escape_needs_above_it_is_not_held_back() -> None:
    old: Trees = {"o": {"a": Upstreams("o"), "b": Upstreams("a"), "c": Upstreams("a")}}
    new: Trees = {"o": {"a": Upstreams("o"), "b": Upstreams("o"), "c": Upstreams("b")}}
    step = MoveGate(GateConfig(share_max=0.0, moves_min=1)).step(
        old, new, lambda move: move.node == "c", {"b": 100}, 0
    )
    assert step.trees == new
    assert step.hurried == {"b", "c"}


def test_an_escape_somewhere_does_not_hurry_the_upgrades_of_others() -> None:
    old: Trees = {"o": star("o", "o"), "p": star("p", "p")}
    new: Trees = {"o": {**old["o"], "n5": Upstreams("n7")}, "p": {**old["p"], "n6": Upstreams("n7")}}
    step = MoveGate().step(old, new, lambda move: move.node == "n5", {}, 0)
    assert (step.escapes, step.upgrades, sorted(step.hurried)) == (1, 1, ["n5"])


def test_an_upgrade_of_one_edge_alone_is_taken_back_too_if_its_new_upstream_is_silent() -> None:
    old: Trees = {"o": star("o", "o")}
    new: Trees = {"o": {**old["o"], "n5": Upstreams("n7")}}
    gate = MoveGate()
    step = gate.step(old, new, upgrade, {}, 0)
    assert (step.trees, step.canary) == (new, "n5")
    gate.handle_ack("n5")
    assert gate.is_spoilt("n5", frozenset({"n7"}))
    assert gate.take_back(step.trees, SECOND) == old
    assert gate.step(old, new, upgrade, {}, 2 * SECOND).upgrades == 0


def test_upgrades_that_came_after_the_canary_need_a_canary_of_their_own() -> None:
    gate = MoveGate(GateConfig(share_max=1.0))
    old: Trees = {"o": star("o", "o")}
    tested: Trees = {"o": {**old["o"], "n5": Upstreams("n7"), "n6": Upstreams("n7")}}
    first = gate.step(old, tested, upgrade, {}, 0)
    more: Trees = {"o": {**tested["o"], "n3": Upstreams("n7"), "n4": Upstreams("n7")}}
    second = gate.step(first.trees, more, upgrade, {}, 4 * SECOND)
    assert list(moves_between(first.trees, second.trees)) == [Move("o", "n6", "o", "n7")]
    third = gate.step(second.trees, more, upgrade, {}, 5 * SECOND)
    assert third.canary == "n3"


@st.composite
def _trees(draw: st.DrawFn) -> Tree:
    order = draw(st.permutations(NODES))
    tree: dict[str, Upstreams] = {}
    for k, node in enumerate(order):
        tree[node] = Upstreams(draw(st.sampled_from(("o", *order[:k]))))
    return tree


@given(_trees(), _trees(), st.sets(st.sampled_from(NODES)), st.integers(1, 8))
def test_every_step_leaves_trees_that_reach_everybody_and_ends_at_the_proposal(
    before: Tree, after: Tree, escaping: set[str], limit: int
) -> None:
    assume(before != after)
    gate = MoveGate(GateConfig(share_max=0.0, moves_min=limit))
    trees: Trees = {"o": before}
    for second in range(60):
        step = gate.step(trees, {"o": after}, lambda move: move.node in escaping, {}, second * SECOND)
        trees = step.trees
        for node in NODES:
            assert path_to(trees["o"], "o", node) is not None
        if second == 0:
            assert all(trees["o"][n].parent == after[n].parent for n in escaping)
    assert {n: u.parent for n, u in trees["o"].items()} == {n: u.parent for n, u in after.items()}


def test_a_node_waits_for_what_is_above_it_where_that_may_not_move_yet() -> None:
    """Taken alone, c below b would close a circle: b still hangs on c."""
    gate = MoveGate(GateConfig(share_max=1.0))
    old: Trees = {"o": {"a": Upstreams("o"), "b": Upstreams("c"), "c": Upstreams("o"), "d": Upstreams("o")}}
    tested: Trees = {"o": {**old["o"], "c": Upstreams("a"), "d": Upstreams("a")}}
    first = gate.step(old, tested, upgrade, {"c": 9}, 0)
    assert first.canary == "d"
    turned: Trees = {"o": {**tested["o"], "a": Upstreams("b"), "b": Upstreams("o")}}
    second = gate.step(first.trees, turned, upgrade, {}, 4 * SECOND)
    assert all(path_to(second.trees["o"], "o", node) for node in "abcd")
    assert second.trees["o"]["c"].parent == "o"


def canary_of(gate: MoveGate) -> Trees:
    """n1 moves from n0 to the origin, as the canary."""
    step = gate.step(OLD, NEW, upgrade, {}, 0)
    assert step.canary == "n1"
    return step.trees


def test_a_failed_canary_that_has_moved_on_meanwhile_stays_where_it_is() -> None:
    gate = MoveGate(GateConfig(share_max=1.0))
    trees = canary_of(gate)
    escaped: Trees = {"o": {**trees["o"], "n1": Upstreams("n5")}}
    assert gate.take_back(escaped, SECOND) == escaped


def test_a_failed_canary_is_not_sent_back_to_a_parent_that_is_dead_or_drains() -> None:
    gate = MoveGate(GateConfig(share_max=1.0))
    trees = canary_of(gate)
    assert gate.take_back(trees, SECOND, avoid={"n0"}) == trees


def test_a_canary_that_is_gone_has_tried_out_nothing() -> None:
    gate = MoveGate(GateConfig(share_max=1.0))
    trees = canary_of(gate)
    gate.forget("n1")
    assert gate.canary is None
    without = {"o": {node: up for node, up in trees["o"].items() if node != "n1"}}
    want = {"o": {**{node: Upstreams("n2") for node in without["o"]}, "n2": Upstreams("o")}}
    assert gate.step(without, want, upgrade, {}, 4 * SECOND).canary is not None
