"""What a client's way to a network is like: handshakes, the edge list, every edge of it, a NAT's new binding.

- *Handshakes*, raw QUIC and WebTransport, by the tools' own engine and datapath, with the user's trust and
  token.
- *UDP*: "open" where QUIC packets are answered (`farcast.clients.echo`), "refused" where the machine says
  that nothing listens, "silent" where nothing comes back: a firewall, or nobody there. A handshake that fails
  over open UDP is not the network's doing.
- *Edges*: probed a few at a time, those of the list at most `EDGES_MAX`.
- *A NAT's new binding*: a session runs through a relay on this machine, which changes its port in mid-session
  as a NAT does. The session survives if bytes go on coming. Which address the edge saw is not known: it tells
  nobody (no QUIC address discovery), so whether there is a NAT cannot be said.
- *The clock*: one of our edges tells what its clock shows (track ``clock`` in ``.farcast``); halfway between
  question and answer that is compared with ours, and half the round trip is what it may be wrong by. Of
  others an edge list that was issued in the future proves that this machine's clock is behind by at least so
  much.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

import trio

from farcast.clients.echo import EchoPlan, EchoReport, echo, path_mtu
from farcast.clients.rebinding import Rebinding
from farcast.clients.roaming import Edges, connection_to
from farcast.clients.running import running
from farcast.clients.server import CONNECT_SECONDS_MAX, Server, open_runtime
from farcast.edge.driver import Driver
from farcast.errors import UserError
from farcast.proto._core import Event
from farcast.proto.agent.config import Target
from farcast.proto.client import Viewer, ViewerConfig
from farcast.proto.client import events as client
from farcast.proto.client.edge_list import EdgeList, ListedEdge
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import ServerUrl

EDGES_MAX: Final = 64
AT_ONCE_MAX: Final = 8
LIST_SECONDS_MAX: Final = 2.0
REBIND_SECONDS: Final = 2.0
LOSS_ACCEPTED: Final = 0.05
"""An edge that loses more of the probes is not chosen as long as there is another."""

CLOCK_SECONDS_MAX: Final = 2.0
CLOCK_AGE_US_MAX: Final = 50_000
"""What an edge tells of its clock may be so old (`farcast.proto.agent.local_tracks`)."""

OWN: Final = TrackNamespace((b".farcast",))
CLOCK: Final = b"clock"
NAMESPACE: Final = TrackNamespace((b"netcheck",))
"""Nothing of it is asked for; an engine that watches has one."""

Udp: TypeAlias = Literal["open", "refused", "silent", "unreachable"]
Cause: TypeAlias = Literal["", "certificate", "tls", "timeout", "refused", "transport"]


@dataclass(frozen=True, slots=True)
class Handshake:
    """One attempt. ``cause`` and ``reason`` where it failed."""

    transport: str
    connected: bool
    ms: float | None = None
    draft: int | None = None
    cause: Cause = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EdgeCheck:
    """One edge. ``udp_payload_bytes_max``: the largest datagram that gets there whole."""

    node_id: str
    region: str
    url: str
    udp: Udp
    draining: bool = False
    rtt_ms: float | None = None
    rtt_min_ms: float | None = None
    rtt_max_ms: float | None = None
    jitter_ms: float | None = None
    loss: float = 1.0
    probes: int = 0
    udp_payload_bytes_max: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Netcheck:
    """The whole. ``rebinding_survived``: None where no session stood to try it with."""

    url: str
    udp: Udp
    verdict: str
    handshakes: tuple[Handshake, ...]
    edges: tuple[EdgeCheck, ...]
    edge_list: str
    chosen: str | None
    why: str
    rebinding_survived: bool | None = None
    observed_address: None = None
    clock_offset_ms: float | None = None
    """How far this machine's clock is ahead of the edge's."""
    clock_offset_error_ms: float | None = None
    clock_behind_ms_min: int | None = None


@dataclass(slots=True)
class _Talk:
    """What one session has said so far."""

    opened: Event.SessionOpened | None = None
    closed: Event.SessionClosed | None = None
    connected: bool = False
    reason: str = ""
    edges: EdgeList | None = None
    refused_list: str = ""
    changed: trio.Event = field(default_factory=trio.Event)


async def netcheck(server: Server, token: bytes = b"", plan: EchoPlan | None = None) -> Netcheck:
    """Check the way to a server and to all edges that it lists. `UserError` if its name has no address."""
    target = await server.target()
    first = await echo(target.remote, plan)
    shakes, edges, refused_list = [], None, ""
    for url in _both(server.url):
        shake, talk = await _shake(replace(server, url=url), token)
        shakes.append(shake)
        edges, refused_list = edges or talk.edges, refused_list or talk.refused_list
    listed = _listed(edges, server.url)
    checks = await _check_edges(server, listed, plan)
    survived = await _rebind(server, shakes, token)
    offset_ms, error_ms = await _clock(server, shakes, token) or (None, None)
    udp = _udp(first)
    chosen, why = choose(checks)
    return Netcheck(
        url=str(replace(server.url, path=server.url.path.partition("?")[0])),
        udp=udp,
        verdict=verdict(udp, first, shakes),
        handshakes=tuple(shakes),
        edges=checks,
        edge_list=_list_text(edges, refused_list, len(listed)),
        chosen=chosen,
        why=why,
        rebinding_survived=survived,
        clock_offset_ms=_rounded(offset_ms),
        clock_offset_error_ms=_rounded(error_ms),
        clock_behind_ms_min=_behind_ms(edges),
    )


def choose(edges: Sequence[EdgeCheck]) -> tuple[str | None, str]:
    """The edge with the shortest median round trip among those that serve and lose little; and why."""
    heard = [edge for edge in edges if edge.rtt_ms is not None]
    if not heard:
        return None, "no edge answers"
    serving = [edge for edge in heard if not edge.draining] or heard
    sound = [edge for edge in serving if edge.loss <= LOSS_ACCEPTED]
    pool = sound or [min(serving, key=lambda edge: (edge.loss, edge.rtt_ms))]
    ranked = sorted(pool, key=lambda edge: (edge.rtt_ms, edge.node_id))
    best = ranked[0]
    parts = [f"shortest round trip, {best.rtt_ms:.1f} ms" if sound else f"least loss, {best.loss:.0%}"]
    if len(ranked) > 1:
        parts.append(f"next is {ranked[1].node_id} with {ranked[1].rtt_ms:.1f} ms")
    passed_over = [edge.node_id for edge in serving if edge not in pool]
    draining = [edge.node_id for edge in heard if edge not in serving]
    if passed_over:
        parts.append(f"passed over for loss: {', '.join(passed_over)}")
    if draining:
        parts.append(f"draining: {', '.join(draining)}")
    return best.node_id, "; ".join(parts)


def verdict(udp: Udp, probes: EchoReport, shakes: Sequence[Handshake]) -> str:
    """One sentence for people on whether a client gets through, and whose fault it is if not."""
    if any(shake.connected for shake in shakes):
        failed = [shake for shake in shakes if not shake.connected]
        return "; ".join(["it works", *(f"{shake.transport} does not: {shake.reason}" for shake in failed)])
    reasons = {shake.cause: shake.reason for shake in shakes}
    if "certificate" in reasons:
        return f"UDP works, the certificate is not trusted: {reasons['certificate']}"
    if udp == "refused":
        return "the machine is there, but nothing listens on that UDP port: is the edge running?"
    if udp == "unreachable":
        return f"nothing can be sent there: {probes.unreachable}"
    if udp == "silent":
        return "nothing comes back: UDP seems to be blocked on the way, or there is no such machine"
    if "timeout" in reasons:
        return "QUIC packets are answered, handshakes are not: something on the way holds them back"
    return f"UDP works, the edge refuses: {next(iter(reasons.values()), 'no reason given')}"


def _both(url: ServerUrl) -> tuple[ServerUrl, ServerUrl]:
    """The same edge by raw QUIC and by WebTransport."""
    path = url.path or "/"
    return replace(url, target="quic"), replace(url, target="webtransport", path=path)


async def _shake(server: Server, token: bytes) -> tuple[Handshake, _Talk]:
    """Make a session, and wait for the edge list of an edge that has one."""
    target, talk = await server.target(), _Talk()
    driver = _driver(target, token, talk)
    started = trio.current_time()
    async with running(driver):
        with trio.move_on_after(CONNECT_SECONDS_MAX):
            await talk.changed.wait()
        took_ms = (trio.current_time() - started) * 1_000
        if talk.connected:
            with trio.move_on_after(LIST_SECONDS_MAX):
                while talk.edges is None and not talk.refused_list and talk.closed is None:
                    await trio.sleep(0.02)
    return _handshake(server.url.target, talk, took_ms), talk


def _driver(target: Target, token: bytes, talk: _Talk) -> Driver[Viewer]:
    config = ViewerConfig(connection_to(Edges(target), token), NAMESPACE, follow_edge_list=True)
    driver = Driver(open_runtime(target), Viewer(config))

    def see(event: Event) -> None:
        if isinstance(event, Event.SessionOpened):
            talk.opened = event
        elif isinstance(event, Event.SessionClosed) and talk.closed is None:
            talk.closed = event
            talk.changed.set()

    def poll() -> None:
        while (event := driver.engine.poll_event()) is not None:
            match event:
                case client.Connected():
                    talk.connected = True
                    talk.changed.set()
                case client.EdgesListed(edges):
                    talk.edges = edges
                case client.EdgeListRefused(reason):
                    talk.refused_list = reason
                case client.Failed(reason=reason) | client.Disconnected(reason=reason):
                    talk.reason = talk.reason or reason

    driver.on_event(see)
    driver.on_progress(poll)
    return driver


def _handshake(transport: str, talk: _Talk, took_ms: float) -> Handshake:
    if talk.connected:
        draft = None if talk.opened is None else talk.opened.draft
        return Handshake(transport, True, round(took_ms, 3), draft)
    if talk.closed is None:
        return Handshake(transport, False, cause="timeout", reason="no answer to the handshake")
    reason = talk.closed.reason or talk.reason
    causes: dict[str, Cause] = {"tls": "tls", "timeout": "timeout", "peer": "refused"}
    cause = causes.get(talk.closed.by, "transport")
    if cause == "tls" and "certificate" in reason.lower():
        cause = "certificate"
    return Handshake(transport, False, cause=cause, reason=reason)


def _listed(edges: EdgeList | None, url: ServerUrl) -> list[ListedEdge]:
    """The edges to probe; the one that was named, where no list tells of others."""
    listed = [] if edges is None else edges.seen_from(url.authority)[:EDGES_MAX]
    return listed or [ListedEdge(url.host, "", url)]


def _list_text(edges: EdgeList | None, refused: str, checked: int) -> str:
    if edges is None:
        return refused or "the edge serves no list: it is alone, or not of Farcast"
    left = len(edges.edges) - checked
    return f"{len(edges.edges)} edges" + (f", {left} of them not checked" if left > 0 else "")


async def _check_edges(
    server: Server, listed: Sequence[ListedEdge], plan: EchoPlan | None
) -> tuple[EdgeCheck, ...]:
    found: dict[int, EdgeCheck] = {}
    limiter = trio.CapacityLimiter(AT_ONCE_MAX)

    async def check(number: int, edge: ListedEdge) -> None:
        async with limiter:
            found[number] = await _check_edge(server, edge, plan)

    async with trio.open_nursery() as nursery:
        for number, edge in enumerate(listed):
            nursery.start_soon(check, number, edge)
    return tuple(found[number] for number in sorted(found))


async def _check_edge(server: Server, edge: ListedEdge, plan: EchoPlan | None) -> EdgeCheck:
    try:
        target = await replace(server, url=edge.url).target()
    except UserError as error:
        return EdgeCheck(
            edge.node_id, edge.region, edge.url.authority, "unreachable", edge.draining, reason=error.message
        )
    report = await echo(target.remote, plan)
    mtu = await path_mtu(target.remote) if report.rtts_ms else None
    return EdgeCheck(
        node_id=edge.node_id,
        region=edge.region,
        url=edge.url.authority,
        udp=_udp(report),
        draining=edge.draining,
        rtt_ms=_rounded(report.rtt_ms),
        rtt_min_ms=_rounded(report.rtt_min_ms),
        rtt_max_ms=_rounded(report.rtt_max_ms),
        jitter_ms=_rounded(report.jitter_ms),
        loss=round(report.loss, 4),
        probes=report.sent,
        udp_payload_bytes_max=mtu,
        reason=report.unreachable,
    )


def _udp(report: EchoReport) -> Udp:
    if report.rtts_ms:
        return "open"
    if report.unreachable:
        return "unreachable"
    return "refused" if report.refused else "silent"


async def _rebind(server: Server, shakes: Sequence[Handshake], token: bytes) -> bool | None:
    """Whether a session lives on when a NAT gives it another port."""
    if not any(shake.connected for shake in shakes):
        return None
    kind = next(url for url, shake in zip(_both(server.url), shakes, strict=True) if shake.connected)
    target, talk = await replace(server, url=kind).target(), _Talk()
    async with Rebinding.to(target.remote) as relay:
        driver = _driver(replace(target, remote=relay.address), token, talk)
        async with running(driver):
            with trio.move_on_after(CONNECT_SECONDS_MAX):
                await talk.changed.wait()
            if not talk.connected:
                return None
            await relay.rebind()
            with trio.move_on_after(REBIND_SECONDS):
                await relay.heard_anew()
                return talk.closed is None
    return False


async def _clock(server: Server, shakes: Sequence[Handshake], token: bytes) -> tuple[float, float] | None:
    """How far our clock is ahead of the edge's, and by how much that may be wrong, milliseconds; None where
    the edge does not tell."""
    if not any(shake.connected for shake in shakes):
        return None
    kind = next(url for url, shake in zip(_both(server.url), shakes, strict=True) if shake.connected)
    target = await replace(server, url=kind).target()
    driver = Driver(open_runtime(target), Viewer(ViewerConfig(connection_to(Edges(target), token), OWN)))
    connected, told = trio.Event(), trio.Event()
    answer: list[tuple[int, bytes]] = []

    def poll() -> None:
        while (event := driver.engine.poll_event()) is not None:
            match event:
                case client.Connected():
                    connected.set()
                case client.ObjectReceived(payload=payload):
                    answer.append((time.time_ns() // 1_000, payload))
                    told.set()
                case client.Failed() | client.TrackEnded() | client.Waiting():
                    told.set()

    driver.on_progress(poll)
    async with running(driver):
        asked_us = 0
        with trio.move_on_after(CLOCK_SECONDS_MAX):
            await connected.wait()
            asked_us = time.time_ns() // 1_000
            driver.call(lambda engine, now_us: engine.subscribe(CLOCK, now_us))
            await told.wait()
    return clock_offset_ms(asked_us, *answer[0]) if answer else None


def clock_offset_ms(asked_us: int, heard_us: int, payload: bytes) -> tuple[float, float] | None:
    """Offset and error out of an edge's answer; None for what is none."""
    try:
        theirs_us = json.loads(payload)["unix_us"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if type(theirs_us) is not int or not 0 < theirs_us < 2**53 or heard_us < asked_us:
        return None
    half_us = (heard_us - asked_us) / 2
    return (asked_us + half_us - theirs_us) / 1_000, (half_us + CLOCK_AGE_US_MAX) / 1_000


def _behind_ms(edges: EdgeList | None) -> int | None:
    """How far this machine's clock is behind at the least; None if nothing proves that it is."""
    if edges is None:
        return None
    behind_ms = (edges.issued_unix_us - time.time_ns() // 1_000) // 1_000
    return behind_ms if behind_ms > 0 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
