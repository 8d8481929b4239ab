"""Scenarios from TOML files: strict, with everything that is wrong in one error.

A file holds the fields of `Scenario`; ``[[event]]`` tables have a ``kind`` and the fields of its class in
`events`. In the short form an event is as in the full one, unless its table says ``short = false`` (it does
not happen) or ``short = { at_s = 8 }`` (these fields differ).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.events import EVENTS, AnyEvent
from farcast.simulations.scenario import SCENARIO_VERSION, Scenario, Short
from farcast.simulations.scenario_checks import check_scenario
from farcast.simulations.toml_tables import Faults, hint, read_table, read_toml

SCENARIOS: Final = Path(__file__).with_name("scenarios")

EVENTS_MAX: Final = 1_000


def list_scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with the simulator."""
    return tuple(sorted(file.stem for file in SCENARIOS.glob("*.toml")))


def load_scenario(path: str | Path) -> Scenario:
    """Read a scenario: a file, or the name of one that comes with the simulator.

    `UserError` with one line for each fault: file, line, key, and what would be right.
    """
    table, faults = read_toml(_file_of(path))
    scenario = _read(table, faults) if table is not None else None
    if scenario is not None and not faults.found:
        check_scenario(scenario, faults)
    if scenario is None or faults.found:
        raise UserError("\n".join(faults.found), EXIT_USAGE)
    return scenario


def _file_of(path: str | Path) -> Path:
    given = Path(path)
    if given.suffix == ".toml" or given.is_file():
        return given
    if str(path) in list_scenarios():
        return SCENARIOS / f"{path}.toml"
    raise UserError(
        f"no scenario {str(path)!r}{hint(str(path), list_scenarios())}, or a .toml file", EXIT_USAGE
    )


def _read(table: Mapping[str, Any], faults: Faults) -> Scenario | None:
    version = table.get("version")
    if version != SCENARIO_VERSION:
        faults.add("version", f"is {version!r}; this build reads scenarios of version {SCENARIO_VERSION}")
        return None
    events = _events(table.get("event", []), faults)
    short = read_table(Short, table.get("short", {}), "short", faults, given={"events": ()})
    rest = {key: value for key, value in table.items() if key not in ("event", "short")}
    given = {
        "file": faults.file,
        "events": tuple(event for event, _ in events),
        "short": short,
        "viewers_max": None,
        "is_short": False,
    }
    scenario = read_table(Scenario, rest, "", faults, given=given, also=("event", "short"))
    if scenario is None or short is None:
        return None
    kept = tuple(event for _, event in events if event is not None)
    return replace(scenario, short=replace(short, events=kept))


def _events(tables: object, faults: Faults) -> list[tuple[AnyEvent, AnyEvent | None]]:
    """Each event in its full and in its short form."""
    if not isinstance(tables, list):
        faults.add("event", "events are [[event]] tables")
        return []
    if len(tables) > EVENTS_MAX:
        faults.add("event", f"{len(tables)} events, at most {EVENTS_MAX} are allowed")
        return []
    read = (_event(table, f"event.{at}", faults) for at, table in enumerate(tables))
    return [pair for pair in read if pair is not None]


def _event(table: object, path: str, faults: Faults) -> tuple[AnyEvent, AnyEvent | None] | None:
    if not isinstance(table, Mapping):
        faults.add(path, "events are [[event]] tables")
        return None
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in EVENTS:
        faults.add(f"{path}.kind", f"unknown kind of event {kind!r}{hint(str(kind), list(EVENTS))}")
        return None
    fields = {key: value for key, value in table.items() if key not in ("kind", "short")}
    full = read_table(EVENTS[kind], fields, path, faults, also=("kind", "short"))
    changes = table.get("short", True)
    if changes is False or full is None:
        return (full, None) if full is not None else None
    if changes is True:
        return full, full
    if not isinstance(changes, Mapping):
        faults.add(f"{path}.short", "must be false, or a table of what differs: { at_s = 8 }")
        return None
    short = read_table(EVENTS[kind], {**fields, **changes}, f"{path}.short", faults)
    return (full, short) if short is not None else None
