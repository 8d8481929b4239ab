"""A film from a file through two edges and a bad hop to three viewers, by the commands that users type."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import figures, killed_at_end, start
from edges import Edge, Edges
from films import has_b_frames, is_tail, keyframes, packets

from farcast.clients.media.testfilm import FilmOptions, write_test_film
from farcast.proto._core import LinkConfig, UdpShaper

FILM_SECONDS = 60
LATE_SECONDS = 20
END_SECONDS_MAX = 30
NAMESPACE = "live/film"
HOP = LinkConfig(delay_us=40_000, loss=0.03, loss_burst=3.0)


def watch(edge: Edge, scheme: str, out: Path) -> subprocess.Popen[str]:
    """A viewer that records until the film ends."""
    url = f"{scheme}://{edge.listen}"
    trust = ["--cert-sha256", edge.cert_sha256]
    return start("watch", url, "--namespace", NAMESPACE, "--out", str(out), "--json", *trust)


def publish(edge: Edge, film: Path) -> subprocess.Popen[str]:
    """The publisher of the film."""
    url = f"moqt://{edge.listen}"
    trust = ["--cert-sha256", edge.cert_sha256]
    return start("publish", str(film), url, "--namespace", NAMESPACE, "--json", *trust)


@pytest.mark.slow
def test_a_film_with_b_frames_reaches_every_viewer_byte_for_byte_over_a_lossy_hop(
    edges: Edges, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    film = tmp_path / "film.mp4"
    write_test_film(film, FilmOptions(duration_s=FILM_SECONDS))
    assert has_b_frames(film)
    origin = edges.start("origin")
    shaper = UdpShaper("127.0.0.1:0", origin.listen, HOP, HOP)
    egress = edges.start("egress", "--upstream", f"live=farcast://{shaper.local_addr}")
    recordings = {name: tmp_path / f"{name}.mp4" for name in ("quic", "webtransport", "late")}

    viewers = {
        "quic": watch(egress, "moqt", recordings["quic"]),
        "webtransport": watch(egress, "https", recordings["webtransport"]),
    }
    publisher = publish(origin, film)
    with killed_at_end(publisher, *viewers.values()):
        time.sleep(LATE_SECONDS)
        viewers["late"] = watch(egress, "moqt", recordings["late"])
        with killed_at_end(viewers["late"]):
            published = figures(publisher, FILM_SECONDS + END_SECONDS_MAX)
            reports = {name: figures(viewer, END_SECONDS_MAX) for name, viewer in viewers.items()}
    lost = shaper.stats()
    shaper.close()
    for name, report in [*reports.items(), ("published", published), ("shaper", lost)]:
        tell(f"{name}: {json.dumps(report)}")

    sent = packets(film)
    assert lost["forward"]["packets_lost"] > 0 < lost["backward"]["packets_lost"]
    for name in ("quic", "webtransport"):
        assert reports[name]["frames"] == published["frames"], f"{name}: every frame once"
        recorded = packets(recordings[name])
        assert recorded["video"] == sent["video"], f"{name}: every sample in order, unchanged"
        # AAC's priming frame comes before the first picture, with which a recording may begin.
        assert recorded["audio"] in (sent["audio"], sent["audio"][1:])
    late = packets(recordings["late"])
    missed = len(sent["video"]) - len(late["video"])
    assert missed in keyframes(film), "the late viewer begins with a GOP"
    assert 0 < missed <= LATE_SECONDS * 30
    assert is_tail(late["video"], sent["video"])
    assert is_tail(late["audio"], sent["audio"])
    assert all(report["missing"] == 0 for report in reports.values())
