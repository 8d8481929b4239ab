"""Publisher and viewer through one real edge on loopback, on every transport and draft."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest
import trio

from farcast.clients import roaming, running, server, watch
from farcast.clients.ledger import FrameLedger
from farcast.clients.media.encoders import parse_renditions
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.watch import Watcher, WatchOptions
from farcast.edge.config import load_config
from farcast.edge.node import EdgeNode, open_edge
from farcast.errors import UserError
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import parse_url
from farcast.remote import Trust

NAMESPACE = TrackNamespace.parse("live/test")
FILM = TestSourceOptions(width=320, height=180, gop_s=0.5, duration_s=1.5)


def with_edge(scenario: Callable[[EdgeNode], Awaitable[None]]) -> None:
    async def main() -> None:
        flags = {"dev_cert": True, "auth.mode": "open", "listen": "127.0.0.1:0", "ops": "127.0.0.1:0"}
        node = await open_edge(load_config(flags=flags))
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run)
                await scenario(node)
                node.stop()

    trio.run(main)


def server_of(node: EdgeNode, scheme: str = "moqt", draft: int = 18, trust: Trust | None = None) -> Server:
    path = "/" if scheme == "https" else ""
    trust = Trust(fingerprints=(node.credentials.public.sha256,)) if trust is None else trust
    return Server(parse_url(f"{scheme}://{node.listen}{path}"), trust, (draft,))


def film() -> TestSource:
    return TestSource(FILM, lambda: time.time_ns() // 1000)


def quiet(_: str) -> None:
    """Remarks are not looked at."""


def only_error(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        (group,) = group.exceptions
    return group


@pytest.mark.parametrize(("scheme", "draft"), list(itertools.product(("moqt", "https"), (16, 18))))
def test_every_frame_arrives_once_in_order_and_unchanged(scheme: str, draft: int, tmp_path: Path) -> None:
    ledger = FrameLedger()
    out = tmp_path / "film.mp4"

    async def scenario(node: EdgeNode) -> None:
        options = PublishOptions(server_of(node, scheme, draft), NAMESPACE)
        watcher = Watcher(
            WatchOptions(server_of(node, scheme, draft), NAMESPACE, out), note=quiet, on_frame=ledger.received
        )
        async with trio.open_nursery() as nursery:
            accepted = trio.Event()

            async def play() -> None:
                await publish(film(), options, note=quiet, on_frame=ledger.published, accepted=accepted)

            nursery.start_soon(play)
            await accepted.wait()
            report = await watcher.run()
        assert report.first_picture_ms is not None
        assert report.missing == report.gaps == 0

    with_edge(scenario)
    assert ledger.is_intact
    assert ledger.frames_intact == 45 + 75
    with av.open(str(out)) as recording:
        assert sum(packet.size > 0 for packet in recording.demux(video=0)) == 45


def test_a_film_in_layers_arrives_whole_and_in_the_order_of_decoding(tmp_path: Path) -> None:
    ledger = FrameLedger()
    out = tmp_path / "film.mp4"

    async def scenario(node: EdgeNode) -> None:
        watcher = Watcher(WatchOptions(server_of(node), NAMESPACE, out), note=quiet, on_frame=ledger.received)
        async with trio.open_nursery() as nursery:
            accepted = trio.Event()

            async def play() -> None:
                source = TestSource(replace(FILM, layers=2), lambda: time.time_ns() // 1000)
                options = PublishOptions(server_of(node), NAMESPACE)
                await publish(source, options, note=quiet, on_frame=ledger.published, accepted=accepted)

            nursery.start_soon(play)
            await accepted.wait()
            report = await watcher.run()
        assert report.missing == report.gaps == 0

    with_edge(scenario)
    assert ledger.is_intact
    assert ledger.frames_intact == 45 + 75
    with av.open(str(out)) as recording:
        assert sum(1 for _ in recording.decode(video=0)) == 45


def test_a_viewer_goes_up_to_the_rendition_that_its_link_carries_without_losing_a_picture() -> None:
    ladder = parse_renditions("180p:2M,90p:150k")
    notes: list[str] = []

    async def scenario(node: EdgeNode) -> None:
        watcher = Watcher(WatchOptions(server_of(node), NAMESPACE), note=notes.append)
        async with trio.open_nursery() as nursery:
            accepted = trio.Event()

            async def play() -> None:
                source = TestSource(
                    replace(FILM, renditions=ladder, duration_s=6), lambda: time.time_ns() // 1000
                )
                options = PublishOptions(server_of(node), NAMESPACE)
                await publish(source, options, note=quiet, accepted=accepted)

            nursery.start_soon(play)
            await accepted.wait()
            report = await watcher.run()
        assert report.missing == report.gaps == 0
        low, high = report.tracks["video-90p"], report.tracks["video-180p"]
        assert min(low.frames, high.frames) >= 30
        assert low.frames + high.frames == 180

    with_edge(scenario)
    assert "now in video-180p" in notes


def test_one_rendition_is_watched_where_one_is_asked_for() -> None:
    ladder = parse_renditions("180p:2M,90p:150k")

    async def scenario(node: EdgeNode) -> None:
        watcher = Watcher(WatchOptions(server_of(node), NAMESPACE, quality="best"), note=quiet)
        async with trio.open_nursery() as nursery:
            accepted = trio.Event()

            async def play() -> None:
                source = TestSource(replace(FILM, renditions=ladder), lambda: time.time_ns() // 1000)
                options = PublishOptions(server_of(node), NAMESPACE)
                await publish(source, options, note=quiet, accepted=accepted)

            nursery.start_soon(play)
            await accepted.wait()
            report = await watcher.run()
        assert report.tracks.keys() == {"video-180p", "audio"}
        assert report.tracks["video-180p"].frames == 45

    with_edge(scenario)


def test_a_viewer_waits_for_a_namespace_that_is_not_there_yet() -> None:
    notes: list[str] = []

    async def scenario(node: EdgeNode) -> None:
        watcher = Watcher(WatchOptions(server_of(node), NAMESPACE, seconds=0.2), note=notes.append)
        async with trio.open_nursery() as nursery:

            async def play_later() -> None:
                while not any("nobody publishes it yet" in note for note in notes):
                    await trio.sleep(0.01)
                await publish(film(), PublishOptions(server_of(node), NAMESPACE), note=quiet)

            nursery.start_soon(play_later)
            report = await watcher.run()
        assert report.frames > 0

    with_edge(scenario)


def test_a_namespace_that_never_comes_is_one_line() -> None:
    async def scenario(node: EdgeNode) -> None:
        watcher = Watcher(WatchOptions(server_of(node), NAMESPACE, timeout_s=0.3), note=quiet)
        with pytest.raises(BaseExceptionGroup) as caught:
            await watcher.run()
        error = only_error(caught.value)
        assert isinstance(error, UserError)
        assert "nobody publishes" in error.message
        assert "live/test" in error.message
        assert "\n" not in error.message

    with_edge(scenario)


def test_a_certificate_that_is_not_trusted_is_one_line_with_the_remedy() -> None:
    async def scenario(node: EdgeNode) -> None:
        mistrusted = server_of(node, trust=Trust(fingerprints=(bytes(32),)))
        with pytest.raises(BaseExceptionGroup) as caught:
            await publish(film(), PublishOptions(mistrusted, NAMESPACE), note=quiet)
        error = only_error(caught.value)
        assert isinstance(error, UserError)
        assert "certificate" in error.message
        assert "--cert-sha256" in error.message

    with_edge(scenario)


@pytest.mark.parametrize("tool", ["publish", "watch"])
def test_an_edge_that_is_not_there_is_one_line(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (server, watch, roaming):
        monkeypatch.setattr(module, "CONNECT_SECONDS_MAX", 0.3)
    nobody = Server(parse_url("moqt://127.0.0.1:9"), Trust(insecure=True))

    async def main() -> None:
        with trio.fail_after(10):
            if tool == "publish":
                await publish(film(), PublishOptions(nobody, NAMESPACE), note=quiet)
            else:
                await Watcher(WatchOptions(nobody, NAMESPACE), note=quiet).run()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    error = only_error(caught.value)
    assert isinstance(error, UserError)
    assert error.message == ("no answer from 127.0.0.1:9 within 0.3 s (is the edge running, is UDP open?)")


def test_cancelling_the_play_still_delivers_and_ends_the_film() -> None:
    ledger = FrameLedger()

    async def scenario(node: EdgeNode) -> None:
        playing = trio.CancelScope()
        watcher = Watcher(WatchOptions(server_of(node), NAMESPACE), note=quiet, on_frame=ledger.received)
        async with trio.open_nursery() as nursery:

            async def play() -> None:
                await publish(
                    film(),
                    PublishOptions(server_of(node), NAMESPACE),
                    note=quiet,
                    on_frame=ledger.published,
                    playing=playing,
                )

            nursery.start_soon(play)

            async def cancel() -> None:
                while ledger.frames_intact < 20:
                    await trio.sleep(0.01)
                playing.cancel()

            nursery.start_soon(cancel)
            await watcher.run()

    with_edge(scenario)
    assert ledger.is_intact


def test_running_closes_the_datapath_when_its_block_fails() -> None:
    closed: list[bool] = []

    class Nothing:
        def start(self, now_us: int) -> None: ...
        def close(self, now_us: int, reason: str = "") -> None:
            closed.append(True)

        def handle_event(self, event: object, now_us: int) -> None: ...
        def handle_timeout(self, now_us: int) -> None: ...
        def poll_command(self) -> None: ...
        def poll_timeout(self) -> None: ...

    async def main() -> None:
        from farcast.edge.driver import Driver
        from farcast.proto._core import DatapathConfig, Runtime

        async with running.running(Driver(Runtime("127.0.0.1:0", DatapathConfig()), Nothing())):
            raise ZeroDivisionError

    with pytest.raises(BaseExceptionGroup):
        trio.run(main)
    assert closed == [True]
