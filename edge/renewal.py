"""Keeps the certificate of an edge that joined by token fresh: shell of `farcast.proto.joining.renewal`.

The next key is made here, its certificate asked for over the control channel, both put on disk in one step,
and new connections use them from then on; those that stand go on with what they began with.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog
import trio

from farcast.certificates import Identity, edge_name
from farcast.edge.enrolment import keep_identity
from farcast.errors import UserError
from farcast.proto.control.events import CertificateReceived
from farcast.signing import is_certificate_of, life_of, make_key

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ANSWER_SECONDS_MAX: Final = 10.0
LOOK_SECONDS_MAX: Final = 60.0
"""The wall clock is looked at so often: it may be set."""


class Renewable(Protocol):
    """What renewal asks of the edge: who it is now, and to be somebody newer."""

    @property
    def hop_identity(self) -> Identity: ...
    @property
    def hop_roots(self) -> tuple[bytes, ...]: ...
    def renew_hop(self, identity: Identity) -> None: ...


class Renewal:
    """Runs beside the membership. ``ask`` sends a signing request, or says why not."""

    def __init__(
        self,
        node: Renewable,
        folder: Path,
        ask: Callable[[bytes], str | None],
        *,
        unix_s: Callable[[], float] = time.time,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.renewals = 0
        self.last_failure: str | None = None
        self._node = node
        self._folder = folder
        self._ask = ask
        self._unix_s = unix_s
        self._uniform = uniform
        self._answered = trio.Event()
        self._answer: CertificateReceived | None = None
        self._concern = ""

    @property
    def ends_unix_s(self) -> float:
        """The end of the certificate in use."""
        return life_of(self._node.hop_identity.chain[0]).ends_unix_s

    def handle(self, answer: CertificateReceived) -> None:
        """The control plane has answered."""
        self._answer = answer
        self._answered.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            life = life_of(self._node.hop_identity.chain[0])
            due = life.renew_unix_s(self._uniform())
            while (left := due - self._unix_s()) > 0:
                await trio.sleep(min(left, LOOK_SECONDS_MAX))
            while (failure := await self._renew()) is not None:
                self._say(failure)
                await trio.sleep(life.retry_seconds)
            self.last_failure, self._concern = None, ""

    async def _renew(self) -> str | None:
        """One try; ``None``, or why it failed."""
        key = make_key()
        self._answered, self._answer = trio.Event(), None
        why_not = self._ask(key.request)
        if why_not is not None:
            return why_not
        with trio.move_on_after(ANSWER_SECONDS_MAX):
            await self._answered.wait()
        answer: CertificateReceived | None = self._answer
        if answer is None:
            return "the control plane did not answer"
        if answer.refusal:
            return answer.refusal
        return await self._take(answer.certificate, key.key)

    async def _take(self, certificate: bytes, key: bytes) -> str | None:
        node = self._node
        is_ours = is_certificate_of(certificate, key, node.hop_roots)
        if not is_ours or edge_name(certificate) != edge_name(node.hop_identity.chain[0]):
            return "the control plane sent a certificate that is not for this edge"
        identity = Identity((certificate,), key)
        try:
            await trio.to_thread.run_sync(keep_identity, self._folder, identity)
        except UserError as error:
            return error.message
        node.renew_hop(identity)
        self.renewals += 1
        log.info("certificate renewed", ends_unix_s=round(self.ends_unix_s))
        return None

    def _say(self, failure: str) -> None:
        """One line per change of what is wrong and of how bad it is."""
        life = life_of(self._node.hop_identity.chain[0])
        concern = life.concern(self._unix_s())
        if failure == self.last_failure and concern == self._concern:
            return
        self.last_failure, self._concern = failure, concern
        write = log.error if concern in ("ending", "ended") else log.warning
        write("certificate not renewed", reason=failure, left_s=round(life.ends_unix_s - self._unix_s()))
