"""Files of risk groups: what is taken, and how every fault is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from farcast.control_plane.risk_groups import RiskGroup, load_risk_groups
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
        ("", "names no group"),
        ("[group]\nname = 'x'", "must be written as [[group]] tables"),
        ("[[group]]\nname = 'x'\nkind = 'cable'", "group 1: names nobody"),
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


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_risk_groups(tmp_path / "none.toml")
