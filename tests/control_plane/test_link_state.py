"""What link state makes of reports: order, windows, confidence, silence, and who is still there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import SECOND_US
from reports import hello, link, report

from farcast.control_plane.link_estimate import (
    LOSS_PRIOR,
    PACKETS_ENOUGH,
    REPORTS_WAITING_MAX,
    LinkTable,
    estimate_loss,
    wilson,
)
from farcast.control_plane.link_state import LinkState, LinkStateConfig
from farcast.control_plane.network import Network
from farcast.control_plane.risk_groups import RiskGroup, RiskGroups
from farcast.proto.control.messages import LinkReport, Load, TrackLoad
from farcast.proto.telemetry.sketch import Sketch


def joined(*names: str, **config: object) -> LinkState:
    state = LinkState(LinkStateConfig(**config))  # type: ignore[arg-type]
    for name in names:
        assert state.join(hello(name), 0)
    return state


def tell(state: LinkState, node: str, second: int, *links: LinkReport, **fields: object) -> bool:
    return state.handle_report(node, report(second, links, **fields), second * SECOND_US)


def network(state: LinkState, second: float) -> Network:
    return state.network(round(second * SECOND_US))


def figure(net: Network, array: str, src: str, dst: str) -> float:
    return float(getattr(net, array)[net.index[src], net.index[dst]])


def test_loss_is_of_the_direction_to_the_reporter_and_rtt_of_both() -> None:
    state = joined("a", "b")
    tell(state, "b", 1, link("a", 80_000, rx_packets=10_000, rx_lost=500, rx_bursts=(100, 100)))
    net = network(state, 1)
    assert net.usable[net.index["a"], net.index["b"]]
    assert not net.usable[net.index["b"], net.index["a"]]
    assert figure(net, "loss", "a", "b") == pytest.approx(0.05, rel=0.06)
    assert figure(net, "loss", "b", "a") == pytest.approx(LOSS_PRIOR)
    assert figure(net, "burst", "a", "b") == pytest.approx(2.5)
    assert figure(net, "rtt_ms", "a", "b") == figure(net, "rtt_ms", "b", "a") == pytest.approx(80)


def test_figures_are_those_of_their_link_and_node_in_whatever_order_nodes_came() -> None:
    state = joined("c", "a", "b")
    tell(state, "c", 1, link("a"), load=Load(egress_bps=100))
    of_a = link("a", rx_packets=10_000, rx_lost=500, tx_bps=30)
    tell(state, "b", 1, of_a, link("c", tx_bps=5), load=Load(egress_bps=100))
    net = network(state, 1)
    assert net.node_ids == ("a", "b", "c")
    lossy = net.loss > 0.01
    assert lossy[net.index["a"], net.index["b"]]
    assert lossy.sum() == 1
    assert [node.egress_bps for node in net.nodes] == [0, 65, 100]


def test_late_and_repeated_reports_change_nothing() -> None:
    state = joined("a", "b")
    tell(state, "b", 5, link("a", 80_000))
    for second in (4, 5):
        assert not state.handle_report("b", report(second, [link("a", 10_000, silent=True)]), 6 * SECOND_US)
    net = network(state, 6)
    assert figure(net, "rtt_ms", "a", "b") == pytest.approx(80)
    assert net.usable[net.index["a"], net.index["b"]]
    assert state.counters["reports_late"] == 2


def test_reports_of_another_boot_change_nothing_until_it_has_joined() -> None:
    state = joined("a", "b")
    tell(state, "b", 9, link("a", 80_000))
    assert not tell(state, "b", 10, link("a", 10_000), boot_id="boot-2")
    assert state.counters["reports_of_strangers"] == 1
    state.join(hello("b", boot_id="boot-2"), 10 * SECOND_US)
    tell(state, "b", 1, link("a", 90_000), boot_id="boot-2", full=True)
    assert not tell(state, "b", 10, link("a", 10_000))
    assert figure(network(state, 11), "rtt_ms", "a", "b") >= 80


def test_reports_of_unknown_nodes_and_links_to_them_are_counted_and_left_out() -> None:
    state = joined("a")
    assert not tell(state, "x", 1, link("a"))
    tell(state, "a", 1, link("x"), link("a"))
    assert state.counters == {"reports_of_strangers": 1, "links_of_strangers": 2}
    assert network(state, 1).node_ids == ("a",)


def test_a_silent_link_is_urgent_news_and_not_usable() -> None:
    state = joined("a", "b")
    assert tell(state, "b", 1, link("a"))
    assert not tell(state, "b", 2, link("a"))
    assert tell(state, "b", 3, link("a", silent=True))
    assert not network(state, 3).usable.any()
    assert tell(state, "b", 4, link("a"))
    assert network(state, 4).usable.any()


def test_a_link_without_a_session_is_gone() -> None:
    state = joined("a", "b", "c")
    tell(state, "b", 1, link("a"), link("c"))
    assert tell(state, "b", 2, unlinked=("a",))
    assert tell(state, "b", 3, full=True)
    assert not network(state, 3).usable.any()


def test_what_a_report_leaves_out_stays_as_it_was() -> None:
    state = joined("a", "b")
    tell(state, "b", 1, link("a", 70_000))
    for second in range(2, 5):
        tell(state, "b", second)
    net = network(state, 4)
    assert figure(net, "rtt_ms", "a", "b") == pytest.approx(70)
    assert net.fresh[net.index["a"], net.index["b"]]


def test_missing_reports_take_nothing_away_but_freshness() -> None:
    state = joined("a", "b")
    tell(state, "b", 1, link("a"))
    net = network(state, 30)
    assert net.usable[net.index["a"], net.index["b"]]
    assert not net.fresh[net.index["a"], net.index["b"]]


def test_distrusted_reports_judge_no_links() -> None:
    state = joined("a", "b")
    tell(state, "b", 1, link("a", 70_000))
    assert tell(state, "b", 2, link("a", 900_000, silent=True), distrust=True, draining=True)
    net = network(state, 2)
    assert figure(net, "rtt_ms", "a", "b") == pytest.approx(70)
    assert net.usable.any()
    assert net.node("b").draining


def test_rtts_follow_slowly_and_tails_are_of_the_sketch() -> None:
    state = joined("a", "b")
    sketch = Sketch()
    for value in [50_000] * 98 + [120_000] * 2:
        sketch.add(value)
    tell(state, "b", 1, link("a", 50_000, rtt_sketch=sketch.counts))
    tell(state, "b", 2, link("a", 110_000))
    net = network(state, 2)
    assert 60 < figure(net, "rtt_ms", "a", "b") < 75
    assert figure(net, "rtt_p99_ms", "a", "b") == pytest.approx(120, rel=0.05)
    for second in range(3, 30):
        tell(state, "b", second, link("a", 110_000))
    assert figure(network(state, 29), "rtt_ms", "a", "b") == pytest.approx(110, rel=0.01)


def test_drain_is_by_report_or_by_order() -> None:
    state = joined("a", "b")
    assert tell(state, "a", 1, draining=True)
    assert network(state, 1).node("a").draining
    tell(state, "a", 2)
    state.set_draining("a", True)
    state.set_draining("x", True)
    assert network(state, 2).node("a").draining
    state.set_draining("a", False)
    assert not network(state, 2).node("a").draining


def test_a_node_stays_while_others_hear_it() -> None:
    state = joined("a", "b", "c")
    tell(state, "b", 1, link("a"))
    tell(state, "c", 1, link("a"))
    state.leave("a", 2 * SECOND_US)
    tell(state, "b", 2, link("a", silent=True))
    assert not network(state, 2).node("a").connected
    tell(state, "c", 2, link("a", silent=True))
    assert network(state, 2).node_ids == ("b", "c")
    assert state.node_ids == ("a", "b", "c")
    state.join(hello("a"), 3 * SECOND_US)
    assert network(state, 3).node_ids == ("a", "b", "c")


def test_there_is_room_for_so_many_nodes_and_the_gone_are_forgotten_for_new_ones() -> None:
    state = joined("a", "b", nodes_max=2)
    assert not state.join(hello("c"), SECOND_US)
    assert state.counters["joins_refused"] == 1
    tell(state, "b", 1, link("a", 70_000))
    state.leave("a", SECOND_US)
    tell(state, "b", 2, unlinked=("a",))
    assert state.join(hello("c"), 700 * SECOND_US)
    assert state.node_ids == ("b", "c")
    assert not network(state, 700).usable.any()


def test_viewers_egress_is_what_is_not_sent_to_other_edges() -> None:
    state = joined("a", "b", "c")
    load = Load(egress_bps=10_000_000)
    tell(state, "a", 1, link("b", tx_bps=3_000_000), link("c", tx_bps=2_000_000), load=load)
    node = network(state, 1).node("a")
    assert node.egress_bps == 5_000_000
    assert state.load("a") == load
    tell(state, "a", 2, link("c", tx_bps=2_000_000), unlinked=("b",), load=load)
    assert network(state, 2).node("a").egress_bps == 8_000_000, "to b nothing is sent any more"


def test_demand_is_by_origin() -> None:
    state = joined("a", "b", "c")
    tell(state, "b", 1, demand=(TrackLoad(origin="a", tracks=2, bps=4_000_000),))
    tell(state, "c", 1, demand=(TrackLoad(origin="a", tracks=1, bps=1_000_000),))
    demand = state.demand(["a", "b"])
    assert demand["a"].nodes == ("b", "c")
    assert demand["a"].bps.sum() == 4_000_000
    assert len(demand["b"].bps) == 0


def test_risk_groups_and_prices_are_those_of_the_configuration() -> None:
    groups = RiskGroups(
        (RiskGroup("rack", "site", ("a",)), RiskGroup("wet", "cable", (), (("at-a", "at-b"),)))
    )
    state = LinkState(LinkStateConfig(risk_groups=groups, prices_per_gb={"p": 0.08}))
    state.join(hello("a", provider="p", egress_bps_max=5), 0)
    state.join(hello("b"), 0)
    net = network(state, 1)
    assert net.node("a").groups == {"rack"}
    assert (net.node("a").price_per_gb, net.node("a").capacity_bps) == (0.08, 5)
    assert net.risk_names == ("rack", "wet")
    assert net.link_risks[0, 1, 0] == net.link_risks[1, 0, 0] == 2


def test_links_are_told_with_counts_by_window() -> None:
    state = joined("a", "b")
    for second in range(1, 31):
        tell(state, "b", second, link("a", rx_packets=100, rx_lost=1 if second > 25 else 0))
    (view,) = state.links(30 * SECOND_US)
    assert (view.src, view.dst) == ("a", "b")
    assert view.packets == (200, 1_000, 3_000)
    assert view.lost == (2, 5, 5)
    assert view.interval_60s[0] < 5 / 3_000 < view.interval_60s[1]
    assert view.usable
    assert view.fresh
    assert view.age_ms == 0


# ---- Estimates ------------------------------------------------------------------------------------------


def counts(sent: float, lost: float, runs: float = 0) -> np.ndarray:
    return np.array([[sent], [lost], [runs or lost]], float)


def test_wilson_bounds_are_those_of_the_book() -> None:
    low, high = wilson(np.array(5.0), np.array(100.0), 1.96)
    assert float(low) == pytest.approx(0.0215, abs=1e-4)
    assert float(high) == pytest.approx(0.1118, abs=1e-4)


def test_a_few_probes_without_loss_do_not_make_a_link_look_lossy() -> None:
    none = counts(60, 0)
    assert float(estimate_loss(none, none).high[0]) < 0.0005


def test_few_packets_and_some_lost_are_reckoned_with_at_the_upper_bound() -> None:
    few, many = counts(100, 3), counts(10_000, 300)
    assert float(estimate_loss(few, few).high[0]) > 0.05
    assert float(estimate_loss(many, many).high[0]) == pytest.approx(0.03, rel=0.06)


def test_a_link_gets_worse_at_once_and_better_slowly() -> None:
    worse = estimate_loss(counts(1_000, 50), counts(6_000, 50))
    better = estimate_loss(counts(1_000, 0), counts(6_000, 250))
    assert float(worse.loss[0]) > 0.03
    assert float(better.loss[0]) > 0.03


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_bounds_hold_the_estimate_between_them(sent: int, lost: int) -> None:
    of_both = counts(sent, min(sent, lost))
    estimate = estimate_loss(of_both, of_both)
    assert 0 <= float(estimate.low[0]) <= float(estimate.loss[0]) <= float(estimate.high[0]) <= 1
    if sent >= PACKETS_ENOUGH:
        assert float(estimate.high[0]) <= max(float(estimate.loss[0]), lost / sent) + 1e-12


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 500)), max_size=40))
def test_windows_are_those_of_plain_lists(events: list[tuple[int, int]]) -> None:
    table, now, told = LinkTable(2), 0, []
    for later, packets in events:
        now += later
        table.take(0, [1], [link("b", rx_packets=packets)], now * SECOND_US)
        told.append((now, packets))
    assert table.counts(10)[0, 1, 0] == sum(n for t, n in told if now - t < 10)
    assert table.counts(60)[0, 1, 0] == sum(n for t, n in told if now // 10 - t // 10 < 6)


REPORTS = st.lists(
    st.tuples(
        st.integers(0, 900_000),
        st.integers(0, 3),
        st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
        st.integers(0, 500),
    ),
    max_size=2 * REPORTS_WAITING_MAX,
)
"""Time since the one before, reporter, peers, packets."""


@given(REPORTS)
def test_reports_count_the_same_together_and_one_by_one(
    reports: list[tuple[int, int, list[int], int]],
) -> None:
    together, one_by_one, now_us = LinkTable(4), LinkTable(4), 0
    for later_us, reporter, peers, packets in reports:
        now_us += later_us
        links = [link("b", 50_000 + 90 * packets, rx_packets=packets, rx_lost=packets // 9) for _ in peers]
        for table in (together, one_by_one):
            table.take(reporter, peers, links, now_us)
        one_by_one.settle()
    together.settle()
    for name in ("rtt_ms", "variation_ms", "tail_ms", "loss_average", "heard_us", "known"):
        assert np.array_equal(getattr(together, name), getattr(one_by_one, name)), name
    for window_s in (1, 10, 60):
        assert np.array_equal(together.counts(window_s), one_by_one.counts(window_s))


def test_a_table_that_grows_keeps_what_it_has_and_forgets_what_is_cleared() -> None:
    table = LinkTable(2)
    table.take(0, [1], [link("b", rx_packets=9)], SECOND_US)
    table.grow(5)
    assert table.counts(60)[0, 1, 0] == 9
    assert table.rtt_ms[1, 0] == 50
    table.clear(1)
    assert not table.known.any()
    assert table.counts(60).sum() == 0


def test_distrusted_reports_tell_which_links_have_gone() -> None:
    state = joined("a", "b", "c")
    tell(state, "b", 1, link("a", 70_000), link("c", 80_000))
    assert tell(state, "b", 2, distrust=True, unlinked=("a",))
    net = network(state, 2)
    assert not net.usable[net.index["a"], net.index["b"]]
    assert net.usable[net.index["c"], net.index["b"]]
    assert tell(state, "b", 3, distrust=True, full=True)
    assert not network(state, 3).usable.any()
