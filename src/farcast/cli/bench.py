"""``farcast bench``: publish and watch a synthetic film for a while, and say what arrived and how late."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import trio
from cyclopts import Parameter

from farcast.cli.options import (
    Ca,
    CertSha256,
    Insecure,
    Json,
    MediaTokenFile,
    Token,
    interruptible,
    parse_namespace,
    token_source,
)
from farcast.cli.output import note, print_json, print_table
from farcast.clients.media.playback import PlaybackReport
from farcast.clients.media.source import Source
from farcast.clients.media.sources import open_source
from farcast.clients.publish import PublishOptions, PublishReport, publish
from farcast.clients.server import SERVERS_MAX, Server, servers_from_options
from farcast.clients.tokens import TokenSource
from farcast.clients.watch import Watcher, WatchOptions
from farcast.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UserError
from farcast.proto.moqt.names import TrackNamespace

VIEWERS_MAX: Final = 32
"""All decode in this process: more would measure this machine."""

SECONDS_MAX: Final = 300.0
FILM: Final = "testsrc=size=640x360:fps=30:bitrate=800000:gop=1"
WAIT_SECONDS: Final = 15.0
"""So long a viewer waits for the film."""

AFTERMATH_SECONDS: Final = 2.0
"""The film goes on so long after the viewers, so that its end is not measured."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One viewer: where it watched, and what it got; ``reason`` where it got nothing."""

    edge: str
    report: PlaybackReport | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """The whole. ``latency_p50_ms`` is the median of the viewers', ``latency_p99_ms`` that of the worst; from
    capture to the last byte of a frame at the viewer, all on this machine's clock. ``loss`` is the share of
    frames that never came."""

    viewers: int
    viewers_served: int
    seconds: float
    frames: int
    missing: int
    loss: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    latency_max_ms: float | None
    first_picture_ms_max: float | None
    stalls: int
    stalled_s: float
    published_frames: int
    published_behind_s: float


def bench(
    url: str,
    /,
    *,
    watch_at: Annotated[list[str] | None, Parameter(negative=())] = None,
    viewers: int = 2,
    seconds: float = 10.0,
    namespace: str | None = None,
    cert_sha256: CertSha256 = None,
    ca: Ca = None,
    insecure: Insecure = False,
    token: Token = None,
    token_file: MediaTokenFile = None,
    json: Json = False,
) -> int:
    """Publish a synthetic film, watch it from here, and show latency and loss: a check, not a load test.

    The exit code is 1 where a viewer got nothing.

    Example: farcast bench moqt://fra.example:4433 --watch-at moqt://sin.example:4433 --seconds 20

    Parameters
    ----------
    url
        Where to publish: moqt://HOST:PORT for raw QUIC, https://HOST:PORT/PATH for WebTransport.
    watch_at
        Where to watch, by turns; where it is published unless set. May be given several times.
    viewers
        How many watch, 32 at most: all of them run in this process.
    seconds
        How long each watches, 300 at most.
    namespace
        Where it is published; bench/ and a random name unless set.
    """
    if not 1 <= viewers <= VIEWERS_MAX:
        raise UserError(f"--viewers {viewers}: must be from 1 to {VIEWERS_MAX}", EXIT_USAGE)
    if not 0 < seconds <= SECONDS_MAX:
        raise UserError(f"--seconds {seconds:g}: must be above 0 and at most {SECONDS_MAX:g}", EXIT_USAGE)
    if len(watch_at or []) >= SERVERS_MAX:
        raise UserError(f"--watch-at: at most {SERVERS_MAX - 1} times", EXIT_USAGE)
    server, *at = servers_from_options(
        (url, *(watch_at or ())), cert_sha256=cert_sha256, ca=ca, insecure=insecure
    )
    run = _Bench(
        server,
        [(at or [server])[number % max(len(at), 1)] for number in range(viewers)],
        parse_namespace(namespace or f"bench/{secrets.token_hex(4)}"),
        seconds,
        token_source(token, token_file),
    )

    async def main() -> int:
        async with interruptible(run.stop) as interruption:
            await run.run()
        _print(run.figures(), run.seats, json=json)
        served = all(seat.report is not None and seat.report.frames for seat in run.seats)
        return interruption.exit_code or (EXIT_OK if served else EXIT_FAILED)

    return trio.run(main)


