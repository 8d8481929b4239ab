"""The page: what broke comes first, everything is in the one file, nothing is fetched."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest
from sim_results import LATENCY, STALLS, broken_result, held_result

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.report import charts
from farcast.simulations.report.findings import PinState
from farcast.simulations.report.page import page


class Outline(HTMLParser):
    """Text outside of scripts and styles, and all that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fetched: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style", "svg"):
            self._inside.append(tag)
        self.fetched += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "data", "action") and value and not value.startswith("#")
        ]

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def broken_page() -> str:
    return page([held_result(), broken_result()])


def test_the_first_words_say_what_broke_by_how_much_where_and_how_to_replay(broken_page: str) -> None:
    text = Outline(broken_page).text
    first = text[:700]
    assert "Broken: 2 scenarios" in first
    assert "1 of 4 promises broken, 1 invariant failure" in first
    for words in (LATENCY, "742 ms", "142 ms (24%) too much", "worst: DE"):
        assert words in first, words
    assert "farcast sim replay sea-to-eu --seed 2 --short" in first
    assert text.index(LATENCY) < text.index(STALLS)


def test_nothing_is_fetched(broken_page: str) -> None:
    assert Outline(broken_page).fetched == []
    css = broken_page[broken_page.index("<style>") : broken_page.index("</style>")]
    assert "url(" not in css
    assert "@import" not in css


def test_charts_are_drawings_before_any_script_runs(broken_page: str) -> None:
    drawn = re.findall(r'<div class="chart" data-chart="(c\d+)"><svg', broken_page)
    assert len(drawn) == len(set(drawn)) == 3, "latency of both, and the timeline of the one that has one"
    assert broken_page.count('<svg class="map"') == 2


def test_a_script_cannot_be_ended_by_what_results_say() -> None:
    result = broken_result()
    entry = msgspec.structs.replace(result.timeline[0], what="</script><b>cut</b>")
    text = page([msgspec.structs.replace(result, timeline=(entry,))])
    assert "</script><b>" not in text
    assert "<b>cut</b>" not in text


def test_all_that_results_say_is_text_and_never_markup() -> None:
    result = broken_result()
    verdict = msgspec.structs.replace(result.verdicts[0], where_worst="<i>DE</i>", note="<i>note</i>")
    scenario = msgspec.structs.replace(result.scenario, title="<i>title</i>", sources=("<i>source</i>",))
    failure = msgspec.structs.replace(result.invariant_failures[0], what="<i>what</i>")
    seeds = (msgspec.structs.replace(result.seeds[0], failure="<i>failure</i>"), *result.seeds[1:])
    text = page(
        [
            msgspec.structs.replace(
                result,
                verdicts=(verdict,),
                scenario=scenario,
                invariant_failures=(failure,),
                seeds=seeds,
            )
        ]
    )
    assert "<i>" not in re.sub(r'<i style="[^"]*"></i>', "", text.split("<script>")[0])


def test_what_holds_is_said_to_hold() -> None:
    text = Outline(page([held_result()])).text
    assert "Held: eu-to-sea" in text[:80]
    assert "all 2 promises held" in text[:200]


def test_what_is_pinned_is_neither_green_nor_red() -> None:
    result = msgspec.structs.replace(broken_result(), invariant_failures=())
    pins = {("sea-to-eu", LATENCY): PinState("no worse than pinned at 750 ± 20", "not repaired yet")}
    text = Outline(page([result], pins)).text
    assert "Not yet: sea-to-eu" in text[:80]
    assert "known, and no worse than pinned" in text[:300]
    assert "not repaired yet" in text


def test_a_result_without_any_data_has_a_page() -> None:
    result = broken_result()
    seeds = tuple(msgspec.structs.replace(seed, failure="no memory", trace_hash="") for seed in result.seeds)
    bare = msgspec.structs.replace(
        result, seeds=seeds, outputs=(), timeline=(), nodes=(), links=(), verdicts=(), invariant_failures=()
    )
    assert "the run ended with an error" in Outline(page([bare])).text


def test_a_missing_library_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(UserError, match=r"farcast\[reports\]") as raised:
        charts.check()
    assert raised.value.exit_code == EXIT_USAGE
