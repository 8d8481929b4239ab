"""``farcast watch``: watch, measure, record."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import trio

from farcast.cli.options import (
    Ca,
    CertSha256,
    Draft,
    Insecure,
    Json,
    MediaTokenFile,
    Namespace,
    NoEdgeList,
    Token,
    check_seconds,
    interruptible,
    parse_namespace,
    token_source,
)
from farcast.cli.output import note, print_json, print_table
from farcast.clients.media.playback import Distribution, PlaybackReport
from farcast.clients.moves import MovesReport
from farcast.clients.server import servers_from_options
from farcast.clients.viewing import QUALITY_AUTO
from farcast.clients.watch import Watcher, WatchOptions
from farcast.errors import EXIT_FAILED, EXIT_USAGE, UserError


def watch(
    url: str,
    /,
    *others: str,
    namespace: Namespace,
    out: Path | None = None,
    seconds: float | None = None,
    timeout: float = 30.0,
    quality: str = QUALITY_AUTO,
    draft: Draft = None,
    cert_sha256: CertSha256 = None,
    ca: Ca = None,
    insecure: Insecure = False,
    token: Token = None,
    token_file: MediaTokenFile = None,
    no_edge_list: NoEdgeList = False,
    json: Json = False,
) -> int:
    """Watch a namespace: measure what arrives, and record it.

    Example: farcast watch moqt://edge.example:4433 --namespace live/film --out film.mp4 --seconds 60

    Parameters
    ----------
    url
        moqt://HOST:PORT for raw QUIC, https://HOST:PORT/PATH for WebTransport.
    others
        More edges of the same network: the first that answers is used, and the others when it goes.
    out
        Write a playable MP4 file.
    seconds
        End so long after the first frame; otherwise when the film ends.
    timeout
        How many seconds to wait for a namespace that nobody publishes yet.
    quality
        Of several renditions: "auto" takes what the link carries and switches between groups, "best" the
        best, "360p" the best of up to so many lines, or a track's name. A recording (--out) has one, the best
        unless another is named.
    """
    server, *rest = servers_from_options(
        (url, *others), draft=draft, cert_sha256=cert_sha256, ca=ca, insecure=insecure
    )
    check_seconds("--seconds", seconds)
    check_seconds("--timeout", timeout)
    if out is not None:
        _check_writable(out)
    options = WatchOptions(
        server,
        parse_namespace(namespace),
        out,
        seconds,
        timeout,
        others=tuple(rest),
        token=token_source(token, token_file),
        edge_list=not no_edge_list,
        quality=quality,
    )
    watcher = Watcher(options, note=note)

    async def main() -> int:
        async with interruptible(watcher.stop) as interruption:
            report = await watcher.run()
            _print(report, watcher.moves, watcher.objects_malformed, json=json)
            if not report.frames:
                return interruption.exit_code or EXIT_FAILED
            return interruption.exit_code

    return trio.run(main)


def _check_writable(out: Path) -> None:
    """`UserError` if a file cannot be made there; one that is there is left as it is for now."""
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}", EXIT_USAGE)
    existed = out.exists()
    try:
        out.open("ab").close()
        if not existed:
            out.unlink()
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot be written: {error.strerror}; name another file", EXIT_USAGE
        ) from error


def _print(report: PlaybackReport, moves: MovesReport, malformed: int, *, json: bool) -> None:
    if json:
        print_json({**report.as_dict(), "objects_malformed": malformed, **asdict(moves)})
    else:
        print_table(("watched", ""), [*report_rows(report), ("edges", _edges_text(moves))])


def _edges_text(report: MovesReport) -> str:
    gap = f", longest gap {_number(report.move_gap_ms_max, 'ms', 0)}" if report.moves else ""
    return f"{', '.join(report.edges)}; {report.moves} moves{gap}"


def report_rows(report: PlaybackReport) -> list[tuple[str, str]]:
    """The figures for people."""
    rate = None if report.bitrate is None else report.bitrate / 1e6
    return [
        ("join", _number(report.join_ms, "ms")),
        ("first picture", _number(report.first_picture_ms, "ms")),
        ("latency", latency_text(report.latency_ms)),
        (
            "frames",
            f"{report.frames} in {report.playing_s:.1f} s, {report.missing} missing, {report.gaps} gaps",
        ),
        ("stalls", f"{report.stalls}, {report.stalled_s:.2f} s, longest {report.longest_stall_ms:.0f} ms"),
        ("bit rate", _number(rate, "Mbit/s", 2)),
        ("sound leads by", latency_text(report.av_skew_ms)),
    ]


def latency_text(spread: Distribution) -> str:
    """Percentiles on one line."""
    if spread.p50 is None:
        return "-"
    return f"p50 {spread.p50:.1f} ms, p90 {spread.p90:.1f}, p99 {spread.p99:.1f}, max {spread.max:.1f}"


def _number(value: float | None, unit: str, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f} {unit}"
