"""Commands that ask a control plane: exit codes, tables, JSON, one-line errors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_api import served
from control_world import World

from farcast.cli import main
from farcast.cli.links import COLUMNS
from farcast.cli.status import LOOK_SECONDS
from farcast.control_plane.api_answers import Link

THREE = ("fra-1", "jkt-1", "sin-1")


@pytest.fixture
def world() -> World:
    return World(THREE, lambda a, b: 80.0).run(6)


@pytest.fixture
def state(world: World, tmp_path: Path) -> Iterator[Path]:
    with served(world, tmp_path):
        yield tmp_path


def run(state: Path, *tokens: str) -> int:
    return main.run([*tokens, "--state-dir", str(state)])


def test_status_shows_a_row_for_each_edge(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "status") == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == list(THREE)
    assert "3 of 3 edges connected, 0 behind" in err


def test_status_fails_where_an_edge_has_not_the_newest_plan(
    state: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.edges["fra-1"].refuse = lambda _: "I will not"
    world.offer("jkt-1", "live/film")
    world.run(1)
    assert run(state, "status") == 1
    out, err = capsys.readouterr()
    assert "behind" in out.splitlines()[0]
    assert "fra-1 refused a plan: I will not" in err


def test_status_fails_where_an_edge_is_missing(state: Path, world: World) -> None:
    world.disconnect("fra-1")
    assert run(state, "status") == 1


def test_status_waits_for_an_edge_that_is_not_there_yet(
    state: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.disconnect("fra-1")
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        world.connect(world.edges["fra-1"])
        world.run(2)

    monkeypatch.setattr(time, "sleep", sleep)
    assert run(state, "status", "--wait", "10") == 0
    assert waited == [LOOK_SECONDS]


def test_status_waits_no_longer_than_it_is_told(
    state: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.disconnect("fra-1")
    waited: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: sum(waited))
    monkeypatch.setattr(time, "sleep", waited.append)
    assert run(state, "status", "--wait", "0.6") == 1
    assert sum(waited) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("tokens", "key"),
    [
        (("status",), "edges"),
        (("routes",), "routes"),
        (("routes", "jkt-1"), "routes"),
        (("links",), "links"),
        (("links", "fra-1"), "links"),
        (("why", "jkt-1", "fra-1"), "candidates"),
        (("drain", "fra-1", "--seconds", "5"), "draining"),
    ],
)
def test_json_is_one_line_on_stdout(
    state: Path, tokens: tuple[str, ...], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, *tokens, "--json") == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert json.loads(line)[key]
    assert err == ""


def test_tables_have_what_json_has(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "routes", "jkt-1") == 0
    assert "jkt-1 > fra-1" in capsys.readouterr().out
    assert run(state, "links", "fra-1") == 0
    out = capsys.readouterr().out
    assert "fra-1 > sin-1" in out
    assert "jkt-1 > sin-1" not in out
    assert run(state, "why", "jkt-1", "fra-1") == 0
    assert "*\tjkt-1 > fra-1" in capsys.readouterr().out


def test_why_says_of_each_hop_how_it_repairs(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "why", "jkt-1", "fra-1", "--json") == 0
    (hop,) = json.loads(capsys.readouterr().out)["repairs"]
    assert (hop["src"], hop["dst"]) == ("jkt-1", "fra-1")
    assert run(state, "why", "jkt-1", "fra-1") == 0
    assert f"repair jkt-1 > fra-1: {hop['text']}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["live/film", "live/film/video"])
def test_why_finds_the_edge_of_a_track(
    state: Path, world: World, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offer("jkt-1", "live/film")
    world.run(1)
    assert run(state, "why", name, "fra-1") == 0
    assert "*\tjkt-1 > fra-1" in capsys.readouterr().out


def test_why_of_a_track_that_nobody_offers_says_what_there_is(
    state: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offer("jkt-1", "live/film")
    world.run(1)
    assert run(state, "why", "live/films", "fra-1") == 2
    assert capsys.readouterr().err == "farcast: no edge offers 'live/films'; namespaces are live/film\n"


def test_a_drain_can_be_taken_back(state: Path, world: World) -> None:
    assert run(state, "drain", "fra-1") == 0
    member = world.controller.members.get("fra-1")
    assert member is not None
    assert member.draining
    assert run(state, "drain", "fra-1", "--undo") == 0
    assert not member.draining


@pytest.mark.parametrize("verb", [("drain", "fra-1", "--undo"), ("undrain", "fra-1")], ids=str)
def test_a_drain_that_has_ended_cannot_be_taken_back_and_says_so(
    world: World, tmp_path: Path, verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.controller.drain("fra-1", 1_000, world.now_us) is None
    world.flush()
    world.run(5)
    assert world.edges["fra-1"].drains
    world.disconnect("fra-1")
    with served(world, tmp_path):
        assert run(tmp_path, *verb) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "farcast: edge 'fra-1' has drained and ended; once it starts anew it is used again"


@pytest.mark.parametrize(
    "tokens",
    [
        ("why", "jkt-1", "mars-1"),
        ("why", "mars-1", "jkt-1"),
        ("routes", "mars-1"),
        ("links", "mars-1"),
        ("links", "mars-1", "--json"),
        ("drain", "mars-1"),
        ("drain", "mars-1", "--undo"),
        ("undrain", "mars-1"),
    ],
    ids=str,
)
def test_an_edge_that_is_not_there_is_one_line_with_those_that_are(
    state: Path, tokens: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, *tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "farcast: no edge 'mars-1'; known are fra-1, jkt-1, sin-1\n"


def test_why_before_any_plan_is_no_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(World(THREE).run(0.15), tmp_path):
        assert run(tmp_path, "why", "jkt-1", "fra-1") == 1
    assert "no plan has been made yet" in capsys.readouterr().err


def test_links_tell_all_that_is_measured(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "links", "fra-1", "--json") == 0
    link = next(link for link in json.loads(capsys.readouterr().out)["links"] if link["src"] == "jkt-1")
    assert link.keys() == Link.__annotations__.keys()
    assert None not in link.values()
    assert link["packets_60s"] > 0
    assert run(state, "links", "fra-1") == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("jkt-1 > fra-1")).split("\t")
    assert len(row) == len(COLUMNS)
    assert row[2:4] == [f"{link['rtt_latest_ms']:.1f} ms", f"{link['rtt_min_ms']:.1f} ms"]


def test_without_saying_which_control_plane_it_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARCAST_CONTROL_STATE_DIR", raising=False)
    assert main.run(["status"]) == 2
    assert "--state-dir" in capsys.readouterr().err


def test_the_environment_can_name_the_state_directory(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARCAST_CONTROL_STATE_DIR", str(state))
    assert main.run(["status"]) == 0


def test_an_address_and_a_token_file_do_as_well(
    state: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = json.loads((state / "api.json").read_text())["api"]
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "token"
    elsewhere.write_text((state / "api.token").read_text())
    assert main.run(["status", "--api", url.removeprefix("http://"), "--token-file", str(elsewhere)]) == 0


def test_a_wrong_token_and_a_dead_control_plane_are_one_line_each(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "api.token").write_text("wrong\n")
    assert run(state, "status") == 1
    assert "bearer token" in capsys.readouterr().err
    (state / "api.json").write_text('{"api": "http://127.0.0.1:1"}')
    assert run(state, "status") == 1
    assert "is farcast control running?" in capsys.readouterr().err
    (state / "api.json").unlink()
    assert run(state, "status") == 1
    assert "api.json" in capsys.readouterr().err


def test_control_tells_all_that_is_missing_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["control", "--listen", "nowhere"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [
        "--listen:",
        "--state-dir",
        "--hop-cert",
        "--hop-key",
        "--hop-ca",
    ]
