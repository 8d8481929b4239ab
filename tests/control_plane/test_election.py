"""Who leads, by what Consul answers: the table "what happens when" in virtual time."""

from __future__ import annotations

import base64
import json

import pytest
from consul_kv import SECOND, Caller, ConsulKv
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.control_plane.registry.calls import Lane, Reply, Request
from farcast.control_plane.registry.leader import WATCH_PAUSE_US, Election

KEY = "farcast/shows/leader"
STEP_US = 50_000
TAKEOVER_US_MAX = 9 * SECOND
"""Of the 15 s that were promised; edges have the rest to come."""


class Candidates:
    """Control planes of one cluster, each with an election, beside one Consul."""

    def __init__(self, *names: str, consul: ConsulKv | None = None) -> None:
        self.consul = consul or ConsulKv()
        self.now_us = 0
        self.elections = {name: Election("shows", name, "x", 1, lambda: 0.5) for name in names}
        self.callers = {name: self._caller(election) for name, election in self.elections.items()}

    def _caller(self, election: Election) -> Caller:
        return Caller(self.consul, election.poll_request, election.handle_reply)

    def run(self, seconds: float) -> None:
        end_us = self.now_us + int(seconds * SECOND)
        while self.now_us < end_us:
            self.now_us += STEP_US
            for caller in self.callers.values():
                caller.turn(self.now_us)

    @property
    def leaders(self) -> dict[str, int]:
        return {name: election.epoch for name, election in self.elections.items() if election.epoch}

    def kill(self, name: str) -> None:
        del self.elections[name], self.callers[name]


def led_by_c1() -> Candidates:
    candidates = Candidates("c1")
    candidates.run(3)
    candidates.elections["c2"] = Election("shows", "c2", "x", 1, lambda: 0.5)
    candidates.callers["c2"] = candidates._caller(candidates.elections["c2"])
    candidates.run(3)
    assert list(candidates.leaders) == ["c1"]
    return candidates


def test_one_of_three_leads_and_all_know_who() -> None:
    candidates = Candidates("c1", "c2", "c3")
    candidates.run(5)
    (leader,) = candidates.leaders
    assert {election.leader for election in candidates.elections.values()} == {leader}


def test_leader_killed_the_standby_leads_in_time_in_a_higher_epoch() -> None:
    candidates = led_by_c1()
    epoch = candidates.leaders["c1"]
    candidates.kill("c1")
    candidates.run(TAKEOVER_US_MAX / SECOND)
    assert candidates.leaders["c2"] > epoch


def test_leader_that_resigns_is_followed_at_once() -> None:
    candidates = led_by_c1()
    for request in candidates.elections["c1"].resignation():
        assert candidates.consul.answer(request, candidates.now_us) is not None
    candidates.kill("c1")
    candidates.run(0.5)
    assert list(candidates.leaders) == ["c2"]


@pytest.mark.parametrize("status", [0, 500])
def test_without_quorum_the_leader_leads_on_and_nobody_is_elected(status: int) -> None:
    candidates = led_by_c1()
    before = candidates.leaders
    candidates.consul.failing = status
    candidates.run(600)
    assert candidates.leaders == before
    assert candidates.elections["c2"].failure is not None
    candidates.consul.failing = None
    candidates.run(20)
    assert len(candidates.leaders) == 1


def test_consul_back_the_leader_has_its_lock_again_although_a_standby_is_faster() -> None:
    candidates = led_by_c1()
    before = candidates.leaders
    candidates.consul.failing = 0
    candidates.run(20)
    candidates.consul.failing = None
    candidates.callers["c1"].paused = True
    candidates.run(2)
    candidates.callers["c1"].paused = False
    candidates.run(15)
    assert candidates.leaders == before


