"""What ``farcast price`` and ``farcast capacity`` share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from farcast.cli.control_api import control_api
from farcast.cli.output import note, print_json, print_table
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError

BITS_PER_MEGABIT = 1_000_000


def override(
    figure: Literal["price", "capacity"],
    about: tuple[str, ...],
    value: float | None,
    where: tuple[Path | None, str | None, Path | None],
    *,
    undo: bool,
    json: bool,
) -> int:
    """Set a figure of ``about`` (an edge, or the two ends of a link), take it back, or show all. ``where``:
    the control plane, as for `control_api`."""
    control = control_api(*where)
    if not about:
        if undo or value is not None:
            raise UserError(f"of which edge? farcast {figure} NODE [NODE] ...", EXIT_USAGE)
        return _tell(control.get("/overrides"), "", json=json)
    if len(about) > 2:
        raise UserError(f"{' '.join(about)}: an edge, or two for the link between them", EXIT_USAGE)
    if undo == (value is not None):
        raise UserError("give --set VALUE, or --undo", EXIT_USAGE)
    name, ends = " > ".join(about), dict(zip(("src", "dst"), about, strict=False))
    if value is None:
        src = ends.pop("src")
        done = control.delete("/overrides", src, **ends, figure=figure)
        return _tell(done, f"{figure} of {name} as configured", json=json)
    order: dict[str, object] = {**ends, **_field(figure, value)}
    return _tell(
        control.post("/overrides", order), f"{figure} of {name} is {value:g} {_UNIT[figure]}", json=json
    )


_UNIT = {"price": "per GB", "capacity": "Mbit/s"}


def _field(figure: str, value: float) -> dict[str, object]:
    if not math.isfinite(value) or value < 0:
        raise UserError(f"--set {value:g}: must be a number from 0", EXIT_USAGE)
    if figure == "price":
        return {"price_per_gb": value}
    return {"capacity_bps": round(value * BITS_PER_MEGABIT)}


def _tell(found: dict[str, Any], text: str, *, json: bool) -> int:
    if json:
        print_json(found)
        return EXIT_OK
    if text:
        note(text)
    else:
        print_table(("edge or link", "price per GB", "capacity"), [_row(each) for each in found["overrides"]])
    if found["remark"]:
        note(found["remark"])
    return EXIT_OK


def _row(each: dict[str, Any]) -> tuple[str, str, str]:
    price, capacity = each["price_per_gb"], each["capacity_bps"]
    return (
        each["src"] if each["dst"] is None else f"{each['src']} > {each['dst']}",
        "" if price is None else f"{price:g}",
        ""
        if capacity is None
        else "unbounded"
        if capacity == 0
        else f"{capacity / BITS_PER_MEGABIT:g} Mbit/s",
    )
