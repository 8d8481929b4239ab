"""Verbs by which operators move things: each and its inverse, as text and as JSON, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control_api import served
from control_world import World

from farcast.cli import main

FOUR = ("fra-1", "jkt-1", "lon-1", "sin-1")
VERBS = ("undrain", "pin", "unpin", "price", "capacity", "audit", "api-token issue", "api-token revoke")


@pytest.fixture
def world() -> World:
    return World(FOUR, lambda a, b: 30.0 if "sin-1" in (a, b) else 200.0).run(6)


@pytest.fixture
def state(world: World, tmp_path: Path) -> Iterator[Path]:
    with served(world, tmp_path):
        yield tmp_path


def run(state: Path, *tokens: str) -> int:
    return main.run([*tokens, "--state-dir", str(state)])


def told(state: Path, capsys: pytest.CaptureFixture[str], *tokens: str) -> Any:
    capsys.readouterr()
    assert run(state, *tokens, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*verb.split(), "--help"]) == 0
    assert f"Example: farcast {verb} " in capsys.readouterr().out


def test_a_drain_is_taken_back(state: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "drain", "lon-1") == 0
    world.run(1)
    assert [each["node_id"] for each in told(state, capsys, "status")["edges"] if each["draining"]] == [
        "lon-1"
    ]
    assert told(state, capsys, "undrain", "lon-1") == {"node_id": "lon-1", "draining": False}
    assert run(state, "undrain", "lon-1") == 1
    assert "has no order to drain" in capsys.readouterr().err


def test_a_route_is_pinned_and_let_go(state: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "pin", "jkt-1", "lon-1", "fra-1", "--for", "2h") == 0
    assert "farcast why jkt-1 fra-1" in capsys.readouterr().err
    world.run(3)
    assert run(state, "pin") == 0
    assert capsys.readouterr().out.splitlines()[0].split("\t") == [
        "jkt-1 > lon-1 > fra-1",
        "",
        "2026-09-21 16:13:27Z",
        "in force",
    ]
    assert run(state, "why", "jkt-1", "fra-1") == 0
    assert "by order, pinned" in capsys.readouterr().err
    assert told(state, capsys, "unpin", "jkt-1", "fra-1") == {"pins": []}
    assert run(state, "unpin", "jkt-1", "fra-1") == 1
    assert capsys.readouterr().err == "farcast: no pin from 'jkt-1' to 'fra-1'; there are none\n"


def test_why_says_why_a_pin_is_suspended(
    state: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    run(state, "pin", "jkt-1", "lon-1", "fra-1", "--for", "ever")
    world.disconnect("lon-1")
    world.isolate("lon-1")
    world.run(10)
    assert run(state, "why", "jkt-1", "fra-1") == 0
    assert "the pin jkt-1 > lon-1 > fra-1 is suspended: " in capsys.readouterr().err


def test_an_edge_is_kept_out_of_transit_and_let_in(
    state: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(state, capsys, "pin", "--no-transit", "sin-1", "--for", "ever") == {
        "kept_out": [{"node_id": "sin-1", "until_unix_us": None}]
    }
    world.run(4)
    assert all("sin-1" not in route["path"][1:-1] for route in told(state, capsys, "routes")["routes"])
    assert run(state, "pin") == 0
    assert "no transit" in capsys.readouterr().out
    assert run(state, "why", "jkt-1", "fra-1") == 0
    assert "sin-1 is kept out of transit by order" in capsys.readouterr().out
    assert told(state, capsys, "unpin", "--no-transit", "sin-1") == {"kept_out": []}


def test_a_price_is_set_shown_and_taken_back(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "price", "sin-1", "fra-1", "--set", "0.08") == 0
    assert "price_ms_per_unit" in capsys.readouterr().err
    assert run(state, "price") == 0
    assert capsys.readouterr().out == "sin-1 > fra-1\t0.08\t\n"
    assert told(state, capsys, "price", "sin-1", "fra-1", "--undo")["overrides"] == []
    assert run(state, "price", "sin-1", "--undo") == 1
    assert capsys.readouterr().err == "farcast: nothing of sin-1 is overridden\n"


def test_a_capacity_is_in_megabits(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(state, capsys, "capacity", "sin-1", "--set", "800")["overrides"] == [
        {"src": "sin-1", "dst": None, "price_per_gb": None, "capacity_bps": 800_000_000}
    ]
    assert run(state, "capacity") == 0
    assert capsys.readouterr().out == "sin-1\t\t800 Mbit/s\n"
    assert told(state, capsys, "capacity", "sin-1", "--undo")["overrides"] == []


def test_a_token_is_issued_used_and_revoked(
    state: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "token"
    assert run(state, "api-token", "issue", "grafana", "--scope", "read", "--valid", "12h") == 0
    out, err = capsys.readouterr()
    file.write_text(out)
    assert out.strip() not in err
    assert told(state, capsys, "api-token", "list")["tokens"][0]["scopes"] == ["read"]
    assert run(state, "api-token", "list") == 0
    assert capsys.readouterr().out.startswith("grafana\tread\t")
    assert run(state, "status", "--token-file", str(file)) == 0
    assert run(state, "drain", "lon-1", "--token-file", str(file)) == 1
    assert "token 'grafana' may read; this takes the scope operate" in capsys.readouterr().err
    assert told(state, capsys, "api-token", "revoke", "grafana") == {"name": "grafana", "revoked": True}
    assert run(state, "status", "--token-file", str(file)) == 1


def test_the_audit_log_names_who_did_what(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(state, "drain", "lon-1")
    run(state, "undrain", "lon-1")
    run(state, "drain", "mars-1")
    capsys.readouterr()
    assert run(state, "audit", "--limit", "3") == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[2], row[3], row[4]) for row in rows] == [
        ("2", "local", "drain", "mars-1"),
        ("1", "local", "drain", "lon-1"),
        ("0", "local", "drain", "lon-1"),
    ]
    assert rows[0][-1].startswith("refused: no edge 'mars-1'")
    assert [entry["seq"] for entry in told(state, capsys, "audit", "--before", "2")["entries"]] == [1, 0]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (("pin", "jkt-1"), "a way has two ends"),
        (("pin", "jkt-1", "fra-1", "--no-transit", "sin-1"), "not both"),
        (("pin", "jkt-1", "fra-1", "--for", "soon"), "--for 'soon': a time such as"),
        (("pin", "jkt-1", "fra-1", "--for", "400d"), "366d at most"),
        (("unpin",), "say which pin"),
        (("unpin", "jkt-1"), "say which pin"),
        (("price", "sin-1"), "--set VALUE, or --undo"),
        (("price", "sin-1", "--set", "-1"), "from 0"),
        (("price", "sin-1", "--set", "1", "--undo"), "--set VALUE, or --undo"),
        (("price", "--set", "1"), "of which edge?"),
        (("capacity", "a", "b", "c", "--set", "1"), "two for the link"),
        (("audit", "--limit", "0"), "1 to 1000"),
        (("api-token", "issue", "x", "--valid", "0d"), "--valid '0d'"),
        (("pin", "jkt-1", "mars-1"), "no edge 'mars-1'; known are fra-1"),
        (("pin", "--no-transit", "mars-1"), "no edge 'mars-1'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    state: Path, tokens: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, *tokens) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (("pin", "jkt-1", "sin-1", "jkt-1"), "meets jkt-1 twice"),
        (("pin", "jkt-1", "fra-1", "lon-1", "sin-1", "fra-1"), "way"),
        (("capacity", "sin-1", "sin-1", "--set", "1"), "both"),
        (("api-token", "issue", "x", "--scope", "fly"), "scopes[0]"),
        (("api-token", "revoke", "nobody"), "no token 'nobody'"),
    ],
)
def test_what_the_control_plane_refuses_is_one_line_and_exit_code_1(
    state: Path, tokens: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, *tokens) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_the_overview_is_grouped_by_who_uses_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    groups = ("Run", "Media", "Operate", "Trust", "Check", "Simulate")
    assert [text.index(f"─ {group} ─") for group in groups] == sorted(text.index(f"─ {g} ─") for g in groups)
    operate = text[text.index("─ Operate ─") : text.index("─ Trust ─")]
    assert all(
        f" {verb} " in operate for verb in ("drain", "undrain", "pin", "unpin", "remove", "why", "audit")
    )
