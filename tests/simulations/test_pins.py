"""Pins: a promise that is not kept yet may not get worse, and its pin must go when it is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sim_results import LATENCY, broken_result, held_result

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.pins import Pin, check_pins, load_pins, pin_states, propose
from farcast.simulations.report.findings import is_bad
from farcast.simulations.results import Missed, Result
from farcast.simulations.scenario_file import load_scenario

PINNED = "[[pin]]\nscenario = 'a'\npromise = 'errors total < 1'\nreason = 'c'\n"


def only_latency(value: float | None = 742.4, **more: object) -> Result:
    result = broken_result()
    verdict = msgspec.structs.replace(result.verdicts[0], value=value, **more)
    return msgspec.structs.replace(result, verdicts=(verdict,), invariant_failures=())


def pin(value: float = 742.0, allowance: float = 5.0, **more: Any) -> Pin:
    return Pin(scenario="sea-to-eu", promise=LATENCY, reason="why", value=value, allowance=allowance, **more)


def fails(pinned: Pin, result: Result) -> bool:
    (state,) = pin_states([pinned], [result]).values()
    assert is_bad(result, {("sea-to-eu", LATENCY): state}) is state.fails
    return state.fails


@pytest.mark.parametrize(
    ("pinned", "measured", "is_worse"),
    [(742.0, 742.4, False), (742.0, 748.0, True), (900.0, 742.4, False), (742.0, None, True)],
)
def test_worse_is_what_lies_beyond_the_pin_and_its_allowance(
    pinned: float, measured: float | None, is_worse: bool
) -> None:
    assert fails(pin(pinned), only_latency(measured)) is is_worse
    assert is_bad(only_latency(measured), {})


def test_for_a_lower_bound_worse_is_less() -> None:
    promise = "hd_share.worst_market >= 95 %"
    result = only_latency(90.0, promise=promise, limit=95.0, unit="%")
    lower = {"promise": promise}
    assert not pin_states([msgspec.structs.replace(pin(89.0, 0.0), **lower)], [result])[
        "sea-to-eu", promise
    ].fails
    assert pin_states([msgspec.structs.replace(pin(91.0, 0.5), **lower)], [result])[
        "sea-to-eu", promise
    ].fails


@pytest.mark.parametrize(
    ("promise", "limit", "pinned", "measured", "is_worse"),
    [
        ("errors total < 5", 5.0, 5.0, 6.0, True),
        ("errors total < 5", 5.0, 9.0, 5.0, False),
        ("hd_share > 95 %", 95.0, 95.0, 94.0, True),
        ("hd_share > 95 %", 95.0, 90.0, 95.0, False),
        ("av_skew within -125..45 ms", 45.0, 60.0, 70.0, True),
        ("av_skew within -125..45 ms", 45.0, 60.0, 50.0, False),
        ("av_skew within -125..45 ms", -125.0, -200.0, -210.0, True),
        ("av_skew within -125..45 ms", -125.0, -200.0, -190.0, False),
        ("av_skew within -125..45 ms", -125.0, 60.0, -130.0, True),
        ("av_skew within -125..45 ms", 45.0, -200.0, 46.0, True),
    ],
)
def test_which_way_is_worse_is_said_by_the_promise_and_not_by_the_value(
    promise: str, limit: float, pinned: float, measured: float, is_worse: bool
) -> None:
    result = only_latency(measured, promise=promise, limit=limit)
    made = msgspec.structs.replace(pin(pinned, 0.0), promise=promise)
    assert pin_states([made], [result])["sea-to-eu", promise].fails is is_worse


def test_a_market_may_not_get_worse_behind_the_back_of_the_worst() -> None:
    def measured(de: float, gb: float | None, never: int = 0) -> Result:
        missed = (Missed(name="DE", value=de), Missed(name="GB", value=gb, never=never))
        return only_latency(de, missed_by=missed)

    pinned = pin(742.0, 74.2, markets={"DE": 742.0, "GB": 650.0})
    assert not fails(pinned, measured(742.0, 714.0))
    assert fails(pinned, measured(742.0, 716.0)), "a tenth is allowed to each"
    assert fails(pin(742.0, 74.2, markets={"DE": 742.0}), measured(742.0, 610.0)), "GB is not pinned"
    assert fails(pinned, measured(742.0, None, never=3))
    assert fails(pinned, measured(742.0, None)), "what is not measured is not pinned"


def test_what_never_happens_is_pinned_by_how_often() -> None:
    def measured(never: int) -> Result:
        return only_latency(None, never=never, missed_by=(Missed(name="DE", never=never),))

    pinned = pin(math.inf, 10.0, never=100, markets={"DE": math.inf})
    assert not fails(pinned, measured(110))
    assert fails(pinned, measured(111))
    # What happens by now is to be pinned at what it is, or it could go back to never unseen.
    assert fails(pinned, only_latency(5_000.0, missed_by=(Missed(name="DE", value=5_000.0),)))


def test_what_was_not_measured_cannot_be_excused() -> None:
    assert fails(pin(math.inf, 10.0, never=100), only_latency(None, status="no data"))


def test_a_pin_of_a_promise_that_holds_fails_until_it_is_taken_out() -> None:
    held = Pin(scenario="eu-to-sea", promise=LATENCY, reason="why", value=742.0)
    states = pin_states([held], [held_result()])
    assert "take the pin out" in states["eu-to-sea", LATENCY].state
    assert is_bad(held_result(), states)
    assert not is_bad(held_result(), {})


def test_a_promise_that_is_gone_is_no_way_around_its_pin() -> None:
    renamed = Pin(scenario="eu-to-sea", promise="glass_to_glass p99 < 900 ms", reason="why", value=742.0)
    assert pin_states([renamed], [held_result()])["eu-to-sea", renamed.promise].fails
    assert is_bad(held_result(), pin_states([renamed], [held_result()]))


@pytest.mark.parametrize(
    ("scenario", "promise", "said"),
    [
        ("sea-to-eu", "glass_to_glass.worst_market p99 < 601 ms", "no such promise"),
        ("sea-to-ue", LATENCY, "no such scenario: 'sea-to-ue': did you mean 'sea-to-eu'?"),
        ("moon", LATENCY, "take the pin out"),
    ],
)
def test_a_pin_of_nothing_is_refused_before_anything_runs(scenario: str, promise: str, said: str) -> None:
    file = Path("pins.toml")
    asked = [replace(load_scenario("sea-to-eu"), promises=(LATENCY,))]
    others = ["eu-to-sea"]
    good = [pin(), msgspec.structs.replace(pin(), scenario="eu-to-sea", promise="errors total < 1")]
    check_pins(file, good, asked, others)
    wrong = msgspec.structs.replace(pin(), scenario=scenario, promise=promise)
    with pytest.raises(UserError, match=r"pins\.toml: pin: ") as raised:
        check_pins(file, [*good, wrong], asked, others)
    assert said in raised.value.message
    assert raised.value.exit_code == EXIT_USAGE


def test_a_pin_of_the_other_form_says_nothing() -> None:
    long = msgspec.structs.replace(pin(), short=False)
    assert pin_states([long], [only_latency()]) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[pin]]\nscenario = 'a'\n", "promise"),
        (f"{PINNED}value = 1\nvalu = 1\n", "valu"),
        (f"{PINNED}value = 1\n" * 2, "twice"),
        (PINNED, "value"),
        (f"{PINNED}value = nan\n", "not a number"),
        (f"{PINNED}value = inf\n", "never"),
        (f"{PINNED}value = 1\nallowance = -1\n", "allowance"),
        (f"{PINNED}value = 1\nallowance = inf\n", "allowance"),
        (f"{PINNED}value = 1\nallowance = 0.11\n", "more than a tenth"),
        (f"{PINNED}value = 1\n".replace("'c'", "' '"), "reason"),
        (f"{PINNED}value = 1\n".replace("errors", "erors"), "did you mean 'errors'"),
        ("[[pin]", "line 1"),
    ],
)
def test_what_is_wrong_with_a_file_of_pins_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        load_pins(file)
    assert raised.value.exit_code == EXIT_USAGE
    assert str(file) in raised.value.message
    assert said in raised.value.message


def test_a_missing_file_of_pins_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml: cannot be read"):
        load_pins(tmp_path / "none.toml")


def test_proposed_pins_hold_what_never_happened_and_each_market(tmp_path: Path) -> None:
    missed = (Missed(name="DE", never=40), Missed(name="GB", value=650.0))
    result = only_latency(None, low=None, high=None, never=40, missed_by=missed)
    file = tmp_path / "pins.toml"
    file.write_text(propose([result], []))
    (made,) = load_pins(file)
    assert (made.value, made.never, made.allowance) == (math.inf, 40, 4.0)
    assert made.markets == {"DE": math.inf, "GB": 650.0}
    assert not fails(made, result)


def test_proposals_leave_pins_of_scenarios_that_were_not_run_and_drop_those_that_hold(tmp_path: Path) -> None:
    other = msgspec.structs.replace(pin(), scenario="cn-to-na")
    long = msgspec.structs.replace(pin(), scenario="eu-to-sea", short=False)
    stale = msgspec.structs.replace(pin(), scenario="eu-to-sea")
    file = tmp_path / "pins.toml"
    file.write_text(propose([held_result()], [other, long, stale]))
    assert load_pins(file) == (other, long)


def test_proposed_pins_hold_what_is_broken_where_it_is_and_keep_known_reasons(tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"
    file.write_text(propose([only_latency(), held_result()], [pin()]))
    (made,) = load_pins(file)
    assert (made.scenario, made.promise, made.reason, made.short) == ("sea-to-eu", LATENCY, "why", True)
    assert made.value == pytest.approx(742.4)
    assert not is_bad(only_latency(), pin_states([made], [only_latency()]))
    assert is_bad(only_latency(900.0), pin_states([made], [only_latency(900.0)]))
