"""The edge daemon: one edge node, and the signals that steer it.

SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reads the configuration again. A bad
configuration is refused with everything that is wrong with it, and the running one stays. systemd, where it
started the edge, is told when it serves, when it stops, and as long as the datapath answers.
"""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import structlog
import trio

from farcast.driving import DriverClosed
from farcast.edge.config import RELOADABLE, EdgeConfig, changed_fields
from farcast.edge.joining import Wanted, join
from farcast.edge.logs import configure_logs
from farcast.edge.node import EdgeNode, open_edge
from farcast.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, UserError
from farcast.service_manager import ServiceManager

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

LoadConfig = Callable[[], EdgeConfig]


async def run_edge(
    load: LoadConfig, *, ready_json: bool, task_status: trio.TaskStatus[EdgeNode] = trio.TASK_STATUS_IGNORED
) -> int:
    """Run an edge until a signal ends it; the exit code.

    ``load`` reads the configuration, now and on each SIGHUP. ``ready_json``: one JSON line on stdout when
    the edge serves. ``task_status`` gets the node then. Raises `UserError` if it cannot start.
    """
    config = load()
    configure_logs(config.log_level)
    if config.join is not None and config.control is not None and config.control.state_dir is not None:
        await join(Wanted(config.join, config.node_id), config.control.state_dir)
        config = load()
    manager = ServiceManager.from_environment()
    with trio.open_signal_receiver(*SIGNALS) as signals:
        node = await open_edge(config)
        steering = _Steering(node, load, manager)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(steering.run, signals, nursery)
            async with trio.open_nursery() as serving:
                await serving.start(node.run)
                _announce(node, ready_json=ready_json)
                manager.ready()
                nursery.start_soon(feed_watchdog, node, manager)
                task_status.started(node)
            manager.stopping()
            nursery.cancel_scope.cancel()
    log.info("stopped")
    return steering.exit_code


async def feed_watchdog(node: EdgeNode, manager: ServiceManager) -> None:
    """Tell the service manager that the edge lives as long as it does: an event loop or a datapath that hangs
    tells nothing, and the edge is started anew."""
    if manager.watchdog_seconds is None:
        return
    while True:
        try:
            await node.driver.snapshot()
        except DriverClosed:
            return
        manager.feed()
        await trio.sleep(manager.watchdog_seconds)


def _announce(node: EdgeNode, *, ready_json: bool) -> None:
    ready = {
        "event": "ready",
        "listen": str(node.listen),
        "ops": str(node.ops),
        "cert_sha256": node.credentials.public.sha256.hex(),
        "drafts": list(node.config.drafts),
    }
    if ready_json:
        print(json.dumps(ready), flush=True)
    log.info(
        "serving",
        listen=ready["listen"],
        ops=ready["ops"],
        node_id=node.credentials.node_id,
        upstreams=[str(upstream.url) for upstream in node.config.upstreams],
    )
    if node.config.auth_mode == "open":
        log.warning("open: everybody may publish and watch everything here (--auth open)")
    if node.config.dev_cert:
        log.warning("development certificate: clients must trust it by its hash", sha256=ready["cert_sha256"])


class _Steering:
    """What signals do to a node, and the exit code that follows from them."""

    def __init__(self, node: EdgeNode, load: LoadConfig, manager: ServiceManager) -> None:
        self.exit_code = EXIT_OK
        self._manager = manager
        self._node = node
        self._load = load

    async def run(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload()
            else:
                self._end(number, nursery)

    def _end(self, number: int, nursery: trio.Nursery) -> None:
        interrupted = number == signal.SIGINT
        name = signal.Signals(number).name
        self._manager.stopping()
        if self._node.ready:
            self.exit_code = EXIT_INTERRUPTED if interrupted else EXIT_OK
            log.info("draining", signal=name, drain_ms_max=self._node.config.drain_ms_max)
            nursery.start_soon(self._node.drain)
        else:
            self.exit_code = EXIT_INTERRUPTED if interrupted else EXIT_FAILED
            log.warning("stopping before the drain is done", signal=name)
            self._node.stop()

    def _reload(self) -> None:
        old = self._node.config
        try:
            new = self._load()
            self._node.reload_keys(new)
            self._node.reload_certificate(new)
        except UserError as error:
            log.error("new configuration refused, the old one stays", errors=error.message.splitlines())
            return
        changed = changed_fields(old, new)
        taken = {name: getattr(new, name) for name in changed if name in RELOADABLE}
        self._node.config = replace(old, **taken)
        configure_logs(self._node.config.log_level)
        log.info(
            "configuration reloaded",
            changed={name: [str(getattr(old, name)), str(value)] for name, value in taken.items()},
            needs_restart=[name for name in changed if name not in RELOADABLE],
        )
