"""Two edges on loopback with a bad link between them, in one process, under a throw-away authority."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from farcast.certificates import HopAuthority, Identity, make_dev_identity
from farcast.edge.config import EdgeConfig, Upstream
from farcast.edge.credentials import Credentials, HopIdentity
from farcast.edge.node import EdgeNode, open_edge
from farcast.edge.settings import Address
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto._core import LinkConfig, UdpShaper
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import ServerUrl, split_host_port

HOST = "127.0.0.1"
EGRESS_PORT_OFFSET = 10
"""From the origin edge's port to the egress edge's; the ops port is each edge's next."""


@dataclass(frozen=True, slots=True)
class LinkConditions:
    """What the link is like, each way alike: ``loss`` a share from 0 to 1, in bursts of so many packets."""

    loss: float = 0.03
    loss_burst: float = 3.0
    delay_ms: float = 40.0
    jitter_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class DevNetwork:
    """The running network: publish at ``origin``, watch at ``egress``."""

    origin: EdgeNode
    egress: EdgeNode
    shaper: UdpShaper
    public: Identity


@asynccontextmanager
async def dev_network(conditions: LinkConditions, port: int = 0) -> AsyncIterator[DevNetwork]:
    """Run the network for the length of the block; ``port`` 0 takes free ones."""
    link = _link(conditions)
    now = datetime.now(UTC)
    authority, public = HopAuthority(now), make_dev_identity(now)
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        origin = await open_edge(*_edge(authority, public, "origin", port))
        stack.callback(origin.stop)
        await nursery.start(origin.run)
        shaper = UdpShaper(f"{HOST}:0", str(origin.listen), link, link)
        stack.callback(shaper.close)
        hop = Upstream(TrackNamespace(), ServerUrl("hop", *split_host_port(shaper.local_addr), ""))
        egress_port = port + EGRESS_PORT_OFFSET if port else 0
        egress = await open_edge(*_edge(authority, public, "egress", egress_port, hop))
        stack.callback(egress.stop)
        await nursery.start(egress.run)
        yield DevNetwork(origin, egress, shaper, public)


def _link(conditions: LinkConditions) -> LinkConfig:
    try:
        return LinkConfig(
            delay_us=round(conditions.delay_ms * 1000),
            jitter_us=round(conditions.jitter_ms * 1000),
            loss=conditions.loss,
            loss_burst=conditions.loss_burst if conditions.loss else None,
        )
    except (ValueError, OverflowError) as error:
        raise UserError(f"the link cannot be like that: {error}", EXIT_USAGE) from error


def _edge(
    authority: HopAuthority, public: Identity, node_id: str, port: int, upstream: Upstream | None = None
) -> tuple[EdgeConfig, Credentials]:
    config = EdgeConfig(
        listen=Address(HOST, port),
        ops=Address(HOST, port + 1 if port else 0),
        dev_cert=True,
        drain_ms_max=1000,
        upstreams=(upstream,) if upstream else (),
    )
    hop = HopIdentity(authority.issue("dev", node_id), (authority.certificate,))
    return config, Credentials(public, hop, node_id, "dev")
