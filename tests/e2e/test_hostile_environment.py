"""A machine that is against us: full and read-only disks, taken ports, certificates that end, state put back.

    what                        what is said, once                            exit code   media
    disk of the edge is full    error "plan cannot be kept; ..."              -           untouched (its
                                words: tests/edge/test_membership.py)
    disk of its log is full     "log lines were lost", later                  0           untouched
    disk of a command is full   "the output: cannot be written: No space ..." 1           -
    state directory read-only   "... cannot be used: ...; choose another"     1           -
    a port is taken             "cannot listen on ...; choose another with"   1           -
    hop certificate ends        warning "ends soon", error "has ended"        -           untouched
    that of the control plane   the same                                      -           untouched
    old state is put back       "... --epoch-min N" at the control plane      -           untouched

A full disk is made by RLIMIT_FSIZE and by /dev/full, a read-only one by sysfs where nobody, root included,
can make a file: chmod stops no root. A clock an hour off: `tests/edge/test_membership.py` and
`test_hostile_tokens`; damaged files: `test_damaged_state`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Outcome, end, figures, killed_at_end, start
from edges import FARCAST
from hostile_certificates import at, control_at

from farcast.certificates import Authority, Identity, load_authority, make_authority
from farcast.proto.control import events as e

from .test_control import THREE, Cluster, Edge, cluster, play
from .test_joining import FILM, Network, network, until

__all__ = ["cluster", "network"]

SECONDS_MAX = 30
MEDIA = ("--namespace", "live/room1", "--insecure", "--no-edge-list")


def events(file: Path, *levels: str) -> list[dict[str, Any]]:
    """Of a log, those of the levels."""
    found = [json.loads(line) for line in file.read_text().splitlines() if line.startswith("{")]
    return [line for line in found if line["level"] in levels]


def one_line(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.complaints) == 1, outcome.err
    for word in words:
        assert word in outcome.complaints[0]


@contextmanager
def film(url: str, seconds: str) -> Iterator[subprocess.Popen[str]]:
    """A film is published and watched; the watcher is given."""
    publisher = start("publish", FILM, url, *MEDIA)
    with killed_at_end(publisher):
        watcher = start("watch", url, *MEDIA, "--seconds", seconds, "--json")
        with killed_at_end(watcher):
            yield watcher


def untouched(watched: dict[str, Any], frames: int) -> None:
    assert watched["frames"] > frames
    assert (watched["missing"], watched["gaps"]) == (0, 0)


# ---- Disks ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_under_an_edge_is_one_line_and_its_film_goes_on(network: Network) -> None:
    network.control()
    edge = network.edge("sin", "--join", network.token())
    until(lambda: edge.control()["plan_version"])
    url = f"moqt://{edge.ready['listen']}"
    with film(url, "5") as watcher:
        until(lambda: httpx.get(f"http://{edge.ready['ops']}/status.json").json()["datapath"]["tracks"])
        log = network.folder / "sin.log"
        size = max(log.stat().st_size, 4_096) + 200_000
        _, hard = resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE, (0, hard))
        before = edge.control()["plan_version"]
        other = network.edge("fra", "--join", network.token(region="fra"))
        until(lambda: edge.control()["plan_version"] != before)
        assert network.nodes() == ["fra-1", "sin-1"]
        resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE, (size, hard))
        newer = edge.control()["plan_version"]
        network.done("drain", "fra-1")
        until(lambda: edge.control()["plan_version"] != newer)
        untouched(figures(watcher), 60)
    other.stop()
    until(lambda: "log lines were lost" in log.read_text())
    assert not events(log, "error"), "the log lies on the same full disk: its lines are lost, and counted"
    plan = network.folder / "sin" / "plan"
    until(lambda: plan.stat().st_mtime > time.time() - 20)
    assert not plan.with_name("plan.new").exists()


def test_a_log_on_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    listen = ("--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dev-cert", "--auth", "open")
    with Path("/dev/full").open("w") as full:
        edge = subprocess.Popen(
            [FARCAST, "edge", *listen, "--ready-json", "--log-level", "debug"],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
        )
    assert edge.stdout is not None
    ready = json.loads(edge.stdout.readline())
    with killed_at_end(edge):
        with film(f"moqt://{ready['listen']}", "1") as watcher:
            untouched(figures(watcher), 10)
        edge.send_signal(signal.SIGTERM)
        assert edge.wait(SECONDS_MAX) == 0


@pytest.mark.parametrize("command", [("version",), ("sim", "list", "--json")], ids=" ".join)
def test_output_on_a_full_disk_is_one_line(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run([FARCAST, *command], stdout=full, stderr=subprocess.PIPE, text=True)
    one_line(Outcome(process.returncode, "", process.stderr), 1, "No space left on device", "make room")


def test_a_recording_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    listen = ("--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dev-cert", "--auth", "open")
    edge = start("edge", *listen, "--ready-json")
    with killed_at_end(edge):
        assert edge.stdout is not None
        url = f"moqt://{json.loads(edge.stdout.readline())['listen']}"
        with killed_at_end(publisher := start("publish", FILM, url, *MEDIA)):
            watcher = start("watch", url, *MEDIA, "--seconds", "4", "--out", str(tmp_path / "film.mp4"))
            _, hard = resource.prlimit(watcher.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(watcher.pid, resource.RLIMIT_FSIZE, (2_000, hard))
            outcome = end(watcher)
            one_line(outcome, 1, "cannot write", "film.mp4")
            assert publisher.poll() is None
        edge.terminate()
        edge.wait(SECONDS_MAX)


def read_only_folder(tmp_path: Path) -> Path:
    """A folder in which this user can make no file; by mode where that binds us, else in sysfs."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    if os.geteuid() == 0:
        folder = Path("/sys/kernel")
    with pytest.raises(OSError, match=r"."):
        (folder / "probe").touch()
    return folder


