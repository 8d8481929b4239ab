"""The tools as a person meets them: one line and an exit code for each thing that can be wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from farcast.cli.main import run
from farcast.cli.watch import report_rows
from farcast.clients import roaming
from farcast.clients.media.playback import Distribution, PlaybackReport

NOBODY = "moqt://127.0.0.1:9"


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, with nothing on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def publish(*tokens: str) -> int:
    return run(["publish", *tokens, "--namespace", "live/test", "--insecure"])


def watch(*tokens: str) -> int:
    return run(["watch", *tokens, "--insecure"])


def test_publishing_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish(str(tmp_path / "none.mp4"), NOBODY) == 1
    assert "none.mp4: No such file or directory" in complaint(capsys)


def test_edges_of_which_none_answers_are_named_each_with_its_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roaming, "CONNECT_SECONDS_MAX", 0.5)
    assert watch(NOBODY, "moqt://127.0.0.1:10", "--namespace", "live/test") == 1
    reasons = "no edge can be used: 127.0.0.1:9: no answer; 127.0.0.1:10: no answer"
    assert complaint(capsys) == f"farcast: {reasons}"


def test_a_second_url_is_checked_like_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(NOBODY, "http://127.0.0.1:10", "--namespace", "live/test") == 2
    assert "scheme 'http' is not known" in complaint(capsys)


def test_publishing_a_file_that_is_no_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no film at all\n" * 100)
    assert publish(str(tmp_path / "notes.txt"), NOBODY) == 1
    assert "notes.txt" in complaint(capsys)


def test_publishing_testsrc_with_an_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert publish("testsrc=sise=640x360", NOBODY) == 1
    assert "testsrc has no option 'sise'" in complaint(capsys)


def test_publishing_a_standard_input_that_is_no_film(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/null", encoding="ascii") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert publish("-", NOBODY) == 1
    assert "standard input" in complaint(capsys)


def test_a_url_without_a_scheme_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert publish("testsrc", "127.0.0.1:9") == 2
    assert "write moqt://127.0.0.1:9 (raw QUIC) or https://127.0.0.1:9" in complaint(capsys)


def test_an_empty_namespace_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(NOBODY, "--namespace", "/") == 2
    assert "--namespace" in complaint(capsys)


def test_recording_into_a_folder_that_is_not_there_is_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(NOBODY, "--namespace", "a", "--out", str(tmp_path / "none" / "film.mp4")) == 2
    assert "there is no folder" in complaint(capsys)


@pytest.mark.parametrize(
    ("tokens", "fault"),
    [
        (("--loss", "101"), "--loss 101: must be from 0 to 100"),
        (("--loss-far", "-1"), "--loss-far -1: must be from 0 to 100"),
        (("--burst", "0"), "the links cannot be like that"),
    ],
)
def test_a_link_that_cannot_be_is_usage(
    tokens: tuple[str, ...], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dev", "--port", "0", *tokens]) == 2
    assert fault in complaint(capsys)


def test_a_port_that_leaves_no_room_for_the_others_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dev", "--port", "70000"]) == 2
    assert "--port 70000: must be from 0 to 65000" in complaint(capsys)


def test_a_busy_port_of_the_development_network_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        assert run(["dev", "--port", str(busy.getsockname()[1])]) == 1
    assert "it is in use" in complaint(capsys)


@pytest.mark.slow
def test_the_development_network_tells_its_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dev", "--port", "0", "--seconds", "0.1", "--json"]) == 0
    captured = capsys.readouterr()
    ready = json.loads(captured.out)
    assert {"event", "state_dir", "edges"} == ready.keys()
    assert list(ready["edges"]) == ["sin-1", "jkt-1", "dxb-1", "fra-1", "lon-1", "iad-1"]
    assert "INSECURE" in captured.err
    for edge in ready["edges"].values():
        assert edge["listen"] in captured.err
        assert edge["cert_sha256"] in captured.err
    for text in ("farcast publish", "farcast watch", "farcast routes"):
        assert text in captured.err


@pytest.mark.slow
def test_the_demo_ends_with_figures_and_0_only_if_every_frame_arrived(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run(["dev", "--demo", "--port", "0", "--seconds", "18", "--cut-after", "4", "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert code == (0 if figures["passed"] else 99)
    assert figures["passed"], figures
    assert set(figures["viewers"]) == {"fra-1", "dxb-1", "iad-1"}
    assert all(viewer["frames"] > 300 for viewer in figures["viewers"].values())
    assert len(figures["cuts"]) == 1


def test_the_report_of_a_viewer_that_saw_nothing_can_be_printed() -> None:
    none = Distribution()
    report = PlaybackReport(None, None, 0.0, 0, 0, 0, 0, None, none, none, none, 0, 0.0, 0.0, 0.0, none, None)
    assert ("latency", "-") in report_rows(report)
