"""How long an edge waits before it tries a control plane again.

Any time up to a bound that starts at half a second and doubles with every round through the addresses up to
ten seconds: edges that lost their control plane in the same moment come back spread out, and no control plane
meets them all at once. A connection that lasted starts the series anew, and so does a control plane that
stands by and says so: another one has died, or is about to lead.
"""

from __future__ import annotations

from collections.abc import Callable


class Retries:
    """The series of waits. ``uniform`` gives numbers from 0 to 1; ``addresses`` are tried in turn."""

    def __init__(
        self,
        uniform: Callable[[], float],
        *,
        addresses: int = 1,
        retry_ms: int = 500,
        retry_ms_max: int = 10_000,
        stable_ms: int = 5_000,
    ) -> None:
        self._uniform = uniform
        self._addresses = addresses
        self._retry_ms = retry_ms
        self._retry_ms_max = retry_ms_max
        self._stable_ms = stable_ms
        self._failures = 0

    def next_wait_ms(self, lasted_ms: float = 0.0, asked_ms: int = 0) -> float:
        """The wait after a connection that lasted so long, or after an attempt that failed. ``asked_ms``: a
        control plane that stands by has asked to be tried again within this time, 0 for none."""
        if asked_ms > 0:
            self._failures = 0
            return self._uniform() * min(asked_ms, self._retry_ms_max)
        if lasted_ms >= self._stable_ms:
            self._failures = 0
        exponent = min(self._failures // self._addresses, 32)
        self._failures += 1
        return self._uniform() * min(self._retry_ms << exponent, self._retry_ms_max)
