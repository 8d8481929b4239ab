"""``farcast ca``: the authority of a cluster, and the certificates of its edges and control planes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cyclopts import App, Parameter

from farcast.certificates import (
    LOCAL_NAMES,
    Authority,
    Identity,
    certificate_hosts,
    check_host,
    check_label,
    cluster_name,
    control_name,
    edge_name,
    load_authority,
    make_authority,
)
from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Flag, Json
from farcast.cli.output import note, print_json, print_table
from farcast.errors import EXIT_USAGE, UserError
from farcast.files import write_files
from farcast.remote import load_certificates

CA_CERT = "ca.pem"
CA_KEY = "ca.key"
CERT_MODE = 0o644
KEY_MODE = 0o600

ca = App(name="ca", help="Make a cluster's authority, and certificates for its edges and control planes.")
"""The commands ``farcast ca …``."""


@ca.command
def init(*, dir: Path, cluster: str, force: Flag = False, json: Json = False) -> None:
    """Make the authority of a new cluster: ca.pem and ca.key, valid for ten years.

    Who holds ca.key can be any edge and any control plane: keep it offline. Edges and control planes need
    ca.pem only.

    Example: farcast ca init --dir ca --cluster shows

    Parameters
    ----------
    dir
        Folder to put them into; made if it is not there.
    cluster
        Name of the cluster; its control certificates are good for this cluster only.
    force
        Replace an authority that is there. Whatever it issued is worthless then.
    """
    authority = make_authority(cluster, datetime.now(UTC))
    write_files(
        dir,
        {CA_CERT: (authority.certificate_pem(), CERT_MODE), CA_KEY: (authority.key_pem(), KEY_MODE)},
        force=force,
    )
    if json:
        print_json({"cluster": cluster, "certificate": str(dir / CA_CERT), "key": str(dir / CA_KEY)})
    else:
        note(f"authority of {cluster}: {dir / CA_CERT}, {dir / CA_KEY}")


@ca.command
def issue(
    *,
    dir: Path,
    role: Literal["edge", "control"],
    out: Path,
    region: str | None = None,
    node_id: str | None = None,
    name: str | None = None,
    host: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = (),
    force: Flag = False,
    json: Json = False,
) -> None:
    """Issue a certificate for an edge or a control plane, valid for 30 days.

    Written are NAME.pem, NAME.key (only its owner may read it) and a copy of ca.pem.
    NAME is the node id of the edge, or the name of the control plane.

    Example: farcast ca issue --dir ca --role edge --region sin --node-id sin-1 --out certs

    Parameters
    ----------
    dir
        Folder with ca.pem and ca.key, of farcast ca init.
    role
        What it is for: edge needs --region and --node-id, control needs --name.
    out
        Folder to put the files into; made if it is not there.
    region
        Region of the edge, such as sin.
    node_id
        Node id of the edge, such as sin-1.
    name
        Name of the control plane, such as c1.
    host
        More host names or addresses to put in, for whoever connects by one.
    force
        Replace files that are there.
    """
    authority = load_authority(dir / CA_CERT, dir / CA_KEY, datetime.now(UTC))
    for text in host:
        check_host(text)
    names = [*LOCAL_NAMES, *host]
    if role == "edge":
        stem, identity = _issue_edge(authority, region, node_id, name, names)
    else:
        stem, identity = _issue_control(authority, name, region or node_id, names)
    _write_member(out, stem, identity, authority, force=force)
    if json:
        print_json(_facts(identity.chain[0]) | _written(out, stem))
    else:
        note(f"{role} {stem}: {out / stem}.pem, {out / stem}.key, {out / CA_CERT}")


@ca.command
def renew(file: Path, *, dir: Path, json: Json = False) -> None:
    """Renew a certificate that farcast ca issue made: same names, a new key, 30 days from now.

    FILE is NAME.pem; it and NAME.key beside it are replaced. Whoever uses them has to read them anew: an edge
    on SIGHUP, a control plane at its next start. Edges that joined by token renew by themselves.

    Example: farcast ca renew certs/sin-1.pem --dir ca

    Parameters
    ----------
    file
        PEM file with the certificate.
    dir
        Folder with ca.pem and ca.key, of farcast ca init.
    """
    authority = load_authority(dir / CA_CERT, dir / CA_KEY, datetime.now(UTC))
    leaf = load_certificates(file)[0]
    if file.suffix != ".pem":
        raise UserError(f"{file}: must be the NAME.pem that farcast ca issue wrote", EXIT_USAGE)
    if not authority.has_issued(leaf):
        raise UserError(f"{file}: was not issued by the authority in {dir}", EXIT_USAGE)
    names = certificate_hosts(leaf)
    edge, control = edge_name(leaf), control_name(leaf)
    if edge is not None:
        identity = authority.issue(*edge, names)
    elif control is not None:
        identity = authority.issue_control(control[1], names)
    else:
        raise UserError(f"{file}: is for neither an edge nor a control plane", EXIT_USAGE)
    files = {f"{file.stem}.key": (identity.key_pem(), KEY_MODE), file.name: (identity.chain_pem(), CERT_MODE)}
    write_files(file.parent, files, force=True)
    if json:
        print_json(_facts(identity.chain[0]) | _written(file.parent, file.stem))
    else:
        note(f"renewed: {file}, {file.with_suffix('.key')}")


@ca.command
def revoke(
    node: str | None = None,
    /,
    *,
    serial: str | None = None,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Revoke all certificates that an edge has until now, or one by its serial number.

    The control plane refuses them at once, and edges refuse them on hops as soon as the plan says so.

    Example: farcast ca revoke sin-1 --state-dir control

    Parameters
    ----------
    node
        The edge.
    serial
        Serial number of one certificate, hexadecimal, as farcast ca show prints it.
    """
    if (node is None) == (serial is None):
        raise UserError("name an edge, or give --serial HEX", EXIT_USAGE)
    order = {"revoke_serial": serial} if node is None else {"revoke_node": node}
    done = control_api(state_dir, api, token_file).post("/trust", order)
    if json:
        print_json(done)
    else:
        note(f"revoked: {node or serial}")


