"""The hang catalog (``catalog.json``), read by ``@moq/watch`` and written by ``@moq/publish`` and moq-rs.

::

    {"video": {"renditions": {"NAME": {"codec": …, "codedWidth": …, "codedHeight": …, "framerate": …,
                                       "description": HEX, "container": {"kind": "cmaf", "init": BASE64}}}},
     "audio": {"renditions": {"NAME": {"codec": …, "sampleRate": …, "numberOfChannels": …, …}}}}

``jitter`` must be a whole number of milliseconds: a fraction makes the player throw. It is given for video
with B-frames, whose pictures the player would otherwise take for late.

Tracks with temporal layers are left out: ``@moq`` players read a group from one stream, take the gaps that a
layer leaves in its object ids for losses, and give the group up.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from farcast.clients.media import codecs
from farcast.clients.media.cmaf import write_init
from farcast.clients.media.errors import MediaError
from farcast.clients.media.fields import Fields
from farcast.clients.media.offer import Offer, OfferBuilder, Packaging, offer_track
from farcast.clients.media.tracks import MICROSECONDS, Kind, TrackInfo

ALT_GROUP = 1
"""Renditions of a hang catalog are alternatives by what they are called."""

_CONTAINERS: dict[str, Packaging] = {"cmaf": "cmaf", "loc": "hang-loc", "legacy": "legacy"}
_SECTIONS: tuple[Kind, ...] = ("video", "audio")


def build_hang(tracks: Sequence[TrackInfo]) -> bytes:
    """The catalog of CMAF tracks as JSON. Raises :class:`MediaError` on a track without configuration."""
    sections: dict[str, Any] = {}
    for kind in _SECTIONS:
        of_kind = [track for track in tracks if track.kind == kind and track.layers == 1]
        renditions = {track.name: _rendition(track) for track in of_kind}
        if renditions:
            sections[kind] = {"renditions": renditions}
    return json.dumps(sections, separators=(",", ":")).encode()


def parse_hang(payload: bytes) -> Offer:
    """Parse ``catalog.json``. Raises :class:`MediaError`; unknown fields are ignored."""
    root = Fields.parse(payload, "hang catalog")
    builder = OfferBuilder()
    for kind in _SECTIONS:
        section = root.object(kind)
        renditions = section.object("renditions") if section else None
        members = renditions.members() if renditions else []
        alt_group = ALT_GROUP if kind == "video" and len(members) > 1 else None
        for name, fields in members:
            _add_rendition(builder, name, kind, fields, alt_group)
    return builder.offer()


def _rendition(track: TrackInfo) -> dict[str, Any]:
    init = base64.b64encode(write_init(track)).decode()
    rendition: dict[str, Any] = {"codec": track.codec, "container": {"kind": "cmaf", "init": init}}
    if track.kind == "video":
        rendition |= {"codedWidth": track.width, "codedHeight": track.height, "framerate": track.framerate}
        if track.reorder_ms:
            rendition["jitter"] = track.reorder_ms + _interval_ms(track)
    else:
        rendition |= {"sampleRate": track.samplerate, "numberOfChannels": track.channels}
    if track.extradata is not None and codecs.family_of(track.codec) in ("h264", "hevc", "aac"):
        rendition["description"] = track.extradata.hex()
    rendition["bitrate"] = track.bitrate
    return {name: value for name, value in rendition.items() if value is not None}


def _interval_ms(track: TrackInfo) -> int:
    return -(-1000 // max(int(track.framerate or 30), 1))


def _add_rendition(
    builder: OfferBuilder, name: str, kind: Kind, fields: Fields, alt_group: int | None
) -> None:
    container = fields.object("container")
    label = container.required_text("kind") if container else "legacy"
    packaging = _CONTAINERS.get(label)
    info = replace(_track_info(name, kind, fields), alt_group=alt_group)
    init = container.base64("init") if container else None
    if packaging is None:
        builder.ignore(f"track {name}: container {label} is not one that can be read")
    elif fields.text("broadcast"):
        builder.ignore(f"track {name}: belongs to another broadcast, {fields.text('broadcast')}")
    else:
        builder.add(name, lambda: offer_track(info, packaging, init))


def _track_info(name: str, kind: Kind, fields: Fields) -> TrackInfo:
    if kind == "audio" and fields.integer("sampleRate") is None:
        raise MediaError(f"{fields.where}: field 'sampleRate' is missing")
    return TrackInfo(
        name,
        kind,
        fields.required_text("codec"),
        MICROSECONDS,
        width=fields.integer("codedWidth"),
        height=fields.integer("codedHeight"),
        framerate=fields.number("framerate"),
        samplerate=fields.integer("sampleRate"),
        channels=fields.integer("numberOfChannels"),
        extradata=fields.hex("description"),
        bitrate=fields.integer("bitrate"),
    )
