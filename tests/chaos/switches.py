"""What the edges' logs say of moves from one upstream to another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from farcast.cli.cluster import Cluster

MOVED = "track took another upstream"
SILENT = "hop is silent"
NOTICED_SECONDS_MAX = 3.0
"""A silence of the hop so long before the move is another one."""
ALARMS = ("silent", "closed")


@dataclass(frozen=True, slots=True)
class Switch:
    """One move of one track at an edge, away from ``left`` (an address, as that edge knows it). ``at``: when
    the edge wrote down that it takes this upstream for dead, or if it never did, that it left it; seconds of
    the machine's clock. A move is written down only when the next upstream has answered."""

    node_id: str
    cause: str
    left: str
    at: float

    @property
    def is_alarm(self) -> bool:
        """Whether the upstream was taken for dead."""
        return self.cause in ALARMS


class SwitchLog:
    """Reads each edge's log on from where it left off."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._read: dict[str, int] = {}
        self._silent: dict[tuple[str, str], float] = {}

    def take(self) -> list[Switch]:
        """The moves since the last call."""
        found = []
        for node_id, process in self._cluster.edges.items():
            with process.log.open("rb") as log:
                log.seek(self._read.get(node_id, 0))
                lines = log.readlines()
                self._read[node_id] = log.tell()
            for line in lines:
                entry = _entry(line)
                if entry.get("event") == SILENT:
                    self._silent[node_id, entry["remote"]] = _at(entry)
                elif entry.get("event") == MOVED:
                    found.append(self._switch(node_id, entry))
        return found

    def _switch(self, node_id: str, entry: dict[str, str]) -> Switch:
        at = _at(entry)
        silent = self._silent.get((node_id, entry["left"]), at)
        noticed = silent if entry["cause"] == "silent" and at - silent < NOTICED_SECONDS_MAX else at
        return Switch(node_id, entry["cause"], entry["left"], noticed)


def _at(entry: dict[str, str]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


def _entry(line: bytes) -> dict[str, str]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
