"""Logs of an edge; how they look is the same for all daemons."""

from __future__ import annotations

from farcast.logs import configure_logs

__all__ = ["configure_logs"]
