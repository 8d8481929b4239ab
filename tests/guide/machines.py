"""Network namespaces as machines: one address and one folder each, all on one wire."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .wire import DelayMs, lay

WIRE = "wire"

COPY = """
scp() {
    local to="${@: -1}"
    cp -- "${@:1:$#-1}" "$MACHINES/${to%%:*}/${to#*:}"
}
"""
"""Copies a file to another machine's folder, where people would use the network."""


@dataclass(frozen=True, slots=True)
class Machines:
    """Needs to be root of network and mount namespaces of its own (`isolated`). ``programs``: folder of the
    commands under test; ``delay_ms``: of the way from one to another, where it is not to be none."""

    folder: Path
    addresses: Mapping[str, str]
    programs: Path
    delay_ms: DelayMs | None = None

    def build(self) -> None:
        """Make them all; they can reach each other, and nothing else."""
        if self.delay_ms is None:
            _ip("link", "add", WIRE, "type", "bridge")
            _ip("link", "set", WIRE, "up")
        for name, address in self.addresses.items():
            (self.folder / name).mkdir()
            _ip("netns", "add", name)
            _ip("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            on_bridge = ("master", WIRE) if self.delay_ms is None else ()
            _ip("link", "set", f"to-{name}", *on_bridge, "up")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "address", "add", f"{address}/32", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "route", "add", "default", "dev", "eth0")
        if self.delay_ms is not None:
            lay({name: f"to-{name}" for name in self.addresses}, self.delay_ms)

    def run(self, machine: str, script: str, seconds_max: float) -> subprocess.CompletedProcess[str]:
        """Run a script in the machine's folder; its output, both kinds in one. What it starts in the
        background goes on. Raises `subprocess.TimeoutExpired`."""
        home = self.folder / machine
        output = self.folder / f"{machine}.out"
        with output.open("w") as sink:
            done = subprocess.run(
                ["ip", "netns", "exec", machine, "bash", "-euo", "pipefail", "-c", COPY + script],
                cwd=home,
                env={
                    "PATH": f"{self.programs}:{os.environ['PATH']}",
                    "HOME": str(home),
                    "MACHINES": str(self.folder),
                    "LANG": "C.UTF-8",
                },
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                timeout=seconds_max,
                check=False,
            )
        return subprocess.CompletedProcess(done.args, done.returncode, output.read_text(errors="replace"))


def isolated(command: list[str]) -> list[str]:
    """A command in namespaces of its own: it may build machines there, and all its children end with it."""
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    # ip keeps the names of namespaces under /run, which belongs to the machine that runs this. The shell
    # stays, as process 1, and reaps what others leave behind.
    return [*unshare, "bash", "-c", 'mount -t tmpfs tmpfs /run && "$@"; exit $?', "bash", *command]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
