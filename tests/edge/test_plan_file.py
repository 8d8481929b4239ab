"""The plan on disk: whole at every moment, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farcast.edge import plan_file
from farcast.edge.plan_file import PlanFile, prepare_folder, usual_folder
from farcast.errors import UserError


def test_there_is_no_plan_at_first_and_then_the_last_one_written(tmp_path: Path) -> None:
    file = PlanFile(tmp_path)
    assert file.read() is None
    for data in (b"one", b"another one", b""):
        file.write(data)
        assert file.read() == data
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_the_old_plan_stays_where_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = PlanFile(tmp_path)
    file.write(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"new")
    assert file.read() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_a_file_larger_than_any_plan_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_file, "PLAN_FILE_BYTES_MAX", 10)
    (tmp_path / "plan").write_bytes(bytes(11))
    with pytest.raises(ValueError, match="more than 10 bytes"):
        PlanFile(tmp_path).read()


def test_the_folder_is_made_for_the_edge_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    prepare_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    prepare_folder(folder)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"state_dir .*/file/x: cannot be used: .*--state-dir"):
        prepare_folder(tmp_path / "file" / "x")


def test_the_usual_folder_is_systemds_or_below_the_home() -> None:
    assert usual_folder("sin-1", {"STATE_DIRECTORY": "/var/lib/farcast:/x"}) == Path("/var/lib/farcast")
    assert usual_folder("sin-1", {"HOME": "/h"}) == Path("/h/.local/state/farcast/sin-1")
    assert usual_folder("sin-1", {"HOME": "/h", "XDG_STATE_HOME": "/s"}) == Path("/s/farcast/sin-1")