def test_a_read_only_state_directory_is_one_line_with_the_flag_that_chooses_another(
    network: Network, tmp_path: Path
) -> None:
    folder = read_only_folder(tmp_path)
    identity = make_authority("shows", datetime.now(UTC)).issue("sin", "sin-1")
    _write(tmp_path, "sin-1", identity)
    network.control()
    files = [f"--hop-cert={tmp_path / 'sin-1.pem'}", f"--hop-key={tmp_path / 'sin-1.key'}"]
    listen = ("--listen=127.0.0.1:0", "--ops=127.0.0.1:0", "--dev-cert", "--auth=open")
    ca = f"--hop-ca={network.folder / 'ca' / 'ca.pem'}"
    control = [f"--hop-cert={network.folder / 'c1.pem'}", f"--hop-key={network.folder / 'c1.key'}", ca]
    state = f"--state-dir={folder}"
    wrong = [
        ("edge", *listen, *files, ca, "--control=127.0.0.1:9", state),
        ("edge", *listen, "--join", network.token(), state),
        ("control", "--listen=127.0.0.1:0", "--api=127.0.0.1:0", *control, state),
        ("control", "--listen=127.0.0.1:0", "--api=127.0.0.1:0", *control, "--state-dir=/proc/1/x/y"),
    ]
    running = [start(*arguments) for arguments in wrong]
    with killed_at_end(*running):
        for process, place in zip(running, [*[str(folder)] * 3, "/proc/1/x"], strict=True):
            one_line(end(process), 1, place, "--state-dir")


# ---- Ports ------------------------------------------------------------------------------------------


