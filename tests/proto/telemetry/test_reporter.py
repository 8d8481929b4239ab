"""Reports out of snapshots: what changed, by peer, bounded, and distrusted where time was not right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.control import messages as m
from farcast.proto.control.codec import FROM_EDGE_BYTES_MAX, decode_from_edge, encode, encoded_bytes
from farcast.proto.control.ranges import NAMESPACES_MAX
from farcast.proto.telemetry import links
from farcast.proto.telemetry.reporter import REPORT_BYTES_LEAST, Reporter, ReporterConfig

SECOND = 1_000_000
UNIX_US = 1_790_000_000_000_000


def hop(**fields: Any) -> dict[str, Any]:
    """A hop's counters as the datapath gives them; all at rest but for what is named."""
    at_rest = {
        "rtt_latest_us": 100_000,
        "rtt_min_us": 100_000,
        "rtt_us": 100_000,
        "rtt_variation_us": 0,
        "rtt_sketch": {},
        "rx_packets": 0,
        "rx_lost": 0,
        "rx_bursts": [0] * 8,
        "rx_spacing_us": 0,
        "rx_bytes": 0,
        "tx_bytes": 0,
        "heard_us": 0,
        "is_silent": False,
        "has_media": False,
    }
    return at_rest | fields


def snapshot(**hops: dict[str, Any] | None) -> dict[str, Any]:
    """Sessions ``s1``, ``s3``… with their hops."""
    sessions = [{"session": int(name[1:]), "hop": counters} for name, counters in hops.items()]
    return {"totals": {"stalls": 0}, "sessions": sessions}


def stalled(times: int) -> dict[str, Any]:
    """A datapath that was called late so often."""
    return {"totals": {"stalls": times}, "sessions": []}


class Edge:
    """A reporter and its two clocks; every report goes over the wire and must come back as it was."""

    def __init__(self, peers: Mapping[int, str] | None = None, **config: Any) -> None:
        self.peers = peers or {1: "fra-1"}
        self.reporter = Reporter(ReporterConfig("b1", **config))
        self.now_us = 10 * SECOND
        self.unix_us = UNIX_US

    def report(
        self,
        taken: dict[str, Any] | None = None,
        *,
        after_us: int = SECOND,
        wall_us: int | None = None,
        offers: Sequence[m.Offer] = (),
        **fields: Any,
    ) -> m.Report:
        self.now_us += after_us
        self.unix_us += after_us if wall_us is None else wall_us
        report = self.reporter.handle_snapshot(
            taken or snapshot(), self.peers, m.Load(), offers, self.now_us, self.unix_us, **fields
        )
        assert decode_from_edge(encode(report)[4:]) == report
        return report

    def link(self, *args: Any, **kwargs: Any) -> m.LinkReport:
        (link,) = self.report(*args, **kwargs).links
        return link


# ---- Head -----------------------------------------------------------------------------------------


def test_reports_are_numbered_dated_and_the_first_is_full() -> None:
    edge = Edge()
    first, second = edge.report(), edge.report(after_us=1_100_000, draining=True)
    assert (first.boot_id, first.sequence, first.full, first.draining) == ("b1", 1, True, False)
    assert (second.sequence, second.full, second.draining) == (2, False, True)
    assert (first.sent_us, second.sent_us) == (11 * SECOND, 12_100_000)
    assert (first.interval_us, second.interval_us) == (SECOND, 1_100_000)


def test_load_is_in_every_report_and_demand_where_it_changed() -> None:
    edge = Edge()
    some = (m.TrackLoad(origin="jkt-1", tracks=1, bps=5),)
    demands = [edge.report(demand=d).demand for d in ((), (), some, list(some), ())]
    assert demands == [(), None, some, None, ()]
    edge.reporter.resync()
    assert edge.report().demand == ()


# ---- Counting -------------------------------------------------------------------------------------


def test_a_loss_that_was_only_late_is_not_counted_for_good() -> None:
    edge = Edge()
    seen = []
    for second, rx_lost in enumerate((10, 8, 9, 11)):
        now = hop(
            has_media=True, rx_packets=100 * (second + 1), rx_lost=rx_lost, rx_bursts=[rx_lost, *[0] * 7]
        )
        seen.append(edge.link(snapshot(s1=now)))
    assert [link.rx_lost for link in seen] == [10, 0, 0, 1]
    assert [sum(link.rx_bursts) for link in seen] == [10, 0, 0, 1]


