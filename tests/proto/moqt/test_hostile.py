"""Whatever a peer sends, a session answers with the right error and within its limits, and raises nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.proto.moqt import events as e
from farcast.proto.moqt import messages as m
from farcast.proto.moqt.codec import decode_message, encode_message
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode, SessionCode
from farcast.proto.moqt.framer import Framer
from farcast.proto.moqt.keyvalue import Pair as Property
from farcast.proto.moqt.limits import SessionLimits
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.profiles import DRAFT_16, DRAFT_18
from farcast.proto.moqt.session import Session
from farcast.proto.moqt.values import (
    AuthToken,
    Interest,
    Location,
    Redirect,
    SetupOptions,
    Token,
    TokenAliasType,
)

from .pair import Pair
from .strategies import ALL_PROFILES, any_message

PROFILES = pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: profile.name)
NAME = FullTrackName.of("live/room1", "video")
OTHER = FullTrackName.of("live/room1", "audio")
SMALL = SessionLimits(
    requests_open_max=4,
    requests_queued_max=4,
    request_id_gaps_max=64,
    namespaces_max=4,
    updates_pending_max=2,
    updates_unanswered_max=3,
    early_streams_max=2,
    early_stream_bytes_max=100,
    finished_streams_max=4,
    auth_token_cache_bytes_max=40,
)


class Peer:
    """A session, and a peer without manners that sends it whatever it is told to."""

    def __init__(
        self, profile: Profile, *, client: bool = False, limits: SessionLimits = SMALL, setup: bool = True
    ) -> None:
        self.profile = profile
        self.client = client
        self.session = Session(profile, client=client, limits=limits)
        self.session.handle_opened()
        self.transmits: list[e.Transmit] = []
        self.events: list[e.Event] = []
        self._next_stream = 1 if client else 0
        self.control_key = self._control_key()
        if setup:
            kind = profile.server_setup if client else profile.client_setup
            limit = 1_000 if profile.request_ids_limited else None
            self.control(kind(options=SetupOptions(max_request_id=limit)))
            assert self.session.established
            self.events.clear()

    def _control_key(self) -> int:
        if not self.profile.control_bidi:
            return 3 if self.client else 2
        self.collect()
        opened = [item.stream for item in self.transmits if isinstance(item, e.OpenStream)]
        self._next_stream += 0 if self.client else 4
        return opened[0] if self.client else 0

    def collect(self) -> None:
        while (transmit := self.session.poll_transmit()) is not None:
            self.transmits.append(transmit)
        while (event := self.session.poll_event()) is not None:
            self.events.append(event)

    def new_stream(self) -> int:
        self._next_stream += 4
        return self._next_stream - 4

    def control(self, *messages: m.Message) -> None:
        self.control_bytes(b"".join(encode_message(message, self.profile) for message in messages))

    def control_bytes(self, data: bytes, *, fin: bool = False) -> None:
        self.session.handle_stream_data(self.control_key, "control", data, fin)
        self.collect()

    def stream_bytes(self, key: int, data: bytes, *, fin: bool = False) -> None:
        self.session.handle_stream_data(key, "request", data, fin)
        self.collect()

    def request(self, message: m.Message, *, fin: bool = False) -> int | None:
        """Sends a request where the draft wants it; gives its stream."""
        if self.profile.requests_on_streams or isinstance(message, m.SubscribeNamespace):
            key = self.new_stream()
            self.stream_bytes(key, encode_message(message, self.profile), fin=fin)
            return key
        self.control(message)
        return None

    def about(self, key: int | None, *messages: m.Message) -> None:
        """Sends messages about a request."""
        if key is None:
            self.control(*messages)
        else:
            self.stream_bytes(key, b"".join(encode_message(message, self.profile) for message in messages))

    @property
    def failure(self) -> SessionCode | None:
        """The code with which the session closed because of us, said once and both ways."""
        failed = [event for event in self.events if isinstance(event, e.SessionFailed)]
        closed = [item for item in self.transmits if isinstance(item, e.SessionClose)]
        assert len(failed) == len(closed) <= 1
        if not closed:
            return None
        assert closed[0].code == failed[0].code
        assert self.transmits[-1] is closed[0]
        assert self.session.closed
        return closed[0].code

    def written(self) -> list[m.Message]:
        """Messages that the session has written."""
        framers: dict[int, Framer] = {}
        found = []
        for item in self.transmits:
            if isinstance(item, e.StreamWrite):
                framer = framers.setdefault(item.stream, Framer(self.profile, 65_535))
                framer.push(item.data)
                while (each := framer.next()) is not None:
                    found.append(decode_message(*each, self.profile))
        return found

    def errors(self) -> list[int]:
        """Codes of the REQUEST_ERRORs that the session has written."""
        return [message.code for message in self.written() if isinstance(message, m.RequestError)]

    def number(self, code: RequestCode) -> int:
        return self.profile.request_number(code)

    def event(self) -> e.Event:
        """The only event since the last look."""
        (event,) = self.events
        self.events.clear()
        return event


@PROFILES
@pytest.mark.parametrize("client", [True, False])
@settings(max_examples=60)
@given(data=st.data())
def test_garbage_raises_nothing(profile: Profile, client: bool, data: st.DataObject) -> None:
    peer = Peer(profile, client=client, setup=data.draw(st.booleans()))
    ours = [
        peer.session.subscribe(NAME),
        peer.session.publish(OTHER, 1),
        peer.session.publish_namespace(TrackNamespace((b"a",))),
        peer.session.subscribe_namespace(TrackNamespace()),
    ]
    peer.collect()
    opened = [item.stream for item in peer.transmits if isinstance(item, e.OpenStream)]
    keys = st.sampled_from([*opened, 0, 1, 4, 5, 8, 9])
    chunks = st.binary(max_size=20) | any_message(profile).map(lambda each: encode_message(each, profile))
    for _ in range(data.draw(st.integers(1, 8))):
        action = data.draw(st.sampled_from(["control", "request", "request", "reset", "stop"]))
        key = data.draw(keys)
        if action == "control":
            peer.control_bytes(data.draw(chunks))
        elif action == "request":
            peer.stream_bytes(key, data.draw(chunks), fin=data.draw(st.booleans()))
        elif action == "reset":
            peer.session.handle_stream_reset(key, data.draw(st.integers(0, 2**62)))
        else:
            peer.session.handle_stream_stopped(key, data.draw(st.integers(0, 2**62)))
        peer.collect()
    for handle in ours:
        peer.session.cancel(handle)
    peer.collect()
    assert peer.failure is None or peer.session.open_requests == ()


@PROFILES
class TestControlStream:
    def test_garbage_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.control_bytes(b"\x3f\x00\x00")
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_anything_before_setup_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile, setup=False)
        peer.control(m.Goaway(uri="", timeout_ms=0))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_a_second_setup_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.control(profile.client_setup(options=SetupOptions()))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_a_second_control_stream_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.session.handle_stream_data(70, "control", b"", False)
        peer.collect()
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize("how", ["fin", "reset", "stop"])
    def test_its_end_closes_the_session(self, profile: Profile, how: str) -> None:
        peer = Peer(profile)
        if how == "fin":
            peer.control_bytes(b"", fin=True)
        elif how == "reset":
            peer.session.handle_stream_reset(peer.control_key, 0)
        else:
            ours = next(item.stream for item in peer.transmits if isinstance(item, e.StreamWrite))
            peer.session.handle_stream_stopped(ours, 0)
        peer.collect()
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_a_length_above_the_limit_closes_before_the_bytes_are_there(self, profile: Profile) -> None:
        peer = Peer(profile, limits=SessionLimits(message_bytes_max=100))
        peer.control_bytes(b"\x10\x00\x65")
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_nothing_is_heard_after_the_end(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.control_bytes(b"\x3f\x00\x00")
        before = (len(peer.events), len(peer.transmits))
        peer.control_bytes(b"\x3f\x00\x00")
        peer.stream_bytes(8, b"\x3f\x00\x00")
        assert (len(peer.events), len(peer.transmits)) == before

    def test_a_second_goaway_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.control(m.Goaway(uri="", timeout_ms=0))
        assert peer.failure is None
        peer.control(m.Goaway(uri="", timeout_ms=0))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_a_client_cannot_send_a_server_elsewhere(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.control(m.Goaway(uri="moqt://elsewhere", timeout_ms=0))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION


@PROFILES
class TestRequestStreams:
    def test_a_stream_that_opens_with_a_response_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.stream_bytes(peer.new_stream(), encode_message(m.RequestOk(request_id=0), profile))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_a_second_request_on_one_stream_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        key = peer.request(m.SubscribeNamespace(request_id=0, prefix=TrackNamespace((b"a",))))
        again = m.SubscribeNamespace(request_id=2, prefix=TrackNamespace((b"b",)))
        assert key is not None
        peer.stream_bytes(key, encode_message(again, profile))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_a_stream_that_ends_inside_a_message_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        wire = encode_message(m.SubscribeNamespace(request_id=0, prefix=TrackNamespace()), profile)
        peer.stream_bytes(peer.new_stream(), wire[:-1], fin=True)
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_a_stream_that_is_reset_inside_a_message_is_forgotten(self, profile: Profile) -> None:
        peer = Peer(profile)
        wire = encode_message(m.SubscribeNamespace(request_id=0, prefix=TrackNamespace()), profile)
        key = peer.new_stream()
        peer.stream_bytes(key, wire[:-1])
        peer.session.handle_stream_reset(key, 1)
        peer.collect()
        assert peer.failure is None
        assert peer.events == []
        assert e.StreamReset(key, 1) in peer.transmits

    def test_an_empty_stream_is_ended(self, profile: Profile) -> None:
        peer = Peer(profile)
        key = peer.new_stream()
        peer.stream_bytes(key, b"", fin=True)
        assert peer.failure is None
        assert e.StreamWrite(key, b"", fin=True) in peer.transmits

    def test_bytes_on_a_stream_that_was_reset_are_dropped(self, profile: Profile) -> None:
        peer = Peer(profile)
        key = peer.request(m.SubscribeNamespace(request_id=0, prefix=TrackNamespace()))
        assert key is not None
        peer.session.handle_stream_stopped(key, 1)
        peer.stream_bytes(key, b"\x3f\x3f\x3f")
        assert peer.failure is None
        peer.stream_bytes(key, b"", fin=True)
        peer.stream_bytes(key, b"\x3f\x3f\x3f")
        assert peer.failure is None


class TestDraft18Places:
    def test_a_request_on_the_control_stream_closes_the_session(self) -> None:
        peer = Peer(DRAFT_18)
        peer.control(m.Subscribe(request_id=0, name=NAME))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_goaway_with_an_id_of_the_wrong_side(self) -> None:
        peer = Peer(DRAFT_18)
        peer.control(m.Goaway(uri="", timeout_ms=0, request_id=2))
        assert peer.failure is SessionCode.INVALID_REQUEST_ID

    def test_goaway_for_one_request_carries_no_id_and_comes_once(self) -> None:
        for messages in ([m.Goaway(timeout_ms=0, request_id=1)], [m.Goaway(timeout_ms=0)] * 2):
            peer = Peer(DRAFT_18)
            peer.about(peer.request(m.Subscribe(request_id=0, name=NAME)), *messages)
            assert peer.failure is SessionCode.PROTOCOL_VIOLATION


class TestDraft16Places:
    def test_only_subscribe_namespace_has_a_stream(self) -> None:
        peer = Peer(DRAFT_16)
        peer.stream_bytes(peer.new_stream(), encode_message(m.Subscribe(request_id=0, name=NAME), DRAFT_16))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_subscribe_namespace_is_not_for_the_control_stream(self) -> None:
        peer = Peer(DRAFT_16)
        peer.control(m.SubscribeNamespace(request_id=0, prefix=TrackNamespace(), interest=Interest.BOTH))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_a_setup_of_the_wrong_side(self) -> None:
        peer = Peer(DRAFT_16, setup=False)
        peer.control(m.ServerSetup(options=SetupOptions()))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize(
        "message",
        [
            m.Unsubscribe(request_id=10),
            m.Unsubscribe(request_id=1),
            m.PublishDone(request_id=1, status=0, stream_count=0),
            m.PublishNamespaceDone(request_id=10),
            m.PublishNamespaceCancel(request_id=1, code=0),
            m.FetchCancel(request_id=10),
            m.RequestOk(request_id=1),
            m.RequestError(request_id=1, code=0),
            m.SubscribeOk(request_id=1, alias=0),
            m.RequestUpdate(request_id=0, existing_request_id=8),
        ],
        ids=lambda message: f"{type(message).__name__}-{message.request_id}",
    )
    def test_a_message_about_a_request_that_never_was(self, message: m.Message) -> None:
        peer = Peer(DRAFT_16)
        peer.control(message)
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize(
        "message",
        [m.Unsubscribe(request_id=0), m.FetchCancel(request_id=0), m.PublishNamespaceDone(request_id=0)],
        ids=lambda message: type(message).__name__,
    )
    def test_a_message_about_a_request_that_is_over_is_late(self, message: m.Message) -> None:
        peer = Peer(DRAFT_16)
        peer.control(m.TrackStatus(request_id=0, name=NAME))
        peer.control(message)
        assert peer.failure is None

    def test_an_update_of_a_request_that_is_over_is_refused(self) -> None:
        peer = Peer(DRAFT_16)
        peer.control(m.TrackStatus(request_id=0, name=NAME))
        peer.control(m.RequestUpdate(request_id=2, existing_request_id=0))
        assert peer.errors() == [0x3, 0x10]
        assert peer.failure is None

    def test_max_request_id_must_rise(self) -> None:
        peer = Peer(DRAFT_16)
        peer.control(m.MaxRequestId(request_id=1_002))
        assert peer.failure is None
        peer.control(m.MaxRequestId(request_id=1_002))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_requests_blocked_is_heard_and_needs_no_answer(self) -> None:
        peer = Peer(DRAFT_16)
        peer.control(m.RequestsBlocked(request_id=8))
        assert peer.failure is None


@PROFILES
class TestRequestIds:
    @pytest.mark.parametrize("request_id", [1, 2**40])
    def test_a_wrong_id_closes_the_session(self, profile: Profile, request_id: int) -> None:
        peer = Peer(profile)
        peer.request(m.Subscribe(request_id=request_id, name=NAME))
        too_many = profile is DRAFT_16 and request_id > 1
        assert peer.failure is (SessionCode.TOO_MANY_REQUESTS if too_many else SessionCode.INVALID_REQUEST_ID)

    def test_an_id_used_twice_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.request(m.Subscribe(request_id=0, name=NAME))
        peer.request(m.Subscribe(request_id=0, name=OTHER))
        assert peer.failure is SessionCode.INVALID_REQUEST_ID

    def test_requests_may_overtake_each_other(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.request(m.Subscribe(request_id=4, name=NAME))
        peer.request(m.Subscribe(request_id=0, name=OTHER))
        assert peer.failure is None
        assert len(peer.events) == 2


@PROFILES
class TestUnsupportedRequests:
    def messages(self, profile: Profile, request_id: int) -> list[m.Message]:
        fetch = m.StandaloneFetch(NAME, Location(0, 0), Location(1, 0))
        found: list[m.Message] = [
            m.Fetch(request_id=request_id, fetch=fetch),
            m.Fetch(request_id=request_id + 2, fetch=m.JoiningFetch(True, 0, 1)),
            m.TrackStatus(request_id=request_id + 4, name=NAME),
        ]
        if profile is DRAFT_16:
            prefix = TrackNamespace((b"a",))
            return [
                *found,
                m.SubscribeNamespace(request_id=request_id + 6, prefix=prefix, interest=Interest.PUBLISH),
            ]
        return [*found, m.SubscribeTracks(request_id=request_id + 6, prefix=TrackNamespace((b"a",)))]

    def test_they_are_refused_and_the_session_goes_on(self, profile: Profile) -> None:
        peer = Peer(profile)
        for round_number in range(5):
            for message in self.messages(profile, 8 * round_number):
                key = peer.request(message)
                if key is not None:
                    assert isinstance(peer.transmits[-1], e.StreamWrite | e.StreamReset)
                    peer.stream_bytes(key, b"", fin=True)
        assert peer.errors() == [peer.number(RequestCode.NOT_SUPPORTED)] * 20
        assert peer.failure is None
        assert peer.events == []

    def test_the_refusal_ends_the_stream(self, profile: Profile) -> None:
        peer = Peer(profile)
        key = peer.request(self.messages(profile, 0)[-1])
        on_stream = [
            item for item in peer.transmits if isinstance(item, e.StreamWrite) and item.stream == key
        ]
        assert [item.fin for item in on_stream] == [True]


@PROFILES
class TestResponses:
    """Responses that do not fit what was asked. The session is the client; its first request has id 0."""

    def peer_with(self, profile: Profile, verb: str) -> tuple[Peer, int | None, int]:
        peer = Peer(profile, client=True)
        commands = {
            "subscribe": lambda: peer.session.subscribe(NAME),
            "publish": lambda: peer.session.publish(NAME, 1),
            "publish_namespace": lambda: peer.session.publish_namespace(TrackNamespace((b"a",))),
            "subscribe_namespace": lambda: peer.session.subscribe_namespace(TrackNamespace((b"a",))),
        }
        handle = commands[verb]()
        peer.collect()
        opened = [item.stream for item in peer.transmits if isinstance(item, e.OpenStream)]
        on_stream = profile.requests_on_streams or verb == "subscribe_namespace"
        return peer, opened[-1] if on_stream else None, handle

    @pytest.mark.parametrize(
        ("verb", "messages"),
        [
            ("subscribe", [m.RequestOk(request_id=0)]),
            ("subscribe", [m.SubscribeOk(request_id=0, alias=1)] * 2),
            ("subscribe", [m.PublishDone(request_id=0, status=0, stream_count=0)]),
            ("subscribe", [m.PublishOk(request_id=0)]),
            ("publish", [m.SubscribeOk(request_id=0, alias=1)]),
            ("publish", [m.PublishOk(request_id=0)] * 2),
            ("publish", [m.PublishDone(request_id=0, status=0, stream_count=0)]),
            ("publish_namespace", [m.SubscribeOk(request_id=0, alias=1)]),
            ("publish_namespace", [m.RequestOk(request_id=0)] * 2),
            ("subscribe_namespace", [m.Namespace(suffix=TrackNamespace())]),
            (
                "subscribe_namespace",
                [m.RequestOk(request_id=0), m.NamespaceDone(suffix=TrackNamespace((b"x",)))],
            ),
            (
                "subscribe_namespace",
                [m.RequestOk(request_id=0), m.Namespace(suffix=TrackNamespace((b"x",) * 32))],
            ),
        ],
    )
    def test_are_violations(self, profile: Profile, verb: str, messages: list[m.Message]) -> None:
        peer, key, _ = self.peer_with(profile, verb)
        peer.about(key, *messages)
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_track_properties_belong_into_track_status_ok_only(self, profile: Profile) -> None:
        if profile is DRAFT_16:
            return
        peer, key, _ = self.peer_with(profile, "publish")
        peer.about(key, m.RequestOk(track_properties=(Property(2, 1),)))
        assert peer.failure is SessionCode.PROTOCOL_VIOLATION

    def test_unknown_codes_are_internal_errors(self, profile: Profile) -> None:
        peer, key, handle = self.peer_with(profile, "subscribe")
        peer.about(key, m.RequestError(request_id=0, code=404, reason="Broadcast not found"))
        assert peer.event() == e.RequestRejected(
            handle, RequestCode.INTERNAL_ERROR, "Broadcast not found", None, None, 404
        )

    def test_a_publisher_ends_with_a_code_of_its_own(self, profile: Profile) -> None:
        peer, key, handle = self.peer_with(profile, "subscribe")
        done = m.PublishDone(request_id=0, status=200, stream_count=0, reason="OK")
        peer.about(key, m.SubscribeOk(request_id=0, alias=1), done)
        assert peer.events[-1] == e.PublishEnded(handle, PublishDoneCode.INTERNAL_ERROR, 0, "OK")

    def test_an_unknown_mandatory_property_refuses_the_track(self, profile: Profile) -> None:
        peer, key, handle = self.peer_with(profile, "subscribe")
        peer.about(key, m.SubscribeOk(request_id=0, alias=1, track_properties=(Property(0x4000, 1),)))
        if profile is DRAFT_16:
            assert isinstance(peer.event(), e.SubscribeAccepted)
            return
        rejected = peer.event()
        assert isinstance(rejected, e.RequestRejected)
        assert (rejected.request, rejected.code) == (handle, RequestCode.UNSUPPORTED_EXTENSION)
        assert peer.session.open_requests == ()

    def test_a_repeated_namespace_is_no_news(self, profile: Profile) -> None:
        peer, key, _ = self.peer_with(profile, "subscribe_namespace")
        peer.about(key, m.RequestOk(request_id=0), *[m.Namespace(suffix=TrackNamespace())] * 3)
        assert [type(event) for event in peer.events] == [e.RequestAccepted, e.NamespaceAnnounced]

    def test_too_many_namespaces_cancel_the_request(self, profile: Profile) -> None:
        peer, key, handle = self.peer_with(profile, "subscribe_namespace")
        suffixes = [TrackNamespace((bytes([65 + index]),)) for index in range(5)]
        peer.about(key, m.RequestOk(request_id=0), *[m.Namespace(suffix=suffix) for suffix in suffixes])
        assert peer.events[-1] == e.RequestCancelled(handle)
        assert sum(isinstance(event, e.NamespaceGone) for event in peer.events) == 4
        assert peer.failure is None

    @pytest.mark.parametrize("verb", ["subscribe", "publish", "publish_namespace", "subscribe_namespace"])
    @pytest.mark.parametrize("how", ["fin", "reset"])
    def test_a_stream_that_ends_without_a_response_is_a_refusal(
        self, profile: Profile, verb: str, how: str
    ) -> None:
        peer, key, handle = self.peer_with(profile, verb)
        if key is None:
            return
        if how == "fin":
            peer.stream_bytes(key, b"", fin=True)
        else:
            peer.session.handle_stream_reset(key, 0)
            peer.collect()
        rejected = peer.event()
        assert isinstance(rejected, e.RequestRejected)
        assert (rejected.request, rejected.code) == (handle, RequestCode.INTERNAL_ERROR)

    def test_a_publisher_that_ends_its_stream_without_a_word_has_ended_the_track(
        self, profile: Profile
    ) -> None:
        peer, key, handle = self.peer_with(profile, "subscribe")
        if key is None:
            return
        peer.about(key, m.SubscribeOk(alias=1))
        peer.events.clear()
        peer.stream_bytes(key, b"", fin=True)
        ended = peer.event()
        assert isinstance(ended, e.PublishEnded)
        assert (ended.request, ended.status) == (handle, PublishDoneCode.TRACK_ENDED)

    @pytest.mark.parametrize("verb", ["publish", "publish_namespace"])
    @pytest.mark.parametrize("stop_first", [True, False])
    def test_a_request_is_over_once_both_directions_of_its_stream_are(
        self, profile: Profile, verb: str, stop_first: bool
    ) -> None:
        peer, key, handle = self.peer_with(profile, verb)
        if key is None:
            return
        accept = encode_message(m.RequestOk(), profile)
        if stop_first:  # it overtakes the response, and is not the end of a request without one
            peer.session.handle_stream_stopped(key, 1)
            peer.stream_bytes(key, accept, fin=True)
        else:
            peer.stream_bytes(key, accept, fin=True)
            assert peer.session.open_requests == (handle,)
            peer.session.handle_stream_stopped(key, 1)
        peer.collect()
        assert peer.events[-1] == e.RequestCancelled(handle)
        assert peer.session.open_requests == ()

    def test_a_reset_says_why(self, profile: Profile) -> None:
        peer, key, _ = self.peer_with(profile, "subscribe")
        if key is None:
            return
        peer.about(key, m.SubscribeOk(alias=1))
        peer.events.clear()
        peer.session.handle_stream_reset(key, 0x5)
        peer.collect()
        ended = peer.event()
        assert isinstance(ended, e.PublishEnded)
        assert ended.status is PublishDoneCode.TOO_FAR_BEHIND

    def test_a_server_is_not_sent_elsewhere(self, profile: Profile) -> None:
        if profile is DRAFT_16:
            return
        pair = Pair(profile)
        pair.server.session.subscribe(NAME)
        pair.run()
        theirs = pair.client.take(e.SubscribeRequested).request
        pair.client.session.reject(theirs, RequestCode.REDIRECT, redirect=Redirect("moqt://x", OTHER))
        pair.run()
        assert pair.server.take(e.RequestRejected).redirect == Redirect("", OTHER)


@PROFILES
class TestLimits:
    def test_too_many_open_requests(self, profile: Profile) -> None:
        peer = Peer(profile)
        for index in range(5):
            name = FullTrackName.of("a", str(index))
            peer.request(m.Subscribe(request_id=2 * index, name=name))
        if profile is DRAFT_16:
            assert peer.failure is SessionCode.TOO_MANY_REQUESTS
            return
        assert peer.errors() == [peer.number(RequestCode.EXCESSIVE_LOAD)]
        assert len(peer.events) == 4
        assert peer.failure is None

    def test_ids_are_granted_as_requests_end(self, profile: Profile) -> None:
        peer = Peer(profile)
        for index in range(50):
            peer.request(m.Subscribe(request_id=2 * index, name=NAME), fin=False)
            event = peer.event()
            assert isinstance(event, e.SubscribeRequested)
            peer.session.reject(event.request, RequestCode.UNAUTHORIZED)
            peer.collect()
        assert peer.failure is None

    def test_streams_that_never_say_what_they_want(self, profile: Profile) -> None:
        peer = Peer(profile)
        keys = [peer.new_stream() for _ in range(20)]
        for key in keys:
            peer.stream_bytes(key, b"\x11" if profile is DRAFT_16 else b"\x50")
        refused = [item.stream for item in peer.transmits if isinstance(item, e.StreamReset)]
        assert refused == keys[4:]
        assert peer.failure is None

    def test_streams_ahead_of_setup_are_kept_within_limits(self, profile: Profile) -> None:
        peer = Peer(profile, setup=False)
        wires = [
            encode_message(
                m.SubscribeNamespace(request_id=2 * index, prefix=TrackNamespace((bytes([65 + index]),))),
                profile,
            )
            for index in range(4)
        ]
        keys = [peer.new_stream() for _ in wires]
        for key, wire in zip(keys, wires, strict=True):
            peer.stream_bytes(key, wire)
        refused = [item.stream for item in peer.transmits if isinstance(item, e.StreamReset)]
        assert refused == keys[2:]
        options = SetupOptions(max_request_id=100 if profile is DRAFT_16 else None)
        peer.control(profile.client_setup(options=options))
        assert [type(event) for event in peer.events] == [e.Established, *[e.NamespaceSubscribed] * 2]
        assert peer.failure is None

    def test_bytes_ahead_of_setup_are_bounded(self, profile: Profile) -> None:
        peer = Peer(profile, setup=False)
        key = peer.new_stream()
        for _ in range(11):
            peer.stream_bytes(key, b"x" * 10)
        peer.stream_bytes(key, b"x" * 1_000)
        resets = [item for item in peer.transmits if isinstance(item, e.StreamReset)]
        assert [item.stream for item in resets] == [key]
        assert peer.failure is None

    def test_a_stream_ahead_of_setup_can_be_given_up(self, profile: Profile) -> None:
        peer = Peer(profile, setup=False)
        wire = encode_message(m.SubscribeNamespace(request_id=0, prefix=TrackNamespace()), profile)
        key = peer.new_stream()
        peer.stream_bytes(key, wire)
        peer.session.handle_stream_reset(key, 1)
        peer.control(profile.client_setup(options=SetupOptions()))
        assert [type(event) for event in peer.events] == [e.Established]

    @pytest.mark.parametrize("cut", [0, 1, 3, None])
    def test_a_stream_ahead_of_setup_may_be_stopped(self, profile: Profile, cut: int | None) -> None:
        peer = Peer(profile, setup=False)
        wire = encode_message(m.SubscribeNamespace(request_id=0, prefix=TrackNamespace()), profile)
        key = peer.new_stream()
        peer.stream_bytes(key, wire[:cut])
        peer.session.handle_stream_stopped(key, 1)
        limit = 100 if profile is DRAFT_16 else None
        peer.control(profile.client_setup(options=SetupOptions(max_request_id=limit)))
        peer.stream_bytes(key, wire[cut:] if cut is not None else b"", fin=True)
        assert [type(event) for event in peer.events] == [e.Established]
        assert peer.failure is None
        assert peer.session._core.streams == {}

    def test_ids_lost_with_their_streams_are_granted_again(self, profile: Profile) -> None:
        peer = Peer(profile)
        for index in range(100):
            key = peer.new_stream()
            if index % 2:  # the reset overtakes the request
                peer.session.handle_stream_reset(key, 1)
                continue
            prefix = TrackNamespace((b"p%d" % index,))
            message = m.SubscribeNamespace(request_id=2 * index, prefix=prefix)
            peer.stream_bytes(key, encode_message(message, profile))
            peer.session.handle_stream_reset(key, 1)
        peer.collect()
        assert peer.failure is None

    def test_unanswered_updates_are_bounded(self, profile: Profile) -> None:
        peer = Peer(profile)
        key = peer.request(m.Subscribe(request_id=0, name=NAME))
        asked = peer.event()
        assert isinstance(asked, e.SubscribeRequested)
        peer.session.accept_subscribe(asked.request, 1)
        for request_id in (2, 4, 6):
            peer.about(key, m.RequestUpdate(request_id=request_id, existing_request_id=0))
        assert [type(event) for event in peer.events] == [e.UpdateRequested] * 2 + [e.RequestCancelled]
        assert peer.errors() == [peer.number(RequestCode.EXCESSIVE_LOAD)]
        assert peer.failure is None

    def test_our_own_updates_are_bounded_where_nobody_answers(self, profile: Profile) -> None:
        peer = Peer(profile, client=True)
        handle = peer.session.subscribe(NAME)
        for _ in range(5):
            peer.session.update(handle, forward=True)
        peer.collect()
        rejected = [event for event in peer.events if isinstance(event, e.UpdateRejected)]
        assert [event.code for event in rejected] == [RequestCode.EXCESSIVE_LOAD] * 2

    def test_our_own_requests_wait_in_a_bounded_queue(self, profile: Profile) -> None:
        session = Session(profile, client=True, limits=SMALL)
        handles = [session.subscribe(FullTrackName.of("a", str(index))) for index in range(5)]
        assert session.poll_event() == e.RequestRejected(
            handles[-1], RequestCode.EXCESSIVE_LOAD, "too many requests wait to be sent"
        )
        session.cancel(handles[0])
        session.update(handles[1], priority=7)
        assert session.poll_event() == e.UpdateAccepted(handles[1])
        assert session.open_requests == tuple(handles[1:4])

    def test_finished_streams_are_forgotten_in_the_end(self, profile: Profile) -> None:
        peer = Peer(profile)
        for index in range(40):
            prefix = TrackNamespace((b"p%d" % index,))
            key = peer.request(m.SubscribeNamespace(request_id=2 * index, prefix=prefix))
            assert key is not None
            peer.session.handle_stream_stopped(key, 1)  # and neither FIN nor reset ever comes
        peer.collect()
        assert peer.failure is None
        assert len(peer.session._core.streams) <= SMALL.finished_streams_max
        assert peer.session.open_requests == ()

    def test_registered_tokens_are_bounded(self, profile: Profile) -> None:
        peer = Peer(profile)
        for index in range(3):
            token = AuthToken(TokenAliasType.REGISTER, index, 0, b"1234")
            parameters = Parameters(authorization_tokens=(token,))
            name = FullTrackName.of("a", str(index))
            peer.request(m.Subscribe(request_id=2 * index, name=name, parameters=parameters))
        assert peer.failure is SessionCode.AUTH_TOKEN_CACHE_OVERFLOW

    def test_track_properties_that_outgrow_the_message_refuse_the_track(self, profile: Profile) -> None:
        peer = Peer(profile)
        peer.request(m.Subscribe(request_id=0, name=NAME))
        asked = peer.event()
        assert isinstance(asked, e.SubscribeRequested)
        properties = (Property(0x101, b"x" * 40_000), Property(0x103, b"x" * 40_000))
        peer.session.accept_subscribe(asked.request, 1, track_properties=properties)
        peer.collect()
        assert peer.event() == e.RequestCancelled(asked.request)
        assert peer.errors() == [peer.number(RequestCode.INTERNAL_ERROR)]

    def test_an_offer_that_outgrows_the_message_is_not_sent(self, profile: Profile) -> None:
        peer = Peer(profile, client=True)
        properties = (Property(0x101, b"x" * 40_000), Property(0x103, b"x" * 40_000))
        peer.session.publish(NAME, 1, track_properties=properties)
        peer.collect()
        rejected = peer.event()
        assert isinstance(rejected, e.RequestRejected)
        assert rejected.code is RequestCode.INTERNAL_ERROR


@PROFILES
class TestTokens:
    def test_they_are_resolved_and_reported(self, profile: Profile) -> None:
        peer = Peer(profile)
        register = AuthToken(TokenAliasType.REGISTER, 3, 0, b"abc")
        use = AuthToken(TokenAliasType.USE_ALIAS, 3)
        for request_id, token in ((0, register), (2, use)):
            parameters = Parameters(authorization_tokens=(token,))
            space = TrackNamespace((b"n%d" % request_id,))
            peer.request(m.PublishNamespace(request_id=request_id, namespace=space, parameters=parameters))
        seen = [event.tokens for event in peer.events if isinstance(event, e.NamespacePublished)]
        assert seen == [(Token(0, b"abc"),)] * 2

    def test_an_unknown_alias_closes_the_session(self, profile: Profile) -> None:
        peer = Peer(profile)
        parameters = Parameters(authorization_tokens=(AuthToken(TokenAliasType.USE_ALIAS, 3),))
        peer.request(m.Subscribe(request_id=0, name=NAME, parameters=parameters))
        assert peer.failure is SessionCode.UNKNOWN_AUTH_TOKEN_ALIAS

    def test_a_refused_request_registers_all_the_same(self, profile: Profile) -> None:
        peer = Peer(profile)
        token = AuthToken(TokenAliasType.REGISTER, 3, 0, b"abc")
        parameters = Parameters(authorization_tokens=(token,))
        peer.request(m.TrackStatus(request_id=0, name=NAME, parameters=parameters))
        use = Parameters(authorization_tokens=(AuthToken(TokenAliasType.USE_ALIAS, 3),))
        peer.request(m.Subscribe(request_id=2, name=NAME, parameters=use))
        asked = peer.event()
        assert isinstance(asked, e.SubscribeRequested)
        assert asked.tokens == (Token(0, b"abc"),)


class TestReservedNamespaces:
    @pytest.mark.parametrize("first", [b".", b".session"])
    def test_are_refused(self, first: bytes) -> None:
        peer = Peer(DRAFT_18)
        space = TrackNamespace((first, b"x"))
        peer.request(m.Subscribe(request_id=0, name=FullTrackName(space, b"t")))
        peer.request(m.PublishNamespace(request_id=2, namespace=space))
        assert peer.errors() == [0x10, 0x10]
        assert peer.events == []

    def test_others_with_a_period_are_the_applications(self) -> None:
        peer = Peer(DRAFT_18)
        peer.request(m.Subscribe(request_id=0, name=FullTrackName(TrackNamespace((b".x",)), b"t")))
        assert isinstance(peer.event(), e.SubscribeRequested)
