"""``python -m tests.guide``: do what docs/guide.md says, in network namespaces as its machines.

Needs Linux with network namespaces: root, or user namespaces for everybody; and ``ip`` (Debian package
iproute2). With ``--clone`` the project is first cloned and built anew, as a stranger would, and that time
counts until the first picture. Prints a line a step and, last, one JSON line; exit code 0 if every step did
what the guide says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .machines import Machines, isolated
from .steps import Block, Step, Times, Until, machines, steps

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide.md"
BLOCK_SECONDS_MAX = 120.0
UNTIL_SECONDS_MAX = 45.0
LOOK_SECONDS = 0.25
LOG_LINES = 20

PLACES = {"sin": "sin", "studio": "sin", "fra": "fra", "iad": "iad", "home": "iad"}
BETWEEN_MS = {
    frozenset(("sin", "fra")): 80.0,
    frozenset(("fra", "iad")): 45.0,
    frozenset(("sin", "iad")): 110.0,
}
WITHIN_MS = 1.0
"""One way: half of usual round trips on the internet."""


def one_way_ms(one: str, other: str) -> float:
    """How long a packet takes from machine to machine."""
    return BETWEEN_MS.get(frozenset((PLACES[one], PLACES[other])), WITHIN_MS)


@dataclass
class Run:
    """One walk through the guide."""

    machines: Machines
    clock: Callable[[], float] = time.monotonic
    passed: int = 0
    took_s: dict[str, float] = field(default_factory=dict)
    not_run: int = 0
    _started: dict[str, float] = field(default_factory=dict)

    def leave_out(self, step: Step) -> None:
        """A step that cannot be done here."""
        if not self.not_run:
            print(f"NOT RUN: what needs {step.needs}, which is not installed", file=sys.stderr, flush=True)
        self.not_run += not isinstance(step, Times)

    def take(self, step: Step) -> str | None:
        """Do one step; ``None``, or what went wrong."""
        match step:
            case Times("start", name, _):
                self._started[name] = self.clock()
                return None
            case Times(_, name, _):
                self.took_s[name] = round(self.clock() - self._started[name], 1)
                return None
            case Block():
                problem = self._block(step)
            case Until():
                problem = self._until(step)
        self.passed += problem is None
        return problem

    def _block(self, block: Block) -> str | None:
        began = self.clock()
        try:
            done = self.machines.run(block.machine, block.script, BLOCK_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return f"does not end within {BLOCK_SECONDS_MAX:.0f} s"
        print(f"{self.clock() - began:6.1f} s  {block.machine:7} {block.title}", file=sys.stderr, flush=True)
        return None if done.returncode == 0 else f"exit code {done.returncode}:\n{done.stdout}"

    def _until(self, until: Until) -> str | None:
        deadline = self.clock() + UNTIL_SECONDS_MAX
        while self.clock() < deadline:
            done = self.machines.run(until.machine, until.command, UNTIL_SECONDS_MAX)
            if done.returncode == 0:
                return None
            time.sleep(LOOK_SECONDS)
        return f"{until.command!r} never came true:\n{done.stdout}"


def walk(run: Run, todo: Iterable[Step]) -> int:
    """All steps up to the first that fails; the exit code."""
    for step in todo:
        if step.needs and shutil.which(step.needs) is None:
            run.leave_out(step)
            continue
        problem = run.take(step)
        if problem is not None and not isinstance(step, Times):
            where = f"{GUIDE.relative_to(ROOT)}, line {step.line}, on {step.machine}"
            print(f"{where}: {problem}\n{_logs(run.machines.folder / step.machine)}", file=sys.stderr)
            return 1
    return 0


def inside(arguments: argparse.Namespace) -> int:
    """In namespaces of our own: build the machines and walk through the guide."""
    text = GUIDE.read_text()
    todo = list(steps(text))
    with tempfile.TemporaryDirectory(prefix="farcast-guide-", ignore_cleanup_errors=True) as folder:
        built = Machines(Path(folder), machines(text), arguments.programs, one_way_ms)
        built.build()
        run = Run(built)
        code = walk(run, todo)
    picture_s = run.took_s.get("picture")
    figures = {
        "steps": sum(not isinstance(step, Times) for step in todo),
        "passed": run.passed,
        "not_run": run.not_run,
        "join_to_plan_s": run.took_s.get("join_to_plan"),
        "takeover_s": run.took_s.get("takeover"),
        "picture_s": picture_s,
        "clone_to_picture_s": _sum(arguments.built_s, picture_s),
    }
    print(json.dumps(figures, separators=(",", ":")))
    return code


def outside(arguments: argparse.Namespace) -> int:
    """Clone and build, if asked to, and go on in namespaces."""
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            print(f"{program} is missing: apt install {package}", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="farcast-clone-", ignore_cleanup_errors=True) as scratch:
        programs, built_s = arguments.programs, None
        if arguments.clone:
            programs, built_s = _clone(Path(scratch) / "farcast")
        command = [sys.executable, "-m", "tests.guide", "--inside", f"--programs={programs}"]
        command += [] if built_s is None else [f"--built-s={built_s}"]
        return subprocess.run(isolated(command), cwd=ROOT, check=False).returncode


def _clone(to: Path) -> tuple[Path, float]:
    began = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(to)], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(["make", ".venv/.core"], cwd=to, env=environment, stdout=sys.stderr, check=True)
    return to / ".venv" / "bin", round(time.monotonic() - began, 1)


def _sum(built_s: float | None, picture_s: float | None) -> float | None:
    return None if built_s is None or picture_s is None else round(built_s + picture_s, 1)


def _logs(folder: Path) -> str:
    said = []
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        said.append("\n".join([f"---- {log.name}", *lines]))
    return "\n".join(said)


def main() -> int:
    """Exit code 0 if every step did what the guide says, 1 if not, 2 if it could not be tried."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clone", action="store_true", help="build from a fresh clone, and count that time")
    parser.add_argument("--programs", type=Path, default=Path(sys.executable).parent, help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--built-s", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    return inside(arguments) if arguments.inside else outside(arguments)


if __name__ == "__main__":
    sys.exit(main())
