"""Counts a client's moves from edge to edge, and what its user noticed of them. Reads no clock."""

from __future__ import annotations

from dataclasses import dataclass

from farcast.proto.client import events as client

AFTERMATH_US = 3_000_000
"""A pause that begins so long after a move is not put down to it: the old session has ended by then."""

EDGES_LISTED_MAX = 64

CAUSES = {
    "ended": "the session ended",
    "silent": "nothing was heard any more",
    "goaway": "the edge is going away",
}


@dataclass(frozen=True, slots=True)
class MovesReport:
    """``moves`` from one edge to another, ``edges`` used in order of first use, the one used now (empty
    before the first), and the longest pause between two objects of a track around a move; ``None`` without a
    move, or where nothing was received."""

    moves: int = 0
    move_gap_ms_max: float | None = None
    edges: tuple[str, ...] = ()
    edge: str = ""


class MoveMeter:
    """Fed with what the engine says and with the arrivals of media. Times in microseconds of one clock."""

    def __init__(self) -> None:
        self._moves = 0
        self._edges: list[str] = []
        self._edge = ""
        self._arrived_us: dict[str, int] = {}
        self._watched_until_us: int | None = None
        self._gap_us_max: int | None = None

    def connected(self, event: client.Connected) -> None:
        """A session stands."""
        self._edge = event.edge
        if event.edge and event.edge not in self._edges and len(self._edges) < EDGES_LISTED_MAX:
            self._edges.append(event.edge)

    def moved(self, now_us: int) -> None:
        """It is with another edge."""
        self._moves += 1
        self._watched_until_us = now_us + AFTERMATH_US

    def arrived(self, track: str, now_us: int) -> None:
        """An object of a track is there."""
        before_us = self._arrived_us.get(track)
        self._arrived_us[track] = now_us
        if (
            before_us is not None
            and self._watched_until_us is not None
            and before_us < self._watched_until_us
        ):
            self._gap_us_max = max(self._gap_us_max or 0, now_us - before_us)

    def report(self) -> MovesReport:
        """The figures so far."""
        gap_ms = None if self._gap_us_max is None else self._gap_us_max / 1_000
        return MovesReport(self._moves, gap_ms, tuple(self._edges), self._edge)


def describe(event: client.Moved) -> str:
    """A move, for people."""
    return f"moved from {event.before} to {event.edge}: {CAUSES[event.cause]}"
