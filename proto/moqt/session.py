"""One MoQT session's control messages, without I/O, for every draft.

Feed it what arrives on control and request streams (``handle_*``), tell it what to do (commands), and take out
what is to be done with streams (``poll_transmit``) and what happened (``poll_event``) until both are empty.
Data streams and datagrams are none of its business.
"""

from __future__ import annotations

from farcast.proto.moqt.errors import PublishDoneCode, RequestCode, SessionCode
from farcast.proto.moqt.events import Event, Transmit
from farcast.proto.moqt.keyvalue import Pairs
from farcast.proto.moqt.limits import SessionLimits
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import NO_PARAMETERS, Parameters
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.values import Filter, GroupOrder, Interest, Location, Redirect, SetupOptions


class Session:
    """SIGNATURES (bodies follow). ``profile`` is ``profile_for_draft(16)``, ``profile_for_draft(18)`` or ``HOP``.

    Commands about a request that is over are ignored, as its end and the command may cross; commands that make
    no sense for a request (accepting it twice, a SUBSCRIBE with ``accept_publish``) raise ``LocalError``.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        client: bool,
        options: SetupOptions | None = None,
        limits: SessionLimits | None = None,
        webtransport: bool = False,
    ) -> None: ...

    # getters
    @property
    def established(self) -> bool: ...
    @property
    def closed(self) -> bool: ...

    # input
    def handle_opened(self) -> None: ...
    def handle_stream_data(self, stream: int, kind: str, data: bytes, fin: bool) -> None: ...
    def handle_stream_reset(self, stream: int, code: int) -> None: ...
    def handle_stream_stopped(self, stream: int, code: int) -> None: ...

    # commands: our requests, each gives a handle
    def subscribe(
        self,
        name: FullTrackName,
        *,
        filter: Filter | None = None,
        priority: int | None = None,
        group_order: GroupOrder | None = None,
        forward: bool = True,
        parameters: Parameters = NO_PARAMETERS,
    ) -> int: ...
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
    ) -> int: ...
    def publish_namespace(self, namespace: TrackNamespace, *, parameters: Parameters = NO_PARAMETERS) -> int: ...
    def unpublish_namespace(self, request: int) -> None: ...
    def subscribe_namespace(
        self,
        prefix: TrackNamespace,
        *,
        interest: Interest = Interest.NAMESPACE,
        parameters: Parameters = NO_PARAMETERS,
    ) -> int: ...

    # commands: answers to the peer's requests
    def accept_subscribe(
        self,
        request: int,
        alias: int,
        *,
        largest: Location | None = None,
        expires_ms: int | None = None,
        track_properties: Pairs = (),
    ) -> None: ...
    def accept_publish(
        self,
        request: int,
        *,
        forward: bool = True,
        filter: Filter | None = None,
        priority: int | None = None,
        group_order: GroupOrder | None = None,
    ) -> None: ...
    def accept(self, request: int) -> None: ...
    def reject(
        self,
        request: int,
        code: RequestCode,
        reason: str = "",
        *,
        retry_ms: int | None = None,
        redirect: Redirect | None = None,
    ) -> None: ...
    def announce_to(self, request: int, namespace: TrackNamespace) -> None: ...
    def withdraw_from(self, request: int, namespace: TrackNamespace) -> None: ...
    def accept_update(
        self, request: int, *, largest: Location | None = None, expires_ms: int | None = None
    ) -> None: ...
    def reject_update(self, request: int, code: RequestCode, reason: str = "") -> None: ...

    # commands: both
    def cancel(self, request: int) -> None: ...
    def publish_done(
        self, request: int, status: PublishDoneCode, *, stream_count: int | None = None, reason: str = ""
    ) -> None: ...
    def update(
        self,
        request: int,
        *,
        forward: bool | None = None,
        priority: int | None = None,
        filter: Filter | None = None,
        parameters: Parameters = NO_PARAMETERS,
    ) -> None: ...
    def goaway(self, uri: str = "", timeout_ms: int = 0) -> None: ...
    def goaway_request(self, request: int, uri: str = "", timeout_ms: int = 0) -> None: ...
    def close(self, code: SessionCode = SessionCode.NO_ERROR, reason: str = "") -> None: ...

    # output
    def poll_transmit(self) -> Transmit | None: ...
    def poll_event(self) -> Event | None: ...
