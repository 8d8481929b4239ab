"""When an edge asks for its next certificate: at a third of the life of the one it has.

So an authority that is away leaves two thirds of a life to bring it back (reliability: a day's outage must
not be felt). Half a life without a new certificate is a warning, the last tenth an error: somebody has to
look. Connections that stand go on even beyond the end; it is new ones that fail then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

RENEW_AT: Final = 1 / 3
SPREAD: Final = 1 / 20
"""Of a life: edges that joined together do not ask together."""

WARN_AT: Final = 1 / 2
ALARM_AT: Final = 9 / 10
RETRIES_PER_LIFE: Final = 200
RETRY_SECONDS_MIN: Final = 1.0
RETRY_SECONDS_MAX: Final = 600.0

Concern: TypeAlias = Literal["", "late", "ending", "ended"]


@dataclass(frozen=True, slots=True)
class Life:
    """Of a certificate, Unix seconds: when it was issued, and its end."""

    issued_unix_s: float
    ends_unix_s: float

    @property
    def seconds(self) -> float:
        """How long it is; never 0."""
        return max(self.ends_unix_s - self.issued_unix_s, 1.0)

    def renew_unix_s(self, uniform: float) -> float:
        """When to ask for the next one; ``uniform`` (0 to 1) spreads edges."""
        return self.issued_unix_s + self.seconds * (RENEW_AT + SPREAD * uniform)

    @property
    def retry_seconds(self) -> float:
        """Between two tries."""
        return min(max(self.seconds / RETRIES_PER_LIFE, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX)

    def concern(self, unix_s: float) -> Concern:
        """What an operator should hear, if no other certificate has come by now."""
        spent = (unix_s - self.issued_unix_s) / self.seconds
        if spent >= 1.0:
            return "ended"
        if spent >= ALARM_AT:
            return "ending"
        return "late" if spent >= WARN_AT else ""
