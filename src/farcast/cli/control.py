"""``farcast control``: run the control plane."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import uvloop
from cyclopts import Parameter

from farcast.control_plane.config import load_config


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ControlFlags:
    """What beats the file.

    Parameters
    ----------
    listen
        UDP address IP:PORT for edges; 127.0.0.1:4440 unless set.
    state_dir
        Directory for what must not be forgotten; made if it is not there.
    hop_cert
        PEM file with this control plane's certificate: spiffe://farcast/control/CLUSTER/NAME.
    hop_key
        PEM file with its private key.
    hop_ca
        PEM file with the authorities of the edges' certificates.
    api
        TCP address IP:PORT of the HTTP API; 127.0.0.1:4441 unless set.
    risk_groups
        TOML file with what fails together: cables, providers, regions, sites.
    regions
        Regions that may join, separated by commas; any unless set.
    ca_dir
        Folder with ca.pem and ca.key of farcast ca init: edges can join by token (farcast join-token) and
        renew their certificates. Without it certificates are issued by hand.
    cert_life
        How long an edge's certificate is valid, such as 7d, which it is unless set; renewed after a third.
    advertise
        HOST:PORT where edges reach this control plane, for join tokens; the listening address unless set.
        May be given several times.
    epoch_min
        Begin with this epoch or a later one; only after the state directory was lost.
    registry
        embedded (this is the only control plane) or consul (several; the holder of Consul's lock leads).
    consul
        HOST:PORT of the local Consul agent's HTTP API, or https://HOST:PORT; 127.0.0.1:8500 unless set.
    consul_token_file
        File with the token that Consul's access control wants, where it is in use.
    consul_ca
        PEM file with the authorities of Consul's certificate; those of this machine unless set.
    consul_cert
        PEM file with the certificate that Consul wants of its clients, where it wants one.
    consul_key
        PEM file with its private key.
    log_level
        debug, info, warning or error.
    """

    listen: str | None = None
    state_dir: str | None = None
    hop_cert: str | None = None
    hop_key: str | None = None
    hop_ca: str | None = None
    api: str | None = None
    risk_groups: str | None = None
    regions: str | None = None
    ca_dir: str | None = None
    cert_life: str | None = None
    advertise: Annotated[list[str] | None, Parameter(negative=())] = None
    epoch_min: int | None = None
    registry: str | None = None
    consul: str | None = None
    consul_token_file: str | None = None
    consul_ca: str | None = None
    consul_cert: str | None = None
    consul_key: str | None = None
    log_level: str | None = None

    def by_key(self) -> dict[str, object]:
        """As `load_config` takes them."""
        return {re.sub("^hop_", "hop.", name): value for name, value in vars(self).items()}


def control(
    *,
    flags: ControlFlags | None = None,
    config: Path | None = None,
    ready_json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run the control plane: it takes edges' reports, computes the routes and pushes them.

    Everything but --config and --ready-json can stand in a TOML file as well; a flag beats it. Media goes on
    without the control plane. SIGTERM ends it.

    Example: farcast control --listen 0.0.0.0:4440 --state-dir control --hop-cert c1.pem --hop-key c1.key
    --hop-ca ca.pem

    Parameters
    ----------
    config
        TOML file.
    ready_json
        Print one JSON line on stdout when edges can join, and one when this control plane begins to stand by.
    """
    from farcast.control_plane.service import run_control

    loaded = load_config(config, (flags or ControlFlags()).by_key())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_control(loaded, ready_json=ready_json))
