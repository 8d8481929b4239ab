"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from edges import Edges, edges_in


@pytest.fixture
def edges(tmp_path: Path) -> Iterator[Edges]:
    """Starts edge processes; they end with the test."""
    with edges_in(tmp_path) as started:
        yield started
