"""What the packet kernel keeps of objects without returning to Python, as numpy arrays."""

from __future__ import annotations

import numpy as np

RECORD_DTYPE = np.dtype(
    [
        ("at_us", "<u8"),
        ("first_us", "<u8"),
        ("downstream", "<u4"),
        ("group", "<u8"),
        ("object", "<u4"),
        ("subgroup", "<u4"),
        ("bytes", "<u4"),
    ]
)
"""One object at a recorded sink: when it was whole, when its first byte came, what it is, payload bytes."""

OBJECT_TRACE_DTYPE = np.dtype(
    [
        ("first_us", "<u8"),
        ("last_us", "<u8"),
        ("track", "<u8"),
        ("group", "<u8"),
        ("object", "<u4"),
        ("subgroup", "<u4"),
    ]
)
"""One object at a traced datapath: when its first and its last byte came, and which it is."""


def records(data: bytes) -> np.ndarray:
    """The answer of ``World.take_record`` as an array of ``RECORD_DTYPE`` (a view of the bytes)."""
    return np.frombuffer(data, RECORD_DTYPE)


def object_trace(data: bytes) -> np.ndarray:
    """The answer of ``World.take_object_trace`` as an array of ``OBJECT_TRACE_DTYPE``."""
    return np.frombuffer(data, OBJECT_TRACE_DTYPE)
