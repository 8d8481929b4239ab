"""The two catalogs of a publication.

We publish both at once, from one list of tracks:

``catalog``
    MSF (draft-ietf-moq-msf-01, with CMAF packaging after draft-ietf-moq-cmsf), see :mod:`msf`.
``catalog.json``
    The hang catalog, which ``@moq/watch`` reads by default, see :mod:`hang`.

CMAF is the default packaging because then both catalogs describe the *same* objects: MSF players, the
``@moq`` players and our own viewer all read ``moof`` + ``mdat`` with the init segment from the catalog, and
a fragment has everything a file needs (decode and presentation time, duration, key frame). Raw LOC is
smaller (112 bytes a frame less), but ``@moq`` players cannot see object properties: with LOC packaging,
``catalog.json`` is published without renditions, and only MSF players and our viewer can play.
"""

from __future__ import annotations

from collections.abc import Sequence

from farcast.clients.media.errors import MediaError
from farcast.clients.media.hang import build_hang, parse_hang
from farcast.clients.media.msf import build_msf, parse_msf
from farcast.clients.media.offer import Offer, PublishedPackaging
from farcast.clients.media.tracks import TrackInfo

MSF_TRACK = "catalog"
HANG_TRACK = "catalog.json"
CATALOG_TRACKS = (MSF_TRACK, HANG_TRACK)
"""Names of the catalog tracks, in the order in which a viewer should try them."""

_PARSERS = {MSF_TRACK: parse_msf, HANG_TRACK: parse_hang}


def build_catalogs(
    tracks: Sequence[TrackInfo],
    packaging: PublishedPackaging = "cmaf",
    *,
    target_latency_ms: int | None = None,
) -> dict[str, bytes]:
    """Both catalogs as payloads by track name. Raises :class:`MediaError` on a track without description."""
    taken = {name for name in (track.name for track in tracks) if name in CATALOG_TRACKS}
    if taken or len({track.name for track in tracks}) != len(tracks):
        raise MediaError("media tracks need names of their own")
    return {
        MSF_TRACK: build_msf(tracks, packaging, target_latency_ms=target_latency_ms),
        HANG_TRACK: build_hang(tracks if packaging == "cmaf" else ()),
    }


def parse_catalog(track_name: str, payload: bytes) -> Offer:
    """Parse an object of a catalog track. Raises :class:`MediaError`, also for any other track name."""
    parse = _PARSERS.get(track_name)
    if parse is None:
        raise MediaError(f"{track_name!r} is not the name of a catalog track")
    return parse(payload)
