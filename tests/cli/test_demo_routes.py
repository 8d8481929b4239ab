"""What the demo says of routes, and the link that it cuts."""

from __future__ import annotations

from typing import Any

from farcast.cli.demo import Seat
from farcast.cli.demo_routes import READS_MAX, film_way, read_told

OLD, NEW = ["jkt-1", "fra-1"], ["jkt-1", "sin-1", "fra-1"]


class Plans:
    """An API whose plan is replaced after so many answers of it."""

    def __init__(self, answers_until_new: int, *, again: bool = False) -> None:
        self.answers = 0
        self.answers_until_new = answers_until_new
        self.again = again

    def get(self, path: str, **_: str) -> dict[str, Any]:
        self.answers += 1
        made = self.answers // self.answers_until_new
        made = made if self.again else min(made, 1)
        way = NEW if made % 2 else OLD
        if path == "/plan":
            return {"sequence": 7 + made}
        if path == "/routes":
            return {"routes": [{"node_id": "fra-1", "path": way, "backups": []}]}
        return {"summary": " > ".join(way), "in_force": way, "kept_back": False, "why_kept_back": ""}


def test_routes_and_their_reason_are_read_again_where_the_plan_moved_between_them() -> None:
    for answers_until_new in range(1, 5):
        told = read_told(Plans(answers_until_new).get, "jkt-1", "fra-1", ["fra-1"])
        assert told.is_one_plan
        assert told.routes[0]["path"] == told.reason["in_force"]
        assert next(iter(told.lines())) == f"plan    {told.sequence}: routes and why are those of this plan"


def test_a_plan_that_moves_at_every_reading_is_said_so() -> None:
    plans = Plans(2, again=True)
    told = read_told(plans.get, "jkt-1", "fra-1", ["fra-1"])
    assert plans.answers == 4 * READS_MAX
    assert next(iter(told.lines())).endswith(": it moved while they were read")


def test_a_route_that_is_not_in_force_yet_is_told_with_the_one_that_is() -> None:
    plans = Plans(100)

    def get(path: str, **query: str) -> dict[str, Any]:
        answer = plans.get(path, **query)
        return answer | {"kept_back": True, "why_kept_back": "a canary has it"} if path == "/why" else answer

    *_, last = read_told(get, "jkt-1", "fra-1", ["fra-1"]).lines()
    assert last.strip() == "not in force yet (a canary has it); now it is jkt-1 > fra-1"


def test_the_way_of_the_film_is_what_the_edge_itself_says_of_its_pictures() -> None:
    tracks = [
        {"name": "audio", "route": ["jkt-1"]},
        {"name": "video", "route": []},
        {"name": "video", "route": ["jkt-1", "sin-1"]},
    ]
    assert film_way({"agent": {"tracks": tracks}}, "fra-1") == NEW
    assert film_way({"agent": {"tracks": tracks[:2]}}, "fra-1") == []
    assert film_way(None, "fra-1") == []


def test_a_viewer_that_is_still_dark_counts_with_the_time_since_its_last_picture() -> None:
    seat = Seat("fra-1", last_picture=100.0, longest_gap=0.04)
    assert seat.gap_until(100.01) == 0.04
    assert seat.gap_until(103.0) == 3.0
    assert Seat("iad-1").gap_until(103.0) == 0.0
