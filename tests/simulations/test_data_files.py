"""Tables that come with Farcast: one that is missing or cut off is named, and is nobody's broken promise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations import access, backbone, data_files, matrices
from farcast.simulations.data_files import DATA, read_rows
from farcast.simulations.scenario_file import load_scenario
from farcast.simulations.worlds import build_world

TABLES = sorted(file.name for file in DATA.glob("*.csv"))


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all of them, which is read in place of ours, and nothing kept of what was read before."""
    copy = tmp_path / "data"
    shutil.copytree(DATA, copy)
    monkeypatch.setattr(data_files, "DATA", copy)
    for module in (access, backbone, matrices):
        for cached in vars(module).values():
            if hasattr(cached, "cache_clear"):
                cached.cache_clear()
    return copy


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_read(name: str) -> None:
    assert read_rows(name)


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "bytes"])
def test_a_table_that_cannot_be_used_is_named(damage: str, tables: Path) -> None:
    file = tables / "aws_region_coordinates.csv"
    data = file.read_bytes()
    match damage:
        case "gone":
            file.unlink()
        case "empty":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(data[: len(data) - 12])
        case _:
            file.write_bytes(b"\xff\xfe" + data)
    with pytest.raises(UserError) as raised:
        read_rows(file.name)
    assert str(file) in raised.value.message
    assert raised.value.exit_code == EXIT_USAGE


def test_a_world_without_its_table_is_wrong_usage_and_no_broken_promise(tables: Path) -> None:
    (tables / "aws_region_rtt_p50_p90_cloudping_1y.csv").unlink()
    with pytest.raises(UserError, match=r"aws_region_rtt.*\.csv: cannot be read") as raised:
        build_world(load_scenario("sea-to-eu"), 1)
    assert raised.value.exit_code == EXIT_USAGE
