"""An edge from its first breath to its last: signals, health, restarts of others, and no circles."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Outcome, end, figures, killed_at_end, start
from crowd import Crowd, first_id
from edges import Edge, Edges
from prometheus_client.parser import text_string_to_metric_families

from farcast.proto._core import ClientTls
from farcast.proto.agent import Target
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.client.events import NamespaceAccepted, ObjectReceived, Waiting
from farcast.proto.moqt.names import TrackNamespace

NAMESPACE = "live/film"
SOON_SECONDS = 15.0
LONG_FILM = 350
"""Frames and pieces of sound in five seconds."""
LONG_DRAIN = "drain_ms_max = 60000\n"
RESERVED_PORTS = range(20_000, 30_000)
"""Below those that the system hands out by itself."""
BASE_UNITS = ("_bytes", "_seconds")
"""Everything else that is measured here is counted, and has no unit."""
OTHER_UNITS = ("_ms", "_us", "_ns", "_minutes", "_kb", "_mb", "_kib", "_bits", "_bps", "_percent")


def wait_until(condition: Callable[[], object], what: str, seconds_max: float = SOON_SECONDS) -> None:
    """Look often until it is so."""
    until = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def publish(edge: Edge) -> subprocess.Popen[str]:
    source = "testsrc=size=160x90:fps=25:gop=0.4"
    return start("publish", source, f"moqt://{edge.listen}", *named(edge), "--json")


def watch(edge: Edge, scheme: str = "moqt", *arguments: str) -> subprocess.Popen[str]:
    return start("watch", f"{scheme}://{edge.listen}", *named(edge), "--json", *arguments)


def says(process: subprocess.Popen[str], words: str) -> bool:
    """Read what a command says until it has said this; false if it ends without."""
    assert process.stderr is not None
    return any(words in line for line in iter(process.stderr.readline, ""))


def named(edge: Edge) -> tuple[str, ...]:
    return ("--namespace", NAMESPACE, "--cert-sha256", edge.cert_sha256)


def objects_out(edge: Edge) -> int:
    return int(edge.status()["datapath"]["totals"]["objects_out"])


def are_served(edge: Edge, count: int, pieces: int = 50, after: int = 0) -> bool:
    """Whether so many sessions have got a piece of film, in downstreams with ids beyond ``after``."""
    objects: Counter[int] = Counter()
    for downstream in downstreams(edge):
        if downstream["downstream"] > after:
            objects[downstream["session"]] += downstream["objects"]
    return sum(number > pieces for number in objects.values()) == count


def downstreams(edge: Edge) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = edge.status()["datapath"]["downstreams"]
    return found


def is_asked(edge: Edge) -> bool:
    """Whether somebody wants to hear of namespaces there."""
    return any(session["prefixes"] for session in edge.status()["agent"]["sessions"])


def events_logged(edges: Edges, node_id: str) -> list[dict[str, Any]]:
    lines = edges.log(node_id).splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def settings(folder: Path, text: str) -> Path:
    file = folder / "edge.toml"
    file.write_text(text)
    return file


# ---- Signals -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sigterm_drains_and_who_stays_is_served_to_the_bound(edges: Edges, tmp_path: Path) -> None:
    edge = edges.start(
        "edge", "--config", str(settings(tmp_path, "drain_ms_max = 3000\nlog_level = 'debug'\n"))
    )
    viewers = [watch(edge, scheme) for scheme in ("moqt", "https")]
    publisher = publish(edge)
    with killed_at_end(publisher, *viewers):
        wait_until(lambda: are_served(edge, 2), "the viewers get the film")
        assert edge.get("/readyz").status_code == 200
        edge.process.send_signal(signal.SIGTERM)
        wait_until(lambda: edge.get("/readyz").status_code == 503, "not ready at once")
        before = objects_out(edge)
        assert edge.get("/livez").status_code == 200
        assert edge.status()["agent"]["draining"]
        wait_until(lambda: objects_out(edge) > before + 20, "who finds no other edge is served on")
        assert edge.process.wait(SOON_SECONDS) == 0
        for viewer in viewers:
            assert says(viewer, "connection lost: the edge is going away")
            viewer.send_signal(signal.SIGTERM)
            report = figures(viewer)
            assert report["frames"] > 50
            assert report["missing"] == report["gaps"] == 0
    log = events_logged(edges, "edge")
    words = [line["event"] for line in log]
    assert [word for word in words if word in ("draining", "stopped")] == ["draining", "stopped"]
    sent_away = [line for line in log if line.get("reason") == "edge edge is going away"]
    assert len(sent_away) >= 3, "GOAWAY made everybody look for another edge, and here is none"


def test_a_drain_ends_when_everybody_has_gone(edges: Edges, tmp_path: Path) -> None:
    edge = edges.start("edge", "--config", str(settings(tmp_path, LONG_DRAIN)))
    clients = [publish(edge), watch(edge)]
    with killed_at_end(*clients):
        wait_until(lambda: objects_out(edge) > 10, "the viewer gets the film")
        edge.process.send_signal(signal.SIGTERM)
        wait_until(lambda: edge.status()["agent"]["draining"], "it drains")
        for client in clients:
            client.send_signal(signal.SIGTERM)
        assert edge.process.wait(SOON_SECONDS) == 0
        assert [end(client).code for client in clients] == [0, 0]


def test_an_edge_that_another_one_fetches_nothing_from_drains_at_once(circle: tuple[Edge, Edge]) -> None:
    with killed_at_end(waiting := watch(circle[0])):
        wait_until(lambda: is_asked(circle[1]), "a viewer waits, and its edge asks the other")
        waiting.send_signal(signal.SIGTERM)
        waiting.wait()
    begin = time.monotonic()
    assert [edge.stop() for edge in reversed(circle)] == [0, 0]
    assert time.monotonic() - begin < 8, "and not only after drain_ms_max"


def test_a_second_sigterm_ends_it_at_once(edges: Edges, tmp_path: Path) -> None:
    edge = edges.start("edge", "--config", str(settings(tmp_path, LONG_DRAIN)))
    with killed_at_end(publish(edge), viewer := watch(edge)):
        wait_until(lambda: objects_out(edge) > 10, "the viewer gets the film")
        edge.process.send_signal(signal.SIGTERM)
        wait_until(lambda: edge.status()["agent"]["draining"], "it drains")
        assert viewer.poll() is None
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(5) == 1
    assert events_logged(edges, "edge")[-2]["event"] == "stopping before the drain is done"


def test_sighup_takes_over_a_good_configuration_and_keeps_the_old_one_in_place_of_a_bad_one(
    edges: Edges, tmp_path: Path
) -> None:
    file = settings(tmp_path, "drain_ms_max = 2000\n")
    edge = edges.start("edge", "--config", str(file))

    def logged(event: str) -> list[dict[str, Any]]:
        return [line for line in events_logged(edges, "edge") if line["event"] == event]

    file.write_text('drain_ms = 3000\nlog_level = "loud"\n')
    edge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: logged("new configuration refused, the old one stays"), "refused")
    (refusal,) = logged("new configuration refused, the old one stays")
    assert refusal["level"] == "error"
    assert [line.removeprefix(f"{file}:") for line in refusal["errors"]] == [
        "1: unknown key 'drain_ms'; did you mean 'drain_ms_max'?",
        "2: log_level: 'loud' is not one of debug, info, warning, error",
    ]
    assert edge.get("/readyz").status_code == 200

    file.write_text("drain_ms_max = 3000\ndrafts = [18]\n")
    edge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: logged("configuration reloaded"), "taken over")
    (reload,) = logged("configuration reloaded")
    assert reload["changed"] == {"drain_ms_max": ["2000", "3000"]}, "from the first one, not the refused one"
    assert reload["needs_restart"] == ["drafts"]
    assert edge.status()["drafts"] == [18, 16]


# ---- What it tells -----------------------------------------------------------------------------------


def test_health_certificate_hash_and_metrics_are_told(edges: Edges) -> None:
    origin = edges.start("origin")
    egress = edges.start("egress", "--upstream", f"live=farcast://{origin.listen}")
    told = httpx.get(f"http://{egress.listen}/certificate.sha256", timeout=SOON_SECONDS)
    assert told.text == egress.cert_sha256
    assert told.headers["access-control-allow-origin"] == "*"
    with killed_at_end(publish(origin), watch(egress)):
        wait_until(lambda: objects_out(egress) > 10, "media crosses the hop")
        families = {f.name: f for f in text_string_to_metric_families(egress.get("/metrics").text)}
    assert families["farcast_hop_chunks_received"].samples[0].labels == {"peer": "origin"}
    assert families["farcast_hop_chunks_received"].samples[0].value > 0
    assert families["farcast_ready"].samples[0].value == 1
    for name, family in families.items():
        assert name.startswith("farcast_"), name
        assert family.documentation, name
        assert family.type in ("counter", "gauge", "histogram", "info"), name
        assert not name.endswith(OTHER_UNITS), f"{name}: base units are {BASE_UNITS}"
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


# ---- Others that end and begin -------------------------------------------------------------------------


@pytest.mark.slow
def test_viewers_go_on_with_a_publisher_that_was_killed_and_started_again(
    edges: Edges, tmp_path: Path
) -> None:
    origin = edges.start("origin")
    egress = edges.start("egress", "--upstream", f"live=farcast://{origin.listen}")
    films = {edge.listen: tmp_path / f"film{number}.mp4" for number, edge in enumerate((origin, egress))}
    viewers = [watch(edge, "moqt", "--out", str(films[edge.listen])) for edge in (origin, egress)]
    first = publish(origin)
    with killed_at_end(first, *viewers):
        # Long enough for the new film's numbers to lie below when it is taken up, a second later.
        wait_until(
            lambda: are_served(origin, 2, LONG_FILM) and are_served(egress, 1, LONG_FILM),
            "the viewers get the film",
        )
        first.kill()
        first.wait()
        old = [max(d["downstream"] for d in downstreams(edge)) for edge in (origin, egress)]
        with killed_at_end(publish(origin)):
            wait_until(
                lambda: are_served(origin, 2, after=old[0]) and are_served(egress, 1, after=old[1]),
                "the viewers get the new film",
            )
            for viewer in viewers:
                viewer.send_signal(signal.SIGTERM)
            outcomes = [end(viewer) for viewer in viewers]
    for outcome, film in zip(outcomes, films.values(), strict=True):
        check_went_on(outcome, film)
    assert "malformed" not in edges.log("origin") + edges.log("egress")


def check_went_on(outcome: Outcome, film: Path) -> None:
    """A viewer has seen the publisher start over, and missed and misunderstood nothing."""
    assert outcome.code == 0, outcome.err
    assert "track video starts over" in outcome.err
    assert "malformed" not in outcome.err
    report = json.loads(outcome.out)
    assert report["missing"] == 0
    assert report["objects_malformed"] == 0
    written = int(outcome.err.rpartition(f"{film}: ")[2].split()[0])
    assert written > 0.9 * report["frames"], "the recording went on as well"


# ---- Circles ---------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that is free for UDP and TCP, and that nobody gets who asks for any."""
    begin = os.getpid() % len(RESERVED_PORTS)
    ports: list[int] = [*RESERVED_PORTS[begin:], *RESERVED_PORTS[:begin]]
    return next(port for port in ports if is_free(port))


