"""``farcast edge``: run an edge."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import trio
from cyclopts import Parameter

from farcast.edge.config import EdgeConfig, load_config
from farcast.edge.daemon import run_edge
from farcast.errors import EXIT_USAGE, UserError

KEYS: Final = {
    "hop_cert": "hop.cert",
    "hop_key": "hop.key",
    "hop_ca": "hop.ca",
    "control": "control.addresses",
    "advertise": "control.advertise",
    "public_url": "control.public_url",
    "state_dir": "control.state_dir",
    "auth": "auth.mode",
    "auth_keys": "auth.keys",
}
"""Of the configuration, where they are named otherwise."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EdgeFlags:
    """What beats the file and the environment.

    Parameters
    ----------
    listen
        UDP address HOST:PORT for QUIC, WebTransport and hops; 127.0.0.1:4433 unless set.
    ops
        TCP address HOST:PORT for /livez /readyz /metrics /status.json; 127.0.0.1:4434 unless set.
    cert
        PEM file with the certificate chain for clients.
    key
        PEM file with its private key.
    dev_cert
        Make a throw-away certificate instead, and tell its hash at http://LISTEN/certificate.sha256.
    upstream
        PREFIX=URL: where namespaces under PREFIX come from that nobody publishes here. farcast:// is
        another edge, moqt:// and https:// other MoQT relays. May be given several times.
    drafts
        MoQT drafts to speak, most wanted first; 18,16 unless set.
    node_id
        Name of this edge; the one in the hop certificate unless set.
    region
        Region of this edge; the one in the hop certificate unless set.
    hop_cert
        PEM file with this edge's certificate for hops.
    hop_key
        PEM file with its private key.
    hop_ca
        PEM file with the authorities of other edges' hop certificates, and of the control plane's.
    join
        Join token (farcast join-token), or @FILE that holds one: the edge gets its certificate with it once,
        and keeps it in the state directory. Not needed, and not looked at, from the next start on.
    control
        HOST:PORT of a control plane: join its network, report to it, follow its plans. May be given
        several times.
    advertise
        HOST:PORT where other edges reach this one; the listening address unless set.
    public_url
        URL that viewers of other edges are sent to when those go away.
    state_dir
        Folder in which the plan is kept, so that the edge starts without a control plane;
        $STATE_DIRECTORY or ~/.local/state/farcast/NODE_ID unless set.
    auth
        token: clients need tokens (the default); open: everybody may publish and watch everything.
    auth_keys
        File with the public keys of issuers whose tokens count here, as farcast token key prints them;
        those of the control plane count too.
    log_level
        debug, info, warning or error.
    """

    listen: str | None = None
    ops: str | None = None
    cert: str | None = None
    key: str | None = None
    dev_cert: Annotated[bool | None, Parameter(negative=())] = None
    upstream: Annotated[list[str] | None, Parameter(negative=())] = None
    drafts: str | None = None
    node_id: str | None = None
    region: str | None = None
    hop_cert: str | None = None
    hop_key: str | None = None
    hop_ca: str | None = None
    join: str | None = None
    control: Annotated[list[str] | None, Parameter(negative=())] = None
    advertise: str | None = None
    public_url: str | None = None
    state_dir: str | None = None
    auth: str | None = None
    auth_keys: str | None = None
    log_level: str | None = None

    def by_key(self) -> dict[str, object]:
        """As `load_config` takes them."""
        return {KEYS.get(name, name): value for name, value in vars(self).items()}


def edge(
    *,
    flags: EdgeFlags | None = None,
    config: Path | None = None,
    join_file: Path | None = None,
    ready_json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run an edge: relay media between publishers, viewers and other edges.

    Everything can also be set in a TOML file and in the environment (FARCAST_EDGE_LISTEN, ...); a flag
    beats the environment, which beats the file. SIGTERM drains, SIGHUP reads the configuration again.

    Example: farcast edge --join-file token --state-dir edge --listen 0.0.0.0:443 --dev-cert

    Parameters
    ----------
    config
        TOML file.
    join_file
        File that holds the join token, which is hidden from ps there; the same as --join @FILE.
    ready_json
        Print one JSON line on stdout when the edge serves.
    """
    given = EdgeFlags() if flags is None else flags
    if join_file is not None:
        if given.join is not None:
            raise UserError("--join and --join-file are both given: choose one", EXIT_USAGE)
        given = replace(given, join=f"@{join_file}")

    def load() -> EdgeConfig:
        return load_config(config, os.environ, given.by_key())

    async def main() -> int:
        return await run_edge(load, ready_json=ready_json)

    return trio.run(main)
