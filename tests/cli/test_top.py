"""``farcast top`` over a control plane's real API: one frame, one line, and the live screen."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from control_api import served
from control_world import World
from textual.widgets import DataTable, Static

from farcast.cli import main
from farcast.cli.control_api import control_api
from farcast.cli.top_frame import ROWS_MAX, Frame, frame_of, take_frame
from farcast.cli.top_screen import TopScreen
from farcast.errors import UserError

THREE = ("fra-1", "jkt-1", "sin-1")


@pytest.fixture
def world() -> World:
    world = World(THREE, lambda a, b: 80.0).run(6)
    world.offer("jkt-1", "live/film")
    return world.run(2)


@pytest.fixture
def state(world: World, tmp_path: Path) -> Iterator[Path]:
    with served(world, tmp_path):
        yield tmp_path


def test_once_prints_a_frame_with_all_four_tables(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["top", "--once", "--state-dir", str(state)]) == 0
    out, err = capsys.readouterr()
    assert "3 of 3 edges connected" in out
    for text in ("Edges (3)", "Links (6)", "Routes", "Busiest namespaces (1)", "live/film", "80.0 ms"):
        assert text in out
    assert err == ""


def test_json_is_one_line(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["top", "--json", "--state-dir", str(state)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert len(found["links"]) == 6
    assert found["namespaces"][0]["namespace"] == "live/film"
    assert {edge["node_id"] for edge in found["status"]["edges"]} == set(THREE)


def test_without_a_terminal_it_says_what_to_use(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["top", "--state-dir", str(state)]) == 2
    assert "--once" in capsys.readouterr().err


def test_without_a_control_plane_it_fails_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t").write_text("secret-token")
    tokens = ["top", "--once", "--api", "127.0.0.1:1", "--token-file", str(tmp_path / "t")]
    assert main.run(tokens) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "secret-token" not in err


async def until(condition: Callable[[], bool], pause: Callable[[float], object]) -> None:
    for _ in range(500):
        if condition():
            return
        await pause(0.02)  # type: ignore[misc]  # textual's pilot
    raise AssertionError("it did not come to that")


def test_the_screen_fills_its_tables_and_pauses_and_ends(state: Path) -> None:
    control = control_api(state, None, None)
    app = TopScreen(lambda: take_frame(control), 0.05)

    async def use() -> None:
        async with app.run_test(size=(120, 60)) as pilot:
            await until(lambda: app.frames >= 2, pilot.pause)
            assert app.query_one("#table-0", DataTable).row_count == 3
            assert app.query_one("#table-1", DataTable).row_count == 6
            assert "3 of 3 edges connected" in str(app.query_one("#headline", Static).render())
            await pilot.press("p")
            assert app.paused
            assert "(paused)" in str(app.query_one("#headline", Static).render())
            await pilot.press("q")
        assert app.return_code == 0

    asyncio.run(use())


def test_a_control_plane_that_goes_leaves_the_last_frame_and_a_reason(state: Path) -> None:
    control = control_api(state, None, None)
    is_gone = False

    def take() -> Frame:
        if is_gone:
            raise UserError("no control plane answers")
        return take_frame(control)

    app = TopScreen(take, 0.05)

    async def use() -> None:
        nonlocal is_gone
        async with app.run_test(size=(120, 60)) as pilot:
            await until(lambda: app.frames >= 1, pilot.pause)
            is_gone = True
            headline = app.query_one("#headline", Static)
            await until(lambda: "no control plane answers" in str(headline.render()), pilot.pause)
            assert app.query_one("#table-0", DataTable).row_count == 3

    asyncio.run(use())


def test_a_table_has_a_bound_and_says_what_is_beyond(state: Path) -> None:
    answers = dict(take_frame(control_api(state, None, None)).answers)
    link = answers["/links"]["links"][0]
    answers["/links"] = {"links": [link] * (ROWS_MAX + 7)}
    links = frame_of(answers).tables[1]
    assert len(links.rows) == ROWS_MAX
    assert links.heading == f"Links ({ROWS_MAX}, 7 more)"


def test_the_worst_link_is_the_first(state: Path) -> None:
    answers = dict(take_frame(control_api(state, None, None)).answers)
    good = answers["/links"]["links"][0]
    lossy = {**good, "src": "a", "dst": "b", "loss": 0.3}
    silent = {**good, "src": "c", "dst": "d", "usable": False}
    answers["/links"] = {"links": [good, lossy, silent]}
    rows = frame_of(answers).tables[1].rows
    assert [row[0] for row in rows][:2] == ["c > d", "a > b"]


def test_an_answer_that_comes_while_the_screen_is_taken_down_is_dropped(state: Path) -> None:
    control = control_api(state, None, None)
    asked, released = threading.Event(), threading.Event()

    def take() -> Frame:
        asked.set()
        released.wait(5)
        return take_frame(control)

    app = TopScreen(take, 60.0)

    async def use() -> None:
        async with app.run_test(size=(120, 60)) as pilot:
            await until(asked.is_set, pilot.pause)
            app.exit()
            released.set()
        assert app.return_code == 0

    asyncio.run(use())
