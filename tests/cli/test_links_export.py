"""``farcast links export``: from a control plane's measurements to a world that the simulator runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_api import served
from control_world import World
from hypothesis import given
from hypothesis import strategies as st

from farcast.cli import main
from farcast.cli.links_export import MINUTE_US, minute_windows
from farcast.simulations.export_file import read_export
from farcast.simulations.links import WindowLoss
from farcast.simulations.packet_run import PacketRun
from farcast.simulations.scenario_file import load_scenario
from farcast.simulations.worlds import build_world

THREE = ("fra-1", "jkt-1", "sin-1")


@pytest.fixture
def world() -> World:
    return World(THREE, lambda a, b: 18.0 if {a, b} == {"jkt-1", "sin-1"} else 170.0).run(6)


@pytest.fixture
def state(world: World, tmp_path: Path) -> Iterator[Path]:
    with served(world, tmp_path):
        yield tmp_path


def export(state: Path, *tokens: str) -> int:
    return main.run(["links", "export", "--state-dir", str(state), *tokens])


def test_each_direction_of_each_link_is_in_the_file(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = state / "links.json"
    assert export(state, "--out", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(file),
        "edges": 3,
        "links": 6,
        "loss_windows": 0,
    }
    found = read_export(file)
    assert [(edge.node_id, edge.country) for edge in found.edges] == [
        ("fra-1", "DE"),
        ("jkt-1", "ID"),
        ("sin-1", "SG"),
    ]
    rtts = {(link.src, link.dst): link.rtt_us for link in found.links}
    assert rtts["jkt-1", "sin-1"].p50 == pytest.approx(18_000, rel=0.03)
    assert rtts["fra-1", "jkt-1"].p50 == pytest.approx(170_000, rel=0.03)
    for rtt in rtts.values():
        assert rtt.p99 is not None
        assert rtt.p50 <= rtt.p90 <= rtt.p99


@pytest.mark.slow
def test_what_was_exported_is_imported_and_simulated(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, scenario = state / "links.json", state / "ours.toml"
    assert export(state, "--out", str(file)) == 0
    assert main.run(["sim", "import", str(file), "--out", str(scenario)]) == 0
    scenario.write_text(scenario.read_text() + "\n[short]\nduration_s = 12\n")
    capsys.readouterr()
    assert main.run(["sim", "run", str(scenario), "--short", "--json"]) in (0, 99)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["runs"], told["runs_failed"], told["invariant_failures"]) == (1, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("lossy_first", [True, False])
def test_losses_that_were_recorded_are_lost_again_on_their_link_in_their_minute(
    tmp_path: Path, lossy_first: bool
) -> None:
    """From reports of edges to packets of a simulated network, which runs for the hour's first seconds."""
    world = World(THREE, lambda a, b: 100.0)
    for is_lossy in (lossy_first, not lossy_first):
        world.loss = {("jkt-1", "sin-1"): 0.2} if is_lossy else {}
        world.run(62)
    file, scenario = tmp_path / "links.json", tmp_path / "ours.toml"
    with served(world, tmp_path):
        assert export(tmp_path, "--out", str(file)) == 0
    imported = ["sim", "import", str(file), "--out", str(scenario), "--publisher", "ID"]
    assert main.run(imported) == 0
    scenario.write_text(scenario.read_text() + "\n[short]\nduration_s = 8\nviewers_max = 3\n")
    loaded = load_scenario(scenario).shortened()
    raw = PacketRun(build_world(loaded, 1), loaded, 1).run()
    lost = {(use.src, use.dst): use.packets_lost / use.packets for use in raw.links if use.kind == "hop"}
    assert raw.violations == ()
    on_the_link = lost.pop(("jkt-1", "sin-1"))
    assert set(lost.values()) == {0.0}, "of no other link, and not of the way back"
    assert on_the_link == pytest.approx(0.2, abs=0.07) if lossy_first else on_the_link == 0.0


def test_a_link_that_is_silent_is_left_out(
    state: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.disconnect("fra-1")
    world.run(1)
    links = json.loads(_json_links(state, capsys))["links"]
    usable = {(link["src"], link["dst"]) for link in links if link["usable"]}
    both = {pair for pair in usable if pair[::-1] in usable}
    file = state / "links.json"
    assert export(state, "--out", str(file)) == 0
    assert {(link.src, link.dst) for link in read_export(file).links} == both


def _json_links(state: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main.run(["links", "--state-dir", str(state), "--json"]) == 0
    return capsys.readouterr().out


def test_a_file_that_is_there_stays(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = state / "links.json"
    file.write_text("mine")
    assert export(state, "--out", str(file)) == 2
    assert file.read_text() == "mine"
    assert "--force" in capsys.readouterr().err


def test_without_any_measurement_there_is_nothing_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(World(("sin-1",), lambda a, b: 1.0).run(2), tmp_path):
        assert export(tmp_path, "--out", str(tmp_path / "links.json")) == 1
    assert "no link was measured both ways yet" in capsys.readouterr().err


def test_losses_of_the_last_hour_are_windows_of_their_direction_by_one_clock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(THREE, lambda a, b: 100.0).run(70)
    world.loss["jkt-1", "sin-1"] = 0.2
    world.run(60)
    world.loss.clear()
    world.loss["fra-1", "sin-1"] = 0.4
    world.run(62)
    file = tmp_path / "links.json"
    with served(world, tmp_path):
        assert export(tmp_path, "--out", str(file)) == 0
        said = capsys.readouterr().err
    assert "2 with losses of the last hour" in said
    found = {(link.src, link.dst): link.loss_windows for link in read_export(file).links}
    lossy = {pair: windows for pair, windows in found.items() if windows is not None}
    assert set(lossy) == {("jkt-1", "sin-1"), ("fra-1", "sin-1")}
    first, second = lossy["jkt-1", "sin-1"], lossy["fra-1", "sin-1"]
    assert first.repeat_us == second.repeat_us == 3 * MINUTE_US
    assert [start // MINUTE_US for start, _, _ in first.windows] == [1, 2], "a minute began in between"
    assert second.windows[0][0] == 2 * MINUTE_US
    assert sum(share for _, _, share in first.windows) == pytest.approx(0.2, abs=0.03)
    model = next(link for link in read_export(file).links if link.src == "jkt-1" and link.dst == "sin-1")
    assert model.model().mean_loss == pytest.approx(0.2 / 3, abs=0.01)


@given(st.integers(1, 200_000), st.data())
def test_a_minute_as_windows_loses_the_share_that_was_lost_in_runs_as_long_as_they_were(
    packets: int, data: st.DataObject
) -> None:
    lost = data.draw(st.integers(0, packets))
    runs = data.draw(st.integers(0, lost))
    windows = minute_windows(5 * MINUTE_US, packets, lost, runs)
    assert bool(windows) == bool(lost)
    end_us = 5 * MINUTE_US
    for start_us, length_us, share in windows:
        assert start_us >= end_us
        assert 0 < share <= 1
        end_us = start_us + length_us
    assert end_us <= 6 * MINUTE_US
    if lost:
        share = sum(length * share for _, length, share in windows) / MINUTE_US
        assert share == pytest.approx(lost / packets, rel=0.05, abs=2e-5 * max(runs, 1))
        WindowLoss(tuple(windows), 10 * MINUTE_US).kernel  # noqa: B018 - the kernel takes it
    spacing_us = MINUTE_US // packets
    if lost and spacing_us <= 10_000 and 0 < runs <= 600:
        assert len(windows) == runs
        assert windows[0][1] == pytest.approx(lost / runs * spacing_us, abs=spacing_us)
