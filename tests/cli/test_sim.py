"""``farcast sim``: exit codes, reports, replay, and one clear error for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from sim_results import held_result
from tiny_scenario import BROKEN, HELD, write_tiny

from farcast.cli import main, sim_compare
from farcast.errors import EXIT_INTERRUPTED, EXIT_PROMISE_BROKEN, EXIT_USAGE
from farcast.simulations.report import store
from farcast.simulations.results import InvariantFailure, SeedResult


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*tokens: object) -> int:
    return main.run(["sim", *map(str, tokens)])


def test_a_scenario_of_a_users_own_that_holds_is_exit_code_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", write_tiny(tmp_path), "--short", "--twice", "--json") == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (
        figures["scenarios"] == figures["seeds"] == figures["promises_held"] == figures["promises_total"] == 1
    )
    assert figures["invariant_failures"] == 0


def test_a_broken_promise_is_exit_code_99_and_prints_the_command_that_replays_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_tiny(tmp_path, [HELD, BROKEN])
    reports = [tmp_path / name for name in ("r.json", "r.xml", "r.html")]
    options = [part for pair in zip(("--save", "--junit", "--html"), reports, strict=True) for part in pair]
    assert run("run", file, "--short", *options) == EXIT_PROMISE_BROKEN
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith(f"tiny\tbroken\t{BROKEN}")
    command = f"farcast sim replay {file} --seed 5 --short"
    assert command in err
    assert command in reports[2].read_text()
    assert ElementTree.parse(reports[1]).find(f".//testcase[@name='{BROKEN}']/failure") is not None
    (result,) = store.load(reports[0])
    assert result.seeds[0].broken == (BROKEN,)

    assert run(*command.split()[2:], "--json") == EXIT_PROMISE_BROKEN
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["trace"] == "same"
    assert again["trace_hash"] == result.seeds[0].trace_hash


@pytest.fixture
def borrowed_name(tmp_path: Path) -> Path:
    """A scenario of a user's own, which bears the name of one of ours."""
    file = write_tiny(tmp_path)
    file.write_text(file.read_text().replace('name = "tiny"', 'name = "sea-to-eu"'))
    return file


