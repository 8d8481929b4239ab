"""Makes an edge's report of every second out of the datapath's counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farcast.proto.control.messages import Load, Offer, Report, TrackLoad


@dataclass(frozen=True, slots=True)
class ReporterConfig:
    """``boot_id`` as in `Hello`. Limits by name."""

    boot_id: str
    interval_us: int = 1_000_000
    report_bytes_max: int = 512 << 10
    hold_us_max: int = 4_000_000
    """A link on which nothing moves is said again after this."""


class Reporter:
    """Turns snapshots of counters into reports of what changed; sequence numbers rise by one each."""

    def __init__(self, config: ReporterConfig) -> None:
        raise NotImplementedError

    @property
    def counters(self) -> dict[str, int]:
        """What was left out or distrusted, by name; a copy."""
        raise NotImplementedError

    def resync(self) -> None:
        """Make the next report a full one (after `Joined`, a `resync`, or a report that was not sent)."""
        raise NotImplementedError

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
    ) -> Report:
        """The report of the interval since the call before.

        ``snapshot`` is a ``SnapshotDict`` of the datapath, ``peers`` the node id at the other end of each hop's
        session, ``offers`` all namespaces that publishers offer here.
        """
        raise NotImplementedError
