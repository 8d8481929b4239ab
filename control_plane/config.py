"""Configuration of the control plane: a TOML file, and flags that beat it.

Everything that is wrong is reported at once, a line each, with where it was written and what would be right.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from farcast.control_plane.trust_book import CERTIFICATE_DAYS_MAX
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.control.ranges import is_node_id
from farcast.proto.joining.tokens import ADDRESSES_MAX
from farcast.proto.urls import join_host_port, split_host_port

REGISTRIES: Final = ("embedded", "consul")
TRACES: Final = ("off", "otlp")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and a port to listen on; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class ConsulAddress:
    """Where Consul's HTTP API is, and whether it is spoken to by TLS."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{join_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """Everything that can be set about a control plane. A default stands here and nowhere else."""

    state_dir: Path
    hop_cert: Path
    hop_key: Path
    hop_ca: Path
    listen: Address = Address("127.0.0.1", 4440)
    api: Address = Address("127.0.0.1", 4441)
    risk_groups: Path | None = None
    regions: frozenset[str] = frozenset()
    epoch_min: int = 1
    ca_dir: Path | None = None
    cert_life_s: int = 7 * 86_400
    advertise: tuple[str, ...] = ()
    registry: str = "embedded"
    consul: ConsulAddress = ConsulAddress("127.0.0.1", 8500)
    consul_token_file: Path | None = None
    consul_ca: Path | None = None
    consul_cert: Path | None = None
    consul_key: Path | None = None
    log_level: str = "info"
    traces: str = "off"
    guard: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, int] = field(default_factory=dict)
    planner: Mapping[str, Any] = field(default_factory=dict)


