"""``farcast netcheck``: the way from here to every edge."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import trio
from cyclopts import Parameter

from farcast.cli.options import Ca, CertSha256, Insecure, Json, MediaTokenFile, Token, token_source
from farcast.cli.output import note, print_json, print_table
from farcast.clients.echo import PROBES_MAX, EchoPlan
from farcast.clients.netcheck import EdgeCheck, Netcheck
from farcast.clients.netcheck import netcheck as check
from farcast.clients.server import server_from_options
from farcast.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UserError


def netcheck(
    url: str,
    /,
    *,
    probes: Annotated[int, Parameter(help=f"Probes to each edge, at most {PROBES_MAX}.")] = 10,
    cert_sha256: CertSha256 = None,
    ca: Ca = None,
    insecure: Insecure = False,
    token: Token = None,
    token_file: MediaTokenFile = None,
    json: Json = False,
) -> int:
    """Check the way from here to an edge and to all edges that it lists, and say which would be chosen.

    Tries QUIC and WebTransport, measures round trips, loss, jitter and the largest datagram, and whether a
    session lives on when a NAT changes its port. The exit code is 1 where no session could be made.

    Example: farcast netcheck moqt://edge.example:4433

    Parameters
    ----------
    url
        moqt://HOST:PORT or https://HOST:PORT/PATH; both ways are tried.
    """
    if not 1 <= probes <= PROBES_MAX:
        raise UserError(f"--probes {probes}: must be from 1 to {PROBES_MAX}", EXIT_USAGE)
    server = server_from_options(url, cert_sha256=cert_sha256, ca=ca, insecure=insecure)
    shown = token_source(token, token_file).value
    found = trio.run(check, server, shown, EchoPlan(probes))
    if json:
        print_json(asdict(found))
    else:
        _show(found)
    return EXIT_OK if any(shake.connected for shake in found.handshakes) else EXIT_FAILED


def _show(found: Netcheck) -> None:
    columns = (
        "edge",
        "region",
        "address",
        "UDP",
        "RTT",
        "min",
        "max",
        "jitter",
        "loss",
        "datagram",
        "chosen",
    )
    print_table(columns, [_row(edge, found.chosen) for edge in found.edges])
    note(f"{found.url}: {found.verdict}")
    for shake in found.handshakes:
        if shake.connected:
            note(f"{shake.transport}: session with draft {shake.draft} in {shake.ms:.0f} ms")
    note(f"edge list: {found.edge_list}")
    note(f"choice: {found.chosen or 'none'}; {found.why}")
    if found.rebinding_survived is not None:
        lives = "lives on" if found.rebinding_survived else "ENDS"
        note(f"a session {lives} when a NAT changes its port")
    if found.clock_behind_ms_min is not None:
        note(f"this machine's clock is behind by at least {found.clock_behind_ms_min} ms")


def _row(edge: EdgeCheck, chosen: str | None) -> tuple[str, ...]:
    mtu = edge.udp_payload_bytes_max
    return (
        edge.node_id,
        edge.region,
        edge.url,
        edge.reason or edge.udp,
        *(
            "" if value is None else f"{value:.1f} ms"
            for value in (edge.rtt_ms, edge.rtt_min_ms, edge.rtt_max_ms, edge.jitter_ms)
        ),
        f"{edge.loss:.0%}",
        "" if mtu is None else f"{mtu} B",
        "draining" if edge.draining else "yes" if edge.node_id == chosen else "",
    )