def test_each_port_of_a_control_plane_that_is_taken_is_one_line_with_its_flag(network: Network) -> None:
    control = [f"--hop-{kind}={network.folder / name}" for kind, name in
               (("cert", "c1.pem"), ("key", "c1.key"), ("ca", "ca/ca.pem"))]  # fmt: skip
    with _taken(socket.SOCK_DGRAM) as udp, _taken(socket.SOCK_STREAM) as tcp:
        cases = [
            (("--listen", udp, "--api=127.0.0.1:0"), f"UDP {udp}", "--listen"),
            (("--listen=127.0.0.1:0", "--api", tcp), tcp, "--api"),
            (("--listen", tcp, "--api=127.0.0.1:0", f"--ca-dir={network.folder / 'ca'}"), tcp, "--listen"),
        ]
        running = [
            start("control", *listen, *control, f"--state-dir={network.folder / f's{number}'}")
            for number, (listen, _, _) in enumerate(cases)
        ]
        with killed_at_end(*running):
            for process, (_, address, flag) in zip(running, cases, strict=True):
                one_line(end(process), 1, address, flag, "in use")


@contextmanager
def _taken(kind: socket.SocketKind) -> Iterator[str]:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        yield f"127.0.0.1:{taken.getsockname()[1]}"


# ---- Certificates -----------------------------------------------------------------------------------


def _write(folder: Path, name: str, identity: Identity) -> list[str]:
    (folder / f"{name}.pem").write_bytes(identity.chain_pem())
    (folder / f"{name}.key").write_bytes(identity.key_pem())
    return [f"--hop-cert={folder / name}.pem", f"--hop-key={folder / name}.key"]


@pytest.mark.slow
def test_a_hop_certificate_that_ends_in_mid_session_is_told_and_the_film_goes_on(network: Network) -> None:
    control = network.control(issues=False)
    authority = load_authority(
        network.folder / "ca" / "ca.pem", network.folder / "ca" / "ca.key", datetime.now(UTC)
    )
    ready: dict[str, dict[str, Any]] = {}
    for region in ("sin", "fra"):
        hop = at(authority, datetime.now(UTC), region, f"{region}-1", timedelta(seconds=14))
        files = _write(network.folder, f"{region}-1", hop)
        more = [*files, f"--hop-ca={network.folder / 'ca' / 'ca.pem'}", f"--control={control['listen']}"]
        ready[region] = network.serve(region, *network.edge_arguments(region, *more))[1]
    until(lambda: network.nodes() == ["fra-1", "sin-1"])
    publisher = start("publish", FILM, f"moqt://{ready['sin']['listen']}", *MEDIA)
    with killed_at_end(publisher):
        watcher = start("watch", f"moqt://{ready['fra']['listen']}", *MEDIA, "--seconds", "16", "--json")
        with killed_at_end(watcher):
            untouched(figures(watcher, 60), 350)
    for region in ("sin", "fra"):
        told = [line for line in events(network.folder / f"{region}.log", "warning", "error")
                if "certificate" in line["event"] and "development" not in line["event"]]  # fmt: skip
        assert [(line["level"], line["event"]) for line in told] == [
            (
                "warning",
                "hop certificate ends soon: farcast ca renew, then SIGHUP (systemd unit: restart)",
            ),
            (
                "error",
                "hop certificate has ended: farcast ca renew, then SIGHUP (systemd unit: restart)",
            ),
        ]


@pytest.mark.slow
def test_a_control_plane_whose_certificate_ends_tells_it_and_keeps_its_edges(network: Network) -> None:
    authority = load_authority(
        network.folder / "ca" / "ca.pem", network.folder / "ca" / "ca.key", datetime.now(UTC)
    )
    ends = control_at(authority, "c1", timedelta(seconds=12))
    (network.folder / "c1.pem").write_bytes(ends.chain_pem())
    (network.folder / "c1.key").write_bytes(ends.key_pem())
    control = network.control()
    edge = network.edge("sin", "--join", network.token())

    def told() -> list[tuple[str, str]]:
        lines = events(network.folder / "control.log", "warning", "error")
        return [(line["level"], line["event"]) for line in lines if "certificate" in line["event"]]

    with film(f"moqt://{edge.ready['listen']}", "16") as watcher:
        advice = "farcast ca renew, then restart the control plane; edges go on meanwhile"
        expected = [
            ("warning", f"control certificate ends soon: {advice}"),
            ("error", f"control certificate has ended: {advice}"),
        ]
        until(lambda: told() == expected)
        untouched(figures(watcher, 60), 350)
    assert edge.control()["connected"], "what stands goes on"
    late = network.edge("late", *at_control(network, authority, control["listen"]))
    until(lambda: late.control()["last_failure"])
    said = "the control plane's certificate is no longer valid, by the clock of this machine"
    assert said in late.control()["last_failure"]
    assert not late.control()["connected"]


