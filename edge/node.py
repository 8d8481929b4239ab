"""One running edge: its sockets, its engines, its ops listener; for the daemon and for ``farcast dev``.

Start order: certificates, names of upstreams, the state folder, TCP sockets, UDP socket, the plan on disk;
then everything that can fail for a reason that lies with the operator has been tried, and serving begins.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
import trio

from farcast import __version__
from farcast.certificate_watch import CertificateWatch, Kind
from farcast.certificates import Identity, edge_name, expiry_unix_s, load_identity
from farcast.edge.access import access_policy
from farcast.edge.assembly import (
    advertised,
    agent_config,
    datapath_config,
    membership_options,
    state_folder,
)
from farcast.edge.config import EdgeConfig
from farcast.edge.credentials import Credentials, HopIdentity, load_credentials
from farcast.edge.driver import Driver
from farcast.edge.enrolment import IDENTITY
from farcast.edge.event_log import EventLog
from farcast.edge.membership import Membership, MembershipOptions
from farcast.edge.metrics import render
from farcast.edge.ops import HttpListener, bind_http, cannot_listen, certificate_app, ops_app
from farcast.edge.plan_file import PlanFile, prepare_folder
from farcast.edge.settings import Address
from farcast.errors import UserError
from farcast.proto.urls import split_host_port

if TYPE_CHECKING:
    from farcast.proto._core import DatapathConfig, Runtime, ServerTls
    from farcast.proto.agent import Agent

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TEST_HOOKS_VARIABLE = "FARCAST_TEST_HOOKS"
"""Set to 1, it adds ``POST /test/block`` to the ops listener; for this project's own tests."""

WALL_CLOCK_SECONDS = 1.0
"""The agent is told the time of day so often."""

