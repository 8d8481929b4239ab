"""The agent of an edge, as an engine without I/O."""

from farcast.proto.agent.agent import Agent
from farcast.proto.agent.backoff import BackoffConfig
from farcast.proto.agent.config import (
    AgentConfig,
    AgentLimits,
    MediaLimits,
    PlanHops,
    Quirks,
    Target,
    TrackTiming,
    Upstream,
)

__all__ = [
    "Agent",
    "AgentConfig",
    "AgentLimits",
    "BackoffConfig",
    "MediaLimits",
    "PlanHops",
    "Quirks",
    "Target",
    "TrackTiming",
    "Upstream",
]
