"""Running cases one after the other, and telling how they went.

A `Group` shares something that takes long to start, such as edges or a browser. Every case has a hard time
limit, and a case that fails leaves the others alone.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio
from rich.console import Console
from rich.table import Table

R = TypeVar("R")

CASE_SECONDS_MAX = 45.0
DEFECTS = (AssertionError, TypeError, AttributeError, LookupError)
"""Errors of the harness itself, shown with their traceback."""


class Unmet(Exception):
    """What a case expects did not happen."""


@dataclass(frozen=True, slots=True)
class Case(Generic[R]):
    """One thing to show; ``run`` returns a line about what was seen, or raises."""

    name: str
    run: Callable[[R], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Group(Generic[R]):
    """Cases that share what ``open`` starts."""

    open: Callable[[], AbstractAsyncContextManager[R]]
    cases: Sequence[Case[R]]


@dataclass(frozen=True, slots=True)
class Result:
    """How a case went."""

    name: str
    passed: bool
    seconds: float
    remark: str


def expect(met: bool, otherwise: str) -> None:
    """Raise `Unmet` unless something is as it should be."""
    if not met:
        raise Unmet(otherwise)


async def run_group(group: Group[R]) -> list[Result]:
    """Run its cases in order; those that could not be begun count as failed."""
    results: list[Result] = []
    try:
        async with group.open() as shared:
            for case in group.cases:
                results.append(await _run(case, shared))
    except Exception as error:
        reason = f"not begun: {_reason(error)}"
        results += [Result(case.name, False, 0.0, reason) for case in group.cases[len(results) :]]
    return results


def show(results: Sequence[Result]) -> bool:
    """Print the table to stderr and the sum as a JSON line to stdout; True if all passed."""
    table = Table("case", "", "s", "remark")
    for result in results:
        mark = "[green]ok[/]" if result.passed else "[red]FAILED[/]"
        table.add_row(result.name, mark, f"{result.seconds:.1f}", result.remark)
    Console(stderr=True, width=None if sys.stderr.isatty() else 170).print(table)
    passed = sum(result.passed for result in results)
    print(json.dumps({"passed": passed, "total": len(results)}), flush=True)
    return passed == len(results)


async def _run(case: Case[R], shared: R) -> Result:
    started = time.monotonic()
    print(f"{case.name} ... ", end="", file=sys.stderr, flush=True)
    try:
        with trio.fail_after(CASE_SECONDS_MAX):
            passed, remark = True, await case.run(shared)
    except trio.TooSlowError:
        passed, remark = False, f"not done after {CASE_SECONDS_MAX:g} s"
    except Exception as error:
        passed, remark = False, _reason(error)
    seconds = time.monotonic() - started
    print("ok" if passed else f"FAILED: {remark}", file=sys.stderr, flush=True)
    return Result(case.name, passed, seconds, remark)


def _reason(error: BaseException) -> str:
    """What the innermost first error says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, DEFECTS):
        traceback.print_exception(error)
    said = str(error).partition("\n")[0]
    return said if isinstance(error, Unmet) else f"{type(error).__name__}: {said}"