@ca.command
def show(file: Path, *, json: Json = False) -> None:
    """Show whom the first certificate in a PEM file is for, and until when.

    Example: farcast ca show certs/sin-1.pem

    Parameters
    ----------
    file
        PEM file.
    """
    facts = _facts(load_certificates(file)[0])
    if json:
        print_json(facts)
        return
    rows = [(key, " ".join(value) if isinstance(value, list) else str(value)) for key, value in facts.items()]
    print_table(("", "certificate"), rows)


# ---- Issuing ----------------------------------------------------------------------------------------


def _issue_edge(
    authority: Authority, region: str | None, node_id: str | None, name: str | None, names: Sequence[str]
) -> tuple[str, Identity]:
    if region is None or node_id is None or name is not None:
        raise UserError("--role edge: needs --region and --node-id, and no --name", EXIT_USAGE)
    check_label("--region", region)
    check_label("--node-id", node_id)
    return node_id, authority.issue(region, node_id, names)


def _issue_control(
    authority: Authority, name: str | None, edge_only: str | None, names: Sequence[str]
) -> tuple[str, Identity]:
    if name is None or edge_only is not None:
        raise UserError("--role control: needs --name, and no --region or --node-id", EXIT_USAGE)
    check_label("--name", name)
    return name, authority.issue_control(name, names)


def _write_member(out: Path, stem: str, identity: Identity, authority: Authority, *, force: bool) -> None:
    """The three files of a member. The copy of ca.pem may be there already, if it is the same."""
    if f"{stem}.pem" == CA_CERT:
        raise UserError(f"{stem!r} cannot be used: its files would be those of the authority", EXIT_USAGE)
    files = {f"{stem}.pem": (identity.chain_pem(), CERT_MODE), f"{stem}.key": (identity.key_pem(), KEY_MODE)}
    roots = authority.certificate_pem()
    if not _holds(out / CA_CERT, roots):
        if os.path.exists(out / CA_KEY):
            raise UserError(f"{out}: is the folder of another authority; choose another one", EXIT_USAGE)
        files[CA_CERT] = (roots, CERT_MODE)
    write_files(out, files, force=force)


def _written(folder: Path, stem: str) -> dict[str, object]:
    """Where a member's certificate and key are."""
    return {"certificate": str(folder / f"{stem}.pem"), "key": str(folder / f"{stem}.key")}


def _facts(certificate: bytes) -> dict[str, object]:
    """What a certificate (DER) says, in the order in which it is shown."""
    parsed = x509.load_der_x509_certificate(certificate)
    facts: dict[str, object] = {"role": "none"}
    if (cluster := cluster_name(certificate)) is not None:
        facts = {"role": "authority", "cluster": cluster}
    elif (edge := edge_name(certificate)) is not None:
        facts = {"role": "edge", "region": edge[0], "node_id": edge[1]}
    elif (control := control_name(certificate)) is not None:
        facts = {"role": "control", "cluster": control[0], "name": control[1]}
    return facts | {
        "serial": f"{parsed.serial_number:x}",
        "names": _names(parsed),
        "valid_from": f"{parsed.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "valid_until": f"{parsed.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "expired": parsed.not_valid_after_utc <= datetime.now(UTC),
        "sha256": Identity((certificate,), b"").sha256.hex(),
    }


def _names(certificate: x509.Certificate) -> list[str]:
    """DNS names and addresses in a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


# ---- Files ------------------------------------------------------------------------------------------


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
