"""Fixtures of the edge's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fake_runtime import FakeRuntime


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    fake = FakeRuntime()
    yield fake
    os.close(fake.event_fd)
