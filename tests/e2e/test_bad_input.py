"""What a user gets wrong is told in one line that says what, where and what to do; no traceback, ever."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Outcome, end, figures, killed_at_end, start
from edges import Edges
from refusing import REASON, Manner, refusing_server

from farcast.clients.media.testfilm import FilmOptions, write_test_film

SOMEWHERE = "moqt://127.0.0.1:9"
ANOTHER = "00" * 32
NAMED = ("--namespace", "live/film")


def run(*arguments: str) -> Outcome:
    return end(start(*arguments))


def check(outcome: Outcome, code: int, *words: str) -> None:
    """One line of complaint with all of the words, and nothing but complaint."""
    assert outcome.code == code, outcome.err
    assert outcome.out == "", "stdout is for data"
    assert "Traceback" not in outcome.err
    assert len(outcome.complaints) == 1, outcome.err
    for word in words:
        assert word in outcome.complaints[0], outcome.err


@pytest.fixture
def busy_udp() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def busy_tcp() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield f"127.0.0.1:{taken.getsockname()[1]}"


# ---- Sources ----------------------------------------------------------------------------------------


def test_a_missing_file_is_named() -> None:
    outcome = run("publish", "/no/such/film.mp4", SOMEWHERE, *NAMED)
    check(outcome, 1, "cannot open /no/such/film.mp4", "No such file")


def test_a_file_that_is_no_film_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\n")
    outcome = run("publish", str(tmp_path / "notes.txt"), SOMEWHERE, *NAMED)
    check(outcome, 1, f"cannot open {tmp_path / 'notes.txt'}", "not a media file")


def test_a_film_without_sound_or_picture_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    subtitles = tmp_path / "subtitles.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,000\nNothing to see\n\n")
    outcome = run("publish", str(subtitles), SOMEWHERE, *NAMED)
    check(outcome, 1, "no audio or video stream", str(subtitles), "subtitle subrip")


def test_a_film_whose_codec_cannot_be_carried_is_refused(tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    write_test_film(film, FilmOptions(duration_s=0.2, audio=False, video_codec="mpeg4"))
    outcome = run("publish", str(film), SOMEWHERE, *NAMED)
    check(outcome, 1, "no audio or video stream that can be carried", str(film), "mpeg4")


def test_a_file_without_video_is_refused_with_the_flag_that_allows_it(tmp_path: Path) -> None:
    sound = tmp_path / "sound.m4a"
    write_test_film(sound, FilmOptions(duration_s=0.2, video=False), container="mp4")
    check(run("publish", str(sound), SOMEWHERE, *NAMED), 1, f"{sound}: no video", "--audio-only")


def test_a_film_whose_video_alone_cannot_be_carried_is_refused_with_what_to_do(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    write_test_film(film, FilmOptions(duration_s=0.2, video_codec="mpeg4"))
    outcome = run("publish", str(film), SOMEWHERE, *NAMED)
    check(outcome, 1, f"{film}: no video", "mpeg4", "--transcode", "--audio-only")


def test_sound_alone_is_published_if_asked_for(edges: Edges, tmp_path: Path) -> None:
    sound = tmp_path / "sound.m4a"
    write_test_film(sound, FilmOptions(duration_s=1.0, video=False), container="mp4")
    edge = edges.start("edge")
    url, trust = f"moqt://{edge.listen}", ("--cert-sha256", edge.cert_sha256)
    viewer = start("watch", url, *NAMED, *trust, "--json")
    with killed_at_end(viewer, start("publish", str(sound), url, *NAMED, *trust, "--audio-only")):
        assert figures(viewer)["missing"] == 0


# ---- Servers -----------------------------------------------------------------------------------------


def publish(url: str, *arguments: str) -> subprocess.Popen[str]:
    return start("publish", "testsrc=size=160x90", url, *NAMED, *arguments)


def watch(url: str, *arguments: str) -> subprocess.Popen[str]:
    return start("watch", url, *NAMED, "--timeout", "5", *arguments)


@pytest.mark.slow
def test_an_edge_that_does_not_answer_is_given_up_and_named(busy_udp: str) -> None:
    silent = f"//{busy_udp}"
    processes = [
        tool(f"{scheme}:{silent}", "--insecure") for tool in (publish, watch) for scheme in ("moqt", "https")
    ]
    with killed_at_end(*processes):
        for process in processes:
            check(end(process), 1, f"no answer from {busy_udp}", "is the edge running")


def test_a_host_without_address_is_named() -> None:
    check(end(watch("moqt://nowhere.invalid:4433")), 1, "'nowhere.invalid'", "has no address")


@pytest.mark.parametrize("scheme", ["moqt", "https"])
def test_a_certificate_of_somebody_else_is_refused_with_advice(edges: Edges, scheme: str) -> None:
    url = f"{scheme}://{edges.start('edge').listen}"
    processes = [
        publish(url, "--cert-sha256", ANOTHER),
        watch(url, "--cert-sha256", ANOTHER),
        watch(url),
    ]
    with killed_at_end(*processes):
        for process in processes:
            check(end(process), 1, url, "certificate", "--cert-sha256")


@pytest.mark.parametrize("manner", ["close", "reject"])
def test_a_server_that_refuses_is_quoted(manner: Manner) -> None:
    with refusing_server(manner) as server:
        url = f"moqt://{server.listen}"
        processes = [tool(url, "--insecure") for tool in (publish, watch)]
        with killed_at_end(*processes):
            for process in processes:
                check(end(process), 1, url, REASON)


# ---- Ports ------------------------------------------------------------------------------------------


def test_a_busy_udp_port_is_named_with_the_flag_that_chooses_another(busy_udp: str) -> None:
    outcome = run("edge", "--dev-cert", "--auth", "open", "--listen", busy_udp, "--ops", "127.0.0.1:0")
    check(outcome, 1, f"UDP {busy_udp}", "in use", "--listen")


def test_a_busy_ops_port_is_named_with_the_flag_that_chooses_another(busy_tcp: str) -> None:
    outcome = run("edge", "--dev-cert", "--auth", "open", "--listen", "127.0.0.1:0", "--ops", busy_tcp)
    check(outcome, 1, f"TCP {busy_tcp}", "in use", "--ops")


def test_two_development_edges_on_one_port_are_told_apart(edges: Edges) -> None:
    running = edges.start("first")
    outcome = run("edge", "--dev-cert", "--auth", "open", "--listen", running.listen, "--ops", "127.0.0.1:0")
    check(outcome, 1, running.listen, "in use", "--listen")


# ---- Configuration --------------------------------------------------------------------------------------


def test_an_unreadable_configuration_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "edge.toml"
    check(run("edge", "--config", str(missing)), 2, str(missing), "cannot read", "No such file")
    check(run("edge", "--config", str(tmp_path)), 2, str(tmp_path), "Is a directory")


def test_a_configuration_that_is_no_toml_is_named_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "edge.toml").write_text("dev_cert = true\nlisten = 127.0.0.1\n")
    check(run("edge", "--config", str(tmp_path / "edge.toml")), 2, "edge.toml", "not valid TOML", "line 2")


def test_all_faults_of_a_configuration_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(
        'listn = "127.0.0.1:1"\nops = "here"\ncert = "no.pem"\nkey = "no.key"\ndrain_ms_max = -1\n'
        "[limits]\nsession_max = 3\n[[upstream]]\nprefix = \"\"\nurl = \"ftp://host\"\n"
    )  # fmt: skip
    outcome = run("edge", "--config", str(config), "--log-level", "loud")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.complaints == outcome.err.splitlines(), "nothing but complaints"
    expected = [
        (":1", "'listn'", "'listen'"),
        (":2", "ops", "HOST:PORT"),
        (":3", "cert", "no.pem"),
        (":4", "key", "no.key"),
        (":5", "drain_ms_max", "-1"),
        (":7", "'session_max'", "'sessions_max'"),
        ("url", "ftp"),
        ("--log-level", "loud"),
        ("[auth]", "--auth-keys", "--auth open"),
    ]
    for words in expected:
        assert sum(all(word in line for word in words) for line in outcome.complaints) == 1, words
    assert len(outcome.complaints) == len(expected)


def test_a_certificate_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("not a certificate")
    file = str(tmp_path / "a.pem")
    edge = ("edge", "--auth", "open", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0")
    outcome = run(*edge, "--cert", file, "--key", file)
    check(outcome, 2, file, "PEM certificate")


def test_an_upstream_without_address_is_named() -> None:
    edge = ("edge", "--dev-cert", "--auth", "open", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0")
    check(run(*edge, "--upstream", "live=moqt://nowhere.invalid"), 1, "'nowhere.invalid'", "has no address")


# ---- Usage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("watch", "127.0.0.1:4433", *NAMED), ("is no URL", "moqt://127.0.0.1:4433")),
        (("watch", "http://host", *NAMED), ("'http'", "https://")),
        (("watch", "moqt://host:port", *NAMED), ("the port", "65535")),
        (("watch", "farcast://host", *NAMED), ("hops are for edges",)),
        (("watch", SOMEWHERE, "--namespace", "/".join("abc" * 11)), ("--namespace", "at most 32")),
        (("watch", SOMEWHERE, "--namespace", "/"), ("--namespace", "empty")),
        (("watch", SOMEWHERE), ("--namespace",)),
        (("watch", SOMEWHERE, *NAMED, "--out", "/no/such/film.mp4"), ("--out", "no folder /no/such")),
        (("watch", SOMEWHERE, *NAMED, "--out", "/"), ("--out /", "cannot be written")),
        (("watch", SOMEWHERE, *NAMED, "--seconds", "-1"), ("--seconds -1", "above 0")),
        (("watch", SOMEWHERE, *NAMED, "--draft", "7"), ("--draft 7", "18 and 16")),
        (("watch", SOMEWHERE, *NAMED, "--cert-sha256", "abc"), ("'abc'", "64 hex digits")),
        (("watch", SOMEWHERE, *NAMED, "--ca", "/no/ca.pem"), ("/no/ca.pem", "cannot be read")),
        (("publish", "testsrc", SOMEWHERE, *NAMED, "--packaging", "ogg"), ("--packaging", "cmaf", "loc")),
        (("publish", "testsrc", SOMEWHERE, *NAMED, "--packagin", "loc"), ("--packagin", "--packaging")),
        (("edge", "--lsten", "127.0.0.1:1"), ("--lsten", "--listen")),
        (("edgee",), ("edgee", "edge")),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    from farcast.cli.main import run as run_here

    code = run_here(arguments)
    out, err = capfd.readouterr()
    check(Outcome(code, out, err), 2, *words)
    assert len(err.splitlines()) == 1


def test_a_source_that_is_no_option_of_the_synthetic_film_names_those_that_are() -> None:
    outcome = run("publish", "testsrc=fsp=25", SOMEWHERE, *NAMED)
    check(outcome, 1, "'fsp'", "fps")
