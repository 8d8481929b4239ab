"""What @moq/net and moq-rs put on the wire, byte by byte, and what they need to get back.

Written down from their source (moq-dev/moq, August 2026): ``moq-lite-js`` is @moq/net, ``moq-lite-rs``
moq-rs.
"""

from __future__ import annotations

from farcast.proto.moqt import events as e
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.profiles import DRAFT_16, DRAFT_18
from farcast.proto.moqt.quirks import DEFAULT_QUIRKS
from farcast.proto.moqt.session import LOCAL_STREAM_BIT, Session
from farcast.proto.moqt.values import LARGEST_OBJECT, GroupOrder, Interest, Location, SetupOptions

OURS = LOCAL_STREAM_BIT
SETUP_16 = "20 | 03 02 8000a455 05 0b 6d6f712d6c6974652d6a73 80040b53 01"
"""MAX_REQUEST_ID 42069, MOQT_IMPLEMENTATION "moq-lite-js", SOLICIT 0x40b5a = 1."""
SETUP_18 = "af00 | 07 0b 6d6f712d6c6974652d7273 c40b4e 01 2a 05 01"
"""MOQT_IMPLEMENTATION "moq-lite-rs", RELAY_HOPS 0x40b55, SOLICIT 0x40b5a."""


def message_bytes(wire: str) -> bytes:
    """A message from its type and payload in hexadecimal; the length is put between."""
    kind, payload = (bytes.fromhex(part) for part in wire.split("|"))
    return kind + len(payload).to_bytes(2, "big") + payload


def wire_hex(wire: str) -> str:
    """The same, as :meth:`Wire.sent` shows it."""
    return message_bytes(wire).hex()


class Wire:
    """A session of ours and the bytes that go in and out."""

    def __init__(
        self, profile: Profile, *, client: bool = False, webtransport: bool = False, quirks: bool = True
    ):
        options = SetupOptions(implementation="farcast")
        table = DEFAULT_QUIRKS if quirks else {}
        self.session = Session(
            profile, client=client, options=options, webtransport=webtransport, quirks=table
        )
        self.session.handle_opened()

    def control(self, key: int, wire: str) -> None:
        self.session.handle_stream_data(key, "control", message_bytes(wire), False)

    def request(self, key: int, wire: str, *, fin: bool = False) -> None:
        self.session.handle_stream_data(key, "request", message_bytes(wire), fin)

    def event(self) -> e.Event:
        event = self.session.poll_event()
        assert event is not None
        return event

    def events(self) -> list[e.Event]:
        found = []
        while (event := self.session.poll_event()) is not None:
            found.append(event)
        return found

    def sent(self) -> list[tuple[int, str]]:
        """Stream and bytes of everything written since the last look."""
        found = []
        while (item := self.session.poll_transmit()) is not None:
            if isinstance(item, e.StreamWrite):
                found.append((item.stream, item.data.hex() + (" fin" if item.fin else "")))
            assert not isinstance(item, e.SessionClose), item
        return found


def browser() -> Wire:
    """@moq/net 0.3.4 over WebTransport in draft 16, connected to us."""
    wire = Wire(DRAFT_16, webtransport=True)
    assert wire.sent() == []
    wire.control(0, SETUP_16)
    established = wire.event()
    assert isinstance(established, e.Established)
    assert established.implementation == "moq-lite-js"
    assert established.options.max_request_id == 42_069
    assert established.options.extra == ((0x40B5A, 1),)
    ((stream, setup),) = wire.sent()
    assert stream == 0
    assert setup.startswith("21")
    return wire


