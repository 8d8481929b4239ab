"""Scenario files are read as written, and everything that is wrong with one is said at once and in place."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations import events as ev
from farcast.simulations.promises import parse_promise
from farcast.simulations.scenario import Access, Rendition
from farcast.simulations.scenario_file import SCENARIOS, list_scenarios, load_scenario

SMALL = """\
name = "small"
title = "A small one"
version = 1
duration_s = 60
sources = ["a"]
measured = ["b"]
synthesised = ["c"]
promises = ["stall_ratio < 0.5 %"]

[world]
control_region = "sin"
edges = [{ region = "sin", count = 2 }, { region = "fra", capacity_mbps = 1000 }]

[[world.groups]]
name = "cable"
links = [["sin", "fra"]]

[[load.films]]
name = "film"
renditions = [{ height = 720, bitrate_mbps = 1.8 }]

[[load.publishers]]
name = "host"
room = "live/a"
country = "SG"
film = "film"

[[load.viewers]]
name = "germany"
room = "live/a"
country = "DE"
count = 3
access = { quantile = 0.75, down_mbps = 8 }

[[event]]
kind = "cut"
at_s = 40
group = "cable"
for_s = 1.5
short = { at_s = 10 }

[[event]]
kind = "crash"
at_s = 50
node = "sin-1"
short = false
"""


def _load(tmp_path: Path, text: str) -> list[str]:
    """Lines of the error that a file makes, without the folder."""
    file = tmp_path / "small.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_scenario(file)
    assert caught.value.exit_code == EXIT_USAGE
    return [line.replace(str(tmp_path) + "/", "") for line in str(caught.value).splitlines()]


def _line_of(text: str, what: str) -> int:
    return 1 + next(at for at, line in enumerate(text.splitlines()) if what in line)


def test_a_file_is_read_as_written(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL, encoding="utf-8")
    scenario = load_scenario(file)
    assert (scenario.duration_us, scenario.duration_s, scenario.seed, scenario.scale) == (
        60_000_000,
        60.0,
        1,
        "packets",
    )
    assert scenario.world.edges[1].capacity_bps == 1_000_000_000
    assert scenario.load.films[0].renditions == (Rendition(height=720, bitrate_bps=1_800_000),)
    assert scenario.load.viewers[0].access == Access(quantile=(0.75, 0.75), down_bps=8_000_000)
    assert scenario.events == (
        ev.Cut(at_us=40_000_000, group="cable", for_us=1_500_000),
        ev.Crash(at_us=50_000_000, node="sin-1"),
    )


def test_the_short_form_has_its_own_events(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL, encoding="utf-8")
    short = load_scenario(file).shortened()
    assert short.is_short
    assert short.duration_us == 30_000_000
    assert short.events == (ev.Cut(at_us=10_000_000, group="cable", for_us=1_500_000),)


def test_scenarios_are_found_by_name_and_suggested(tmp_path: Path) -> None:
    assert load_scenario("sea-to-eu").name == "sea-to-eu"
    with pytest.raises(UserError, match=r"no scenario 'sea-to-me2'; did you mean 'sea-to-me'\?"):
        load_scenario("sea-to-me2")
    with pytest.raises(UserError, match=r"none\.toml: cannot be read: No such file"):
        load_scenario(tmp_path / "none.toml")


NAMED = (
    "sea-to-eu sea-to-me me-to-eu cn-to-na eu-to-sea weak-mobile metro-blackout co-host-two-continents "
    "red-sea-cut vietnam-cables relay-crash region-isolated-5s gray-failure flash-crowd-150k "
    "control-plane-gone rolling-upgrade bad-plan clock-steps slow-and-hostile-viewers rfc8867 rfc8868 "
    "random-faults"
)


def test_the_named_scenarios_are_there() -> None:
    assert set(NAMED.split()) <= set(list_scenarios())


@pytest.mark.parametrize("name", list_scenarios())
def test_a_scenario_is_called_as_its_file_and_its_promises_are_promises(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    for promise in scenario.promises:
        parse_promise(promise)


@pytest.mark.parametrize(
    "name", ["sea-to-eu", "sea-to-me", "me-to-eu", "cn-to-na", "eu-to-sea", "co-host-two-continents"]
)
def test_the_markets_are_promised_what_the_design_promises(name: str) -> None:
    promises = " | ".join(load_scenario(name).promises)
    for wanted in (
        "glass_to_glass.worst_market p99 < 600 ms",
        "glass_to_glass.worst_market mean < 400 ms",
        "first_picture p95 < 600 ms where access_rtt <= 80 ms",
        "stall_ratio.worst_market < 0.5 %",
        "hd_share.worst_market >= 95 % where access_rate >= 4 Mbit/s",
        "av_skew within -125..45 ms",
    ):
        assert wanted in promises
    viewers = [g for g in load_scenario(name).load.viewers if g.market != "tails"]
    assert {group.access.quantile for group in viewers} == {(0.75, 0.75)}


@pytest.mark.parametrize("name", list_scenarios())
def test_files_named_as_sources_exist(name: str) -> None:
    for source in load_scenario(name).sources:
        for word in re.split(r"[\s,:()]+", source):
            if word.startswith("data/"):
                assert (SCENARIOS.parent / word).is_file(), source


# ---- What can be wrong ---------------------------------------------------------------------------


def test_another_version_is_refused_before_anything_else(tmp_path: Path) -> None:
    text = SMALL.replace("version = 1", "version = 2").replace("count = 3", "cont = 3")
    assert _load(tmp_path, text) == ["small.toml:3: version: is 2; this build reads scenarios of version 1"]
    without = SMALL.replace("version = 1\n", "")
    assert _load(tmp_path, without) == [
        "small.toml: version: is None; this build reads scenarios of version 1"
    ]


CASES = [
    ("count = 3", "cont = 3", "[[load.viewers]] 1, cont: unknown key 'cont'; did you mean 'count'?"),
    ("duration_s = 60", "duration = 60", "duration: unknown key 'duration'; did you mean 'duration_s'?"),
    (
        "down_mbps = 8",
        "down_mbps = -8",
        "[[load.viewers]] 1, access.down_mbps: -8 is too small: must be above 0",
    ),
    ("down_mbps = 8", "loss = -0.1", "[[load.viewers]] 1, access.loss: -0.1 is no share: from 0 to 1"),
    ("quantile = 0.75", "quantile = 75", "[[load.viewers]] 1, access.quantile: 75 is no share: from 0 to 1"),
    ("quantile = 0.75", "quantile = [0.9, 0.1]", "the first value must not be above the second"),
    ("quantile = 0.75", 'quantile = "p75"', "access.quantile: must be a list, not 'p75'"),
    ("at_s = 40", "at_s = -1", "[[event]] 1, at_s: -1 is negative"),
    ("at_s = 40", "at_s = nan", "[[event]] 1, at_s: must be a number, not nan"),
    ("at_s = 40", "at_s = inf", "[[event]] 1, at_s: inf is too large"),
    ("at_s = 40", 'at_s = "40"', "[[event]] 1, at_s: must be a number, not '40'"),
    ("count = 3", "count = 2.5", "[[load.viewers]] 1, count: must be a whole number, not 2.5"),
    ("count = 3", "count = true", "[[load.viewers]] 1, count: must be a number, not True"),
    ("count = 3", "count = 0", "[[load.viewers]] 1, count: 0 is too small: must be 1 at least"),
    ("count = 3", "count = 4000", "load: 4000 viewers, at most 1000 at the scale of packets"),
    ('kind = "cut"', 'kind = "cutt"', "[[event]] 1, kind: unknown kind of event 'cutt'; did you mean 'cut'?"),
    ('group = "cable"', 'group = "cabel"', "cut: group: no group with links 'cabel'; did you mean 'cable'?"),
    ('group = "cable"', "", "[[event]] 1: cut: names no links: give links, group or clients"),
    ('node = "sin-1"', 'node = "sin-3"', "[[event]] 2: crash: node: no edge 'sin-3'; did you mean 'sin-2'?"),
    ("at_s = 50", "at_s = 61", "crash at 61 s is after the end"),
    ("short = { at_s = 10 }", "", "cut at 40 s is after the end in the short form; give short = { at_s ="),
    ("short = { at_s = 10 }", "short = { at = 10 }", "[[event]] 1, short.at: unknown key 'at'"),
    ("short = { at_s = 10 }", "short = 10", "[[event]] 1, short: must be false, or a table"),
    (
        'region = "fra"',
        'region = "frs"',
        "[[world.edges]] 2, region: unknown region 'frs'; did you mean 'fra'?",
    ),
    (
        'control_region = "sin"',
        'control_region = "iad"',
        "world.control_region: no region 'iad'; known are fra, sin",
    ),
    ('country = "DE"', 'country = "DX"', "[[load.viewers]] 1, country: unknown country 'DX'"),
    (
        'country = "DE"',
        'country = "DE"\ncity = "Berln"',
        "unknown city 'Berln' in DE; did you mean 'Berlin'?",
    ),
    (
        'country = "DE"',
        'country = "CN"',
        "[[load.viewers]] 1, access: profile: M-Lab's RTT of CN holds the haul",
    ),
    (
        "quantile = 0.75",
        'profile = "mobile-bad"',
        "access: profile: unknown profile 'mobile-bad'; known are mlab",
    ),
    ('film = "film"', 'film = "flim"', "[[load.publishers]] 1, film: no film 'flim'; did you mean 'film'?"),
    ('name = "germany"', 'name = "host"', "load: two films, publishers or viewers are named 'host'"),
    ('name = "germany"', 'name = "Germany"', "'Germany' must be of lower-case letters, digits and hyphens"),
    (
        'room = "live/a"\ncountry = "DE"',
        'room = "live/b"\ncountry = "DE"',
        "no room with a publisher 'live/b'",
    ),
    ("stall_ratio <", "stal_ratio <", "promise 1, 'stal_ratio < 0.5 %': column 1:"),
    ("stall_ratio < 0.5 %", "stall_ratio < 0.5 ms", "promises: promise 1"),
    ('sources = ["a"]', "sources = []", "sources: is empty"),
    ('sources = ["a"]', 'sources = "a"', "sources: must be a list, not 'a'"),
    ('sources = ["a"]', "", "sources is missing"),
    (
        "[world]",
        '[world]\nbackbone = { kind = "import" }',
        "world.backbone: 'file' and kind = \"import\" belong",
    ),
    (
        "[world]",
        '[world]\nbackbone = { kind = "awz" }',
        "world.backbone.kind: 'awz' is not possible; did you mean 'aws'?",
    ),
    ("[world]", '[world]\nbackbone = { kind = "flat" }', "'rtt_ms' and kind = \"flat\" belong together"),
    (
        "[world]",
        '[world]\nbackbone = { kind = "import", file = "no.json" }',
        "world.backbone.file: there is no file",
    ),
    ("[world]", "[wrld]", "wrld: unknown key 'wrld'; did you mean 'world'?"),
    ("[[event]]", "[[events]]", "events: unknown key 'events'; did you mean 'event'?"),
    ('links = [["sin", "fra"]]', 'links = [["sin", "fro"]]', "[[world.groups]] 1, links: no region 'fro'"),
    ('links = [["sin", "fra"]]', 'links = [["sin"]]', "[[world.groups]] 1, links: must hold 2 values, not 1"),
    ("version = 1", "version = 1\nscale = 3", "scale: 3 is not possible; known are packets, flows"),
    ("duration_s = 60", "duration_s = 20", "short.duration_s: the short form is longer than the full one"),
]


@pytest.mark.parametrize(("old", "new", "said"), CASES)
def test_a_fault_is_named_in_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SMALL
    lines = _load(tmp_path, SMALL.replace(old, new))
    assert any(said in line for line in lines), lines
    assert all(line.startswith("small.toml") for line in lines)


def test_faults_come_with_the_line_of_the_key(tmp_path: Path) -> None:
    text = SMALL.replace("count = 3", "count = -3")
    line = _line_of(text, "count = -3")
    said = "[[load.viewers]] 1, count: -3 is too small: must be 1 at least"
    assert _load(tmp_path, text) == [f"small.toml:{line}: {said}"]


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    text = (
        SMALL.replace("count = 3", "cont = 3")
        .replace("down_mbps = 8", "down_mbps = -8")
        .replace('kind = "crash"', 'kind = "crsh"')
        .replace("seed", "sed")
    )
    lines = _load(tmp_path, text)
    assert len(lines) == 4  # cont, the count that is missing for it, the rate, the kind
    text = SMALL.replace('"fra", cap', '"frr", cap').replace('"DE"', '"DX"').replace('"sin-1"', '"sin-9"')
    assert len(_load(tmp_path, text)) == 4  # and the cable's other end


def test_what_is_no_toml_is_said_to_be_none(tmp_path: Path) -> None:
    (line,) = _load(tmp_path, "name = ")
    assert "is not TOML" in line
    file = tmp_path / "small.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not TOML"):
        load_scenario(file)
    (line,) = _load(tmp_path, "a = " + "[" * 5_000 + "]" * 5_000)
    assert "nested too deep" in line or "is not TOML" in line
    (line,) = _load(tmp_path, "#" * (1 << 21))
    assert "larger than" in line


def test_a_missing_data_file_names_the_key(tmp_path: Path) -> None:
    text = SMALL.replace("[world]", '[world]\nbackbone = { kind = "import", file = "links.json" }')
    (line,) = _load(tmp_path, text)
    assert "small.toml:11: world.backbone.file: there is no file links.json" in line
    (tmp_path / "links.json").write_text("{}", encoding="utf-8")
    (line,) = _load(tmp_path, text)
    assert "world.backbone.file: " in line
    assert "links.json: is no export of links" in line


def test_a_scenario_stands_on_an_export(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("links_export.json"), tmp_path / "links.json")
    edges = "edges = [{ region"
    text = SMALL.replace("[world]", '[world]\nbackbone = { kind = "import", file = "links.json" }')
    text = "\n".join(line for line in text.splitlines() if not line.startswith(edges))
    file = tmp_path / "small.toml"
    file.write_text(text.replace("[world]", "[world]\nedges = []"), encoding="utf-8")
    assert load_scenario(file).world.backbone.kind == "import"


@settings(max_examples=150, deadline=None)
@given(
    at=st.integers(0, len(SMALL) - 1),
    text=st.sampled_from(
        ["", "[", "]", '"', "=", "0", "-1", "\n", "{", "}", "nan", "1e400", "[[", "x", "\\"]
    ),
    cut=st.integers(0, 30),
)
def test_no_file_makes_anything_but_a_scenario_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, text: str, cut: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "mutated.toml"
    file.write_text(SMALL[:at] + text + SMALL[at + cut :], encoding="utf-8")
    with contextlib.suppress(UserError):
        load_scenario(file)
