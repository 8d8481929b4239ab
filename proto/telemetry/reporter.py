"""Makes an edge's report of every second out of the datapath's counters.

A report says what changed. Links that carry media are always in it; an idle link is left out while nothing
is lost on it and its RTT stands still, and is said again after `ReporterConfig.hold_us_max`, its counts then
covering the whole time. After `Reporter.resync` everything is said.

A report never grows above `ReporterConfig.report_bytes_max`. What does not fit waits for the next one: of
the links the least important ones (`Link.importance`), of the namespaces the last ones. Both are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from farcast.proto.control.codec import FROM_EDGE_BYTES_MAX, encoded_bytes
from farcast.proto.control.messages import KeyUsage, LinkReport, Load, Offer, Report, TrackLoad
from farcast.proto.control.ranges import INTEGER_MAX, INTERVAL_US_MAX, NAMESPACES_MAX, NODES_MAX
from farcast.proto.telemetry.clock_watch import ClockWatch
from farcast.proto.telemetry.links import Link, LinkTable
from farcast.proto.telemetry.offers import Fields, OfferBook

REPORT_BYTES_LEAST: Final = 256 << 10
"""Room for the fixed parts of a report, and for some of every list."""

_HEAD_BYTES: Final = 5
"""Longest head of a value in MessagePack."""

_LIST_HEAD_BYTES: Final = 16
"""That of a list with its name."""


@dataclass(frozen=True, slots=True)
class ReporterConfig:
    """``boot_id`` as in `Hello`. Limits by name."""

    boot_id: str
    interval_us: int = 1_000_000
    report_bytes_max: int = FROM_EDGE_BYTES_MAX // 2
    hold_us_max: int = 4_000_000
    """A link on which nothing moves is said again after this."""

    def __post_init__(self) -> None:
        if not REPORT_BYTES_LEAST <= self.report_bytes_max <= FROM_EDGE_BYTES_MAX:
            allowed = f"{REPORT_BYTES_LEAST} to {FROM_EDGE_BYTES_MAX}"
            raise ValueError(f"report_bytes_max is {self.report_bytes_max}, {allowed} are allowed")


class Reporter:
    """Turns snapshots of counters into reports of what changed; sequence numbers rise by one each.

    The first report is a full one. Memory: what was said of each link and namespace, and the counters of each
    session, bounded by `NODES_MAX`, `NAMESPACES_MAX` and `SESSIONS_MAX`.
    """

    def __init__(self, config: ReporterConfig) -> None:
        self._config = config
        self._links = LinkTable(config.interval_us)
        self._offers = OfferBook()
        self._clocks = ClockWatch(config.interval_us)
        self._demand_said: tuple[TrackLoad, ...] = ()
        self._unlinked: dict[str, None] = {}
        self._sequence = 0
        self._full_next = True
        self._before_us: int | None = None
        self._counters: Counter[str] = Counter()

    @property
    def counters(self) -> dict[str, int]:
        """What was left out or distrusted, by name; a copy."""
        counted = dict(self._counters)
        counted["pauses"] = self._clocks.pauses
        counted["clock_jumps"] = self._clocks.jumps
        counted["sessions_ignored"] = self._links.sessions_ignored
        return counted

    @property
    def next_sequence(self) -> int:
        """The number of the next report."""
        return self._sequence + 1

    def resync(self) -> None:
        """Make the next report a full one (after `Joined`, a `resync`, or a report that was not sent)."""
        self._full_next = True

    def handle_snapshot(
        self,
        snapshot: Mapping[str, Any],
        peers: Mapping[int, str],
        load: Load,
        offers: Sequence[Offer],
        now_us: int,
        now_unix_us: int,
        *,
        demand: Sequence[TrackLoad] = (),
        draining: bool = False,
        usage: Sequence[KeyUsage] = (),
    ) -> Report:
        """The report of the interval since the call before.

        ``snapshot`` is a ``SnapshotDict`` of the datapath, ``peers`` the node id at the other end of each
        hop's session, ``offers`` all namespaces that publishers offer here; ``usage``: what is to be said of
        keys, in the report of number `next_sequence`.
        """
        full, self._full_next = self._full_next, False
        if full:
            self._forget_said()
        self._note_unlinked(self._links.handle_snapshot(snapshot, peers, now_us))
        self._sequence += 1
        report = Report(
            boot_id=self._config.boot_id,
            sequence=self._sequence,
            sent_us=min(max(now_us, 0), INTEGER_MAX),
            interval_us=self._interval_us(now_us),
            full=full,
            distrust=self._clocks.check(now_us, now_unix_us, snapshot["totals"]["stalls"]),
            draining=draining,
            load=load,
            demand=self._demand(demand, full),
            usage=tuple(usage),
        )
        self._counters["reports_distrusted"] += report.distrust
        report = self._with_offers(report, offers, now_us)
        return self._with_links(report, full, now_us)

    # ---- Parts of a report ------------------------------------------------------------------------

    def _forget_said(self) -> None:
        self._offers.forget()
        self._unlinked.clear()
        self._demand_said = ()
        for link in self._links.links.values():
            link.said = None

    def _note_unlinked(self, gone: Iterable[str]) -> None:
        """Peers that the control plane still has to be told to forget, oldest first; the last ones count."""
        for peer in gone:
            self._unlinked[peer] = None
        for peer in self._links.links:
            self._unlinked.pop(peer, None)
        while len(self._unlinked) > NODES_MAX:
            del self._unlinked[next(iter(self._unlinked))]
            self._counters["unlinked_dropped"] += 1

    def _interval_us(self, now_us: int) -> int:
        before_us, self._before_us = self._before_us, now_us
        elapsed_us = self._config.interval_us if before_us is None else now_us - before_us
        return min(max(elapsed_us, 1), INTERVAL_US_MAX)

    def _demand(self, demand: Sequence[TrackLoad], full: bool) -> tuple[TrackLoad, ...] | None:
        said = tuple(demand[:NODES_MAX])
        self._counters["demand_dropped"] += len(demand) - len(said)
        if said == self._demand_said and not full:
            return None
        self._demand_said = said
        return said

    def _with_offers(self, report: Report, offers: Sequence[Offer], now_us: int) -> Report:
        """Withdrawals first; half of the room at most, so that links have the other half."""
        if len(offers) > NAMESPACES_MAX:
            self._counters["offers_dropped"] += len(offers) - NAMESPACES_MAX
        new, gone = self._offers.changes(offers[:NAMESPACES_MAX], now_us)
        room = (self._config.report_bytes_max - encoded_bytes(report)) // 2
        withdrawn, room = _fit(gone, _namespace_bytes, room)
        offered, _ = _fit(new, encoded_bytes, room)
        follow = len(new) - len(offered)
        self._counters["offers_deferred"] += follow + len(gone) - len(withdrawn)
        self._offers.mark_said(offered, withdrawn, now_us)
        return msgspec.structs.replace(
            report, offered=tuple(offered), withdrawn=tuple(withdrawn), offers_follow=follow
        )

    def _with_links(self, report: Report, full: bool, now_us: int) -> Report:
        report = msgspec.structs.replace(report, unlinked=tuple(self._unlinked))
        self._unlinked.clear()
        due = [link for link in self._links.links.values() if full or self._is_due(link, now_us)]
        reports = {link.peer: link.report(now_us) for link in due}
        room = self._config.report_bytes_max - encoded_bytes(report)
        important = sorted(due, key=lambda link: link.importance)
        fitting, _ = _fit(important, lambda link: encoded_bytes(reports[link.peer]), room)
        self._counters["links_deferred"] += len(due) - len(fitting)
        links: list[LinkReport] = []
        for link in fitting:
            link.mark_said(now_us)
            links.append(reports[link.peer])
        return msgspec.structs.replace(report, links=tuple(links))

    def _is_due(self, link: Link, now_us: int) -> bool:
        return link.has_news or now_us - link.said_us >= self._config.hold_us_max


_Item = TypeVar("_Item")


def _fit(items: Sequence[_Item], bytes_of: Callable[[_Item], int], room: int) -> tuple[list[_Item], int]:
    """The first of ``items`` that fit into a list of ``room`` bytes, and the room left."""
    fitting: list[_Item] = []
    room -= _LIST_HEAD_BYTES
    for item in items:
        room -= bytes_of(item)
        if room < 0:
            break
        fitting.append(item)
    return fitting, max(room, 0)


def _namespace_bytes(namespace: Fields) -> int:
    return _HEAD_BYTES + sum(_HEAD_BYTES + len(name) for name in namespace)
