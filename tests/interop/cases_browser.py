"""An ordinary browser over WebTransport and draft 16: moq-dev's libraries in headless Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from . import ours
from .browser import Browser, Page, headless_chromium
from .films import expect_moving
from .network import PREFIX, Network, over_the_hop, two_edges
from .results import Case, Group, expect
from .tools import WATCH_SECONDS, farcast_publish, farcast_watch

DRAFT = 16
OBJECTS = 25
READINGS = 8
READING_SECONDS = 0.4
FRAMES_PER_SECOND = 30
LAG_FRAMES_MAX = 3 * FRAMES_PER_SECOND
"""How far a picture on the canvas may be behind another viewer's on this busy machine."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the cases here share."""

    network: Network
    browser: Browser
    folder: Path

    async def expect_browser(self, *, publishing: bool = False) -> None:
        """`Unmet` unless the browser is connected where it should be, with draft 16."""
        server = self.network.origin if publishing else self.network.viewer
        await server.expect_session("moq-lite-js", "webtransport", DRAFT)


def browser_group(folder: Path) -> Group[Stage]:
    """All cases with a browser."""

    @asynccontextmanager
    async def open_stage() -> AsyncIterator[Stage]:
        async with two_edges(folder, (18, 16), (18, 16)) as network, headless_chromium(folder) as browser:
            yield Stage(network, browser, folder)

    return Group(open_stage, [Case(name, over_the_hop(run)) for name, run in CASES.items()])


async def net_subscribes(stage: Stage, *, pinned: bool = True) -> str:
    namespace = f"{PREFIX}/net-subscribes-{pinned}"
    network = stage.network
    async with (
        ours.publishing(network.origin, "quic", 18, namespace),
        stage.browser.page("net-subscribe", network.viewer, namespace, pinned=pinned) as page,
    ):
        await page.wait_for(f"window.interop.objects.length >= {OBJECTS}")
        await stage.expect_browser()
        received = await page.evaluate("window.interop.objects")
    return ours.expect_exact([(group, object, sha256) for group, object, sha256 in received])


async def net_subscribes_unpinned(stage: Stage) -> str:
    return await net_subscribes(stage, pinned=False)


async def net_publishes(stage: Stage) -> str:
    namespace = f"{PREFIX}/net-publishes"
    network = stage.network
    async with stage.browser.page("net-publish", network.origin, namespace):
        received = await ours.receive(network.viewer, "quic", 18, namespace, OBJECTS)
        await stage.expect_browser(publishing=True)
    return ours.expect_exact(received)


async def watch_plays(stage: Stage, *, pinned: bool = True) -> str:
    namespace = f"{PREFIX}/watch-plays-{pinned}"
    network = stage.network
    async with (
        farcast_publish(network.origin, "quic", namespace, stage.folder, 18),
        stage.browser.page("watch", network.viewer, namespace, pinned=pinned) as page,
    ):
        numbers = await read_numbers(page)
        await stage.expect_browser()
        await page.screenshot(stage.folder / "watch.png")
    return f"pictures {numbers}"


async def watch_plays_unpinned(stage: Stage) -> str:
    return await watch_plays(stage, pinned=False)


async def watch_joins_late(stage: Stage) -> str:
    """A film that runs for seconds, with a browser and ``farcast watch`` already there."""
    namespace = f"{PREFIX}/watch-joins-late"
    network, browser = stage.network, stage.browser
    async with (
        farcast_publish(network.origin, "quic", namespace, stage.folder, 18),
        browser.page("watch", network.viewer, namespace) as first,
    ):
        before = await read_numbers(first)
        await farcast_watch(network.viewer, "webtransport", namespace, stage.folder, DRAFT)
        joined = trio.current_time()
        async with browser.page("watch", network.viewer, namespace) as second:
            number = await wait_for_picture(second)
            waited_s = trio.current_time() - joined
            other = await wait_for_picture(first)
            expect(abs(other - number) <= LAG_FRAMES_MAX, f"picture {number}, the other viewer has {other}")
            numbers = await read_numbers(second)
            await second.screenshot(stage.folder / "watch-late.png")
    return f"first viewer {before[0]} to {other}, second after {waited_s:.1f} s: {numbers}"


async def camera_is_watched(stage: Stage) -> str:
    namespace = f"{PREFIX}/camera"
    network = stage.network
    async with stage.browser.page("publish", network.origin, namespace) as page:
        film, figures = await farcast_watch(network.viewer, "quic", namespace, stage.folder, 18)
        await stage.expect_browser(publishing=True)
        await page.screenshot(stage.folder / "publish.png")
    return f"{expect_moving(film, 10 * WATCH_SECONDS)}, bit rate {figures['bitrate'] // 1000} kbit/s"


async def wait_for_picture(page: Page) -> int:
    """The number in the picture, as soon as there is a readable one."""
    while (number := await page.frame_number()) is None:
        await page.wait_for("true")
        await trio.sleep(0.05)
    return number


async def read_numbers(page: Page) -> list[int]:
    """Numbers in the picture at several moments; `Unmet` unless it goes on, about as fast as the film."""
    numbers = [await wait_for_picture(page)]
    started = trio.current_time()
    for _ in range(READINGS):
        await trio.sleep(READING_SECONDS)
        numbers.append(await wait_for_picture(page))
    expected = (trio.current_time() - started) * FRAMES_PER_SECOND
    expect(numbers == sorted(numbers), f"the film goes back: {numbers}")
    expect(len(set(numbers)) > READINGS // 2, f"the film stands still: {numbers}")
    expect(numbers[-1] - numbers[0] > expected / 2, f"the film is too slow: {numbers}")
    return numbers


CASES: dict[str, Callable[[Stage], Awaitable[str]]] = {
    "our publisher -> @moq/net": net_subscribes,
    "our publisher -> @moq/net with its own offer": net_subscribes_unpinned,
    "@moq/net -> our viewer": net_publishes,
    "farcast publish -> @moq/watch": watch_plays,
    "farcast publish -> @moq/watch with its own offer": watch_plays_unpinned,
    "farcast publish -> @moq/watch late, after two others": watch_joins_late,
    "@moq/publish (camera) -> farcast watch": camera_is_watched,
}
