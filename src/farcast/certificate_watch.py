"""Says in time, and once each, that a certificate ends where nobody renews it by itself.

Edges that joined by token renew theirs (`farcast.edge.renewal`); certificates from files are somebody else's
business, and it is this somebody who has to hear of it. What stands goes on beyond the end: nothing asks a
certificate again; it is new connections that fail then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Literal

import structlog

from farcast.proto.joining.renewal import ALARM_AT, Concern
from farcast.signing import life_of

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOK_SECONDS_MAX: Final = 60.0
"""The wall clock is looked at so often: it may be set."""

LOOK_SECONDS_MIN: Final = 0.1

Kind = Literal["public", "hop", "control"]
ADVICE: Final[Mapping[Kind, str]] = {
    "public": "put another one into its files, and restart the edge",
    "hop": "farcast ca renew, then SIGHUP (systemd unit: restart)",
    "control": "farcast ca renew, then restart the control plane; edges go on meanwhile",
}


class CertificateWatch:
    """``certificates``: those in use (DER), by what they are for; asked each time."""

    def __init__(
        self, certificates: Callable[[], Mapping[Kind, bytes]], unix_s: Callable[[], float] = time.time
    ) -> None:
        self._certificates = certificates
        self._unix_s = unix_s
        self._said: dict[Kind, tuple[bytes, Concern]] = {}

    def look(self) -> float:
        """Say what there is to say; seconds until it is time to look again."""
        now = self._unix_s()
        due = LOOK_SECONDS_MAX
        for kind, leaf in self._certificates().items():
            life = life_of(leaf)
            concern = life.concern(now)
            if concern in ("ending", "ended") and self._said.get(kind) != (leaf, concern):
                self._said[kind] = leaf, concern
                left_s = round(life.ends_unix_s - now)
                write, event = (log.error, "has ended") if concern == "ended" else (log.warning, "ends soon")
                write(f"{kind} certificate {event}: {ADVICE[kind]}", left_s=left_s)
            moments = (life.issued_unix_s + life.seconds * ALARM_AT, life.ends_unix_s)
            due = min([due, *(moment - now for moment in moments if moment > now)])
        return min(max(due, LOOK_SECONDS_MIN), LOOK_SECONDS_MAX)
