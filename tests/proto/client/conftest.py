"""These tests run with and without the built extension."""

from __future__ import annotations

from ..agent.fake_core import install

install()
