"""The names, units and meanings of what a simulation measures, and of what viewers can be told apart by.

Promises, reports and documentation take them from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["ms", "%", "x", ""]
"""Milliseconds; per cent; times; a number."""


@dataclass(frozen=True, slots=True)
class OutputInfo:
    """One output. ``samples`` are a distribution; a ``ratio`` is a sum by a sum, each over viewers.

    ``everyone``: each viewer has it, so a market without a sample is one that went wrong.
    """

    name: str
    unit: Unit
    kind: Literal["samples", "ratio"]
    meaning: str
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class AttributeInfo:
    """What a condition can ask of a viewer; names have no unit and are compared as text."""

    name: str
    unit: Literal["ms", "Mbit/s", "%", "name"]
    meaning: str


_OUTPUTS: Final = (
    OutputInfo(
        "glass_to_glass",
        "ms",
        "samples",
        "from the light of a picture to its being shown, one sample for each picture shown while live; "
        "infinite for those that a viewer missed who never had a picture, or lost it for good",
        everyone=True,
    ),
    OutputInfo(
        "object_latency",
        "ms",
        "samples",
        "from the capture of a frame to its last byte at the viewer: the network's part, without a player",
        everyone=True,
    ),
    OutputInfo(
        "player_delay",
        "ms",
        "samples",
        "how long a shown picture waited in the viewer: for its turn, for what it refers to, for smoothness",
    ),
    OutputInfo(
        "connect", "ms", "samples", "from the tap to an open session, one sample a viewer", everyone=True
    ),
    OutputInfo(
        "first_picture",
        "ms",
        "samples",
        "from the tap to the first picture shown, one sample a viewer; infinite if none came",
        everyone=True,
    ),
    OutputInfo(
        "stall_ratio",
        "%",
        "ratio",
        "time frozen (W3C webrtc-stats) by time since the first picture; all of it for who never had one",
        everyone=True,
    ),
    OutputInfo("stalls", "", "samples", "freezes of each viewer, one sample a viewer", everyone=True),
    OutputInfo("stall_length", "ms", "samples", "how long each freeze lasted"),
    OutputInfo(
        "hd_share",
        "%",
        "ratio",
        "time with HD on screen, not frozen, by time since the first picture; none for who never had one",
        everyone=True,
    ),
    OutputInfo(
        "missing_frames",
        "%",
        "ratio",
        "frames of the tracks watched that never came, by those published meanwhile",
        everyone=True,
    ),
    OutputInfo(
        "unshown_frames",
        "%",
        "ratio",
        "pictures that were never shown (lost, too late, or without what they refer to), by those published",
    ),
    OutputInfo(
        "av_skew",
        "ms",
        "samples",
        "delay of the picture minus delay of the sound at the same moment, devices included: positive when "
        "sound leads; the mean of a second",
    ),
    OutputInfo(
        "audio_gaps", "%", "ratio", "sound concealed because it was not there in time, by sound published"
    ),
    OutputInfo(
        "resume",
        "ms",
        "samples",
        "time without a new picture (one that is shown) after a fault, one sample for each fault and viewer "
        "that it hit",
    ),
    OutputInfo(
        "rendition_switches",
        "",
        "samples",
        "times that the picture on screen changed its rendition, one sample a viewer",
    ),
    OutputInfo("moves", "", "samples", "moves from edge to edge of each viewer, one sample a viewer"),
    OutputInfo("errors", "", "samples", "errors of each viewer, one sample a viewer"),
    OutputInfo(
        "bytes_over_direct",
        "x",
        "ratio",
        "bytes between edges by those of one direct copy from the origin edge to each edge that is watched",
    ),
)

_ATTRIBUTES: Final = (
    AttributeInfo("access_rtt", "ms", "round trip between the viewer and its nearest edge"),
    AttributeInfo("access_rate", "Mbit/s", "rate of the viewer's access, downwards"),
    AttributeInfo("market", "name", "the viewer's market"),
    AttributeInfo("region", "name", "the viewer's region"),
    AttributeInfo("from_region", "name", "the publisher's region"),
    AttributeInfo("room", "name", "what is watched"),
    AttributeInfo("stack", "name", "stock or farcast"),
    AttributeInfo("transport", "name", "quic or webtransport"),
    AttributeInfo("track", "name", "warm (its first edge had its picture's track at the tap) or cold"),
)


def known_outputs() -> tuple[OutputInfo, ...]:
    """Every output that promises can be made about."""
    return _OUTPUTS


def known_attributes() -> tuple[AttributeInfo, ...]:
    """Every attribute that a promise's conditions can ask for."""
    return _ATTRIBUTES


OUTPUTS: Final = {output.name: output for output in _OUTPUTS}
ATTRIBUTES: Final = {attribute.name: attribute for attribute in _ATTRIBUTES}
