"""Which viewers tapped on a track that their edge already had.

The promise about the first picture is of a *warm* track. The first viewer of a track at an edge waits for the
edge as well: the catalog, and then the track itself, each once to the origin's edge and back. Both are
figures that somebody wants, and neither says anything about the other, so they are told apart here.

A track is warm for a viewer if its first edge is that of the publisher, or if somebody else there had got an
object of that very rendition by the time of the tap and was still watching.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from farcast.simulations.raw import ClientTrace, RawResult
from farcast.simulations.views import View


def warm_views(raw: RawResult, views: Sequence[View]) -> list[bool]:
    """For each view whether its picture's track was warm; one that never met an edge is cold."""
    origins = {client.client: client for client in raw.clients if client.kind == "publisher"}
    has = _edges_with_tracks(raw)
    return [_is_warm(raw, view, origins.get(view.publisher), has) for view in views]


def stays(client: ClientTrace, ended_us: int) -> Iterator[tuple[str, int, int]]:
    """With which edge a client was, from when and until when."""
    left_us = ended_us if client.left_us is None else min(client.left_us, ended_us)
    times = [at_us for at_us, _ in client.edges] + [left_us]
    for (at_us, edge), until_us in zip(client.edges, times[1:], strict=True):
        yield edge, at_us, until_us


Times = dict[tuple[str, int], list[tuple[int, int, str]]]
"""By edge and track: from when and until when which viewer got objects of it there."""


def _edges_with_tracks(raw: RawResult) -> Times:
    found: Times = defaultdict(list)
    for client in raw.clients:
        for edge, from_us, until_us in stays(client, raw.ended_us):
            inside = client.arrivals[
                (client.arrivals["at_us"] >= from_us) & (client.arrivals["at_us"] < until_us)
            ]
            tracks, first = np.unique(inside["track"], return_index=True)
            for track, place in zip(tracks.tolist(), first.tolist(), strict=True):
                found[edge, track].append((int(inside["at_us"][place]), until_us, client.client))
    return found


def _is_warm(raw: RawResult, view: View, origin: ClientTrace | None, has: Times) -> bool:
    client = view.client
    if not client.edges:
        return False
    edge, tapped_us = client.edges[0][1], client.tapped_us
    if origin is not None and any(
        edge == other and from_us <= tapped_us < until_us
        for other, from_us, until_us in stays(origin, raw.ended_us)
    ):
        return True
    tracks = [
        watched.track
        for watched in client.watched
        if raw.tracks[watched.track].kind == "video" and raw.tracks[watched.track].publisher == view.publisher
    ]
    del tracks[1:]  # Of several renditions that are watched in turn the first one decides.
    return bool(tracks) and all(
        any(
            from_us <= tapped_us < until_us and who != client.client
            for from_us, until_us, who in has.get((edge, track), ())
        )
        for track in tracks
    )