def test_consul_back_the_session_ends_a_moment_later_and_the_leader_still_comes_first() -> None:
    candidates = led_by_c1()
    before, session = candidates.leaders, candidates.elections["c1"].session
    assert session is not None
    candidates.consul.failing = 0
    candidates.run(2)
    candidates.consul.failing = None
    candidates.run(2)
    candidates.callers["c1"].paused = True
    candidates.consul.end_session(session, candidates.now_us)
    candidates.run(2)
    candidates.callers["c1"].paused = False
    candidates.run(10)
    assert candidates.leaders == before


def test_consul_back_a_standby_does_not_wait_for_a_dead_leader_for_ever() -> None:
    candidates = led_by_c1()
    candidates.consul.failing = 500
    candidates.run(20)
    candidates.kill("c1")
    candidates.consul.failing = None
    candidates.run(15)
    assert list(candidates.leaders) == ["c2"]


def test_failures_are_met_with_patience() -> None:
    candidates = led_by_c1()
    candidates.consul.failing = 500
    asked = len(candidates.consul.asked)
    candidates.run(60)
    for_each_lane = 60 / 0.5 * 2
    assert len(candidates.consul.asked) - asked <= for_each_lane * len(candidates.elections)


def test_session_lost_the_leader_takes_the_lock_again_and_reigns_on() -> None:
    candidates = led_by_c1()
    before, session = candidates.leaders, candidates.elections["c1"].session
    candidates.callers["c2"].paused = True
    assert session is not None
    candidates.consul.end_session(session, candidates.now_us)
    candidates.run(5)
    assert candidates.leaders == before
    assert candidates.elections["c1"].session not in (None, session)
    assert candidates.elections["c1"].acquired == 2


def test_session_lost_to_a_standby_the_leader_stands_down() -> None:
    candidates = led_by_c1()
    session = candidates.elections["c1"].session
    assert session is not None
    candidates.callers["c1"].paused = True
    candidates.consul.end_session(session, candidates.now_us)
    candidates.run(3)
    assert set(candidates.leaders) == {"c1", "c2"}, "neither can know of the other yet"
    candidates.callers["c1"].paused = False
    candidates.run(1)
    assert list(candidates.leaders) == ["c2"]


def test_two_leaders_have_two_epochs_and_the_older_one_stands_down() -> None:
    candidates = led_by_c1()
    candidates.callers["c1"].paused = True
    candidates.run(10)
    epochs = candidates.leaders
    assert epochs["c2"] > epochs["c1"]
    candidates.callers["c1"].paused = False
    candidates.run(6)
    assert candidates.leaders == {"c2": epochs["c2"]}


def test_kv_emptied_the_leader_keeps_its_reign_although_a_standby_is_faster() -> None:
    candidates = led_by_c1()
    before = candidates.leaders
    candidates.callers["c1"].paused = True
    candidates.consul.empty()
    candidates.run(1)
    candidates.callers["c1"].paused = False
    candidates.run(10)
    assert candidates.leaders == before
    assert candidates.elections["c1"].acquired == 2


def test_kv_emptied_while_nobody_leads_a_standby_does_not_wait_for_ever() -> None:
    candidates = led_by_c1()
    epoch = candidates.leaders["c1"]
    candidates.kill("c1")
    candidates.consul.empty()
    candidates.run(15)
    assert candidates.leaders["c2"] > epoch


def test_another_consul_in_its_place_indexes_fall_and_the_leader_stays() -> None:
    candidates = led_by_c1()
    before = candidates.leaders
    candidates.consul.index = 9_000
    candidates.run(6)
    candidates.consul.restart()
    candidates.run(12)
    assert candidates.leaders == before
    assert candidates.consul.keys[KEY].session == candidates.elections["c1"].session


def test_epoch_is_above_the_lock_index_and_above_what_edges_follow() -> None:
    candidates = Candidates("c1")
    candidates.elections["c1"].see_epoch(40)
    candidates.run(3)
    assert candidates.leaders == {"c1": 41}
    candidates.elections["c1"].see_epoch(77)
    candidates.run(6)
    assert candidates.leaders == {"c1": 78}


