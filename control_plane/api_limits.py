"""How often one may ask the HTTP API: a token bucket each, by token, and by address where none is right."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

ASKERS_MAX: Final = 1_024
"""Askers that are remembered; beyond that whoever was quiet longest is forgotten, and begins with a full
bucket."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` requests at once, ``per_second`` sustained."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """Rates. Reading is cheap and ``farcast top`` does it often; changes are rare, and each is written to
    disk."""

    reads: Rate = Rate(50, 200)
    """Of one token."""
    changes: Rate = Rate(5, 50)
    """Of one token, apart from what it reads."""
    failures: Rate = Rate(1, 20)
    """Requests without a right token, of one address."""


@dataclass(slots=True)
class Buckets:
    """One bucket for each asker. Times are the caller's, seconds."""

    rate: Rate
    _levels: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, asker: str, now_s: float) -> float | None:
        """``None`` where the asker may; else in how many seconds it may again."""
        level, at_s = self._levels.pop(asker, (float(self.rate.burst), now_s))
        level = min(level + max(now_s - at_s, 0.0) * self.rate.per_second, float(self.rate.burst))
        wait_s = None if level >= 1 else (1 - level) / self.rate.per_second
        self._levels[asker] = (level if wait_s is not None else level - 1, now_s)
        if len(self._levels) > ASKERS_MAX:
            self._levels.popitem(last=False)
        return wait_s
