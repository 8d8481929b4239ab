"""``farcast config``: what an edge or a control plane would run with, and who said so."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from farcast.cli.options import Json
from farcast.cli.output import note, print_json, print_table
from farcast.control_plane import config as control_config
from farcast.edge import config as edge_config
from farcast.edge.config_sources import from_environment, from_file, from_flags
from farcast.edge.settings import LIMITS_DATAPATH, LIMITS_TRACK, UPSTREAM
from farcast.edge.settings import SCHEMA as EDGE_SCHEMA
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError
from farcast.proto._core import DatapathConfig
from farcast.proto.agent.config import MediaLimits
from farcast.proto.urls import ServerUrl

Part = Literal["edge", "control"]
File = Annotated[Path | None, Parameter(help="TOML file; only defaults, environment and --set without it.")]
Settings = Annotated[
    Sequence[str],
    Parameter(name="--set", negative=(), help="KEY=VALUE, as a flag would set it, such as hop.key=e1.key."),
]

SECRET: Final = "(set, not shown)"
SECRETS: Final = frozenset({"join"})
"""Keys whose value would let somebody in. Keys of certificates are told as names of files."""

DEFAULT: Final = "default"

config = App(name="config", help="Check a configuration, or show it with where each value comes from.")
"""The commands ``farcast config …``."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One value that is in force: its dotted key, the value as text, and who set it."""

    key: str
    value: str
    origin: str


@config.command
def check(part: Part, file: File = None, /, *, settings: Settings = (), json: Json = False) -> int:
    """Say whether an edge or a control plane would start with a configuration; every fault on a line.

    The exit code is 2 where it would not.

    Example: farcast config check edge edge.toml

    Parameters
    ----------
    part
        edge or control.
    """
    _load(part, file, settings)
    if json:
        print_json({"part": part, "file": None if file is None else str(file), "valid": True})
    else:
        note(f"{file or part}: nothing is wrong with it")
    return EXIT_OK


@config.command
def show(part: Part, file: File = None, /, *, settings: Settings = (), json: Json = False) -> int:
    """Show every value in force, and where it comes from: default, file, environment or flag.

    Example: farcast config show edge edge.toml --set listen=0.0.0.0:443

    Parameters
    ----------
    part
        edge or control.
    """
    loaded = _load(part, file, settings)
    origins = _edge_origins(file, settings) if part == "edge" else _control_origins(file, settings)
    rows = list(_shown(part, loaded, origins))
    if json:
        print_json({"part": part, "settings": {r.key: {"value": r.value, "origin": r.origin} for r in rows}})
    else:
        print_table(("key", "value", "from"), [(row.key, row.value, row.origin) for row in rows])
    return EXIT_OK


def _load(part: Part, file: Path | None, settings: Sequence[str]) -> Any:
    """The configuration as the daemon itself would read it; its `ConfigError`, where it would refuse."""
    flags = _flags(part, settings)
    if part == "edge":
        return edge_config.load_config(file, os.environ, flags)
    return control_config.load_config(file, flags)


def _flags(part: Part, settings: Sequence[str]) -> dict[str, object]:
    known = [*EDGE_SCHEMA, UPSTREAM] if part == "edge" else list(control_config.SCHEMA)
    flags: dict[str, object] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "keys are those of the TOML file, such as listen"
            raise UserError(f"--set {key}: no KEY=VALUE with a key of {part}; {hint}", EXIT_USAGE)
        if part == "control":
            flags[key] = _typed(value)
        elif key == UPSTREAM:
            flags[key] = [*_list(flags.get(key)), value]
        else:
            flags[key] = value
    return flags


