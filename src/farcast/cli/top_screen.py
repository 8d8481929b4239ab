"""The live screen of ``farcast top``, by textual: four tables that are filled anew every interval.

The control plane is asked in a thread, so that a slow answer never stops the keys. One question is under way
at a time; while it fails, the last frame stays and the headline says why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from textual.app import App, ComposeResult, ScreenStackError
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Static
from textual.worker import Worker, WorkerState

from farcast.cli.top_frame import Frame, Table
from farcast.errors import UserError


class TopScreen(App[None]):
    """``take`` asks for a frame, and may raise `UserError`; every ``interval_s`` anew."""

    CSS = """
    DataTable { height: auto; margin-bottom: 1; }
    #headline { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("r", "refresh_now", "Ask now"),
        Binding("p", "pause", "Pause"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, take: Callable[[], Frame], interval_s: float) -> None:
        super().__init__()
        self._take = take
        self._interval_s = interval_s
        self._asking = False
        self._headline = "asking the control plane"
        self.paused = False
        self.frames = 0
        """Frames shown so far."""

    def compose(self) -> ComposeResult:
        """A headline, the tables, the keys."""
        yield Static(self._headline, id="headline", markup=False)
        yield VerticalScroll(id="tables")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to ask."""
        self.set_interval(self._interval_s, self._ask)
        self._ask()

    def action_refresh_now(self) -> None:
        """Ask although the interval is not over."""
        self._start()

    def action_pause(self) -> None:
        """Keep this frame, or go on."""
        self.paused = not self.paused
        self._say(self._headline)

    def _ask(self) -> None:
        if not self.paused:
            self._start()

    def _start(self) -> None:
        if not self._asking:
            self._asking = True
            self.run_worker(self._take_or_say, thread=True, exit_on_error=False)

    def _take_or_say(self) -> Frame | str:
        try:
            return self._take()
        except UserError as error:
            return error.message

    async def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """An answer is there, or will not come."""
        if event.state not in (WorkerState.SUCCESS, WorkerState.ERROR):
            return  # cancelled: the screen is being taken down
        self._asking = False
        with suppress(NoMatches, ScreenStackError):  # it came while the screen was being taken down
            match event.worker.result:
                case Frame() as frame:
                    await self._show(frame)
                case str(reason):
                    self._say(reason)
                case _:
                    self._say(str(event.worker.error or "no answer"))

    async def _show(self, frame: Frame) -> None:
        self._headline = frame.headline
        self._say(frame.headline)
        tables = self.query_one("#tables", VerticalScroll)
        for number, table in enumerate(frame.tables):
            found = self.query(f"#table-{number}").results(DataTable)
            widget = next(iter(found), None)
            if widget is None:
                await tables.mount(Static(id=f"title-{number}", markup=False))
                widget = DataTable[str](id=f"table-{number}", cursor_type="row", zebra_stripes=True)
                await tables.mount(widget)
                widget.add_columns(*table.columns)
            self.query_one(f"#title-{number}", Static).update(table.heading)
            _fill(widget, table)
        self.frames += 1

    def _say(self, text: str) -> None:
        paused = "  (paused)" if self.paused else ""
        self.query_one("#headline", Static).update(text + paused)


def _fill(widget: DataTable[str], table: Table) -> None:
    """New rows; where the user has scrolled to stays."""
    row = widget.cursor_row
    widget.clear()
    for cells in table.rows:
        widget.add_row(*cells)
    widget.move_cursor(row=min(row, max(len(table.rows) - 1, 0)))
