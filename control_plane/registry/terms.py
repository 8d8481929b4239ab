"""A control plane among several: it stands by, leads a reign, and stands by again.

    standby (every Hello is refused: who leads) ──elected──► reign (ControlService) ──deposed──► standby

Both hold the address for edges, one after the other. A reign has its epoch from the election; the state on
disk gives what this machine knew, edges tell the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Final

import structlog

from farcast.control_plane.api import bind_tcp, open_access, serve_api
from farcast.control_plane.config import Address, ControlConfig
from farcast.control_plane.control_sessions import ControlSessions
from farcast.control_plane.controller import Controller, ControllerConfig
from farcast.control_plane.driver import Driver
from farcast.control_plane.identity import ControlIdentity, edge_identity, load_control_identity
from farcast.control_plane.registry.consul import ConsulLeadership
from farcast.control_plane.registry.standby_api import standby_app, standby_text
from farcast.control_plane.service import bind_runtime, make_state_dir, open_service, run_until, wall_clock_us
from farcast.control_plane.store import Restored, Store
from farcast.proto.control.messages import Epoch
from farcast.proto.urls import split_host_port

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SEEN_POLL_S: Final = 0.2
"""Epochs that edges told of reach the election so often."""


async def run_terms(config: ControlConfig, stopped: asyncio.Event, *, ready_json: bool) -> None:
    """Stand by and lead in turn, until ``stopped``."""
    identity = load_control_identity(config.hop_cert, config.hop_key, config.hop_ca)
    consul = config.consul
    leadership = ConsulLeadership(consul.host, consul.port, identity.cluster, identity.name, config.epoch_min)
    leadership.election.see_epoch(_epoch_on_disk(config, identity.cluster))
    running = asyncio.create_task(leadership.run())
    try:
        while not stopped.is_set():
            config = replace(config, listen=await _stand_by(config, identity, leadership, stopped))
            if not stopped.is_set():
                await _reign(config, leadership, stopped, ready_json=ready_json)
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


async def _stand_by(
    config: ControlConfig, identity: ControlIdentity, leadership: ConsulLeadership, stopped: asyncio.Event
) -> Address:
    """Refuse edges until we are elected or stopped; the address that they know us by."""
    election = leadership.election
    access = open_access(config.state_dir)
    listener = bind_tcp(config.api, "--api")
    try:
        runtime = bind_runtime(config, config.listen, identity)
    except BaseException:
        listener.close()
        raise
    restored = Restored(Epoch(cluster=identity.cluster, number=0))
    controller = Controller(
        ControllerConfig(regions=config.regions), restored, runtime.now_us(), wall_clock_us()
    )
    driver = Driver(runtime, ControlSessions(controller, edge_identity, lambda save: None))
    address = Address(*split_host_port(runtime.local_addr))
    over, said = asyncio.Event(), ""

    def look() -> None:
        nonlocal said
        controller.standby = standby_text(leader())
        state = f"{controller.standby}; {election.failure or 'Consul answers'}"
        if state != said:
            log.info(
                "standing by", leader=leader(), consul=election.failure or "answers", listen=str(address)
            )
            said = state
        if election.epoch or stopped.is_set():
            over.set()

    async def watch() -> None:
        while not over.is_set():
            election.see_epoch(controller.epoch_seen)
            look()
            await asyncio.sleep(SEEN_POLL_S)

    def leader() -> str | None:
        return None if election.leader == identity.name else election.leader

    look()
    watcher = asyncio.create_task(watch())
    api = asyncio.create_task(serve_api(standby_app(leader, access), listener, over))
    try:
        await run_until(driver.run(), driver.close, over)
    finally:
        watcher.cancel()
        over.set()
        await api
    return address


async def _reign(
    config: ControlConfig, leadership: ConsulLeadership, stopped: asyncio.Event, *, ready_json: bool
) -> None:
    """Lead until another does, an edge follows a higher epoch, or we are stopped."""
    election = leadership.election
    epoch = election.epoch
    service = open_service(replace(config, epoch_min=epoch))
    over = asyncio.Event()

    async def watch() -> None:
        failure = None
        while not over.is_set():
            election.see_epoch(service.controller.epoch_seen)
            if election.failure != failure:
                failure = election.failure
                if failure:
                    log.warning("Consul fails; leading on", reason=failure)
                else:
                    log.info("Consul is back")
            if election.epoch != epoch or stopped.is_set():
                over.set()
            await asyncio.sleep(SEEN_POLL_S)

    watcher = asyncio.create_task(watch())
    try:
        await run_until(service.run(ready_json=ready_json), service.stop, over)
    finally:
        watcher.cancel()
