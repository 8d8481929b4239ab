"""A viewer's sight of one publisher: what was published for it, what of it came, and what its player made of
it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.constants import ENCODE_VIDEO_US, LIVE_TAIL_US, PICTURE_GRACE_US
from farcast.simulations.playout import NEVER, Feed, Playout, Times, no_feed, play
from farcast.simulations.raw import Array, ClientTrace, RawResult, TrackInfo, TrackKind, Watched

OBJECT_BITS: Final = 24
"""A group has fewer objects than two to the power of this."""

FRAME_US_DEFAULT: Final = 33_333


@dataclass(frozen=True, slots=True)
class View:
    """One viewer and one publisher, from the tap to ``until_us``.

    ``video`` and ``audio`` are everything of the tracks watched that was captured until then; ``playout`` is
    what was made of them. ``expected`` and ``missing``: frames that should have come, and those that did not.
    """

    client: ClientTrace
    publisher: str
    video: Feed
    audio: Feed
    pictures: Array
    """The frames behind ``video``, in its order."""
    playout: Playout
    until_us: int
    """When it left, the run ended, or the film did."""
    film_from_us: int
    """When the first picture of the film was captured."""
    offers_hd_height: int
    """Lines of the best rendition that the publisher offers; 0 without pictures."""
    frame_us: int
    """How long one picture lasts."""
    encode_us: int
    """What a frame's encoding takes beyond what the run itself let it take."""
    expected: int
    missing: int
    is_first: bool
    """Whether it is this viewer's first: what belongs to the viewer as a whole counts there."""

    @property
    def base_us(self) -> int:
        """From when on a viewer can wait for a picture: its tap, or the beginning of the film."""
        return max(self.client.tapped_us, self.film_from_us)

    @property
    def is_patient(self) -> bool:
        """Whether it stayed long enough that having no picture means something."""
        return self.until_us - self.base_us >= PICTURE_GRACE_US


class FrameIndex:
    """The frames of a run by track, in the order of decoding."""

    def __init__(self, raw: RawResult) -> None:
        frames = raw.frames
        order = np.lexsort((frames["object"], frames["group"], frames["track"]))
        self._frames: Array = frames[order]
        bounds = np.searchsorted(self._frames["track"], np.arange(len(raw.tracks) + 1))
        self._bounds: list[int] = bounds.tolist()

    def of(self, track: int) -> Array:
        """Every frame of a track."""
        return self._frames[self._bounds[track] : self._bounds[track + 1]]


def views_of(raw: RawResult, client: ClientTrace, index: FrameIndex) -> Iterator[View]:
    """One view for each publisher that the viewer wanted to see, in the order of its tracks; then one for
    each in its room of which it never knew any track. Who never got a catalog wanted to see all the same."""
    known = {raw.tracks[watched.track].publisher: None for watched in client.watched}
    left_us = _left_us(raw, client)
    others = [
        other.client
        for other in raw.clients
        if other.kind == "publisher" and other.room == client.room and other.tapped_us < left_us
    ]
    offering = {track.publisher for track in raw.tracks}
    publishers = [name for name in dict.fromkeys([*known, *others]) if name in offering]
    for number, publisher in enumerate(publishers):
        yield _view(raw, client, publisher, index, is_first=number == 0)


def _left_us(raw: RawResult, client: ClientTrace) -> int:
    return raw.ended_us if client.left_us is None else min(client.left_us, raw.ended_us)


def _view(raw: RawResult, client: ClientTrace, publisher: str, index: FrameIndex, *, is_first: bool) -> View:
    watched = [each for each in client.watched if raw.tracks[each.track].publisher == publisher]
    watched = watched or _wanted(raw, client, publisher)
    left_us = _left_us(raw, client)
    arrivals = {
        track: _arrivals(client.arrivals, track, index.of(track))
        for track in dict.fromkeys(each.track for each in watched)
    }
    video, pictures = _feed(raw, "video", index, arrivals, left_us)
    audio, _ = _feed(raw, "audio", index, arrivals, left_us)
    counts = [_missing(each, index.of(each.track), arrivals[each.track], left_us) for each in watched]
    offered = [track for track in raw.tracks if track.publisher == publisher and track.kind == "video"]
    playout = play(client.stack, video, audio, frame_us=_frame_us(offered), until_us=left_us)
    return View(
        client=client,
        publisher=publisher,
        video=video,
        audio=audio,
        pictures=pictures,
        playout=playout,
        until_us=min(left_us, int(video.capture_us.max(initial=0)) or left_us),
        film_from_us=int(video.capture_us.min()) if video.capture_us.size else _tapped_us(raw, publisher),
        offers_hd_height=max((track.height for track in offered), default=0),
        frame_us=_frame_us(offered),
        encode_us=0 if any(track.encode_us for track in offered) else ENCODE_VIDEO_US,
        expected=sum(expected for expected, _ in counts),
        missing=sum(missing for _, missing in counts),
        is_first=is_first,
    )


