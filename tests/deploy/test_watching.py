"""Metrics keep the house's rules, and dashboards and rules ask for nothing that does not exist."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from access_tokens import X
from control_world import World
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from farcast.control_plane import metrics as control_metrics
from farcast.edge import metrics as edge_metrics
from farcast.proto.access.keys import Quotas, TrustedKey

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"
RULES = DEPLOY / "prometheus" / "rules.yml"
OTHER_UNITS = re.compile(
    r"_(ms|us|milliseconds|microseconds|minutes|hours|kb|mb|bits|bps|percent|permille)(_|$)"
)
LABELS = {
    "action", "cause", "certificate", "core", "direction", "dst_region", "key_id", "kind", "layers", "le",
    "node_id", "outcome", "peer", "python", "quantile", "reason", "region", "src_region", "state",
    "transport", "version",
}  # fmt: skip
"""Each has a bound that somebody named; no track, namespace, address, session or token is among them."""
OF_PROMETHEUS = {"up", "ALERTS"}


class _Counters(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


class _Part:
    """An edge's membership, as far as metrics look at it."""

    joined, plans_applied, plans_refused, plan_age_seconds, clock_offset_seconds = True, 1, 0, 3.0, 0.0
    plan_files_refused = 0

    @property
    def link(self) -> Any:
        return self

    channel = engine = reporter = link
    counters = _Counters()

    @property
    def plan(self) -> Any:
        return self

    version = epoch = plan
    number, sequence = 1, 2


def _edge_text() -> bytes:
    hop = {key: 1 for key in edge_metrics._HOP_COUNTERS} | {"queue_bytes": 1}
    snapshot: Any = {
        "totals": _Counters()
        | {key: 1 for key in edge_metrics._TOTALS}
        | {f"{key}_{way}": 1 for key in edge_metrics._DIRECTED for way in ("in", "out")}
        | {"groups_dropped_slow": 1, "groups_dropped_evicted": 1}
        | {"layers_dropped": 1, "layer_switches_down": 1, "layer_switches_up": 1},
        "sessions": [{"session": 1, "transport": "hop", "remote": "127.0.0.1:1", "rtt_us": 1, "hop": hop}],
        "downstreams": [{"queue_bytes": 1, "layers_given_up": 1}],
        "tracks": 1,
        "tracks_on_two_paths": 1,
        "cache_bytes": 1,
    }
    part: Any = _Part()
    return edge_metrics.render(
        snapshot, ready=True, hop_peers={1: "a"}, counters={}, membership=part, expiries={"hop": 1.0}
    )


@pytest.fixture(scope="module")
def world() -> World:
    world = World(("fra-1", "lon-1", "sin-1"), lambda a, b: 30.0).run(8)
    world.offer("sin-1", "live/film")
    world.controller.trust(TrustedKey("k1", X, quotas=Quotas(viewers_max=90)), world.now_us)
    return world.run(2)


@pytest.fixture(scope="module")
def families(world: World) -> list[Metric]:
    control = control_metrics.render(world.controller, world.now_us, 0, 1.0)
    return [
        family for text in (_edge_text(), control) for family in text_string_to_metric_families(text.decode())
    ]


def test_names_have_the_prefix_base_units_and_a_help(families: list[Metric]) -> None:
    assert len({family.name for family in families}) > 70
    for family in families:
        assert re.fullmatch(r"farcast_[a-z0-9_]+", family.name), family.name
        assert not OTHER_UNITS.search(family.name.replace("bytes_per_second", "")), family.name
        assert len(family.documentation) > 5, family.name


def test_counters_say_total_and_gauges_do_not(families: list[Metric]) -> None:
    for family in families:
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


def test_labels_are_of_the_bounded_ones(families: list[Metric]) -> None:
    for family in families:
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, (family.name, sample.labels)


def test_links_are_told_by_pairs_of_regions_up_to_a_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pairs() -> int:
        return control_metrics.render(world.controller, world.now_us, 0).count(b"link_rtt_seconds{")

    assert pairs() == 6
    monkeypatch.setattr(control_metrics, "REGION_PAIRS_MAX", 2)
    assert pairs() < 6


def _expressions() -> Iterator[tuple[str, str]]:
    for file in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{file.name}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            yield f"{file.name}: {variable['name']}", str(variable["query"])
    for rule in _rules():
        yield rule["alert"], rule["expr"]


def _rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return found


def test_every_metric_that_dashboards_and_rules_ask_for_exists(families: list[Metric]) -> None:
    known = {sample.name for family in families for sample in family.samples}
    asked = [
        (where, name) for where, text in _expressions() for name in re.findall(r"\bfarcast_[a-z_]+", text)
    ]
    assert len(asked) > 80
    assert [(where, name) for where, name in asked if name not in known] == []


def test_every_label_that_is_asked_for_exists(families: list[Metric]) -> None:
    known = LABELS | {"instance", "job"}
    for where, text in _expressions():
        for labels in re.findall(r"\b(?:by|on|without) ?\(([a-z_, ]*)\)", text) + re.findall(
            r"([a-z_]+) ?(?:=~|!=|=)\"", text
        ):
            assert {label for label in re.split(r"[, ]+", labels) if label} <= known, where


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    assert len(_rules()) > 20
    for rule in _rules():
        assert rule["alert"].startswith("Farcast")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert len(rule["annotations"]["runbook"]) > 80, rule["alert"]
        assert rule["annotations"]["summary"]


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("maker", DEPLOY / "grafana" / "make_dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["maker"] = module
    spec.loader.exec_module(module)
    return module


def test_dashboards_are_those_that_the_maker_makes() -> None:
    made = _maker().texts()
    assert set(made) == {file.name for file in DASHBOARDS.iterdir()}
    for name, text in made.items():
        assert (DASHBOARDS / name).read_text() == text, f"{name}: run deploy/grafana/make_dashboards.py"


def test_dashboards_have_what_grafana_needs() -> None:
    boards = [json.loads(file.read_text()) for file in DASHBOARDS.glob("*.json")]
    assert len({board["uid"] for board in boards}) == 4
    for board in boards:
        assert board["schemaVersion"] >= 36
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
            }
            assert at["x"] + at["w"] <= 24
            assert not cells & taken, panel["title"]
            taken |= cells
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs) > 0


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt install prometheus)"
)
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml"),
     ("check", "config", "--syntax-only", "prometheus.yml")],
)  # fmt: skip
def test_prometheus_takes_rules_and_their_tests_pass(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
