"""Logs: fields, not prose; pretty on a terminal, JSON lines elsewhere, always on stderr.

Levels: ``error`` somebody must act now; ``warning`` something is wrong and we cope; ``info`` a state
change that a user would ask about; ``debug`` what a developer wants. Nothing is logged per packet, per
object or per request of a peer above ``debug``.

A log that cannot be written (a full disk under ``>> edge.log``) is no reason to stop serving: lines are lost,
and how many is said by the first one that gets through.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

import structlog

from farcast.redaction import redact


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Set where and how much is logged; may be called again to change the level."""
    stream = sys.stderr if stream is None else stream
    pretty = stream.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if pretty else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(),
            _redacted,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lossy(stream))),
        cache_logger_on_first_use=False,
    )


def _redacted(_: Any, __: str, line: Any) -> str:
    """The rendered line without secrets, whatever was put into it."""
    return redact(str(line))


class _Lossy:
    """A stream whose faults are nobody else's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0

    def write(self, text: str) -> int:
        """All of the text, or none of it."""
        if self._lost:
            text = f'{{"level": "warning", "event": "log lines were lost", "lines": {self._lost}}}\n{text}'
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._lost += 1
        else:
            self._lost = 0
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""
