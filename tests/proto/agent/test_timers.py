"""Deadlines and backoff."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.agent.backoff import Backoff, BackoffConfig
from farcast.proto.agent.timers import Timers

keys = st.integers(0, 5)
steps = st.lists(st.tuples(st.sampled_from(["set", "cancel", "pop", "if unset"]), keys, st.integers(0, 20)))


@given(steps)
def test_timers_do_what_a_dictionary_would(actions: list[tuple[str, int, int]]) -> None:
    timers: Timers[int] = Timers()
    model: dict[int, tuple[int, int]] = {}
    for serial, (action, key, value) in enumerate(actions):
        if action == "set" or (action == "if unset" and key not in model):
            model[key] = (value, serial)
        if action == "set":
            timers.set(key, value)
        elif action == "if unset":
            timers.set_if_unset(key, value)
        elif action == "cancel":
            timers.cancel(key)
            model.pop(key, None)
        else:
            due = min(((at, s, k) for k, (at, s) in model.items() if at <= value), default=None)
            assert timers.pop_due(value) == (due[2] if due else None)
            model.pop(due[2] if due else -1, None)
        assert timers.next_at() == min((at for at, _ in model.values()), default=None)
        assert all(timers.is_set(key) == (key in model) for key in range(6))


def test_a_timer_that_is_moved_for_ever_does_not_grow_the_heap() -> None:
    timers: Timers[str] = Timers()
    for at_us in range(100_000):
        timers.set("linger", at_us)
    assert len(timers._heap) < 200


@given(st.integers(0, 2**64), st.integers(1, 500), st.integers(500, 60_000))
def test_waits_double_up_to_the_maximum_and_are_spread_over_its_upper_half(
    seed: int, initial_ms: int, max_ms: int
) -> None:
    backoff = Backoff(BackoffConfig(initial_ms, max_ms), seed)
    for failure in range(12):
        full_us = min(initial_ms << failure, max_ms) * 1_000
        assert full_us // 2 <= backoff.next_wait_us() <= full_us
    assert backoff.failures == 12


def test_a_connection_that_lasted_starts_the_waits_anew() -> None:
    backoff = Backoff(BackoffConfig(100, 10_000, 5_000), 1)
    for _ in range(6):
        backoff.next_wait_us(4_999_999)
    assert backoff.next_wait_us() > 100_000
    assert backoff.next_wait_us(5_000_000) <= 100_000


def test_one_seed_gives_one_series() -> None:
    one, same, other = (Backoff(BackoffConfig(), seed) for seed in (1, 1, 2))
    waits = [[b.next_wait_us() for _ in range(8)] for b in (one, same, other)]
    assert waits[0] == waits[1] != waits[2]
