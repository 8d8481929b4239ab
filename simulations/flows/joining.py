"""How viewers get in: a line at each edge, and clients that race for several edges.

An edge takes joins one after another: QUIC's handshake and MoQT's SETUP are one piece of work, the
subscriptions another. Their sum is what ``make bench-joins`` measured on a real edge. A piece that comes
while others wait, waits; so a line is a running maximum,

    done_i = max(come_i, done_{i-1}) + work_i = S_i + max_{j<=i}(come_j - S_{j-1}), S_i = work_1 + … + work_i

which takes a hundred thousand joins at once.

Clients race as the shipped ones do (`proto.client.race`): the nearest edge at once, the next one 150 ms
later unless a session stands, three at a time. So an edge that is behind by more than 150 ms sends work to
its neighbours, and work for attempts that lose the race is done for nothing: that is the overload behaviour
of the shipped edge. It sheds nothing for load: beyond `SESSIONS_MAX` it refuses (and the race goes on at
once), with too many handshakes under way it asks for a Retry (one round trip more), and neither the edge
list's load nor a redirect moves a newcomer. A client without a session after 10 s gives up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.proto.agent.config import AgentLimits
from farcast.proto.client.race import ATTEMPT_US_MAX, ATTEMPTS_MAX, STAGGER_US

Times = NDArray[np.int64]
Positions = NDArray[np.int64]
Floats = NDArray[np.float64]

NEVER: Final = 1 << 50
"""A time that does not come."""

JOINS_PER_S: Final = 1_000.0
"""Of one edge, rounded down from `make bench-joins` on two shared cores (1,100; its busiest thread alone
would take 2,000)."""

SETUP_SHARE: Final = 0.6
"""Of a join's work, up to the session: a bare handshake costs the server 0.56 of what a join does."""

SESSIONS_MAX: Final = AgentLimits().sessions_max
CONNECT_US_MAX: Final = 10_000_000
"""`ConnectionConfig.connect_ms_max`: the first session must stand by then."""

EDGES_TRIED_MAX: Final = 6
INITIAL_PTO_US: Final = 360_000
"""Three times the initial RTT that clients assume: what a lost first packet costs."""

STRETCH_US: Final = 10_000
"""Work that comes within so much time stands in line by kind, not by time."""

PACKETS_AN_EXCHANGE: Final = 2.5
"""Of which the loss of one holds up a join: the server's flight is two to three, the client's one to two."""

ROUNDS_QUIC: Final = 2.1
ROUNDS_WEBTRANSPORT: Final = 3.05
"""Round trips from the first packet to the server's SETUP: the handshake, and SETUP after Finished; over
WebTransport one more, for SETTINGS and CONNECT. The packet level's: 2.1 to 2.3, and 2.9 to 3.1."""

_FAR: Final = 1 << 44
"""Beyond any time of a run, so that lines of a few thousand edges can stand in one array."""


class Lines:
    """The lines at all edges. Work must be brought in the order of time, but for what one call brings."""

    def __init__(self, edges: int) -> None:
        self._free_us = np.zeros(edges, np.int64)
        self.work_us = np.zeros(edges, np.int64)
        """Done at each edge so far, promised included."""

    def wait_us(self, now_us: int) -> Times:
        """How long who comes now would wait, by edge."""
        waits: Times = np.maximum(self._free_us - now_us, 0)
        return waits

    def serve(self, edge: Positions, come_us: Times, work_us: Times | int) -> Times:
        """When each piece of work is done."""
        work = np.broadcast_to(np.asarray(work_us, np.int64), come_us.shape)
        order = np.lexsort((come_us, edge))
        at, come, work = edge[order], come_us[order], work[order]
        if not len(at):
            return np.zeros(0, np.int64)
        first = np.append(True, np.diff(at) != 0)
        group = np.cumsum(first) - 1
        total = np.cumsum(work)
        before = total - work
        base = before[first][group]
        come = np.where(first, np.maximum(come, self._free_us[at]), come)
        begin = np.maximum.accumulate(come - (before - base) + group * _FAR) - group * _FAR
        done = begin + (total - base)
        last = np.append(np.diff(at) != 0, True)
        self._free_us[at[last]] = done[last]
        np.add.at(self.work_us, at, work)
        result = np.empty(len(at), np.int64)
        result[order] = done
        return result


@dataclass(frozen=True, slots=True)
class Crowd:
    """Viewers by position: when they tap, and of which kind each is; and what a kind is like.

    ``edges[kind, k]``: positions of edges, nearest first, -1 beyond the last; ``rtt_us`` to them;
    ``loss[kind]``: of a packet either way; ``rounds[kind]``: round trips until a session stands.
    """

    tap_us: Times
    kind: Positions
    edges: Positions
    rtt_us: Times
    loss: Floats
    rounds: Floats


