"""``farcast edge``: run an edge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from farcast.edge.config import EdgeConfig, load_config
from farcast.edge.daemon import run_edge
from farcast.errors import EXIT_USAGE, UserError


def edge(
    *,
    listen: str | None = None,
    ops: str | None = None,
    config: Path | None = None,
    cert: str | None = None,
    key: str | None = None,
    dev_cert: Annotated[bool | None, Parameter(negative=())] = None,
    upstream: Annotated[list[str] | None, Parameter(negative=())] = None,
    drafts: str | None = None,
    node_id: str | None = None,
    region: str | None = None,
    hop_cert: str | None = None,
    hop_key: str | None = None,
    hop_ca: str | None = None,
    join: str | None = None,
    join_file: Path | None = None,
    control: Annotated[list[str] | None, Parameter(negative=())] = None,
    advertise: str | None = None,
    public_url: str | None = None,
    state_dir: str | None = None,
    auth: str | None = None,
    auth_keys: str | None = None,
    log_level: str | None = None,
    ready_json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run an edge: relay media between publishers, viewers and other edges.

    Everything can also be set in a TOML file and in the environment (FARCAST_EDGE_LISTEN, ...); a flag
    beats the environment, which beats the file. SIGTERM drains, SIGHUP reads the configuration again.

    Parameters
    ----------
    listen
        UDP address HOST:PORT for QUIC, WebTransport and hops; 127.0.0.1:4433 unless set.
    ops
        TCP address HOST:PORT for /livez /readyz /metrics /status.json; 127.0.0.1:4434 unless set.
    config
        TOML file.
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
    join_file
        File that holds the join token, which is hidden from ps there; the same as --join @FILE.
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
    ready_json
        Print one JSON line on stdout when the edge serves.
    """
    if join_file is not None:
        if join is not None:
            raise UserError("--join and --join-file are both given: choose one", EXIT_USAGE)
        join = f"@{join_file}"
    flags: dict[str, object] = {
        "listen": listen,
        "ops": ops,
        "cert": cert,
        "key": key,
        "dev_cert": dev_cert,
        "upstream": upstream,
        "drafts": drafts,
        "node_id": node_id,
        "region": region,
        "hop.cert": hop_cert,
        "hop.key": hop_key,
        "hop.ca": hop_ca,
        "join": join,
        "control.addresses": control,
        "control.advertise": advertise,
        "control.public_url": public_url,
        "control.state_dir": state_dir,
        "auth.mode": auth,
        "auth.keys": auth_keys,
        "log_level": log_level,
    }

    def load() -> EdgeConfig:
        return load_config(config, os.environ, flags)

    async def main() -> int:
        return await run_edge(load, ready_json=ready_json)

    return trio.run(main)