def test_counts_are_those_since_the_last_report() -> None:
    edge = Edge()
    edge.report(snapshot(s1=hop(has_media=True, rx_packets=100, rx_bytes=1_000)))
    bursts = [1, 0, 1, 0, 0, 0, 0, 0]
    now = hop(
        has_media=True,
        rx_packets=350,
        rx_lost=4,
        rx_bursts=bursts,
        rx_bytes=126_000,
        tx_bytes=2_500,
        rtt_sketch={288: 3},
        rtt_latest_us=101_000,
        rtt_variation_us=70,
        rx_spacing_us=33,
    )
    assert edge.link(snapshot(s1=now)) == m.LinkReport(
        peer="fra-1",
        rtt_latest_us=101_000,
        rtt_min_us=100_000,
        rtt_smoothed_us=100_000,
        rtt_variation_us=70,
        rtt_sketch={288: 3},
        rx_packets=250,
        rx_lost=4,
        rx_bursts=tuple(bursts),
        rx_spacing_us=33,
        rx_bps=1_000_000,
        tx_bps=20_000,
        media=True,
    )
    again = edge.link(snapshot(s1=now), after_us=2 * SECOND)
    assert (again.rx_packets, again.rx_lost, again.rx_bursts, again.rtt_sketch) == (0, 0, (), {})
    assert (again.rx_bps, again.tx_bps) == (0, 0)


def test_bit_rates_are_over_the_time_that_passed() -> None:
    edge = Edge()
    edge.report(snapshot(s1=hop(has_media=True)))
    link = edge.link(snapshot(s1=hop(has_media=True, rx_bytes=250_000)), after_us=2 * SECOND)
    assert link.rx_bps == 1_000_000


def test_a_session_that_starts_anew_counts_from_zero() -> None:
    edge = Edge()
    edge.report(snapshot(s1=hop(has_media=True, rx_packets=1_000, rx_lost=9, rtt_sketch={288: 9})))
    link = edge.link(snapshot(s1=hop(has_media=True, rx_packets=30, rx_lost=2, rtt_sketch={288: 4})))
    assert (link.rx_packets, link.rx_lost, link.rtt_sketch) == (30, 2, {288: 4})


def test_a_session_that_replaces_another_counts_from_zero() -> None:
    edge = Edge({1: "fra-1", 3: "fra-1"})
    edge.report(snapshot(s1=hop(has_media=True, rx_packets=1_000)))
    assert edge.link(snapshot(s3=hop(has_media=True, rx_packets=40))).rx_packets == 40


def test_a_loss_that_was_only_late_is_no_restart() -> None:
    edge = Edge()
    edge.report(snapshot(s1=hop(has_media=True, rx_packets=100, rx_lost=5)))
    link = edge.link(snapshot(s1=hop(has_media=True, rx_packets=200, rx_lost=4)))
    assert (link.rx_packets, link.rx_lost) == (100, 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50), st.integers(0, 50)), max_size=30))
def test_nothing_is_counted_twice_or_lost_over_restarts_and_left_out_reports(
    steps: list[tuple[bool, int, int]],
) -> None:
    """Whatever is left out of one report is in a later one."""
    edge, total, session, packets, lost = Edge(dict.fromkeys(range(99), "fra-1")), 0, 1, 0, 0
    reported_packets = reported_lost = total_lost = 0
    for restarts, more, more_lost in [*steps, (True, 0, 0), (False, 0, 1)]:
        if restarts:
            session, packets, lost = session + 1, 0, 0
        packets, total = packets + more + more_lost, total + more + more_lost
        lost, total_lost = lost + more_lost, total_lost + more_lost
        report = edge.report(snapshot(**{f"s{session}": hop(rx_packets=packets, rx_lost=lost)}))
        for link in report.links:
            reported_packets += link.rx_packets
            reported_lost += link.rx_lost
    assert (reported_packets, reported_lost) == (total, total_lost)


# ---- Several sessions to one peer -----------------------------------------------------------------


def test_sessions_to_one_peer_are_one_link_with_their_counts_together() -> None:
    edge = Edge({1: "fra-1", 2: "fra-1"})
    one = hop(rx_packets=10, rx_lost=1, rx_bursts=[1, *[0] * 7], rx_bytes=100, rtt_sketch={1: 1, 2: 1})
    other = hop(rx_packets=5, rx_lost=2, rx_bursts=[0, 1, *[0] * 6], rx_bytes=25, rtt_sketch={2: 1})
    link = edge.link(snapshot(s1=one, s2=other))
    assert (link.rx_packets, link.rx_lost, link.rx_bursts) == (15, 3, (1, 1, 0, 0, 0, 0, 0, 0))
    assert (link.rx_bps, link.rtt_sketch) == (1_000, {1: 1, 2: 2})


