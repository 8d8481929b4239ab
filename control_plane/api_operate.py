"""HTTP API, the part by which operators move things: drains, pins, transit, prices, capacities, removal."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from farcast.control_plane import api_answers as answers
from farcast.control_plane import api_requests as requests
from farcast.control_plane import reading_orders
from farcast.control_plane.api_service import Service
from farcast.control_plane.api_table import Call, Change, Changed, Endpoint, Refused
from farcast.control_plane.api_tokens import Scope
from farcast.control_plane.intents import KeptOut, Override, Pin, unknown_edge
from farcast.control_plane.orders import Orders

NO_SUCH_OR_NOT_NOW: Final = (404, 409)


def operate_endpoints(service: Service) -> list[Endpoint]:
    """All of them."""
    operate = _Operate(service)
    return [change.endpoint(operate, Scope.OPERATE, NO_SUCH_OR_NOT_NOW) for change in _CHANGES]


class _Operate:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def drain(self, call: Call) -> Changed:
        order, before = call.body, self._draining(call.body.node_id)
        self._check_edges([order.node_id])
        now_us = self._service.now_us()
        if order.undo:
            self._check_runs(order.node_id)
            self._order("undrain", lambda orders: orders.undrain(order.node_id), node_id=order.node_id)
        else:
            self._order(
                "drain",
                lambda orders: orders.drain(order.node_id, order.drain_ms, now_us),
                node_id=order.node_id,
            )
        answer = {"node_id": order.node_id, "draining": not order.undo}
        return Changed(answer, order.node_id, before, self._draining(order.node_id))

    def pin(self, call: Call) -> Changed:
        order = call.body
        self._check_edges(order.way)
        until_us = self._until_us(order.valid_s)
        pin, before = Pin(order.way, until_us, order.namespace), self._pin(order.way[0], order.way[-1])
        self._order("pin", lambda orders: orders.pin(pin), way=pin.name)
        return Changed(self._pins(), pin.name, before, self._pin(pin.origin, pin.node_id))

    def unpin(self, call: Call) -> Changed:
        src, dst = call.path["src"], call.path["dst"]
        before = self._pin(src, dst)
        if before is None:
            known = ", ".join(pin.name for pin in self._service.controller.orders.book.pins) or "none"
            raise Refused(404, f"no pin from {src[:80]!r} to {dst[:80]!r}; there are {known}")
        self._order("unpin", lambda orders: orders.unpin(src, dst), way=f"{src} > {dst}")
        return Changed(self._pins(), f"{src} > {dst}", before, None)

    def keep_out(self, call: Call) -> Changed:
        order = call.body
        self._check_edges([order.node_id])
        kept, before = KeptOut(order.node_id, self._until_us(order.valid_s)), self._kept_out(order.node_id)
        self._order("keep_out", lambda orders: orders.keep_out(kept), node_id=order.node_id)
        return Changed(self._kept_outs(), order.node_id, before, self._kept_out(order.node_id))

    def let_in(self, call: Call) -> Changed:
        node_id = call.path["node_id"]
        before = self._kept_out(node_id)
        if before is None:
            raise Refused(404, f"edge {node_id[:80]!r} is not kept out of transit")
        self._order("let_in", lambda orders: orders.let_in(node_id), node_id=node_id)
        return Changed(self._kept_outs(), node_id, before, None)

    def override(self, call: Call) -> Changed:
        order = call.body
        self._check_edges([name for name in (order.src, order.dst) if name is not None])
        wanted = Override(order.src, order.dst or "", order.price_per_gb, order.capacity_bps)
        if wanted.price_per_gb is None and wanted.capacity_bps is None:
            raise Refused(400, "price_per_gb: give it, or capacity_bps, or both", "price_per_gb")
        if order.src == order.dst:
            raise Refused(400, f"dst: a link joins two edges, {order.src} is both", "dst")
        before = self._override(*wanted.key)
        about = _name(order.src, order.dst)
        self._order("override", lambda orders: orders.override(wanted), about=about)
        return Changed(self._overrides(), about, before, self._override(*wanted.key))

    def reset(self, call: Call) -> Changed:
        src, dst, figure = call.path["src"], call.query.dst or "", call.query.figure
        price, capacity = figure in (None, "price"), figure in (None, "capacity")
        before, about = self._override(src, dst), _name(src, dst)
        if before is None:
            raise Refused(404, f"nothing of {about[:160]} is overridden")
        self._order(
            "reset", lambda orders: orders.reset(src, dst, price=price, capacity=capacity), about=about
        )
        return Changed(self._overrides(), about, before, self._override(src, dst))

    def remove(self, call: Call) -> Changed:
        node_id = call.body.node_id
        controller = self._service.controller
        if node_id not in controller.trust_book.issued:
            self._check_edges([node_id])
        why_not = self._service.remove(node_id)
        if why_not is not None:
            raise Refused(409, why_not)
        return Changed({"node_id": node_id, "removed": True}, node_id, {"member": True}, {"member": False})

    # ---- Below ------------------------------------------------------------------------------------

    def _order(self, action: str, give: Callable[[Orders], str | None], **about: str) -> None:
        why_not = self._service.order(action, give, **about)
        if why_not is not None:
            raise Refused(409, why_not)

    def _check_runs(self, node_id: str) -> None:
        """An order that an edge has carried out to its end cannot be taken back from it."""
        member = self._service.controller.members.get(node_id)
        if member is not None and member.session is None and member.drain_sent:
            raise Refused(
                409, f"edge {node_id!r} has drained and ended; once it starts anew it is used again"
            )

    def _check_edges(self, names: Collection[str]) -> None:
        stranger = unknown_edge(names, self._service.controller.members.ids)
        if stranger is not None:
            raise Refused(404, stranger)

    def _until_us(self, valid_s: int | None) -> int | None:
        now_us = self._service.now_us()
        return None if valid_s is None else self._service.controller.unix_us(now_us) + valid_s * 1_000_000

    def _draining(self, node_id: str) -> dict[str, Any] | None:
        rows = reading_orders.drains(self._service.controller)
        return next((row for row in rows if row["node_id"] == node_id), None)

    def _pin(self, src: str, dst: str) -> dict[str, Any] | None:
        return next(
            (row for row in self._pins()["pins"] if (row["way"][0], row["way"][-1]) == (src, dst)), None
        )

    def _pins(self) -> dict[str, list[dict[str, Any]]]:
        return {"pins": reading_orders.pins(self._service.controller)}

    def _kept_out(self, node_id: str) -> dict[str, Any] | None:
        return next((row for row in self._kept_outs()["kept_out"] if row["node_id"] == node_id), None)

    def _kept_outs(self) -> dict[str, list[dict[str, Any]]]:
        return {"kept_out": reading_orders.kept_out(self._service.controller)}

    def _override(self, src: str, dst: str) -> dict[str, Any] | None:
        rows = reading_orders.overrides(self._service.controller)
        return next((row for row in rows if (row["src"], row["dst"] or "") == (src, dst)), None)

    def _overrides(self) -> dict[str, Any]:
        controller = self._service.controller
        return {
            "overrides": reading_orders.overrides(controller),
            "remark": reading_orders.remark(controller),
        }


def _name(src: str, dst: str | None) -> str:
    return f"{src} > {dst}" if dst else src


_CHANGES: Final = (
    Change(
        "POST",
        "/drain",
        "Drain an edge, or take that back.",
        "drain",
        _Operate.drain,
        answers.Draining,
        body=requests.DrainOrder,
        about=lambda call: call.body.node_id,
    ),
    Change(
        "POST",
        "/pins",
        "Hold a route to a way.",
        "pin",
        _Operate.pin,
        answers.Pins,
        body=requests.PinOrder,
        about=lambda call: " > ".join(call.body.way),
    ),
    Change("DELETE", "/pins/{src}/{dst}", "Take a pin back.", "unpin", _Operate.unpin, answers.Pins),
    Change(
        "POST",
        "/kept-out",
        "Let an edge relay for nobody else.",
        "keep_out",
        _Operate.keep_out,
        answers.KeptOuts,
        body=requests.KeepOutOrder,
        about=lambda call: call.body.node_id,
    ),
    Change(
        "DELETE",
        "/kept-out/{node_id}",
        "Let an edge relay again.",
        "let_in",
        _Operate.let_in,
        answers.KeptOuts,
    ),
    Change(
        "POST",
        "/overrides",
        "Set what an edge or a link costs, or may send at most.",
        "override",
        _Operate.override,
        answers.Overrides,
        body=requests.OverrideOrder,
        about=lambda call: _name(call.body.src, call.body.dst),
    ),
    Change(
        "DELETE",
        "/overrides/{src}",
        "Take prices and capacities back.",
        "reset",
        _Operate.reset,
        answers.Overrides,
        query=requests.OverrideQuery,
        about=lambda call: _name(call.path["src"], call.query.dst),
    ),
    Change(
        "POST",
        "/remove",
        "Take an edge out for good.",
        "remove",
        _Operate.remove,
        answers.Removed,
        body=requests.RemoveOrder,
        about=lambda call: call.body.node_id,
    ),
)
