"""A publisher whose uplink is too narrow for its pictures, by the commands that users type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import end, figures, killed_at_end, start
from edges import Edges

from farcast.clients.media.testfilm import FilmOptions, write_test_film
from farcast.proto._core import LinkConfig, UdpShaper

NAMESPACE = "live/film"
FILM = "testsrc=size=640x360:fps=30:bitrate=600000:gop=1"
NARROW = LinkConfig(delay_us=20_000, rate_bps=420_000, queue_bytes=40_000)
VERY_NARROW = NARROW.replace(rate_bps=200_000)
SECONDS = 12


@pytest.mark.slow
def test_pictures_are_encoded_at_what_the_uplink_carries(edges: Edges, tell: Callable[[str], None]) -> None:
    edge = edges.start("origin")
    shaper = UdpShaper("127.0.0.1:0", edge.listen, NARROW, LinkConfig(delay_us=20_000))
    url, trust = f"moqt://{shaper.local_addr}", ["--cert-sha256", edge.cert_sha256]
    seconds = ["--seconds", str(SECONDS), "--json"]
    where = ["--namespace", NAMESPACE, *trust, "--no-edge-list"]
    publisher = start("publish", FILM, url, *where, *seconds)
    with killed_at_end(publisher):
        viewer = start("watch", f"moqt://{edge.listen}", *where, "--json")
        with killed_at_end(viewer):
            seen = figures(viewer, SECONDS + 30)
        outcome = end(publisher)
    shaper.close()
    published = json.loads(outcome.out.splitlines()[-1])
    tell(f"published: {json.dumps(published)}; seen: {json.dumps(seen)}")

    assert published["rate_share_min"] < 0.7
    assert "pictures waited more than 250 ms for the uplink" in outcome.err
    assert seen["tracks"]["audio"]["missing"] == 0, "sound is never given up"


@pytest.mark.slow
def test_a_film_that_is_not_encoded_here_is_told_to_be_too_much_for_the_uplink(
    edges: Edges, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    write_test_film(film, FilmOptions(duration_s=12))
    edge = edges.start("origin")
    shaper = UdpShaper("127.0.0.1:0", edge.listen, VERY_NARROW, LinkConfig(delay_us=20_000))
    where = ["--namespace", NAMESPACE, "--cert-sha256", edge.cert_sha256, "--no-edge-list"]
    publisher = start("publish", str(film), f"moqt://{shaper.local_addr}", *where, "--json")
    with killed_at_end(publisher):
        viewer = start("watch", f"moqt://{edge.listen}", *where, "--json")
        with killed_at_end(viewer):
            figures(viewer, 60)
        outcome = end(publisher)
    shaper.close()
    assert outcome.err.count("--transcode would let its rate follow") == 1
    assert json.loads(outcome.out.splitlines()[-1])["rate_share_min"] == 1.0
