"""A process for each run: order, progress, failures told apart, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pool_work
import pytest

from farcast.simulations.pool import Failure, Pool


def test_results_come_in_the_order_of_the_jobs() -> None:
    found = list(Pool(pool_work.double, jobs_max=2).run([3, 1, 2]))
    assert found == [(3, 6), (1, 2), (2, 4)]


def test_progress_names_the_job_and_ends_at_the_whole() -> None:
    told: list[tuple[int, int, float]] = []
    pool = Pool(pool_work.double, jobs_max=1, on_progress=lambda *each: told.append(each))
    list(pool.run([5]))
    assert told[0] == (0, 5, 0.0)
    assert told[-1] == (0, 5, 1.0)


@pytest.mark.parametrize(
    ("way", "kind", "what"),
    [
        ("raises", "raised", "ValueError: negative rate"),
        ("user", "user", "unknown region 'atlantis'"),
        ("killed", "died", "SIGKILL: was there enough memory?"),
        ("exits", "died", "exit code 3 and without a result"),
    ],
)
def test_a_failure_says_how_it_came_and_leaves_other_jobs_alone(way: str, kind: str, what: str) -> None:
    found = list(Pool(pool_work.fail_in_some_way, jobs_max=2).run([way, "well"]))
    failure = found[0][1]
    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert what in failure.what
    assert ("raise ValueError" in failure.trace) == (kind == "raised")
    assert found[1] == ("well", "well")


def test_ctrl_c_is_for_the_parent_alone() -> None:
    assert list(Pool(pool_work.interrupt_itself, jobs_max=1).run([1])) == [(1, 1)]


def test_an_interruption_ends_all_processes_without_a_word_from_them(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, pool_work.__file__, str(tmp_path)],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    deadline = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(parent.pid, signal.SIGINT)
    _, err = parent.communicate(timeout=20)
    assert parent.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1, "the parent's own, which the command line turns into exit code 130"
    assert [pid for pid in tmp_path.iterdir() if Path("/proc", pid.stem).exists()] == []
