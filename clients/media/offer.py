"""What a viewer finds in a catalog, whichever of the two it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from farcast.clients.media import codecs
from farcast.clients.media.bitstream import make_audio_config
from farcast.clients.media.cmaf import InitSegment, read_init
from farcast.clients.media.errors import MediaError
from farcast.clients.media.tracks import Kind, TrackInfo

PublishedPackaging = Literal["cmaf", "loc"]
Packaging = Literal["cmaf", "loc", "hang-loc", "legacy"]

TRACKS_MAX = 256
"""Most tracks read from one catalog."""


@dataclass(frozen=True, slots=True)
class OfferedTrack:
    """A playable track. ``init`` is set for CMAF only."""

    info: TrackInfo
    packaging: Packaging
    init: InitSegment | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """Playable tracks, and for each track that cannot be played a line saying why."""

    tracks: tuple[OfferedTrack, ...]
    ignored: tuple[str, ...] = ()

    def first(self, kind: Kind) -> OfferedTrack | None:
        """The first track of a kind."""
        return next((track for track in self.tracks if track.info.kind == kind), None)


def offer_track(info: TrackInfo, packaging: Packaging, init: bytes | None) -> OfferedTrack:
    """Complete a catalog's description of a track. Raises :class:`MediaError` if it cannot be played.

    With CMAF, time scale and configuration come from the init segment and the rest from the catalog.
    Audio that needs no configuration of its own gets the one its rate and channels stand for.
    """
    if codecs.family_of(info.codec) is None:
        raise MediaError(f"track {info.name}: codec {info.codec} is not one that can be played")
    if packaging != "cmaf":
        return OfferedTrack(_with_default_config(info), packaging)
    if init is None:
        raise MediaError(f"track {info.name}: CMAF without an init segment")
    segment = read_init(init, info.name)
    described = segment.track
    if described.kind != info.kind:
        raise MediaError(f"track {info.name}: the init segment is one of {described.kind}")
    merged = replace(
        info,
        timescale=described.timescale,
        extradata=described.extradata,
        width=info.width or described.width,
        height=info.height or described.height,
        samplerate=info.samplerate or described.samplerate,
        channels=info.channels or described.channels,
    )
    return OfferedTrack(merged, "cmaf", replace(segment, track=merged))


class OfferBuilder:
    """Collects tracks; one that cannot be played is noted, not fatal."""

    def __init__(self) -> None:
        self._tracks: dict[str, OfferedTrack] = {}
        self._ignored: list[str] = []

    def add(self, name: str, make: Callable[[], OfferedTrack]) -> None:
        """Add what ``make`` returns, or note the :class:`MediaError` it raises."""
        if len(self._tracks) + len(self._ignored) >= TRACKS_MAX:
            raise MediaError(f"catalog with more than {TRACKS_MAX} tracks")
        if name in self._tracks:
            raise MediaError(f"catalog with two tracks called {name!r}")
        try:
            self._tracks[name] = make()
        except MediaError as error:
            self._ignored.append(str(error))

    def ignore(self, reason: str) -> None:
        """Note a track that is left out."""
        self._ignored.append(reason)

    def offer(self) -> Offer:
        """What was collected."""
        return Offer(tuple(self._tracks.values()), tuple(self._ignored))


def _with_default_config(info: TrackInfo) -> TrackInfo:
    if info.extradata is not None or info.kind == "video":
        return info
    channels, samplerate = info.channels or 2, info.samplerate or codecs.OPUS_RATE
    if codecs.family_of(info.codec) == "opus":
        return replace(info, extradata=codecs.make_opus_head(channels))
    return replace(info, extradata=make_audio_config(samplerate, channels))
