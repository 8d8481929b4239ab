"""What a run came to, and what all of them together say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .arrivals import Arrivals, Gap, percentile
from .faults import KINDS, Fault
from .switches import Switch

NOTICED_MS_P99_MAX = 300.0
RESUMED_MS_P99_MAX = 500.0
EDGE_DEAD_RESUMED_MS_P99_MAX = 1_500.0
LOSSY_LINK_GAP_MS_P99_MAX = RESUMED_MS_P99_MAX
"""A link that loses a fifth keeps nobody waiting for longer than a dead one, noticed and left."""
BYSTANDER_GAP_MS_P99_MAX = RESUMED_MS_P99_MAX
"""Nor does a fault keep anybody waiting for longer whom it does not concern."""
DRAIN_GAP_MS_MAX = 183.0
FIRST_PICTURE_MS_MAX = 600.0
"""What is promised: see README."""

UNNOTICED_SECONDS_MAX = 0.120
"""A gap of less is the ordinary unevenness of a film of 30 pictures a second over lossy links."""

RUNS_TELLING = 50
"""So many runs have something of every kind to tell."""
ONE_ALARM_SECONDS = 0.5
"""All tracks that an edge moves away from one upstream within so long were moved by one alarm."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. ``begun``: by the clock of the gaps, and by that of the edges' logs (seconds). ``fed``: edges
    that the film reached by what broke. ``gaps``: of each viewer while the fault lasted; ``breaks``: of these
    the one that the fault itself made; ``stranded``: viewers whose own edge is dead. ``moved``: what edges
    did about it. ``ways_ms``: to each edge that can notice it, one way; ``propagation_ms``: the part of
    distance alone, for each viewer whose branch moved. ``bystanders``: viewers whose branch did not run
    over what broke, and stayed as it was."""

    fault: Fault
    begun: float
    begun_by_logs: float
    fed: frozenset[str]
    gaps: dict[str, Gap]
    breaks: dict[str, Gap]
    stranded: frozenset[str]
    moved: list[Switch]
    false_alarms: list[Switch]
    ways_ms: Mapping[str, float]
    propagation_ms: Mapping[str, float] = field(default_factory=dict)
    bystanders: frozenset[str] = frozenset()

    @property
    def noticed_ms(self) -> list[float]:
        """From the fault until an upstream was taken for dead, less the way of what was still under way, one
        for each edge that was fed and left one; of several that it left, the one that took it longest. An
        edge that turns to a dead upstream only later, for a viewer who came from there, finds it silent a
        round trip after that: its viewer's pause tells of it."""
        if not self.fault.breaks:
            return []
        first: dict[tuple[str, str], float] = {}
        for switch in self.moved:
            if switch.is_alarm and switch.at >= self.begun_by_logs and switch.node_id in self.fed:
                ms = 1000 * (switch.at - self.begun_by_logs) - self.ways_ms.get(switch.node_id, 0.0)
                first.setdefault((switch.node_id, switch.left), ms)
        return sorted(max(ms for (n, _), ms in first.items() if n == node) for node in {n for n, _ in first})

    @property
    def resumed_ms(self) -> list[float]:
        """From the fault to the first new picture, for each viewer in mid-tree whose film it broke off."""
        return [1000 * (gap.end - self.begun) for gap in self._broken(self.mid_tree).values()]

    @property
    def resumed_propagation_ms(self) -> list[float]:
        """The part of distance alone, of the same viewers in the same order."""
        return [self.propagation_ms.get(node_id, 0.0) for node_id in self._broken(self.mid_tree)]

    @property
    def lossy_link_gap_ms(self) -> list[float]:
        """The longest gap of any viewer while a link lost packets; nothing where the fault was another."""
        return [] if self.fault.breaks else [1000 * max(gap.seconds for gap in self.gaps.values())]

    @property
    def bystander_gap_ms(self) -> list[float]:
        """The longest gap of each viewer whom the fault did not concern."""
        if not self.fault.breaks:
            return []
        return [1000 * gap.seconds for node_id, gap in self.gaps.items() if node_id in self.bystanders]

    @property
    def is_unnoticed(self) -> bool:
        """Whether something broke and neither an edge nor a viewer noticed: another way was taken before."""
        return self.fault.breaks and not (self.noticed_ms or self._broken([*self.mid_tree, *self.stranded]))

    @property
    def mid_tree(self) -> list[str]:
        """Viewers whose own edge lives, and whom the fault concerns."""
        return [node_id for node_id in self.breaks if node_id not in self.stranded | self.bystanders]

    @property
    def edge_resumed_ms(self) -> list[float]:
        """The same for viewers of an edge that is itself dead: they have to find another one."""
        return [1000 * (gap.end - self.begun) for gap in self._broken(list(self.stranded)).values()]

    def _broken(self, node_ids: list[str]) -> dict[str, Gap]:
        """The gaps of those viewers whose film the fault broke off."""
        gaps = {n: self.breaks[n] for n in node_ids if n in self.breaks} if self.fault.breaks else {}
        return {
            n: gap for n, gap in gaps.items() if gap.seconds > UNNOTICED_SECONDS_MAX and gap.end > self.begun
        }

    def line(self, number: int, runs: int) -> str:
        """For whoever watches."""
        longest = max(self.gaps.items(), key=lambda item: item[1].seconds)
        causes = ", ".join(sorted({switch.cause for switch in self.moved})) or "none"
        return (
            f"{number:>3}/{runs} {self.fault.kind}: {self.fault.upstream} > {self.fault.victim}; "
            f"moves: {causes}; longest gap {1000 * longest[1].seconds:.0f} ms at {longest[0]}; "
            f"noticed {_list(self.noticed_ms)}; resumed {_list(self.resumed_ms)}, "
            f"of which distance {_list(self.resumed_propagation_ms)}"
        )