def at_control(network: Network, authority: Authority, address: str) -> list[str]:
    """Options of one more edge, which has its certificate already."""
    files = _write(network.folder, "late-1", authority.issue("fra", "late-1"))
    return [*files, f"--hop-ca={network.folder / 'ca' / 'ca.pem'}", f"--control={address}"]


# ---- Backup -----------------------------------------------------------------------------------------


def test_a_copy_of_the_state_directory_is_put_back_and_what_is_older_than_the_edges_is_told(
    cluster: Cluster,
) -> None:
    """The steps of docs/guide.md, section 9: stop, copy, start; and the copy in place of what was lost."""
    cluster.start()
    public = cluster.directory / "shop.json"
    public.write_text(end(start("token", "key", str(cluster.directory / "k.jwk"), "--key-id", "shop-1")).out)
    assert cluster.ask("token", "trust", str(public), "--max-viewers", "9").returncode == 0
    cluster.stop()
    copy = cluster.directory / "copy"
    shutil.copytree(cluster.state_dir, copy)

    assert cluster.start()["epoch"] == 2
    cluster.stop()
    assert cluster.start()["epoch"] == 3
    edges = [Edge(cluster, node_id, THREE) for node_id in ("fra-1", "sin-1")]

    async def follow() -> None:
        for edge in edges:
            await edge.until(lambda edge: edge.store.plan is not None)

    play(edges, follow)
    assert {edge.store.plan.version.epoch.number for edge in edges if edge.store.plan} == {3}
    cluster.stop(signal.SIGKILL)
    shutil.rmtree(cluster.state_dir)
    shutil.copytree(copy, cluster.state_dir)

    ready = cluster.start()
    assert ready["epoch"] == 2
    again = Edge(cluster, "fra-1", THREE)
    again.link.channel.set_holds(edges[0].store.version)

    async def refused() -> None:
        await again.until(lambda edge: bool(edge.heard(e.Refused)))

    play([again], refused)
    assert "--epoch-min 4" in again.heard(e.Refused)[0].reason
    assert "--epoch-min 4" in cluster.stop().err, "the operator reads the way out in the log"

    assert cluster.start("--epoch-min=4")["epoch"] == 4
    back = Edge(cluster, "fra-1", THREE)
    back.link.channel.set_holds(edges[0].store.version)

    async def joins() -> None:
        await back.until(lambda edge: edge.link.joined)

    play([back], joins)
    (key,) = json.loads(cluster.ask("token", "keys", "--json").stdout)["keys"]
    assert (key["key_id"], key["quotas"]["viewers_max"]) == ("shop-1", 9)


def test_the_state_directory_of_an_edge_is_the_edge_wherever_it_is_put(network: Network) -> None:
    network.control()
    edge = network.edge("sin", "--join", network.token())
    until(lambda: edge.control()["plan_version"])
    edge.stop()
    shutil.copytree(network.folder / "sin", network.folder / "elsewhere")
    shutil.rmtree(network.folder / "sin")
    back = network.edge("elsewhere")
    until(lambda: back.control()["connected"])
    assert network.nodes() == ["sin-1"]
    assert back.control()["plan_from_disk"] or back.control()["plan_version"]
