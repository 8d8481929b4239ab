"""One MoQT session's control messages, without I/O, for every draft.

Feed it what arrives on control and request streams (``handle_*``), tell it what to do (commands), and take
out what is to be done with streams (:meth:`Session.poll_transmit`) and what happened
(:meth:`Session.poll_event`) until both are empty. Data streams and datagrams are none of its business.

Its shape is that of drafts 17 and up: a request is a thing of its own with a stream of its own. Where a
draft has all requests on one control stream, the same requests are told apart by their ids, and what would
be the end of a stream is a message.

The session runs no timers: a peer that never answers a request, or stays after GOAWAY, is the caller's
business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from farcast.proto.moqt import answers, outbound, streams
from farcast.proto.moqt.core import LOCAL_STREAM_BIT, Core
from farcast.proto.moqt.errors import (
    LocalError,
    ProtocolError,
    PublishDoneCode,
    RequestCode,
    SessionCode,
    violation,
)
from farcast.proto.moqt.events import Event, Transmit
from farcast.proto.moqt.keyvalue import Pairs
from farcast.proto.moqt.limits import SessionLimits
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import NO_PARAMETERS, Parameters
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.quirks import DEFAULT_QUIRKS, Quirks
from farcast.proto.moqt.requests import Verb
from farcast.proto.moqt.setup import send_setup
from farcast.proto.moqt.values import Filter, GroupOrder, Interest, Location, Redirect, SetupOptions

__all__ = ["LOCAL_STREAM_BIT", "Session"]


class Session:
    """One session, as the client or the server of its connection.

    A command about a request that is over is ignored, as its end and the command may cross. A command that
    makes no sense for a request (accepting it twice, answering a SUBSCRIBE with ``accept_publish``) raises
    ``LocalError``, and a value that the draft cannot express ``ValueError``. The peer's input never raises.

    ``webtransport`` says that path and authority are the transport's: they are neither sent nor accepted.
    ``quirks`` maps prefixes of implementation names to what is done differently for them.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        client: bool,
        options: SetupOptions | None = None,
        limits: SessionLimits | None = None,
        webtransport: bool = False,
        quirks: Mapping[str, Quirks] = DEFAULT_QUIRKS,
    ) -> None:
        self._core = Core(
            profile,
            client=client,
            options=options or SetupOptions(),
            limits=limits or SessionLimits(),
            webtransport=webtransport,
            quirks=quirks,
        )
        self._early = streams.EarlyStreams()

    # --- getters ----------------------------------------------------------------------------------------

    @property
    def profile(self) -> Profile:
        """The draft that is spoken."""
        return self._core.profile

    @property
    def established(self) -> bool:
        """The peer's SETUP has arrived."""
        return self._core.established

    @property
    def closed(self) -> bool:
        """Closed by us, or failed by the peer; all input is ignored."""
        return self._core.closed

    @property
    def quirks(self) -> Quirks:
        """What is done differently for this peer; known once established."""
        return self._core.quirks

    @property
    def open_requests(self) -> tuple[int, ...]:
        """Handles of all requests that are not over, in the order in which they were made."""
        return tuple(self._core.requests)

    # --- input ------------------------------------------------------------------------------------------

    def handle_opened(self) -> None:
        """The transport is up."""
        if self._core.opened or self._core.closed:
            return
        self._core.opened = True
        if self._core.profile.control_bidi and not self._core.client:
            return
        self._core.open_control(bidi=self._core.profile.control_bidi)
        send_setup(self._core)
        self._core.flush_queue()

    def handle_stream_data(self, stream: int, kind: str, data: bytes, fin: bool) -> None:
        """Bytes of a stream, in order. ``kind`` is ``"control"`` or ``"request"``."""
        if kind == "control":
            self._guard(lambda: streams.control_data(self._core, stream, data, fin, self._early))
        elif self._is_early(stream):
            self._early.push(self._core, stream, data, fin)
        else:
            self._guard(lambda: streams.request_data(self._core, stream, data, fin))

    def handle_stream_reset(self, stream: int, code: int) -> None:
        """The peer reset its side of a stream."""
        if self._is_control(stream):
            self._guard(_control_ended)
        self._early.drop(stream)
        self._guard(lambda: streams.request_reset(self._core, stream, code))

    def handle_stream_stopped(self, stream: int, code: int) -> None:
        """The peer wants nothing more on our side of a stream."""
        if self._is_control(stream):
            self._guard(_control_ended)
        elif self._is_early(stream):
            self._early.stop(self._core, stream, code)
        else:
            self._guard(lambda: streams.request_stopped(self._core, stream, code))

    def _is_early(self, stream: int) -> bool:
        """Whether a request stream has to wait for the peer's SETUP."""
        core = self._core
        return not (core.established or core.closed or stream & LOCAL_STREAM_BIT or stream in core.streams)

    def _is_control(self, stream: int) -> bool:
        return stream in (self._core.control_key, self._core.peer_control_key)

    def _guard(self, handle: Callable[[], None]) -> None:
        if self._core.closed:
            return
        try:
            handle()
        except ProtocolError as error:
            self._core.fail(error)

    # --- commands: our requests -------------------------------------------------------------------------

    def subscribe(
        self,
        name: FullTrackName,
        *,
        filter: Filter | None = None,
        priority: int | None = None,
        group_order: GroupOrder | None = None,
        forward: bool = True,
        parameters: Parameters = NO_PARAMETERS,
    ) -> int:
        """Asks for a track; answered by ``SubscribeAccepted`` or ``RequestRejected``."""
        chosen = parameters.with_(
            filter=filter,
            subscriber_priority=priority,
            group_order=group_order,
            forward=None if forward else False,
        )
        return outbound.subscribe(self._core, name, chosen)

    def publish(
        self,
        name: FullTrackName,
        alias: int,
        *,
        largest: Location | None = None,
        forward: bool = True,
        expires_ms: int | None = None,
        track_properties: Pairs = (),
        parameters: Parameters = NO_PARAMETERS,
    ) -> int:
        """Offers a track under ``alias``; answered by ``PublishAccepted`` or ``RequestRejected``."""
        chosen = parameters.with_(
            largest=answers.sendable_largest(self._core, largest),
            forward=None if forward else False,
            expires_ms=expires_ms or None,
        )
        return outbound.publish(self._core, name, alias, chosen, track_properties)

    def publish_namespace(self, namespace: TrackNamespace, *, parameters: Parameters = NO_PARAMETERS) -> int:
        """Says that we have tracks in a namespace; answered by ``RequestAccepted`` or ``RequestRejected``."""
        return outbound.publish_namespace(self._core, namespace, parameters)

    def unpublish_namespace(self, request: int) -> None:
        """Takes a ``publish_namespace`` back."""
        found = self._core.find(request)
        if found is not None and not (found.ours and found.verb is Verb.PUBLISH_NAMESPACE):
            raise LocalError("not a PUBLISH_NAMESPACE of ours")
        outbound.cancel(self._core, request)

    def subscribe_namespace(
        self,
        prefix: TrackNamespace,
        *,
        interest: Interest = Interest.NAMESPACE,
        parameters: Parameters = NO_PARAMETERS,
    ) -> int:
        """Asks which namespaces exist under a prefix; answered by ``RequestAccepted`` and then
        ``NamespaceAnnounced``, or ``RequestRejected``. ``interest`` is for draft 16."""
        return outbound.subscribe_namespace(self._core, prefix, interest, parameters)

    # --- commands: answers to the peer's requests -------------------------------------------------------

    def accept_subscribe(
        self,
        request: int,
        alias: int,
        *,
        largest: Location | None = None,
        expires_ms: int | None = None,
        track_properties: Pairs = (),
    ) -> None:
        """Serves a SUBSCRIBE: objects will come under ``alias``, which stands for this track alone.

        Where the track's properties do not fit a message of this draft, the request is refused instead and
        ``RequestCancelled`` reported.
        """
        answers.accept_subscribe(self._core, request, alias, largest, expires_ms, track_properties)

    def accept_publish(
        self,
        request: int,
        *,
        forward: bool = True,
        filter: Filter | None = None,
        priority: int | None = None,
        group_order: GroupOrder | None = None,
        parameters: Parameters = NO_PARAMETERS,
    ) -> None:
        """Takes a PUBLISH. A SUBSCRIBE of ours for the track that is still pending ends
        (``RequestCancelled``)."""
        chosen = parameters.with_(
            forward=forward, filter=filter, subscriber_priority=priority, group_order=group_order
        )
        answers.accept_publish(self._core, request, chosen)

    def accept(self, request: int) -> None:
        """Accepts a PUBLISH_NAMESPACE or SUBSCRIBE_NAMESPACE."""
        answers.accept(self._core, request)

    def reject(
        self,
        request: int,
        code: RequestCode,
        reason: str = "",
        *,
        retry_ms: int | None = None,
        redirect: Redirect | None = None,
    ) -> None:
        """Refuses any request of the peer. ``retry_ms``: it may ask again after so long; ``None``: never.
        ``redirect`` goes with the code REDIRECT."""
        answers.reject(self._core, request, code, reason, retry_ms, redirect)

    def announce_to(self, request: int, namespace: TrackNamespace) -> None:
        """Tells the sender of an accepted SUBSCRIBE_NAMESPACE of a namespace (once; repeats are ignored)."""
        answers.announce_to(self._core, request, namespace)

    def withdraw_from(self, request: int, namespace: TrackNamespace) -> None:
        """Tells the sender of a SUBSCRIBE_NAMESPACE that a namespace announced to it is gone."""
        answers.withdraw_from(self._core, request, namespace)

    def accept_update(
        self, request: int, *, largest: Location | None = None, expires_ms: int | None = None
    ) -> None:
        """Accepts the oldest unanswered update of a request."""
        answers.accept_update(self._core, request, largest, expires_ms)

    def reject_update(self, request: int, code: RequestCode, reason: str = "") -> None:
        """Refuses the oldest unanswered update of a request, which (but for a PUBLISH of the peer) ends with
        it and is reported by ``RequestCancelled``."""
        found = self._core.find(request)
        if found is not None:
            answers.reject_update(self._core, found, code, reason)

    # --- commands: requests of either side, and the session ---------------------------------------------

    def cancel(self, request: int) -> None:
        """Ends a request of either side; nothing is reported.

        Ours is cancelled; one of the peer's is refused while pending; a subscription that we serve ends with
        PUBLISH_DONE; the acceptance of a namespace is revoked.
        """
        outbound.cancel(self._core, request)

    def publish_done(
        self, request: int, status: PublishDoneCode, *, stream_count: int | None = None, reason: str = ""
    ) -> None:
        """Ends a subscription that we serve, after its last stream. ``stream_count`` is the number of data
        streams opened for it, ``None`` where unknown."""
        outbound.publish_done(self._core, request, status, stream_count, reason)

    def update(
        self,
        request: int,
        *,
        forward: bool | None = None,
        priority: int | None = None,
        filter: Filter | None = None,
        parameters: Parameters = NO_PARAMETERS,
    ) -> None:
        """Changes a request of ours, or a PUBLISH that we took; answered by ``UpdateAccepted`` or
        ``UpdateRejected``, though some peers never answer."""
        chosen = parameters.with_(forward=forward, subscriber_priority=priority, filter=filter)
        outbound.update(self._core, request, chosen)

    def goaway(self, uri: str = "", timeout_ms: int = 0) -> None:
        """Asks the peer to leave, to ``uri`` if we are the server; its new requests are refused from now on.
        A session that is not established yet is closed."""
        outbound.goaway(self._core, uri, timeout_ms)

    def goaway_request(self, request: int, uri: str = "", timeout_ms: int = 0) -> None:
        """Asks the peer to move one request (draft 18 and hops; elsewhere ``LocalError``)."""
        outbound.goaway_request(self._core, request, uri, timeout_ms)

    def close(self, code: SessionCode = SessionCode.NO_ERROR, reason: str = "") -> None:
        """Closes the session; all requests are over, and no event says so."""
        self._core.close(code, reason)

    # --- output -----------------------------------------------------------------------------------------

    def poll_transmit(self) -> Transmit | None:
        """The next thing to do with a stream, in order; ``None`` when there is nothing."""
        return self._core.transmits.popleft() if self._core.transmits else None

    def poll_event(self) -> Event | None:
        """The next event, in order; ``None`` when there is none."""
        return self._core.events.popleft() if self._core.events else None


def _control_ended() -> None:
    raise violation("the control stream ended")