class TestBrowser:
    def test_it_learns_of_a_namespace_and_watches_two_tracks(self) -> None:
        wire = browser()
        wire.request(4, "11 | 00 00 01 00")
        subscribed = wire.event()
        assert isinstance(subscribed, e.NamespaceSubscribed)
        assert (subscribed.prefix, subscribed.interest) == (TrackNamespace(), Interest.NAMESPACE)
        wire.session.accept(subscribed.request)
        wire.session.announce_to(subscribed.request, TrackNamespace.parse("demo/bbb"))
        assert wire.sent() == [(4, wire_hex("07 | 00 00")), (4, wire_hex("08 | 02 04 64656d6f 03 626262"))]

        # Parameters: FORWARD 1, SUBSCRIBER_PRIORITY 60, SUBSCRIPTION_FILTER LargestObject, GROUP_ORDER
        # descending.
        wire.control(0, "03 | 02 02 04 64656d6f 03 626262 07 636174616c6f67 04 10 01 10 3c 01 01 02 01 02")
        asked = wire.event()
        assert isinstance(asked, e.SubscribeRequested)
        assert asked.name == FullTrackName.of("demo/bbb", "catalog")
        assert (asked.filter, asked.priority, asked.group_order) == (
            LARGEST_OBJECT,
            60,
            GroupOrder.DESCENDING,
        )
        wire.session.accept_subscribe(asked.request, 9, largest=Location(5, 1))
        assert wire.sent() == [(0, wire_hex("04 | 02 09 01 09 02 05 01"))]

        wire.control(0, "0a | 02")
        assert wire.event() == e.RequestCancelled(asked.request)
        assert wire.sent() == []

    def test_its_pages_may_wait_for_one_prefix_several_times(self) -> None:
        wire = browser()
        wire.request(4, "11 | 00 01 01 61 01 00")
        wire.request(8, "11 | 02 01 01 61 01 00")
        wire.request(12, "11 | 04 00 01 00")
        assert [type(event) for event in wire.events()] == [e.NamespaceSubscribed] * 3

    def test_others_may_not(self) -> None:
        wire = Wire(DRAFT_16, webtransport=True, quirks=False)
        wire.control(0, SETUP_16)
        wire.request(4, "11 | 00 01 01 61 01 00")
        wire.request(8, "11 | 02 00 01 00")
        assert [type(event) for event in wire.events()] == [e.Established, e.NamespaceSubscribed]
        key, error = wire.sent()[-1]
        assert key == 8
        assert error.startswith("0500")
        assert error[6:14] == "02300037"  # request id 2, PREFIX_OVERLAP, never retry, 55 bytes of reason
        assert error.endswith(" fin")

    def test_it_publishes_and_says_done_after_our_unsubscribe(self) -> None:
        wire = browser()
        wire.control(0, "06 | 00 01 03 63616d 00")
        published = wire.event()
        assert published == e.NamespacePublished(1, TrackNamespace((b"cam",)))
        wire.session.accept(1)
        assert wire.sent() == [(0, wire_hex("07 | 00 00"))]
        handle = wire.session.subscribe(FullTrackName.of("cam", "video"), filter=LARGEST_OBJECT)
        assert wire.sent() == [(0, wire_hex("03 | 01 01 03 63616d 05 766964656f 01 21 01 02"))]
        wire.control(0, "04 | 01 01 00")
        assert wire.event() == e.SubscribeAccepted(handle, 1, None, None)
        wire.session.cancel(handle)
        assert wire.sent() == [(0, wire_hex("0a | 01"))]
        wire.control(0, "0b | 01 40c8 00 02 4f4b")  # PUBLISH_DONE, status 200, "OK"
        assert wire.events() == []
        wire.control(0, "09 | 00")
        assert wire.event() == e.NamespaceWithdrawn(1, TrackNamespace((b"cam",)))

    def test_it_refuses_with_404(self) -> None:
        wire = browser()
        handle = wire.session.subscribe(FullTrackName.of("cam", "video"))
        wire.sent()
        wire.control(0, "05 | 01 4194 00 02 6e6f")
        rejected = wire.event()
        assert isinstance(rejected, e.RequestRejected)
        assert (rejected.request, rejected.code, rejected.wire_code) == (
            handle,
            RequestCode.INTERNAL_ERROR,
            404,
        )


