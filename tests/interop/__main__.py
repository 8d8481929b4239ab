"""``python -m tests.interop [WORD …]``: all cases, or those whose name holds one of the words."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from .cases_browser import browser_group
from .cases_moq_rs import moq_rs_groups
from .cases_relay import relay_group
from .results import Group, Result, run_group, show

OUT = Path(__file__).with_name("out")
EXIT_INTERRUPTED = 130


def main() -> int:
    """Exit code 0 only if every case passed."""
    results = trio.run(run_interruptibly, sys.argv[1:])
    if results is None:
        return EXIT_INTERRUPTED
    passed = show(results)
    print(f"logs and screenshots: {OUT}", file=sys.stderr)
    return 0 if passed and results else 1


async def run_interruptibly(words: Sequence[str]) -> list[Result] | None:
    """`run`, or None if a signal came first; either way all children have ended."""
    results: list[Result] | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        results = await run(words)
        nursery.cancel_scope.cancel()
    return results


async def run(words: Sequence[str]) -> list[Result]:
    """Run what was chosen, group by group."""
    groups: list[Group[Any]] = [browser_group(OUT), *moq_rs_groups(OUT), relay_group(OUT)]
    results: list[Result] = []
    for group in groups:
        chosen = [case for case in group.cases if not words or any(word in case.name for word in words)]
        if chosen:
            results += await run_group(Group(group.open, chosen))
    return results


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


if __name__ == "__main__":
    sys.exit(main())
