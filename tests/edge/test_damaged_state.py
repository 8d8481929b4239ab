"""Files of an edge's state directory that were cut off, flipped or emptied: one line that names the file, or
an edge that serves."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from farcast.certificates import Authority, Identity, make_authority
from farcast.edge.config import load_config
from farcast.edge.enrolment import AUTHORITY, IDENTITY, JOINED, Joined, keep
from farcast.edge.node import open_edge
from farcast.errors import UserError
from farcast.proto.control import messages as m
from farcast.proto.control.edge_plan import PlanStore
from farcast.signing import make_key

EPOCH = m.Epoch(cluster="shows", number=1)
NODES = (m.NodeInfo(node_id="sin-1", region="sin", address="127.0.0.1:1"),)


def damaged(content: bytes, damage: str) -> bytes:
    half = len(content) // 2
    flipped = bytes([*content[:half], content[half] ^ 0x20, *content[half + 1 :]])
    return {"cut off": content[:half], "a bit": flipped, "empty": b"", "zeros": bytes(len(content))}[damage]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority("shows", datetime.now(UTC))


@pytest.fixture
def state(tmp_path: Path, authority: Authority) -> Path:
    """As an edge leaves it that joined and has a plan."""
    key = make_key()
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    private: Any = load_der_private_key(key.key, None)
    der = authority.certify(private.public_key(), "sin", "sin-1", datetime.now(UTC), timedelta(days=7), None)
    joined = Joined("sin-1", "sin", ("127.0.0.1:9",), "00" * 8)
    keep(tmp_path, joined, Identity((der,), key.key), authority.certificate)
    store = PlanStore("sin-1")
    store.consider(m.PlanDelta(version=m.PlanVersion(epoch=EPOCH, sequence=3), nodes=NODES))
    (tmp_path / "plan").write_bytes(store.dump())
    return tmp_path


def opened(state: Path) -> str | None:
    """Start as far as binding sockets; the complaint, if there is one, else the plan that is followed."""
    flags = {
        "dev_cert": True, "auth.mode": "open", "listen": "127.0.0.1:0", "ops": "127.0.0.1:0",
        "control.state_dir": str(state),
    }  # fmt: skip

    async def start() -> str | None:
        node = await open_edge(load_config(flags=flags))
        node.driver.close()
        with trio.move_on_after(5):
            await node.run()
        plan = node.driver.engine.plan
        return None if plan is None else str(plan.version)

    lines: list[dict[str, Any]] = []

    def keep_line(_: Any, level: str, line: Any) -> Any:
        lines.append({"level": level, **line})
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep_line], cache_logger_on_first_use=False)
    try:
        return trio.run(start)
    finally:
        structlog.configure(**before)
        state.with_suffix(".errors").write_text("\n".join(e["event"] for e in lines if e["level"] == "error"))


def test_a_state_directory_in_order_starts_its_edge(state: Path) -> None:
    assert opened(state) == "shows/1.3"


@pytest.mark.parametrize("damage", ["cut off", "a bit", "empty", "zeros"])
@pytest.mark.parametrize("name", [IDENTITY, AUTHORITY, JOINED])
def test_a_damaged_file_of_who_the_edge_is_is_one_line_that_names_it(
    state: Path, name: str, damage: str
) -> None:
    file = state / name
    file.write_bytes(damaged(file.read_bytes(), damage))
    fault = complaint(state)
    if fault is None:
        assert damage == "a bit", "there are bits that change no meaning, or only what others verify"
        return
    (line,) = fault.message.splitlines()
    assert str(file) in line or "a certificate cannot be used" in line
    assert fault.exit_code in (1, 2)
    for secret in (state / IDENTITY).read_text(errors="replace").splitlines()[1:3]:
        assert not secret or secret not in line


def complaint(state: Path) -> UserError | None:
    try:
        opened(state)
    except UserError as error:
        return error
    return None


@pytest.mark.parametrize("name", [IDENTITY, AUTHORITY, JOINED, "plan"])
def test_no_single_bit_of_a_file_makes_an_edge_fail_in_another_way(state: Path, name: str) -> None:
    file, drawn = state / name, random.Random(name)
    content = file.read_bytes()
    for _ in range(40):
        at, bit = drawn.randrange(len(content)), 1 << drawn.randrange(8)
        file.write_bytes(bytes([*content[:at], content[at] ^ bit, *content[at + 1 :]]))
        fault = complaint(state)
        assert fault is None or len(fault.message.splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut off", "a bit", "empty", "zeros"])
def test_a_damaged_plan_is_left_and_the_edge_starts_without(state: Path, damage: str) -> None:
    file = state / "plan"
    file.write_bytes(damaged(file.read_bytes(), damage))
    assert opened(state) is None
    assert state.with_suffix(".errors").read_text() == "plan file refused"


def test_a_key_that_is_missing_is_named(state: Path) -> None:
    (state / IDENTITY).unlink()
    with pytest.raises(UserError, match=IDENTITY):
        opened(state)
