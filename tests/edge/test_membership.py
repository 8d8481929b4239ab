"""An edge in a network: real edge, real sockets, a control plane's end that does what a test says."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import trio
from tests.edge.control_server import EPOCH, Changes, ControlServer, make_authority

from farcast.certificates import make_dev_identity
from farcast.edge.config import ControlConfig, load_config
from farcast.edge.credentials import Credentials, HopIdentity
from farcast.edge.node import EdgeNode, open_edge
from farcast.edge.plan_file import PlanFile
from farcast.errors import UserError
from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.edge_plan import PLAN_FILE_BYTES_MAX, BadPlanFile, PlanStore

FREE = "127.0.0.1:0"
SECONDS_MAX = 20
NOBODY = "127.0.0.1:9"
NODES = (
    m.NodeInfo(node_id="sin-1", region="sin", address="127.0.0.1:1"),
    m.NodeInfo(
        node_id="fra-1", region="fra", address="127.0.0.1:9", public_url="https://fra.example/", probe=False
    ),
)


def plan(sequence: int, **changes: Any) -> m.PlanDelta:
    fields: dict[str, Any] = {
        "version": m.PlanVersion(epoch=EPOCH, sequence=sequence),
        "nodes": NODES,
        "routes": (m.RouteEntry(origin="fra-1", upstreams=("fra-1",)),),
        "directory": (m.DirectoryEntry(namespace=(b"live", b"a"), origin="fra-1"),),
        "issued_unix_us": 1_000_000,
    }
    return m.PlanDelta(**{**fields, **changes})


class Net:
    """An edge and perhaps a control plane; what the edge logged."""

    def __init__(self, folder: Path, *, server: bool = True, advertise: str = "") -> None:
        self.advertise = advertise
        self.authority = make_authority()
        self.changes = Changes()
        self.server = ControlServer(self.authority, self.changes) if server else None
        self.folder = folder
        self.log: list[dict[str, Any]] = []
        self.node: EdgeNode

    async def open(self) -> EdgeNode:
        identity = self.authority.issue("sin", "sin-1")
        hop = HopIdentity(identity, (self.authority.certificate,))
        credentials = Credentials(make_dev_identity(datetime.now(UTC)), hop, "sin-1", "sin")
        config = load_config(
            flags={"dev_cert": True, "auth.mode": "open", "listen": FREE, "ops": FREE, "drain_ms_max": 500}
        )
        address = self.server.address if self.server is not None else NOBODY
        control = ControlConfig(
            addresses=(address,),
            advertise=self.advertise,
            state_dir=self.folder,
            public_url="https://sin.example/",
        )
        self.node = await open_edge(replace(config, control=control), credentials)
        return self.node

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """The edge serves for the length of the scenario."""

        async def serve() -> None:
            node = await self.open()
            node.driver.on_progress(self.changes.note)
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run)
                await scenario()
                node.stop()

        async def main() -> None:
            with trio.fail_after(SECONDS_MAX):
                if self.server is None:
                    await serve()
                else:
                    await self.server.while_running(serve)

        with self.logged():
            trio.run(main)

    @contextlib.contextmanager
    def logged(self) -> Iterator[None]:
        def keep(_: Any, level: str, line: Any) -> Any:
            self.log.append({"level": level, **line})
            raise structlog.DropEvent

        before = structlog.get_config()
        structlog.configure(processors=[keep], cache_logger_on_first_use=False)
        try:
            yield
        finally:
            structlog.configure(**before)

    def lines(self, *levels: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["level"] in levels]

    def heard(self, kind: type) -> list[Any]:
        assert self.server is not None
        return [event for event in self.server.engine.events if isinstance(event, kind)]

    async def joined(self) -> None:
        await self.changes.until(lambda: self.heard(e.ReportReceived))

    async def push(self, *deltas: m.PlanDelta) -> None:
        """Push plans and wait for the answers."""
        assert self.server is not None
        for delta in deltas:
            before = len(self.heard(e.PlanAcked)) + len(self.heard(e.PlanNacked))
            self.server.push(delta)
            await self.changes.until(
                lambda: len(self.heard(e.PlanAcked)) + len(self.heard(e.PlanNacked)) > before  # noqa: B023
            )

    def in_force(self) -> str | None:
        plan = self.node.driver.engine.plan
        return None if plan is None else str(plan.version)


async def written(net: Net, sequence: int) -> None:
    """Wait until the disk has this plan."""
    while True:
        data = PlanFile(net.folder).read()
        with contextlib.suppress(BadPlanFile):
            if data is not None and PlanStore("sin-1").load(data).version.sequence == sequence:
                return
        await trio.sleep(0.01)


def test_a_full_disk_under_plans_is_one_line_however_many_come_and_one_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net(tmp_path)
    write, refused, is_full = PlanFile.write, [0], [True]

    def refuse(self: PlanFile, data: bytes) -> None:
        if self.path == PlanFile(tmp_path).path and is_full[0]:
            refused[0] += 1
            trio.from_thread.run_sync(net.changes.note)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    monkeypatch.setattr(PlanFile, "write", refuse)

    def told(text: str) -> list[dict[str, Any]]:
        return [line for line in net.log if text in line["event"]]

    async def scenario() -> None:
        await net.joined()
        for sequence in (1, 2, 3):
            before = refused[0]
            base = {"base": plan(sequence - 1).version} if sequence > 1 else {}
            await net.push(plan(sequence, **base))
            await net.changes.until(lambda: refused[0] > before)  # noqa: B023
        is_full[0] = False
        await net.push(plan(4, base=plan(3).version))
        await net.changes.until(lambda: told("plan is kept again"))

    net.run(scenario)
    assert refused[0] >= 3
    (line,) = told("plan cannot be kept")
    assert (line["level"], line["reason"]) == ("error", "No space left on device")
    assert line["file"] == str(PlanFile(tmp_path).path)


def test_an_edge_says_who_it_is_and_begins_with_a_full_report(tmp_path: Path) -> None:
    net = Net(tmp_path)

    async def scenario() -> None:
        await net.joined()
        (hello,) = net.heard(e.HelloReceived)
        assert (hello.hello.node_id, hello.hello.region) == ("sin-1", "sin")
        assert hello.hello.advertise == str(net.node.listen)
        assert hello.hello.public_url == "https://sin.example/"
        assert hello.hello.holds is None
        report = net.heard(e.ReportReceived)[0].report
        assert report.full
        assert report.load is not None
        await net.changes.until(lambda: len(net.heard(e.ReportReceived)) >= 3)

    net.run(scenario)


def test_a_name_to_advertise_is_resolved_before_anything_is_bound(tmp_path: Path) -> None:
    net = Net(tmp_path, advertise="localhost:4433")

    async def scenario() -> None:
        await net.joined()
        assert net.heard(e.HelloReceived)[0].hello.advertise in ("127.0.0.1:4433", "[::1]:4433")

    net.run(scenario)
    nowhere = Net(tmp_path, server=False, advertise="nowhere.invalid:4433")
    with pytest.raises(
        UserError, match=r"--advertise nowhere\.invalid:4433: the name has no address"
    ) as caught:
        trio.run(nowhere.open)
    assert caught.value.exit_code == 2


def test_a_plan_is_acknowledged_when_it_is_in_force_and_is_then_kept(tmp_path: Path) -> None:
    net = Net(tmp_path)

    async def scenario() -> None:
        await net.joined()
        await net.push(plan(1), plan(2, base=plan(1).version, nodes=(), routes=(), directory=()))
        assert [acked.version.sequence for acked in net.heard(e.PlanAcked)] == [1, 2]
        assert net.in_force() == "dev/1.2"
        await written(net, 2)
        async with httpx.AsyncClient() as client:
            status = (await client.get(f"http://{net.node.ops}/status.json")).json()
            assert status["control"]["connected"]
            assert status["control"]["plan_version"] == "dev/1.2"
            assert status["control"]["plan_age_seconds"] > 0
            assert status["agent"]["plan"]["routes"] == {"fra-1": {"upstreams": ["fra-1"], "path": []}}
            metrics = (await client.get(f"http://{net.node.ops}/metrics")).text
            assert "farcast_control_connected 1.0" in metrics
            assert "farcast_plan_sequence 2.0" in metrics
            assert 'farcast_plans_total{outcome="applied"} 2.0' in metrics

    net.run(scenario)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (plan(1), "plan dev/1.1 is older than dev/1.2, which is in force"),
        (plan(2), "plan dev/1.2 is in force already"),
        (
            plan(3, nodes=(), routes=(), directory=()),
            "plan dev/1.3 refused: it is empty, and the one in force has",
        ),
        (plan(3, routes=()), "plan dev/1.3 refused: it takes away all 1 routes"),
        (
            plan(3, version=m.PlanVersion(epoch=m.Epoch(cluster="x", number=9), sequence=9)),
            "is of another cluster",
        ),
        (
            plan(3, routes=(m.RouteEntry(origin="lax-1", upstreams=("lax-1",)),)),
            "which the plan does not know",
        ),
        (
            plan(3, routes=(m.RouteEntry(origin="fra-1", upstreams=("sin-1",)),)),
            "is a circle: this edge is its own",
        ),
        (plan(9, base=plan(8).version), "plan dev/1.9 changes plan dev/1.8, and dev/1.2 is in force"),
    ],
    ids=["older", "doubled", "empty", "no routes", "foreign", "unknown node", "circle", "other base"],
)
def test_a_bad_plan_is_refused_with_one_line_and_the_old_one_stays(
    tmp_path: Path, bad: m.PlanDelta, reason: str
) -> None:
    net = Net(tmp_path)

    async def scenario() -> None:
        await net.joined()
        await net.push(plan(1), plan(2), bad)
        (nacked,) = net.heard(e.PlanNacked)
        assert reason in nacked.reason
        assert nacked.holds == plan(2).version
        assert net.in_force() == "dev/1.2"

    net.run(scenario)
    (line,) = [line for line in net.lines("warning", "error") if line["event"].startswith("plan")]
    assert line["event"] == "plan refused, the old one stays"
    assert reason in line["reason"]
    assert net.node.membership is not None
    assert net.node.membership.plans_refused == 1


def keep_plan(folder: Path, sequence: int = 7) -> Path:
    store = PlanStore("sin-1")
    store.consider(plan(sequence))
    PlanFile(folder).write(store.dump())
    return folder / "plan"


def test_an_edge_starts_from_the_plan_on_disk_without_a_control_plane(tmp_path: Path) -> None:
    keep_plan(tmp_path)
    net = Net(tmp_path, server=False)

    async def scenario() -> None:
        assert net.in_force() == "dev/1.7"
        assert net.node.ready
        async with httpx.AsyncClient() as client:
            status = (await client.get(f"http://{net.node.ops}/status.json")).json()
        assert (status["control"]["connected"], status["control"]["plan_from_disk"]) == (False, True)

    net.run(scenario)
    (line,) = [line for line in net.log if line["event"] == "plan taken from disk"]
    assert line["plan"] == "dev/1.7"


def test_an_edge_that_comes_back_says_which_plan_it_holds(tmp_path: Path) -> None:
    keep_plan(tmp_path)
    net = Net(tmp_path)

    async def scenario() -> None:
        await net.joined()
        assert net.heard(e.HelloReceived)[0].hello.holds == plan(7).version

    net.run(scenario)


def test_the_first_start_without_any_plan_serves_and_says_so_once(tmp_path: Path) -> None:
    net = Net(tmp_path, server=False)

    async def scenario() -> None:
        assert net.node.ready
        assert net.in_force() is None

    net.run(scenario)
    (line,) = [line for line in net.lines("warning", "error") if "plan" in line["event"].split()]
    assert line["event"] == "no plan yet"


@pytest.mark.parametrize(
    "damage", ["cut off", "a bit", "nonsense", "empty", "too large", "of another edge", "a folder"]
)
def test_a_damaged_plan_file_is_one_line_and_the_edge_serves(tmp_path: Path, damage: str) -> None:
    file = keep_plan(tmp_path)
    data = file.read_bytes()
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage == "too large":
        file.write_bytes(bytes(PLAN_FILE_BYTES_MAX + 1))
    elif damage == "of another edge":
        store = PlanStore("fra-1")
        store.consider(m.PlanDelta(version=plan(7).version, nodes=NODES))
        file.write_bytes(store.dump())
    else:
        flipped = bytes([*data[:-9], data[-9] ^ 4, *data[-8:]])
        file.write_bytes({"cut off": data[:-1], "a bit": flipped, "nonsense": b"[x]", "empty": b""}[damage])
    net = Net(tmp_path, server=False)

    async def scenario() -> None:
        assert net.node.ready
        assert net.in_force() is None

    net.run(scenario)
    (line,) = net.lines("error")
    assert line["event"] in ("plan file refused", "plan file cannot be read")
    assert line["reason"]
    assert net.node.membership is not None
    assert net.node.membership.plan_files_refused == (damage != "a folder")


def test_a_plan_replaces_a_damaged_file(tmp_path: Path) -> None:
    keep_plan(tmp_path).write_bytes(b"nonsense")
    net = Net(tmp_path)

    async def scenario() -> None:
        await net.joined()
        await net.push(plan(8))
        await written(net, 8)

    net.run(scenario)


def test_a_plan_that_cannot_be_kept_is_followed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: PlanFile, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PlanFile, "write", full)
    net = Net(tmp_path)

    async def scenario() -> None:
        await net.joined()
        await net.push(plan(1))
        assert net.in_force() == "dev/1.1"
        while not net.lines("error"):
            await trio.sleep(0.01)

    net.run(scenario)
    (line,) = net.lines("error")
    assert line["reason"] == "No space left on device"


def test_an_order_to_drain_is_reported_at_once_and_ends_the_edge(tmp_path: Path) -> None:
    net = Net(tmp_path)

    async def scenario() -> None:
        assert net.server is not None
        await net.joined()
        net.server.driver.call(lambda engine, now_us: engine.order_drain(300))
        await net.changes.until(lambda: any(r.report.draining for r in net.heard(e.ReportReceived)))
        assert not net.node.ready

    net.run(scenario)


def test_viewers_of_an_edge_that_drains_are_sent_to_the_nearest_other_one(tmp_path: Path) -> None:
    net = Net(tmp_path)

    async def scenario() -> None:
        await net.joined()
        await net.push(plan(1))
        assert net.node.membership is not None
        assert net.node.membership.next_url() == "https://fra.example/"
        draining = (NODES[0], replace_node(NODES[1], draining=True))
        await net.push(plan(2, nodes=draining))
        assert net.node.membership.next_url() == ""

    net.run(scenario)


def replace_node(node: m.NodeInfo, **changes: Any) -> m.NodeInfo:
    import msgspec

    return msgspec.structs.replace(node, **changes)


def test_a_fault_in_what_talks_to_the_control_plane_does_not_end_the_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farcast.edge.membership.RESTART_SECONDS", 0.01)
    net = Net(tmp_path)

    async def scenario() -> None:
        membership = net.node.membership
        assert membership is not None
        await net.joined()
        with monkeypatch.context() as broken:
            broken.setattr(membership, "_make_report", lambda snapshot: 1 // 0)
            while not membership.restarts:
                await trio.sleep(0.01)
        assert net.node.ready
        before = len(net.heard(e.ReportReceived))
        await net.changes.until(lambda: len(net.heard(e.ReportReceived)) > before)

    net.run(scenario)


@pytest.mark.parametrize("ahead_s", [-3_600, 3_600])
def test_a_clock_an_hour_off_is_one_line_that_says_what_to_do(tmp_path: Path, ahead_s: int) -> None:
    net = Net(tmp_path)
    assert net.server is not None
    net.server.engine.unix_us = time.time_ns() // 1_000 - ahead_s * 1_000_000

    async def scenario() -> None:
        await net.joined()
        assert net.node.ready
        text = (await net.node.metrics()).decode()
        (line,) = [each for each in text.splitlines() if each.startswith("farcast_clock_offset_seconds ")]
        assert float(line.split()[1]) == pytest.approx(ahead_s, abs=30)

    net.run(scenario)
    (line,) = [line for line in net.lines("warning", "error") if "clock" in line["event"]]
    assert "set the one that is wrong" in line["event"]
    assert line["ahead_seconds"] == pytest.approx(ahead_s, abs=30)


@pytest.mark.parametrize("unix_us", [0, None])
def test_a_clock_that_is_right_or_of_which_nothing_is_told_is_no_line(
    tmp_path: Path, unix_us: int | None
) -> None:
    net = Net(tmp_path)
    assert net.server is not None
    net.server.engine.unix_us = time.time_ns() // 1_000 if unix_us is None else unix_us
    net.run(net.joined)
    assert not [line for line in net.lines("warning", "error") if "clock" in line["event"]]
