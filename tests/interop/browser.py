"""A headless Chromium with the pages in ``pages/``, through ``browser.mjs``."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from .children import Child, child
from .films import number_in_png
from .network import Server
from .results import Unmet

HERE = Path(__file__).parent
POLL_SECONDS = 0.1


class Page:
    """One open page, in a browser context of its own."""

    def __init__(self, browser: Browser, number: int) -> None:
        self._browser = browser
        self._number = number

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return await self._browser.command("evaluate", number=self._number, expression=expression)

    async def wait_for(self, expression: str) -> Any:
        """Its value as soon as that is true; `Unmet` if the page reports an error first."""
        while not (value := await self.evaluate(expression)):
            if error := await self.evaluate("window.interop.error"):
                raise Unmet(f"the page says: {error}")
            await trio.sleep(POLL_SECONDS)
        return value

    async def frame_number(self) -> int | None:
        """What is burnt into the picture on a player's canvas; None without a picture, or if unreadable."""
        png = await self.evaluate("window.interop.picture()")
        return None if png is None else number_in_png(base64.b64decode(png.partition(",")[2]))

    async def screenshot(self, path: Path) -> None:
        """Keep what the page looks like."""
        await self._browser.command("screenshot", number=self._number, path=str(path))

    async def close(self) -> None:
        """Close the page."""
        with trio.CancelScope(shield=True), trio.move_on_after(5):
            await self._browser.command("close", number=self._number)


class Browser:
    """A running browser. One command at a time."""

    def __init__(self, process: Child, version: str) -> None:
        self.version = version
        self._process = process
        self._serial = 0
        self._busy = trio.Lock()

    @asynccontextmanager
    async def page(
        self, name: str, server: Server, broadcast: str, *, pinned: bool = True
    ) -> AsyncIterator[Page]:
        """A page for the length of the block, pointed at a server over WebTransport.

        ``pinned``: it offers draft 16 only, else all that its library speaks.
        """
        query = {
            "server": f"{server.url('webtransport')}/",
            "certificate": server.cert_sha256,
            "broadcast": broadcast,
            "pinned": str(int(pinned)),
        }
        page = Page(self, await self.command("open", page=name, query=query))
        try:
            yield page
        finally:
            await page.close()

    async def command(self, what: str, **arguments: Any) -> Any:
        """Have a command of ``browser.mjs`` done; its result."""
        async with self._busy:
            self._serial += 1
            await self._process.tell({"id": self._serial, "do": what, **arguments})
            while (answer := await self._process.line()).get("id") != self._serial:
                pass
        if answer["event"] == "refused":
            raise Unmet(f"browser: {answer['reason']}")
        return answer["result"]


@asynccontextmanager
async def headless_chromium(folder: Path) -> AsyncIterator[Browser]:
    """A browser for the length of the block."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
    command: list[str | Path] = ["node", HERE / "browser.mjs"]
    async with child("browser", command, folder, environ={"CHROMIUM": executable}, stdin=True) as process:
        with trio.fail_after(90):
            ready = await process.event("ready")
        yield Browser(process, ready["version"])
