"""Every verb between two sessions, in every draft, whatever the order in which streams arrive."""

from __future__ import annotations

import pytest

from farcast.proto.moqt import events as e
from farcast.proto.moqt.errors import LocalError, PublishDoneCode, RequestCode, SessionCode
from farcast.proto.moqt.keyvalue import Pair as Property
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.profiles import DRAFT_16, DRAFT_18, HOP
from farcast.proto.moqt.values import (
    LARGEST_OBJECT,
    Filter,
    FilterKind,
    GroupOrder,
    Interest,
    Location,
    NodeInfo,
    Recovery,
    Redirect,
    SetupOptions,
)

from .pair import End, Pair

NAME = FullTrackName.of("live/room1/alice", "video")
NAMESPACE = TrackNamespace.parse("live/room1/alice")
ROOM = TrackNamespace.parse("live/room1")

SEEDS = [None, 1, 2, 3, 4, 5]


@pytest.fixture(params=[DRAFT_16, DRAFT_18, HOP], ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Profile:
    value: Profile = request.param
    return value


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed-{seed}")
def pair(request: pytest.FixtureRequest, profile: Profile) -> Pair:
    return Pair(profile, seed=request.param)


@pytest.fixture(params=["client-asks", "server-asks"])
def roles(request: pytest.FixtureRequest, pair: Pair) -> tuple[End, End]:
    """Who asks, and who answers."""
    return pair.ends if request.param == "client-asks" else (pair.server, pair.client)


def assert_at_rest(pair: Pair) -> None:
    """No request is left on either side, and nobody complained."""
    pair.run()
    for end in pair.ends:
        assert end.session.open_requests == ()
        assert end.close is None


def subscribe(pair: Pair, asking: End, answering: End) -> tuple[int, int]:
    """An established subscription, by its handle at either end."""
    ours = asking.session.subscribe(NAME)
    pair.run()
    theirs = answering.take(e.SubscribeRequested).request
    answering.session.accept_subscribe(theirs, 7)
    pair.run()
    asking.take(e.SubscribeAccepted)
    return ours, theirs


def publish(pair: Pair, asking: End, answering: End) -> tuple[int, int]:
    """An established PUBLISH, by its handle at either end."""
    ours = asking.session.publish(NAME, 9)
    pair.run()
    theirs = answering.take(e.PublishRequested).request
    answering.session.accept_publish(theirs)
    pair.run()
    asking.take(e.PublishAccepted)
    return ours, theirs


class TestSetup:
    def test_both_ends_learn_what_the_other_is(self, profile: Profile) -> None:
        options = SetupOptions(path="/live?x=1", authority="relay.example:4433", implementation="farcast")
        pair = Pair(
            profile,
            client={"options": options},
            server={"options": SetupOptions(implementation="other/1", path="/ignored")},
        )
        seen = pair.server.take(e.Established)
        assert (seen.path, seen.authority, seen.implementation) == (
            "/live?x=1",
            "relay.example:4433",
            "farcast",
        )
        seen = pair.client.take(e.Established)
        assert (seen.path, seen.authority, seen.implementation) == (None, None, "other/1")

    def test_path_and_authority_are_not_sent_over_webtransport(self, profile: Profile) -> None:
        options = SetupOptions(path="/live", authority="relay.example")
        pair = Pair(profile, client={"options": options, "webtransport": True}, server={"webtransport": True})
        seen = pair.server.take(e.Established)
        assert (seen.path, seen.authority) == (None, None)

    def test_hops_tell_node_region_and_recovery(self) -> None:
        node = NodeInfo("sin-1", "sin", Recovery.RETRANSMISSION | Recovery.SECOND_PATH)
        pair = Pair(HOP, client={"options": SetupOptions(node=node)})
        assert pair.server.take(e.Established).options.node == node

    def test_unknown_setup_options_are_kept_and_otherwise_ignored(self, profile: Profile) -> None:
        grease = ((0x9D, b"grease"), (0x7F * 3 + 0x9D, 5))
        pair = Pair(profile, client={"options": SetupOptions(extra=grease)})
        assert pair.server.take(e.Established).options.extra == grease

    @pytest.mark.parametrize("path", ["no-slash", "/a b", "/a%2", "/é"])
    def test_a_malformed_path_closes_the_session(self, profile: Profile, path: str) -> None:
        pair = Pair(profile, client={"options": SetupOptions(path=path)}, connect=False)
        pair.client.session.handle_opened()
        pair.server.session.handle_opened()
        pair.run()
        assert pair.server.take(e.SessionFailed).code is SessionCode.MALFORMED_PATH

    def test_a_path_over_webtransport_closes_the_session(self, profile: Profile) -> None:
        options = SetupOptions(path="/live")
        pair = Pair(profile, client={"options": options}, server={"webtransport": True}, connect=False)
        pair.client.session.handle_opened()
        pair.server.session.handle_opened()
        pair.run()
        assert pair.server.take(e.SessionFailed).code is SessionCode.INVALID_PATH

    @pytest.mark.parametrize("seed", SEEDS)
    def test_requests_made_before_the_transport_is_up_are_sent_when_they_may(
        self, profile: Profile, seed: int | None
    ) -> None:
        pair = Pair(profile, seed=seed, connect=False)
        pair.client.session.subscribe(NAME)
        pair.server.session.publish_namespace(NAMESPACE)
        pair.run()
        assert not pair.client.transmits
        pair.client.session.handle_opened()
        pair.server.session.handle_opened()
        pair.run()
        assert pair.server.take(e.SubscribeRequested).name == NAME
        assert pair.client.take(e.NamespacePublished).namespace == NAMESPACE


class TestSubscribe:
    def test_parameters_and_answer_arrive(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.subscribe(
            NAME,
            filter=Filter(FilterKind.ABSOLUTE_RANGE, Location(3, 4), 9),
            priority=5,
            group_order=GroupOrder.DESCENDING,
            forward=False,
            parameters=Parameters(object_delivery_timeout_ms=250),
        )
        pair.run()
        asked = answering.take(e.SubscribeRequested)
        assert asked.name == NAME
        assert asked.filter == Filter(FilterKind.ABSOLUTE_RANGE, Location(3, 4), 9)
        assert (asked.priority, asked.group_order, asked.forward) == (5, GroupOrder.DESCENDING, False)
        assert asked.parameters.object_delivery_timeout_ms == 250
        properties = (Property(0x0E, 7), Property(0x3801, b"opaque"))
        answering.session.accept_subscribe(
            asked.request, 77, largest=Location(8, 2), expires_ms=5_000, track_properties=properties
        )
        pair.run()
        assert asking.take(e.SubscribeAccepted) == e.SubscribeAccepted(
            ours, 77, Location(8, 2), 5_000, properties
        )

    def test_absent_parameters_have_their_defaults(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        asking.session.subscribe(NAME)
        pair.run()
        asked = answering.take(e.SubscribeRequested)
        assert (asked.filter, asked.priority, asked.group_order, asked.forward) == (None, 128, None, True)

    def test_refusal_says_why_and_when_to_retry(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.subscribe(NAME, filter=LARGEST_OBJECT)
        pair.run()
        theirs = answering.take(e.SubscribeRequested).request
        answering.session.reject(theirs, RequestCode.DOES_NOT_EXIST, "nobody there", retry_ms=250)
        pair.run()
        refused = asking.take(e.RequestRejected)
        assert (refused.request, refused.code, refused.reason, refused.retry_ms, refused.wire_code) == (
            ours,
            RequestCode.DOES_NOT_EXIST,
            "nobody there",
            250,
            0x10,
        )
        assert_at_rest(pair)

    def test_cancelling_before_the_answer(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.subscribe(NAME)
        asking.session.cancel(ours)
        pair.run()
        if answering.has(e.SubscribeRequested):
            theirs = answering.take(e.SubscribeRequested).request
            assert answering.take(e.RequestCancelled).request == theirs
            answering.session.accept_subscribe(theirs, 1)  # too late, and ignored
        assert_at_rest(pair)
        assert asking.events[-1:] in (
            [],
            [event for event in asking.events if isinstance(event, e.Established)],
        )

    def test_cancelling_an_established_subscription(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, theirs = subscribe(pair, asking, answering)
        asking.session.cancel(ours)
        pair.run()
        assert answering.take(e.RequestCancelled).request == theirs
        assert_at_rest(pair)

    def test_cancellation_and_answer_may_cross(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.subscribe(NAME)
        pair.run()
        theirs = answering.take(e.SubscribeRequested).request
        answering.session.accept_subscribe(theirs, 7)
        asking.session.cancel(ours)
        assert_at_rest(pair)
        assert not asking.has(e.SubscribeAccepted)

    def test_cancellation_and_end_may_cross(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, theirs = subscribe(pair, asking, answering)
        answering.session.publish_done(theirs, PublishDoneCode.TRACK_ENDED, stream_count=3)
        asking.session.cancel(ours)
        assert_at_rest(pair)

    @pytest.mark.parametrize("count", [3, None])
    def test_the_publisher_ends_it(self, pair: Pair, roles: tuple[End, End], count: int | None) -> None:
        asking, answering = roles
        ours, theirs = subscribe(pair, asking, answering)
        answering.session.publish_done(
            theirs, PublishDoneCode.TOO_FAR_BEHIND, stream_count=count, reason="slow"
        )
        pair.run()
        assert asking.take(e.PublishEnded) == e.PublishEnded(
            ours, PublishDoneCode.TOO_FAR_BEHIND, count, "slow"
        )
        assert_at_rest(pair)

    def test_an_update_is_answered(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, theirs = subscribe(pair, asking, answering)
        asking.session.update(ours, forward=False, priority=3)
        asking.session.update(ours, forward=True)
        pair.run()
        first = answering.take(e.UpdateRequested)
        assert (first.request, first.forward, first.priority, first.filter) == (theirs, False, 3, None)
        answering.session.accept_update(theirs, largest=Location(1, 2))
        second = answering.take(e.UpdateRequested)
        assert (second.forward, second.priority) == (True, None)
        answering.session.accept_update(theirs)
        pair.run()
        assert asking.take(e.UpdateAccepted) == e.UpdateAccepted(ours, Location(1, 2))
        assert asking.take(e.UpdateAccepted) == e.UpdateAccepted(ours)

    def test_an_update_of_a_pending_subscription_is_reported_once_it_is_accepted(
        self, pair: Pair, roles: tuple[End, End]
    ) -> None:
        asking, answering = roles
        ours = asking.session.subscribe(NAME)
        asking.session.update(ours, priority=1)
        pair.run()
        theirs = answering.take(e.SubscribeRequested).request
        assert not answering.has(e.UpdateRequested)
        answering.session.accept_subscribe(theirs, 7)
        pair.run()
        answering.take(e.UpdateRequested)
        answering.session.accept_update(theirs)
        pair.run()
        asking.take(e.SubscribeAccepted)
        assert asking.take(e.UpdateAccepted).request == ours

    def test_a_refused_update_ends_the_subscription(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, theirs = subscribe(pair, asking, answering)
        asking.session.update(ours, priority=1)
        pair.run()
        answering.take(e.UpdateRequested)
        answering.session.reject_update(theirs, RequestCode.UNAUTHORIZED, "no")
        pair.run()
        assert answering.take(e.RequestCancelled).request == theirs
        assert asking.take(e.UpdateRejected) == e.UpdateRejected(ours, RequestCode.UNAUTHORIZED, "no")
        assert asking.take(e.PublishEnded).status is PublishDoneCode.UPDATE_FAILED
        assert_at_rest(pair)

    def test_the_same_track_twice_is_refused(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        subscribe(pair, asking, answering)
        second = asking.session.subscribe(NAME)
        pair.run()
        refused = asking.take(e.RequestRejected)
        assert (refused.request, refused.code) == (second, RequestCode.DUPLICATE_SUBSCRIPTION)

    def test_the_same_track_can_be_asked_for_again_after_the_end(
        self, pair: Pair, roles: tuple[End, End]
    ) -> None:
        asking, answering = roles
        for _ in range(3):
            ours, _ = subscribe(pair, asking, answering)
            asking.session.cancel(ours)
            assert_at_rest(pair)

    def test_one_alias_for_two_tracks_closes_the_session(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        subscribe(pair, asking, answering)
        asking.session.subscribe(FullTrackName.of("live/room1/alice", "audio"))
        pair.run()
        answering.session.accept_subscribe(answering.take(e.SubscribeRequested).request, 7)
        pair.run()
        assert asking.take(e.SessionFailed).code is SessionCode.DUPLICATE_TRACK_ALIAS

    def test_an_alias_is_free_again_after_the_end(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, _ = subscribe(pair, asking, answering)
        asking.session.cancel(ours)
        pair.run()
        asking.session.subscribe(FullTrackName.of("live/room1/alice", "audio"))
        pair.run()
        answering.session.accept_subscribe(answering.take(e.SubscribeRequested).request, 7)
        pair.run()
        assert asking.take(e.SubscribeAccepted).alias == 7

    def test_hop_path_and_origin_are_carried_on_hops_only(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        asking.session.subscribe(NAME, parameters=Parameters(hop_path=("sin-1", "dxb-2"), origin="fra-1"))
        pair.run()
        parameters = answering.take(e.SubscribeRequested).parameters
        if pair.profile is HOP:
            assert (parameters.hop_path, parameters.origin) == (("sin-1", "dxb-2"), "fra-1")
        else:
            assert parameters == Parameters()


class TestPublish:
    def test_offer_and_answer_arrive(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.publish(
            NAME, 3, largest=Location(1, 1), forward=False, track_properties=(Property(0x22, 2),)
        )
        pair.run()
        offered = answering.take(e.PublishRequested)
        assert (offered.name, offered.alias, offered.largest, offered.forward, offered.track_properties) == (
            NAME,
            3,
            Location(1, 1),
            False,
            (Property(0x22, 2),),
        )
        answering.session.accept_publish(offered.request, forward=False, filter=LARGEST_OBJECT, priority=9)
        pair.run()
        assert asking.take(e.PublishAccepted) == e.PublishAccepted(ours, False, 9, LARGEST_OBJECT, None)

    def test_refusal(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.publish(NAME, 3)
        pair.run()
        answering.session.reject(answering.take(e.PublishRequested).request, RequestCode.UNINTERESTED)
        pair.run()
        refused = asking.take(e.RequestRejected)
        assert (refused.request, refused.code, refused.retry_ms) == (ours, RequestCode.UNINTERESTED, None)
        assert_at_rest(pair)

    def test_the_publisher_ends_it(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, theirs = publish(pair, asking, answering)
        asking.session.publish_done(ours, PublishDoneCode.TRACK_ENDED, stream_count=0)
        pair.run()
        assert answering.take(e.PublishEnded) == e.PublishEnded(theirs, PublishDoneCode.TRACK_ENDED, 0, "")
        assert_at_rest(pair)

    def test_the_publisher_ends_it_before_the_answer(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.publish(NAME, 3)
        asking.session.publish_done(ours, PublishDoneCode.TRACK_ENDED, stream_count=0)
        pair.run()
        theirs = answering.take(e.PublishRequested).request
        assert answering.take(e.PublishEnded).request == theirs
        answering.session.accept_publish(theirs)  # too late, and ignored
        assert_at_rest(pair)

    def test_the_subscriber_leaves(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, theirs = publish(pair, asking, answering)
        answering.session.cancel(theirs)
        pair.run()
        assert asking.take(e.RequestCancelled).request == ours
        assert_at_rest(pair)

    def test_the_subscriber_updates(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, theirs = publish(pair, asking, answering)
        answering.session.update(theirs, forward=False)
        pair.run()
        assert asking.take(e.UpdateRequested).forward is False
        asking.session.accept_update(ours, largest=Location(4, 0))
        pair.run()
        assert answering.take(e.UpdateAccepted) == e.UpdateAccepted(theirs, Location(4, 0))

    def test_a_subscribe_that_crosses_a_publish_is_refused(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        asking.session.publish(NAME, 3)
        ours = answering.session.subscribe(NAME)
        pair.run()
        refused = answering.take(e.RequestRejected)
        assert (refused.request, refused.code) == (ours, RequestCode.DUPLICATE_SUBSCRIPTION)
        answering.take(e.PublishRequested)

    def test_accepting_ends_a_pending_subscribe_for_the_same_track(
        self, pair: Pair, roles: tuple[End, End]
    ) -> None:
        asking, answering = roles
        pending = answering.session.subscribe(NAME)
        pair.run()
        unanswered = asking.take(e.SubscribeRequested).request
        ours = asking.session.publish(NAME, 3)
        pair.run()
        offered = answering.take(e.PublishRequested).request
        answering.session.accept_publish(offered)
        pair.run()
        assert answering.take(e.RequestCancelled).request == pending
        assert asking.take(e.RequestCancelled).request == unanswered
        assert asking.take(e.PublishAccepted).request == ours
        assert answering.session.open_requests == (offered,)
        answering.session.cancel(offered)
        assert_at_rest(pair)


class TestNamespaces:
    def test_published_accepted_and_withdrawn(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.publish_namespace(NAMESPACE)
        pair.run()
        published = answering.take(e.NamespacePublished)
        assert published.namespace == NAMESPACE
        answering.session.accept(published.request)
        pair.run()
        assert asking.take(e.RequestAccepted).request == ours
        asking.session.unpublish_namespace(ours)
        pair.run()
        assert answering.take(e.NamespaceWithdrawn) == e.NamespaceWithdrawn(published.request, NAMESPACE)
        assert_at_rest(pair)

    def test_publishing_is_refused(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.publish_namespace(NAMESPACE)
        pair.run()
        answering.session.reject(answering.take(e.NamespacePublished).request, RequestCode.UNAUTHORIZED, "no")
        pair.run()
        assert asking.take(e.RequestRejected).request == ours
        assert_at_rest(pair)

    def test_acceptance_is_revoked(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours = asking.session.publish_namespace(NAMESPACE)
        pair.run()
        theirs = answering.take(e.NamespacePublished).request
        answering.session.accept(theirs)
        pair.run()
        answering.session.cancel(theirs)
        pair.run()
        assert asking.take(e.RequestCancelled).request == ours
        assert_at_rest(pair)

    def test_subscribers_hear_of_namespaces_that_come_and_go(
        self, pair: Pair, roles: tuple[End, End]
    ) -> None:
        asking, answering = roles
        ours = asking.session.subscribe_namespace(ROOM)
        pair.run()
        subscribed = answering.take(e.NamespaceSubscribed)
        assert (subscribed.prefix, subscribed.interest) == (ROOM, Interest.NAMESPACE)
        answering.session.accept(subscribed.request)
        answering.session.announce_to(subscribed.request, NAMESPACE)
        answering.session.announce_to(subscribed.request, NAMESPACE)
        answering.session.announce_to(subscribed.request, ROOM)
        pair.run()
        assert asking.take(e.RequestAccepted).request == ours
        assert asking.take(e.NamespaceAnnounced) == e.NamespaceAnnounced(ours, NAMESPACE)
        assert asking.take(e.NamespaceAnnounced) == e.NamespaceAnnounced(ours, ROOM)
        assert not asking.has(e.NamespaceAnnounced)
        answering.session.withdraw_from(subscribed.request, NAMESPACE)
        answering.session.withdraw_from(subscribed.request, NAMESPACE)
        pair.run()
        assert asking.take(e.NamespaceGone) == e.NamespaceGone(ours, NAMESPACE)
        asking.session.cancel(ours)
        pair.run()
        assert answering.take(e.RequestCancelled).request == subscribed.request
        assert_at_rest(pair)

    def test_all_namespaces_are_gone_with_the_answering_side(
        self, pair: Pair, roles: tuple[End, End]
    ) -> None:
        asking, answering = roles
        ours = asking.session.subscribe_namespace(TrackNamespace())
        pair.run()
        theirs = answering.take(e.NamespaceSubscribed).request
        answering.session.accept(theirs)
        answering.session.announce_to(theirs, NAMESPACE)
        pair.run()
        asking.take(e.NamespaceAnnounced)
        answering.session.cancel(theirs)
        pair.run()
        assert asking.take(e.NamespaceGone).namespace == NAMESPACE
        assert asking.take(e.RequestCancelled).request == ours
        assert_at_rest(pair)

    def test_overlapping_prefixes_are_refused(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        asking.session.subscribe_namespace(ROOM)
        pair.run()
        asking.session.subscribe_namespace(TrackNamespace.parse("other"))
        second = asking.session.subscribe_namespace(TrackNamespace.parse("live"))
        pair.run()
        refused = asking.take(e.RequestRejected)
        assert (refused.request, refused.code) == (second, RequestCode.PREFIX_OVERLAP)
        assert answering.take(e.NamespaceSubscribed).prefix == ROOM

    def test_announcing_outside_the_prefix_is_a_mistake_of_ours(self, pair: Pair) -> None:
        pair.client.session.subscribe_namespace(ROOM)
        pair.run()
        theirs = pair.server.take(e.NamespaceSubscribed).request
        pair.server.session.accept(theirs)
        with pytest.raises(LocalError):
            pair.server.session.announce_to(theirs, TrackNamespace.parse("other"))


class TestGoaway:
    def test_the_server_sends_the_client_elsewhere(self, pair: Pair) -> None:
        pair.server.session.goaway("moqt://other.example/", 5_000)
        pair.server.session.goaway("moqt://other.example/", 5_000)
        pair.run()
        seen = pair.client.take(e.GoawayReceived)
        assert seen.uri == "moqt://other.example/"
        assert seen.timeout_ms == (None if pair.profile is DRAFT_16 else 5_000)
        assert not pair.client.has(e.GoawayReceived)

    def test_requests_after_goaway_are_refused_at_both_ends(self, pair: Pair, roles: tuple[End, End]) -> None:
        leaving, staying = roles
        crossing = staying.session.subscribe(NAME)
        leaving.session.goaway()
        pair.run()
        refused = staying.take(e.RequestRejected)
        assert refused.request == crossing
        assert refused.code in (RequestCode.GOING_AWAY, RequestCode.INTERNAL_ERROR)
        later = staying.session.subscribe(NAME)
        pair.run()
        refused = staying.take(e.RequestRejected)
        assert (refused.request, refused.code, refused.wire_code) == (later, RequestCode.GOING_AWAY, None)

    def test_established_requests_stay(self, pair: Pair, roles: tuple[End, End]) -> None:
        asking, answering = roles
        ours, theirs = subscribe(pair, asking, answering)
        answering.session.goaway()
        pair.run()
        assert asking.session.open_requests == (ours,)
        asking.session.cancel(ours)
        pair.run()
        assert answering.take(e.RequestCancelled).request == theirs

    def test_a_client_has_no_uri_to_send(self, pair: Pair) -> None:
        with pytest.raises(LocalError):
            pair.client.session.goaway("moqt://other.example/")

    def test_one_request_is_moved(self, pair: Pair) -> None:
        ours, theirs = subscribe(pair, pair.client, pair.server)
        if pair.profile is DRAFT_16:
            with pytest.raises(LocalError):
                pair.server.session.goaway_request(theirs, "moqt://other/", 100)
            return
        pair.server.session.goaway_request(theirs, "moqt://other/", 100)
        pair.run()
        assert pair.client.take(e.RequestGoaway) == e.RequestGoaway(ours, "moqt://other/", 100)

    def test_redirect(self, pair: Pair) -> None:
        ours = pair.client.session.subscribe(NAME)
        pair.run()
        redirect = Redirect("moqt://other/", FullTrackName.of("x", "y"))
        theirs = pair.server.take(e.SubscribeRequested).request
        pair.server.session.reject(theirs, RequestCode.REDIRECT, "over there", redirect=redirect)
        pair.run()
        refused = pair.client.take(e.RequestRejected)
        assert refused.request == ours
        if pair.profile is DRAFT_16:
            assert (refused.code, refused.redirect) == (RequestCode.INTERNAL_ERROR, None)
        else:
            assert (refused.code, refused.redirect) == (RequestCode.REDIRECT, redirect)


class TestMisuse:
    def test_a_command_for_another_kind_of_request_raises(self, pair: Pair) -> None:
        pair.client.session.subscribe(NAME)
        pair.run()
        theirs = pair.server.take(e.SubscribeRequested).request
        for command in (pair.server.session.accept, pair.server.session.accept_publish):
            with pytest.raises(LocalError):
                command(theirs)
        with pytest.raises(LocalError):
            pair.server.session.publish_done(theirs, PublishDoneCode.TRACK_ENDED)
        with pytest.raises(LocalError):
            pair.server.session.update(theirs, forward=False)

    def test_accepting_twice_raises(self, pair: Pair) -> None:
        _, theirs = subscribe(pair, pair.client, pair.server)
        with pytest.raises(LocalError):
            pair.server.session.accept_subscribe(theirs, 7)

    def test_commands_for_requests_that_never_were_are_ignored(self, pair: Pair) -> None:
        for end in pair.ends:
            end.session.cancel(99)
            end.session.accept(99)
            end.session.accept_subscribe(99, 0)
            end.session.reject(99, RequestCode.INTERNAL_ERROR)
            end.session.announce_to(99, NAMESPACE)
            end.session.update(99, forward=True)
            end.session.publish_done(99, PublishDoneCode.TRACK_ENDED)
        assert_at_rest(pair)

    def test_closing_is_said_once_and_nothing_follows(self, pair: Pair) -> None:
        pair.client.session.close(SessionCode.UNAUTHORIZED, "no")
        pair.client.session.close()
        pair.client.session.subscribe(NAME)
        pair.run()
        assert pair.client.close == e.SessionClose(SessionCode.UNAUTHORIZED, "no")
        assert pair.client.transmits[-1] == pair.client.close
        assert pair.client.session.closed
