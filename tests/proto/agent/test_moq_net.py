"""Clients of the moq-dev family are told by the name in their SETUP, whatever they offer."""

from __future__ import annotations

import pytest

from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.values import LARGEST_OBJECT

from .raw import RawClient
from .world import World


@pytest.mark.parametrize(
    ("implementation", "start"),
    [("moq-lite-js", (5, 0)), ("moq-lite-rs", (5, 0)), ("farcast/0.1", (5, 10))],
)
def test_a_client_that_pins_its_draft_still_gets_the_running_group_from_its_start(
    implementation: str, start: tuple[int, int]
) -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    world.viewer(edge, "live/a", "video")
    world.run(200)
    edge.media(edge.only_track(), 5, 9)
    client = RawClient(edge, kind="webtransport", drafts=(16,), implementation=implementation)
    world.add("client", client).offered = ["moqt-16"]
    world.run(50)
    client.session.subscribe(FullTrackName.of("live/a", "video"), filter=LARGEST_OBJECT)
    world.run(50)
    assert list(edge.downstreams.values())[-1].start == start
