"""TOML tables into frozen dataclasses: strict, and with everything that is wrong at once.

The dataclass is the schema. A field ``at_us`` is written ``at_s``, ``rate_bps`` as ``rate_mbps``: people
write seconds and Mbit/s. Types, literals and missing keys are checked here, and bounds by name (times and
rates are not negative, shares lie between 0 and 1). What a value means is for the caller to judge.

A line number is found by a scan of the file apart from TOML's own parser, which keeps none; where the scan
finds nothing, the table alone is named.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Table: TypeAlias = Mapping[str, Any]

BYTES_MAX: Final = 1 << 20
FAULTS_MAX: Final = 100
"""More faults than this are not listed."""

UNITS: Final = (("_us", "_s", 1e6), ("_bps", "_mbps", 1e6))
"""Ends of names in the dataclass and in the file (``_max`` may follow), and what a figure of the file is
multiplied by."""

SHARES: Final = frozenset(
    (
        "bad_share",
        "loss",
        "loss_bad",
        "quantile",
        "loss_fraction",
        "stock_share",
        "webtransport_share",
        "rank_correlation",
    )
)
"""Fields from 0 to 1."""

SIGNED: Final = frozenset(("step_us", "drift_ppm"))
"""Fields that may be negative."""

AT_LEAST_1: Final = frozenset(
    (
        "bad_packets",
        "bitrate_bps",
        "burst",
        "count",
        "down_bps",
        "duration_us",
        "every_us",
        "fps",
        "gop_ms",
        "height",
        "loss_burst",
        "mtu_bytes",
        "policer_bps",
        "rate_bps",
        "up_bps",
        "viewers_max",
    )
)
"""Fields of which there must be one at least."""

NUMBER_MAX: Final = 1e15


@dataclass(slots=True)
class Faults:
    """What is wrong with one file, in the order found; ``lines`` are those of keys and tables, by path."""

    file: Path
    lines: Mapping[str, int] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)

    def add(self, path: str, text: str) -> None:
        """``path`` is dotted, tables of an array numbered from 0: ``load.viewers.1.count``."""
        if len(self.found) < FAULTS_MAX:
            line = self._line(path)
            where = f"{self.file}:{line}" if line else str(self.file)
            self.found.append(f"{where}: {readable(path)}: {text}" if path else f"{where}: {text}")

    def _line(self, path: str) -> int | None:
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path.rpartition(".")[0]
        return None


def read_toml(file: Path) -> tuple[Table | None, Faults]:
    """The parsed file, or ``None`` and why not."""
    faults = Faults(file)
    try:
        if file.stat().st_size > BYTES_MAX:
            faults.add("", f"larger than {BYTES_MAX} bytes")
            return None, faults
        text = file.read_text(encoding="utf-8")
        parsed = tomllib.loads(text)
    except OSError as error:
        faults.add("", f"cannot be read: {error.strerror}")
        return None, faults
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.add("", f"is not TOML: {error}")
        return None, faults
    except RecursionError:
        faults.add("", "nested too deep")
        return None, faults
    faults.lines = line_numbers(text)
    return parsed, faults


def readable(path: str) -> str:
    """A path as people write it: ``[[load.viewers]] 2, count``."""
    parts = path.split(".")
    last_number = max((at for at, part in enumerate(parts) if part.isdigit()), default=None)
    if last_number is None:
        return path
    head = ".".join(part for part in parts[:last_number] if not part.isdigit())
    rest = ".".join(parts[last_number + 1 :])
    number = int(parts[last_number]) + 1
    return f"[[{head}]] {number}" + (f", {rest}" if rest else "")


def line_numbers(text: str) -> dict[str, int]:
    """The line of each table and key, by path."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]", line):
            table = header[2]
            if header[1] == "[[":
                at = counts.get(table, 0)
                counts[table] = at + 1
                table = f"{table}.{at}"
            else:
                parent = max((name for name in counts if table.startswith(f"{name}.")), default=None, key=len)
                if parent is not None:
                    table = f"{parent}.{counts[parent] - 1}{table[len(parent) :]}"
            lines.setdefault(table, number)
        elif assignment := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line):
            lines.setdefault(f"{table}.{assignment[1]}" if table else assignment[1], number)
    return lines


def written(name: str) -> str:
    """How a field is called in a file."""
    base = name.removesuffix("_max")
    for ours, theirs, _ in UNITS:
        if base.endswith(ours):
            return base.removesuffix(ours) + theirs + name[len(base) :]
    return name


