"""Records that are right, and strategies that make any."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from farcast.proto.control import messages as m
from farcast.proto.control.ranges import BPS_MAX, INTEGER_MAX, RTT_US_MAX

EPOCH = m.Epoch(cluster="shows", number=3)
LINK = m.LinkReport(
    peer="fra-1",
    rtt_latest_us=161_000,
    rtt_min_us=160_000,
    rtt_smoothed_us=160_500,
    rtt_variation_us=700,
    rtt_sketch={299: 24, 300: 1},
    rx_packets=1_000,
    rx_lost=3,
    rx_bursts=(1, 1, 0, 0, 0, 0, 0, 0),
    rx_spacing_us=120,
    rx_bps=4_000_000,
    tx_bps=20_000,
    media=True,
)
HELLO = m.Hello(
    versions=(1,),
    node_id="sin-1",
    region="sin",
    boot_id="b1",
    advertise="198.51.100.7:443",
    public_url="https://sin-1.example/",
    egress_bps_max=10**9,
)
REPORT = m.Report(
    boot_id="b1",
    sequence=1,
    sent_us=5_000_000,
    interval_us=1_000_000,
    full=True,
    links=(LINK,),
    unlinked=("jkt-1",),
    load=m.Load(cpu=0.25, egress_bps=5_000_000, viewers=3),
    demand=(m.TrackLoad(origin="jkt-1", tracks=2, bps=3_000_000),),
    offered=(m.Offer(namespace=(b"live", b"film"), age_us=9),),
    withdrawn=((b"live", b"old"),),
)


def version(sequence: int, number: int = 3, cluster: str = "shows") -> m.PlanVersion:
    """A version of a plan of the test cluster."""
    return m.PlanVersion(epoch=m.Epoch(cluster=cluster, number=number), sequence=sequence)


def node(node_id: str, **fields: Any) -> m.NodeInfo:
    """A node whose region is the first part of its id."""
    region = node_id.partition("-")[0]
    return m.NodeInfo(**{"node_id": node_id, "region": region, "address": "192.0.2.1:443", **fields})


PLAN = m.PlanDelta(
    version=version(7),
    nodes=(node("sin-1"), node("jkt-1"), node("fra-1", public_url="https://fra-1.example/")),
    routes=(m.RouteEntry(origin="jkt-1", upstreams=("jkt-1", "fra-1"), path=("jkt-1", "sin-1")),),
    directory=(m.DirectoryEntry(namespace=(b"live", b"film"), origin="jkt-1"),),
    edge_list="eyJhbGciOiJFZERTQSJ9.e30.c2ln",
    issued_unix_us=1_790_000_000_000_000,
)
WELCOME = m.Welcome(version=1, epoch=EPOCH)
FROM_EDGE: tuple[m.FromEdge, ...] = (
    HELLO,
    REPORT,
    m.PlanAck(version=version(7)),
    m.PlanNack(version=version(7), reason="no", holds=version(6)),
)
FROM_CONTROL: tuple[m.FromControl, ...] = (
    WELCOME,
    m.Refusal(reason="go away"),
    m.ReportAck(sequence=4, resync=True),
    PLAN,
    m.DrainOrder(drain_ms=30_000),
)


def as_map(record: m.Record) -> Any:
    """The record as it is on the wire, for changing it there."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record))


# ---- Strategies -----------------------------------------------------------------------------------

_counts = st.integers(0, INTEGER_MAX)
_bps = st.integers(0, BPS_MAX)
_rtts = st.integers(0, RTT_US_MAX)
_ids = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
_tokens = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
_texts = st.text(st.characters(exclude_categories=("C", "Z")), max_size=40)
_addresses = st.sampled_from(("192.0.2.1:1", "[2001:db8::1]:65535", "edge.example:443"))
_namespaces = st.lists(st.binary(min_size=1, max_size=9), max_size=5).map(tuple)
_epochs = st.builds(m.Epoch, cluster=_tokens, number=_counts)
_versions = st.builds(m.PlanVersion, epoch=_epochs, sequence=_counts)


@st.composite
def _links(draw: st.DrawFn) -> m.LinkReport:
    packets = draw(_counts)
    return m.LinkReport(
        peer=draw(_ids),
        rtt_smoothed_us=draw(_rtts),
        rtt_sketch=draw(st.dictionaries(st.integers(0, 1023), _counts, max_size=5)),
        rx_packets=packets,
        rx_lost=draw(st.integers(0, packets)),
        rx_bursts=draw(st.one_of(st.just(()), st.tuples(*[_counts] * m.BURST_BUCKETS))),
        tx_bps=draw(_bps),
        media=draw(st.booleans()),
    )


def _tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=3).map(tuple)


from_edge: st.SearchStrategy[m.FromEdge] = st.one_of(
    st.builds(
        m.Hello,
        versions=st.lists(st.integers(1, 65_535), min_size=1, max_size=16).map(tuple),
        node_id=_ids,
        region=_ids,
        boot_id=_tokens,
        advertise=_addresses,
        public_url=_texts,
        egress_bps_max=_bps,
        holds=st.none() | _versions,
    ),
    st.builds(
        m.Report,
        boot_id=_tokens,
        sequence=_counts,
        sent_us=_counts,
        interval_us=st.integers(1, 86_400_000_000),
        full=st.booleans(),
        links=_tuples(_links()),
        unlinked=_tuples(_ids),
        load=st.none() | st.builds(m.Load, cpu=st.floats(0, 1), viewers=_counts),
        demand=st.none() | _tuples(st.builds(m.TrackLoad, origin=_ids, tracks=_counts, bps=_bps)),
        offered=_tuples(st.builds(m.Offer, namespace=_namespaces, age_us=_counts)),
        withdrawn=_tuples(_namespaces),
    ),
    st.builds(m.PlanAck, version=_versions),
    st.builds(m.PlanNack, version=_versions, reason=_texts, holds=st.none() | _versions),
)

from_control: st.SearchStrategy[m.FromControl] = st.one_of(
    st.builds(
        m.Welcome,
        version=st.integers(1, 65_535),
        epoch=_epochs,
        report_interval_us=st.integers(1, 86_400_000_000),
    ),
    st.builds(m.Refusal, reason=_texts),
    st.builds(m.ReportAck, sequence=_counts, resync=st.booleans()),
    st.builds(m.DrainOrder, drain_ms=st.integers(0, 86_400_000)),
    st.builds(
        m.PlanDelta,
        version=_versions,
        base=st.none() | _versions,
        nodes=_tuples(st.builds(m.NodeInfo, node_id=_ids, region=_ids, address=_addresses)),
        nodes_removed=_tuples(_ids),
        routes=_tuples(st.builds(m.RouteEntry, origin=_ids, upstreams=_tuples(_ids), path=_tuples(_ids))),
        directory=_tuples(st.builds(m.DirectoryEntry, namespace=_namespaces, origin=_ids)),
        directory_removed=_tuples(_namespaces),
        edge_list=st.none() | st.from_regex(r"[A-Za-z0-9_.-]{0,20}", fullmatch=True),
        issued_unix_us=_counts,
    ),
)
