"""Which temporal layer a frame belongs to: what a viewer can do without, and what others refer to.

Layer 0 is the base: it refers to nothing above it and plays by itself, at a lower frame rate. A frame of a
higher layer is needed by no frame of a lower one. The publisher puts layer k into subgroup k of the group
(draft-ietf-moq-loc, "Application with single video track with temporal layers"), object ids counting all
frames in decode order, so that an edge can leave out the highest subgroup for one viewer and break nothing.

What tells the layer, by codec:

- *H.264*: ``nal_ref_idc`` 0 in every slice says that no picture refers to this one (ITU-T H.264 7.4.1):
  B-pictures as common encoders make them. Two layers; a picture in the middle of a B-pyramid is base.
- *HEVC*: sub-layer non-reference pictures (even NAL types below 16) of the highest temporal sub-layer.
- *AV1*: the temporal id in the OBU extension header (AV1 5.3.3). Layers above the second count as the third.
- *VP9*: an inter frame that refreshes no reference and is decoded error resilient, so that it leaves the
  probabilities alone too (VP9 6.2): what encoders with temporal layers emit for the highest one.

Anything that cannot be read, and every key frame, is base: a frame too many in the base costs bytes, one too
few would cost the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from farcast.clients.media.bitstream import is_annexb, split_annexb
from farcast.clients.media.codecs import Family, family_of
from farcast.clients.media.tracks import Frame, TrackInfo

LAYERS_MAX = 3
"""Most layers of a track, the base included."""

NAL_UNITS_MAX = 1_000
"""Most NAL units looked at in one frame; with more it counts as base."""

_AV1_OBUS_MAX = 64


def in_layers(track: TrackInfo) -> TrackInfo:
    """The track with as many layers as its codec lets us tell apart."""
    return replace(track, layers=max(track.layers, LayerReader(track).layers))


class LayerReader:
    """Tells the layers of one track's frames."""

    def __init__(self, track: TrackInfo) -> None:
        family = family_of(track.codec) if track.kind == "video" else None
        self._read = _READERS.get(family) if family is not None else None
        self._config = track.extradata
        self.layers: int = 1 if family is None else _LAYERS.get(family, 1)
        """How many layers the track can have; 1 where none can be told apart."""

    def layer_of(self, frame: Frame) -> int:
        """The layer of a frame, 0 for the base."""
        if self._read is None or frame.keyframe:
            return 0
        return min(self._read(frame.data, self._config), LAYERS_MAX - 1)


# ---- H.264 and HEVC ----------------------------------------------------------------------------------


def _h264_layer(data: bytes, config: bytes | None) -> int:
    length_size = (config[4] & 3) + 1 if config is not None and len(config) > 4 else 0
    slices = [unit[0] >> 5 & 3 for unit in _nal_units(data, length_size) if 1 <= unit[0] & 0x1F <= 5]
    return int(bool(slices) and not any(slices))


def _hevc_layer(data: bytes, config: bytes | None) -> int:
    if config is None or len(config) < 22:
        return 0
    highest = max((config[21] >> 3 & 7) - 1, 0)
    units = [unit for unit in _nal_units(data, (config[21] & 3) + 1) if len(unit) >= 2]
    pictures = [(kind, (unit[1] & 7) - 1) for unit in units if (kind := unit[0] >> 1 & 0x3F) < 32]
    disposable = all(kind < 16 and kind % 2 == 0 and sublayer >= highest for kind, sublayer in pictures)
    return int(bool(pictures) and disposable)


def _nal_units(data: bytes, length_size: int) -> list[bytes]:
    """NAL units of a frame, with lengths before them or (size 0) start codes; none of one that breaks off or
    has too many."""
    if not length_size:
        return list(split_annexb(data)) if is_annexb(data) else []
    units: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + length_size], "big")
        unit = data[at + length_size : at + length_size + size]
        if not size or len(unit) < size or len(units) >= NAL_UNITS_MAX:
            return []
        units.append(unit)
        at += length_size + size
    return units


# ---- AV1 and VP9 --------------------------------------------------------------------------------------


def _av1_layer(data: bytes, _config: bytes | None) -> int:
    """The temporal id of the first OBU that has one (all of a temporal unit have the same)."""
    at = 0
    for _ in range(_AV1_OBUS_MAX):
        if at >= len(data):
            return 0
        head = data[at]
        has_extension, has_size = head & 4, head & 2
        if has_extension:
            return data[at + 1] >> 5 if at + 1 < len(data) else 0
        if not has_size:
            return 0
        size, at = _leb128(data, at + 1)
        at += size
    return 0


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            break
    return value, at


def _vp9_layer(data: bytes, _config: bytes | None) -> int:
    if len(data) < 3 or data[-1] & 0xE0 == 0xC0:
        return 0  # The end of a superframe: several frames in one.
    bits = int.from_bytes(data[:3], "big")
    marker, profile = bits >> 22, bits >> 20 & 3
    if marker != 2 or profile == 3:
        return 0
    shows_existing, is_inter, is_shown, is_resilient = (bits >> at & 1 for at in (19, 18, 17, 16))
    if shows_existing or not is_inter or not is_shown or not is_resilient:
        return 0
    refreshes = bits >> 8 & 0xFF
    return int(refreshes == 0)


_READERS: dict[Family, Callable[[bytes, bytes | None], int]] = {
    "h264": _h264_layer,
    "hevc": _hevc_layer,
    "av1": _av1_layer,
    "vp9": _vp9_layer,
}
_LAYERS: dict[Family, int] = {"h264": 2, "hevc": 2, "av1": LAYERS_MAX, "vp9": 2}