class ConfigError(UserError):
    """The configuration is wrong; one line per fault."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors), EXIT_USAGE)


class _BadValue(ValueError):
    pass


def _address(value: object) -> Address:
    try:
        host, port = split_host_port(_text(value))
        host = "127.0.0.1" if host == "localhost" else host
        ipaddress.ip_address(host)
    except ValueError as error:
        raise _BadValue(f"{value!r} is not IP:PORT, such as 127.0.0.1:4440: {error}") from error
    return Address(host, port)


def _consul(value: object) -> ConsulAddress:
    scheme, found, rest = _text(value).partition("://")
    try:
        if found and scheme not in ("http", "https"):
            raise ValueError(f"scheme {scheme!r}")
        host, port = split_host_port(rest.removesuffix("/") if found else scheme)
        if re.search(r"[/@\s]", host) or port == 0:
            raise ValueError("nothing else belongs there")
    except ValueError as error:
        form = "HOST:PORT or https://HOST:PORT, such as 127.0.0.1:8500"
        if "@" in str(value):  # What stands before it may be a secret.
            raise _BadValue(f"must be {form}, and nothing else") from None
        raise _BadValue(f"{value!r} is not {form}: {error}") from error
    return ConsulAddress(host, port, scheme == "https")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _BadValue(f"must be a string, not {value!r}")
    return value


def _file(value: object) -> Path:
    return Path(_text(value)).expanduser()


def _regions(value: object) -> frozenset[str]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and is_node_id(name) for name in names):
        raise _BadValue(f'must be a list of region names such as ["sin", "fra"], not {value!r}')
    return frozenset(names)


def _level(value: object) -> str:
    if value not in LOG_LEVELS:
        raise _BadValue(f"{value!r} is not one of {', '.join(LOG_LEVELS)}")
    return str(value)


def _traces(value: object) -> str:
    if value not in TRACES:
        raise _BadValue(f"{value!r} is not one of {', '.join(TRACES)}")
    return str(value)


def _registry(value: object) -> str:
    if value not in REGISTRIES:
        raise _BadValue(f"{value!r} is not one of {', '.join(REGISTRIES)}")
    return str(value)


def _count(minimum: int, maximum: int = 2**31) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise _BadValue(f"must be a whole number from {minimum} to {maximum}, not {value!r}")
        return value

    return read


def _number(minimum: float, maximum: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if type(value) not in (int, float) or not minimum <= float(str(value)) <= maximum:
            raise _BadValue(f"must be a number from {minimum:g} to {maximum:g}, not {value!r}")
        return float(str(value))

    return read


_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
CERT_LIFE_S_MIN: Final = 10


def _life(value: object) -> int:
    match = re.fullmatch(r"([1-9]\d{0,8})([smhd])", value) if isinstance(value, str) else None
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not CERT_LIFE_S_MIN <= seconds <= CERTIFICATE_DAYS_MAX * 86_400:
        raise _BadValue(
            f"must be a time from {CERT_LIFE_S_MIN}s to {CERTIFICATE_DAYS_MAX}d, such as 7d, not {value!r}"
        )
    return seconds


def _endpoints(value: object) -> tuple[str, ...]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, list) or not 1 <= len(items) <= ADDRESSES_MAX:
        raise _BadValue(f"must be 1 to {ADDRESSES_MAX} addresses HOST:PORT, not {value!r}")
    for item in items:
        try:
            port = split_host_port(_text(item))[1]
        except ValueError as error:
            raise _BadValue(f"{item!r} is not HOST:PORT: {error}") from error
        if port == 0:
            raise _BadValue(f"{item!r}: the port must be a number from 1 to 65535")
    return tuple(items)


_FILES: Final = (
    "state_dir",
    "ca_dir",
    "risk_groups",
    "consul_token_file",
    "consul_ca",
    "consul_cert",
    "consul_key",
    "hop.cert",
    "hop.key",
    "hop.ca",
)
SCHEMA: Final[Mapping[str, Callable[[object], Any]]] = {
    "listen": _address,
    "api": _address,
    "state_dir": _file,
    "risk_groups": _file,
    "regions": _regions,
    "epoch_min": _count(1),
    "ca_dir": _file,
    "cert_life": _life,
    "advertise": _endpoints,
    "registry": _registry,
    "consul": _consul,
    "consul_token_file": _file,
    "consul_ca": _file,
    "consul_cert": _file,
    "consul_key": _file,
    "log_level": _level,
    "traces": _traces,
    "hop.cert": _file,
    "hop.key": _file,
    "hop.ca": _file,
    "guard.share_max": _number(0.0, 1.0),
    "guard.moves_min": _count(1),
    "guard.canary_ms_max": _count(0, 600_000),
    "guard.rest_ms": _count(0, 3_600_000),
    "members.absent_ms_max": _count(0, 3_600_000),
    "members.restored_ms_max": _count(0, 3_600_000),
    "members.region_hold_ms": _count(0, 86_400_000),
    "planner.delay_ms_max": _number(1, 60_000),
    "planner.loss_max": _number(0.0, 1.0),
    "planner.price_ms_per_unit": _number(0.0, 1e6),
    "planner.backups_max": _count(0, 15),
    "planner.upgrade_ms": _number(0.0, 60_000),
    "planner.upgrade_ratio": _number(0.0, 1.0),
    "planner.upgrade_reports": _count(1, 3_600),
}
"""Dotted key to the reader of its value."""

SECTIONS: Final = frozenset(key.partition(".")[0] for key in SCHEMA if "." in key)


def load_config(file: Path | None, flags: Mapping[str, object]) -> ControlConfig:
    """The configuration, or a `ConfigError` with everything that is wrong with it.

    ``flags`` maps keys of `SCHEMA` to what was typed; ``None`` is "not given".
    """
    errors: list[str] = []
    values: dict[str, Any] = {}
    for path, raw, origin in settings(file, flags, errors):
        try:
            value = SCHEMA[path](raw)
        except _BadValue as error:
            errors.append(f"{origin}: {path.rpartition('.')[2]}: {error}")
            values[path] = None
            continue
        relative = file is not None and path in _FILES and not origin.startswith("--")
        values[path] = file.parent / value if relative and file is not None else value
    for path, what in _NEEDED.items():
        if path not in values:
            errors.append(f"--{path.replace('.', '-').replace('_', '-')} is missing: {what}")
    if errors:
        raise ConfigError(errors)
    return _build(values)


def settings(
    file: Path | None, flags: Mapping[str, object], errors: list[str] | None = None
) -> list[tuple[str, object, str]]:
    """Everything that was written: dotted key, raw value, where; of two for a key the later one counts.

    Unknown keys go to ``errors``; `ConfigError` if the file is not readable.
    """
    return [*_from_file(file, [] if errors is None else errors), *_from_flags(flags)]


_NEEDED: Final = {
    "state_dir": "a directory of its own, where the control plane keeps what it must not forget",
    "hop.cert": "this control plane's certificate (farcast ca issue --role control)",
    "hop.key": "its private key",
    "hop.ca": "the cluster's authority, which edges must chain to",
}


def _build(values: Mapping[str, Any]) -> ControlConfig:
    names = {"cert_life": "cert_life_s"}
    top = {names.get(path, path): value for path, value in values.items() if "." not in path}
    hop = {f"hop_{path[4:]}": value for path, value in values.items() if path.startswith("hop.")}
    sections: dict[str, Any] = {
        section: {
            path.partition(".")[2]: value
            for path, value in values.items()
            if path.partition(".")[0] == section and "." in path
        }
        for section in ("guard", "members", "planner")
    }
    return ControlConfig(**{**top, **hop, **sections})


def _from_flags(flags: Mapping[str, object]) -> list[tuple[str, object, str]]:
    names = {path: f"--{path.replace('.', '-').replace('_', '-')}" for path in flags}
    return [(path, raw, names[path]) for path, raw in flags.items() if raw is not None]


def _from_file(file: Path | None, errors: list[str]) -> list[tuple[str, object, str]]:
    if file is None:
        return []
    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError([f"{file}: cannot read the configuration: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError([f"{file}: not valid TOML: {error}"]) from error
    found = []
    for path, raw in _flatten(document):
        origin = f"{file}{_line_of(text, path)}"
        if path in SCHEMA:
            found.append((path, raw, origin))
        else:
            near = difflib.get_close_matches(path, SCHEMA, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(SCHEMA)}"
            errors.append(f"{origin}: unknown key {path!r}; {hint}")
    return found


def _flatten(document: Mapping[str, object]) -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for key, raw in document.items():
        if key in SECTIONS and isinstance(raw, dict):
            flat += [(f"{key}.{name}", value) for name, value in raw.items()]
        else:
            flat.append((key, raw))
    return flat


def _line_of(text: str, path: str) -> str:
    """``:LINE`` where a key stands in a file; TOML's own parser keeps no lines."""
    section, _, key = path.rpartition(".")
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            here = header[1]
        elif here == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return f":{number}"
    return ""