FREE_PORT_ATTEMPTS_MAX = 20
"""Tries to find a port that is free for both TCP and UDP, where the operator takes any."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """What an edge has bound. ``certificate`` is there with a development certificate only."""

    runtime: Runtime
    ops: HttpListener
    certificate: HttpListener | None

    @property
    def listen(self) -> Address:
        """The public UDP address as bound."""
        return Address(*split_host_port(self.runtime.local_addr))


class EdgeNode:
    """An edge; `open_edge` makes it, `run` serves until `drain` or `stop` has ended it."""

    def __init__(
        self,
        config: EdgeConfig,
        credentials: Credentials,
        sockets: Sockets,
        agent: Agent,
        server_tls: ServerTls | None = None,
    ) -> None:
        self.config = config
        self.credentials = credentials
        self.listen = sockets.listen
        self.ops = sockets.ops.address
        self.driver = Driver(sockets.runtime, agent)
        self.membership: Membership | None = None
        self._sockets = sockets
        self._server_tls = server_tls
        self.driver.on_event(EventLog())
        self._ready = False
        self._draining = False
        self._nursery: trio.Nursery | None = None
        self._started = trio.current_time()

    @property
    def ready(self) -> bool:
        """Whether new viewers should be sent here."""
        return self._ready

    def join(self, options: MembershipOptions, file: PlanFile) -> None:
        """Take part in a network; the plan in the file is followed from now on."""
        self.membership = Membership(self, options, file)
        self.membership.start_from_disk()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve; ``task_status`` tells when. Returns after `stop`, or when `drain` is done."""
        hooks = os.environ.get(TEST_HOOKS_VARIABLE) == "1"
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._sockets.ops.serve, ops_app(self, test_hooks=hooks))
            if self._sockets.certificate is not None:
                app = certificate_app(self.credentials.public.sha256)
                nursery.start_soon(self._sockets.certificate.serve, app)
            if self.membership is not None:
                nursery.start_soon(self.membership.run)
            nursery.start_soon(self._tell_time)
            nursery.start_soon(self._watch_certificates)
            self._ready = True
            task_status.started()
            await self.driver.run()
            self._ready = False
            nursery.cancel_scope.cancel()

    async def _watch_certificates(self) -> None:
        watch = CertificateWatch(self._unrenewed)
        while True:
            await trio.sleep(watch.look())

    async def _tell_time(self) -> None:
        """The agent judges the ends of tokens by the wall clock, which may be set."""
        while True:
            self.driver.call(lambda agent, now_us: agent.set_wall_clock(now_us, time.time_ns() // 1_000))
            await trio.sleep(WALL_CLOCK_SECONDS)

    def reload_keys(self, config: EdgeConfig) -> None:
        """Take the keys of issuers from a configuration. Raises `UserError`, and changes nothing then."""
        policy = access_policy(config, self.credentials)
        if policy is not None and config.auth_keys is not None:
            self.driver.call(lambda agent, now_us: agent.apply_access(now_us, local=policy))

    def reload_certificate(self, config: EdgeConfig) -> None:
        """Read the hop certificate again: `farcast ca renew` may have replaced it. Raises `UserError`, and
        changes nothing then."""
        if config.hop is None or self.credentials.hop is None:
            return
        identity = load_identity(config.hop.cert, config.hop.key)
        if edge_name(identity.chain[0]) != edge_name(self.hop_identity.chain[0]):
            raise UserError(f"{config.hop.cert}: is for another edge than this one")
        if identity != self.hop_identity:
            self.renew_hop(identity)
            log.info("certificate read anew", file=str(config.hop.cert))

    @property
    def hop_identity(self) -> Identity:
        """Who we are to other edges, now. Raises ``ValueError`` for an edge without hops."""
        if self.credentials.hop is None:
            raise ValueError("this edge has no hop certificate")
        return self.credentials.hop.identity

    @property
    def hop_roots(self) -> tuple[bytes, ...]:
        """The authorities (DER) of hop certificates."""
        return self.credentials.hop.roots if self.credentials.hop is not None else ()

    def renew_hop(self, identity: Identity) -> None:
        """Show another certificate to edges and control planes from the next connection on."""
        hop = HopIdentity(identity, self.hop_roots)
        self.credentials = replace(self.credentials, hop=hop)
        if self._server_tls is not None:
            self._server_tls.renew_hop(identity.chain, identity.key)
        tls = self.credentials.hop_tls()
        self.driver.call(lambda agent, now_us: agent.renew_hops(now_us, tls))
        if self.membership is not None:
            self.membership.link.renew(identity)

    async def drain(self, drain_ms: int | None = None) -> None:
        """Not ready at once, publishers, edges below and viewers are sent away in this order, then `stop`
        when they have gone or the bound is reached (the configuration's, unless given). A second call does
        nothing."""
        if self._draining:
            return
        self._draining, self._ready = True, False
        gone = trio.Event()

        def look() -> None:
            if self.driver.engine.is_drained:
                gone.set()

        self.driver.on_progress(look)
        bound_ms = self.config.drain_ms_max if drain_ms is None else drain_ms
        next_url = self.membership.next_url() if self.membership is not None else ""
        self.driver.call(lambda agent, now_us: agent.drain(now_us, bound_ms, next_url))
        look()
        with trio.move_on_after(bound_ms / 1000):
            if self.membership is not None:
                await self.membership.say_draining()
            await gone.wait()
        # The engine closes who is left, each with the reason; its own timeout may come a moment too late.
        self.driver.call(lambda agent, now_us: agent.handle_timeout(now_us))
        self.stop()

    def order_drain(self, drain_ms: int | None) -> bool:
        """Begin to drain, as an operator wants it; whether it was not begun before."""
        if self._draining or self._nursery is None:
            return False
        log.info(
            "draining", by="operator", drain_ms_max=self.config.drain_ms_max if drain_ms is None else drain_ms
        )
        self._nursery.start_soon(self.drain, drain_ms)
        return True

    def stop(self) -> None:
        """End `run` now; sessions that are left are closed."""
        self._ready = False
        self.driver.close()

    async def metrics(self) -> bytes:
        """The Prometheus text."""
        snapshot = await self.driver.snapshot()
        agent = self.driver.engine
        return render(
            snapshot,
            ready=self._ready,
            hop_peers=agent.hop_peers(),
            counters=agent.counters,
            membership=self.membership,
            expiries=self._expiries(),
        )

    def _unrenewed(self) -> dict[Kind, bytes]:
        """The certificates that somebody has to renew for us."""
        hop, renews = (
            self.credentials.hop,
            self.membership is not None and self.membership.renewal is not None,
        )
        found: dict[Kind, bytes] = {"public": self.credentials.public.chain[0]}
        return found if hop is None or renews else {**found, "hop": hop.identity.chain[0]}

    def _expiries(self) -> dict[str, float | None]:
        hop = self.credentials.hop
        ends = {"public": expiry_unix_s(self.credentials.public.chain[0])}
        return ends if hop is None else {**ends, "hop": expiry_unix_s(hop.identity.chain[0])}

    async def status(self) -> dict[str, Any]:
        """Everything about this edge at this moment, for ``/status.json``."""
        return {
            "version": __version__,
            "node_id": self.credentials.node_id,
            "region": self.credentials.region,
            "ready": self._ready,
            "listen": str(self.listen),
            "drafts": list(self.config.drafts),
            "uptime_seconds": round(trio.current_time() - self._started, 3),
            "control": self.membership.status() if self.membership is not None else None,
            "agent": self.driver.engine.status(self.driver.now_us()),
            "datapath": await self.driver.snapshot(),
        }

    def block(self, seconds: float) -> None:
        """For tests: keep the Python thread busy."""
        self.driver.block(seconds)


async def open_edge(config: EdgeConfig, credentials: Credentials | None = None) -> EdgeNode:
    """Prepare an edge and bind its sockets; `UserError` if that cannot be done.

    ``credentials`` stand in for the certificate files of the configuration.
    """
    from farcast.proto.agent import Agent

    if credentials is None:
        credentials = load_credentials(config, datetime.now(UTC))
    datapath = datapath_config(config, credentials)
    agent = Agent(await agent_config(config, credentials))
    folder = state_folder(config, credentials)
    if folder is not None:
        prepare_folder(folder)
    advertise = await advertised(config)
    node = EdgeNode(config, credentials, _bind(config, datapath), agent, datapath.server)
    if folder is not None:
        options = membership_options(config, credentials, advertise or str(node.listen))
        node.join(options, PlanFile(folder))
        if node.membership is not None and config.hop is not None and config.hop.cert == folder / IDENTITY:
            node.membership.keep_renewed(node, folder)
    return node


def _bind(config: EdgeConfig, datapath: DatapathConfig) -> Sockets:
    ops = bind_http(config.ops, "--ops")
    try:
        if not config.dev_cert:
            return Sockets(_bind_udp(config.listen, datapath), ops, None)
        return _bind_both(config.listen, datapath, ops)
    except BaseException:
        ops.socket.close()
        raise


def _bind_both(listen: Address, datapath: DatapathConfig, ops: HttpListener) -> Sockets:
    """UDP for media and TCP for the certificate's hash, on one port number."""
    for attempts_left in reversed(range(FREE_PORT_ATTEMPTS_MAX)):
        certificate = bind_http(listen, "--listen")
        try:
            return Sockets(_bind_udp(certificate.address, datapath), ops, certificate)
        except UserError:
            certificate.socket.close()
            if listen.port != 0 or attempts_left == 0:
                raise
    raise AssertionError("unreachable")


def _bind_udp(listen: Address, datapath: DatapathConfig) -> Runtime:
    from farcast.proto._core import Runtime

    try:
        return Runtime(str(listen), datapath)
    except OSError as error:
        raise UserError(cannot_listen(f"UDP {listen}", "--listen", error)) from error