def _wanted(raw: RawResult, client: ClientTrace, publisher: str) -> list[Watched]:
    """What a viewer would have watched that never got the catalog: the best picture, and the sound."""
    tracks = [(k, track) for k, track in enumerate(raw.tracks) if track.publisher == publisher]
    best = max((track.height for _, track in tracks if track.kind == "video"), default=0)
    chosen = [k for k, track in tracks if track.kind == "video" and track.height == best][:1]
    chosen += [k for k, track in tracks if track.kind == "audio"][:1]
    return [Watched(k, client.tapped_us) for k in chosen]


def _tapped_us(raw: RawResult, publisher: str) -> int:
    return next((client.tapped_us for client in raw.clients if client.client == publisher), 0)


def _frame_us(tracks: list[TrackInfo]) -> int:
    return next((track.frame_us for track in tracks if track.frame_us > 0), FRAME_US_DEFAULT)


def _arrivals(arrivals: Array, track: int, frames: Array) -> Times:
    """When each frame of a track was there; the first time counts."""
    result = np.full(frames.size, NEVER, np.int64)
    mine = arrivals[arrivals["track"] == track][::-1]
    groups = np.unique(frames["group"])
    known = np.isin(mine["group"], groups)
    mine = mine[known]
    if mine.size == 0:
        return result
    keys, wanted = _keys(groups, frames), _keys(groups, mine)
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    found = keys[place] == wanted
    result[place[found]] = mine["at_us"][found]
    return result


def _keys(groups: NDArray[np.uint64], objects: Array) -> NDArray[np.int64]:
    keys: NDArray[np.int64] = np.searchsorted(groups, objects["group"]).astype(np.int64) << OBJECT_BITS
    keys += objects["object"].astype(np.int64)
    return keys


def _feed(
    raw: RawResult, kind: TrackKind, index: FrameIndex, arrivals: dict[int, Times], until_us: int
) -> tuple[Feed, Array]:
    """Everything of the tracks of one kind that was captured until a time, and its frames."""
    parts = []
    for track, arrival_us in arrivals.items():
        if raw.tracks[track].kind != kind:
            continue
        frames = index.of(track)
        inside = frames["capture_us"] < until_us
        part = frames[inside]
        height = np.full(part.size, raw.tracks[track].height, np.int64)
        parts.append((part, arrival_us[inside], height))
    if not parts:
        return no_feed(), raw.frames[:0]
    frames = np.concatenate([part for part, _, _ in parts])
    _, groups = np.unique(frames["group"], return_inverse=True)
    segment = frames["track"].astype(np.int64) * (int(groups.max(initial=0)) + 1) + groups
    feed = Feed(
        capture_us=frames["capture_us"].astype(np.int64),
        arrival_us=np.concatenate([arrival_us for _, arrival_us, _ in parts]),
        segment=segment.astype(np.int64),
        key=frames["key"].astype(np.bool_) | (kind == "audio"),
        quality=np.concatenate([height for _, _, height in parts]),
    )
    return feed, frames


def _missing(watched: Watched, frames: Array, arrival_us: Times, left_us: int) -> tuple[int, int]:
    """Frames captured while they were wanted, and those that never came.

    Counted from the first one's coming, or, if none came, from when one should have; until shortly before the
    end, because what is still under way is not missing.
    """
    until_us = min(watched.until_us or left_us, left_us) - LIVE_TAIL_US
    since = arrival_us[arrival_us >= watched.at_us]
    first_us = int(since.min(initial=NEVER))
    from_us = first_us if first_us < left_us else watched.at_us + PICTURE_GRACE_US
    wanted = (frames["capture_us"] >= from_us) & (frames["capture_us"] < until_us)
    return int(wanted.sum()), int((arrival_us[wanted] >= NEVER).sum())
