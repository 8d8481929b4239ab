"""The gate for a user's own CI: both variants do the same, and what they call exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_scenario import BROKEN, HELD, write_tiny

from farcast.errors import EXIT_PROMISE_BROKEN, EXIT_USAGE

CI = Path(__file__).parents[2] / "deploy" / "ci"
SCRIPT = CI / "gate.sh"


def gate(folder: Path, *scenarios: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        "PATH": path,
        "SEEDS": "1",
        "SHORT": "1",
        "XDG_CACHE_HOME": str(folder),
        "HOME": str(folder),
    }
    command = ["bash", str(SCRIPT), *scenarios]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((CI / "github-actions.yml").read_text())
    return found


def test_the_workflow_is_one_that_github_can_read(workflow: dict[Any, Any]) -> None:
    # YAML 1.1 reads the key "on" as true; so does this parser, and GitHub does not.
    assert set(workflow) == {"name", True, "permissions", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"]
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step), step
        assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_the_report_is_kept_when_the_gate_is_red(workflow: dict[Any, Any]) -> None:
    (job,) = workflow["jobs"].values()
    keep = job["steps"][-1]
    assert keep["if"] == "always()"
    assert keep["with"]["path"] == "out"


def test_every_option_that_either_variant_gives_exists(workflow: dict[Any, Any]) -> None:
    command = [
        sys.executable,
        "-P",
        "-c",
        "from farcast.cli.main import main; main()",
        "sim",
        "run",
        "--help",
    ]
    known = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    (job,) = workflow["jobs"].values()
    calls = [step["run"] for step in job["steps"] if "farcast sim run" in step.get("run", "")]
    for text in [*calls, SCRIPT.read_text().split("set -euo pipefail")[1]]:
        options = set(re.findall(r"(?<=[\s(])--[a-z]+", text)) - {"--quiet"}
        assert options >= {"--seeds", "--twice", "--short", "--save", "--junit", "--html"}
        assert {option for option in options if not re.search(rf"{option}\b", known)} == set()


def test_shell_scripts_can_be_read() -> None:
    workflow_shell = yaml.safe_load((CI / "github-actions.yml").read_text())["jobs"]["simulate"]["steps"]
    for text in [SCRIPT.read_text(), *(step["run"] for step in workflow_shell if "run" in step)]:
        subprocess.run(["bash", "-n"], input=text, text=True, timeout=10, check=True)


def test_the_gate_is_green_when_promises_hold_and_leaves_its_reports(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    write_tiny(tmp_path / "scenarios", [HELD])
    done = gate(tmp_path)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in (tmp_path / "farcast-sim").iterdir()} == {
        "results.json",
        "junit.xml",
        "report.html",
    }


def test_the_gate_is_red_when_a_promise_is_broken(tmp_path: Path) -> None:
    write_tiny(tmp_path, [BROKEN])
    done = gate(tmp_path, "tiny.toml")
    assert done.returncode == EXIT_PROMISE_BROKEN, done.stderr
    assert "farcast sim replay tiny.toml --seed 5 --short" in done.stderr
    assert (tmp_path / "farcast-sim" / "report.html").is_file()


def test_the_gate_without_scenarios_says_so(tmp_path: Path) -> None:
    done = gate(tmp_path)
    assert done.returncode == EXIT_USAGE
    assert "no scenarios/*.toml here" in done.stderr
