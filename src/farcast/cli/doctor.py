"""``farcast doctor``: whether this machine can run Farcast, and what to do where it cannot."""

from __future__ import annotations

import platform
import resource
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from farcast import __version__
from farcast.cli.output import print_json, print_table
from farcast.cli.version import core_version
from farcast.errors import EXIT_FAILED, EXIT_OK

PYTHON_MIN = (3, 11)
FILES_MIN = 1024
SOCKET_BUFFER_BYTES_MIN = 2 << 20

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104


@dataclass(frozen=True, slots=True)
class Finding:
    """Outcome of one check; ``fix`` says what to do unless the result is ``ok``."""

    check: str
    result: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def doctor(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Check this machine: Python, Rust core, UDP, limits, codecs.

    Example: farcast doctor

    Parameters
    ----------
    json
        One JSON line.
    """
    findings = [check() for check in CHECKS]
    failed = any(finding.result == "fail" for finding in findings)
    if json:
        print_json({"passed": not failed, "checks": [asdict(finding) for finding in findings]})
    else:
        rows = [(finding.result, finding.check, finding.detail, finding.fix) for finding in findings]
        print_table(("", "check", "found", "what to do"), rows)
    return EXIT_FAILED if failed else EXIT_OK


def check_system() -> Finding:
    """Linux: the datapath uses its system calls."""
    name = platform.system()
    if name != "Linux":
        return Finding("system", "fail", name, "run Farcast on Linux, or in a Linux container")
    return Finding("system", "ok", f"{name} {platform.release()}")


def check_python() -> Finding:
    """Python, new enough."""
    if sys.version_info < PYTHON_MIN:
        return Finding("python", "fail", platform.python_version(), "install Python 3.11 or newer")
    return Finding("python", "ok", platform.python_version())


def check_core() -> Finding:
    """The Rust core, built from the same source."""
    version = core_version()
    if version is None:
        return Finding("core", "fail", "not built", "run 'make' in a clone, or 'pip install .'")
    if version != __version__:
        return Finding("core", "fail", f"{version}, Python part {__version__}", "build it again: 'make'")
    return Finding("core", "ok", version)


def check_udp() -> Finding:
    """A datagram over loopback."""
    try:
        with _udp_socket() as receiver, _udp_socket() as sender:
            receiver.settimeout(1)
            sender.sendto(b"farcast", receiver.getsockname())
            receiver.recv(16)
    except OSError as error:
        return Finding("udp", "fail", f"loopback: {error}", "allow UDP on this machine (sandbox, firewall)")
    return Finding("udp", "ok", "loopback works")


def check_offload() -> Finding:
    """Segmentation offload, which makes fan-out cheap; the datapath also works without."""
    missing = []
    with _udp_socket() as probe:
        for name, option, value in (("GSO", UDP_SEGMENT, 1200), ("GRO", UDP_GRO, 1)):
            try:
                probe.setsockopt(SOL_UDP, option, value)
            except OSError:
                missing.append(name)
    if missing:
        return Finding("offload", "warn", f"no {' and '.join(missing)}", "a kernel from 5.0 on has both")
    return Finding("offload", "ok", "GSO and GRO")


def check_socket_buffer() -> Finding:
    """How much may wait in a UDP socket."""
    try:
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return Finding("socket buffer", "warn", "limit not readable", "see net.core.rmem_max")
    if limit < SOCKET_BUFFER_BYTES_MIN:
        fix = f"sysctl -w net.core.rmem_max={SOCKET_BUFFER_BYTES_MIN}"
        return Finding("socket buffer", "warn", f"{limit} bytes at most", fix)
    return Finding("socket buffer", "ok", f"{limit} bytes at most")


def check_files() -> Finding:
    """Open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_MIN:
        return Finding("open files", "warn", str(soft), f"ulimit -n {FILES_MIN}")
    return Finding("open files", "ok", str(soft))


def check_codecs() -> Finding:
    """The encoders that ``farcast publish testsrc`` uses."""
    try:
        from av.codec import codecs_available

        missing = {"libx264", "libopus"} - set(codecs_available)
    except ImportError as error:
        return Finding("codecs", "fail", f"PyAV cannot be used: {error}", "pip install av")
    if missing:
        return Finding(
            "codecs", "fail", f"no {', '.join(sorted(missing))}", "pip install --only-binary av av"
        )
    return Finding("codecs", "ok", "libx264, libopus")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_system,
    check_python,
    check_core,
    check_udp,
    check_offload,
    check_socket_buffer,
    check_files,
    check_codecs,
)


def _udp_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made
