"""A film from a file through two edges and a bad hop to three viewers, by the commands that users type."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import av
import pytest
from edges import FARCAST, Edge, Edges

from farcast.clients.media.testfilm import FilmOptions, write_test_film
from farcast.proto._core import LinkConfig, UdpShaper

FILM_SECONDS = 60
LATE_SECONDS = 20
END_SECONDS_MAX = 30
NAMESPACE = "live/film"
HOP = LinkConfig(delay_us=40_000, loss=0.03, loss_burst=3.0)


def packets(file: Path) -> dict[str, list[bytes]]:
    """The encoded samples of each track, in decode order."""
    samples: dict[str, list[bytes]] = {}
    with av.open(str(file)) as film:
        for packet in film.demux():
            if packet.size:
                samples.setdefault(packet.stream.type, []).append(bytes(packet))
    return samples


def keyframes(file: Path) -> list[int]:
    """Indices of the video samples that begin a GOP."""
    with av.open(str(file)) as film:
        video = [packet for packet in film.demux(video=0) if packet.size]
    return [index for index, packet in enumerate(video) if packet.is_keyframe]


def start(*arguments: str) -> subprocess.Popen[str]:
    """A farcast command in the background."""
    return subprocess.Popen([FARCAST, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def watch(edge: Edge, scheme: str, out: Path) -> subprocess.Popen[str]:
    """A viewer that records until the film ends."""
    url = f"{scheme}://{edge.listen}"
    trust = ["--cert-sha256", edge.cert_sha256]
    return start("watch", url, "--namespace", NAMESPACE, "--out", str(out), "--json", *trust)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its figures, once it has ended well."""
    out, err = process.communicate(timeout=END_SECONDS_MAX)
    assert process.returncode == 0, err
    figures: dict[str, Any] = json.loads(out)
    return figures


@pytest.mark.slow
def test_a_film_with_b_frames_reaches_every_viewer_byte_for_byte_over_a_lossy_hop(
    edges: Edges, tmp_path: Path
) -> None:
    source = tmp_path / "film.mp4"
    write_test_film(source, FilmOptions(duration_s=FILM_SECONDS))
    origin = edges.start("origin")
    shaper = UdpShaper("127.0.0.1:0", origin.listen, HOP, HOP)
    egress = edges.start("egress", "--upstream", f"live=farcast://{shaper.local_addr}")
    names = {"quic": "moqt", "webtransport": "https", "late": "moqt"}
    recordings = {name: tmp_path / f"{name}.mp4" for name in names}

    viewers = {name: watch(egress, names[name], recordings[name]) for name in ("quic", "webtransport")}
    publisher = start(
        "publish", str(source), f"moqt://{origin.listen}", "--namespace", NAMESPACE,
        "--cert-sha256", origin.cert_sha256, "--json",
    )  # fmt: skip
    time.sleep(LATE_SECONDS)
    viewers["late"] = watch(egress, names["late"], recordings["late"])
    publisher.wait(FILM_SECONDS + END_SECONDS_MAX)
    published = finish(publisher)
    figures = {name: finish(viewer) for name, viewer in viewers.items()}
    lost = shaper.stats()
    shaper.close()
    for name, figure in figures.items():
        print(name, json.dumps(figure))
    print("published", published, "shaper", lost)

    sent, boundaries = packets(source), keyframes(source)
    for name in ("quic", "webtransport"):
        assert figures[name]["frames"] == published["frames"], f"{name}: every frame once"
        recorded = packets(recordings[name])
        assert recorded["video"] == sent["video"], f"{name}: every sample in order, unchanged"
        # AAC's first frame comes before the first picture, with which a recording begins.
        assert recorded["audio"] == sent["audio"][1:]
    late = packets(recordings["late"])
    missed = len(sent["video"]) - len(late["video"])
    assert missed in boundaries, "the late viewer begins with a GOP"
    assert 0 < missed <= LATE_SECONDS * 30
    assert late["video"] == sent["video"][missed:]
    assert late["audio"] == sent["audio"][-len(late["audio"]) :]
    faults = [(figure["missing"], figure["gaps"]) for figure in figures.values()]
    assert faults == [(0, 0)] * len(figures)