def is_free(port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


@pytest.fixture
def circle(edges: Edges) -> tuple[Edge, Edge]:
    """Two edges, each the other's upstream for everything."""
    listen = f"127.0.0.1:{free_port()}"
    one = edges.start("one", "--upstream", f"=farcast://{listen}")
    two = edges.start("two", "--upstream", f"=farcast://{one.listen}", listen=listen)
    return one, two


def connection(edge: Edge, number: int) -> ConnectionConfig:
    tls = ClientTls(fingerprints=[bytes.fromhex(edge.cert_sha256)])
    target = Target("quic", edge.listen, "localhost", tls, authority=edge.listen)
    return ConnectionConfig(target, first_id=first_id(number))


def traffic(edge: Edge) -> dict[str, int]:
    totals: dict[str, int] = edge.status()["datapath"]["totals"]
    return totals


START_SECONDS = 1.5
"""A hop that was asked for something sends heartbeats close together for a second: then comes what lasts."""


def test_a_track_that_nobody_has_is_refused_quickly_and_its_request_does_not_circle(
    circle: tuple[Edge, Edge],
) -> None:
    namespace = TrackNamespace.parse("no/body")
    viewers = [
        Viewer(ViewerConfig(connection(edge, number), namespace, first_id=first_id(number)))
        for number, edge in enumerate(circle)
    ]
    crowd = Crowd(viewers)
    refused: list[int] = []
    for viewer in viewers:
        viewer.start(crowd.now_us())
        viewer.subscribe(b"video", crowd.now_us())

    def note(number: int, event: Any) -> None:
        if isinstance(event, Waiting):
            refused.append(number)

    crowd.run(5, note, until=lambda: set(refused) == {0, 1})
    assert set(refused) == {0, 1}, "refused, not left waiting"
    crowd.run(START_SECONDS, note)
    before = [traffic(edge) for edge in circle]
    crowd.run(2, note)
    after = [traffic(edge) for edge in circle]
    crowd.close()
    for old, new in zip(before, after, strict=True):
        assert new["events"] - old["events"] < 200
        assert new["udp_datagrams_out"] - old["udp_datagrams_out"] < 300
        assert new["objects_out"] == new["objects_in"] == 0


def test_a_film_in_a_circle_of_edges_is_forwarded_once(circle: tuple[Edge, Edge]) -> None:
    namespace = TrackNamespace.parse(NAMESPACE)
    objects = 50
    publisher = Publisher(PublisherConfig(connection(circle[0], 0), namespace, first_id=first_id(0)))
    viewers = [
        Viewer(ViewerConfig(connection(edge, 1 + number), namespace, first_id=first_id(1 + number)))
        for number, edge in enumerate(circle)
    ]
    crowd = Crowd([publisher, *viewers])
    publisher.add_track(b"video")
    accepted: list[int] = []
    arrived: list[list[int]] = [[], [], []]

    def note(number: int, event: Any) -> None:
        if isinstance(event, NamespaceAccepted):
            accepted.append(number)
        elif isinstance(event, ObjectReceived):
            arrived[number].append(event.object)

    publisher.start(crowd.now_us())
    crowd.run(5, note, until=lambda: bool(accepted))
    for viewer in viewers:
        viewer.start(crowd.now_us())
        viewer.subscribe(b"video", crowd.now_us())
    crowd.run(5, note, until=lambda: publisher.subscriptions(b"video") > 0)
    for number in range(objects):
        publisher.publish(b"video", 0, number, bytes(2_000))
        crowd.run(0.01, note)
    crowd.run(5, note, until=lambda: all(len(got) == objects for got in arrived[1:]))
    totals = [traffic(edge) for edge in circle]
    crowd.close()
    assert arrived[1:] == [list(range(objects))] * 2
    assert publisher.subscriptions(b"video") <= 1
    assert [total["objects_in"] for total in totals] == [objects, objects]
    assert totals[0]["objects_out"] == 2 * objects, "to its viewer and to the other edge"
    assert totals[1]["objects_out"] == objects, "to its viewer, and not back"


def test_a_namespace_that_only_comes_later_is_found_through_the_circle(circle: tuple[Edge, Edge]) -> None:
    viewer = watch(circle[1], "https", "--seconds", "1")
    with killed_at_end(viewer):
        wait_until(lambda: is_asked(circle[0]), "the viewer waits, and so does its edge")
        with killed_at_end(publish(circle[0])):
            report = figures(viewer)
    assert report["frames"] > 40
    assert report["missing"] == 0
