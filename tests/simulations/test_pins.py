"""Pins: a promise that is not kept yet may not get worse, and a pin may go when it is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sim_results import LATENCY, broken_result, held_result

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.pins import Pin, load_pins, pin_states, propose
from farcast.simulations.report.findings import is_bad
from farcast.simulations.results import Result


def only_latency(value: float | None = 742.4) -> Result:
    result = broken_result()
    verdict = msgspec.structs.replace(result.verdicts[0], value=value)
    return msgspec.structs.replace(result, verdicts=(verdict,), invariant_failures=())


def pin(value: float | None = 742.0, allowance: float = 5.0) -> Pin:
    return Pin(scenario="sea-to-eu", promise=LATENCY, reason="why", value=value, allowance=allowance)


@pytest.mark.parametrize(
    ("pinned", "measured", "is_worse"),
    [(742.0, 742.4, False), (742.0, 748.0, True), (900.0, 742.4, False), (742.0, None, True)],
)
def test_worse_is_what_lies_beyond_the_pin_and_its_allowance(
    pinned: float, measured: float | None, is_worse: bool
) -> None:
    result = only_latency(measured)
    states = pin_states([pin(pinned)], [result])
    assert states["sea-to-eu", LATENCY].is_worse is is_worse
    assert is_bad(result, states) is is_worse
    assert is_bad(result, {})


def test_for_a_lower_bound_worse_is_less() -> None:
    result = only_latency()
    verdict = msgspec.structs.replace(result.verdicts[0], value=90.0, limit=95.0, unit="%")
    result = msgspec.structs.replace(result, verdicts=(verdict,))
    assert not pin_states([pin(89.0, 0.0)], [result])["sea-to-eu", LATENCY].is_worse
    assert pin_states([pin(91.0, 0.5)], [result])["sea-to-eu", LATENCY].is_worse


def test_a_pin_of_a_promise_that_holds_can_be_removed() -> None:
    held = Pin(scenario="eu-to-sea", promise=LATENCY, reason="why", value=742.0)
    assert "can be removed" in pin_states([held], [held_result()])["eu-to-sea", LATENCY].state


def test_a_promise_that_is_gone_is_no_way_around_its_pin() -> None:
    renamed = Pin(scenario="eu-to-sea", promise="glass_to_glass p99 < 900 ms", reason="why", value=742.0)
    assert pin_states([renamed], [held_result()])["eu-to-sea", renamed.promise].is_worse
    assert is_bad(held_result(), pin_states([renamed], [held_result()]))


def test_a_pin_of_the_other_form_says_nothing() -> None:
    long = msgspec.structs.replace(pin(), short=False)
    assert pin_states([long], [only_latency()]) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[pin]]\nscenario = 'a'\n", "promise"),
        ("[[pin]]\nscenario = 'a'\npromise = 'b'\nreason = 'c'\nvalu = 1\n", "valu"),
        ("[[pin]]\nscenario = 'a'\npromise = 'b'\nreason = 'c'\n" * 2, "twice"),
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


def test_proposed_pins_hold_what_is_broken_where_it_is_and_keep_known_reasons(tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"
    file.write_text(propose([only_latency(), held_result()], [pin()]))
    (made,) = load_pins(file)
    assert (made.scenario, made.promise, made.reason, made.short) == ("sea-to-eu", LATENCY, "why", True)
    assert made.value == pytest.approx(742.4)
    assert not is_bad(only_latency(), pin_states([made], [only_latency()]))
    assert is_bad(only_latency(900.0), pin_states([made], [only_latency(900.0)]))
