"""The three places where an edge's configuration is written, each read into a list of settings.

Nothing is judged here but whether a key exists. A line number is found by a scan of the file apart from
TOML's own parser, which keeps none; where the scan finds nothing, the file alone is named.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from farcast.edge.settings import SCHEMA, SECTIONS, UPSTREAM, keys_in, kind_of

ENVIRONMENT_PREFIX = "FARCAST_EDGE_"

FLAG_NAMES = {
    "auth.mode": "--auth",
    "control.addresses": "--control",
    "control.advertise": "--advertise",
    "control.public_url": "--public-url",
    "control.state_dir": "--state-dir",
}
"""Flags that are not named as their keys."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What somebody wrote for one key.

    ``path`` is dotted (``listen``, ``hop.cert``, ``upstream.0.url``), ``origin`` says where it stands,
    ``folder`` is what a relative file name counts from, ``text`` tells text from TOML's typed values.
    """

    path: str
    raw: object
    origin: str
    text: bool
    folder: Path = Path()


def from_file(file: Path, errors: list[str]) -> list[Setting] | None:
    """The settings of a TOML file, None if it cannot be read; what is wrong goes to ``errors``."""
    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        errors.append(f"{file}: cannot read the configuration: {error.strerror}")
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        errors.append(f"{file}: not valid TOML: {error}")
        return None
    except RecursionError:
        errors.append(f"{file}: not a configuration: nested too deep")
        return None
    lines = _line_numbers(text)
    settings = []
    for path, raw in _flatten(document):
        line = lines.get(path)
        origin = f"{file}:{line}" if line else str(file)
        if kind_of(path) is not None:
            settings.append(Setting(path, raw, origin, text=False, folder=file.parent))
        else:
            errors.append(f"{origin}: {_what_is_wrong(path, raw)}")
    return settings


def from_environment(environ: Mapping[str, str], errors: list[str]) -> list[Setting]:
    """The settings of all variables that begin with ``FARCAST_EDGE_``."""
    names = {ENVIRONMENT_PREFIX + path.replace(".", "_").upper(): path for path in [*SCHEMA, UPSTREAM]}
    settings = []
    for name, text in sorted(environ.items()):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        origin = f"environment {name}"
        if name not in names:
            errors.append(f"{origin}: no such setting{_nearest(name, list(names))}")
        elif names[name] == UPSTREAM:
            settings += upstream_settings(text.split(), origin, errors)
        else:
            settings.append(Setting(names[name], text, origin, text=True))
    return settings


def from_flags(flags: Mapping[str, object], errors: list[str]) -> list[Setting]:
    """The settings of flags; keys as in the schema, values as typed, None where not given."""
    settings = []
    for key, value in flags.items():
        origin = FLAG_NAMES.get(key) or f"--{key.replace('.', '-').replace('_', '-')}"
        if value is None:
            continue
        if key == UPSTREAM and isinstance(value, list):
            settings += upstream_settings(value, origin, errors)
        else:
            settings.append(Setting(key, value, origin, text=isinstance(value, str)))
    return settings


def upstream_settings(pairs: list[str], origin: str, errors: list[str]) -> list[Setting]:
    """The settings of upstreams written as ``PREFIX=URL``."""
    settings = []
    for index, pair in enumerate(pairs):
        prefix, equals, url = pair.partition("=")
        if not equals:
            errors.append(f"{origin}: {pair!r} is not PREFIX=URL, such as live=farcast://host:4433")
            continue
        settings.append(Setting(f"{UPSTREAM}.{index}.prefix", prefix, origin, text=True))
        settings.append(Setting(f"{UPSTREAM}.{index}.url", url, origin, text=True))
    return settings


def _flatten(document: dict[str, object]) -> Iterator[tuple[str, object]]:
    for key, raw in document.items():
        if key == UPSTREAM and isinstance(raw, list):
            for index, item in enumerate(raw):
                yield from _flatten_section(f"{UPSTREAM}.{index}", item)
        elif key in SECTIONS:
            yield from _flatten_section(key, raw)
        else:
            yield key, raw


def _flatten_section(section: str, raw: object) -> Iterator[tuple[str, object]]:
    if isinstance(raw, dict):
        yield from ((f"{section}.{key}", value) for key, value in raw.items())
    else:
        yield section, raw


def _what_is_wrong(path: str, raw: object) -> str:
    section, _, key = path.rpartition(".")
    if path.partition(".")[0] == UPSTREAM and (not section or key.isdigit()):
        return f"upstreams are sections [[{UPSTREAM}]], not {raw!r}"
    if path in SECTIONS:
        return f"[{path}] is a section, not {raw!r}"
    return f"unknown key {key!r}{f' in [{section}]' if section else ''}{_nearest_key(section, key)}"


def _nearest_key(section: str, key: str) -> str:
    for path in SCHEMA:
        home, _, name = path.rpartition(".")
        if name == key:
            return f"; {key!r} belongs " + (f"into [{home}]" if home else "above the first section")
    return _nearest(key, keys_in(section))


def _nearest(key: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(known)}"


def _line_numbers(text: str) -> dict[str, int]:
    """The line of each section and key, by dotted path."""
    lines: dict[str, int] = {}
    section, upstreams = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
            section = header[1]
            if section == UPSTREAM:
                section, upstreams = f"{UPSTREAM}.{upstreams}", upstreams + 1
            lines.setdefault(section, number)
        elif assignment := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line):
            lines.setdefault(f"{section}.{assignment[1]}" if section else assignment[1], number)
    return lines