class _Pieces:
    """Work on its way to edges: when it comes, for which viewer, to which edge, and what it is."""

    def __init__(self) -> None:
        self._columns: list[list[NDArray[np.int64]]] = [[], [], [], []]
        self.next_us = NEVER

    def add(self, come_us: Times, viewer: Positions, edge: Positions, what: Positions) -> None:
        """More work."""
        for column, values in zip(self._columns, (come_us, viewer, edge, what), strict=True):
            column.append(values)
        self.next_us = min(self.next_us, int(come_us.min(initial=NEVER)))

    def take(self, until_us: int) -> tuple[Times, Positions, Positions, Positions]:
        """What comes before a time."""
        none = [np.zeros(0, np.int64)]
        columns = [np.concatenate(none + column) for column in self._columns]
        due = columns[0] < until_us
        self._columns = [[column[~due]] for column in columns]
        self.next_us = int(columns[0][~due].min(initial=NEVER))
        come_us, viewer, edge, what = (column[due] for column in columns)
        return come_us, viewer, edge, what


class Joins:
    """All viewers on their way in. Call `step` for one stretch of time after another."""

    def __init__(self, crowd: Crowd, edges: int, seed: int, joins_per_s: float = JOINS_PER_S) -> None:
        count = len(crowd.tap_us)
        self._crowd = crowd
        self._draw = np.random.default_rng([seed, 1])
        self._setup_us = round(1e6 / joins_per_s * SETUP_SHARE)
        self._rest_us = round(1e6 / joins_per_s) - self._setup_us
        self.lines = Lines(edges)
        self.sessions = np.zeros(edges, np.int64)
        self.alive = np.ones(edges, np.bool_)
        self.established_us = np.full(count, NEVER, np.int64)
        self.subscribed_us = np.full(count, NEVER, np.int64)
        """When the edge has dealt with the subscriptions, and media can go."""
        self.edge = np.full(count, -1, np.int64)
        self.choice = np.full(count, -1, np.int64)
        """Which of its edges, counted from the nearest."""
        self.failed = np.zeros(count, np.bool_)
        self.attempts = 0
        self.refused = 0
        self._deadline_us = crowd.tap_us + CONNECT_US_MAX
        self._begun_us = np.full((count, EDGES_TRIED_MAX), NEVER, np.int64)
        self._order = np.argsort(crowd.tap_us, kind="stable")
        """Viewers in the order of their taps; those before ``_came`` have tapped."""
        self._came = 0
        self._queue: list[tuple[Positions, Positions, Times]] = []
        self._pieces = _Pieces()
        self._racing = np.zeros(0, np.int64)
        """Viewers that have begun, and have neither a session nor given up."""
        self._is_racing = np.zeros(count, np.bool_)

    @property
    def next_us(self) -> int:
        """When somebody taps, tries again, gets through or gives up next; `NEVER` if nobody does."""
        times = [int(at.min()) for _, _, at in self._queue if len(at)]
        times.append(self._pieces.next_us)
        if self._came < len(self._order):
            times.append(int(self._crowd.tap_us[self._order[self._came]]))
        if len(self._racing):
            over_us = np.minimum(self.established_us[self._racing], self._deadline_us[self._racing])
            times.append(int(over_us.min()))
        return min(times, default=NEVER)

    def start(self, viewers: Positions, at_us: Times) -> None:
        """They look for an edge again."""
        self.leave(viewers)
        self.choice[viewers] = -1
        self.established_us[viewers] = self.subscribed_us[viewers] = NEVER
        self._begun_us[viewers] = NEVER
        self._deadline_us[viewers] = at_us + CONNECT_US_MAX
        self._queue.append((viewers, np.zeros(len(viewers), np.int64), at_us))

    def leave(self, viewers: Positions) -> None:
        """They are gone."""
        there = viewers[self.edge[viewers] >= 0]
        np.subtract.at(self.sessions, self.edge[there], 1)
        self.edge[viewers] = -1
        self._is_racing[viewers] = False
        self._racing = self._racing[self._is_racing[self._racing]]

    def step(self, until_us: int) -> None:
        """Let everything happen that begins before a time."""
        while (next_us := self.next_us) < until_us:
            stop_us = min(until_us, next_us + STRETCH_US)
            if (due := self._take_due(stop_us)) is not None:
                self._try(*due)
            self._serve(stop_us)
            self._settle(stop_us)

    def _take_due(self, until_us: int) -> tuple[Positions, Positions, Times] | None:
        came = self._came
        taps = self._crowd.tap_us
        last = (
            int(np.searchsorted(taps[self._order[came:]], until_us)) + came
            if came < len(self._order)
            else came
        )
        new = self._order[came:last]
        self._came = last
        parts = [(new, np.zeros(len(new), np.int64), taps[new]), *self._queue]
        viewer, k, at_us = (np.concatenate(column) for column in zip(*parts, strict=True))
        due = at_us < until_us
        rest = ~due
        self._queue = [(viewer[rest], k[rest], at_us[rest])] if rest.any() else []
        return (viewer[due], k[due], at_us[due]) if due.any() else None

    def _try(self, viewer: Positions, k: Positions, at_us: Times) -> None:
        """Attempts that begin; and when the next one of each viewer would."""
        new = viewer[k == 0]
        self._is_racing[new] = True
        self._racing = np.concatenate([self._racing, new])
        wanted = self._is_racing[viewer] & (self.established_us[viewer] > at_us)
        wanted &= self._deadline_us[viewer] > at_us
        viewer, k, at_us = viewer[wanted], k[wanted], at_us[wanted]
        kind = self._crowd.kind[viewer]
        edge, rtt_us = self._crowd.edges[kind, k], self._crowd.rtt_us[kind, k]
        self._begun_us[viewer, k] = at_us
        self.attempts += len(viewer)
        full = self.alive[edge] & (self.sessions[edge] >= SESSIONS_MAX)
        self.refused += int(full.sum())
        taken = self.alive[edge] & ~full
        come_us = at_us + rtt_us // 2 + self._lost_us(kind, np.full(len(kind), INITIAL_PTO_US))
        self._pieces.add(come_us[taken], viewer[taken], edge[taken], k[taken])
        self._next(viewer, k, np.where(full, at_us + rtt_us, at_us + STAGGER_US))

    def _serve(self, until_us: int) -> None:
        """Edges deal with what has come to them: attempts (``k`` of them), and subscriptions (-1)."""
        come_us, viewer, edge, k = self._pieces.take(until_us)
        done_us = self.lines.serve(edge, come_us, np.where(k >= 0, self._setup_us, self._rest_us))
        rest = (k < 0) & (self.edge[viewer] == edge)
        self.subscribed_us[viewer[rest]] = done_us[rest]
        first = (k >= 0) & self._is_racing[viewer]
        viewer, k, done_us = viewer[first], k[first], done_us[first]
        kind = self._crowd.kind[viewer]
        rtt_us = self._crowd.rtt_us[kind, k]
        rounds = self._crowd.rounds[kind] - 0.5
        established_us = done_us + (rtt_us * rounds).astype(np.int64) + self._lost_us(kind, 2 * rtt_us)
        # The soonest last, so that it is the one that stays where a viewer has several.
        order = np.argsort(-established_us, kind="stable")
        order = order[established_us[order] < self.established_us[viewer[order]]]
        self.established_us[viewer[order]] = established_us[order]
        self.choice[viewer[order]] = k[order]

    def _next(self, viewer: Positions, k: Positions, at_us: Times) -> None:
        """A fourth attempt waits until the first one has had its time."""
        k = k + 1
        oldest = np.maximum(k - ATTEMPTS_MAX, 0)
        room_us = np.where(k >= ATTEMPTS_MAX, self._begun_us[viewer, oldest] + ATTEMPT_US_MAX, 0)
        at_us = np.maximum(at_us, room_us)
        there = k < min(self._crowd.edges.shape[1], EDGES_TRIED_MAX)
        viewer, k, at_us = viewer[there], k[there], at_us[there]
        known = self._crowd.edges[self._crowd.kind[viewer], k] >= 0
        if known.any():
            self._queue.append((viewer[known], k[known], at_us[known]))

    def _settle(self, until_us: int) -> None:
        """Races that are over: who has a session subscribes, who has none in time gives up."""
        racing = self._racing
        established_us = self.established_us[racing]
        given_up = racing[self._deadline_us[racing] < np.minimum(established_us, until_us)]
        self.failed[given_up] = True
        won = racing[(established_us < until_us) & (established_us <= self._deadline_us[racing])]
        self._is_racing[given_up] = self._is_racing[won] = False
        self._racing = racing[self._is_racing[racing]]
        kind, k = self._crowd.kind[won], self.choice[won]
        edge, rtt_us = self._crowd.edges[kind, k], self._crowd.rtt_us[kind, k]
        self.edge[won] = edge
        np.add.at(self.sessions, edge, 1)
        come_us = self.established_us[won] + rtt_us // 2 + self._lost_us(kind, 2 * rtt_us)
        self._pieces.add(come_us, won, edge, np.full(len(won), -1))

    def _lost_us(self, kind: Positions, each_us: Times) -> Times:
        """What losses of one exchange cost: so many times a timeout."""
        whole = (1 - self._crowd.loss[kind]) ** PACKETS_AN_EXCHANGE
        lost = self._draw.geometric(np.clip(whole, 0.01, 1.0)) - 1
        times: Times = np.minimum(lost, 8) * each_us
        return times