def hint(name: str, known: Sequence[str]) -> str:
    """What may have been meant, or what there is."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


def read_table(
    cls: type[T],
    table: object,
    path: str,
    faults: Faults,
    *,
    given: Mapping[str, Any] | None = None,
    also: Sequence[str] = (),
) -> T | None:
    """A dataclass from a table; ``None`` if something is wrong with it, which ``faults`` then say.

    ``given``: fields that the caller has made itself; a table cannot have them. ``also``: keys that the
    caller reads itself, for the hints.
    """
    if not isinstance(table, Mapping):
        faults.add(path, f"must be a table, not {table!r}")
        return None
    before = len(faults.found)
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in (given or {})}  # type: ignore[arg-type]
    known = {written(name): name for name in fields}
    for key in table:
        if key not in known:
            faults.add(f"{path}.{key}" if path else key, f"unknown key {key!r}{hint(key, [*known, *also])}")
    values: dict[str, Any] = dict(given or {})
    for key, name in known.items():
        where = f"{path}.{key}" if path else key
        if key in table:
            values[name] = _value(hints[name], name, table[key], where, faults)
        elif fields[name].default is MISSING and fields[name].default_factory is MISSING:
            faults.add(path or key, f"{key} is missing")
    if len(faults.found) > before:
        return None
    return cls(**values)


def _value(kind: Any, name: str, raw: object, path: str, faults: Faults) -> Any:
    """One value of the type, or a fault and ``None``."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        kinds = [each for each in arguments if each is not type(None)]
        return _value(kinds[0], name, raw, path, faults)
    if origin is Literal:
        if raw not in arguments:
            known = [str(each) for each in arguments]
            faults.add(path, f"{raw!r} is not possible{hint(str(raw), known)}")
        return raw
    if origin is tuple:
        return _sequence(arguments, name, raw, path, faults)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return read_table(kind, raw, path, faults)
    if kind is bool or kind is str or kind is Path:
        wanted: type = bool if kind is bool else str
        if not isinstance(raw, wanted):
            faults.add(path, f"must be {'true or false' if kind is bool else 'a text'}, not {raw!r}")
            return None
        return _path(str(raw), path, faults) if kind is Path else raw
    return _number(kind, name, raw, path, faults)


def _path(raw: str, path: str, faults: Faults) -> Path | None:
    found = faults.file.parent / raw
    if not found.is_file():
        faults.add(path, f"there is no file {found}")
        return None
    return found


def _sequence(kinds: tuple[Any, ...], name: str, raw: object, path: str, faults: Faults) -> Any:
    """A list as a tuple: of any length, or a pair. A single figure stands for a pair of it twice."""
    endless = len(kinds) == 2 and kinds[1] is Ellipsis
    if not endless and isinstance(raw, (int, float)) and not isinstance(raw, bool):
        raw = [raw, raw]
    if not isinstance(raw, list):
        what = "[[…]] tables" if endless and dataclasses.is_dataclass(kinds[0]) else "a list"
        faults.add(path, f"must be {what}, not {raw!r}")
        return ()
    if not endless and len(raw) != len(kinds):
        faults.add(path, f"must hold {len(kinds)} values, not {len(raw)}")
        return ()
    each = [kinds[0]] * len(raw) if endless else list(kinds)
    is_table = endless and dataclasses.is_dataclass(kinds[0])
    values = tuple(
        _value(kind, name, item, f"{path}.{at}" if is_table else path, faults)
        for at, (kind, item) in enumerate(zip(each, raw, strict=True))
    )
    numbers = [value for value in values if isinstance(value, (int, float))]
    if not endless and len(numbers) == 2 and numbers[0] > numbers[1]:
        faults.add(path, "the first value must not be above the second")
    return values


def _number(kind: Any, name: str, raw: object, path: str, faults: Faults) -> int | float | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or raw != raw:
        faults.add(path, f"must be a number, not {raw!r}")
        return None
    if abs(raw) >= NUMBER_MAX:
        faults.add(path, f"{raw!r} is too large")
        return None
    factor = next((f for ours, _, f in UNITS if name.removesuffix("_max").endswith(ours)), None)
    value: int | float = raw
    if factor is not None:
        value = round(raw * factor)
    elif kind is int and not isinstance(raw, int):
        faults.add(path, f"must be a whole number, not {raw!r}")
        return None
    return _bounded(name, value, raw, path, faults)


def _bounded(name: str, value: int | float, raw: object, path: str, faults: Faults) -> int | float:
    if name in SHARES and not 0 <= value <= 1:
        faults.add(path, f"{raw!r} is no share: from 0 to 1")
    elif name in AT_LEAST_1 and value < 1:
        faults.add(
            path,
            f"{raw!r} is too small: must be {'above 0' if name.endswith(('_us', '_bps')) else '1 at least'}",
        )
    elif value < 0 and name not in SIGNED:
        faults.add(path, f"{raw!r} is negative")
    return value
