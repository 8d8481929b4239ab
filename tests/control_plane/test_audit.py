"""The audit log: what is written, what survives, what it never holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest
from control_api import served
from control_world import World

from farcast.control_plane.audit import AUDIT_FILE, PENDING_MAX, AuditLog, read_entries
from farcast.errors import UserError

ENTRY = {"who": "local", "action": "drain", "about": "sin-1", "request_id": "r1"}


def write(log: AuditLog, count: int, **more: object) -> None:
    for k in range(count):
        log.append(k, **{**ENTRY, **more})


def numbers(directory: Path, before: int | None = None) -> list[int]:
    return [entry.seq for entry in read_entries(directory, before)]


def test_entries_are_read_newest_first_and_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    write(AuditLog(tmp_path), 3)
    write(AuditLog(tmp_path), 2)
    assert numbers(tmp_path) == [4, 3, 2, 1, 0]
    assert numbers(tmp_path, before=2) == [1, 0]
    assert (tmp_path / AUDIT_FILE).stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_cut_off_costs_only_itself(tmp_path: Path) -> None:
    write(AuditLog(tmp_path), 2)
    file = tmp_path / AUDIT_FILE
    file.write_bytes(file.read_bytes()[:-9])
    write(AuditLog(tmp_path), 1)
    assert numbers(tmp_path) == [1, 0]


def test_the_log_is_bounded_by_rotation(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, bytes_max=1_000, files_max=3)
    write(log, 100)
    files = sorted(tmp_path.glob(f"{AUDIT_FILE}*"))
    assert [file.name for file in files] == [AUDIT_FILE, f"{AUDIT_FILE}.1", f"{AUDIT_FILE}.2"]
    assert sum(file.stat().st_size for file in files) <= 3_000
    kept = numbers(tmp_path)
    assert kept == list(range(99, 99 - len(kept), -1))
    write(AuditLog(tmp_path, bytes_max=1_000, files_max=3), 1)
    assert numbers(tmp_path)[0] == 100


def test_what_is_long_is_cut_with_a_mark(tmp_path: Path) -> None:
    write(AuditLog(tmp_path), 1, before={"x": "y" * 100_000})
    (entry,) = read_entries(tmp_path)
    assert entry.before["bytes"] == 100_008
    assert (tmp_path / AUDIT_FILE).stat().st_size < 20_000


def test_a_disk_that_takes_nothing_is_told_once_and_caught_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    log = AuditLog(tmp_path)
    write(log, 1)
    with monkeypatch.context() as broken:
        broken.setattr("farcast.control_plane.audit.os.write", full)
        write(log, PENDING_MAX + 5)
        assert log.failure is not None
        assert "No space left" in log.failure
    write(log, 1)
    assert log.failure is None
    assert log.lost == 6
    found = numbers(tmp_path)
    assert (found[0], found[-1], len(found)) == (PENDING_MAX + 6, 0, PENDING_MAX + 1)


def test_an_entry_that_was_written_in_part_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, write_whole = AuditLog(tmp_path), os.write
    write(log, 1)
    with monkeypatch.context() as broken:
        broken.setattr("farcast.control_plane.audit.os.write", lambda to, data: write_whole(to, data[:10]))
        write(log, 1)
        assert log.failure is not None
    write(log, 1)
    assert [json.loads(line)["seq"] for line in (tmp_path / AUDIT_FILE).read_text().splitlines()] == [0, 1, 2]


def test_a_log_that_cannot_be_read_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / AUDIT_FILE).mkdir()
    with pytest.raises(UserError, match=AUDIT_FILE):
        AuditLog(tmp_path)


def test_changes_and_refusals_are_entries_with_before_and_after(tmp_path: Path) -> None:
    world = World(("fra-1", "sin-1")).run(4)
    with served(world, tmp_path) as address:
        token = (tmp_path / "api.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "X-Request-Id": "ticket-7"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, trust_env=False) as client:
            client.post("/overrides", json={"src": "sin-1", "price_per_gb": 0.1})
            client.post("/overrides", json={"src": "sin-1", "capacity_bps": 5})
            client.post("/drain", json={"node_id": "mars-1"})
            client.post("/drain", json={"node": "mars-1"})
            client.get("/status")
            made = client.post("/api-tokens", json={"name": "bob", "scopes": ["read"]}).json()
            client.post("/drain", json={"node_id": "x"}, headers={"Authorization": f"Bearer {made['token']}"})
            told = client.get("/audit", params={"limit": 10}).json()
    newest_first = told["entries"]
    assert [(e["action"], e["outcome"], e["who"]) for e in newest_first] == [
        ("drain", "refused", "bob"),
        ("api_token", "done", "local"),
        ("drain", "refused", "local"),
        ("override", "done", "local"),
        ("override", "done", "local"),
    ]
    second = newest_first[3]
    figures = {"src": "sin-1", "dst": None}
    assert second["before"] == {**figures, "price_per_gb": 0.1, "capacity_bps": None}
    assert second["after"] == {**figures, "price_per_gb": 0.1, "capacity_bps": 5}
    assert (second["about"], second["request_id"]) == ("sin-1", "ticket-7")
    assert "no edge 'mars-1'" in newest_first[2]["reason"]
    everything = "".join(file.read_text() for file in tmp_path.iterdir() if file.name != "api.token")
    assert made["token"] not in everything
    assert token not in everything
