"""Who may publish and watch at this edge, from its configuration to the agent's policy."""

from __future__ import annotations

from farcast.certificates import cluster_name
from farcast.edge.config import ConfigError, EdgeConfig
from farcast.edge.credentials import Credentials
from farcast.issuers import load_public_keys
from farcast.proto.access.gate import AccessPolicy


def access_policy(config: EdgeConfig, credentials: Credentials) -> AccessPolicy | None:
    """The policy until a plan brings another one; ``None`` for an edge that is open. Raises `ConfigError`
    where nobody could say for which cluster tokens have to be, and `UserError` for a bad key file."""
    if config.auth_mode == "open":
        return None
    keys = load_public_keys(config.auth_keys) if config.auth_keys is not None else {}
    return AccessPolicy(_audience(config, credentials), keys)


def _audience(config: EdgeConfig, credentials: Credentials) -> str:
    roots = credentials.hop.roots if credentials.hop is not None else ()
    named = {name for root in roots if (name := cluster_name(root)) is not None}
    if config.auth_cluster:
        return config.auth_cluster
    if len(named) != 1:
        raise ConfigError(
            ["[auth]: cluster is missing: the cluster that tokens must be for (the hop authority names none)"]
        )
    return named.pop()