class _Bench:
    """One publisher and its viewers, for as long as the viewers watch."""

    def __init__(
        self,
        server: Server,
        watch_at: Sequence[Server],
        namespace: TrackNamespace,
        seconds: float,
        token: TokenSource,
    ) -> None:
        self._server = server
        self._watch_at = watch_at
        self._namespace = namespace
        self._seconds = seconds
        self._token = token
        self._playing = trio.CancelScope()
        self._watching = trio.CancelScope()
        self._published: PublishReport | None = None
        self.seats: list[Seat] = []

    def stop(self) -> None:
        """End early; what was measured counts."""
        self._watching.cancel()

    async def run(self) -> None:
        """Raises `UserError` if nothing can be published."""
        film = open_source(FILM, clock_us=_wall_us, stdin=None, transcode=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish, film)
            with self._watching:
                async with trio.open_nursery() as watching:
                    for server in self._watch_at:
                        watching.start_soon(self._watch, server)
            self._playing.cancel()

    async def _publish(self, film: Source) -> None:
        options = PublishOptions(
            self._server,
            self._namespace,
            "loc",
            self._seconds + WAIT_SECONDS + AFTERMATH_SECONDS,
            token=self._token,
            edge_list=False,
        )
        self._published = await publish(film, options, note=_quiet, playing=self._playing)

    async def _watch(self, server: Server) -> None:
        options = WatchOptions(
            server,
            self._namespace,
            seconds=self._seconds,
            timeout_s=WAIT_SECONDS,
            token=self._token,
            edge_list=False,
        )
        watcher, reason = Watcher(options, note=_quiet), ""
        report: PlaybackReport | None = None
        try:
            report = await watcher.run()
        except UserError as error:
            reason = error.message
        finally:
            self.seats.append(Seat(server.url.authority, report or watcher.report(is_over=True), reason))

    def figures(self) -> Figures:
        """What all viewers got."""
        reports = [seat.report for seat in self.seats if seat.report is not None and seat.report.frames]
        frames, missing = sum(r.frames for r in reports), sum(r.missing for r in reports)
        published = self._published
        return Figures(
            viewers=len(self._watch_at),
            viewers_served=len(reports),
            seconds=self._seconds,
            frames=frames,
            missing=missing,
            loss=round(missing / (frames + missing), 6) if frames else 1.0,
            latency_p50_ms=_of(statistics.median, [r.latency_ms.p50 for r in reports]),
            latency_p99_ms=_of(max, [r.latency_ms.p99 for r in reports]),
            latency_max_ms=_of(max, [r.latency_ms.max for r in reports]),
            first_picture_ms_max=_of(max, [r.first_picture_ms for r in reports]),
            stalls=sum(r.stalls for r in reports),
            stalled_s=round(sum(r.stalled_s for r in reports), 3),
            published_frames=0 if published is None else published.frames,
            published_behind_s=0.0 if published is None else round(published.behind_s, 3),
        )


def _of(figure: Any, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(figure(known)), 3) if known else None


def _print(figures: Figures, seats: Sequence[Seat], *, json: bool) -> None:
    if json:
        of_seats = [
            {"edge": s.edge, "reason": s.reason, "report": None if s.report is None else s.report.as_dict()}
            for s in seats
        ]
        print_json({**asdict(figures), "seats": of_seats})
        return
    print_table(("viewer at", "frames", "missing", "p50", "p99", "max", "stalls"), map(_row, seats))
    note(
        f"{figures.viewers_served} of {figures.viewers} viewers served; {figures.frames} frames, "
        f"{figures.missing} missing ({figures.loss:.3%})"
    )
    if figures.latency_p50_ms is not None:
        note(
            f"latency p50 {figures.latency_p50_ms:.1f} ms (median viewer), "
            f"p99 {figures.latency_p99_ms:.1f} ms, max {figures.latency_max_ms:.1f} ms (worst viewer)"
        )
    for reason in dict.fromkeys(seat.reason for seat in seats if seat.reason):
        note(reason)


def _row(seat: Seat) -> tuple[str, ...]:
    report = seat.report
    if report is None or not report.frames:
        return (seat.edge, "0", *("" for _ in range(5)))
    spread = [report.latency_ms.p50, report.latency_ms.p99, report.latency_ms.max]
    return (
        seat.edge,
        str(report.frames),
        str(report.missing),
        *("" if value is None else f"{value:.1f} ms" for value in spread),
        str(report.stalls),
    )


def _quiet(_: str) -> None:
    """What publisher and viewers remark is not said: figures say it."""


def _wall_us() -> int:
    return time.time_ns() // 1_000
