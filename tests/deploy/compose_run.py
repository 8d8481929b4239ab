"""``python -m tests.deploy.compose_run``: what deploy/compose/compose.yaml says, without containers.

Each service of ours, and Consul, runs in a network namespace with its address, by the command of the file,
with its volumes as folders; in the order of ``depends_on``, each until its health check passes. Then a film
goes from one edge to another, the control plane that leads is killed, and everything is stopped as the file
says, within its grace period. Images, Prometheus and Grafana are not tried. Needs what ``make guide`` needs,
and ``consul`` and ``curl``. Prints a line a step and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from tests.guide.machines import Machines, isolated

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
SERVICES = ("consul", "control", "control-2", "edge-sin", "edge-fra", "edge-iad")
CONTROLS = ("control", "control-2")
VIEWER, VIEWER_ADDRESS = "viewer", "172.31.44.50"
SECONDS_MAX = 60.0
LOOK_SECONDS = 0.5
EDGES = 3


class Failed(Exception):
    """A step that did not come true."""


class Compose:
    """The services of the file on machines of their names."""

    def __init__(self, machines: Machines, services: dict[str, dict[str, Any]], certs: Path) -> None:
        self.machines, self._services, self._certs = machines, services, certs
        self.passed = 0

    def up(self, name: str) -> None:
        """Start a service and wait until it is healthy."""
        service = self._services[name]
        command = service["command"]
        words = command if isinstance(command, list) else shlex.split(command)
        program = "consul" if name == "consul" else "farcast"
        home = self.machines.folder / name
        places = {"/var/lib/farcast": home / "state", "/certs": self._certs, "/consul/data": home / "data"}
        line = shlex.join([program, *words])
        for inside, outside in places.items():
            line = line.replace(inside, str(outside))
        self.do(name, f"{line} > {name}.log 2>&1 & echo $! > pid", f"start {name}")
        if "healthcheck" in service:
            check = service["healthcheck"]["test"]
            assert check[0] == "CMD"
            self.until(name, shlex.join(check[1:]), f"{name} is healthy")

    def down(self, name: str) -> None:
        """Stop it as Docker does: SIGTERM, and it ends within its grace period."""
        grace_s = float(self._services[name].get("stop_grace_period", "10s").removesuffix("s"))
        self.do(name, "kill $(cat pid)", f"stop {name}")
        self.until(name, "! kill -0 $(cat pid) 2> /dev/null", f"{name} has ended", grace_s)

    def do(self, machine: str, script: str, what: str) -> str:
        """A script that has to succeed; what it said."""
        done = self.machines.run(machine, script, SECONDS_MAX)
        if done.returncode:
            raise Failed(f"{what}: exit code {done.returncode}:\n{done.stdout}{self._log(machine)}")
        self._pass(what)
        return done.stdout

    def until(self, machine: str, script: str, what: str, seconds_max: float = SECONDS_MAX) -> None:
        """A script that has to succeed some time."""
        deadline = time.monotonic() + seconds_max
        while self.machines.run(machine, script, SECONDS_MAX).returncode:
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {seconds_max:.0f} s\n{self._log(machine)}")
            time.sleep(LOOK_SECONDS)
        self._pass(what)

    def _pass(self, what: str) -> None:
        self.passed += 1
        print(what, file=sys.stderr, flush=True)

    def _log(self, machine: str) -> str:
        file = self.machines.folder / machine / f"{machine}.log"
        return "\n".join(file.read_text().splitlines()[-20:]) if file.exists() else ""


ALL_THERE = (
    f"""farcast status --state-dir state --json | grep -o '"state":"connected"' | wc -l | grep -x {EDGES}"""
)
STANDS_BY = "(farcast status --state-dir state 2>&1 || true) | grep 'stands by; the leader is c[12]'"
SHOWN = f"""curl --silent --fail '172.31.44.9:8500/v1/health/service/farcast-edge?passing=true' \\
  | grep -o '"ServiceName":"farcast-edge"' | wc -l | grep -x {EDGES}"""
ISSUER = f"""
farcast token key shop.jwk > shop.json
farcast token trust shop.json --issuer shop --state-dir state
for action in publish watch; do
  farcast token issue --key shop.jwk --cluster demo --issuer shop --$action live > $action.token
done
scp publish.token watch.token {VIEWER}:"""
MEDIA = "--namespace live/a --insecure --token-file"


def play(compose: Compose) -> None:
    """The whole."""
    for name in SERVICES:
        compose.up(name)
    leader, standby = elected(compose)
    compose.until(leader, ALL_THERE, f"three edges in the plan of {leader}")
    compose.until(standby, STANDS_BY, f"{standby} stands by")
    compose.until(VIEWER, SHOWN, "Consul shows three edges")
    compose.do(leader, ISSUER, "an issuer is trusted")
    publish = f"farcast publish testsrc moqt://172.31.44.11:4433 {MEDIA} publish.token > publish.log 2>&1 &"
    compose.do(VIEWER, publish, "publish in Singapore")
    watch = f"farcast watch moqt://172.31.44.12:4433 {MEDIA} watch.token --seconds 3"
    compose.do(VIEWER, watch, "watch in Frankfurt")
    compose.do(leader, "kill -9 $(cat pid)", "the leader is killed")
    compose.until(standby, ALL_THERE, f"{standby} leads, with all edges")
    for name in reversed(SERVICES):
        if name != leader:
            compose.down(name)


def elected(compose: Compose) -> tuple[str, str]:
    """Who leads, and who stands by: whoever found Consul first."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        for leader, standby in (CONTROLS, CONTROLS[::-1]):
            if compose.machines.run(standby, STANDS_BY, SECONDS_MAX).returncode == 0:
                return leader, standby
        time.sleep(LOOK_SECONDS)
    raise Failed(f"nobody is elected within {SECONDS_MAX:.0f} s")


def inside(programs: Path) -> int:
    """In namespaces of our own."""
    services = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    addresses = {name: services[name]["networks"]["farcast"]["ipv4_address"] for name in SERVICES}
    with tempfile.TemporaryDirectory(prefix="farcast-compose-", ignore_cleanup_errors=True) as folder:
        machines = Machines(Path(folder), {**addresses, VIEWER: VIEWER_ADDRESS}, programs)
        machines.build()
        shutil.copy(COMPOSE / "make-certs.sh", folder)
        certs = Path(folder) / "certs"
        compose = Compose(machines, services, certs)
        try:
            compose.do("control", "sh ../make-certs.sh", "certificates")
            play(compose)
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 1
    print(json.dumps({"steps_passed": compose.passed, "services": len(SERVICES)}, separators=(",", ":")))
    return 0


def main() -> int:
    """Exit code 0 if all came true, 1 if not, 2 if it could not be tried."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", type=Path, default=Path(sys.executable).parent, help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        return inside(arguments.programs)
    for program in ("ip", "unshare", "consul", "curl"):
        if shutil.which(program) is None:
            print(f"{program} is missing", file=sys.stderr)
            return 2
    command = [
        sys.executable,
        "-m",
        "tests.deploy.compose_run",
        "--inside",
        f"--programs={arguments.programs}",
    ]
    return subprocess.run(isolated(command), cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
