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
        (("--delay", "-1"), "must be 0 milliseconds or more"),
        (("--burst", "0"), "the link cannot be like that"),
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


def test_the_development_network_tells_its_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dev", "--port", "0", "--seconds", "0.1", "--json"]) == 0
    captured = capsys.readouterr()
    ready = json.loads(captured.out)
    assert {"event", "origin", "origin_ops", "egress", "egress_ops", "cert_sha256"} == ready.keys()
    assert "INSECURE" in captured.err
    for text in (ready["origin"], ready["egress"], ready["cert_sha256"], "farcast publish", "farcast watch"):
        assert text in captured.err


def test_the_demo_ends_with_figures_and_0_only_if_every_frame_arrived(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run(["dev", "--demo", "--port", "0", "--seconds", "3", "--loss", "3", "--delay", "20", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0, figures
    assert figures["passed"]
    assert figures["frames"] == 3 * (30 + 50)
    assert figures["glass_to_glass_p50_ms"] > 20
    assert figures["hop_chunks_sent"] > 100


def test_the_report_of_a_viewer_that_saw_nothing_can_be_printed() -> None:
    none = Distribution()
    report = PlaybackReport(None, None, 0.0, 0, 0, 0, 0, None, none, none, none, 0, 0.0, 0.0, 0.0, none, None)
    assert ("latency", "-") in report_rows(report)
