"""The control plane as a process: one controller, its sockets, its state on disk, its API.

Start order: configuration, certificates, risk groups, state (the next epoch is durable then), TCP, UDP; so
whatever the operator can have got wrong has shown itself before the first edge is answered. Everything runs
in one asyncio thread, except the planner, which has one of its own: edges are acknowledged meanwhile.

Changes are written to disk in the event loop, on purpose: nothing may be sent before they are there, and a
disk that takes long delays plans, never media.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from farcast.certificate_watch import CertificateWatch
from farcast.certificates import expiry_unix_s
from farcast.control_plane.api import (
    api_app,
    bind_tcp,
    forget_address,
    open_access,
    serve_api,
    write_address,
)
from farcast.control_plane.api_table import ApiAccess
from farcast.control_plane.certifying import certifier, open_authority
from farcast.control_plane.config import Address, ControlConfig
from farcast.control_plane.control_sessions import ControlSessions
from farcast.control_plane.controller import Controller, ControllerConfig
from farcast.control_plane.driver import Driver
from farcast.control_plane.edge_list import make_signer
from farcast.control_plane.identity import ControlIdentity, edge_identity, load_control_identity
from farcast.control_plane.invitations import Invitee, is_wildcard, make_invitation
from farcast.control_plane.issuing import NO_AUTHORITY, Certificate, Joining
from farcast.control_plane.join_listener import JoinListener, server_context
from farcast.control_plane.link_state import LinkStateConfig
from farcast.control_plane.members import MembersConfig
from farcast.control_plane.metrics import render
from farcast.control_plane.move_gate import GateConfig
from farcast.control_plane.orders import Orders
from farcast.control_plane.plan import PlannerConfig
from farcast.control_plane.plan_cycle import CycleConfig
from farcast.control_plane.planning import PlanJob, Planned
from farcast.control_plane.risk_groups import RiskGroups, load_risk_groups
from farcast.control_plane.sharing import Shared, shared_by_nobody
from farcast.control_plane.store import Save, Store
from farcast.control_plane.tracing import Tracer, open_tracer
from farcast.driving import DriverClosed
from farcast.errors import EXIT_INTERRUPTED, EXIT_OK, UserError
from farcast.logs import configure_logs
from farcast.proto.access.keys import TrustedKey
from farcast.proto.joining.tokens import JoinToken
from farcast.proto.urls import split_host_port
from farcast.service_manager import ServiceManager

if TYPE_CHECKING:
    import socket

    from farcast.certificates import Authority
    from farcast.proto._core import Runtime

log: structlog.stdlib.BoundLogger = structlog.get_logger()

FREE_PORT_ATTEMPTS_MAX = 20
"""Tries to find a port that is free for both UDP and TCP, where the operator takes any."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run_control(config: ControlConfig, *, ready_json: bool = False) -> int:
    """Run a control plane until a signal ends it; the exit code. Raises `UserError` if it cannot start."""
    configure_logs(config.log_level)
    leaf = load_control_identity(config.hop_cert, config.hop_key, config.hop_ca).chain[0]
    loop = asyncio.get_running_loop()
    ended_by: list[signal.Signals] = []
    stopped = asyncio.Event()

    def end(number: signal.Signals) -> None:
        ended_by.append(number)
        stopped.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, end, number)
    watching = asyncio.create_task(_watch_certificate(leaf))
    try:
        if config.registry == "consul":
            from farcast.control_plane.registry.terms import run_terms

            await run_terms(config, stopped, ready_json=ready_json)
        else:
            service = open_service(config)
            await run_until(service.run(ready_json=ready_json), service.stop, stopped)
    finally:
        watching.cancel()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    log.info("stopped", signal=ended_by[0].name if ended_by else None)
    return EXIT_INTERRUPTED if ended_by[:1] == [signal.SIGINT] else EXIT_OK


async def _watch_certificate(leaf: bytes) -> None:
    watch = CertificateWatch(lambda: {"control": leaf})
    while True:
        await asyncio.sleep(watch.look())


async def run_until(work: Coroutine[Any, Any, None], stop: Callable[[], None], over: asyncio.Event) -> None:
    """Run ``work`` to its end; ``stop`` tells it to end as soon as ``over`` is set."""

    async def watch() -> None:
        await over.wait()
        stop()

    watcher = asyncio.create_task(watch())
    try:
        await work
    finally:
        watcher.cancel()