@pytest.mark.parametrize(
    ("one", "other", "rtt_us"),
    [
        ({"rtt_us": 90, "has_media": True}, {"rtt_us": 80}, 90),
        ({"rtt_us": 90}, {"rtt_us": 80, "has_media": True}, 80),
        ({"rtt_us": 90}, {"rtt_us": 80}, 80),
        ({"rtt_us": 90}, {"rtt_us": 0}, 90),
        ({"rtt_us": 90}, {"rtt_us": 80, "is_silent": True}, 90),
        ({"rtt_us": 90, "has_media": True}, {"rtt_us": 80, "has_media": True}, 80),
    ],
)
def test_the_rtt_is_that_of_the_session_with_media_else_the_least(
    one: dict[str, Any], other: dict[str, Any], rtt_us: int
) -> None:
    edge = Edge({1: "fra-1", 2: "fra-1"})
    assert edge.link(snapshot(s1=hop(**one), s2=hop(**other))).rtt_smoothed_us == rtt_us


def test_a_link_is_silent_only_where_all_its_sessions_are() -> None:
    edge = Edge({1: "fra-1", 2: "fra-1"})
    silent, heard = hop(is_silent=True), hop()
    assert not edge.link(snapshot(s1=silent, s2=heard)).silent
    assert edge.link(snapshot(s1=silent, s2=silent)).silent


def test_sessions_that_are_no_hops_or_of_unknown_peers_are_left_out() -> None:
    assert edge_links(Edge({1: "fra-1"}).report(snapshot(s1=None, s2=hop()))) == []


def edge_links(report: m.Report) -> list[str]:
    return [link.peer for link in report.links]


# ---- Changes only ---------------------------------------------------------------------------------


def test_an_idle_link_where_nothing_moves_is_said_again_only_after_a_while() -> None:
    edge, said = Edge(), []
    for second in range(9):
        report = edge.report(snapshot(s1=hop(rx_packets=second, rtt_us=100_000 + second)))
        said.append([link.rx_packets for link in report.links])
    assert said == [[0], [], [], [], [4], [], [], [], [4]]


@pytest.mark.parametrize(
    "news",
    [{"rx_lost": 1, "rx_packets": 9}, {"rtt_us": 106_000}, {"is_silent": True}, {"has_media": True}],
)
def test_news_of_a_link_are_said_at_once(news: dict[str, Any]) -> None:
    edge = Edge()
    edge.report(snapshot(s1=hop()))
    assert edge_links(edge.report(snapshot(s1=hop(**news)))) == ["fra-1"]


def test_that_losses_have_ended_is_news_too() -> None:
    edge = Edge()
    edge.report(snapshot(s1=hop()))
    edge.report(snapshot(s1=hop(rx_packets=9, rx_lost=1)))
    assert edge.link(snapshot(s1=hop(rx_packets=18, rx_lost=1))).rx_lost == 0
    assert edge_links(edge.report(snapshot(s1=hop(rx_packets=27, rx_lost=1)))) == []


def test_everything_is_said_after_a_resync() -> None:
    edge = Edge({1: "fra-1", 3: "jkt-1"})
    offers = (m.Offer(namespace=(b"live",), age_us=5),)
    first = edge.report(snapshot(s1=hop(), s3=hop()), offers=offers)
    assert edge.report(snapshot(s1=hop(), s3=hop())).full is False
    edge.reporter.resync()
    again = edge.report(snapshot(s1=hop(), s3=hop()), offers=offers)
    assert again.full
    assert sorted(edge_links(again)) == sorted(edge_links(first)) == ["fra-1", "jkt-1"]
    assert again.offered == first.offered
    assert not edge.report(snapshot(s1=hop(), s3=hop()), offers=offers).full


def test_a_link_that_is_gone_is_said_once() -> None:
    edge = Edge({1: "fra-1", 3: "jkt-1"})
    edge.report(snapshot(s1=hop(), s3=hop()))
    assert edge.report(snapshot(s1=hop())).unlinked == ("jkt-1",)
    assert edge.report(snapshot(s1=hop())).unlinked == ()
    back = edge.report(snapshot(s1=hop(), s3=hop(rx_packets=3)))
    assert (edge_links(back), back.unlinked) == (["jkt-1"], ())


# ---- Namespaces -----------------------------------------------------------------------------------


def offer(path: str, since_us: int, now_us: int) -> m.Offer:
    return m.Offer(namespace=tuple(path.encode().split(b"/")), age_us=now_us - since_us)


