"""What a run of a scenario leaves behind: verdicts, distributions, timeline, map, hashes; as JSON and back.

Reports, comparisons and the gate read nothing else, so a result of an older build can be compared with one of
today. The format has a version of its own, and a reader knows one version: what a figure means must not be
guessed. Adding an optional field leaves the version; anything else raises it.

JSON has no infinity. A figure that is infinite (a viewer without a picture in the quantile) is null, with a
note beside it.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from farcast.errors import EXIT_USAGE, UserError

RESULT_VERSION: Final = 1
"""Of the JSON form below."""

QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Those that every summary of a distribution states."""

CDF_POINTS_MAX: Final = 101
"""Points of a distribution function that a result keeps."""

TIMELINE_ENTRIES_MAX: Final = 5_000
"""Entries of one result; what is beyond is counted in ``timeline_left_out``."""

MISSED_MAX: Final = 64
"""Markets, pairs or viewers of one verdict that miss a promise and are named."""

MEBIBYTE: Final = 1 << 20
RESULT_BYTES_MAX: Final = 256 * MEBIBYTE
"""A larger file is not read."""

Status = Literal["held", "broken", "no data"]


class ScenarioInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which scenario ran, and what it says of its sources.

    ``called`` is how the user called it, a name or a path; ``digest`` as `Scenario.digest`. Both are empty in
    results of older builds.
    """

    name: str
    title: str
    version: int
    duration_s: float
    scale: Literal["packets", "flows"] = "packets"
    short: bool = False
    viewers: int = 0
    edges: int = 0
    sources: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    synthesised: tuple[str, ...] = ()
    called: str = ""
    digest: str = ""


class BuildInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What ran it. A trace hash is comparable between equal builds only."""

    version: str
    commit: str | None = None
    python: str = ""
    machine: str = ""


class Missed(msgspec.Struct, frozen=True, kw_only=True):
    """A market, pair or viewer that misses a promise about the worst of them. ``value`` None: infinite, or,
    with ``never`` 0, not measured at all."""

    name: str
    value: float | None = None
    never: int = 0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One promise against all seeds together.

    ``value`` is what was measured, in ``unit``, for the pooled samples; of ``within`` it is the end that is
    nearer to its limit. ``low`` and ``high`` are a 95 % interval over ``interval_over``; ``sure`` says that
    all of it lies on the same side of the limit as ``value``. ``margin`` is the distance to the limit in
    ``unit``, positive when held, and ``margin_ratio`` that by the limit. ``where_worst`` names the market,
    pair or viewer that decided, if the promise asks for the worst; ``missed_by`` has all that miss it, the
    worst first, `MISSED_MAX` at most.
    """

    promise: str
    status: Status
    unit: str
    value: float | None = None
    limit: float | None = None
    low: float | None = None
    high: float | None = None
    interval_over: Literal["seeds", "viewers", "none"] = "none"
    sure: bool = False
    margin: float | None = None
    margin_ratio: float | None = None
    samples: int = 0
    viewers: int = 0
    never: int = 0
    """Samples that are infinite: what was waited for did not happen."""
    where_worst: str | None = None
    missed_by: tuple[Missed, ...] = ()
    seeds_held: int = 0
    seeds_total: int = 0
    seeds_held_share_low: float | None = None
    """With 95 % confidence at least this share of all seeds holds (Clopper and Pearson, one-sided)."""
    note: str = ""


class OutputSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One output in one scope (``all``, ``market:sea``, ``pair:sea>eu``, ``stack:stock``), seeds pooled.

    ``quantiles`` by share, as text ("0.99"); ``ratio`` of outputs that are ratios; ``cdf`` as (value, share
    not above).
    """

    output: str
    scope: str
    unit: str
    count: int
    viewers: int
    mean: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    ratio: float | None = None
    never: int = 0
    quantiles: dict[str, float | None] = {}
    cdf: tuple[tuple[float, float], ...] = ()


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: a fault, a change of routes, a viewer's stall, a viewer's move."""

    seed: int
    at_us: int
    kind: Literal["fault", "route", "stall", "move", "error"]
    what: str
    who: str | None = None
    """A viewer, an edge or a link."""
    length_us: int | None = None


class MapNode(msgspec.Struct, frozen=True, kw_only=True):
    """An edge or a client on the map; ``lat`` and ``lon`` in degrees."""

    name: str
    kind: Literal["edge", "publisher", "viewer"]
    region: str
    lat: float | None = None
    lon: float | None = None
    market: str = ""
    stack: str = ""


class MapLink(msgspec.Struct, frozen=True, kw_only=True):
    """A path that carried media, the first seed's."""

    src: str
    dst: str
    rtt_ms: float | None = None
    bytes: int = 0
    loss: float | None = None
    """Share of datagrams lost on the way."""


class InvariantFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that must hold at every step, and did not."""

    seed: int
    at_us: int
    invariant: str
    what: str


class SeedResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``replay`` is the command that repeats it."""

    seed: int
    trace_hash: str
    replay: str
    virtual_s: float
    wall_s: float = 0.0
    broken: tuple[str, ...] = ()
    """The promises that this seed breaks by itself."""
    failure: str | None = None
    """Why there is no measurement: the run ended with an error."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario over all its seeds."""

    scenario: ScenarioInfo
    build: BuildInfo
    seeds: tuple[SeedResult, ...]
    verdicts: tuple[Verdict, ...] = ()
    outputs: tuple[OutputSummary, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    timeline_left_out: int = 0
    nodes: tuple[MapNode, ...] = ()
    links: tuple[MapLink, ...] = ()
    invariant_failures: tuple[InvariantFailure, ...] = ()
    version: int = RESULT_VERSION

    @property
    def held(self) -> bool:
        """Every promise held, every run ended well, and no invariant failed."""
        return (
            all(verdict.status == "held" for verdict in self.verdicts)
            and not self.invariant_failures
            and all(seed.failure is None for seed in self.seeds)
        )


class _Version(msgspec.Struct):
    version: int | None = None


def to_json(result: Result) -> bytes:
    """The result as JSON, keys in the order of the classes above."""
    return msgspec.json.encode(result)


def from_json(text: bytes | str, origin: str = "result") -> Result:
    """A result from its JSON form; ``origin`` names the file in errors. `UserError` if it is none."""
    if len(text) > RESULT_BYTES_MAX:
        raise UserError(f"{origin}: larger than {RESULT_BYTES_MAX // MEBIBYTE} MiB: not a result", EXIT_USAGE)
    try:
        version = msgspec.json.decode(text, type=_Version).version
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UserError(f"{origin}: not a simulation's result: {error}", EXIT_USAGE) from error
    if version != RESULT_VERSION:
        found = "no version" if version is None else f"version {version}"
        raise UserError(
            f"{origin}: a result of {found}, and this build reads version {RESULT_VERSION}: "
            "run the scenario again with this build",
            EXIT_USAGE,
        )
    try:
        return msgspec.json.decode(text, type=Result)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UserError(f"{origin}: not a simulation's result: {error}", EXIT_USAGE) from error


def finite(value: float | None) -> float | None:
    """A figure for JSON: None where there is no finite one."""
    return None if value is None or not math.isfinite(value) else value
