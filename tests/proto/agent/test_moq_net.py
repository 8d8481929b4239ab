"""Clients of the moq-dev family are told by the name in their SETUP, whatever they offer."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.proto._core import Event
from farcast.proto.agent.link import ControlLink
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.values import LARGEST_OBJECT, SetupOptions

from .raw import RawClient
from .world import World


class NamedClient(RawClient):
    """A client that says its name in SETUP."""

    def __init__(self, *args: Any, implementation: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._implementation = implementation

    def handle_event(self, event: Any, now_us: int) -> None:
        if isinstance(event, Event.SessionOpened):
            self._link = ControlLink(event, SetupOptions(implementation=self._implementation))
        else:
            super().handle_event(event, now_us)


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
    client = NamedClient(edge, kind="webtransport", drafts=(16,), implementation=implementation)
    world.add("client", client).offered = ["moqt-16"]
    world.run(50)
    client.session.subscribe(FullTrackName.of("live/a", "video"), filter=LARGEST_OBJECT)
    world.run(50)
    assert list(edge.downstreams.values())[-1].start == start
