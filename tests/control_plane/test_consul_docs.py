"""docs/consul.md names tests, keys and flags that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from farcast.control_plane.config import SCHEMA
from farcast.control_plane.registry import edge_services, leader
from farcast.control_plane.registry.documents import NAMES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "consul.md").read_text()


def test_every_row_of_what_happens_when_names_a_test_against_a_real_consul() -> None:
    table = TEXT.partition("## What happens when")[2].partition("\n\nEpochs")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ")][2:]
    there = {
        node.name
        for file in (ROOT / "tests" / "consul").glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(rows) >= 9
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= there, row


def test_all_that_is_in_consul_is_told() -> None:
    table = TEXT.partition("## What is in Consul")[2]
    for name in (*NAMES, edge_services.SERVICE, leader.SERVICE):
        assert f"{name}`" in table, name


def test_every_flag_is_one() -> None:
    flags = {key.replace(".", "-").replace("_", "-") for key in SCHEMA}
    others = {"role", "name", "control"}
    assert set(re.findall(r"--([a-z][a-z-]+)", TEXT)) <= flags | others
