"""Work for the processes of `farcast.simulations.pool`: in a module, because processes import it by name."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from farcast.errors import UserError
from farcast.simulations.pool import Pool, Progress


def double(number: int, progress: Progress) -> int:
    """Twice the number; every tenth of the way is told."""
    for tenth in range(11):
        progress(tenth / 10)
    return 2 * number


def fail_in_some_way(way: str, progress: Progress) -> str:
    """Ends as ``way`` says."""
    match way:
        case "raises":
            raise ValueError("negative rate")
        case "user":
            raise UserError("unknown region 'atlantis'")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(3)
    return way


def interrupt_itself(number: int, progress: Progress) -> int:
    """Gets SIGINT, as every process of the group does at Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
    return number


def wait_for_ever(folder: str, progress: Progress) -> None:
    """Leaves its process id in a file, and stays."""
    Path(folder, f"{os.getpid()}.pid").touch()
    signal.pause()


def main() -> None:
    """Three of them, two at a time."""
    folder = sys.argv[1]
    list(Pool(wait_for_ever, jobs_max=2).run([folder] * 3))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
    main()
