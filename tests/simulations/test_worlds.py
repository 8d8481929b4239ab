"""Worlds are whole, the same for a seed, and clients stand where people do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farcast.errors import UserError
from farcast.simulations.events import Crowd
from farcast.simulations.scenario import Access, Backbone, EdgeGroup, LinkChange, Scenario
from farcast.simulations.scenario_file import list_scenarios, load_scenario
from farcast.simulations.world_spec import CLIENTS_MAX, WorldSpec
from farcast.simulations.worlds import build_world, thinned, world_from_export


def _scenario(**changes: object) -> Scenario:
    return replace(load_scenario("eu-to-sea"), **changes)  # type: ignore[arg-type]


def _world(seed: int = 1, **changes: object) -> WorldSpec:
    return build_world(_scenario(**changes), seed)


def test_every_pair_of_edges_has_a_path_each_way() -> None:
    world = _world()
    nodes = [edge.node_id for edge in world.edges]
    assert {(path.src, path.dst) for path in world.paths} == {(a, b) for a in nodes for b in nodes if a != b}
    assert world.path("fra-1", "sin-2").rtt_ms == pytest.approx(161.2, rel=0.02)
    assert world.path("fra-1", "fra-2").rtt_ms == 1.0
    assert world.path("fra-1", "sin-2").config is not None


def test_a_seed_is_a_world() -> None:
    assert _world(seed=7) == _world(seed=7)
    assert _world(seed=7).clients != _world(seed=8).clients
    assert _world(seed=7).paths != _world(seed=8).paths


def test_fewer_viewers_are_the_same_viewers() -> None:
    scenario = _scenario()
    tails = next(group for group in scenario.load.viewers if group.name == "tails")
    load = replace(scenario.load, viewers=(tails,))
    whole, part = (build_world(replace(scenario, load=load), 3, most) for most in (None, 2))
    assert [c.access_down for c in part.viewers] == [c.access_down for c in whole.viewers[:2]]


def test_viewers_go_to_the_nearest_edge_and_know_the_others() -> None:
    by_entry = {client.entry: client for client in _world().clients}
    assert by_entry["indonesia"].region == "jkt"
    assert by_entry["singapore"].edges[:3] in (("sin-1", "sin-2", "kul-1"), ("sin-2", "sin-1", "kul-1"))
    assert by_entry["philippines"].region == "hkg"
    assert by_entry["host"].region == "fra"
    for client in by_entry.values():
        rtts = [reach.rtt_ms for reach in client.reaches]
        assert rtts == sorted(rtts)
        assert len(client.reaches) == 11


def test_an_edge_in_town_is_as_far_as_the_access_is_long() -> None:
    indonesia = next(c for c in _world().viewers if c.entry == "indonesia")
    up, down = indonesia.models_to("jkt-1")
    assert (up, down) == (indonesia.access_up, indonesia.access_down)
    assert (up.delay_us + down.delay_us) / 1_000 == pytest.approx(27.66, abs=0.01)  # M-Lab's p75


def test_a_far_edge_is_reached_over_the_public_internet() -> None:
    world = _world()
    indonesia = next(c for c in world.viewers if c.entry == "indonesia")
    far = next(reach for reach in indonesia.reaches if reach.node_id == "fra-1")
    cloud_ms = world.path("jkt-1", "fra-1").rtt_ms
    assert far.rtt_ms > cloud_ms + 27
    up, down = indonesia.links_to("fra-1")
    assert (up.delay_us + down.delay_us) / 1_000 > cloud_ms
    assert indonesia.models_to("fra-1")[0].mean_loss > indonesia.access_up.mean_loss
    with pytest.raises(KeyError):
        indonesia.models_to("mars-1")


def test_access_measured_to_a_server_abroad_is_not_lengthened_again() -> None:
    """Vietnam has no M-Lab server: what was measured went abroad, as the way to an edge does."""
    vietnam = next(c for c in _world().viewers if c.entry == "vietnam")
    up, down = vietnam.models_to(vietnam.edges[0])
    assert (up.delay_us + down.delay_us) / 1_000 == pytest.approx(205.19, abs=0.01)


def test_stacks_and_transports_are_spread_as_asked_and_apart_from_each_other() -> None:
    kinds = [(c.stack, c.transport) for c in _world().viewers if c.entry == "indonesia"]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("farcast", "quic"): 2,
        ("farcast", "webtransport"): 2,
        ("stock", "quic"): 2,
        ("stock", "webtransport"): 2,
    }


def test_viewers_come_evenly() -> None:
    joins = [c.joins_us for c in _world().viewers if c.entry == "indonesia"]
    assert joins == [312_500 + k * 625_000 for k in range(8)]


def test_a_crowd_is_more_of_the_same_people() -> None:
    crowd = Crowd(at_us=10_000_000, viewers="singapore", count=20, over_us=4_000_000)
    viewers = [c for c in _world(events=(crowd,)).viewers if c.entry == "singapore"]
    assert [c.name for c in viewers] == [f"singapore-{k}" for k in range(1, 27)]
    assert min(c.joins_us for c in viewers[6:]) == 10_100_000
    assert max(c.joins_us for c in viewers) == 13_900_000


def test_a_change_touches_the_links_it_names() -> None:
    scenario = _scenario()
    change = LinkChange(links=(("sin", "fra-1"),), one_way=True, loss=0.5, rtt_ms=400, rate_bps=1_000_000)
    world = build_world(replace(scenario, world=replace(scenario.world, changes=(change,))), 1)
    there, back = world.path("sin-2", "fra-1").model, world.path("fra-1", "sin-2").model
    assert there.mean_loss == pytest.approx(0.5)
    assert there.median_delay_us == 200_000
    assert there.rate_bps == 1_000_000
    assert back.mean_loss != pytest.approx(0.5)
    assert world.path("sin-2", "lon-1").model.rate_bps is None


def test_paths_know_their_risk_groups() -> None:
    world = build_world(load_scenario("red-sea-cut"), 1)
    assert world.path("fra-2", "sin-1").groups == ("red-sea-a",)
    assert world.path("sin-1", "fra-2").groups == ("red-sea-a",)
    assert world.path("sin-1", "jkt-1").groups == ()


def test_the_edges_that_are_left_take_over() -> None:
    world = _world().with_edges({"fra-1"})
    assert [edge.node_id for edge in world.edges] == ["fra-1"]
    assert world.paths == ()
    indonesia = next(c for c in world.viewers if c.entry == "indonesia")
    assert (indonesia.region, indonesia.edges) == ("fra", ("fra-1",))
    assert indonesia.access_rtt_ms > 150


def test_the_same_scenario_runs_on_azure() -> None:
    scenario = load_scenario("cn-to-na")
    edges = tuple(EdgeGroup(region=name) for name in ("icn", "nrt", "sfo", "iad"))
    world = replace(scenario.world, edges=edges, backbone=Backbone(kind="azure"))
    built = build_world(replace(scenario, world=world), 1)
    assert built.edges[0].country == "KR"
    assert built.path("icn-1", "iad-1").model.delay_log_median_us == 0


def test_large_worlds_stay_small() -> None:
    world = build_world(load_scenario("flash-crowd-150k"), 1)
    assert len(world.edges) == 980
    assert len(world.paths) == 14 * 14
    assert world.path("sin-7", "fra-70") == world.path("sin-1", "fra-1")
    assert len(world.viewers) <= CLIENTS_MAX
    assert sum(c.weight for c in world.viewers) == pytest.approx(150_000)
    joins = np.array([c.joins_us for c in world.viewers])
    assert np.quantile(joins, [0.0, 0.5, 1.0]) / 1e6 == pytest.approx([0, 30, 60], abs=0.5)


@pytest.mark.parametrize("name", list_scenarios())
def test_every_scenario_makes_its_world_in_both_forms(name: str) -> None:
    scenario = load_scenario(name)
    short = scenario.shortened()
    assert short.duration_us <= 30_000_000
    assert short.scale == "packets"
    world = build_world(short, 1)
    assert 0 < len(world.viewers) <= 20
    entries = {c.entry for c in world.viewers}
    assert entries == {group.name for group in scenario.load.viewers}
    assert all(c.joins_us < short.duration_us for c in world.viewers)
    assert build_world(scenario, 1).publishers


@pytest.mark.parametrize(
    ("counts", "most", "kept"),
    [
        ([12, 12, 8], 100, [12, 12, 8]),
        ([12, 12, 8], 16, [6, 6, 4]),
        ([1000, 1, 1], 20, [18, 1, 1]),
        ([5, 0, 5], 4, [2, 0, 2]),
        ([1, 1, 1], 2, [1, 1, 1]),
    ],
)
def test_thinning_keeps_proportions_and_one_of_each(counts: list[int], most: int, kept: list[int]) -> None:
    assert thinned(counts, most) == kept


def test_what_the_data_do_not_have_is_one_error_with_the_file() -> None:
    scenario = _scenario()
    edges = (EdgeGroup(region="mars"),)
    with pytest.raises(UserError, match=r"eu-to-sea\.toml: unknown region 'mars'"):
        build_world(replace(scenario, world=replace(scenario.world, edges=edges)), 1)
    viewers = tuple(replace(group, access=Access(profile="x")) for group in scenario.load.viewers)
    with pytest.raises(UserError, match="indonesia-1: access: profile: unknown profile 'x'"):
        build_world(replace(scenario, load=replace(scenario.load, viewers=viewers)), 1)


def test_a_link_that_cannot_be_is_named() -> None:
    scenario = _scenario()
    change = LinkChange(links=(("sin", "fra"),), mtu_bytes=10**6)
    with pytest.raises(UserError, match=r"link from fra-1 to sin-1 cannot be like that: .*mtu_bytes"):
        build_world(replace(scenario, world=replace(scenario.world, changes=(change,))), 1)


EXPORT = Path(__file__).with_name("links_export.json")


def test_an_export_of_real_edges_is_a_world() -> None:
    world = world_from_export(EXPORT)
    assert [edge.node_id for edge in world.edges] == ["fra-1", "jkt-1", "sin-1"]
    path = world.path("sin-1", "fra-1")
    assert path.rtt_ms == pytest.approx(161.2)
    assert path.model.mean_loss == pytest.approx(0.002)
    assert path.model.rate_bps == 200_000_000
    assert world.path("jkt-1", "sin-1").model.mean_loss == pytest.approx(0.4 * 0.07 / 60 * 2, rel=0.01)


def test_a_scenario_can_stand_on_an_export() -> None:
    scenario = load_scenario("sea-to-eu")
    world = replace(
        scenario.world, edges=(), control_region="sin", backbone=Backbone(kind="import", file=EXPORT)
    )
    built = build_world(replace(scenario, world=world), 1)
    assert {c.region for c in built.viewers} == {"fra"}
    assert {c.region for c in built.publishers} == {"jkt"}