def test_namespaces_are_said_when_they_come_when_they_go_and_when_they_come_anew() -> None:
    edge, start = Edge(), 10 * SECOND

    def said(*since: tuple[str, int]) -> tuple[list[str], list[str]]:
        now_us = edge.now_us + SECOND
        report = edge.report(offers=[offer(path, since_us, now_us) for path, since_us in since])
        return (
            [b"/".join(o.namespace).decode() for o in report.offered],
            [b"/".join(w).decode() for w in report.withdrawn],
        )

    assert said(("a", start)) == (["a"], [])
    assert said(("a", start), ("b/c", start)) == (["b/c"], [])
    assert said(("a", start), ("b/c", start)) == ([], [])
    assert said(("b/c", start + 2 * SECOND)) == (["b/c"], ["a"])
    assert said() == ([], ["b/c"])


def test_namespaces_that_do_not_fit_wait_for_the_next_report_and_are_counted() -> None:
    edge = Edge(report_bytes_max=REPORT_BYTES_LEAST)
    offers = [m.Offer(namespace=(b"%03d" % n, b"x" * 4_000)) for n in range(100)]
    said: list[m.Offer] = []
    for _ in range(4):
        report = edge.report(offers=offers, after_us=1)
        assert encoded_bytes(report) <= REPORT_BYTES_LEAST
        said += report.offered
    assert said == offers
    assert edge.reporter.counters["offers_deferred"] == 68 + 36 + 4
    gone: list[tuple[bytes, ...]] = []
    for _ in range(4):
        gone += edge.report(after_us=1).withdrawn
    assert sorted(gone) == sorted(o.namespace for o in offers)


def test_a_report_says_how_many_namespaces_are_still_to_come() -> None:
    edge = Edge(report_bytes_max=REPORT_BYTES_LEAST)
    offers = [m.Offer(namespace=(b"%03d" % n, b"x" * 4_000)) for n in range(100)]
    said, follow = 0, []
    for _ in range(4):
        report = edge.report(offers=offers, after_us=1)
        said += len(report.offered)
        follow.append(report.offers_follow)
        assert said + report.offers_follow == 100
    assert follow[0] > 0
    assert follow[-1] == 0


def test_more_namespaces_than_a_report_may_name_are_dropped_and_counted() -> None:
    edge = Edge()
    offers = [m.Offer(namespace=(b"%d" % n,)) for n in range(NAMESPACES_MAX + 5)]
    edge.report(offers=offers)
    assert edge.reporter.counters["offers_dropped"] == 5


# ---- Size -----------------------------------------------------------------------------------------


def _wide(**fields: Any) -> dict[str, Any]:
    """A hop whose report takes some two kilobytes."""
    return hop(rtt_sketch=dict.fromkeys(range(500), 1), rx_packets=500, **fields)


def test_a_report_stays_within_its_bytes_and_leaves_out_what_matters_least() -> None:
    edge = Edge({n: f"n-{n:03}" for n in range(400)}, report_bytes_max=REPORT_BYTES_LEAST)
    idle, lossy, media = range(0, 300), range(300, 330), range(330, 400)
    edge.report(snapshot(**{f"s{n}": hop() for n in range(400)}))
    edge.reporter.resync()
    edge.report(snapshot(**{f"s{n}": hop() for n in range(400)}))
    hops = {f"s{n}": _wide(rtt_us=200_000) for n in idle}
    hops |= {f"s{n}": _wide(rx_lost=1) for n in lossy} | {f"s{n}": _wide(has_media=True) for n in media}
    report = edge.report(snapshot(**hops))
    assert REPORT_BYTES_LEAST - 4_000 < encoded_bytes(report) <= REPORT_BYTES_LEAST
    said = {int(peer.removeprefix("n-")) for peer in edge_links(report)}
    assert said >= {*media, *lossy}
    left_out = 400 - len(said)
    assert left_out > 0
    assert edge.reporter.counters["links_deferred"] == left_out
    reported = dict.fromkeys(said, 500)
    for _ in range(4):
        later = edge.report(snapshot(**hops))
        assert encoded_bytes(later) <= REPORT_BYTES_LEAST
        for link in later.links:
            number = int(link.peer.removeprefix("n-"))
            reported[number] = reported.get(number, 0) + link.rx_packets
    assert reported == dict.fromkeys(range(400), 500)


