"""Tokens on real processes: a network whose control plane knows an issuer, and nobody gets in without it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from commands import end, figures, killed_at_end, start
from edges import FARCAST

SECONDS_MAX = 30
IN_FORCE_SECONDS_MAX = 5.0
"""From the order that revokes, as the audit log dates it, until its sessions have ended at the edge. When the
command's process has started and the viewer's has ended is not the network's doing."""
NAMESPACE = "live/room1"
FILM = "testsrc=size=320x180:gop=1"


def run(*arguments: str | Path) -> str:
    done = subprocess.run(
        [FARCAST, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS_MAX
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def until(condition: Callable[[], object]) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


@dataclass
class Network:
    """One control plane, one edge, one issuer."""

    folder: Path
    url: str
    ops: str
    key: Path
    processes: tuple[subprocess.Popen[str], ...]

    @property
    def control(self) -> tuple[str, ...]:
        return ("--state-dir", str(self.folder / "control"))

    def token(self, *options: str) -> str:
        return run("token", "issue", "--key", self.key, "--cluster", "shows", *options)

    def token_file(self, name: str, *options: str) -> str:
        file = self.folder / name
        file.write_text(self.token(*options))
        return f"@{file}"

    def media(self, verb: str, *options: str, namespace: str = NAMESPACE) -> subprocess.Popen[str]:
        source = (FILM,) if verb == "publish" else ()
        return start(verb, *source, self.url, "--namespace", namespace, "--insecure", *options)

    def trust(self, *options: str) -> None:
        """Trust the issuer's key, or change its bounds, and wait until the edge knows."""
        run("token", "trust", self.folder / "shop.public.json", *options, *self.control)
        until(lambda: self.knows(keys=1))

    def knows(self, keys: int) -> bool:
        status = httpx.get(f"http://{self.ops}/status.json", timeout=20).json()
        return bool(status["agent"]["access"]["keys"] == keys)

    def grants(self) -> int:
        status = httpx.get(f"http://{self.ops}/status.json", timeout=20).json()
        return int(status["agent"]["access"]["grants"])

    def usage(self, key_id: str) -> dict[str, int]:
        status = httpx.get(f"http://{self.ops}/status.json", timeout=20).json()
        usage: dict[str, dict[str, int]] = status["agent"]["access"]["usage"]
        return usage.get(key_id, {})

    def ordered_unix_s(self, action: str) -> float:
        """When the newest such order was given."""
        entries = json.loads(run("audit", "--json", *self.control))["entries"]
        return float(next(entry["at_unix_us"] for entry in entries if entry["action"] == action)) / 1e6

    def told(self) -> str:
        """All that the processes tell over HTTP, and how they were started."""
        state = self.folder / "control"
        api = json.loads((state / "api.json").read_text())["api"]
        headers = {"Authorization": f"Bearer {(state / 'api.token').read_text().strip()}"}
        paths = ("/status", "/nodes", "/links", "/routes", "/plan", "/access", "/metrics", "/nowhere")
        answers = [httpx.get(f"{api}{path}", headers=headers, timeout=20) for path in paths]
        answers += [
            httpx.get(f"http://{self.ops}{path}", timeout=20) for path in ("/metrics", "/status.json")
        ]
        answers.append(httpx.get(f"{api}/status", headers={"Authorization": "Bearer wrong"}, timeout=20))
        started = [" ".join(map(str, process.args)) for process in self.processes]  # type: ignore[arg-type]
        return "".join([*(answer.text for answer in answers), *started])

    def keys(self) -> list[str]:
        """Everything secret but tokens: the API's token, the issuer's key, lines of private keys."""
        held = [(self.folder / "control" / "api.token").read_text().strip()]
        held.append(json.loads(self.key.read_text())["d"])
        for file in self.folder.rglob("*.key"):
            held += [line for line in file.read_text().splitlines() if line and not line.startswith("-----")]
        return held

    def logs(self) -> str:
        return "".join(file.read_text() for file in self.folder.glob("*.log"))


def serving(
    folder: Path, name: str, arguments: tuple[str | Path, ...]
) -> tuple[subprocess.Popen[str], dict[str, str]]:
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [FARCAST, *map(str, arguments), "--ready-json"], stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / f"{name}.log").read_text()
    return process, json.loads(line)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    ca, certs = tmp_path / "ca", tmp_path / "certs"
    run("ca", "init", "--dir", ca, "--cluster", "shows")
    run("ca", "issue", "--dir", ca, "--role", "control", "--name", "c1", "--out", certs)
    run("ca", "issue", "--dir", ca, "--role", "edge", "--region", "sin", "--node-id", "sin-1", "--out", certs)

    def hop(name: str) -> tuple[str | Path, ...]:
        files = (certs / f"{name}.pem", "--hop-key", certs / f"{name}.key", "--hop-ca", certs / "ca.pem")
        return ("--hop-cert", *files)

    state = ("--state-dir", tmp_path / "control", "--api", "127.0.0.1:0")
    control, ready = serving(tmp_path, "control", ("control", "--listen", "127.0.0.1:0", *state, *hop("c1")))
    with killed_at_end(control):
        listening = ("--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dev-cert")
        joining = ("--control", ready["listen"], "--state-dir", tmp_path / "edge")
        edge, served = serving(tmp_path, "edge", ("edge", *listening, *joining, *hop("sin-1")))
        with killed_at_end(edge):
            key = tmp_path / "shop.jwk"
            (tmp_path / "shop.public.json").write_text(run("token", "key", key, "--key-id", "shop-1"))
            yield Network(tmp_path, f"moqt://{served['listen']}", served["ops"], key, (control, edge))
            edge.terminate()
            edge.wait(SECONDS_MAX)
        control.terminate()
        control.wait(SECONDS_MAX)


def test_only_tokens_of_a_trusted_issuer_let_in_until_they_are_revoked(network: Network) -> None:
    publish, watch = (
        network.token_file("p", "--publish", NAMESPACE),
        network.token_file("w", "--watch", NAMESPACE),
    )
    early = end(network.media("publish", "--token", publish))
    assert early.code == 1
    assert "signed with a key that is not trusted here" in early.err

    run("token", "trust", network.folder / "shop.public.json", *network.control)
    until(lambda: network.knows(keys=1))
    publisher = network.media("publish", "--token", publish)
    with killed_at_end(publisher):
        watched = figures(network.media("watch", "--token", watch, "--seconds", "2", "--json"))
        assert watched["frames"] > 30
        refused = end(network.media("watch", "--timeout", "5"))
        assert refused.code == 1
        assert refused.complaints[0].endswith(" refused: this needs a token")
        wrong = end(network.media("watch", "--token", publish, "--timeout", "5"))
        assert wrong.code == 1
        assert wrong.complaints[0].endswith(" refused: no token allows this")

        watcher = network.media("watch", "--token", watch, "--json")
        with killed_at_end(watcher):
            until(lambda: network.usage("shop-1").get("viewers") == 1)
            run("token", "revoke", "--key-id", "shop-1", *network.control)
            until(lambda: not network.usage("shop-1").get("viewers"))
            until(lambda: not network.usage("shop-1").get("publishers"))
            ended_unix_s = time.time()
            assert ended_unix_s - network.ordered_unix_s("access") < IN_FORCE_SECONDS_MAX
            outcome = end(watcher)
            assert "refused: token refused" in outcome.err
        assert end(publisher).code == 1
    telling = network.told()
    secrets = [(network.folder / name).read_text().strip() for name in ("p", "w")]
    secrets += network.keys()
    logged = network.logs() + telling + refused.err + wrong.err + early.err + outcome.err
    for secret in secrets:
        assert secret not in logged
        assert secret.rsplit(".", 1)[-1] not in logged
    assert json.loads(run("token", "keys", "--json", *network.control))["revoked_keys"] == ["shop-1"]


def test_a_key_trusted_for_one_viewer_gets_one_and_its_bounds_can_be_changed(network: Network) -> None:
    publish, watch = (
        network.token_file("p", "--publish", NAMESPACE),
        network.token_file("w", "--watch", NAMESPACE),
    )
    public = network.folder / "shop.public.json"
    run("token", "trust", public, "--max-viewers", "1", "--max-mbps", "100", *network.control)
    until(lambda: network.knows(keys=1))
    (kept,) = json.loads(run("token", "keys", "--json", *network.control))["keys"]
    assert kept["quotas"]["viewers_max"] == 1
    assert kept["quotas"]["egress_bps_max"] == 100_000_000
    publisher = network.media("publish", "--token", publish)
    with killed_at_end(publisher):
        watcher = network.media("watch", "--token", watch, "--json")
        with killed_at_end(watcher):
            until(lambda: network.usage("shop-1").get("viewers") == 1)
            late = end(network.media("watch", "--token", watch, "--timeout", "3"))
            assert late.code == 1
            assert "key shop-1 has used up its quota of 1 viewers" in late.err
            run("token", "trust", public, "--max-viewers", "2", *network.control)
            until(lambda: figures(network.media("watch", "--token", watch, "--seconds", "1", "--json")))
            assert network.usage("shop-1")["bytes_out"] > 0


def test_a_key_that_is_rotated_in_mid_session_ends_who_has_not_taken_a_token_of_the_next_one(
    network: Network,
) -> None:
    network.trust()
    publish = network.token_file("p", "--publish", NAMESPACE)
    fresh, stale = (network.token_file(name, "--watch", NAMESPACE) for name in ("w1", "w2"))
    publisher = network.media("publish", "--token", publish)
    kept, left = (network.media("watch", "--token", file, "--json") for file in (fresh, stale))
    with killed_at_end(publisher), killed_at_end(kept), killed_at_end(left):
        until(lambda: network.usage("shop-1").get("viewers") == 2)
        network.key = network.folder / "next.jwk"
        public = network.folder / "next.public.json"
        public.write_text(run("token", "key", network.key, "--key-id", "shop-2"))
        run("token", "trust", public, *network.control)
        until(lambda: network.knows(keys=2))
        network.token_file("p", "--publish", NAMESPACE)
        network.token_file("w1", "--watch", NAMESPACE)
        until(lambda: network.grants() == 5)
        run("token", "revoke", "--key-id", "shop-1", *network.control)
        until(lambda: network.grants() == 2)
        assert time.time() - network.ordered_unix_s("access") < IN_FORCE_SECONDS_MAX
        assert "refused: token refused" in end(left).err
        sent = network.usage("shop-1")["bytes_out"]
        until(lambda: network.usage("shop-1")["bytes_out"] > sent + 100_000)
        assert kept.poll() is None
        assert publisher.poll() is None


def complaint(process: subprocess.Popen[str]) -> str:
    """What a publisher says first of its key, for which it waits to have room; it is ended then."""
    assert process.stderr is not None
    line = next(line for line in iter(process.stderr.readline, "") if "key shop-1" in line)
    process.kill()
    process.wait(SECONDS_MAX)
    return line


def test_a_key_trusted_for_one_publisher_or_one_namespace_gets_no_second_one(network: Network) -> None:
    token = network.token_file("p", "--publish", "live")
    network.trust("--max-publishers", "1")
    first = network.media("publish", "--token", token)
    with killed_at_end(first):
        until(lambda: network.usage("shop-1").get("publishers") == 1)
        second = network.media("publish", "--token", token, namespace="live/room2")
        with killed_at_end(second):
            assert "key shop-1 has used up its quota of 1 publishers" in complaint(second)
        network.trust("--max-publishers", "2", "--max-namespaces", "1")
        second = network.media("publish", "--token", token, namespace="live/room2")
        with killed_at_end(second):
            assert "key shop-1 has used up its quota of 1 namespaces" in complaint(second)
        assert network.usage("shop-1")["publishers"] == 1
        assert first.poll() is None


def test_a_key_that_publishes_more_than_its_bits_a_second_loses_its_publisher(network: Network) -> None:
    token = network.token_file("p", "--publish", NAMESPACE)
    network.trust("--max-mbps", "0.05")
    publisher = network.media("publish", "--token", token)
    with killed_at_end(publisher):
        assert "connection lost: key shop-1 sends more bit/s than its quota" in complaint(publisher)
