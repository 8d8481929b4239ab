"""Frames and records: what is right passes unchanged, everything else is refused with a reason."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.control import messages as m
from farcast.proto.control.codec import (
    FROM_CONTROL_BYTES_MAX,
    FROM_EDGE_BYTES_MAX,
    BadMessage,
    Framer,
    MessageTooLarge,
    decode_from_control,
    decode_from_edge,
    encode,
)
from farcast.proto.control.ranges import as_text

from .records import FROM_CONTROL, FROM_EDGE, HELLO, PLAN, REPORT, as_map, from_control, from_edge


def _decoder_of(message: m.FromEdge | m.FromControl) -> Callable[[bytes], object]:
    return decode_from_edge if isinstance(message, m.FromEdge) else decode_from_control


def _refusal(decode: Callable[[bytes], object], contents: object) -> str:
    with pytest.raises(BadMessage) as bad:
        decode(msgspec.msgpack.encode(contents))
    return bad.value.reason


@given(from_edge | from_control)
def test_every_message_comes_back_as_it_was(message: m.FromEdge | m.FromControl) -> None:
    framer = Framer(FROM_CONTROL_BYTES_MAX)
    framer.push(encode(message))
    body = framer.next()
    assert body is not None
    assert _decoder_of(message)(body) == message
    assert framer.next() is None


def test_a_stream_may_be_cut_at_every_byte() -> None:
    stream = b"".join(map(encode, FROM_EDGE))
    for cut in range(len(stream) + 1):
        framer = Framer(FROM_EDGE_BYTES_MAX)
        got = []
        for part in (stream[:cut], stream[cut:]):
            framer.push(part)
            while (body := framer.next()) is not None:
                got.append(decode_from_edge(body))
        assert tuple(got) == FROM_EDGE
        assert framer.buffered_bytes == 0


def test_a_stream_may_come_byte_by_byte() -> None:
    framer, got = Framer(FROM_CONTROL_BYTES_MAX), []
    for byte in b"".join(map(encode, FROM_CONTROL)):
        framer.push(bytes([byte]))
        if (body := framer.next()) is not None:
            got.append(decode_from_control(body))
    assert tuple(got) == FROM_CONTROL


@pytest.mark.parametrize("length", [0, FROM_EDGE_BYTES_MAX + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_its_message_comes(length: int) -> None:
    framer = Framer(FROM_EDGE_BYTES_MAX)
    framer.push(length.to_bytes(4, "big"))
    with pytest.raises(BadMessage, match=f"message of {length} bytes, 1 to 1048576 are allowed"):
        framer.next()


def test_our_own_message_above_the_limit_is_not_sent() -> None:
    offers = tuple(m.Offer(namespace=(b"%d" % n, b"x" * 4_000)) for n in range(300))
    with pytest.raises(MessageTooLarge, match="Report of"):
        encode(msgspec.structs.replace(REPORT, offered=offers))


# ---- Ranges ---------------------------------------------------------------------------------------

_INT_FIELDS = (
    "links.0.rtt_latest_us",
    "links.0.rtt_min_us",
    "links.0.rtt_smoothed_us",
    "links.0.rtt_variation_us",
    "links.0.rx_packets",
    "links.0.rx_lost",
    "links.0.rx_spacing_us",
    "links.0.rx_bps",
    "links.0.tx_bps",
    "links.0.rx_bursts.0",
    "links.0.rtt_sketch.299",
    "load.egress_bps",
    "load.viewers",
    "demand.0.tracks",
    "demand.0.bps",
    "offered.0.age_us",
    "sequence",
    "sent_us",
    "interval_us",
)


def _with(record: m.Record, path: str, value: object) -> Any:
    """The wire form of ``record`` with the value at ``path`` replaced."""
    tree = as_map(record)
    *parents, last = path.split(".")
    at = tree
    for key in parents:
        at = at[int(key) if key.isdigit() else key]
    at[int(last) if last.isdigit() else last] = value
    return tree


@pytest.mark.parametrize("path", _INT_FIELDS)
@pytest.mark.parametrize("value", [-1, -(2**63), 2**53, 2**64 - 1, 1.5, math.nan, "7", None, True, [], {}])
def test_a_number_of_a_report_is_a_whole_one_within_its_range(path: str, value: object) -> None:
    assert "`$." in _refusal(decode_from_edge, _with(REPORT, path, value))


@pytest.mark.parametrize("cpu", [-0.1, 1.1, math.nan, math.inf, -math.inf, "1", 2])
def test_a_share_is_within_0_and_1(cpu: object) -> None:
    assert "`$.load.cpu`" in _refusal(decode_from_edge, _with(REPORT, "load.cpu", cpu))


_BAD_IDS = ["", "Sin-1", "-a", "a-", "a_b", "a.b", "a" * 64, "sin-1\n", "ä", b"sin-1", 7, None]


@pytest.mark.parametrize("path", ["unlinked.0", "demand.0.origin"])
@pytest.mark.parametrize("bad", _BAD_IDS)
def test_a_node_id_of_a_report_has_the_form_of_one(path: str, bad: object) -> None:
    assert "`$." in _refusal(decode_from_edge, _with(REPORT, path, bad))


@pytest.mark.parametrize("bad", ["", "a" * 64, b"sin-1", 7, None])
def test_a_peer_of_a_report_has_the_length_of_a_node_id(bad: object) -> None:
    assert "`$." in _refusal(decode_from_edge, _with(REPORT, "links.0.peer", bad))


@pytest.mark.parametrize(
    "path",
    ["nodes.0.node_id", "nodes.0.region", "routes.0.origin", "routes.0.upstreams.0", "routes.0.path.0"],
)
@pytest.mark.parametrize("bad", _BAD_IDS)
def test_a_node_id_of_a_plan_has_the_form_of_one(path: str, bad: object) -> None:
    assert "`$." in _refusal(decode_from_control, _with(PLAN, path, bad))


_BAD_NAMESPACES = [[b""], [b"a", b""], [b"a"] * 33, [b"a" * 4_097], [b"a" * 2_049] * 2, ["a"], b"a", None]


@pytest.mark.parametrize("bad", _BAD_NAMESPACES)
def test_a_namespace_obeys_the_rules_of_moqt(bad: object) -> None:
    for path in ("offered.0.namespace", "withdrawn.0"):
        assert f"`$.{path.replace('.0', '[0]')}" in _refusal(decode_from_edge, _with(REPORT, path, bad))
    for path in ("directory.0.namespace", "directory_removed"):
        value = [bad] if path == "directory_removed" else bad
        assert f"`$.{path.replace('.0', '[0]')}" in _refusal(decode_from_control, _with(PLAN, path, value))


@pytest.mark.parametrize(
    "bad", ["", "host", "host:", ":1", "host:0", "host:65536", "a b:1", "h:1\n", "::1:443", "[::1]"]
)
def test_an_address_is_a_host_and_a_port(bad: str) -> None:
    assert "`$.advertise`" in _refusal(decode_from_edge, _with(HELLO, "advertise", bad))
    assert "`$.nodes[0].address`" in _refusal(decode_from_control, _with(PLAN, "nodes.0.address", bad))


@pytest.mark.parametrize(
    ("record", "path", "value"),
    [
        (REPORT, "links", [{"peer": "a"}] * 1_025),
        (REPORT, "unlinked", ["a"] * 1_025),
        (REPORT, "demand", [{"origin": "a", "tracks": 1, "bps": 1}] * 1_025),
        (REPORT, "offered", [{"namespace": []}] * 65_537),
        (REPORT, "withdrawn", [[]] * 65_537),
        (REPORT, "links.0.rtt_sketch", {n: 1 for n in range(1_025)}),
        (REPORT, "links.0.rtt_sketch", {-1: 1}),
        (REPORT, "links.0.rtt_sketch", {1_024: 1}),
        (REPORT, "links.0.rtt_sketch", {"1": 1}),
        (REPORT, "links.0.rx_bursts", [0] * 9),
        (REPORT, "links.0.rx_bursts", [0] * 7),
        (REPORT, "links.0.rx_lost", 1_001),
        (REPORT, "interval_us", 0),
        (HELLO, "versions", []),
        (HELLO, "versions", [0]),
        (HELLO, "versions", [1] * 17),
        (HELLO, "boot_id", "a b"),
        (HELLO, "boot_id", "a" * 65),
        (HELLO, "software", "line\nline"),
        (HELLO, "public_url", "x" * 1_025),
        (PLAN, "nodes", [as_map(PLAN)["nodes"][0]] * 1_025),
        (PLAN, "routes.0.upstreams", ["a"] * 17),
        (PLAN, "routes.0.path", ["a"] * 17),
        (PLAN, "edge_list", "not base64 {}"),
        (PLAN, "version.epoch.number", -1),
        (PLAN, "version.epoch.cluster", ""),
    ],
)
def test_what_is_too_long_or_contradicts_itself_is_refused_with_its_place(
    record: m.FromEdge | m.FromControl, path: str, value: object
) -> None:
    assert f"`$.{path.split('.')[0]}" in _refusal(_decoder_of(record), _with(record, path, value))


# ---- Hostile bytes --------------------------------------------------------------------------------


def _decodes_or_says_why(decode: Callable[[bytes], object], body: bytes) -> None:
    reason = "decoded"
    try:
        decode(body)
    except BadMessage as bad:
        reason = bad.reason
    assert reason
    assert reason == as_text(reason)


@given(st.binary(max_size=200))
def test_garbage_is_decoded_or_refused(body: bytes) -> None:
    _decodes_or_says_why(decode_from_edge, body)
    _decodes_or_says_why(decode_from_control, body)


@given(from_edge | from_control, st.data())
def test_a_damaged_message_is_decoded_or_refused(
    message: m.FromEdge | m.FromControl, data: st.DataObject
) -> None:
    body = bytearray(msgspec.msgpack.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _decodes_or_says_why(_decoder_of(message), bytes(body))


@pytest.mark.parametrize("message", FROM_EDGE + FROM_CONTROL)
def test_a_message_that_is_cut_off_is_refused(message: m.FromEdge | m.FromControl) -> None:
    body = msgspec.msgpack.encode(message)
    for length in range(len(body)):
        with pytest.raises(BadMessage):
            _decoder_of(message)(body[:length])
    with pytest.raises(BadMessage, match="not MessagePack"):
        _decoder_of(message)(body + b"\x00")


def _paths(tree: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        items = list(tree.items())
    elif isinstance(tree, list):
        items = list(enumerate(tree))
    return [p for key, value in items for p in [(*path, key), *_paths(value, (*path, key))]]


@pytest.mark.parametrize("message", FROM_EDGE + FROM_CONTROL)
@pytest.mark.parametrize("blank", ["removed", None, 0, "", b"", [], {}])
def test_every_field_may_be_blanked_without_any_other_error(
    message: m.FromEdge | m.FromControl, blank: object
) -> None:
    """Google Cloud, 2025-06-12: blank fields in a policy took a region after region down."""
    for path in _paths(as_map(message)):
        tree = at = as_map(message)
        for key in path[:-1]:
            at = at[key]
        if blank == "removed":
            del at[path[-1]]
        else:
            at[path[-1]] = blank
        _decodes_or_says_why(_decoder_of(message), msgspec.msgpack.encode(tree))


def test_nesting_without_end_is_refused() -> None:
    body = b"\x82\xa2is\xa6report\xa1z" + b"\x91" * 500_000
    with pytest.raises(BadMessage, match="nested too deep"):
        decode_from_edge(body)


@pytest.mark.parametrize("field", [b"links", b"unlinked", b"offered", b"withdrawn"])
def test_a_list_that_claims_to_be_huge_takes_no_memory(field: bytes) -> None:
    body = b"\x82\xa2is\xa6report" + bytes([0xA0 + len(field)]) + field + b"\xdd\x7f\xff\xff\xff"
    tracemalloc.start()
    with pytest.raises(BadMessage):
        decode_from_edge(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_an_unknown_kind_of_message_is_refused() -> None:
    assert "'shutdown'" in _refusal(decode_from_edge, {"is": "shutdown"})
    assert "'report'" in _refusal(decode_from_control, {"is": "report"})


# ---- Versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", FROM_EDGE + FROM_CONTROL)
def test_fields_of_a_later_version_are_ignored(message: m.FromEdge | m.FromControl) -> None:
    tree = as_map(message)
    for path in [(), *_paths(tree)]:
        later = at = as_map(message)
        for key in path:
            at = at[key]
        if isinstance(at, dict) and all(isinstance(key, str) for key in at):
            at["of_a_later_version"] = {"deep": [1, {"er": b"x"}]}
            assert _decoder_of(message)(msgspec.msgpack.encode(later)) == message


def test_fields_that_an_earlier_version_did_not_have_take_their_defaults() -> None:
    report = {"is": "report", "boot_id": "b", "sequence": 1, "sent_us": 1, "interval_us": 1}
    got = decode_from_edge(msgspec.msgpack.encode(report | {"links": [{"peer": "fra-1"}]}))
    assert got == m.Report(
        boot_id="b", sequence=1, sent_us=1, interval_us=1, links=(m.LinkReport(peer="fra-1"),)
    )
