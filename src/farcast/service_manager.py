"""What a daemon tells the service manager that started it: sd_notify(3) of systemd, without its library.

A manager that wants to know names a datagram socket in ``NOTIFY_SOCKET`` (a path, or ``@name`` in Linux's
abstract namespace) and, where it watches, the time after which silence is death in ``WATCHDOG_USEC`` (for the
process ``WATCHDOG_PID``). Without them everything here does nothing. A manager that does not listen never
holds media up: the socket does not block, and what cannot be sent is left out.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

WATCHDOG_FEEDS = 3
"""The watchdog is fed so often within its time, so that one late turn is no death."""

WATCHDOG_SECONDS_MIN = 0.1
"""More often is never asked, whatever the manager says."""


class ServiceManager:
    """The manager of this process, if there is one."""

    def __init__(self, address: str, watchdog_seconds: float | None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds if address else None
        """How often `feed` is wanted; ``None``: not watched."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ServiceManager:
        """As the manager has told this process; nonsense counts as not told."""
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        ours = pid in ("", str(os.getpid()))
        seconds = None
        if ours and text.isascii() and text.isdigit() and len(text) < 18 and int(text) > 0:
            seconds = max(int(text) / 1e6 / WATCHDOG_FEEDS, WATCHDOG_SECONDS_MIN)
        return cls(address if address[:1] in ("/", "@") else "", seconds)

    def ready(self) -> None:
        """The daemon serves."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line about what the daemon does, for whoever looks."""
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """The daemon drains or ends; it is not to be started anew for that."""
        self._send("STOPPING=1")

    def feed(self) -> None:
        """The datapath has answered."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), self._address)
