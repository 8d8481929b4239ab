"""``farcast sim explain``: where the time of a picture went, hop by hop."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from farcast.cli.options import Json
from farcast.cli.output import note, notes, print_json, print_table
from farcast.cli.sim_options import Seed, Short, scenario_of
from farcast.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UserError
from farcast.simulations.explain import Explanation, Timeline
from farcast.simulations.gate import seeds_from
from farcast.simulations.pool import Failure, Pool, Progress
from farcast.simulations.report import store
from farcast.simulations.report.console import Progressing
from farcast.simulations.report.findings import worst_seed
from farcast.simulations.runs import Run, explain_once, timelines_once
from farcast.simulations.scenario import Scenario

Found = TypeVar("Found")

_PLACE = re.compile(r"(?P<group>\d{1,9})/(?P<object>\d{1,9})")


def explain(
    scenario: Annotated[
        str,
        Parameter(
            help="Name of a scenario (farcast sim list), a TOML file of your own, or the results of one "
            "(--save): then its worst seed is explained."
        ),
    ],
    /,
    *,
    seed: Seed = None,
    short: Short = False,
    viewer: Annotated[str | None, Parameter(help="Whose pictures; the slowest viewer's unless set.")] = None,
    object: Annotated[
        str | None, Parameter(help="GROUP/OBJECT: the way of this one picture over all hops, to everybody.")
    ] = None,
    json: Json = False,
) -> int:
    """Explain where the time goes from light to light: propagation, sending, repair, queues, the jitter
    buffer, hop by hop, on average and of the slowest hundredth of all pictures.

    Example: farcast sim explain sea-to-eu --short
    """
    asked, wanted = _asked(scenario, seed, short=short)
    if object is not None:
        return _explain_object(asked, wanted, object, viewer, json=json)
    found = _chosen(_ran(explain_once, asked, wanted), viewer)
    if json:
        print_json({"scenario": asked.name, "seed": wanted, "explanations": [asdict(each) for each in found]})
        return EXIT_OK
    for explanation in found:
        _show(explanation)
    return EXIT_OK


def _ran(once: Callable[[Run, Progress], list[Found]], asked: Scenario, seed: int) -> list[Found]:
    with Progressing(notes(), 1) as shown:
        ((_, outcome),) = Pool(once, 1, shown.progress).run([Run(scenario=asked, seed=seed)])
    if isinstance(outcome, Failure):
        raise UserError(
            f"{asked.name}, seed {seed}: {outcome.what}",
            EXIT_USAGE if outcome.kind == "user" else EXIT_FAILED,
        )
    return outcome


def _explain_object(asked: Scenario, seed: int, place: str, viewer: str | None, *, json: bool) -> int:
    if (match := _PLACE.fullmatch(place)) is None:
        raise UserError(f"--object {place}: must be GROUP/OBJECT, such as 12/0", EXIT_USAGE)
    once = partial(timelines_once, int(match["group"]), int(match["object"]))
    found = [each for each in _ran(once, asked, seed) if viewer in (None, each.viewer)]
    if not found:
        whom = viewer or "anybody"
        raise UserError(f"--object {place}: no such picture was shown to {whom} while live", EXIT_USAGE)
    if json:
        print_json({"scenario": asked.name, "seed": seed, "timelines": [asdict(each) for each in found]})
        return EXIT_OK
    for timeline in found:
        _show_way(timeline)
    return EXIT_OK


def _show_way(timeline: Timeline) -> None:
    """One picture's parts in the order of time, with the moment at which each ended, from light on."""
    rows: list[tuple[str, ...]] = []
    at_us = 0
    for part in timeline.parts:
        at_us += part.length_us
        rows.append((part.where, part.what, _ms(part.length_us), _ms(at_us)))
    print_table(("where", "what", "took", "by then"), rows)
    note(f"{timeline.viewer}: {timeline.track} {timeline.group}/{timeline.object}, {_ms(timeline.total_us)}")


def _asked(called: str, seed: int | None, *, short: bool) -> tuple[Scenario, int]:
    """Scenario and seed of what the user named."""
    if Path(called).suffix == ".json":
        result = store.load(Path(called))[0]
        found = scenario_of(result.scenario.called or result.scenario.name, short=result.scenario.short)
        worst = worst_seed(result)
        return found, seed if seed is not None else worst.seed if worst else found.seed
    found = scenario_of(called, short=short)
    return found, seeds_from(found, seed, 1)[0]


def _chosen(found: Sequence[Explanation], viewer: str | None) -> list[Explanation]:
    if not found:
        raise UserError("no viewer was shown a picture: there is nothing to explain")
    name = viewer or max(found, key=lambda each: each.slowest_us).viewer
    chosen = [each for each in found if each.viewer == name]
    if not chosen:
        names = ", ".join(sorted({each.viewer for each in found}))
        raise UserError(f"--viewer {name}: no such viewer was shown a picture; there are {names}", EXIT_USAGE)
    return chosen


def _show(explanation: Explanation) -> None:
    places = list(dict.fromkeys(share.where for share in explanation.shares))
    rows: list[tuple[str, ...]] = [
        (
            share.where,
            share.what,
            _ms(share.mean_us),
            f"{share.mean_us / max(explanation.mean_us, 1):.0%}",
            _ms(share.slowest_us),
        )
        for share in sorted(explanation.shares, key=lambda share: places.index(share.where))
    ]
    rows.append(("all", "", _ms(explanation.mean_us), "100%", _ms(explanation.slowest_us)))
    print_table(("where", "what", "mean", "", "slowest 1 %"), rows)
    note(
        f"{explanation.viewer} watching {explanation.publisher}: {explanation.pictures} pictures; parts of a "
        "hop are exact in sum and estimates one by one"
    )


def _ms(length_us: float) -> str:
    return f"{length_us / 1e3:.1f} ms"
