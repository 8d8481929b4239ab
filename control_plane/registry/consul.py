"""Asyncio shell of the engines beside it: HTTP to a Consul agent, by the standard library.

Each request is short or a blocking query, one at a time in each lane, so a thread for each lane and one to
resign by are all it takes. A request has its own connection: closing that ends a blocking query at once,
which is how we stop within moments and not within `WAIT_US`. No proxy of the environment is ever asked, and
no more is read of an answer than its request allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import secrets
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from farcast.control_plane.registry.calls import Lane, Reply, Request
from farcast.control_plane.registry.consul_agent import ConsulAgent
from farcast.control_plane.registry.edge_services import EdgeService, EdgeServices
from farcast.control_plane.registry.leader import Election
from farcast.control_plane.registry.shared_state import SharedState, Verdict
from farcast.control_plane.sharing import Unshared
from farcast.control_plane.store import Restored, Save

SETTLE_SECONDS_MAX: Final = 3.0
"""An answer to an order waits so long for Consul."""
RESIGN_SECONDS_MAX: Final = 3.0
"""For edges, once the lock is given up; those that are still shown then are critical soon, and then gone."""
_THREADS: Final = len(Lane) + 1


class ConsulLeadership:
    """One candidate of a cluster; ``meta`` stands with it in Consul, for people."""

    def __init__(
        self,
        agent: ConsulAgent,
        cluster: str,
        name: str,
        epoch_min: int,
        *,
        meta: Mapping[str, str] | None = None,
    ) -> None:
        instance = secrets.token_hex(4)
        self.election = Election(cluster, name, instance, epoch_min, random.random, meta)
        self.state = SharedState(cluster, self.election.key, random.random)
        self.edges = EdgeServices(cluster, name, random.random)
        self._agent = agent
        self._headers = {"X-Consul-Token": agent.token} if agent.token else {}
        self._pool = ThreadPoolExecutor(_THREADS, "consul")
        self._connections: set[http.client.HTTPConnection] = set()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Event] = set()

    # ---- What the control plane asks of it ----------------------------------------------------------

    def load(self) -> None:
        """Read what the leader before knew; `SharedState.loaded` has it when it is there."""
        self.state.load()
        self._wake.set()

    def begin(self, restored: Restored) -> Restored:
        """A reign begins with what ``restored`` is and what Consul has."""
        return self.state.begin(restored, self.election.acquired, _now_us())

    def save(self, save: Save) -> None:
        """Something has changed: it is written as soon as that can be."""
        self.state.handle_save(save)
        self._wake.set()

    def show(self, edges: Iterable[EdgeService]) -> None:
        """Let Consul have these edges as services."""
        self.edges.set_edges(edges)
        self._wake.set()

    def end(self) -> None:
        """The reign is over."""
        self.state.end()
        self.edges.end()
        self._tell()

    async def settle(self) -> Unshared | None:
        """Wait until a new leader would know all that was ordered here; ``None``, or why that is not so."""
        due = time.monotonic() + SETTLE_SECONDS_MAX
        while self.state.verdict is not Verdict.SHARED:
            left = due - time.monotonic()
            if left <= 0:
                return self._unshared()
            await self.wait(left)
        return None

    def _unshared(self) -> Unshared:
        if self.state.verdict is Verdict.FENCED:
            return Unshared("this control plane leads no more, or not for certain: ask again", fenced=True)
        return Unshared(self.state.failure or "Consul has not answered yet", fenced=False)

    async def wait(self, seconds: float) -> None:
        """Until something has changed, or this time has passed."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()
        finally:
            self._waiting.discard(changed)

    # ---- The shell ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled; then the lock is given up, so that another leads at once."""
        try:
            while True:
                self._wake.clear()
                now_us = _now_us()
                while (request := self._poll_request(now_us)) is not None:
                    task = asyncio.create_task(self._exchange(request))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                due_us = self._poll_timeout()
                wait_s = None if due_us is None else max(0, due_us - _now_us()) / 1e6
                # Not wait_for: of Python 3.11 that loses a cancellation that meets the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            for connection in list(self._connections):
                _abort(connection)
            await asyncio.get_running_loop().run_in_executor(self._pool, self._resign)
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _poll_request(self, now_us: int) -> Request | None:
        election = self.election
        session = election.session if election.epoch else None
        return (
            election.poll_request(now_us)
            or self.state.poll_request(session, election.acquired, now_us)
            or self.edges.poll_request(now_us)
        )

    def _poll_timeout(self) -> int | None:
        session = self.election.session if self.election.epoch else None
        due = (self.election.poll_timeout(), self.state.poll_timeout(session), self.edges.poll_timeout())
        return min((due_us for due_us in due if due_us is not None), default=None)

    async def _exchange(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        reply = await loop.run_in_executor(self._pool, self._send, request)
        if request.lane is Lane.STATE:
            self.state.handle_reply(reply, _now_us())
        elif request.lane is Lane.EDGES:
            self.edges.handle_reply(reply, _now_us())
        else:
            self.election.handle_reply(request.lane, reply, _now_us())
        self._tell()

    def _tell(self) -> None:
        self._wake.set()
        for changed in self._waiting:
            changed.set()

    def _send(self, request: Request) -> Reply:
        connection = self._agent.connect(request.timeout_us / 1e6)
        self._connections.add(connection)
        try:
            connection.request(request.method, request.path, request.body or None, self._headers)
            response = connection.getresponse()
            body = response.read(request.bytes_max)
            index = response.getheader("X-Consul-Index") or "0"
            if response.read(1):
                return Reply(0)
            if response.status >= 400:
                body = self._agent.without_token(body)
            return Reply(response.status, body, int(index) if index.isdecimal() else 0)
        except ssl.SSLError as error:
            return Reply(0, f"TLS: {_tls_fault(error)}".encode())
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            return Reply(0)  # The last two: `_abort` in the midst of it.
        finally:
            self._connections.discard(connection)
            connection.close()

    def _resign(self) -> None:
        for request in self.election.resignation():
            self._send(request)
        due = time.monotonic() + RESIGN_SECONDS_MAX
        for request in self.edges.resignation():
            if self._send(request).status == 0 or time.monotonic() > due:
                return


def _abort(connection: http.client.HTTPConnection) -> None:
    sock: Any = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _tls_fault(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    return str(error.reason or error)


def _now_us() -> int:
    return time.monotonic_ns() // 1_000