def _typed(text: str) -> object:
    """A number where the text is one; the control plane's readers take everything else as text."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _edge_origins(file: Path | None, settings: Sequence[str]) -> dict[str, str]:
    """Key to who set it; later sources beat earlier ones, as in `edge_config.load_config`."""
    ignored: list[str] = []
    flags = from_flags(_flags("edge", settings), ignored)
    of_file = (from_file(file, ignored) or []) if file is not None else []
    origins: dict[str, str] = {}
    for source in (of_file, from_environment(os.environ, ignored), flags):
        if any(setting.path.startswith(UPSTREAM) for setting in source):
            origins = {path: text for path, text in origins.items() if not path.startswith(UPSTREAM)}
        origins.update({setting.path: setting.origin for setting in source})
    return origins


def _control_origins(file: Path | None, settings: Sequence[str]) -> dict[str, str]:
    return {path: origin for path, _, origin in control_config.settings(file, _flags("control", settings))}


def _shown(part: Part, loaded: Any, origins: Mapping[str, str]) -> list[Shown]:
    """Values by key in the order of the schema; upstreams last."""
    known = EDGE_SCHEMA if part == "edge" else control_config.SCHEMA
    values = _edge_values(loaded) if part == "edge" else _control_values(loaded)
    rows = [
        Shown(key, SECRET if key in SECRETS and values[key] is not None else _text(values[key]), origin)
        for key in known
        if key in values
        for origin in [origins.get(key, _otherwise(key, values[key]))]
    ]
    upstreams = getattr(loaded, "upstreams", ())
    for number, upstream in enumerate(upstreams):
        for name, value in _fields(upstream).items():
            key = f"{UPSTREAM}.{number}.{name}"
            if value not in (None, False):
                rows.append(Shown(key, _text(value), origins.get(key, DEFAULT)))
    return rows


def _otherwise(key: str, value: object) -> str:
    """Who set what nobody wrote: an edge that has joined reads hop and control from its state directory."""
    joined = key in ("hop.cert", "hop.key", "hop.ca", "control.addresses", "control.state_dir")
    return "state directory" if joined and value not in (None, ()) else DEFAULT


def _edge_values(loaded: edge_config.EdgeConfig) -> dict[str, Any]:
    values = _fields(loaded)
    found = {key: value for key, value in values.items() if key in EDGE_SCHEMA}
    hop, control = values["hop"], values["control"]
    of_hop = dict.fromkeys(("cert", "key", "ca")) if hop is None else _fields(hop)
    of_control = _defaults(edge_config.ControlConfig) if control is None else _fields(control)
    found.update({f"hop.{name}": value for name, value in of_hop.items()})
    found.update({f"control.{name}": value for name, value in of_control.items()})
    for section, prefix in (("hop", "hop_"), ("auth", "auth_"), ("quirks", "")):
        for key in EDGE_SCHEMA:
            name = f"{prefix}{key.partition('.')[2]}"
            if key.startswith(f"{section}.") and name in values:
                found[key] = values[name]
    limits = {**_limit_defaults(), **values["limits_datapath"], **values["limits_track"]}
    found.update({f"limits.{name}": value for name, value in limits.items()})
    return found


def _limit_defaults() -> dict[str, int]:
    """What the datapath takes where nothing is set."""
    datapath, media = DatapathConfig(), MediaLimits()
    found = {name: getattr(datapath, name) for name in LIMITS_DATAPATH if hasattr(datapath, name)}
    return found | {name: getattr(media, name) for name in LIMITS_TRACK if hasattr(media, name)}


def _control_values(loaded: control_config.ControlConfig) -> dict[str, Any]:
    values = _fields(loaded)
    found: dict[str, Any] = {}
    for key in control_config.SCHEMA:
        section, _, name = key.rpartition(".")
        if section == "hop":
            found[key] = values[f"hop_{name}"]
        elif section:
            if name in values[section]:
                found[key] = values[section][name]
        else:
            found[key] = values["cert_life_s" if key == "cert_life" else key]
    return found


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _defaults(kind: type[Any]) -> dict[str, Any]:
    found = {}
    for field in fields(kind):
        if field.default is not MISSING:
            found[field.name] = field.default
    return found


def _text(value: Any) -> str:
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "any"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, ServerUrl):
        return re.sub(r"\?.*", "?" + SECRET, value.whole)  # a token may stand in the query
    if hasattr(value, "path") and callable(value.path):
        return str(value.path())
    return str(value)
