"""``farcast sim import``: a scenario over the links that real edges measured."""

from __future__ import annotations

import json as json_module
from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from farcast.cli.options import Flag, Json
from farcast.cli.output import note, print_json
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError
from farcast.simulations.export_file import Export, read_export
from farcast.simulations.places import CITIES
from farcast.simulations.report import store
from farcast.simulations.scenario_file import load_scenario
from farcast.simulations.worlds import build_world

PROMISES = (
    "glass_to_glass.worst_market p99 < 600 ms",
    "glass_to_glass.worst_market mean < 400 ms",
    "first_picture p95 < 600 ms where access_rtt <= 80 ms",
    "stall_ratio.worst_market < 0.5 %",
    "hd_share.worst_market >= 95 % where access_rate >= 4 Mbit/s",
)
VIEWERS = 6
"""Of each country that has an edge."""


def import_(
    file: Annotated[Path, Parameter(help="Links as edges measured them, from farcast links export.")],
    /,
    *,
    out: Path | None = None,
    publisher: str | None = None,
    force: Flag = False,
    json: Json = False,
) -> int:
    """Make a scenario of a network that was measured: its edges and links, and a load to begin with.

    Example: farcast sim import links.json --out ours.toml

    Parameters
    ----------
    out
        The scenario; the name of FILE with .toml unless set. It refers to FILE, which has to stay.
    publisher
        Country (ISO 3166, such as ID) of the publisher; that of the first edge unless set.
    force
        Replace a file that is there.
    """
    export = read_export(file)
    target = out or file.with_suffix(".toml")
    if target.exists() and not force:
        raise UserError(f"{target}: is there already; --force replaces it", EXIT_USAGE)
    countries = _countries(export, file)
    home = publisher or countries[0]
    text = _scenario(export, file, target, home, countries)
    store.write(target, text.encode())
    scenario = load_scenario(target)
    build_world(scenario, scenario.seed)
    links = len(export.links)
    if json:
        edges = len(export.edges)
        print_json({"scenario": str(target), "edges": edges, "links": links, "countries": countries})
        return EXIT_OK
    note(f"{target}: {len(export.edges)} edges, {links} links; viewers in {', '.join(countries)}")
    note(f"next: farcast sim run {target} --short")
    return EXIT_OK


def _countries(export: Export, file: Path) -> list[str]:
    """Where there are edges, and people whose access is known."""
    named = list(dict.fromkeys(edge.country for edge in export.edges))
    known = [country for country in named if country in CITIES]
    if not known:
        raise UserError(f"{file}: edges: none has a country that is known: {', '.join(CITIES)}", EXIT_USAGE)
    return known


def _scenario(export: Export, file: Path, target: Path, home: str, countries: list[str]) -> str:
    counts = Counter(edge.region for edge in export.edges)
    groups = [f"  {{ region = {_text(region)}, count = {count} }}," for region, count in counts.items()]
    viewers = [
        "\n".join(
            [
                "[[load.viewers]]",
                f"name = {_text('viewers-' + country.lower())}",
                'room = "live/show"',
                f"country = {_text(country)}",
                f"count = {VIEWERS}",
                "access = { quantile = 0.75 }",
                "",
            ]
        )
        for country in countries
    ]
    away = file.resolve()
    path = away.name if away.parent == target.resolve().parent else str(away)
    return "\n".join(
        [
            f"# Made by farcast sim import of {file.name}: edit load, events and promises to be yours.",
            f"name = {_text(target.stem)}",
            f"title = {_text('The network of ' + file.name)}",
            "version = 1",
            "seed = 1",
            "duration_s = 180",
            f"sources = [{_text(export.source)}]",
            'measured = ["round trips and losses between edges"]',
            'synthesised = ["access of clients: M-Lab percentiles of their countries at p75"]',
            "promises = [",
            *(f"  {_text(promise)}," for promise in PROMISES),
            "]",
            "",
            "[world]",
            f"control_region = {_text(export.edges[0].region)}",
            "edges = [",
            *groups,
            "]",
            "",
            "[world.backbone]",
            'kind = "import"',
            f"file = {_text(path)}",
            "",
            "[[load.films]]",
            'name = "show"',
            "renditions = [",
            "  { height = 720, bitrate_mbps = 1.8 },",
            "  { height = 360, bitrate_mbps = 0.6 },",
            "]",
            "",
            "[[load.publishers]]",
            'name = "host"',
            'room = "live/show"',
            f"country = {_text(home)}",
            'film = "show"',
            "access = { quantile = 0.5, up_mbps = 4 }",
            "",
            *viewers,
        ]
    )


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json_module.dumps(value, ensure_ascii=False)