class TestRust:
    """moq-rs in draft 18, over raw QUIC; its control stream is 2, its requests 0, 4, 8…"""

    def connected(self, *, client: bool = False) -> Wire:
        wire = Wire(DRAFT_18, client=client)
        ((stream, setup),) = wire.sent()
        assert stream == OURS
        assert setup == wire_hex("af00 | 04 9000 03 07 66617263617374")
        wire.control(3 if client else 2, SETUP_18)
        assert isinstance(wire.event(), e.Established)
        return wire

    def test_it_tells_and_asks_without_being_asked(self) -> None:
        wire = self.connected()
        wire.request(0, "06 | 00 02 01 61 01 62 00")
        wire.request(4, "50 | 02 00 00")
        published, subscribed = wire.events()
        assert isinstance(published, e.NamespacePublished)
        assert isinstance(subscribed, e.NamespaceSubscribed)
        wire.session.accept(published.request)
        wire.session.accept(subscribed.request)
        assert wire.sent() == [(0, wire_hex("07 | 00")), (4, wire_hex("07 | 00"))]

    def test_its_withdrawal_is_a_fin_alone(self) -> None:
        wire = self.connected()
        wire.request(0, "06 | 00 01 01 61 00")
        wire.session.accept(1)
        wire.sent()
        wire.events()
        wire.session.handle_stream_data(0, "request", b"", True)
        assert wire.event() == e.NamespaceWithdrawn(1, TrackNamespace((b"a",)))
        assert wire.sent() == [(0, " fin")]

    def test_it_leaves_a_subscription_with_fin_and_stop_sending(self) -> None:
        wire = self.connected()
        subscribe = "03 | 00 01 01 61 01 76 04 10 01 10 80 01 01 02 01 02"
        wire.request(0, subscribe)
        asked = wire.event()
        assert isinstance(asked, e.SubscribeRequested)
        wire.session.accept_subscribe(asked.request, 3, largest=Location(1, 1))
        assert wire.sent() == [(0, wire_hex("04 | 03 00"))]  # no LARGEST_OBJECT: it would not be understood
        wire.session.handle_stream_data(0, "request", b"", True)
        assert wire.events() == []  # a FIN alone means that no updates follow
        wire.session.handle_stream_stopped(0, 1)
        assert wire.event() == e.RequestCancelled(asked.request)
        assert wire.session.open_requests == ()

    def test_it_may_ask_again_before_its_cancellation_arrives(self) -> None:
        wire = self.connected()
        wire.request(0, "03 | 00 01 01 61 01 76 00")
        wire.request(4, "03 | 02 01 01 61 01 76 00")
        assert [type(event) for event in wire.events()] == [e.SubscribeRequested] * 2

    def test_we_publish_to_it_and_leave(self) -> None:
        wire = self.connected(client=True)
        handle = wire.session.publish_namespace(TrackNamespace((b"a",)))
        assert wire.sent() == [(OURS | 1, wire_hex("06 | 00 01 01 61 00"))]
        wire.session.handle_stream_data(OURS | 1, "request", message_bytes("07 | 00"), False)
        assert wire.event() == e.RequestAccepted(handle)
        wire.session.unpublish_namespace(handle)
        assert wire.sent() == [(OURS | 1, " fin")]  # in good order: a reset would leave it waiting for us

    def test_its_publisher_ends_with_publish_done_200_and_fin(self) -> None:
        wire = self.connected(client=True)
        handle = wire.session.subscribe(FullTrackName.of("a", "v"))
        wire.sent()
        stream = OURS | 1
        wire.session.handle_stream_data(stream, "request", message_bytes("04 | 00 00 22 02"), False)
        done = message_bytes("0b | 80c8 00 02 4f4b")
        wire.session.handle_stream_data(stream, "request", done, True)
        accepted, ended = wire.events()
        assert isinstance(accepted, e.SubscribeAccepted)
        assert ended == e.PublishEnded(handle, PublishDoneCode.INTERNAL_ERROR, 0, "OK")
        assert wire.sent() == [(stream, " fin")]
