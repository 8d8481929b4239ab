"""The MSF catalog (``catalog``): draft-ietf-moq-msf-01, CMAF tracks after draft-ietf-moq-cmsf-00.

::

    {"version": "draft-01", "generatedAt": …,
     "tracks": [{"name": …, "packaging": "cmaf" | "loc", "isLive": true, "role": "video" | "audio",
                 "renderGroup": 1, "altGroup": 1, "codec": …, "bitrate": …, "initRef": "init0",
                 "farcast-layers": 2, …}],
     "initDataList": [{"id": "init0", "type": "inline", "data": BASE64}]}

``altGroup`` is there for renditions of one picture. ``farcast-layers`` is a field of our own (the draft
permits such): how many temporal layers the track has, layer k being subgroup k of each group. MSF itself
knows layers only as tracks of their own (``temporalId``, ``depends``), which a relay cannot tell to belong
together.

The init data is the init segment with CMAF, the decoder configuration with LOC. Read are draft-00 (version
1, ``initData`` in the track) and every draft-NN from 01 on; a delta update is an error, because objects that
start a group must be complete.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from farcast.clients.media import codecs
from farcast.clients.media.cmaf import write_init
from farcast.clients.media.errors import MediaError
from farcast.clients.media.fields import Fields
from farcast.clients.media.layers import LAYERS_MAX
from farcast.clients.media.offer import Offer, OfferBuilder, Packaging, PublishedPackaging, offer_track
from farcast.clients.media.tracks import MICROSECONDS, Kind, TrackInfo

VERSION = "draft-01"
RENDER_GROUP = 1
"""All tracks of one publication are meant to be rendered together."""

DEFAULT_BITRATE = {"video": 5_000_000, "audio": 256_000}
"""Stated as the maximum where a source does not know it: the field is mandatory."""

LAYERS_FIELD = "farcast-layers"

_PACKAGINGS: dict[str, Packaging] = {"cmaf": "cmaf", "loc": "loc", "legacy": "legacy"}
_CHANNEL_NAMES = {"mono": 1, "stereo": 2}


def build_msf(
    tracks: Sequence[TrackInfo], packaging: PublishedPackaging, *, target_latency_ms: int | None = None
) -> bytes:
    """The catalog as JSON. Raises :class:`MediaError` on a track that cannot be described."""
    entries: list[dict[str, Any]] = []
    init_data: list[dict[str, str]] = []
    for track in tracks:
        entry = _entry(track, packaging)
        if target_latency_ms is not None:
            entry["targetLatency"] = target_latency_ms
        data = write_init(track) if packaging == "cmaf" else track.extradata
        if data is not None:
            entry["initRef"] = f"init{len(init_data)}"
            inline = {"id": entry["initRef"], "type": "inline", "data": base64.b64encode(data).decode()}
            init_data.append(inline)
        entries.append(entry)
    root = {"version": VERSION, "tracks": entries, "initDataList": init_data}
    return json.dumps(root, separators=(",", ":")).encode()


def parse_msf(payload: bytes) -> Offer:
    """Parse ``catalog``. Raises :class:`MediaError`; unknown fields are ignored."""
    root = Fields.parse(payload, "MSF catalog")
    _check_version(root)
    if root.raw("deltaUpdate") is not None:
        raise MediaError("MSF catalog is a delta update; a group must start with a complete catalog")
    inline = {
        entry.required_text("id"): entry.base64("data")
        for entry in root.objects("initDataList")
        if entry.text("type") == "inline"
    }
    builder = OfferBuilder()
    for fields in root.objects("tracks"):
        _add_track(builder, fields, inline)
    return builder.offer()


def _entry(track: TrackInfo, packaging: PublishedPackaging) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": track.name,
        "packaging": packaging,
        "isLive": True,
        "role": track.kind,
        "renderGroup": RENDER_GROUP,
        "codec": track.codec,
        "timescale": track.timescale,
        "bitrate": track.bitrate or DEFAULT_BITRATE[track.kind],
    }
    if track.layers > 1:
        entry[LAYERS_FIELD] = track.layers
    if track.alt_group is not None:
        entry["altGroup"] = track.alt_group
    if track.kind == "video":
        entry |= {"width": track.width, "height": track.height, "framerate": track.framerate}
    else:
        entry |= {"samplerate": track.samplerate, "channelConfig": str(track.channels or 2)}
    return {name: value for name, value in entry.items() if value is not None}


def _check_version(root: Fields) -> None:
    version = root.raw("version")
    if version == 1 and not isinstance(version, bool):
        return
    if not isinstance(version, str) or not version.startswith("draft-"):
        raise MediaError(f"MSF catalog of version {version!r}, which is not understood")


def _add_track(builder: OfferBuilder, fields: Fields, inline: dict[str, bytes | None]) -> None:
    name, label = fields.required_text("name"), fields.required_text("packaging")
    packaging = _PACKAGINGS.get(label)
    codec = fields.text("codec")
    kind = _kind_of(fields.text("role"), codec)
    if packaging is None or kind is None or codec is None:
        builder.ignore(f"track {name}: packaging {label}, role {fields.text('role')} is not media")
        return
    reference = fields.text("initRef")
    data = fields.base64("initData") if reference is None else inline.get(reference)
    if reference is not None and data is None:
        builder.ignore(f"track {name}: no inline init data {reference}")
        return
    info = _track_info(name, kind, codec, fields, data if packaging != "cmaf" else None)
    builder.add(name, lambda: offer_track(info, packaging, data))


def _kind_of(role: str | None, codec: str | None) -> Kind | None:
    if role in ("video", "audio"):
        return "video" if role == "video" else "audio"
    family = codecs.family_of(codec) if role is None and codec else None
    return None if family is None else "audio" if family in ("aac", "opus") else "video"


def _track_info(name: str, kind: Kind, codec: str, fields: Fields, extradata: bytes | None) -> TrackInfo:
    return TrackInfo(
        name,
        kind,
        codec,
        fields.integer("timescale") or MICROSECONDS,
        width=fields.integer("width"),
        height=fields.integer("height"),
        framerate=fields.number("framerate"),
        samplerate=fields.integer("samplerate"),
        channels=_channels(fields.text("channelConfig")),
        extradata=extradata,
        bitrate=fields.integer("bitrate"),
        layers=min(max(fields.integer(LAYERS_FIELD) or 1, 1), LAYERS_MAX),
        alt_group=fields.integer("altGroup"),
    )


def _channels(config: str | None) -> int | None:
    if config is None:
        return None
    if config.isascii() and config.isdigit() and len(config) < 4:
        return int(config)
    return _CHANNEL_NAMES.get(config)
