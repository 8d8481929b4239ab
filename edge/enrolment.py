"""What an edge that joined keeps in its state directory: who it is, and where its control plane is.

    identity.pem   its private key and its certificate, 0600; one file, so that the two always fit
    ca.pem         the cluster's authority
    joined.json    node id, region, control planes, and the id of the token; there once all is there
    joining.key    the key while its certificate is on the way: a token is good for one key only

Whoever can read identity.pem is the edge, until it is removed.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from farcast.certificates import Identity
from farcast.errors import UserError
from farcast.files import write_files
from farcast.proto.urls import split_host_port

IDENTITY: Final = "identity.pem"
AUTHORITY: Final = "ca.pem"
JOINED: Final = "joined.json"
PENDING_KEY: Final = "joining.key"
PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


@dataclass(frozen=True, slots=True)
class Joined:
    """How an edge joined. ``control``: ``HOST:PORT`` of the control planes."""

    node_id: str
    region: str
    control: tuple[str, ...]
    token_id: str


def read_joined(folder: Path) -> Joined | None:
    """How the edge of this folder joined; ``None`` if it has not. `UserError` for a damaged file."""
    file = folder / JOINED
    try:
        told = json.loads(file.read_text())
        control = tuple(map(str, told["control"]))
        for address in control:
            split_host_port(address)
        return Joined(str(told["node_id"]), str(told["region"]), control, str(told["token_id"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is damaged; remove it and join again with a new token") from error


def keep(folder: Path, joined: Joined, identity: Identity, authority: bytes) -> None:
    """Write all of it; `UserError` names the file that cannot be written."""
    write_files(folder, {AUTHORITY: (Identity((authority,), b"").chain_pem(), PUBLIC)}, force=True)
    keep_identity(folder, identity)
    write_files(folder, {JOINED: (json.dumps(asdict(joined)).encode() + b"\n", PUBLIC)}, force=True)
    with contextlib.suppress(OSError):
        (folder / PENDING_KEY).unlink()


def keep_identity(folder: Path, identity: Identity) -> None:
    """Replace key and certificate in one step; `UserError` if that cannot be done."""
    write_files(folder, {IDENTITY: (identity.key_pem() + identity.chain_pem(), PRIVATE)}, force=True)
