"""JUnit: what CI servers read out of it."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from sim_results import LATENCY, broken_result, held_result

from farcast.simulations.report.findings import PinState
from farcast.simulations.report.junit import junit


def suites(text: bytes) -> dict[str, ElementTree.Element]:
    return {suite.attrib["name"]: suite for suite in ElementTree.fromstring(text)}


def test_a_broken_promise_is_a_failure_with_value_margin_and_replay_command() -> None:
    suite = suites(junit([broken_result()]))["sea-to-eu"]
    failure = suite.find(f"testcase[@name='{LATENCY}']/failure")
    assert failure is not None
    assert failure.attrib["message"] == "742 ms: 142 ms (24%) too much; worst DE"
    assert "farcast sim replay sea-to-eu --seed 2 --short" in (failure.text or "")


def test_invariants_are_a_case_of_their_own_with_the_seed_that_failed() -> None:
    suite = suites(junit([broken_result()]))["sea-to-eu"]
    failure = suite.find("testcase[@name='invariants']/failure")
    assert failure is not None
    assert "--seed 3" in (failure.text or "")


def test_counts_are_those_of_the_cases() -> None:
    suite = suites(junit([broken_result(), held_result()]))["sea-to-eu"]
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == ("6", "2", "0")


def test_a_run_that_ended_with_an_error_is_an_error() -> None:
    result = broken_result()
    seeds = (msgspec.structs.replace(result.seeds[0], failure="its process was ended by SIGKILL"),)
    suite = suites(junit([msgspec.structs.replace(result, seeds=seeds)]))["sea-to-eu"]
    error = suite.find("testcase[@name='seed 1']/error")
    assert error is not None
    assert "SIGKILL" in error.attrib["message"]


def test_a_pinned_promise_is_skipped_with_its_reason_and_fails_when_it_got_worse() -> None:
    pin = PinState("no worse than pinned at 750 ± 20", "the last mile is not repaired yet")
    key = "sea-to-eu", LATENCY
    case = suites(junit([broken_result()], {key: pin}))["sea-to-eu"].find(f"testcase[@name='{LATENCY}']")
    assert case is not None
    skipped = case.find("skipped")
    assert skipped is not None
    assert "the last mile is not repaired yet" in skipped.attrib["message"]
    worse = PinState("worse than pinned", pin.reason, fails=True)
    case = suites(junit([broken_result()], {key: worse}))["sea-to-eu"].find(f"testcase[@name='{LATENCY}']")
    assert case is not None
    assert case.find("failure") is not None


def test_a_pin_without_need_is_a_failure_of_its_promise() -> None:
    stale = PinState("holds now: take the pin out", "was so once", fails=True)
    gone = PinState("no such promise: correct the pin", "was so once", fails=True)
    pins = {("eu-to-sea", LATENCY): stale, ("eu-to-sea", "resume p99 < 1 s"): gone}
    suite = suites(junit([held_result()], pins))["eu-to-sea"]
    for name, said in ((LATENCY, stale.state), ("resume p99 < 1 s", gone.state)):
        failure = suite.find(f"testcase[@name='{name}']/failure")
        assert failure is not None
        assert said in failure.attrib["message"]
    assert suite.attrib["failures"] == "2"


@given(st.text())
def test_any_text_of_an_error_makes_a_readable_file(text: str) -> None:
    result = held_result()
    seeds = (msgspec.structs.replace(result.seeds[0], failure=text),)
    suites(junit([msgspec.structs.replace(result, seeds=seeds)]))
