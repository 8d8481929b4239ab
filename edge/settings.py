"""Which keys an edge's configuration has, and what each may hold.

A `Kind` reads one value in either notation: TOML's, which has types, or text as in the environment and
in flags. `SCHEMA` is the whole table; a section's name is the part before the dot.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from farcast.certificates import is_cluster
from farcast.proto.joining.tokens import BadJoinToken, JoinToken, decode_join_token
from farcast.proto.moqt.names import InvalidName, TrackNamespace
from farcast.proto.urls import ServerUrl, join_host_port, parse_url, split_host_port

DRAFTS_SPOKEN = (18, 16)
AUTH_MODES = ("token", "open")
Controller = Literal["media", "cubic", "newreno", "bbr3"]
CONTROLLERS = get_args(Controller)
LOG_LEVELS = ("debug", "info", "warning", "error")
UPSTREAM = "upstream"
JOIN_FILE_BYTES_MAX = 8_192


class SettingError(ValueError):
    """A value is not what its key wants; says what would be."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on: an IP address or ``localhost``, and a port (0: any free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that need not be there yet; relative ones count from where they are written."""

    path: Path


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of a key are read; both readers raise `SettingError`."""

    from_toml: Callable[[object], Any]
    from_text: Callable[[str], Any]


def _typed(wanted: type, what: str) -> Callable[[object], Any]:
    """The value as it is, if it has the type (a boolean is no integer here)."""

    def check(value: object) -> Any:
        if type(value) is not wanted:
            raise SettingError(f"must be {what}, not {value!r}")
        return value

    return check


def _string_kind(read: Callable[[str], Any]) -> Kind:
    string = _typed(str, "a string")
    return Kind(lambda value: read(string(value)), read)


def _read_address(text: str) -> Address:
    try:
        host, port = split_host_port(text)
    except ValueError as error:
        raise SettingError(str(error)) from error
    host = "127.0.0.1" if host == "localhost" else host
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise SettingError(f"{host!r} is not an IP address, such as 127.0.0.1 or 0.0.0.0") from error
    return Address(host, port)


def _read_endpoint(text: str) -> str:
    try:
        host, port = split_host_port(text)
    except ValueError as error:
        raise SettingError(str(error)) from error
    if port == 0:
        raise SettingError(f"{text!r}: the port must be a number from 1 to 65535")
    return join_host_port(host, port)


def _check_endpoints(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or any(type(item) is not str for item in value):
        raise SettingError(f"must be a list of HOST:PORT, not {value!r}")
    return tuple(dict.fromkeys(map(_read_endpoint, value)))


def _check_peers(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise SettingError(
            f"must be node ids with addresses, such as {{ fra-1 = '10.0.0.1:443' }}, not {value!r}"
        )
    found = {}
    for node_id, address in value.items():
        if type(address) is not str:
            raise SettingError(f"{node_id}: must be an address IP:PORT, not {address!r}")
        found[_read_name(node_id)] = _read_peer(address)
    return found


def _read_peer(text: str) -> str:
    address = _read_address(text)
    if address.port == 0:
        raise SettingError(f"{text!r}: the port must be a number from 1 to 65535")
    return str(address)


def _read_peers(text: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in text.replace(",", " ").split()]
    if any(not equals for _, equals, _ in pairs):
        raise SettingError(f"{text!r} is not NODE_ID=IP:PORT, several of them apart by spaces")
    return _check_peers({node_id: address for node_id, _, address in pairs})


def _read_public_url(text: str) -> str:
    url = _read_url(text)
    if url.target == "hop":
        raise SettingError(f"{text!r} is a hop, clients speak moqt:// and https://")
    return url.whole


def _read_url(text: str) -> ServerUrl:
    try:
        return parse_url(text)
    except ValueError as error:
        raise SettingError(str(error)) from error


def _read_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise SettingError(f"{text!r} is not a name of small letters, digits and hyphens, such as sin-1")
    return text


def _read_namespace(text: str) -> TrackNamespace:
    try:
        return TrackNamespace.parse(text)
    except InvalidName as error:
        raise SettingError(f"{text!r} is not a namespace such as live/room1: {error}") from error


def _read_fingerprint(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise SettingError(f"{text!r} is not a SHA-256 of 64 hex digits")
    return digest


def _read_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise SettingError(f"{text!r} is not one of {', '.join(LOG_LEVELS)}")
    return text


def _read_second_paths(text: str) -> str:
    if text not in ("off", "audio", "all", "always"):
        raise SettingError(f"{text!r} is not one of off, audio, all, always")
    return text


def _read_cluster(text: str) -> str:
    if not is_cluster(text):
        raise SettingError(f"{text!r} is not the name of a cluster, such as shows")
    return text


def _read_controller(text: str) -> str:
    if text not in CONTROLLERS:
        raise SettingError(f"{text!r} is not one of {', '.join(CONTROLLERS)}")
    return text


def _read_auth_mode(text: str) -> str:
    if text not in AUTH_MODES:
        raise SettingError(f"{text!r} is not one of {', '.join(AUTH_MODES)}")
    return text


def _check_drafts(value: object) -> tuple[int, ...]:
    known = ", ".join(map(str, DRAFTS_SPOKEN))
    if (
        not isinstance(value, list)
        or not value
        or any(type(draft) is not int or draft not in DRAFTS_SPOKEN for draft in value)
    ):
        raise SettingError(f"must be a list out of {known}, most wanted first, not {value!r}")
    if len(set(value)) < len(value):
        raise SettingError(f"names a draft twice: {value!r}")
    return tuple(value)


def _read_drafts(text: str) -> tuple[int, ...]:
    return _check_drafts([int(item) if item.strip().isdecimal() else item for item in text.split(",")])


def _count_kind(max: int, min: int = 1) -> Kind:
    def check(value: object) -> int:
        if type(value) is not int or not min <= value <= max:
            raise SettingError(f"must be a whole number from {min} to {max}, not {value!r}")
        return value

    return Kind(check, lambda text: check(int(text) if text.isdecimal() else text))


def _read_boolean(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in values:
        raise SettingError(f"must be true or false, not {text!r}")
    return values[text.lower()]


def _read_join(text: str) -> JoinToken:
    """A token, or @FILE that holds one. What is wrong is told without the text: it is a secret."""
    if text.startswith("@"):
        file = Path(text[1:]).expanduser()
        try:
            with file.open("rb") as stream:
                text = stream.read(JOIN_FILE_BYTES_MAX).decode()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise SettingError(f"@{file} cannot be read: {why}") from error
    try:
        return decode_join_token(text)
    except BadJoinToken as error:
        raise SettingError(str(error)) from error


def _check_join(value: object) -> JoinToken:
    if type(value) is not str:
        raise SettingError("must be a join token, or @FILE that holds one")
    return _read_join(value)


AUTH_MODE = _string_kind(_read_auth_mode)
ADDRESS = _string_kind(_read_address)
BOOLEAN = Kind(_typed(bool, "true or false"), _read_boolean)
CLUSTER = _string_kind(_read_cluster)
CONTROLLER = _string_kind(_read_controller)
COUNT = _count_kind(2**32 - 1)
SIZE = _count_kind(2**53)
PERMILLE = _count_kind(1_000, min=0)
RTT_MS = _count_kind(60_000, min=0)
PROBE_BPS = _count_kind(10_000_000, min=3_000)
DRAFTS = Kind(_check_drafts, _read_drafts)
ENDPOINT = _string_kind(_read_endpoint)
ENDPOINTS = Kind(_check_endpoints, lambda text: _check_endpoints(text.replace(",", " ").split()))
FILE = _string_kind(Path)
FOLDER = _string_kind(lambda text: Folder(Path(text)))
FINGERPRINT = _string_kind(_read_fingerprint)
JOIN = Kind(_check_join, _read_join)
LEVEL = _string_kind(_read_level)
NAME = _string_kind(_read_name)
NAMESPACE = _string_kind(_read_namespace)
PEERS = Kind(_check_peers, _read_peers)
PUBLIC_URL = _string_kind(_read_public_url)
URL = _string_kind(_read_url)

RECOVERY = (
    "budget_ms",
    "repair_percent_max",
    "repair_burst_bytes",
    "repair_bps_min",
    "repairs_planned_max",
    "coded_bytes_max",
)
"""Keys of ``[recovery]``: bounds on what hops spend on repairs, as ``hop_`` and the name in the datapath."""

RECOVERY_TARGETS = ("frames_missed_ppm", "disposable_missed_ppm", "sound_missed_ppm")
"""Further keys of it: what repairs are to achieve, for the table of repairs."""

SECOND_PATHS: dict[str, Kind] = {
    "which": _string_kind(_read_second_paths),
    "audio_loss_permille": _count_kind(1_000),
    "video_loss_permille": _count_kind(1_000),
    "rise_ms_max": _count_kind(60_000),
    "small_bps_max": COUNT,
    "tracks_max": COUNT,
    "percent_max": _count_kind(100, min=0),
    "bps_max": SIZE,
    "clear_ms": _count_kind(600_000, min=100),
}
"""Keys of ``[recovery]`` with ``second_path_`` before them: when a track comes over two paths at the same
time, and what that may cost. ``which`` stands there as ``second_paths``."""


def second_path_key(name: str) -> str:
    """Where a key of `SECOND_PATHS` stands."""
    return "recovery.second_paths" if name == "which" else f"recovery.second_path_{name}"


LIMITS_DATAPATH = (
    "sessions_max",
    "uni_streams_max",
    "bidi_streams_max",
    "stream_window_bytes",
    "connection_window_bytes",
    "send_window_bytes",
    "idle_timeout_ms",
    "hop_idle_timeout_ms",
    "handshakes_max",
    "handshake_timeout_ms",
    "control_pending_bytes_max",
    "stream_header_timeout_ms",
    "object_bytes_max",
    "unbound_bytes_max",
    "cache_total_bytes_max",
    "control_event_bytes_max",
)
"""Keys of ``[limits]`` that the datapath takes, under the same names."""

SIZES = frozenset(
    {"send_window_bytes", "object_bytes_max", "queue_bytes_max", "cache_bytes_max", "cache_total_bytes_max"}
)
"""Limits that may be above 4 GiB."""

CONGESTION_LIMITS: dict[str, Kind] = {
    "rate_initial_bps": _count_kind(10**12, min=8_000),
    "rate_min_bps": _count_kind(10**12, min=8_000),
    "rate_max_bps": _count_kind(10**12, min=8_000),
    "initial_packets": _count_kind(1_000, min=2),
    "queue_delay_ms_max": _count_kind(2_000, min=5),
    "outage_ms": _count_kind(30_000, min=0),
    "loss_max_permille": _count_kind(900, min=20),
}
"""Keys of ``[congestion]`` beside ``controller`` and ``send_queue_ms``: what `CongestionLimits` takes, under
the same names."""

LIMITS_TRACK = (
    "queue_bytes_max",
    "queue_ms_max",
    "layer_ms_max",
    "unheard_ms_max",
    "cache_bytes_max",
    "cache_ms_max",
    "cache_groups_max",
)
"""Keys of ``[limits]`` that the agent gives along with each track and each viewer."""

SCHEMA: dict[str, Kind] = {
    "listen": ADDRESS,
    "ops": ADDRESS,
    "cert": FILE,
    "key": FILE,
    "dev_cert": BOOLEAN,
    "drafts": DRAFTS,
    "node_id": NAME,
    "region": NAME,
    "join": JOIN,
    "log_level": LEVEL,
    "drain_ms_max": COUNT,
    "hop.cert": FILE,
    "hop.key": FILE,
    "hop.ca": FILE,
    "hop.loss_max_permille": PERMILLE,
    "hop.rtt_max_ms": RTT_MS,
    "control.addresses": ENDPOINTS,
    "control.advertise": ENDPOINT,
    "control.public_url": PUBLIC_URL,
    "control.provider": NAME,
    "control.egress_bps_max": SIZE,
    "control.state_dir": FOLDER,
    "control.probe_bps": PROBE_BPS,
    "control.peer_addresses": PEERS,
    "auth.mode": AUTH_MODE,
    "auth.keys": FILE,
    "auth.cluster": CLUSTER,
    "congestion.controller": CONTROLLER,
    "congestion.send_queue_ms": _count_kind(10_000, min=10),
    **{f"congestion.{name}": kind for name, kind in CONGESTION_LIMITS.items()},
    "quirks.moq_net_draft_16": BOOLEAN,
    "quirks.moq_net_from_group_start": BOOLEAN,
    **{f"limits.{name}": SIZE if name in SIZES else COUNT for name in (*LIMITS_DATAPATH, *LIMITS_TRACK)},
    **{f"recovery.{name}": SIZE if "bytes" in name else COUNT for name in RECOVERY[1:]},
    "recovery.budget_ms": _count_kind(10_000, min=50),
    **{f"recovery.{name}": _count_kind(500_000) for name in RECOVERY_TARGETS},
    **{second_path_key(name): kind for name, kind in SECOND_PATHS.items()},
}

UPSTREAM_SCHEMA: dict[str, Kind] = {
    "prefix": NAMESPACE,
    "url": URL,
    "ca": FILE,
    "cert_sha256": FINGERPRINT,
    "insecure": BOOLEAN,
}
"""Keys of one ``[[upstream]]``."""

SECTIONS = ("hop", "control", "auth", "congestion", "quirks", "limits", "recovery")


def kind_of(path: str) -> Kind | None:
    """The kind of a dotted key (``upstream.INDEX.key`` for upstreams), None if there is no such key."""
    if upstream := re.fullmatch(rf"{UPSTREAM}\.\d+\.(\w+)", path):
        return UPSTREAM_SCHEMA.get(upstream[1])
    return SCHEMA.get(path)


def keys_in(section: str) -> list[str]:
    """What may be written in a section; the empty name is the top of the file."""
    if section.startswith(UPSTREAM):
        return list(UPSTREAM_SCHEMA)
    if section:
        return [path.partition(".")[2] for path in SCHEMA if path.startswith(f"{section}.")]
    return [*(path for path in SCHEMA if "." not in path), *SECTIONS, UPSTREAM]
