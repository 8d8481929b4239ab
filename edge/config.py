"""Configuration of an edge: one frozen model from a TOML file, the environment and flags.

A flag beats the environment, which beats the file, which beats the default. Environment names are
``FARCAST_EDGE_`` and the key in capitals, a section's name in front: ``FARCAST_EDGE_LISTEN``,
``FARCAST_EDGE_HOP_CERT``, ``FARCAST_EDGE_LIMITS_SESSIONS_MAX``. Everything that is wrong is reported in
one `ConfigError`, a line each, with where it was written and what would be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from farcast.edge.config_sources import Setting, from_environment, from_file, from_flags
from farcast.edge.enrolment import AUTHORITY, IDENTITY, read_joined
from farcast.edge.plan_file import state_directory
from farcast.edge.settings import (
    CONGESTION_LIMITS,
    LIMITS_DATAPATH,
    LIMITS_TRACK,
    RECOVERY,
    RECOVERY_TARGETS,
    SECOND_PATHS,
    UPSTREAM,
    Address,
    Controller,
    Folder,
    SettingError,
    kind_of,
    second_path_key,
)
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto._core import CongestionLimits, DatapathConfig
from farcast.proto.agent.config import HOP_LOSS_MAX_PERMILLE, HOP_RTT_MAX_MS
from farcast.proto.joining.tokens import JoinToken
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.recovery.feasible import objections
from farcast.proto.recovery.policy import Assumptions
from farcast.proto.urls import ServerUrl

LISTEN_DEFAULT = Address("127.0.0.1", 4433)
OPS_DEFAULT = Address("127.0.0.1", 4434)


class ConfigError(UserError):
    """The configuration is wrong; ``errors`` holds one line per fault."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors), EXIT_USAGE)
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True)
class HopFiles:
    """Our certificate and key on hops, and the authorities that a peer must chain to (PEM files)."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """How the edge takes part in a network: where its control planes are, and how others reach it.

    ``addresses`` and ``advertise`` are ``HOST:PORT``; ``advertise`` empty: the address it listens on.
    ``public_url``: what viewers of other edges are told. ``state_dir``: where the plan is kept; ``None``:
    the usual place (`farcast.edge.plan_file`). ``peer_addresses``: ``ip:port`` by node id, in place of the
    plan's.
    """

    addresses: tuple[str, ...]
    advertise: str = ""
    public_url: str = ""
    provider: str = ""
    egress_bps_max: int = 0
    state_dir: Path | None = None
    probe_bps: int = 4_000
    peer_addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where tracks under a namespace prefix come from that nobody publishes here.

    Trust of a stock relay: the system's authorities, unless ``ca``, ``cert_sha256`` or ``insecure``
    says otherwise. A hop trusts ``[hop] ca`` and nothing else.
    """

    prefix: TrackNamespace
    url: ServerUrl
    ca: Path | None = None
    cert_sha256: bytes | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """Everything that can be set about an edge. A default stands here and nowhere else."""

    listen: Address = LISTEN_DEFAULT
    ops: Address = OPS_DEFAULT
    cert: Path | None = None
    key: Path | None = None
    dev_cert: bool = False
    drafts: tuple[int, ...] = (18, 16)
    node_id: str = ""
    region: str = ""
    log_level: str = "info"
    drain_ms_max: int = 10_000
    join: JoinToken | None = None
    """To be joined with before all this can be used: the certificate files are not there yet."""
    hop: HopFiles | None = None
    hop_loss_max_permille: int = HOP_LOSS_MAX_PERMILLE
    hop_rtt_max_ms: int = HOP_RTT_MAX_MS
    control: ControlConfig | None = None
    upstreams: tuple[Upstream, ...] = ()
    auth_mode: str = "token"
    auth_keys: Path | None = None
    auth_cluster: str = ""
    moq_net_draft_16: bool = True
    moq_net_from_group_start: bool = True
    congestion_controller: Controller = "media"
    congestion_send_queue_ms: int = 150
    congestion_limits: Mapping[str, int] = field(default_factory=dict)
    limits_datapath: Mapping[str, int] = field(default_factory=dict)
    limits_track: Mapping[str, int] = field(default_factory=dict)
    recovery: Mapping[str, int] = field(default_factory=dict)
    recovery_targets: Assumptions = field(default_factory=Assumptions)
    second_paths: Mapping[str, Any] = field(default_factory=dict)


