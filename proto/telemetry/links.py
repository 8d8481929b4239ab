"""Measurements of links, by peer, out of the datapath's counters by session.

The datapath counts from the start of each session and never backwards; what happened in an interval is the
difference of two snapshots. Sessions come and go under a link: a new one starts from 0, and one whose
counters went back is a new one under an old number. Several sessions to one peer (both ends have dialled, or
an old one lingers) are one link: counts add up, and RTTs are those of the session that carries media, else of
the one with the least RTT.

What has been counted stays in the link until a report takes it, so a link that is left out of a report loses
nothing: its next report covers the time since the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from farcast.proto.control.messages import BURST_BUCKETS, LinkReport
from farcast.proto.control.ranges import BPS_MAX, INTEGER_MAX, NODES_MAX, RTT_US_MAX
from farcast.proto.telemetry.sketch import Sketch

SESSIONS_MAX: Final = 4 * NODES_MAX
"""Hop sessions whose counters are remembered."""

RTT_MOVED_US: Final = 1_000
RTT_MOVED_SHARE: Final = 0.05
"""A smoothed RTT that moved by more than both is news."""

_NO_BURSTS: Final = (0,) * BURST_BUCKETS


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters of one session since its start."""

    rx_packets: int = 0
    rx_lost: int = 0
    rx_bursts: tuple[int, ...] = _NO_BURSTS
    rx_bytes: int = 0
    tx_bytes: int = 0
    rtt_sketch: Mapping[int, int] = field(default_factory=dict)

    def since(self, before: Totals) -> Totals:
        """What was counted after ``before``; all of it, where the session has started anew since."""
        if self._restarted_since(before):
            return self
        buckets = {b: n - before.rtt_sketch.get(b, 0) for b, n in self.rtt_sketch.items()}
        return Totals(
            self.rx_packets - before.rx_packets,
            max(self.rx_lost - before.rx_lost, 0),
            tuple(max(n - m, 0) for n, m in zip(self.rx_bursts, before.rx_bursts, strict=True)),
            self.rx_bytes - before.rx_bytes,
            self.tx_bytes - before.tx_bytes,
            {bucket: count for bucket, count in buckets.items() if count > 0},
        )

    def no_less_lost_than(self, before: Totals) -> Totals:
        """What the next counting starts from. A packet that was only late is taken back from the losses,
        after they may have been reported; then as many of the next losses have been reported already."""
        if self._restarted_since(before):
            return self
        bursts = tuple(map(max, self.rx_bursts, before.rx_bursts))
        return replace(self, rx_lost=max(self.rx_lost, before.rx_lost), rx_bursts=bursts)

    def _restarted_since(self, before: Totals) -> bool:
        """Losses do not count here: a packet that was only late is taken back from them."""
        return (
            self.rx_packets < before.rx_packets
            or self.rx_bytes < before.rx_bytes
            or self.tx_bytes < before.tx_bytes
        )


@dataclass(frozen=True, slots=True)
class Gauges:
    """What one session, or one link, is like now; 0 is not measured."""

    rtt_latest_us: int = 0
    rtt_min_us: int = 0
    rtt_smoothed_us: int = 0
    rtt_variation_us: int = 0
    rx_spacing_us: int = 0
    media: bool = False
    silent: bool = False

    def merged(self, others: Iterable[Gauges]) -> Gauges:
        """One link of several sessions: media if any has it, silent if all are."""
        sessions = [self, *others]
        best = min(sessions, key=lambda g: (not g.media, g.silent, g.rtt_smoothed_us or RTT_US_MAX + 1))
        return Gauges(
            best.rtt_latest_us,
            best.rtt_min_us,
            best.rtt_smoothed_us,
            best.rtt_variation_us,
            best.rx_spacing_us,
            media=any(g.media for g in sessions),
            silent=all(g.silent for g in sessions),
        )