def test_a_report_that_is_filled_to_the_brim_does_not_spill_over() -> None:
    """Whatever room is left for the last link, in steps smaller than the head of the list."""
    peers = {n: f"n-{n:04}" for n in range(1_024)}
    taken = snapshot(**{f"s{n}": hop(rtt_sketch=dict.fromkeys(range(100), 1)) for n in range(1_024)})
    for step in range(0, 300, 7):
        report_bytes_max = REPORT_BYTES_LEAST + step
        report = Edge(peers, report_bytes_max=report_bytes_max).report(taken)
        assert len(report.links) < 1_024
        assert report_bytes_max - 400 < encoded_bytes(report) <= report_bytes_max


def test_the_largest_report_passes_the_codec_of_the_control_plane() -> None:
    edge = Edge({n: f"node-{n:058}" for n in range(1_024)}, report_bytes_max=FROM_EDGE_BYTES_MAX)
    demand = [m.TrackLoad(origin=peer, tracks=2**53 - 1, bps=10**15) for peer in edge.peers.values()]
    offers = [m.Offer(namespace=(b"%d" % n, b"x" * 4_000)) for n in range(500)]
    report = edge.report(
        snapshot(**{f"s{n}": _wide(has_media=True) for n in range(1_024)}), offers=offers, demand=demand
    )
    assert FROM_EDGE_BYTES_MAX - 4_000 < encoded_bytes(report) <= FROM_EDGE_BYTES_MAX


def test_more_peers_or_sessions_than_are_followed_are_ignored_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "NODES_MAX", 2)
    edge = Edge({1: "a", 2: "a", 3: "b", 4: "c"})
    assert edge_links(edge.report(snapshot(s1=hop(), s2=hop(), s3=hop(), s4=hop()))) == ["a", "b"]
    assert edge.reporter.counters["sessions_ignored"] == 1


@pytest.mark.parametrize("report_bytes_max", [0, REPORT_BYTES_LEAST - 1, FROM_EDGE_BYTES_MAX + 1])
def test_a_size_that_makes_no_sense_is_a_clear_error(report_bytes_max: int) -> None:
    with pytest.raises(ValueError, match=f"report_bytes_max is {report_bytes_max}, 262144 to 1048576"):
        ReporterConfig("b1", report_bytes_max=report_bytes_max)


# ---- Clocks ---------------------------------------------------------------------------------------


def _distrusts(edge: Edge, *steps: dict[str, Any]) -> list[bool]:
    return [edge.report(**step).distrust for step in steps]


def test_a_steady_edge_is_trusted() -> None:
    steady = {"after_us": SECOND, "wall_us": SECOND + 400_000}
    assert _distrusts(Edge(), {}, steady, {"after_us": 2_500_000}, steady, {}) == [False] * 5


def test_a_pause_is_distrusted_for_two_reports() -> None:
    edge = Edge()
    assert _distrusts(edge, {}, {"after_us": 2_500_001}, {}, {}) == [False, True, True, False]
    assert edge.reporter.counters["pauses"] == 1
    assert edge.reporter.counters["reports_distrusted"] == 2


def test_a_pause_within_an_interval_is_distrusted_for_two_reports_by_the_datapaths_word() -> None:
    edge = Edge()
    steps = [{"taken": stalled(stalls)} for stalls in (3, 3, 4, 4, 4, 6, 6, 6)]
    assert _distrusts(edge, *steps) == [False, False, True, True, False, True, True, False]
    assert edge.reporter.counters["pauses"] == 2


@pytest.mark.parametrize("jump_us", [500_001, -500_001, 3_600 * SECOND, -3_600 * SECOND])
def test_a_jump_of_the_wall_clock_is_distrusted_for_two_reports(jump_us: int) -> None:
    edge = Edge()
    jump = {"wall_us": SECOND + jump_us}
    assert _distrusts(edge, {}, jump, {}, {}, jump, jump, {}, {}) == [
        *(False, True, True, False),
        *(True, True, True, False),
    ]
    assert edge.reporter.counters["clock_jumps"] == 3


def test_a_clock_that_was_wrong_all_along_is_trusted() -> None:
    edge = Edge()
    edge.unix_us = 0
    assert _distrusts(edge, {}, {}, {}) == [False] * 3


def test_a_clock_that_drifts_by_500_ppm_is_trusted() -> None:
    assert _distrusts(Edge(), *[{"wall_us": SECOND + 500}] * 100) == [False] * 100


@pytest.mark.parametrize("after_us", [-5 * SECOND, 0, 400 * 86_400 * SECOND])
def test_absurd_times_make_a_distrusted_report_that_the_codec_takes(after_us: int) -> None:
    edge = Edge()
    edge.report()
    report = edge.report(after_us=after_us)
    assert report.distrust == (after_us != 0)
    assert report.interval_us >= 1