HOP_FILES = ("hop.cert", "hop.key", "hop.ca")

RELOADABLE = frozenset({"log_level", "drain_ms_max", "auth_keys"})
"""Fields that a running edge takes over on SIGHUP; for the others it has to be started again. The keys are
read again even if their file is the same one."""


def load_config(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> EdgeConfig:
    """The configuration, or a `ConfigError` with everything that is wrong with it.

    ``flags`` maps keys of the schema to what was typed; None stands for "not given".
    """
    errors: list[str] = []
    of_file = from_file(file, errors) if file is not None else []
    sources = [of_file or [], from_environment(environ or {}, errors), from_flags(flags or {}, errors)]
    values: dict[str, Any] = {}
    for settings in sources:
        if any(setting.path.startswith(UPSTREAM) for setting in settings):
            values = {path: value for path, value in values.items() if not path.startswith(UPSTREAM)}
        for setting in settings:
            _take(setting, values, errors)
    if of_file is None:
        raise ConfigError(errors)  # What seems to be missing may stand in the file.
    if "join" in values and values["join"] is None:
        raise ConfigError(errors)  # Likewise: it would bring certificate and control planes.
    _take_from_state(values, environ or {}, errors)
    config = _build(values, errors)
    if errors:
        raise ConfigError(errors)
    return config


def changed_fields(old: EdgeConfig, new: EdgeConfig) -> list[str]:
    """Names of the fields in which two configurations differ."""
    return [f.name for f in fields(EdgeConfig) if getattr(old, f.name) != getattr(new, f.name)]


def _take(setting: Setting, values: dict[str, Any], errors: list[str]) -> None:
    """Check one setting and let it replace a weaker source's; a bad one leaves None behind."""
    kind = kind_of(setting.path)
    if kind is None:
        raise LookupError(setting.path)
    values[setting.path] = None
    try:
        value = kind.from_text(str(setting.raw)) if setting.text else kind.from_toml(setting.raw)
        if isinstance(value, Path):
            value = _readable(setting.folder, value)
        elif isinstance(value, Folder):
            value = setting.folder / _expanded(value.path)
    except SettingError as error:
        errors.append(f"{setting.origin}: {setting.path.rpartition('.')[2]}: {error}")
    else:
        values[setting.path] = value


def _readable(folder: Path, path: Path) -> Path:
    try:
        path = folder / path.expanduser()
        with path.open("rb"):
            return path
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:  # a home that nobody has, a null character
        raise SettingError(f"cannot read {str(path)!r}: {error}") from error


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except (RuntimeError, ValueError) as error:
        raise SettingError(f"cannot use {str(path)!r}: {error}") from error


def _build(values: dict[str, Any], errors: list[str]) -> EdgeConfig:
    """The model, as far as its parts make sense together; where they do not, ``errors`` grows."""
    _check_certificate(values, errors)
    top = {path: value for path, value in values.items() if "." not in path and value is not None}
    hop = _build_hop(values, errors)
    upstreams = _build_upstreams(values, errors)
    if "hop.cert" not in values and any(upstream.url.target == "hop" for upstream in upstreams):
        errors.append("a farcast:// upstream needs a [hop] section with cert, key and ca")
    return EdgeConfig(
        **top,
        **_quirks(values),
        **_bounds(values),
        **_build_auth(values, errors),
        **_build_congestion(values, errors),
        hop=hop,
        control=_build_control(values, top, errors),
        upstreams=upstreams,
        limits_datapath=_limits(values, LIMITS_DATAPATH),
        limits_track=_limits(values, LIMITS_TRACK),
        recovery=_limits(values, RECOVERY, "recovery"),
        recovery_targets=_build_recovery(values, errors),
        second_paths=_second_paths(values),
    )


def _take_from_state(values: dict[str, Any], environ: Mapping[str, str], errors: list[str]) -> None:
    """Who the edge is and where its control planes are, from its state directory, if it joined by token; or,
    with a token that it has not used yet, where all this will be. The setting ``join`` is left for the latter
    only."""
    token: JoinToken | None = values.get("join")
    folder: Path | None = values.get("control.state_dir") or state_directory(environ)
    if any(path in values for path in HOP_FILES):
        if token is not None:
            errors.append("join and [hop] are both given: joining brings the certificate; choose one")
        return
    if folder is None:
        if token is not None:
            errors.append("--join needs --state-dir DIR: where the edge keeps its key and certificate")
        return
    joined = read_joined(folder)
    if joined is not None and (token is None or token.token_id == joined.token_id):
        values.pop("join", None)
        addresses = joined.control
    elif token is not None:
        addresses = token.addresses
        if values.get("region") not in (None, token.region):
            errors.append(f"region is set to {values['region']!r}, the join token is for {token.region!r}")
    else:
        return
    identity = folder / IDENTITY
    values.update({"hop.cert": identity, "hop.key": identity, "hop.ca": folder / AUTHORITY})
    values["control.state_dir"] = folder
    values.setdefault("control.addresses", addresses)


def _check_certificate(values: dict[str, Any], errors: list[str]) -> None:
    cert, key, dev_cert = ("cert" in values, "key" in values, values.get("dev_cert") is True)
    if cert != key:
        given, missing = ("cert", "key") if cert else ("key", "cert")
        errors.append(f"{given} is given but {missing} is not: set both, or dev_cert for a throw-away one")
    elif cert and dev_cert:
        errors.append("cert and dev_cert are both given: choose one")
    elif not cert and not dev_cert:
        errors.append("no certificate: set cert and key (--cert FILE --key FILE), or --dev-cert for a trial")


def _build_hop(values: dict[str, Any], errors: list[str]) -> HopFiles | None:
    names = ("cert", "key", "ca")
    if not any(f"hop.{name}" in values for name in names):
        return None
    missing = [name for name in names if f"hop.{name}" not in values]
    errors += [f"[hop]: {name} is missing: a hop needs cert, key and ca" for name in missing]
    files = [path for name in names if (path := values.get(f"hop.{name}")) is not None]
    return HopFiles(*files) if len(files) == len(names) else None


def _build_upstreams(values: dict[str, Any], errors: list[str]) -> tuple[Upstream, ...]:
    grouped: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        section, _, key = path.rpartition(".")
        if section.startswith(UPSTREAM):
            grouped.setdefault(section, {})[key] = value
    upstreams = []
    for section, keys in grouped.items():
        where = f"[[{UPSTREAM}]] number {int(section.rpartition('.')[2]) + 1}"
        errors += [f"{where}: {key} is missing" for key in ("prefix", "url") if key not in keys]
        given = {key: value for key, value in keys.items() if value is not None}
        if {"prefix", "url"} <= given.keys():
            upstreams.append(Upstream(**given))
    return tuple(upstreams)


def _bounds(values: dict[str, Any]) -> dict[str, Any]:
    names = ("loss_max_permille", "rtt_max_ms")
    found = {f"hop_{name}": values.get(f"hop.{name}") for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _build_control(values: dict[str, Any], top: dict[str, Any], errors: list[str]) -> ControlConfig | None:
    given = {
        path.removeprefix("control."): value for path, value in values.items() if path.startswith("control.")
    }
    if not given:
        return None
    known = {name: value for name, value in given.items() if value is not None}
    if "addresses" not in given:
        errors.append("[control]: addresses is missing: where the control planes are (--control HOST:PORT)")
    if "hop.cert" not in values:
        errors.append(
            "[control] needs a [hop] section with cert, key and ca: they say who this edge is "
            "(or join with a token: --join TOKEN)"
        )
    listen = top.get("listen", LISTEN_DEFAULT)
    if "advertise" not in given and listen.host in ("0.0.0.0", "::"):
        errors.append(
            f"[control]: advertise is missing: it listens on {listen}, and other edges must be told one "
            "address (--advertise HOST:PORT)"
        )
    return ControlConfig(**known) if "addresses" in known else None


def _build_auth(values: dict[str, Any], errors: list[str]) -> dict[str, Any]:
    """Who is let in. An edge that would let nobody in is not what anybody wants."""
    names = ("mode", "keys", "cluster")
    found = {f"auth_{name}": values.get(f"auth.{name}") for name in names}
    if found["auth_mode"] != "open" and not found["auth_keys"] and "control.addresses" not in values:
        errors.append(
            "[auth]: nobody could publish or watch here: set keys (--auth-keys FILE), join a control plane "
            "that has them, or let everybody in (--auth open)"
        )
    return {name: value for name, value in found.items() if value is not None}


RATES = ("rate_min_bps", "rate_initial_bps", "rate_max_bps")
"""Limits of ``[congestion]`` that must be in this order."""


def _build_congestion(values: dict[str, Any], errors: list[str]) -> dict[str, Any]:
    """The controller of public sessions and its limits."""
    names = ("controller", "send_queue_ms", *CONGESTION_LIMITS)
    given = {name: values[f"congestion.{name}"] for name in names if f"congestion.{name}" in values}
    known = {name: value for name, value in given.items() if value is not None}
    controller = known.get("controller", "media")
    limits = {name: known[name] for name in CONGESTION_LIMITS if name in known}
    if limits and controller != "media":
        name = next(iter(limits))
        errors.append(
            f"[congestion]: {name} is a limit of the controller media, which {controller} is not: take it out"
        )
    usual = CongestionLimits()
    rates = {name: limits.get(name, getattr(usual, name)) for name in RATES}
    for low, high in pairwise(rates):
        if rates[low] > rates[high]:
            errors.append(f"[congestion]: {low} = {rates[low]} is above {high} = {rates[high]}: set both")
    found = {f"congestion_{name}": known[name] for name in ("controller", "send_queue_ms") if name in known}
    return found | ({"congestion_limits": limits} if limits else {})


def _build_recovery(values: dict[str, Any], errors: list[str]) -> Assumptions:
    """What repairs are to achieve; what cannot be had is told with its reason."""
    bounds = _bounds(values)
    targets = _limits(values, RECOVERY_TARGETS, "recovery")
    repairs = DatapathConfig()
    given = {name: getattr(repairs, f"hop_{name}") for name in RECOVERY}
    given |= _limits(values, RECOVERY, "recovery")
    usual = Assumptions()
    assumed = Assumptions(
        budget_ms=given["budget_ms"],
        target_essential=targets.get("frames_missed_ppm", usual.target_essential * 1e6) / 1e6,
        target_disposable=targets.get("disposable_missed_ppm", usual.target_disposable * 1e6) / 1e6,
        target_small=targets.get("sound_missed_ppm", usual.target_small * 1e6) / 1e6,
    )
    if any(path.startswith("recovery.") for path in values):
        # The usual budget goes with any bound on round trips: beyond it repairs are late, but not in vain.
        rtt_max_ms = bounds.get("hop_rtt_max_ms", 0) if "recovery.budget_ms" in values else 0
        found = objections(
            assumed,
            loss_max=bounds.get("hop_loss_max_permille", HOP_LOSS_MAX_PERMILLE) / 1_000,
            rtt_max_ms=rtt_max_ms,
            percent_max=given["repair_percent_max"],
            burst_bytes=given["repair_burst_bytes"],
            planned_max=given["repairs_planned_max"],
        )
        errors += [f"[recovery]: {objection}" for objection in found]
    return assumed


def _quirks(values: dict[str, Any]) -> dict[str, Any]:
    found = {path.partition(".")[2]: value for path, value in values.items() if path.startswith("quirks.")}
    return {name: value for name, value in found.items() if value is not None}


def _second_paths(values: dict[str, Any]) -> dict[str, Any]:
    found = {name: values.get(second_path_key(name)) for name in SECOND_PATHS}
    return {name: value for name, value in found.items() if value is not None}


def _limits(values: dict[str, Any], names: Sequence[str], section: str = "limits") -> dict[str, int]:
    found = {name: values.get(f"{section}.{name}") for name in names}
    return {name: value for name, value in found.items() if value is not None}
