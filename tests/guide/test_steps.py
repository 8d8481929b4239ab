"""How the guide is read, and that the one there is can be run."""

from __future__ import annotations

import pytest

from farcast.cli.main import COMMANDS

from .__main__ import GUIDE
from .steps import BadGuide, Block, Times, Until, machines, steps

TABLE = "| `sin` | 203.0.113.10 | an edge |\n| `home` | 192.0.2.77 | watches |\n"


def test_blocks_of_machines_are_scripts_and_other_blocks_are_not() -> None:
    text = f"{TABLE}\n## 1. Go\n```sh sin\none \\\n  two\nthree\n```\n```toml\nx = 1\n```\n```sh\nfour\n```\n"
    assert list(steps(text)) == [Block("sin", "one \\\n  two\nthree\n", 5, "1. Go")]


def test_a_block_is_told_by_its_first_command() -> None:
    assert Block("sin", "farcast edge \\\n  --listen x\n", 1, "").title == "farcast edge"


def test_remarks_wait_and_take_times() -> None:
    text = f"{TABLE}<!-- start: picture -->\n<!-- until home: test -e film.mp4 -->\n<!-- stop: picture -->\n"
    assert list(steps(text)) == [
        Times("start", "picture"),
        Until("home", "test -e film.mp4", 4),
        Times("stop", "picture"),
    ]


def test_what_a_section_needs_counts_to_its_end() -> None:
    text = f"{TABLE}## 1. A\n<!-- needs: consul -->\n```sh sin\none\n```\n## 2. B\n```sh sin\ntwo\n```\n"
    assert [step.needs for step in steps(text)] == ["consul", ""]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# no table", "no table of machines"),
        (f"{TABLE}```sh fra\nx\n```\n", "line 3: 'fra' is none of the machines sin, home"),
        (f"{TABLE}```sh sin\nx\n", "line 3: the block has no end"),
        (f"{TABLE}<!-- unless sin: x -->\n", "line 3: .* is neither until, start, stop nor needs"),
    ],
)
def test_a_guide_that_cannot_be_run_is_refused_with_the_line(text: str, why: str) -> None:
    with pytest.raises(BadGuide, match=why):
        list(steps(text))


def test_the_guide_runs_on_every_machine_and_takes_the_times_that_are_reported() -> None:
    text = GUIDE.read_text()
    todo = list(steps(text))
    assert {step.machine for step in todo if isinstance(step, Block)} == machines(text).keys()
    begun = {step.name for step in todo if isinstance(step, Times) and step.what == "start"}
    ended = {step.name for step in todo if isinstance(step, Times) and step.what == "stop"}
    assert begun == ended == {"picture", "join_to_plan", "takeover"}


def test_every_command_of_the_guide_is_one_that_farcast_has() -> None:
    known = {name for name, *_ in COMMANDS}
    used = {
        word.split()[1]
        for step in steps(GUIDE.read_text())
        if isinstance(step, Block)
        for word in step.script.replace("$(", "\n").splitlines()
        if word.startswith("farcast ")
    }
    assert used
    assert used <= known
