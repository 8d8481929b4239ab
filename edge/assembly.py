"""From an edge's configuration to the settings of its two engines, the datapath and the agent."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, Any

from farcast.edge.config import EdgeConfig, Upstream
from farcast.edge.credentials import Credentials, peer_node_id
from farcast.remote import resolve

if TYPE_CHECKING:
    from farcast.proto._core import DatapathConfig
    from farcast.proto.agent.config import AgentConfig
    from farcast.proto.agent.config import Upstream as AgentUpstream


def datapath_config(config: EdgeConfig, credentials: Credentials) -> DatapathConfig:
    """Certificates, drafts and limits of the datapath."""
    from farcast.proto._core import DatapathConfig

    limits: dict[str, Any] = dict(config.limits_datapath)
    return DatapathConfig(
        credentials.server_tls(), config.drafts, moq_net_quirk=config.moq_net_draft_16, **limits
    )


async def agent_config(config: EdgeConfig, credentials: Credentials) -> AgentConfig:
    """Name, upstreams (their names resolved) and limits of the agent."""
    from farcast.proto.agent.config import AgentConfig, AgentLimits, MediaLimits, Quirks, TrackTiming

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
