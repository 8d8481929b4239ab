"""A control plane among several: it stands by, leads a reign, and stands by again.

    standby (every Hello is refused: who leads) ──elected, state read──► reign (ControlService)
       ▲                                                                        │
       └──────────── deposed, or an edge follows a higher epoch ◄───────────────┘

Both hold the addresses for edges and for the API, one after the other. A reign has its epoch from the
election, and begins with what the leader before it knew (`SharedState`): to the controller a takeover is what
a restart is, so routes stay and a drain stays a drain. A standby whom the service manager started is ready as
soon as it answers edges: it may stand by for a year.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import Final

import structlog

from farcast import __version__
from farcast.control_plane.api import bind_tcp, forget_address, open_access, serve_api, write_address
from farcast.control_plane.config import Address, ControlConfig
from farcast.control_plane.control_sessions import ControlSessions
from farcast.control_plane.controller import Controller, ControllerConfig
from farcast.control_plane.driver import Driver
from farcast.control_plane.identity import ControlIdentity, edge_identity, load_control_identity
from farcast.control_plane.registry.consul import ConsulLeadership
from farcast.control_plane.registry.consul_agent import open_agent
from farcast.control_plane.registry.edge_services import services_of
from farcast.control_plane.registry.standby_api import standby_app, standby_text
from farcast.control_plane.service import (
    bind_runtime,
    feed_watchdog,
    make_state_dir,
    open_service,
    run_until,
    wall_clock_us,
)
from farcast.control_plane.store import Restored, Store
from farcast.proto.control.messages import Epoch
from farcast.proto.urls import split_host_port
from farcast.service_manager import ServiceManager

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SEEN_POLL_S: Final = 0.2
"""Epochs that edges told of reach the election so often."""
SHOW_S: Final = 1.0
"""What has become of edges reaches Consul so often."""


async def run_terms(config: ControlConfig, stopped: asyncio.Event, *, ready_json: bool) -> None:
    """Stand by and lead in turn, until ``stopped``."""
    identity = load_control_identity(config.hop_cert, config.hop_key, config.hop_ca)
    leadership = ConsulLeadership(
        open_agent(config),
        identity.cluster,
        identity.name,
        config.epoch_min,
        meta={"cluster": identity.cluster, "name": identity.name, "version": __version__},
    )
    leadership.election.see_epoch(_epoch_on_disk(config, identity.cluster))
    terms = _Terms(identity, leadership, stopped, ready_json=ready_json)
    running = asyncio.create_task(leadership.run())
    try:
        while not stopped.is_set():
            config = replace(config, listen=await terms.stand_by(config))
            if not stopped.is_set():
                await terms.reign(config)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _epoch_on_disk(config: ControlConfig, cluster: str) -> int:
    """An epoch at or above all that this machine ever led in; also shows early that the state is usable."""
    make_state_dir(config.state_dir)
    store = Store(config.state_dir)
    try:
        return store.open_reign(cluster, config.epoch_min).epoch.number
    finally:
        store.close()


class _Terms:
    """What standing by and leading have in common."""

    def __init__(
        self,
        identity: ControlIdentity,
        leadership: ConsulLeadership,
        stopped: asyncio.Event,
        *,
        ready_json: bool,
    ) -> None:
        self._identity = identity
        self._leadership = leadership
        self._stopped = stopped
        self._ready_json = ready_json
        self._manager = ServiceManager.from_environment()

    # ---- Standing by ------------------------------------------------------------------------------

    async def stand_by(self, config: ControlConfig) -> Address:
        """Refuse edges until we are elected and know what the leader knew, or are stopped; the address that
        edges know us by."""
        access = open_access(config.state_dir)
        listener = bind_tcp(config.api, "--api")
        api_address = Address(*listener.getsockname()[:2])
        try:
            runtime = bind_runtime(config, config.listen, self._identity)
        except BaseException:
            listener.close()
            raise
        restored = Restored(Epoch(cluster=self._identity.cluster, number=0))
        settings = ControllerConfig(regions=config.regions)
        controller = Controller(settings, restored, runtime.now_us(), wall_clock_us())
        driver = Driver(runtime, ControlSessions(controller, edge_identity, lambda save: None))
        address = Address(*split_host_port(runtime.local_addr))
        over = asyncio.Event()
        controller.standby = standby_text(self._leader())
        tasks = [
            asyncio.create_task(self._wait_for_reign(controller, over)),
            asyncio.create_task(feed_watchdog(self._manager, driver)),
        ]
        api = asyncio.create_task(serve_api(standby_app(self._leader, access), listener, over))
        write_address(config.state_dir, api_address)
        self._announce(address, api_address)
        try:
            await run_until(driver.run(), driver.close, over)
        finally:
            over.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, api, return_exceptions=True)
            forget_address(config.state_dir)
        if self._stopped.is_set():
            self._manager.stopping()
        return address

    async def _wait_for_reign(self, controller: Controller, over: asyncio.Event) -> None:
        """Read the state once we are elected, and again should we be elected again meanwhile."""
        election, state = self._leadership.election, self._leadership.state
        reading, said = 0, ""
        while not over.is_set():
            election.see_epoch(controller.epoch_seen)
            if election.epoch != reading:
                reading = election.epoch
                if reading:
                    self._leadership.load()
                else:
                    self._leadership.end()
            controller.standby = standby_text(self._leader())
            failure = election.failure or (state.failure if reading else None)
            if f"{controller.standby}; {failure}" != said:
                said = f"{controller.standby}; {failure}"
                self._say(failure)
            if self._stopped.is_set() or (reading and state.loaded is not None):
                over.set()
            await self._leadership.wait(SEEN_POLL_S)

    def _leader(self) -> str | None:
        leader = self._leadership.election.leader
        return None if leader == self._identity.name else leader

    def _say(self, failure: str | None) -> None:
        leader = self._leader() or "not known yet"
        if failure is None:
            log.info("standing by", leader=leader)
        else:
            log.warning("standing by, and Consul is of no use", leader=leader, reason=failure)
        self._manager.status(f"stands by; the leader is {leader}" + (f"; {failure}" if failure else ""))

    def _announce(self, listen: Address, api: Address) -> None:
        self._manager.ready()
        if self._ready_json:
            cluster = self._identity.cluster
            told = {"event": "standby", "listen": str(listen), "api": str(api), "cluster": cluster}
            print(json.dumps(told), flush=True)

    # ---- Leading ----------------------------------------------------------------------------------

    async def reign(self, config: ControlConfig) -> None:
        """Lead until another does, an edge follows a higher epoch, or we are stopped."""
        leadership, election = self._leadership, self._leadership.election
        epoch = election.epoch
        if not epoch:
            return
        config = replace(config, epoch_min=epoch)
        service = open_service(config, shared=leadership, manager=self._manager)
        self._manager.status(f"leads in epoch {epoch}")
        over = asyncio.Event()

        async def watch() -> None:
            failure, hidden, due_us = None, None, 0
            while not over.is_set():
                election.see_epoch(service.controller.epoch_seen)
                failure = _tell(failure, election.failure or leadership.state.failure)
                hidden = _tell_hidden(hidden, None if failure else leadership.edges.failure)
                if (now_us := service.now_us()) >= due_us:
                    due_us = now_us + int(SHOW_S * 1e6)
                    leadership.show(services_of(service.controller.members, now_us))
                if election.epoch != epoch or self._stopped.is_set():
                    over.set()
                await leadership.wait(SEEN_POLL_S)

        def stop() -> None:
            (service.stop if self._stopped.is_set() else service.step_down)()

        watcher = asyncio.create_task(watch())
        try:
            await run_until(service.run(ready_json=self._ready_json), stop, over)
        finally:
            watcher.cancel()
            leadership.end()
        if not self._stopped.is_set():
            log.warning("leads no more", epoch=epoch, leader=self._leader() or "not known yet")


def _tell(before: str | None, failure: str | None) -> str | None:
    """Log that Consul fails, or is back, once; ``failure``."""
    if failure != before:
        if failure is not None:
            log.warning("Consul fails; leading on", reason=failure)
        else:
            log.info("Consul is back")
    return failure


def _tell_hidden(before: str | None, failure: str | None) -> str | None:
    """The same for edges as services, which nothing here depends on; ``failure``."""
    if failure != before and failure is not None:
        log.warning("edges are not shown as services in Consul", reason=failure)
    return failure
