"""Which plan is sent to an edge, and what its answers change."""

from __future__ import annotations

from farcast.control_plane.rollout import EdgeRollout
from farcast.proto.control.messages import Epoch, PlanVersion
from farcast.proto.control.plan_rules import EMPTY, Tables

SECOND = 1_000_000
ONE = Tables({}, {}, {(b"a",): "sin-1"}, None)
TWO = Tables({}, {}, {(b"b",): "sin-1"}, None)


def version(sequence: int) -> PlanVersion:
    return PlanVersion(epoch=Epoch(cluster="shows", number=1), sequence=sequence)


def test_one_plan_at_a_time_and_nothing_that_the_edge_has() -> None:
    rollout = EdgeRollout()
    assert rollout.wants(EMPTY, 0)
    rollout.handle_sent(version(1), ONE, 0)
    assert not rollout.wants(TWO, 0)
    assert rollout.handle_ack(version(1), 1)
    assert not rollout.wants(ONE, 1)
    assert rollout.wants(TWO, 1)


def test_an_edge_that_comes_back_goes_on_from_what_it_holds_even_if_its_answer_was_lost() -> None:
    rollout = EdgeRollout()
    rollout.handle_sent(version(1), ONE, 0)
    rollout.handle_join(version(1))
    assert rollout.acked == (version(1), ONE)
    assert rollout.is_current(ONE)


def test_an_edge_that_holds_something_unknown_gets_all() -> None:
    rollout = EdgeRollout(acked=(version(1), ONE))
    rollout.handle_join(version(9))
    assert rollout.acked is None


def test_a_refusal_is_answered_by_a_whole_plan_once_and_then_ever_more_rarely() -> None:
    rollout = EdgeRollout(acked=(version(1), ONE))
    waits, now_us = [], 0
    for sequence in range(2, 9):
        rollout.handle_sent(version(sequence), TWO, now_us)
        assert rollout.handle_nack(version(sequence), "no", now_us)
        assert rollout.acked is None
        wait_us = max(rollout.retry_us - now_us, 0)
        assert not wait_us or not rollout.wants(TWO, now_us)
        now_us += wait_us
        waits.append(wait_us // SECOND)
        assert rollout.wants(TWO, now_us)
    assert waits == [0, 5, 10, 20, 40, 60, 60]
    rollout.handle_sent(version(9), TWO, now_us)
    rollout.handle_ack(version(9), now_us)
    assert (rollout.nacks, rollout.nacks_in_a_row, rollout.reason) == (7, 0, "")


def test_answers_to_something_else_change_nothing() -> None:
    rollout = EdgeRollout()
    rollout.handle_sent(version(2), ONE, 0)
    assert not rollout.handle_ack(version(1), 0)
    assert not rollout.handle_nack(version(3), "no", 0)
    assert rollout.sent == (version(2), ONE)


def test_an_answer_is_owed_within_a_time() -> None:
    rollout = EdgeRollout()
    rollout.handle_sent(version(2), ONE, SECOND)
    assert not rollout.is_overdue(11 * SECOND - 1)
    assert rollout.is_overdue(11 * SECOND)


def test_a_refusal_does_not_hold_back_an_escape() -> None:
    rollout = EdgeRollout(acked=(version(1), ONE))
    for sequence in (2, 3, 4):
        rollout.handle_sent(version(sequence), TWO, 0)
        rollout.handle_nack(version(sequence), "no", 0)
    assert not rollout.wants(TWO, SECOND)
    rollout.hurry()
    assert rollout.wants(TWO, SECOND)
