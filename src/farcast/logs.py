"""Logs: fields, not prose; pretty on a terminal, JSON lines elsewhere, always on stderr.

Levels: ``error`` somebody must act now; ``warning`` something is wrong and we cope; ``info`` a state
change that a user would ask about; ``debug`` what a developer wants. Nothing is logged per packet, per
object or per request of a peer above ``debug``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

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
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def _redacted(_: Any, __: str, line: Any) -> str:
    """The rendered line without secrets, whatever was put into it."""
    return redact(str(line))
