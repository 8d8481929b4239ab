"""``farcast publish``: a film in real time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, BinaryIO, Literal, cast

import trio
from cyclopts import Parameter

from farcast.cli.options import (
    Ca,
    CertSha256,
    Draft,
    Flag,
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
from farcast.clients.media.encoders import RenditionSpec, parse_renditions
from farcast.clients.media.errors import MediaError
from farcast.clients.media.source import Source
from farcast.clients.media.sources import open_source
from farcast.clients.publish import PublishOptions, PublishReport
from farcast.clients.publish import publish as publish_source
from farcast.clients.server import servers_from_options
from farcast.errors import EXIT_USAGE, UserError


def publish(
    source: Annotated[str, Parameter(allow_leading_hyphen=True)],
    url: str,
    /,
    *others: str,
    namespace: Namespace,
    packaging: Literal["cmaf", "loc"] = "cmaf",
    transcode: Flag = False,
    audio_only: Flag = False,
    layers: Flag = False,
    renditions: str | None = None,
    no_adapt: Flag = False,
    seconds: float | None = None,
    draft: Draft = None,
    cert_sha256: CertSha256 = None,
    ca: Ca = None,
    insecure: Insecure = False,
    token: Token = None,
    token_file: MediaTokenFile = None,
    no_edge_list: NoEdgeList = False,
    json: Json = False,
) -> int:
    """Publish a film in real time: a group a GOP, an object a frame.

    Example: farcast publish film.mp4 https://edge.example:4433/ --namespace live/film

    Parameters
    ----------
    source
        A file or URL that FFmpeg opens, "testsrc" (testsrc=size=1280x720:fps=60:bitrate=2000000:gop=2),
        or "-" for fragmented MP4 on standard input.
    url
        moqt://HOST:PORT for raw QUIC, https://HOST:PORT/PATH for WebTransport.
    others
        More edges of the same network: the first that answers is used, and the others when it goes.
    packaging
        How a frame becomes an object; browsers' @moq players need cmaf.
    transcode
        Encode anew as H.264 and Opus, for sources that cannot be carried as they are.
    audio_only
        Publish a source although it has no video.
    renditions
        Encode the picture anew in several, of which each viewer takes one: "720p:1800k,360p:600k".
    layers
        Frames that no other refers to (B-frames) go into subgroups of their own, which an edge leaves out for
        viewers whose link is too narrow for all. Browsers' @moq players cannot play such a track.
    no_adapt
        Keep the rate of pictures that are encoded here (testsrc, --transcode, --renditions) whatever the
        uplink carries; without it their rate follows.
    seconds
        End after so much of the source.
    """
    check_seconds("--seconds", seconds)
    server, *rest = servers_from_options(
        (url, *others), draft=draft, cert_sha256=cert_sha256, ca=ca, insecure=insecure
    )
    options = PublishOptions(
        server,
        parse_namespace(namespace),
        packaging,
        seconds,
        others=tuple(rest),
        token=token_source(token, token_file),
        edge_list=not no_edge_list,
        layers=layers,
        adapt=not no_adapt,
    )
    opened = _open(source, transcode=transcode, renditions=_renditions(renditions))
    if not audio_only:
        _check_video(opened, source)
    for line in opened.skipped:
        note(line)

    async def main() -> int:
        playing = trio.CancelScope()
        async with interruptible(playing.cancel) as interruption:
            report = await publish_source(opened, options, note=note, playing=playing)
            _print(report, json=json)
            return interruption.exit_code

    return trio.run(main)


def _renditions(spec: str | None) -> tuple[RenditionSpec, ...]:
    try:
        return () if spec is None else parse_renditions(spec)
    except MediaError as error:
        raise UserError(f"--renditions: {error}", EXIT_USAGE) from error


def _open(source: str, *, transcode: bool, renditions: Sequence[RenditionSpec]) -> Source:
    stdin = _stdin() if source == "-" else None
    try:
        return open_source(source, clock_us=_wall_us, stdin=stdin, transcode=transcode, renditions=renditions)
    except MediaError as error:
        raise UserError(str(error)) from error


def _check_video(opened: Source, name: str) -> None:
    """`UserError` for a source that would be heard and not seen: more often a mistake than meant so."""
    if any(track.kind == "video" for track in opened.tracks):
        return
    opened.close()
    left_out = [line for line in opened.skipped if "video" in line]
    could_be_encoded = any("without transcoding" in line for line in left_out)
    found = f" that can be carried ({'; '.join(left_out)})" if left_out else ""
    encode = "--transcode to encode it anew, or " if could_be_encoded else ""
    raise UserError(f"{name}: no video{found}; use {encode}--audio-only to publish the sound alone")


def _stdin() -> BinaryIO:
    """Standard input without Python's buffer: a thread that waits in the buffered one when the command ends
    holds its lock, and the interpreter aborts over that."""
    try:
        return cast(BinaryIO, open(0, "rb", buffering=0, closefd=False))
    except OSError as error:
        raise UserError(f"standard input cannot be read: {error.strerror}", EXIT_USAGE) from error


def _print(report: PublishReport, *, json: bool) -> None:
    if json:
        print_json(asdict(report))
        return
    rate = report.bytes * 8 / report.seconds / 1e6 if report.seconds else 0.0
    print_table(
        ("published", ""),
        [
            ("frames", str(report.frames)),
            ("seconds", f"{report.seconds:.1f}"),
            ("bit rate", f"{rate:.2f} Mbit/s"),
            ("of the pictures' rate", f"{report.rate_share:.0%}, at worst {report.rate_share_min:.0%}"),
            ("behind real time", f"{report.behind_s:.1f} s"),
            ("subscriptions", str(report.subscriptions)),
            ("edges", f"{', '.join(report.edges)}; {report.moves} moves"),
        ],
    )


def _wall_us() -> int:
    return time.time_ns() // 1000
