"""Waiting times between attempts: exponential, bounded, and spread by a seeded generator."""

from __future__ import annotations

from dataclasses import dataclass

_MASK_64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class BackoffConfig:
    """``initial_ms`` doubles with every failure up to ``max_ms``; each wait is 50 to 100 % of that.

    A connection that lasted ``stable_ms`` counts as a success: the next wait is an initial one again.
    (A server that accepts and sends everybody away at once must not be asked in a tight loop.)
    """

    initial_ms: int = 200
    max_ms: int = 10_000
    stable_ms: int = 5_000


class Backoff:
    """Waiting times of one connection; the same seed gives the same series."""

    def __init__(self, config: BackoffConfig, seed: int) -> None:
        self._config = config
        self._state = seed & _MASK_64
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def next_wait_us(self, lasted_us: int = 0) -> int:
        """Count one failure, after a connection of ``lasted_us``; the time to wait, microseconds."""
        if lasted_us >= self._config.stable_ms * 1_000:
            self._failures = 0
        exponent = min(self._failures, 32)
        self._failures += 1
        full_us = min(self._config.initial_ms << exponent, self._config.max_ms) * 1_000
        return full_us // 2 + self._random() % (full_us // 2 + 1)

    def _random(self) -> int:
        """SplitMix64 (Steele, Lea, Flood 2014): spread matters here, not quality."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK_64
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK_64
        return mixed ^ (mixed >> 31)
