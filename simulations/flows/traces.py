"""What viewers with a seat got, frame by frame, over the routes and joins that a run had.

Frames first come to each edge once, for all its viewers (what is late on a hop is late for all); then each
viewer's access adds its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.flows.delays import (
    QUEUE_US_MAX,
    congestion_rate_bps,
    in_order,
    losses_of,
    packets_of,
    propagation_us,
    repair_us,
    through_rate,
)
from farcast.simulations.flows.joining import NEVER
from farcast.simulations.flows.load import ACCESS_PACKETS_PER_S, Audience, Seat
from farcast.simulations.flows.network import MEDIA_PACKET_BITS, FlowNetwork
from farcast.simulations.flows.routes import Routes, epochs
from farcast.simulations.flows.tracks import Published, Tracks
from farcast.simulations.raw import ARRIVAL_DTYPE, Array, ClientTrace, LinkUse, Move, Watched
from farcast.simulations.worlds import Client

Times = NDArray[np.int64]
Floats = NDArray[np.float64]

WINDOW_BYTES_FIRST: Final = 14_720
"""QUIC's initial congestion window: what a join's burst may send in its first round trip; twice as much in
the next."""

SPACING_MS: Final = 0.3
"""Between packets of one frame on a hop."""

CHUNK_OVERHEAD: Final = 1.10
"""Wire bytes of a hop by payload: headers of chunk, QUIC and UDP, heartbeats and acknowledgements."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A viewer at an edge, its ``choice``-th nearest. Sessions stand from ``established_us``; the edge has
    dealt with the subscriptions at ``subscribed_us``; nothing comes any more from ``lost_us`` on. ``cause``:
    why it was left."""

    edge: int
    choice: int
    established_us: int
    subscribed_us: int
    lost_us: int = NEVER
    cause: str = ""


class Follower:
    """``shares``: from when on which part of the media gets through to viewers ``[tree, node]``."""

    def __init__(
        self,
        network: FlowNetwork,
        tracks: Tracks,
        routes: Routes,
        audience: Audience,
        shares: Sequence[tuple[int, Floats]],
        seed: int,
    ) -> None:
        self._network, self._tracks, self._routes = network, tracks, routes
        self._audience, self._crowd = audience, audience.crowd
        self._share_us = np.array([at for at, _ in shares], np.int64)
        self._shares = [share for _, share in shares]
        self._seed = seed
        self._sent: dict[int, Times] = {}
        self._at_edge: dict[tuple[int, int], Times] = {}

    # ---- To the edges -----------------------------------------------------------------------------

    def at_edge(self, track: int, edge: int) -> Times:
        """When each frame of a track is whole at an edge, in order of its groups."""
        found = self._at_edge.get((track, edge))
        if found is None:
            found = self._at_edge[track, edge] = self._carry(track, edge)
        return found

    def _handed_over(self, track: int) -> Times:
        """When each frame is whole at the publisher's edge."""
        if track not in self._sent:
            each = next(p for p in self._tracks.published if p.first <= track < p.first + len(p.film.tracks))
            self._send(each)
        return self._sent[track]

    def _send(self, each: Published) -> None:
        """All tracks of a publisher share its uplink."""
        draw = np.random.default_rng([self._seed, 5, each.first])
        indices = range(each.first, each.first + len(each.film.tracks))
        frames = np.concatenate([self._tracks.by_track[k] for k in indices])
        encode_us = np.array([self._tracks.encode_us(k) for k in range(len(self._tracks.infos))], np.int64)
        ready_us = frames["capture_us"] + encode_us[frames["track"]]
        arrived_us = self._over_access(each.client, 0, True, ready_us, frames, draw)[0]
        for k in indices:
            self._sent[k] = arrived_us[frames["track"] == k]

    def _carry(self, track: int, edge: int) -> Times:
        row, frames = int(self._tracks.row[track]), self._tracks.by_track[track]
        sent_us = self._handed_over(track)
        at_us = sent_us.copy()
        rate = float(self._tracks.rate_bps[track]) / MEDIA_PACKET_BITS
        packets = packets_of(frames["bytes"].astype(np.int64))
        for from_us, until_us, parents in epochs(self._routes.history):
            mine = np.flatnonzero((sent_us >= from_us) & (sent_us < until_us))
            way = self._routes.way(parents, row, edge)
            if not len(mine):
                continue
            if not way:
                at_us[mine] = NEVER
                continue
            straight_us = sent_us[mine]
            delayed_us = straight_us.copy()
            for src, dst in pairwise(way):
                arrived_us = self._over_hop(src, dst, straight_us, packets[mine], rate, track)
                delayed_us = np.minimum(delayed_us + arrived_us - straight_us, NEVER)
                straight_us = arrived_us
                self._hold_up(row, dst, straight_us, delayed_us)
            at_us[mine] = delayed_us
        return in_order(at_us, frames["group"].astype(np.int64))

    def _over_hop(self, src: int, dst: int, at_us: Times, packets: Times, rate: float, track: int) -> Times:
        """A hop as it was at the time."""
        draw = np.random.default_rng([self._seed, 6, src, dst, track])
        model = self._network.model(src, dst)
        result = at_us + propagation_us(model, at_us, draw)
        for from_us, until_us, extra_ms, fault_loss in self._network.spells(src, dst):
            mine = (at_us >= from_us) & (at_us < until_us)
            if not mine.any():
                continue
            losses = losses_of(model, rate)
            if fault_loss > 0:
                losses = type(losses)(
                    1 - (1 - losses.share) * (1 - fault_loss), losses.burst, losses.burst_ms
                )
            rtt_ms = float(self._network.delay_ms[src, dst] + self._network.delay_ms[dst, src]) + 2 * extra_ms
            result[mine] += round(1e3 * extra_ms)
            result[mine] += repair_us(packets[mine], losses, rtt_ms, SPACING_MS, draw, is_hop=True)
        return result

    def _hold_up(self, row: int, node: int, straight_us: Times, delayed_us: Times) -> None:
        """What would have come while nothing came comes when the gap is over, out of the next one's cache,
        whatever became of it on the way that was left. ``straight_us``: without any gaps."""
        for gap in self._routes.gaps:
            if (gap.tree, gap.node) == (row, node):
                end_us = NEVER if gap.end_us is None else gap.end_us
                hit = (straight_us >= gap.begin_us) & ((straight_us < end_us) | (delayed_us >= NEVER))
                delayed_us[hit] = np.maximum(straight_us[hit], end_us)

    # ---- To the viewers ---------------------------------------------------------------------------

    def follow(self, seat: Seat, stays: Sequence[Stay], failed: bool) -> ClientTrace:
        """One viewer."""
        client, tapped_us = self._audience.kinds[seat.kind], int(self._crowd.tap_us[seat.viewer])
        left_us = min(int(self._audience.leaves_us[seat.viewer]), seat.until_us)
        draw = np.random.default_rng([self._seed, 7, seat.viewer])
        watched = np.flatnonzero(self._tracks.watched[seat.kind]).tolist()
        stays = [stay for stay in stays if stay.established_us < left_us]
        arrivals = self._arrivals(seat, client, stays, watched, draw)
        arrivals = arrivals[arrivals["at_us"] < left_us]
        first = stays[0] if stays else None
        rtt_us = self._rtt_us(seat.kind, first.choice) if first is not None else 0
        ids = self._network.node_ids
        catalog_us = None if first is None else first.subscribed_us + rtt_us // 2
        return ClientTrace(
            client=seat.name,
            kind="viewer",
            stack=client.stack,
            market=client.market,
            region=client.region,
            room=client.room,
            transport=client.transport,
            access_rtt_ms=client.access_rtt_ms,
            access_rate_bps=client.access_rate_bps,
            tapped_us=tapped_us,
            connected_us=None if first is None else first.established_us,
            catalog_us=catalog_us,
            first_object_us=int(arrivals["at_us"][0]) if len(arrivals) else None,
            left_us=left_us if left_us < NEVER else None,
            arrivals=arrivals,
            watched=() if catalog_us is None else tuple(Watched(track, catalog_us) for track in watched),
            edges=tuple((stay.established_us, ids[stay.edge]) for stay in stays),
            moves=tuple(
                Move(after.established_us, ids[before.edge], ids[after.edge], before.cause)
                for before, after in pairwise(stays)
            ),
            errors=("no edge can be used",) if failed else (),
            connections_lost=sum(stay.cause == "silent" for stay in stays),
        )

    def _arrivals(
        self,
        seat: Seat,
        client: Client,
        stays: Sequence[Stay],
        watched: Sequence[int],
        draw: np.random.Generator,
    ) -> Array:
        parts: list[Array] = []
        done = {track: 0 for track in watched}
        for number, stay in enumerate(stays):
            after = stays[number + 1] if number + 1 < len(stays) else None
            part = self._of_stay(seat, client, stay, after, done, draw)
            for track in watched:
                mine = part[part["track"] == track]
                if len(mine):
                    done[track] = int(mine["capture_us"].max()) + 1
            parts.append(part)
        whole = np.concatenate(parts) if parts else np.empty(0, ARRIVAL_DTYPE)
        return whole[np.argsort(whole["at_us"], kind="stable")]

    def _of_stay(
        self,
        seat: Seat,
        client: Client,
        stay: Stay,
        after: Stay | None,
        done: dict[int, int],
        draw: np.random.Generator,
    ) -> Array:
        """Everything that comes from one edge. The first time from the running group's beginning, else from
        where the edge before left off."""
        rtt_us = self._rtt_us(seat.kind, stay.choice)
        from_us = stay.subscribed_us + rtt_us
        chosen, leaves = [], []
        for track, resumed_us in done.items():
            frames, at_us = self._tracks.by_track[track], self.at_edge(track, stay.edge)
            first_us = resumed_us or self._running_group(frames, at_us, from_us)
            mine = (
                (frames["capture_us"] >= first_us) & (at_us < NEVER) & (frames["capture_us"] < seat.until_us)
            )
            mine &= self._gets_through(track, stay.edge, at_us, frames, draw)
            chosen.append(frames[mine])
            leaves.append(at_us[mine])
        frames, at_us = np.concatenate(chosen), np.concatenate(leaves)
        leave_us = self._burst(frames, np.maximum(at_us, from_us), at_us <= from_us, rtt_us)
        arrived_us, waited_us = self._over_access(client, stay.choice, False, leave_us, frames, draw)
        until_us = min(stay.lost_us, NEVER if after is None or stay.lost_us < NEVER else after.subscribed_us)
        kept = (waited_us < QUEUE_US_MAX) & (arrived_us < until_us)
        result = np.zeros(int(kept.sum()), ARRIVAL_DTYPE)
        result["at_us"] = result["first_us"] = arrived_us[kept]
        for name in ("capture_us", "track", "group", "object", "bytes"):
            result[name] = frames[name][kept]
        return result

    @staticmethod
    def _running_group(frames: Array, at_us: Times, from_us: int) -> int:
        """When the group that runs at a time was begun; where none does, the next one."""
        heads = frames["object"] == 0
        begun = frames["capture_us"][heads & (at_us <= from_us)]
        if len(begun):
            return int(begun.max())
        return int(frames["capture_us"][heads & (at_us > from_us)].min(initial=NEVER))

    def _gets_through(
        self, track: int, edge: int, at_us: Times, frames: Array, draw: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Where an edge has to send more than it can, whole groups are thrown away."""
        row = int(self._tracks.row[track])
        of_node = np.array([share[row, edge] for share in self._shares])
        if (of_node >= 1).all():
            return np.ones(len(frames), np.bool_)
        share = of_node[np.clip(np.searchsorted(self._share_us, at_us, side="right") - 1, 0, None)]
        groups, place = np.unique(frames["group"], return_inverse=True)
        through: NDArray[np.bool_] = draw.random(len(groups))[place] < share
        return through

    @staticmethod
    def _burst(frames: Array, leave_us: Times, waiting: NDArray[np.bool_], rtt_us: int) -> Times:
        """What waits when a viewer comes is sent as the congestion window opens: twice as much each round."""
        result = leave_us.copy()
        order = np.flatnonzero(waiting)[np.argsort(frames["capture_us"][waiting], kind="stable")]
        sent = np.cumsum(frames["bytes"][order].astype(np.int64))
        rounds = np.floor(np.log2(1 + sent / WINDOW_BYTES_FIRST)).astype(np.int64)
        result[order] += rounds * rtt_us
        return result

    def _over_access(
        self,
        client: Client,
        choice: int,
        is_up: bool,
        leave_us: Times,
        frames: Array,
        draw: np.random.Generator,
    ) -> tuple[Times, Times]:
        """Over a client's own link, all tracks together; and how long each frame waited for its turn."""
        up, down = client.models_to(client.reaches[choice].node_id)
        model, other = (up, down) if is_up else (down, up)
        sizes = frames["bytes"].astype(np.int64)
        rtt_ms = (model.median_delay_us + other.median_delay_us) / 1e3
        losses = losses_of(model, ACCESS_PACKETS_PER_S)
        rate_bps = min(congestion_rate_bps(losses, rtt_ms), float(model.rate_bps or np.inf))
        done_us, waited_us = through_rate(leave_us, sizes, rate_bps if np.isfinite(rate_bps) else None)
        order = np.argsort(done_us, kind="stable")
        delay_us = np.empty(len(frames), np.int64)
        delay_us[order] = propagation_us(model, done_us[order], draw)
        spacing_ms = 1e3 * MEDIA_PACKET_BITS / model.rate_bps if model.rate_bps else SPACING_MS
        delay_us += repair_us(packets_of(sizes), losses, rtt_ms, spacing_ms, draw, is_hop=False)
        group = frames["group"].astype(np.int64) * len(self._tracks.infos) + frames["track"]
        return in_order(done_us + delay_us, group), waited_us

    def _rtt_us(self, kind: int, choice: int) -> int:
        return int(self._crowd.rtt_us[kind, choice])


# ---- Publishers and links -------------------------------------------------------------------------


def publisher_traces(tracks: Tracks, network: FlowNetwork) -> list[ClientTrace]:
    """Publishers are at their edges from the beginning."""
    return [
        ClientTrace(
            client=each.client.name,
            kind="publisher",
            stack=each.client.stack,
            market=each.client.market,
            region=each.client.region,
            room=each.client.room,
            transport=each.client.transport,
            access_rtt_ms=each.client.access_rtt_ms,
            access_rate_bps=each.client.access_rate_bps,
            tapped_us=each.client.joins_us,
            connected_us=each.client.joins_us,
            published=tuple(range(each.first, each.first + len(each.film.tracks))),
            edges=((each.client.joins_us, network.node_ids[each.origin]),),
        )
        for each in tracks.published
    ]


def link_uses(
    network: FlowNetwork, tracks: Tracks, routes: Routes, stays: Sequence[tuple[Seat, Sequence[Stay]]]
) -> tuple[LinkUse, ...]:
    """What the frames that are followed put on links between edges, for the edges that are watched."""
    sent: dict[tuple[int, int], int] = {}
    for track, frames in enumerate(tracks.by_track):
        row, at_us = int(tracks.row[track]), frames["capture_us"]
        needed: dict[int, NDArray[np.bool_]] = {}
        for seat, of_seat in stays:
            if tracks.watched[seat.kind, track]:
                for stay in of_seat:
                    mine = needed.setdefault(stay.edge, np.zeros(len(frames), np.bool_))
                    until_us = min(stay.lost_us, seat.until_us)
                    mine |= (at_us >= stay.subscribed_us) & (at_us < until_us)
        for from_us, until_us, parents in epochs(routes.history):
            now = (at_us >= from_us) & (at_us < until_us)
            on_edge: dict[tuple[int, int], NDArray[np.bool_]] = {}
            for edge, mine in needed.items():
                way = routes.way(parents, row, edge)
                for pair in pairwise(way):
                    on_edge[pair] = on_edge.get(pair, np.zeros(len(frames), np.bool_)) | (mine & now)
            for pair, mine in on_edge.items():
                loss = network.losses(*pair).share
                size = float(frames["bytes"][mine].sum(dtype=np.int64)) * CHUNK_OVERHEAD * (1 + loss)
                sent[pair] = sent.get(pair, 0) + round(size)
    ids = network.node_ids
    return tuple(
        LinkUse(
            src=ids[a], dst=ids[b], kind="hop", packets=size * 8 // int(MEDIA_PACKET_BITS), bytes=size,
            packets_lost=round(size * 8 / MEDIA_PACKET_BITS * network.losses(a, b).share),
            packets_dropped_queue=0, rtt_ms=float(network.delay_ms[a, b] + network.delay_ms[b, a]),
        )
        for (a, b), size in sorted(sent.items())
    )  # fmt: skip
