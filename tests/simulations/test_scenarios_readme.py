"""The page about scenarios names what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from farcast.simulations.scenario_file import SCENARIOS, list_scenarios, load_scenario

README = (SCENARIOS / "README.md").read_text(encoding="utf-8")
ROOT = Path(__file__).resolve().parents[2]


def _rows(heading: str) -> list[str]:
    section = README.split(heading)[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| -")][1:]


def test_every_scenario_has_its_row() -> None:
    named = [re.findall(r"`([\w-]+)`", row)[0] for row in _rows("# Scenarios\n")]
    assert sorted(named) == list(list_scenarios())


def test_the_fault_catalogue_is_whole_and_names_what_exists() -> None:
    rows = _rows("## The fault catalogue")
    assert [row.split("|")[1].strip() for row in rows] == [f"F{k}" for k in range(1, 25)]
    for row in rows:
        for name in re.findall(r"`([\w/.-]+)`", row):
            assert name in list_scenarios() or (ROOT / name).is_file(), name


def test_the_example_is_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(README.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    assert load_scenario(file).name == "mine"