def test_saved_results_of_a_users_own_scenario_are_explained_by_its_file_and_not_by_its_name(
    borrowed_name: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "r.json"
    assert run("run", borrowed_name, "--short", "--save", saved) == 0
    capsys.readouterr()
    assert run("explain", saved, "--json") == 0
    (explained,) = json.loads(capsys.readouterr().out)["explanations"]
    assert explained["publisher"] == "host"
    borrowed_name.unlink()
    assert run("explain", saved) == EXIT_USAGE
    assert f"{borrowed_name}: cannot be read" in capsys.readouterr().err


def test_replay_compares_traces_of_one_file_only_and_of_one_text_of_it(
    borrowed_name: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def trace_of(file: Path) -> str:
        assert run("replay", file, "--seed", 5, "--short", "--json") == 0
        return str(json.loads(capsys.readouterr().out)["trace"])

    assert run("run", borrowed_name, "--short") == 0
    capsys.readouterr()
    (other := tmp_path / "other").mkdir()
    beside = borrowed_name.rename(other / borrowed_name.name)
    capsys.readouterr()
    assert trace_of(beside) == "unknown"
    assert run("run", beside, "--short") == 0
    capsys.readouterr()
    assert trace_of(beside) == "same"
    beside.write_text(beside.read_text().replace("rtt_ms = 40", "rtt_ms = 50"))
    assert trace_of(beside) == "other scenario"


def test_seeds_differ_and_their_order_does_not_depend_on_which_ends_first(tmp_path: Path) -> None:
    saved = tmp_path / "r.json"
    assert run("run", write_tiny(tmp_path), "--short", "--seeds", 3, "--jobs", 3, "--save", saved) == 0
    (result,) = store.load(saved)
    assert [seed.seed for seed in result.seeds] == [5, 6, 7]
    assert len({seed.trace_hash for seed in result.seeds}) == 3


def test_another_build_is_compared_promise_by_promise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, saved = write_tiny(tmp_path), tmp_path / "base.json"
    assert run("run", file, "--short", "--save", saved) == 0
    capsys.readouterr()
    assert run("compare", file, "--short", "--base", saved, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["traces_equal"] == 1
    assert [change["promise"] for change in found["promises"]] == [HELD]
    assert run("compare", file, "--base", saved) == EXIT_USAGE
    assert "has no result of tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        {"invariant_failures": (InvariantFailure(seed=1, at_us=9, invariant="no-cycle", what="a from b"),)},
        {"seeds": (SeedResult(seed=1, trace_hash="", replay="", virtual_s=0, failure="SIGSEGV"),)},
    ],
)
def test_a_build_whose_promises_hold_and_whose_runs_or_invariants_fail_is_worse_than_another(
    wrong: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = msgspec.structs.replace(
        held_result(), scenario=msgspec.structs.replace(held_result().scenario, name="tiny")
    )
    file, saved = write_tiny(tmp_path), tmp_path / "base.json"
    store.save([held], saved)
    monkeypatch.setattr(sim_compare, "run_gate", lambda *_: iter([held]))
    assert run("compare", file, "--short", "--base", saved) == 0
    worse = msgspec.structs.replace(held, **wrong)
    monkeypatch.setattr(sim_compare, "run_gate", lambda *_: iter([worse]))
    capsys.readouterr()
    assert run("compare", file, "--short", "--base", saved) == EXIT_PROMISE_BROKEN
    assert "runs and invariants that failed: 0 there, 1 here" in capsys.readouterr().err


def test_variants_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", write_tiny(tmp_path), "--short", "--seeds", 2, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["variants"]) == ["one-relay", "direct", "farcast"]
    by_figure = {(line["viewers"], line["figure"]): line for line in found["lines"]}
    p50 = by_figure["stock", "glass to glass p50"]["values"]
    assert all(value is not None and value > 0 for value in p50.values()), p50
    assert found["bytes"]["one-relay"]["between_edges"] == 0
    assert found["bytes"]["direct"]["between_edges"] > 0
    assert by_figure["all", "bytes between edges, a run"]["against"]["one-relay"]["verdict"] == "worse"


def test_the_table_of_variants_says_of_bytes_too_who_is_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", write_tiny(tmp_path), "--short", "--seeds", 2) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in out.splitlines() if "bytes between edges" in line]
    assert "(a) better: more than +1,000 %" in line
    assert "bytes: (c) against (a): (a) better in bytes between edges, a run" in err


def test_where_the_time_went_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", write_tiny(tmp_path), "--short", "--json") == 0
    (explained,) = json.loads(capsys.readouterr().out)["explanations"]
    total = sum(share["mean_us"] for share in explained["shares"])
    assert total == pytest.approx(explained["mean_us"], rel=1e-6)


def test_explain_tells_the_way_of_one_picture_over_all_hops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", write_tiny(tmp_path), "--short", "--object", "4/2", "--json") == 0
    (first, *_) = json.loads(capsys.readouterr().out)["timelines"]
    assert (first["group"], first["object"]) == (4, 2)
    assert sum(part["length_us"] for part in first["parts"]) == first["total_us"]
    assert first["parts"][0]["what"] == "camera"
    assert first["parts"][-1]["what"] == "screen"
    assert run("explain", write_tiny(tmp_path), "--short", "--object", "4/2") == 0
    assert "propagation" in capsys.readouterr().out


def test_links_that_edges_measured_become_a_scenario_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = (("sin-1", "fra-1"), ("fra-1", "sin-1"))
    export = {
        "format": "farcast-links",
        "version": 1,
        "source": "links of a test",
        "edges": [
            {"node_id": "sin-1", "region": "sin", "country": "SG", "lat": 1.35, "lon": 103.8},
            {"node_id": "fra-1", "region": "fra", "country": "DE", "lat": 50.1, "lon": 8.7},
        ],
        "links": [{"src": a, "dst": b, "rtt_us": {"p50": 161_000, "p90": 165_000}} for a, b in ends],
    }
    file = tmp_path / "links.json"
    file.write_text(json.dumps(export))
    assert run("import", file) == 0
    assert run("import", file) == EXIT_USAGE
    assert "is there already" in capsys.readouterr().err
    code = run("run", tmp_path / "links.toml", "--short", "--json")
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code in (0, EXIT_PROMISE_BROKEN)
    assert figures["runs_failed"] == figures["invariant_failures"] == 0


def test_all_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    names = [scenario["name"] for scenario in json.loads(capsys.readouterr().out)["scenarios"]]
    assert "sea-to-eu" in names
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (("run",), "name scenarios, or give --all"),
        (("run", "sea-to-eu", "--all"), "not both"),
        (("run", "weak-mobil"), "did you mean 'weak-mobile'?"),
        (("run", "sea-to-eu", "--seeds", "0"), "--seeds 0"),
        (("run", "sea-to-eu", "--seed", "-1"), "--seed -1"),
        (("run", "sea-to-eu", "--jobs", "0"), "--jobs 0"),
        (("run", "sea-to-eu", "--pins", "none.toml"), "none.toml: cannot be read"),
        (("replay", "sea-to-eu", "--seed", "1", "--result", "none.json"), "none.json: cannot be read"),
        (("explain", "none.json"), "none.json: cannot be read"),
        (("explain", "sea-to-eu", "--object", "4-2"), "--object 4-2: must be GROUP/OBJECT"),
        (("import", "none.json"), "none.json: cannot be read"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line_and_exit_code_2(
    tokens: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*tokens) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_promise_over_an_output_that_does_not_exist_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_tiny(tmp_path, ["glas_to_glass p99 < 600 ms"])
    assert run("run", file) == EXIT_USAGE
    err = capsys.readouterr().err
    assert str(file) in err
    assert "did you mean 'glass_to_glass'?" in err


def test_an_interruption_is_exit_code_130_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    # A shell that runs these tests in the background lets its children ignore SIGINT.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-P", "-c", f"{listening}\nfrom farcast.cli.main import main\nmain()"]
    parent = subprocess.Popen(
        [*command, "sim", "run", str(file), "--seeds", "50"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(_children(parent.pid)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)
    os.killpg(parent.pid, signal.SIGINT)
    _, err = parent.communicate(timeout=30)
    assert parent.returncode == EXIT_INTERRUPTED
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while _is_group_there(parent.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_group_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
