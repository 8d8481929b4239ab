"""Files of risk groups: what is taken, and how every fault is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from control_world import Edge, World

from farcast.control_plane.controller import ABSENT_NAMES_US, ControllerConfig
from farcast.control_plane.link_state import LinkStateConfig
from farcast.control_plane.metrics import render
from farcast.control_plane.risk_groups import RiskGroup, RiskGroups, load_risk_groups
from farcast.errors import EXIT_USAGE, UserError

GOOD = """
[[group]]
name = "smw4"
kind = "cable"
links = [["sin", "fra"], ["sin", "dxb"]]

[[group]]
name = "sg3"
kind = "site"
nodes = ["sin-1", "sin-2"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "risk_groups.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_groups_are_read(tmp_path: Path) -> None:
    groups = load_risk_groups(written(tmp_path, GOOD), ["sin-1", "sin-2"], ["sin", "fra", "dxb"])
    assert groups.groups == (
        RiskGroup("smw4", "cable", (), (("sin", "fra"), ("sin", "dxb"))),
        RiskGroup("sg3", "site", ("sin-1", "sin-2")),
    )
    assert groups.of_node("sin-1") == {"sg3"}
    assert groups.of_node("fra-1") == frozenset()
    assert groups.of_links == {("sin", "fra"): {"smw4"}, ("sin", "dxb"): {"smw4"}}


def test_unknown_nodes_and_regions_are_named_with_a_suggestion(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    with pytest.raises(UserError) as raised:
        load_risk_groups(path, ["sin-1", "sin-3"], ["sin", "fra", "dxb2"])
    assert raised.value.exit_code == EXIT_USAGE
    first, second = raised.value.message.splitlines()
    assert first == f"{path}: group 'smw4' names region 'dxb', which does not exist; did you mean 'dxb2'?"
    assert "group 'sg3' names node 'sin-2'" in second
    assert load_risk_groups(path).groups


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "'group' names nobody: add a [[group]] table"),
        ("group = []", "'group' names nobody: add a [[group]] table"),
        ("[group]\nname = 'x'", "must be written as [[group]] tables"),
        ("[[group]]\nname = 'x'\nkind = 'cable'", "group 1: 'nodes' and 'links' name nobody"),
        (
            "[[group]]\nname = 'x'\nkind = 'cable'\nnodes = []\nlinks = []",
            "group 1: 'nodes' and 'links' name nobody: give one of them",
        ),
        ("[[group]]\nname = 'x'\nkind = 'site'\nnodes = ['']", "nodes must be a list of node ids"),
        ("[[group]]\nkind = 'cable'\nnodes = ['a']", "needs a name"),
        ("[[group]]\nname = 'x'\nkind = 'ship'\nnodes = ['a']", "kind is 'ship', one of cable"),
        ("[[group]]\nname = 'x'\nkind = 'site'\nnode = ['a']", "did you mean 'nodes'?"),
        ("[[group]]\nname = 'x'\nkind = 'site'\nnodes = [1]", "nodes must be a list of node ids"),
        ("[[group]]\nname = 'x'\nkind = 'cable'\nlinks = [['a']]", "pairs of regions"),
        ("groups = 1", "unknown key 'groups'"),
        ("[[group", "is not TOML"),
        (2 * "[[group]]\nname = 'x'\nkind = 'site'\nnodes = ['a']\n", "two groups are named 'x'"),
    ],
)
def test_faults_are_told_with_their_place(tmp_path: Path, text: str, fault: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as raised:
        load_risk_groups(path)
    assert fault in raised.value.message
    assert str(path) in raised.value.message


def test_a_file_that_names_nobody_is_one_error(tmp_path: Path) -> None:
    path = written(tmp_path, "# nobody\n")
    with pytest.raises(UserError) as raised:
        load_risk_groups(path)
    assert raised.value.message == (
        f"{path}: 'group' names nobody: add a [[group]] table, or leave the file out"
    )


def test_where_only_regions_are_known_only_regions_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert load_risk_groups(path, regions={"sin", "fra", "dxb"}).of_node("sin-1") == {"sg3"}
    with pytest.raises(UserError) as raised:
        load_risk_groups(path, regions={"sin", "fra"})
    assert raised.value.exit_code == EXIT_USAGE
    assert raised.value.message == (
        f"{path}: group 'smw4' names region 'dxb', which does not exist; known are fra, sin"
    )


def with_groups(world_seconds: float) -> World:
    groups = RiskGroups((RiskGroup("sg3", "site", ("sin-1", "sin-9"), (("fra", "mars"),)),))
    config = ControllerConfig(links=LinkStateConfig(risk_groups=groups))
    return World(("fra-1", "sin-1"), config=config).run(world_seconds)


def test_a_name_that_no_edge_has_is_told_once_after_edges_had_time_to_join_and_counted() -> None:
    world = with_groups(ABSENT_NAMES_US / 1e6 - 1)
    assert world.logged("risk group names nobody here") == []
    world.run(5)
    assert world.logged("risk group names nobody here") == [
        {"group": "sg3", "what": "node", "name": "sin-9"},
        {"group": "sg3", "what": "region", "name": "mars"},
    ]
    assert world.counters["risk_group_names_unknown"] == 2
    metrics = render(world.controller, world.now_us, 0).decode()
    assert "farcast_control_risk_group_names_unknown 2.0" in metrics
    assert world.controller.pushes.is_current("fra-1")


def test_a_name_of_an_edge_that_joins_in_time_is_never_told() -> None:
    world = with_groups(5)
    world.connect(world.edges.setdefault("sin-9", Edge("sin-9")))
    world.connect(world.edges.setdefault("mars-1", Edge("mars-1")))
    world.run(ABSENT_NAMES_US / 1e6)
    assert world.logged("risk group names nobody here") == []


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_risk_groups(tmp_path / "none.toml")
