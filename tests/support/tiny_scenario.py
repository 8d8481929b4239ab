"""A scenario that runs in a second or two: three edges, a host, three viewers, four seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

HELD = "missing_frames < 50 %"
BROKEN = "connect p50 < 1 ms"

_TEXT = """
name = "tiny"
title = "A tiny world"
version = 1
seed = 5
duration_s = 10
sources = ["none"]
measured = ["nothing"]
synthesised = ["everything"]
promises = {promises}

[short]
duration_s = 6
viewers_max = 2

[world]
control_region = "sin"
edges = [{{ region = "sin" }}, {{ region = "fra" }}, {{ region = "dxb" }}]

[world.backbone]
kind = "flat"
rtt_ms = 40
loss = 0.01

[[load.films]]
name = "film"
renditions = [{{ height = 360, bitrate_mbps = 0.4 }}]

[[load.publishers]]
name = "host"
room = "live/tiny"
country = "SG"
film = "film"
access = {{ profile = "plain", rtt_ms = 10 }}

[[load.viewers]]
name = "watching"
room = "live/tiny"
country = "DE"
count = 4
joins_s = [0, 0.5]
access = {{ profile = "plain", rtt_ms = 10 }}
{more}
"""


def write_tiny(folder: Path, promises: Sequence[str] = (HELD,), more: str = "") -> Path:
    """The file, with these promises; ``more`` TOML at its end."""
    file = folder / "tiny.toml"
    listed = "[" + ", ".join(f'"{promise}"' for promise in promises) + "]"
    file.write_text(_TEXT.format(promises=listed, more=more))
    return file
