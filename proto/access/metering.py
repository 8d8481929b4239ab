"""What the sessions of each key have used at an edge, told to the control plane so that it is counted once.

An edge tells totals, not what came since: a *meter* is the totals of one process, by key, named by its boot
id. So a report that is lost, repeated or overtaken changes nothing, and a control plane that starts anew, or
is put back to an older state, catches up with the next report.

    process 1   meter b1: 0 ── 90 GB ──────┐ dies          the file of its meters, written now and then
    process 2   meter b2: 0 ── 10 GB ───►  └─► tells b1 (as the file has it) and b2, until b1 is acknowledged

A process that dies leaves its totals in a file; the next one tells them beside its own until a report that
had all of them is acknowledged. Lost is what a process counted between the last report (every second while
the control plane is there) or file (`SAVE_SECONDS`), whichever is later, and its death; a process that ends
in order loses nothing. A file that is lost or damaged loses what was not reported yet. Nothing is ever
counted twice, whatever is lost: to bill too little is a pity, to bill twice a scandal.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from farcast.proto.access.keys import KEYS_MAX, is_key_id
from farcast.proto.access.quotas import Amounts, QuotaTable, Totals

SAVE_SECONDS: Final = 10.0
"""How often the shell writes `UsageMeter.dump`."""

USAGE_PER_REPORT_MAX: Final = 256
"""Keys in one report; of more that changed those come first that were told longest ago."""

OLD_METERS_MAX: Final = 4
"""Of earlier processes whose totals the control plane has not acknowledged; of more the oldest go."""

FILE_BYTES_MAX: Final = 8 << 20
_MAGIC: Final = b"farcast usage 1\n"


NOTHING: Final = Amounts()


class BadUsageFile(Exception):
    """The bytes are no meters; ``reason`` is one sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Used:
    """Of one key: totals of a meter, and what it takes now (nothing, of an earlier process)."""

    meter: str
    key_id: str
    totals: Totals
    now: Amounts = NOTHING
    refused: int = 0


_Meters = dict[str, dict[str, tuple[int, int, int, int]]]
_DECODER: Final = msgspec.msgpack.Decoder(_Meters)


class UsageMeter:
    """Meters of one edge. ``meter``: the boot id of this process."""

    def __init__(self, meter: str) -> None:
        self.meter = meter
        self._old: dict[str, dict[str, Totals]] = {}
        self._owed: list[Used] = []
        """Of those what is still to be told."""
        self._owed_told_in: int | None = None
        """The report that had the last of it."""
        self._told: dict[str, Used] = {}
        self._saved: bytes | None = None

    @property
    def is_owing(self) -> bool:
        """Whether totals of earlier processes wait to be acknowledged."""
        return bool(self._old)

    def load(self, data: bytes) -> None:
        """The file that an earlier process left. Raises `BadUsageFile`; nothing is owed then."""
        head, digest, body = data[: len(_MAGIC)], data[len(_MAGIC) :][:32], data[len(_MAGIC) + 32 :]
        if head != _MAGIC or len(data) > FILE_BYTES_MAX:
            raise BadUsageFile("it is no file of meters")
        if hashlib.sha256(body).digest() != digest:
            raise BadUsageFile("it is damaged or cut off: its checksum does not fit")
        try:
            meters = _DECODER.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadUsageFile("its contents are no meters") from error
        totals_of = [each for keys in meters.values() for each in keys.items()]
        if not all(is_key_id(key) and min(totals) >= 0 for key, totals in totals_of):
            raise BadUsageFile("its contents are no meters")
        meters.pop(self.meter, None)
        kept = list(meters.items())[-OLD_METERS_MAX:]
        self._old = {
            meter: {key: Totals(*totals) for key, totals in keys.items()} for meter, keys in kept if keys
        }
        self.told_anew()

    def dump(self, quotas: QuotaTable) -> bytes | None:
        """The file, with a checksum; ``None`` where it would be as it was."""
        meters = {**self._old, self.meter: {key: quotas.totals(key) for key in quotas.keys[:KEYS_MAX]}}
        body = msgspec.msgpack.encode({meter: keys for meter, keys in meters.items() if keys})
        if body == self._saved or (self._saved is None and not any(meters.values())):
            return None
        self._saved = body
        return _MAGIC + hashlib.sha256(body).digest() + body

    def told_anew(self) -> None:
        """The control plane may know nothing: all is to be told again."""
        self._told.clear()
        self._owed = [
            Used(meter, key, totals) for meter, keys in self._old.items() for key, totals in keys.items()
        ]
        self._owed_told_in = None

    def tell(self, quotas: QuotaTable, sequence: int) -> tuple[Used, ...]:
        """What the report of this number is to say: what earlier processes left, then what changed here."""
        owed, self._owed = self._owed[:USAGE_PER_REPORT_MAX], self._owed[USAGE_PER_REPORT_MAX:]
        if self._old and not self._owed and self._owed_told_in is None:
            self._owed_told_in = sequence
        changed = [used for key in quotas.keys if (used := self._used(key, quotas)) != self._told.get(key)]
        places = {key: place for place, key in enumerate(self._told)}
        changed.sort(key=lambda used: places.get(used.key_id, -1))
        changed = changed[: USAGE_PER_REPORT_MAX - len(owed)]
        for used in changed:
            self._told.pop(used.key_id, None)
            self._told[used.key_id] = used
        return (*owed, *changed)

    def acknowledged(self, sequence: int) -> None:
        """The control plane has the report of this number, and those before."""
        if self._owed_told_in is not None and sequence >= self._owed_told_in:
            self._old, self._owed_told_in = {}, None

    def _used(self, key_id: str, quotas: QuotaTable) -> Used:
        return Used(self.meter, key_id, quotas.totals(key_id), quotas.used(key_id), quotas.refused(key_id))