def test_epoch_is_above_a_lock_index_that_others_drove_up() -> None:
    consul = ConsulKv()
    candidates = Candidates("c0", consul=consul)
    candidates.run(3)
    consul.keys[KEY].lock_index = 500
    candidates.kill("c0")
    later = Candidates("c1", consul=consul)
    later.now_us = candidates.now_us
    later.run(12)
    assert later.leaders["c1"] == 502


def test_a_process_started_again_does_not_keep_the_session_of_the_one_before() -> None:
    first, second = (Election("shows", "c1", instance, 1, lambda: 0.0) for instance in ("aa", "bb"))
    assert first.service_id != second.service_id


def test_the_check_of_the_session_is_our_own_and_the_lock_delay_one_second() -> None:
    candidates = Candidates("c1")
    candidates.run(3)
    (created,) = [json.loads(r.body) for r in candidates.consul.asked if r.path == "/v1/session/create"]
    assert created["LockDelay"] == "1s"
    assert created["ServiceChecks"] == [{"ID": "service:farcast-control-shows-c1-x"}]
    assert created["NodeChecks"] == ["serfHealth"]
    assert "TTL" not in created


def test_queries_block_for_less_than_the_client_waits() -> None:
    candidates = led_by_c1()
    candidates.run(20)
    watches = [request for request in candidates.consul.asked if "wait=" in request.path]
    assert watches
    for request in watches:
        wait_s = int(request.path.rpartition("wait=")[2].removesuffix("s"))
        assert wait_s * SECOND * 17 / 16 < request.timeout_us


def test_a_key_that_changes_all_the_time_is_not_followed_without_end() -> None:
    candidates = led_by_c1()
    asked = len(candidates.consul.asked)
    for _ in range(40):
        candidates.consul.index += 1
        candidates.consul.keys[KEY].index = candidates.consul.index
        candidates.run(0.05)
    watched = [request for request in candidates.consul.asked[asked:] if "wait=" in request.path]
    assert len(watched) <= 2 * (2 * SECOND // WATCH_PAUSE_US + 1)


VALUES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.none()).map(
        lambda value: json.dumps(value).encode()
    ),
    st.builds(
        lambda name, epoch: json.dumps({"name": name, "epoch": epoch}).encode(),
        st.text(max_size=5) | st.integers(),
        st.integers() | st.floats(allow_nan=False) | st.booleans(),
    ),
)
BODIES = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda value, lock, session: json.dumps(
            [{"Value": base64.b64encode(value).decode(), "LockIndex": lock, "Session": session}]
        ).encode(),
        VALUES,
        st.integers(0, 2**60),
        st.none() | st.text(max_size=5),
    ),
    st.sampled_from([b"true", b"false", b"null", b"[]", b"[[]]", b"{}", b'{"ID": 7}', b"[" * 9_000]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 200, 404, 409, 500]), BODIES, st.integers(0, 2**40)), max_size=30)
)
def test_whatever_consul_answers_the_election_goes_on(replies: list[tuple[int, bytes, int]]) -> None:
    election, now_us = Election("shows", "c1", "x", 1, lambda: 0.5), 0
    for status, body, index in replies:
        now_us += 2 * SECOND
        lanes = []
        while (request := election.poll_request(now_us)) is not None:
            assert isinstance(request, Request)
            lanes.append(request.lane)
        assert len(lanes) == len(set(lanes)), "one request a lane"
        for lane in lanes:
            election.handle_reply(lane, Reply(status, body, index), now_us)
        assert election.epoch < 2**60 + 2
    due_us = election.poll_timeout()
    assert due_us is not None
    assert due_us <= now_us + 2 * SECOND


def test_an_answer_that_makes_no_sense_is_a_failure_and_not_the_end() -> None:
    candidates = led_by_c1()
    candidates.elections["c2"].handle_reply(Lane.LOCK, Reply(200, b"<html>"), candidates.now_us)
    assert "not understood" in (candidates.elections["c2"].failure or "")
