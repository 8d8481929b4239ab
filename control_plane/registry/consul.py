"""Asyncio shell of `Election`: HTTP to the local Consul agent, by the standard library.

Each request is short or a blocking query, one at a time in each lane, so two threads are all it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from farcast.control_plane.registry.leader import TIMEOUT_US, Election, Lane, Reply, Request

BODY_BYTES_MAX = 64 << 10


class ConsulLeadership:
    """Runs an election until `close`; ``on_change`` is called in the loop when epoch or leader changed."""

    def __init__(self, host: str, port: int, cluster: str, name: str, epoch_min: int) -> None:
        self.election = Election(cluster, name, secrets.token_hex(4), epoch_min, random.random)
        self.on_change: Callable[[], None] = lambda: None
        self._address = (host, port)
        self._pool = ThreadPoolExecutor(3, "consul")
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled; then the lock is given up, so that another leads at once."""
        election = self.election
        try:
            while True:
                self._wake.clear()
                while (request := election.poll_request(_now_us())) is not None:
                    task = asyncio.create_task(self._exchange(request))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                due_us = election.poll_timeout()
                wait_s = None if due_us is None else max(0, due_us - _now_us()) / 1e6
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait_s)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.get_running_loop().run_in_executor(self._pool, self._resign)
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _exchange(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        reply = await loop.run_in_executor(self._pool, self._send, request)
        election = self.election
        before = (election.epoch, election.leader, election.failure)
        election.handle_reply(request.lane, reply, _now_us())
        if before != (election.epoch, election.leader, election.failure):
            self.on_change()
        self._wake.set()

    def _send(self, request: Request) -> Reply:
        connection = http.client.HTTPConnection(*self._address, timeout=request.timeout_us / 1e6)
        try:
            connection.request(request.method, request.path, request.body or None)
            response = connection.getresponse()
            body = response.read(BODY_BYTES_MAX)
            index = response.getheader("X-Consul-Index") or "0"
            return Reply(response.status, body, int(index) if index.isdecimal() else 0)
        except (OSError, http.client.HTTPException):
            return Reply(0)
        finally:
            connection.close()

    def _resign(self) -> None:
        session = self.election.session
        if session is not None:
            self._send(Request(Lane.LOCK, "PUT", f"/v1/session/destroy/{session}", b"", TIMEOUT_US))
        path = f"/v1/agent/service/deregister/{self.election.service_id}"
        self._send(Request(Lane.BEAT, "PUT", path, b"", TIMEOUT_US))


def _now_us() -> int:
    return time.monotonic_ns() // 1_000
