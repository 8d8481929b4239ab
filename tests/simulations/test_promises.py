"""Reading promises: what they mean, and what errors say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.simulations.output_names import ATTRIBUTES, OUTPUTS
from farcast.simulations.promises import (
    CONDITIONS_MAX,
    PROMISE_CHARS_MAX,
    Condition,
    Op,
    Promise,
    PromiseError,
    Scope,
    known_attributes,
    known_outputs,
    parse_promise,
    render_promise,
)

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,12}", fullmatch=True)
OPS: tuple[Op, ...] = ("<", "<=", ">", ">=", "within")
NUMBERS = st.integers(-10_000_000, 10_000_000).map(lambda number: number / 1_000)
STATS = st.one_of(
    st.none(),
    st.sampled_from(["mean", "min", "max"]),
    st.integers(1, 10_000).map(lambda number: f"p{number / 100:g}"),
)


@st.composite
def promises(draw: st.DrawFn) -> Promise:
    output = draw(st.sampled_from(sorted(OUTPUTS)))
    scopes = draw(
        st.lists(
            st.one_of(
                st.sampled_from(["farcast", "stock"]).map(lambda name: Scope("stack", (name,))),
                NAMES.map(lambda name: Scope("market", (name,))),
                st.tuples(NAMES, NAMES).map(lambda names: Scope("pair", names)),
                st.sampled_from([Scope("worst_market"), Scope("worst_pair"), Scope("worst_viewer")]),
            ),
            max_size=3,
            unique_by=lambda scope: "worst" if scope.kind.startswith("worst") else scope.kind,
        )
    )
    op = draw(st.sampled_from(OPS))
    low, high = sorted((draw(NUMBERS), draw(NUMBERS)))
    if op in ("<", "<="):
        return Promise(output, op, None, high, draw(STATS), tuple(scopes), draw(conditions()))
    if op in (">", ">="):
        return Promise(output, op, low, None, draw(STATS), tuple(scopes), draw(conditions()))
    return Promise(output, op, low, high, draw(STATS), tuple(scopes), draw(conditions()))


@st.composite
def conditions(draw: st.DrawFn) -> tuple[Condition, ...]:
    found = []
    for name in draw(st.lists(st.sampled_from(sorted(ATTRIBUTES)), max_size=CONDITIONS_MAX)):
        if ATTRIBUTES[name].unit == "name":
            word = draw(NAMES.filter(lambda word: word not in ("where", "and")))
            found.append(Condition(name, draw(st.sampled_from(["=", "!="])), word))
        else:
            found.append(Condition(name, draw(st.sampled_from(["<", "<=", ">", ">="])), draw(NUMBERS)))
    return tuple(found)


def column_of(text: str) -> int:
    """Where a text is wrong; 1 if it is not."""
    try:
        parse_promise(text)
    except PromiseError as error:
        return error.column
    return 1


@given(promises())
def test_a_promise_that_is_written_and_read_is_the_same(promise: Promise) -> None:
    text = render_promise(promise)
    if len(text) <= PROMISE_CHARS_MAX:
        assert parse_promise(text) == promise
        assert render_promise(parse_promise(text)) == text


@given(st.text(max_size=80))
def test_no_text_raises_anything_but_a_promise_error_with_a_column_inside_the_text(text: str) -> None:
    assert 1 <= column_of(text) <= len(text) + 1


@given(promises(), st.data())
def test_a_promise_with_one_character_changed_is_read_or_refused_cleanly(
    promise: Promise, data: st.DataObject
) -> None:
    text = render_promise(promise)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters()) + text[at + 1 :]
    assert 1 <= column_of(changed) <= max(len(changed), PROMISE_CHARS_MAX) + 1


def test_the_promises_of_the_documentation_are_read() -> None:
    assert parse_promise("glass_to_glass.worst_market p99 < 600 ms") == Promise(
        "glass_to_glass", "<", None, 600.0, "p99", (Scope("worst_market"),)
    )
    assert parse_promise("first_picture p95 < 600 ms where access_rtt <= 80 ms").where == (
        Condition("access_rtt", "<=", 80.0),
    )
    assert parse_promise("stall_ratio < 0.5 %").high == 0.5
    assert parse_promise("hd_share >= 95 % where access_rate >= 4 Mbit/s").low == 95
    assert parse_promise("av_skew within -125..45 ms") == Promise("av_skew", "within", -125.0, 45.0)
    assert parse_promise("resume p99 < 0.5 s") == parse_promise("resume p99 < 500 ms")
    assert parse_promise("hd_share>=95% where access_rate>=4000 kbit/s and market=id").where == (
        Condition("access_rate", ">=", 4.0),
        Condition("market", "=", "id"),
    )
    assert parse_promise("bytes_over_direct < 1.3 x").high == 1.3
    assert parse_promise("stalls.stock.market(p1) total <= 2").stat == "total"


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("glas_to_glass p99 < 3 ms", 1, ["no such output", "did you mean 'glass_to_glass'"]),
        ("glass_to_glass.worst_markt p99 < 3 ms", 16, ["no such scope", "'worst_market'"]),
        ("glass_to_glass p999 < 3 ms", 16, ["at most 100"]),
        ("glass_to_glass p0 < 3 ms", 16, ["above 0"]),
        ("glass_to_glass men < 3 ms", 16, ["did you mean 'mean'"]),
        ("glass_to_glass p99 < 3", 23, ["needs a unit: us, ms, s"]),
        ("glass_to_glass p99 < 3 %", 24, ["not in '%'"]),
        ("glass_to_glass p99 = 3 ms", 20, ["a bound"]),
        ("glass_to_glass p99 < ms", 22, ["a number expected"]),
        ("glass_to_glass p99 < 3 ms were market = x", 27, ["did you mean 'where'"]),
        ("glass_to_glass p99 < 3 ms where acess_rtt < 3 ms", 33, ["no such attribute", "'access_rtt'"]),
        ("glass_to_glass p99 < 3 ms where market < sea", 40, ["= !="]),
        ("glass_to_glass p99 < 3 ms where access_rtt = 3 ms", 44, ["<="]),
        ("glass_to_glass p99 < 3 ms where", 32, ["an attribute"]),
        ("glass_to_glass.worst_market.worst_pair p99 < 3 ms", 29, ["once"]),
        ("glass_to_glass.stock.farcast p99 < 3 ms", 22, ["second scope"]),
        ("glass_to_glass.pair(sea) p99 < 3 ms", 24, ["','"]),
        ("av_skew within 3..-4 ms", 19, ["ends below its beginning"]),
        ("av_skew within 3 ms", 18, ["'..'"]),
        ("stalls max < 3 ms", 16, ["no unit"]),
        ("stall_ratio total < 3 %", 13, ["a ratio"]),
        ("stall_ratio § 3", 13, ["cannot be read"]),
        ("", 1, ["an output"]),
        ("glass_to_glass", 15, ["the end"]),
        ("glass_to_glass p99.9.9 < 3 ms", 16, ["a statistic"]),
    ],
)
def test_an_error_names_the_column_and_what_was_meant(text: str, column: int, words: list[str]) -> None:
    with pytest.raises(PromiseError) as caught:
        parse_promise(text)
    assert caught.value.column == column
    assert f"column {column}: " in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_promise_of_any_length_is_refused_before_it_is_read() -> None:
    with pytest.raises(PromiseError, match="longer than"):
        parse_promise("glass_to_glass" + " " * 10_000 + "p99 < 1 ms")


def test_names_are_unique_and_have_a_meaning() -> None:
    for known in (known_outputs(), known_attributes()):
        assert len({each.name for each in known}) == len(known)
        assert all(each.meaning for each in known)