@dataclass(frozen=True, slots=True)
class Drain:
    """The longest gap of any viewer in a drain (that of ``seat``), and of the same viewers in as long a time
    without one, over the ways that the drain has left; seconds. ``lossy``: over links that lose packets at
    random. ``feeds``: other edges hung on the one that was drained."""

    node_id: str
    lossy: bool
    seat: str
    gap: float
    without: float
    feeds: bool = False

    def line(self) -> str:
        """For whoever watches."""
        links = "lossy links" if self.lossy else "links without loss"
        who = f"relay {self.node_id}" if self.feeds else f"viewer edge {self.node_id}"
        return (
            f"drain of {who}, {links}: longest gap {1000 * self.gap:.0f} ms at {self.seat}, "
            f"without a drain {1000 * self.without:.0f} ms"
        )


@dataclass
class Judge:
    """All runs."""

    outcomes: list[Outcome] = field(default_factory=list)
    drains: list[Drain] = field(default_factory=list)
    must_drain: bool = False
    """Whether edges were to be drained over links without loss."""

    control_gone: dict[str, float | None] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        self.outcomes.append(outcome)

    def finish(self, seats: Sequence[Arrivals]) -> None:
        """The film is over: count what never came, and what came twice."""
        for seat in seats:
            self.lost += seat.ledger.frames_missing + seat.ledger.frames_corrupt
            self.doubled += seat.ledger.frames_repeated

    @property
    def is_whole(self) -> bool:
        """Whether every viewer got every object once."""
        return self.lost == self.doubled == 0

    @property
    def is_in_time(self) -> bool:
        """Whether all bounds of time were kept."""
        return not list(self.broken_promises())

    def broken_promises(self) -> Iterator[str]:
        """A sentence for each bound of time that was not kept, or that could not be judged and had to be."""
        figures = self.figures()
        for name, most in (
            ("noticed_ms_p99", NOTICED_MS_P99_MAX),
            ("resumed_ms_p99", RESUMED_MS_P99_MAX),
            ("edge_dead_resumed_ms_p99", EDGE_DEAD_RESUMED_MS_P99_MAX),
            ("lossy_link_gap_ms_p99", LOSSY_LINK_GAP_MS_P99_MAX),
            ("bystander_gap_ms_p99", BYSTANDER_GAP_MS_P99_MAX),
        ):
            if (figures[name] or 0) > most:
                yield f"{name} is {figures[name]}, at most {most} was promised"
        if figures["noticed_ms_p99"] is None and any(outcome.fault.breaks for outcome in self.outcomes):
            yield "noticed_ms_p99 is unknown: upstreams were broken, and no edge took any of them for dead"
        for name in self._unknown(figures):
            yield f"{name} is unknown: it was to be measured, and nothing was"
        if figures["drain_gap_ms_max"] is None and (self.must_drain or self.drains):
            yield "drain_gap_ms_max is unknown: no drain over links without loss was measured"
        elif (drain_ms := figures["drain_gap_ms_max"] or 0) >= DRAIN_GAP_MS_MAX:
            yield f"drain_gap_ms_max is {drain_ms}, less than {DRAIN_GAP_MS_MAX} was promised"
        if figures["false_alarms"]:
            yield f"{figures['false_alarms']} upstreams were taken for dead that nobody had touched"
        bounds = (("gap_ms", RESUMED_MS_P99_MAX), ("first_picture_ms", FIRST_PICTURE_MS_MAX))
        for name, most in bounds if self.control_gone else ():
            ms = self.control_gone.get(name)
            if ms is None:
                yield f"control_gone.{name} is unknown: nothing was measured without a control plane"
            elif ms > most:
                yield f"control_gone.{name} is {ms}, at most {most} was promised"

    def _unknown(self, figures: Mapping[str, Any]) -> Iterator[str]:
        """What so many runs have to have measured, and have not."""
        if len(self.outcomes) >= RUNS_TELLING:
            names = ("resumed_ms_p99", "edge_dead_resumed_ms_p99", "lossy_link_gap_ms_p99")
            yield from (name for name in names if figures[name] is None)
            seen = {outcome.fault.kind for outcome in self.outcomes}
            yield from (f"what follows when there is '{kind}'" for kind in KINDS if kind not in seen)
        if self.must_drain and not any(drain.feeds for drain in self.drains if not drain.lossy):
            yield "the gap that the drain of a relay makes"

    def figures(self) -> dict[str, Any]:
        """The last line."""
        noticed = [ms for outcome in self.outcomes for ms in outcome.noticed_ms]
        resumed = [ms for outcome in self.outcomes for ms in outcome.resumed_ms]
        ways = [ms for outcome in self.outcomes for ms in outcome.resumed_propagation_ms]
        edge = [ms for outcome in self.outcomes for ms in outcome.edge_resumed_ms]
        lossy_link = [ms for outcome in self.outcomes for ms in outcome.lossy_link_gap_ms]
        bystander = [ms for outcome in self.outcomes for ms in outcome.bystander_gap_ms]
        lossy = [drain for drain in self.drains if drain.lossy]
        clean = [drain for drain in self.drains if not drain.lossy]
        return {
            "runs": len(self.outcomes),
            "relay_faults_without_relay": sum(outcome.fault.stands_in for outcome in self.outcomes),
            "unnoticed": sum(outcome.is_unnoticed for outcome in self.outcomes),
            "noticed_ms_p50": _rounded(percentile(noticed, 0.50)),
            "noticed_ms_p99": _rounded(percentile(noticed, 0.99)),
            "resumed_ms_p50": _rounded(percentile(resumed, 0.50)),
            "resumed_ms_p99": _rounded(percentile(resumed, 0.99)),
            "resumed_propagation_ms_p50": _rounded(percentile(ways, 0.50)),
            "resumed_propagation_ms_p99": _rounded(percentile(ways, 0.99)),
            "edge_dead_resumed_ms_p50": _rounded(percentile(edge, 0.50)),
            "edge_dead_resumed_ms_p99": _rounded(percentile(edge, 0.99)),
            "lossy_link_gap_ms_p50": _rounded(percentile(lossy_link, 0.50)),
            "lossy_link_gap_ms_p99": _rounded(percentile(lossy_link, 0.99)),
            "bystander_gap_ms_p50": _rounded(percentile(bystander, 0.50)),
            "bystander_gap_ms_p99": _rounded(percentile(bystander, 0.99)),
            "objects_lost": self.lost,
            "objects_doubled": self.doubled,
            "drain_gap_ms_max": _max_ms(drain.gap for drain in clean),
            "gap_ms_max_without_drain": _max_ms(drain.without for drain in clean),
            "lossy_drain_gap_ms_max": _max_ms(drain.gap for drain in lossy),
            "lossy_gap_ms_max_without_drain": _max_ms(drain.without for drain in lossy),
            "false_alarms": sum(_alarms(outcome.false_alarms) for outcome in self.outcomes),
            "control_gone": self.control_gone,
        }

    def rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        """A table by kind of fault."""
        by_kind: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in self.outcomes:
            by_kind[outcome.fault.kind].append(outcome)
        for kind, outcomes in by_kind.items():
            noticed = [ms for outcome in outcomes for ms in outcome.noticed_ms]
            resumed = [ms for outcome in outcomes for ms in outcome.resumed_ms]
            lossy_link = [ms for outcome in outcomes for ms in outcome.lossy_link_gap_ms]
            yield kind, str(len(outcomes)), _pair(noticed), _pair(resumed), _pair(lossy_link)
        for drain in self.drains:
            links = "lossy links" if drain.lossy else "links without loss"
            gaps = f"{1000 * drain.gap:.0f}, without a drain {1000 * drain.without:.0f}"
            yield f"drain of {drain.node_id}, {links}", "1", "-", "-", gaps


def _alarms(switches: Sequence[Switch]) -> int:
    """How often an edge took an upstream for dead, whatever number of tracks it moved for that."""
    count, last = 0, dict[tuple[str, str], float]()
    for switch in sorted((s for s in switches if s.is_alarm), key=lambda switch: switch.at):
        begun = last.get((switch.node_id, switch.left))
        if begun is None or switch.at - begun > ONE_ALARM_SECONDS:
            count += 1
            last[switch.node_id, switch.left] = switch.at
    return count


def _list(values: list[float]) -> str:
    return ", ".join(f"{ms:.0f}" for ms in values) or "-"


def _pair(values: list[float]) -> str:
    p50, p99 = percentile(values, 0.50), percentile(values, 0.99)
    return "-" if p50 is None or p99 is None else f"{p50:.0f} / {p99:.0f}"


def _max_ms(seconds: Iterable[float]) -> float | None:
    return _rounded(max((1000 * each for each in seconds), default=None))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
