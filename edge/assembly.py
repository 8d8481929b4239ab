"""From an edge's configuration to the settings of its two engines, the datapath and the agent."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from farcast.certificates import cluster_name
from farcast.edge.access import access_policy
from farcast.edge.config import EdgeConfig, Upstream
from farcast.edge.control_connection import ControlTls
from farcast.edge.credentials import Credentials, peer_certificate, peer_node_id
from farcast.edge.membership import MembershipOptions
from farcast.edge.plan_file import usual_folder
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.urls import join_host_port, split_host_port
from farcast.remote import resolve

if TYPE_CHECKING:
    from farcast.proto._core import DatapathConfig
    from farcast.proto.agent.config import AgentConfig, PlanHops
    from farcast.proto.agent.config import Upstream as AgentUpstream
    from farcast.proto.recovery.second_path import SecondPaths


def datapath_config(config: EdgeConfig, credentials: Credentials) -> DatapathConfig:
    """Certificates, drafts and limits of the datapath."""
    from farcast.proto._core import CongestionLimits, DatapathConfig

    limits: dict[str, Any] = dict(config.limits_datapath)
    limits.update({f"hop_{name}": value for name, value in config.recovery.items()})
    if config.control is not None:
        limits |= probe_intervals(config.control.probe_bps)
    return DatapathConfig(
        credentials.server_tls(),
        config.drafts,
        moq_net_quirk=config.moq_net_draft_16,
        congestion=config.congestion_controller,
        congestion_limits=CongestionLimits(**config.congestion_limits),
        send_queue_ms=config.congestion_send_queue_ms,
        **limits,
    )


PROBE_BITS = 3_200
"""What an idle link to another edge costs in each direction for one heartbeat interval, IP and UDP headers
included: two connections, each with a heartbeat and what answers it (measured in the twin)."""

PROBE_INTERVAL_MS_MIN = 100
SILENT_IDLE_MS_MIN = 3_500
"""Three intervals of a peer with the smallest budget, and a little more."""


def probe_intervals(probe_bps: int) -> dict[str, int]:
    """The heartbeat interval of idle hops out of a budget in bits per second and link, and the silence after
    which such a hop counts as dead (at least three intervals).

    Below some 3 kbit/s QUIC's own keep-alive would cost more than the heartbeats.
    """
    interval_ms = max(PROBE_BITS * 1_000 // probe_bps, PROBE_INTERVAL_MS_MIN)
    silent_ms = max(SILENT_IDLE_MS_MIN, 3 * interval_ms + 500)
    return {"hop_heartbeat_idle_ms": interval_ms, "hop_silent_idle_ms": silent_ms}


async def agent_config(config: EdgeConfig, credentials: Credentials) -> AgentConfig:
    """Name, upstreams (their names resolved) and limits of the agent."""
    from farcast.proto.agent.config import (
        TRACKS_AHEAD,
        AgentConfig,
        AgentLimits,
        MediaLimits,
        Quirks,
        TrackTiming,
    )

    limits = {key: value for key, value in config.limits_datapath.items() if key == "sessions_max"}
    return AgentConfig(
        node_id=credentials.node_id,
        region=credentials.region,
        upstreams=tuple([await _upstream(upstream, config, credentials) for upstream in config.upstreams]),
        seed=secrets.randbits(63),
        quirks=Quirks(whole_group_for_moq_net=config.moq_net_from_group_start),
        limits=AgentLimits(**limits),
        timing=TrackTiming(drain_ms=config.drain_ms_max),
        media=MediaLimits(**config.limits_track),
        peer_identity=peer_node_id,
        peer_certificate=peer_certificate,
        plan_hops=plan_hops(config, credentials),
        access=access_policy(config, credentials),
        ahead=TRACKS_AHEAD,
        recovery=config.recovery_targets,
        second_paths=second_paths(config),
    )


def second_paths(config: EdgeConfig) -> SecondPaths:
    """When tracks come over two paths at the same time; shares in permille become fractions."""
    from farcast.proto.recovery.second_path import SecondPaths

    wanted = dict(config.second_paths)
    for name in ("audio_loss", "video_loss"):
        permille = wanted.pop(f"{name}_permille", None)
        if permille is not None:
            wanted[name] = permille / 1_000
    return SecondPaths(**wanted)


def plan_hops(config: EdgeConfig, credentials: Credentials) -> PlanHops | None:
    """How edges of a plan are reached; ``None`` for an edge outside of any network."""
    from farcast.proto.agent.config import PlanHops

    if config.control is None or credentials.hop is None:
        return None
    return PlanHops(
        tls=credentials.hop_tls(),
        addresses=config.control.peer_addresses,
        loss_max_permille=config.hop_loss_max_permille,
        rtt_max_us=config.hop_rtt_max_ms * 1_000,
    )


async def _upstream(upstream: Upstream, config: EdgeConfig, credentials: Credentials) -> AgentUpstream:
    from farcast.proto.agent.config import Target
    from farcast.proto.agent.config import Upstream as AgentUpstream

    url = upstream.url
    family = socket.AF_INET6 if ":" in config.listen.host else socket.AF_INET
    target = Target(
        kind=url.target,
        remote=await resolve(url, [family]),
        server_name=url.host,
        tls=credentials.client_tls(upstream),
        authority=url.authority,
        path=url.path or "/",
        drafts=config.drafts,
    )
    return AgentUpstream(upstream.prefix, target)


# ---- Taking part in a network -----------------------------------------------------------------------


def state_folder(config: EdgeConfig, credentials: Credentials) -> Path | None:
    """Where the plan is kept; ``None`` for an edge outside of any network."""
    if config.control is None:
        return None
    return config.control.state_dir or usual_folder(credentials.node_id, os.environ)


def membership_options(config: EdgeConfig, credentials: Credentials, advertise: str) -> MembershipOptions:
    """What the edge says of itself to control planes; ``advertise`` is ``ip:port``."""
    if config.control is None or credentials.hop is None:
        raise ValueError("this edge is not to take part in a network")
    control, hop = config.control, credentials.hop
    clusters = [name for root in hop.roots if (name := cluster_name(root)) is not None]
    return MembershipOptions(
        node_id=credentials.node_id,
        region=credentials.region,
        addresses=control.addresses,
        tls=ControlTls(hop.identity, hop.roots, clusters[0] if len(set(clusters)) == 1 else ""),
        advertise=advertise,
        public_url=control.public_url,
        provider=control.provider,
        egress_bps_max=control.egress_bps_max,
    )


async def advertised(config: EdgeConfig) -> str | None:
    """The address ``ip:port`` by which other edges reach this one, as configured, its name resolved: they
    connect to addresses. ``None``: the one it listens on. `UserError` for a name that has none."""
    endpoint = config.control.advertise if config.control is not None else ""
    if not endpoint:
        return None
    host, port = split_host_port(endpoint)
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        why = f"the name has no address: {error.strerror}"
        raise UserError(f"--advertise {endpoint}: {why}", EXIT_USAGE) from error
    return join_host_port(str(found[0][4][0]), port)