class ControlService:
    """A running control plane; `open_service` makes it, `run` serves until `stop`."""

    def __init__(
        self,
        config: ControlConfig,
        engine: ControlSessions,
        store: Store,
        runtime: Runtime,
        listener: socket.socket,
        access: ApiAccess,
        authority: Authority | None = None,
        join_socket: socket.socket | None = None,
        expiry_unix_s: float | None = None,
        tracer: Tracer | None = None,
        shared: Shared | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self.driver = Driver(runtime, engine)
        self.listen = Address(*split_host_port(runtime.local_addr))
        self.api = Address(*listener.getsockname()[:2])
        self._config = config
        self._store = store
        self._listener = listener
        self._access = access
        self._authority = authority
        self._join_socket = join_socket
        self._expiry_unix_s = expiry_unix_s
        self._tracer = Tracer() if tracer is None else tracer
        self._planner = ThreadPoolExecutor(1, "planner")
        self._planning: set[asyncio.Task[None]] = set()
        self._ready = False
        self._save_failure: str | None = None
        self._shared = shared
        self._manager = ServiceManager.from_environment() if manager is None else manager
        self._stopped = asyncio.Event()
        self.driver.on_progress(self._progress)

    @property
    def controller(self) -> Controller:
        """The engine; only to be read."""
        return self.driver.engine.controller

    @property
    def ready(self) -> bool:
        """Whether edges can join."""
        return self._ready

    def now_us(self) -> int:
        """The clock of all times here."""
        return self.driver.now_us()

    def stop(self) -> None:
        """End `run`."""
        self._manager.stopping()
        self.step_down()

    def step_down(self) -> None:
        """End `run` in a process that goes on: another control plane leads."""
        self._ready = False
        self.driver.close()
        self._stopped.set()

    def order(self, action: str, give: Callable[[Orders], str | None], **about: str) -> str | None:
        """Give an order; ``None``, or why not."""
        return self._call(lambda controller, now_us: controller.order(give, now_us), action, **about)

    def trust(self, key: TrustedKey) -> str | None:
        """Take the tokens of an issuer's key; ``None``, or why not."""
        return self._call(
            lambda controller, now_us: controller.trust(key, now_us), "trust", key_id=key.key_id
        )

    def distrust(self, key_id: str) -> str | None:
        """Forget an issuer's key; ``None``, or why not."""
        return self._call(
            lambda controller, now_us: controller.distrust(key_id, now_us), "distrust", key_id=key_id
        )

    def revoke_key(self, key_id: str) -> str | None:
        """Take a key's tokens never again; ``None``, or why not."""
        return self._call(
            lambda controller, now_us: controller.revoke_key(key_id, now_us), "revoke_key", key_id=key_id
        )

    def revoke_token(self, token_id: str) -> str | None:
        """Take a token no more; ``None``, or why not."""
        return self._call(
            lambda controller, now_us: controller.revoke_token(token_id, now_us),
            "revoke_token",
            token_id=token_id,
        )

    def revoke_node(self, node_id: str) -> str | None:
        """Take an edge's certificates no more; ``None``, or why not."""
        return self._call(
            lambda controller, now_us: controller.revoke_node(node_id, now_us), "revoke_node", node_id=node_id
        )

    def revoke_serial(self, serial: str) -> str | None:
        """Take one certificate no more; ``None``, or why not."""
        return self._call(
            lambda controller, now_us: controller.revoke_serial(serial, now_us),
            "revoke_serial",
            serial=serial,
        )

    def revoke_join_token(self, token_id: str) -> str | None:
        """Let nobody in by a join token any more; ``None``, or why not."""
        return self._call(
            lambda controller, now_us: controller.revoke_join_token(token_id, now_us),
            "revoke_join_token",
            token_id=token_id,
        )

    def remove(self, node_id: str) -> str | None:
        """Take an edge out for good; ``None``, or why not."""
        return self._call(
            lambda controller, now_us: controller.remove(node_id, now_us), "remove", node_id=node_id
        )

    def invite(self, wanted: Invitee) -> JoinToken | str:
        """A new join token, or why there is none."""
        addresses = wanted.addresses or self._config.advertise or (str(self.listen),)
        if self._authority is None:
            return NO_AUTHORITY
        if any(is_wildcard(address) for address in addresses):
            return (
                f"{addresses[0]} is no address that an edge could connect to; say where it reaches this "
                "control plane (farcast join-token --control HOST:PORT, or farcast control --advertise)"
            )
        fingerprint = hashlib.sha256(self._authority.certificate).digest()
        unix_us = self.controller.unix_us(self.now_us())
        token, invitation = make_invitation(wanted, addresses, fingerprint, unix_us)
        why_not = self._call(
            lambda controller, now_us: controller.invite(invitation, now_us), "invite", region=wanted.region
        )
        return why_not or self._save_failure or token

    def admit(self, joining: Joining) -> Certificate | str:
        """Certify an edge; durable when it returns."""
        issued = self.driver.call(lambda engine, now_us: engine.controller.admit(joining, now_us))
        self._progress()
        if self._save_failure is not None and not isinstance(issued, str):
            return "the control plane cannot write down that the token is used; see its log"
        return issued

    def metrics(self) -> bytes:
        """The Prometheus text."""
        return render(self.controller, self.now_us(), self._store.failures, self._expiry_unix_s)

    async def run(self, *, ready_json: bool) -> None:
        """Serve until `stop`; then the state is closed."""
        tasks = [asyncio.create_task(serve_api(api_app(self, self._access), self._listener, self._stopped))]
        if self._authority is not None and self._join_socket is not None:
            context = server_context(self._config.hop_cert, self._config.hop_key)
            joins = JoinListener(
                self._join_socket, context, self._authority.certificate, self.admit, self._access.settle
            )
            tasks.append(asyncio.create_task(joins.serve(self._stopped)))
        watchdog = asyncio.create_task(feed_watchdog(self._manager, self.driver))
        try:
            self._announce(ready_json=ready_json)
            self._ready = True
            self._manager.ready()
            await self.driver.run()
        finally:
            self._ready = False
            watchdog.cancel()
            self._stopped.set()
            await asyncio.gather(*tasks, watchdog, *self._planning, return_exceptions=True)
            self._planner.shutdown(wait=True, cancel_futures=True)
            self._store.close()
            await asyncio.to_thread(self._tracer.close)
            forget_address(self._config.state_dir)

    def save(self, save: Save) -> None:
        """Make a change durable; a disk that does not take it is one line in the log. What other control
        planes are to know is on its way to them."""
        if self._shared is not None:
            self._shared.save(save)
        self._store.save(save)
        failure = self._store.failure
        if failure is not None and self._save_failure is None:
            log.error("state is not saved; serving on from memory", reason=failure)
        elif failure is None and self._save_failure is not None:
            log.info("state is saved again")
        self._save_failure = failure

    def _call(
        self, method: Callable[[Controller, int], str | None], action: str, **attributes: str
    ) -> str | None:
        with self._tracer.action(action, **attributes) as span:
            result = self.driver.call(lambda engine, now_us: method(engine.controller, now_us))
            if result is not None:
                span.refuse(result)
        self._progress()
        return result

    def _progress(self) -> None:
        """After each turn: what is to be logged, and what is to be planned."""
        while (entry := self.controller.poll_log()) is not None:
            getattr(log, entry.level)(entry.event, **entry.fields)
        job = None if self._stopped.is_set() else self.controller.poll_job(self.now_us())
        if job is not None:
            task = asyncio.create_task(self._plan(job))
            self._planning.add(task)
            task.add_done_callback(self._planning.discard)

    async def _plan(self, job: PlanJob) -> None:
        loop = asyncio.get_running_loop()
        try:
            with self._tracer.action("plan", nodes=len(job.network.nodes)):
                planned: Planned = await loop.run_in_executor(self._planner, job.run)
        except Exception as error:
            log.exception("planner failed")
            reason = f"{type(error).__name__}: {error}"
            self.driver.call(lambda engine, now_us: engine.controller.handle_plan_failed(reason, now_us))
        else:
            self.driver.call(lambda engine, now_us: engine.controller.handle_planned(planned, now_us))
        if not self._stopped.is_set():
            self._progress()

    def _announce(self, *, ready_json: bool) -> None:
        controller = self.controller
        ready: dict[str, Any] = {
            "event": "ready",
            "listen": str(self.listen),
            "api": str(self.api),
            "cluster": controller.epoch.cluster,
            "epoch": controller.epoch.number,
        }
        write_address(self._config.state_dir, self.api)
        if ready_json:
            print(json.dumps(ready), flush=True)
        log.info("serving", **{key: value for key, value in ready.items() if key != "event"})


async def feed_watchdog(manager: ServiceManager, driver: Driver[ControlSessions]) -> None:
    """Tell the service manager that we live as long as the datapath answers and the event loop turns."""
    if manager.watchdog_seconds is None:
        return
    while True:
        await asyncio.sleep(manager.watchdog_seconds)
        try:
            await driver.snapshot()
        except DriverClosed:
            return
        manager.feed()


def wall_clock_us() -> int:
    """Unix time, microseconds."""
    return time.time_ns() // 1_000


def open_service(
    config: ControlConfig,
    unix_us: Callable[[], int] = wall_clock_us,
    *,
    shared: Shared | None = None,
    manager: ServiceManager | None = None,
) -> ControlService:
    """Prepare a control plane and bind its sockets; `UserError` if that cannot be done. ``unix_us``: the wall
    clock, which is read once; ``shared``: what other control planes know too, and are to know."""
    identity = load_control_identity(config.hop_cert, config.hop_key, config.hop_ca)
    authority = None
    if config.ca_dir is not None:
        now = datetime.fromtimestamp(unix_us() / 1e6, UTC)
        authority = open_authority(config.ca_dir, identity.cluster, identity.roots, now)
    risk_groups = RiskGroups()
    if config.risk_groups is not None:
        risk_groups = load_risk_groups(config.risk_groups, regions=config.regions or None)
    tracer = open_tracer(config.traces, identity.cluster)
    make_state_dir(config.state_dir)
    settle = shared_by_nobody if shared is None else shared.settle
    access = open_access(config.state_dir, unix_us=unix_us, settle=settle)
    listener = bind_tcp(config.api, "--api")
    store = Store(config.state_dir)
    try:
        restored = store.open_reign(identity.cluster, config.epoch_min)
        if shared is not None:
            restored = shared.begin(restored)
            store.replace(restored)
        runtime, join_socket = _bind(config, identity, joins=authority is not None)
    except BaseException:
        store.close()
        listener.close()
        raise
    now_us = runtime.now_us()
    sign = make_signer(identity.chain, identity.key)
    certify = (
        None
        if authority is None
        else certifier(authority, timedelta(seconds=config.cert_life_s), lambda: datetime.now(UTC))
    )
    controller = Controller(
        controller_config(config, risk_groups), restored, now_us, unix_us(), sign, certify
    )
    service: ControlService
    engine = ControlSessions(controller, edge_identity, lambda save: service.save(save))
    expiry = expiry_unix_s(identity.chain[0])
    service = ControlService(
        config,
        engine,
        store,
        runtime,
        listener,
        access,
        authority,
        join_socket,
        expiry,
        tracer,
        shared,
        manager,
    )
    return service


def controller_config(config: ControlConfig, risk_groups: RiskGroups) -> ControllerConfig:
    """The settings of the engine."""
    cycle = CycleConfig(
        planner=replace(PlannerConfig(), **config.planner), gate=replace(GateConfig(), **config.guard)
    )
    return ControllerConfig(
        regions=config.regions,
        members=replace(MembersConfig(), **config.members),
        links=LinkStateConfig(risk_groups=risk_groups),
        cycle=cycle,
    )


def make_state_dir(directory: Path) -> None:
    """Make the directory where it is not there; `UserError` if that cannot be done."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{directory}: cannot be made: {error.strerror}; choose another --state-dir"
        ) from error


def _bind(
    config: ControlConfig, identity: ControlIdentity, *, joins: bool
) -> tuple[Runtime, socket.socket | None]:
    """UDP for control channels, and TCP for joins on the same port number."""
    for attempts_left in reversed(range(FREE_PORT_ATTEMPTS_MAX)):
        join_socket = bind_tcp(config.listen, "--listen") if joins else None
        port = join_socket.getsockname()[1] if join_socket else config.listen.port
        try:
            return bind_runtime(config, Address(config.listen.host, port), identity), join_socket
        except BaseException as error:
            if join_socket is not None:
                join_socket.close()
            again = isinstance(error, UserError) and joins and config.listen.port == 0
            if not again or attempts_left == 0:
                raise
    raise AssertionError("unreachable")


def bind_runtime(config: ControlConfig, listen: Address, identity: ControlIdentity) -> Runtime:
    """The datapath at the address for edges; `UserError` if it cannot be had."""
    from farcast.proto._core import CoreError, DatapathConfig, Runtime, ServerTls

    try:
        tls = ServerTls(identity.chain, identity.key, identity.chain, identity.key, identity.roots)
    except CoreError as error:
        raise UserError(f"{config.hop_cert}: cannot be used: {error}") from error
    try:
        datapath = DatapathConfig(tls, (18,), control=True)
        return Runtime(str(listen), datapath)
    except OSError as error:
        raise UserError(
            f"cannot listen on UDP {listen}: {error.strerror}; choose another with --listen"
        ) from error
