"""One end of a case, played by moq-rs: runs under the interpreter that has it, not under ours.

Usage: ``-m tests.interop.moq_rs ROLE URL CERT_SHA256 BROADCAST [FILE]``. Reports with JSON lines on
stdout and runs until it is ended.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import moq  # type: ignore[import-not-found,unused-ignore]

from .payloads import INTERVAL_SECONDS, OBJECTS_PER_GROUP, TRACK, digest, payload

MAX_AGE_US = 5_000_000
FRAGMENT_SECONDS = 0.1


def report(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def publish_data(client: Any, name: str, file: Path | None) -> None:
    """The byte-exact track."""
    broadcast = client.create_broadcast(name)
    track = broadcast.publish_track(TRACK)
    broadcast.announce()
    report("publishing")
    while True:
        group = track.append_group()
        for object in range(OBJECTS_PER_GROUP):
            group.write_frame(payload(group.sequence, object))
            await asyncio.sleep(INTERVAL_SECONDS)
        group.finish()


async def subscribe_data(client: Any, name: str, file: Path | None) -> None:
    broadcast = await client.announced_broadcast(name)
    report("announced")
    track = await broadcast.subscribe_track(TRACK, moq.Subscription(max_age_us=MAX_AGE_US))
    async for group in track:
        object = 0
        async for frame in group:
            report("object", group=group.sequence, object=object, sha256=digest(frame.payload))
            object += 1
    report("ended")


async def publish_film(client: Any, name: str, file: Path | None) -> None:
    """A fragmented MP4 file, each fragment when it is due."""
    assert file is not None
    header, *fragments = split_fragments(file.read_bytes())
    broadcast = client.create_broadcast(name)
    container = broadcast.publish_container_stream(moq.ContainerFormat.FMP4)
    container.write(header)
    broadcast.announce()
    report("publishing")
    for fragment in fragments:
        container.write(fragment)
        await asyncio.sleep(FRAGMENT_SECONDS)
    container.finish()
    report("published")
    await asyncio.Event().wait()


async def watch_film(client: Any, name: str, file: Path | None) -> None:
    """Every frame of every track as moq-rs unpacks it from its container."""
    broadcast = await client.announced_broadcast(name)
    catalog = await broadcast.catalog()
    report("catalog", video=describe(catalog.video), audio=describe(catalog.audio))
    async with asyncio.TaskGroup() as tasks:
        for track, audio in catalog.audio.items():
            tasks.create_task(watch_track(broadcast, "audio", track, audio))
        for track, video in catalog.video.items():
            tasks.create_task(watch_track(broadcast, "video", track, video))


async def watch_track(broadcast: Any, kind: str, track: str, rendition: Any) -> None:
    frames = await broadcast.subscribe_media(track, rendition, moq.Subscription(max_age_us=MAX_AGE_US))
    async for frame in frames:
        payload = base64.b64encode(frame.payload).decode()
        report(kind, timestamp_us=frame.timestamp_us, keyframe=frame.keyframe, payload=payload)


def describe(tracks: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "codec": track.codec,
            "container": type(track.container).__name__,
            "description": (track.description or b"").hex(),
        }
        for name, track in tracks.items()
    }


def split_fragments(data: bytes) -> list[bytes]:
    """What stands before the first moof, then each moof with what follows it."""
    cuts = [0, *(at for at, kind in boxes(data) if kind == b"moof"), len(data)]
    return [data[start:end] for start, end in pairwise(cuts)]


def boxes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield at, data[at + 4 : at + 8]
        at += max(size, 8)


ROLES: dict[str, Callable[[Any, str, Path | None], Awaitable[None]]] = {
    "publish-data": publish_data,
    "subscribe-data": subscribe_data,
    "publish-film": publish_film,
    "watch-film": watch_film,
}


async def main(role: str, url: str, sha256: str, name: str, file: str | None = None) -> None:
    moq.log_level("debug")
    connection = moq.connect(url, tls_fingerprints=[sha256], websocket_enabled=False, reconnect=False)
    async with connection as client:
        report("connected")
        await ROLES[role](client, name, None if file is None else Path(file))


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:6]))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        report("failed", reason=f"{type(error).__name__}: {error}")
        sys.exit(1)
