"""What a hop's datapath may spend on repairs, told once its peer has said what it understands."""

from __future__ import annotations

from dataclasses import astuple, replace
from functools import lru_cache
from typing import Final

from farcast.proto._core import Command, HopPolicy, SecondPathPolicy
from farcast.proto.moqt.values import Recovery
from farcast.proto.recovery.policy import Assumptions, table
from farcast.proto.recovery.second_path import SecondPaths, second_path_table

RECOVERY_OFFERED: Final = Recovery.RETRANSMISSION | Recovery.SPACED_COPIES | Recovery.FORWARD_ERROR_CORRECTION
"""What this edge understands as the receiver of a hop."""


def policy_command(session: int, offered: Recovery, assumed: Assumptions) -> Command:
    """The table for a hop: coded repair only where its peer offers it (an older edge does not)."""
    coded = assumed.coded and bool(offered & Recovery.FORWARD_ERROR_CORRECTION)
    return Command.HopPolicy(session, _policy(assumed, coded))


def prepare(assumed: Assumptions, wanted: SecondPaths) -> None:
    """Compute the usual tables, a second of work, before anybody waits for a hop."""
    _policy(assumed, assumed.coded)
    _second_paths(wanted, assumed)


@lru_cache(maxsize=16)
def _policy(assumed: Assumptions, coded: bool) -> HopPolicy:
    rows = [astuple(row) for row in table(replace(assumed, coded=coded))]
    return HopPolicy(rows, assumed.disposable_priority_min)


def second_paths_command(session: int, wanted: SecondPaths, assumed: Assumptions) -> Command:
    """Which tracks of a hop take a second path: the same table for every hop, since it asks for what is
    measured there."""
    return Command.HopSecondPaths(session, _second_paths(wanted, assumed))


@lru_cache(maxsize=16)
def _second_paths(wanted: SecondPaths, assumed: Assumptions) -> SecondPathPolicy:
    return SecondPathPolicy(
        [astuple(row) for row in second_path_table(wanted, assumed)],
        small_bps_max=wanted.small_bps_max,
        tracks_max=wanted.tracks_max,
        percent_max=wanted.percent_max,
        bps_max=wanted.bps_max,
        clear_ms=wanted.clear_ms,
        runs_min=wanted.runs_min,
    )
