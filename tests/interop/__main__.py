"""``python -m tests.interop [WORD …]``: all cases, or those whose name holds one of the words."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from .cases_browser import browser_group
from .cases_moq_rs import moq_rs_groups
from .results import Group, Result, run_group, show

OUT = Path(__file__).with_name("out")


async def run(words: Sequence[str]) -> list[Result]:
    """Run what was chosen, group by group."""
    groups: list[Group[Any]] = [browser_group(OUT), *moq_rs_groups(OUT)]
    results: list[Result] = []
    for group in groups:
        chosen = [case for case in group.cases if not words or any(word in case.name for word in words)]
        if chosen:
            results += await run_group(Group(group.open, chosen))
    return results


def main() -> int:
    """Exit code 0 only if every case passed."""
    try:
        results = trio.run(run, sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    passed = show(results)
    print(f"logs and screenshots: {OUT}", file=sys.stderr)
    return 0 if passed and results else 1


if __name__ == "__main__":
    sys.exit(main())
