"""sd_notify: what a manager hears, and that one that is not there or does not listen is no matter."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from farcast.service_manager import WATCHDOG_SECONDS_MIN, ServiceManager


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def test_the_manager_hears_each_state_as_one_datagram(heard: socket.socket) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": heard.getsockname()})
    manager.ready()
    manager.feed()
    manager.stopping()
    assert [heard.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket_is_reached_by_its_at_sign() -> None:
    name = f"farcast-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.setblocking(False)
        ServiceManager.from_environment({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", "", 10.0),
        ("30000000", str(os.getpid()), 10.0),
        ("30000000", "1", None),
        ("1", "", WATCHDOG_SECONDS_MIN),
        ("0", "", None),
        ("soon", "", None),
        ("-5", "", None),
        ("9" * 40, "", None),
        ("", "", None),
    ],
)
def test_the_watchdog_is_fed_three_times_in_its_time(usec: str, pid: str, seconds: float | None) -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    assert ServiceManager.from_environment(environ).watchdog_seconds == seconds


def test_without_a_socket_nothing_is_watched() -> None:
    assert ServiceManager.from_environment({"WATCHDOG_USEC": "30000000"}).watchdog_seconds is None
    ServiceManager.from_environment({}).ready()


@pytest.mark.parametrize("address", ["/nowhere/notify", "relative", "vsock:2:1234", "/" + "x" * 200])
def test_a_manager_that_is_not_there_is_no_matter(address: str) -> None:
    ServiceManager.from_environment({"NOTIFY_SOCKET": address}).ready()


def test_a_manager_that_does_not_listen_holds_nothing_up(heard: socket.socket) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": heard.getsockname()})
    for _ in range(2_000):
        manager.feed()
