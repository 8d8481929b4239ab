"""What the API tells of the usage of keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from farcast.control_plane.controller import Controller
from farcast.control_plane.reading import NotKnown
from farcast.control_plane.usage_book import DAY_US, Account
from farcast.proto.access.quotas import Totals


def usage(controller: Controller, key_id: str | None, days: int, now_us: int) -> dict[str, Any]:
    """What keys have used: those that are trusted, and those that ever used anything. Raises `NotKnown`."""
    book, trusted = controller.usage, controller.access.keys
    known = sorted({*trusted, *book.accounts})
    if key_id is not None and key_id not in known:
        raise NotKnown(f"no key {key_id[:80]!r}; known are {', '.join(known[:16]) or 'none'}")
    first = controller.unix_us(now_us) // DAY_US - days + 1
    return {
        "cluster": controller.epoch.cluster,
        "keys": [_row(controller, each, first) for each in known if key_id in (None, each)],
        "left_out": book.left_out,
    }


def _row(controller: Controller, key_id: str, first: int) -> dict[str, Any]:
    account = controller.usage.accounts.get(key_id, Account())
    key = controller.access.keys.get(key_id)
    using = controller.usage.now(key_id).values()
    return {
        "key_id": key_id,
        "issuer": key.issuer if key else "",
        "trusted": key is not None,
        "total": _used(account.total),
        "now": {
            "edges": len(using),
            "publishers": sum(each.amounts.publishers for each in using),
            "viewers": sum(each.amounts.viewers for each in using),
            "namespaces": sum(each.amounts.namespaces for each in using),
            "bps": sum(each.amounts.bps for each in using),
            "refused": sum(each.refused for each in using),
        },
        "days": [
            {"day": _date(day), **_used(totals)}
            for day, totals in sorted(account.days.items())
            if day >= first
        ],
    }


def _used(totals: Totals) -> dict[str, Any]:
    return {
        "bytes_in": totals.bytes_in,
        "bytes_out": totals.bytes_out,
        "publisher_minutes": round(totals.publisher_us / 60e6, 3),
        "viewer_minutes": round(totals.viewer_us / 60e6, 3),
    }


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * (DAY_US // 1_000_000), UTC):%Y-%m-%d}"
