"""What is known of nodes and links, out of the edges' reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from farcast.control_plane.network import Network
from farcast.control_plane.risk_groups import RiskGroups
from farcast.proto.control.messages import Hello, Report


@dataclass(frozen=True, slots=True)
class LinkStateConfig:
    """Settings."""

    risk_groups: RiskGroups = field(default_factory=RiskGroups)
    nodes_max: int = 1_024


class LinkState:
    """Nodes and directed links, fed by reports."""

    def __init__(self, config: LinkStateConfig) -> None:
        self._config = config

    def join(self, hello: Hello, now_us: int) -> bool:
        """An edge's control session stands. False where there is no room for another node."""
        raise NotImplementedError

    def leave(self, node_id: str, now_us: int) -> None:
        """Its control session is gone. The node stays in the network while others hear it."""
        raise NotImplementedError

    def set_draining(self, node_id: str, draining: bool) -> None:
        """By order of an operator, whatever the node itself reports."""
        raise NotImplementedError

    def handle_report(self, node_id: str, report: Report, now_us: int) -> bool:
        """Take over a report; True where planning should not wait (a link went silent, a node drains)."""
        raise NotImplementedError

    def network(self, now_us: int) -> Network:
        """The network as it is known now."""
        raise NotImplementedError