class Link:
    """One peer: what it is like now, and what was counted since it was last reported."""

    def __init__(self, peer: str, since_us: int) -> None:
        self.peer = peer
        self.gauges = Gauges()
        self.said: Gauges | None = None
        self.said_us = since_us
        self._lost_said = 0
        self._rx_packets = self._rx_lost = self._rx_bytes = self._tx_bytes = 0
        self._rx_bursts = [0] * BURST_BUCKETS
        self._rtt_sketch = Sketch()

    def count(self, totals: Totals) -> None:
        """Add what one session counted."""
        self._rx_packets += totals.rx_packets
        self._rx_lost += totals.rx_lost
        self._rx_bytes += totals.rx_bytes
        self._tx_bytes += totals.tx_bytes
        self._rx_bursts = [n + m for n, m in zip(self._rx_bursts, totals.rx_bursts, strict=True)]
        self._rtt_sketch.merge(totals.rtt_sketch)

    @property
    def has_news(self) -> bool:
        """Whether the control plane's picture of the link would differ: everything where media flows."""
        now, said = self.gauges, self.said
        if said is None or now.media or (now.media, now.silent) != (said.media, said.silent):
            return True
        moved_us = abs(now.rtt_smoothed_us - said.rtt_smoothed_us)
        least_us = max(RTT_MOVED_US, RTT_MOVED_SHARE * said.rtt_smoothed_us)
        return self._rx_lost > 0 or self._lost_said > 0 or moved_us > least_us

    @property
    def importance(self) -> tuple[bool, bool, bool, int, str]:
        """Sorts links for a report that cannot hold all: what routes hang on, then what waits longest."""
        turned = self.said is None or self.said.silent != self.gauges.silent
        return not turned, not self.gauges.media, not self._rx_lost, self.said_us, self.peer

    def report(self, now_us: int) -> LinkReport:
        """The link since it was last said, without marking it as said."""
        gauges, elapsed_us = self.gauges, max(now_us - self.said_us, 1)
        return LinkReport(
            peer=self.peer,
            rtt_latest_us=gauges.rtt_latest_us,
            rtt_min_us=gauges.rtt_min_us,
            rtt_smoothed_us=gauges.rtt_smoothed_us,
            rtt_variation_us=gauges.rtt_variation_us,
            rtt_sketch=self._rtt_sketch.counts,
            rx_packets=min(self._rx_packets, INTEGER_MAX),
            rx_lost=min(self._rx_lost, self._rx_packets, INTEGER_MAX),
            rx_bursts=tuple(self._rx_bursts) if any(self._rx_bursts) else (),
            rx_spacing_us=gauges.rx_spacing_us,
            rx_bps=min(self._rx_bytes * 8_000_000 // elapsed_us, BPS_MAX),
            tx_bps=min(self._tx_bytes * 8_000_000 // elapsed_us, BPS_MAX),
            media=gauges.media,
            silent=gauges.silent,
        )

    def mark_said(self, now_us: int) -> None:
        """The report was taken: count from here."""
        self.said, self.said_us, self._lost_said = self.gauges, now_us, self._rx_lost
        self._rx_packets = self._rx_lost = self._rx_bytes = self._tx_bytes = 0
        self._rx_bursts = [0] * BURST_BUCKETS
        self._rtt_sketch = Sketch()


class LinkTable:
    """All links of an edge, kept current by snapshots."""

    def __init__(self, interval_us: int) -> None:
        self._interval_us = interval_us
        self._before_us: int | None = None
        self.links: dict[str, Link] = {}
        self.sessions_ignored = 0
        self._totals: dict[int, Totals] = {}

    def handle_snapshot(
        self, snapshot: Mapping[str, Any], peers: Mapping[int, str], now_us: int
    ) -> list[str]:
        """Count what is new; returns the peers to which no session is left.

        A link that is new has been counting since the snapshot before at most.
        """
        since_us = now_us - self._interval_us if self._before_us is None else self._before_us
        self._before_us = now_us
        gauges: dict[str, list[Gauges]] = {}
        totals: dict[int, Totals] = {}
        for session in snapshot["sessions"]:
            hop, peer = session["hop"], peers.get(session["session"])
            if hop is None or peer is None:
                continue
            if len(totals) >= SESSIONS_MAX or (peer not in gauges and len(gauges) >= NODES_MAX):
                self.sessions_ignored += 1
                continue
            link = self.links.get(peer) or self.links.setdefault(peer, Link(peer, since_us))
            now, before = _totals(hop), self._totals.get(session["session"], Totals())
            link.count(now.since(before))
            totals[session["session"]] = now.no_less_lost_than(before)
            gauges.setdefault(peer, []).append(_gauges(hop))
        self._totals = totals
        for peer, of_sessions in gauges.items():
            self.links[peer].gauges = of_sessions[0].merged(of_sessions[1:])
        gone = [peer for peer in self.links if peer not in gauges]
        for peer in gone:
            del self.links[peer]
        return gone


def _totals(hop: Mapping[str, Any]) -> Totals:
    bursts = [*hop["rx_bursts"], *_NO_BURSTS][:BURST_BUCKETS]
    return Totals(
        hop["rx_packets"], hop["rx_lost"], tuple(bursts), hop["rx_bytes"], hop["tx_bytes"], hop["rtt_sketch"]
    )


def _gauges(hop: Mapping[str, Any]) -> Gauges:
    def time_us(name: str) -> int:
        return min(max(int(hop[name]), 0), RTT_US_MAX)

    return Gauges(
        time_us("rtt_latest_us"),
        time_us("rtt_min_us"),
        time_us("rtt_us"),
        time_us("rtt_variation_us"),
        time_us("rx_spacing_us"),
        media=hop["has_media"],
        silent=hop["is_silent"],
    )
