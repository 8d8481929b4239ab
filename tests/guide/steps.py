"""What docs/guide.md says: blocks to be run on machines, and remarks for whoever runs them.

A fenced block whose info string is ``sh MACHINE`` is a script of that machine. Four HTML comments, which
readers do not see, stand for what a person does between blocks:

- ``until MACHINE: COMMAND``: look again until the command succeeds;
- ``start: NAME`` and ``stop: NAME``: take the time;
- ``needs: PROGRAM``: what follows in this section needs a program that is none of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_FENCE = re.compile(r"^```sh (?P<machine>[a-z][a-z0-9-]*)$")
_UNTIL = re.compile(r"^<!-- until (?P<machine>[a-z][a-z0-9-]*): (?P<command>.+) -->$")
_TIMES = re.compile(r"^<!-- (?P<what>start|stop): (?P<name>[a-z_]+) -->$")
_NEEDS = re.compile(r"^<!-- needs: (?P<program>[a-z][a-z0-9-]*) -->$")
_MACHINE = re.compile(r"^\| `(?P<name>[a-z][a-z0-9-]*)` \| (?P<address>[0-9.]+) \|")


class BadGuide(Exception):
    """The guide cannot be run; the message names the line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A script of a machine; ``line`` of the guide where it begins, ``section`` that it stands in, ``needs``:
    a program that is to be there."""

    machine: str
    script: str
    line: int
    section: str
    needs: str = ""

    @property
    def title(self) -> str:
        """For whoever watches: the first command."""
        return self.script.strip().splitlines()[0].removesuffix("\\").strip()


@dataclass(frozen=True, slots=True)
class Until:
    """A command that has to succeed some time."""

    machine: str
    command: str
    line: int
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Times:
    """A time is to be taken."""

    what: Literal["start", "stop"]
    name: str
    needs: str = ""


Step = Block | Until | Times


def machines(text: str) -> dict[str, str]:
    """Addresses by machine, of the table at the beginning. Raises `BadGuide` if there is none."""
    found = {m["name"]: m["address"] for line in text.splitlines() if (m := _MACHINE.match(line))}
    if not found:
        raise BadGuide("the guide has no table of machines: | `name` | address |")
    return found


def steps(text: str) -> Iterator[Step]:
    """In the order of the page. Raises `BadGuide` for a block without an end, or of a machine that the table
    does not name."""
    known = machines(text)
    section, needs, lines = "", "", iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if line.startswith("## "):
            section, needs = line.removeprefix("## "), ""
        elif fence := _FENCE.match(line):
            _check(fence["machine"], known, number)
            yield Block(fence["machine"], _block(lines, number), number, section, needs)
        elif until := _UNTIL.match(line):
            _check(until["machine"], known, number)
            yield Until(until["machine"], until["command"], number, needs)
        elif times := _TIMES.match(line):
            yield Times("start" if times["what"] == "start" else "stop", times["name"], needs)
        elif program := _NEEDS.match(line):
            needs = program["program"]
        elif line.startswith("<!--"):
            raise BadGuide(f"line {number}: {line!r} is neither until, start, stop nor needs")


def _block(lines: Iterator[tuple[int, str]], begin: int) -> str:
    script: list[str] = []
    for _, line in lines:
        if line == "```":
            return "\n".join(script) + "\n"
        script.append(line)
    raise BadGuide(f"line {begin}: the block has no end")


def _check(machine: str, known: dict[str, str], line: int) -> None:
    if machine not in known:
        raise BadGuide(f"line {line}: {machine!r} is none of the machines {', '.join(known)}")
