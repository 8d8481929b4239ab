"""What the API and the metrics tell of quotas: which edge holds how much of each key's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from farcast.control_plane.controller import Controller
from farcast.control_plane.members import Member
from farcast.control_plane.quota_shares import even_part
from farcast.control_plane.reading import NotKnown
from farcast.proto.access.quotas import Amounts

NOTHING = Amounts()


def quotas(controller: Controller, key_id: str | None) -> dict[str, Any]:
    """Of all keys that have a quota, or of one. Raises `NotKnown`."""
    known = controller.access.quotas()
    if key_id is not None and key_id not in known:
        named = ", ".join(sorted(known)[:16]) or "none"
        raise NotKnown(f"no key {key_id[:80]!r} has a quota; those that have are {named}")
    wanted = sorted(known) if key_id is None else [key_id]
    return {
        "cluster": controller.epoch.cluster,
        "keys": [_key(controller, each, known[each]) for each in wanted],
    }


def totals(controller: Controller, key_id: str, quota: Amounts) -> tuple[Amounts, Amounts]:
    """What a key uses now, and what edges hold of its quota, in the whole cluster."""
    held = [_held(controller, member, key_id, quota) for member in controller.members]
    return _sum(using.amounts for using in controller.usage.now(key_id).values()), _sum(held)


def _key(controller: Controller, key_id: str, quota: Amounts) -> dict[str, Any]:
    used, held = totals(controller, key_id, quota)
    members = sorted(controller.members, key=lambda member: member.node_id)
    return {
        "key_id": key_id,
        "issuer": controller.access.keys[key_id].issuer,
        "quota": quota._asdict(),
        "used": used._asdict(),
        "held": held._asdict(),
        "edges": [_edge(controller, member, key_id, quota) for member in members],
    }


def _edge(controller: Controller, member: Member, key_id: str, quota: Amounts) -> dict[str, Any]:
    held = _held(controller, member, key_id, quota)
    divides = not member.hello.takes_shares
    share = held if divides else controller.shares.of(member.node_id).get(key_id, NOTHING)
    using = controller.usage.now(key_id).get(member.node_id)
    return {
        "node_id": member.node_id,
        "connected": member.session is not None,
        "share": share._asdict(),
        "held": held._asdict(),
        "used": (using.amounts if using else NOTHING)._asdict(),
        "refused": using.refused if using else 0,
    }


def _held(controller: Controller, member: Member, key_id: str, quota: Amounts) -> Amounts:
    if not member.hello.takes_shares:
        return even_part(quota, len(controller.members))
    return controller.shares.possible.get(member.node_id, {}).get(key_id, NOTHING)


def _sum(amounts: Iterable[Amounts]) -> Amounts:
    whole = list(amounts)
    return Amounts(*map(sum, zip(*whole, strict=True))) if whole else NOTHING
