"""How long an edge waits before it tries a control plane again."""

from __future__ import annotations

from farcast.proto.control.retries import Retries


def test_waits_double_with_each_round_up_to_a_bound() -> None:
    retries = Retries(lambda: 1.0, addresses=2, retry_ms=500, retry_ms_max=3_000)
    assert [retries.next_wait_ms() for _ in range(8)] == [500, 500, 1_000, 1_000, 2_000, 2_000, 3_000, 3_000]


def test_a_connection_that_lasted_starts_anew() -> None:
    retries = Retries(lambda: 1.0)
    waits = [retries.next_wait_ms() for _ in range(4)]
    assert waits[-1] == 4_000
    assert retries.next_wait_ms(lasted_ms=5_000) == 500


def test_a_standby_that_asks_for_it_is_tried_again_soon_and_ends_the_patience_with_others() -> None:
    retries = Retries(lambda: 1.0, addresses=2)
    for _ in range(20):
        retries.next_wait_ms()
    assert retries.next_wait_ms(asked_ms=2_000) == 2_000
    assert retries.next_wait_ms() == 500
    assert retries.next_wait_ms(asked_ms=10**12) == 10_000, "bounded, whatever a peer says"
