//! The life of single streams and subscriptions, at the edges of what peers and the agent may do.
//!
//! As in `relay.rs` the test plays the agent. Small objects matter here: a stream that fits into one
//! packet ends in the same read in which it begins.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod net;

use bytes::Bytes;
use farcast_core::command::{
    CacheLimits, Command, Draft, GroupOrder, LOCAL_STREAM_BIT, NewObject, QueueLimits,
};
use farcast_core::config::Limits;
use farcast_core::event::{ClosedBy, Event};
use farcast_core::location::{LargestCell, Location};
use net::{Ends, LinkSpec, Net, Via};
use std::sync::Arc;
use std::time::Duration;

const TRACK: u64 = 1;
const ALIAS: u64 = 5;
const SINK: u64 = 1;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn add_track(net: &mut Net, host: usize) {
    add_track_numbered(net, host, TRACK);
}

fn add_track_numbered(net: &mut Net, host: usize, track: u64) {
    let add = Command::AddTrack {
        track,
        cache: CacheLimits::default(),
        largest: Arc::new(LargestCell::default()),
    };
    net.execute(host, add);
}

fn downstream(id: u64, session: u64, start: Location) -> Command {
    Command::AddDownstream {
        downstream: id,
        session,
        alias: ALIAS,
        track: TRACK,
        start,
        end_group: None,
        subscriber_priority: 128,
        group_order: GroupOrder::Ascending,
        forward: true,
        limits: QueueLimits::default(),
    }
}

fn update(id: u64, start: Option<Location>, end_group: Option<u64>) -> Command {
    Command::UpdateDownstream {
        downstream: id,
        start,
        end_group,
        subscriber_priority: None,
        forward: None,
    }
}

fn bind(session: u64) -> Command {
    Command::BindUpstream {
        session,
        alias: ALIAS,
        track: TRACK,
        default_priority: 128,
        restart_allowed: false,
    }
}

fn sink() -> Command {
    Command::AddSink {
        downstream: SINK,
        track: TRACK,
        start: Location::default(),
    }
}

fn object(group: u64, object: u64, len: usize) -> NewObject {
    NewObject {
        group,
        subgroup: 0,
        object,
        priority: 100,
        status: 0,
        properties: Bytes::new(),
        payload: vec![object as u8; len].into(),
        end_of_subgroup: false,
        end_of_group: false,
    }
}

fn last(object: NewObject) -> NewObject {
    NewObject {
        end_of_subgroup: true,
        end_of_group: true,
        ..object
    }
}

fn publish(net: &mut Net, host: usize, object: NewObject) {
    let track = TRACK;
    net.execute(host, Command::Publish { track, object });
}

/// A publisher (0), a subscriber (1) with a sink, and their session.
fn pair(via: Via, seed: u64) -> (Net, Ends) {
    pair_over(via, seed, None)
}

fn pair_over(via: Via, seed: u64, link: Option<LinkSpec>) -> (Net, Ends) {
    let mut net = Net::new(seed);
    for host in 0..2 {
        net.add_host(vec![Draft::D18, Draft::D16]);
        add_track(&mut net, host);
    }
    if let Some(link) = link {
        net.set_links(0, 1, link);
    }
    let ends = net.connect(0, 1, via);
    net.execute(1, sink());
    (net, ends)
}

/// Groups that the sink saw end, and whether by a reset.
fn ended(events: &[Event]) -> Vec<(u64, bool)> {
    let ends = events.iter().filter_map(|event| match event {
        Event::SinkSubgroupEnded { group, reset, .. } => Some((*group, *reset)),
        _ => None,
    });
    ends.collect()
}

fn objects(events: &[Event]) -> Vec<(u64, u64)> {
    let objects = events.iter().filter_map(|event| match event {
        Event::Object(object) => Some((object.group, object.object)),
        _ => None,
    });
    objects.collect()
}

#[test]
fn a_subgroup_of_one_packet_ends_for_the_subscriber_on_every_transport() {
    let all = [
        Via::Quic(Draft::D16),
        Via::Quic(Draft::D18),
        Via::WebTransport(Draft::D16),
        Via::WebTransport(Draft::D18),
        Via::Hop,
    ];
    for (index, via) in all.into_iter().enumerate() {
        let (mut net, ends) = pair(via, 1);
        net.execute(1, bind(ends.far));
        net.execute(0, downstream(7, ends.near, Location::default()));
        for group in 0..5 {
            publish(&mut net, 0, last(object(group, 0, 40)));
            net.run_for(ms(20));
        }
        net.run_for(ms(200));
        let expected: Vec<_> = (0..5).map(|group| (group, false)).collect();
        assert_eq!(ended(&net.take_events(1)), expected, "transport {index}");
    }
}

#[test]
fn a_stream_whose_first_packet_comes_last_is_read_to_its_end() {
    for via in [Via::Quic(Draft::D18), Via::WebTransport(Draft::D18)] {
        let (mut net, ends) = pair(via, 1);
        let lossy = LinkSpec {
            loss: 0.05,
            ..LinkSpec::delay_ms(20)
        };
        net.set_links(0, 1, lossy);
        net.execute(1, bind(ends.far));
        net.execute(0, downstream(7, ends.near, Location::default()));
        for group in 0..100 {
            publish(&mut net, 0, last(object(group, 0, 9_000)));
            net.run_for(ms(400));
        }
        net.run_for(ms(10_000));
        let mut found = objects(&net.take_events(1));
        found.sort_unstable();
        let expected: Vec<_> = (0..100).map(|group| (group, 0)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_whole_subgroup_that_came_before_its_alias_was_bound_still_ends() {
    for via in [
        Via::Quic(Draft::D18),
        Via::WebTransport(Draft::D16),
        Via::Hop,
    ] {
        let (mut net, ends) = pair(via, 1);
        net.execute(0, downstream(7, ends.near, Location::default()));
        publish(&mut net, 0, last(object(0, 0, 40)));
        net.run_for(ms(100));
        net.execute(1, bind(ends.far));
        net.run_for(ms(100));
        let events = net.take_events(1);
        assert_eq!(objects(&events), vec![(0, 0)]);
        assert_eq!(ended(&events), vec![(0, false)]);
    }
}

#[test]
fn a_late_joiner_behind_a_long_round_trip_keeps_the_running_group() {
    let far = LinkSpec {
        rate_bps: Some(6_000_000),
        ..LinkSpec::delay_ms(120)
    };
    let (mut net, ends) = pair_over(Via::Quic(Draft::D18), 1, Some(far));
    net.execute(1, bind(ends.far));
    // 3 Mbit/s for five seconds in one group, then somebody joins.
    for id in 0..150 {
        publish(&mut net, 0, object(0, id, 12_500));
        net.run_for(ms(33));
    }
    net.execute(0, downstream(7, ends.near, Location::default()));
    for id in 150..450 {
        publish(&mut net, 0, object(0, id, 12_500));
        net.run_for(ms(33));
    }
    let got = objects(&net.take_events(1));
    assert_eq!(net.snapshot(0).downstreams[0].groups_dropped, 0);
    assert!(got.len() > 400, "{} objects", got.len());
}

#[test]
fn streams_that_no_longer_pass_the_filter_are_reset_at_once() {
    for (start, end_group) in [(Some(Location::new(3, 0)), None), (None, Some(0))] {
        let (mut net, ends) = pair(Via::Quic(Draft::D18), 1);
        net.execute(1, bind(ends.far));
        net.execute(0, downstream(7, ends.near, Location::default()));
        publish(&mut net, 0, object(1, 0, 40));
        net.run_for(ms(100));
        net.execute(0, update(7, start, end_group));
        net.run_for(ms(100));
        assert_eq!(ended(&net.take_events(1)), vec![(1, true)]);
    }
}

#[test]
fn a_downstream_id_that_is_in_use_is_not_taken_again() {
    let (mut net, ends) = pair(Via::Quic(Draft::D18), 1);
    net.execute(1, bind(ends.far));
    net.execute(0, downstream(7, ends.near, Location::default()));
    publish(&mut net, 0, object(0, 0, 40));
    net.run_for(ms(100));
    net.execute(0, downstream(7, ends.near, Location::default()));
    publish(&mut net, 0, last(object(0, 1, 40)));
    net.run_for(ms(100));
    let events = net.take_events(1);
    assert_eq!(objects(&events), vec![(0, 0), (0, 1)]);
    assert_eq!(ended(&events), vec![(0, false)]);
    assert_eq!(net.snapshot(0).totals.objects_out, 2);
    let remove = Command::RemoveDownstream {
        downstream: 7,
        code: 1,
    };
    net.execute(0, remove);
    let streams = net
        .take_events(0)
        .into_iter()
        .find_map(|event| match event {
            Event::DownstreamEnded { streams, .. } => Some(streams),
            _ => None,
        });
    assert_eq!(streams, Some(1));
}

#[test]
fn chunks_of_an_alias_that_was_unbound_do_not_push_out_those_that_wait_for_theirs() {
    let (mut net, ends) = pair(Via::Hop, 1);
    for host in 0..2 {
        add_track_numbered(&mut net, host, 2);
    }
    net.execute(1, bind(ends.far));
    net.execute(0, downstream(7, ends.near, Location::default()));
    publish(&mut net, 0, object(0, 0, 40));
    net.run_for(ms(100));
    // An early object of another track waits for its alias while the first one, which nobody wants
    // any more, still sends.
    let mut second = downstream(8, ends.near, Location::default());
    if let Command::AddDownstream { alias, track, .. } = &mut second {
        (*alias, *track) = (6, 2);
    }
    net.execute(0, second);
    let early = last(object(0, 0, 40));
    net.execute(
        0,
        Command::Publish {
            track: 2,
            object: early,
        },
    );
    net.run_for(ms(100));
    let (session, alias) = (ends.far, ALIAS);
    net.execute(1, Command::UnbindUpstream { session, alias });
    for id in 1..100 {
        publish(&mut net, 0, object(0, id, 40_000));
        net.run_for(ms(33));
    }
    let wanted = Command::AddSink {
        downstream: 2,
        track: 2,
        start: Location::default(),
    };
    net.execute(1, wanted);
    let late = Command::BindUpstream {
        session: ends.far,
        alias: 6,
        track: 2,
        default_priority: 128,
        restart_allowed: false,
    };
    net.take_events(1);
    net.execute(1, late);
    net.run_for(ms(100));
    assert_eq!(objects(&net.take_events(1)), vec![(0, 0)]);
}

#[test]
fn a_finishing_downstream_whose_last_blocked_stream_is_dropped_is_reported() {
    let (mut net, ends) = pair(Via::Quic(Draft::D18), 1);
    net.execute(1, bind(ends.far));
    net.execute(0, downstream(7, ends.near, Location::default()));
    let nearly_dead = LinkSpec {
        rate_bps: Some(20_000),
        ..LinkSpec::delay_ms(20)
    };
    net.set_links(0, 1, nearly_dead);
    for id in 0..40 {
        publish(&mut net, 0, object(0, id, 100_000));
    }
    net.execute(0, Command::FinishDownstream { downstream: 7 });
    net.run_for(ms(8_000));
    let is_ended = |event: &Event| matches!(event, Event::DownstreamEnded { .. });
    assert!(net.take_events(0).iter().any(is_ended));
}

#[test]
fn a_sink_hears_of_groups_that_left_the_cache_unfinished() {
    let (mut net, ends) = pair(Via::Quic(Draft::D18), 1);
    net.execute(1, bind(ends.far));
    net.execute(0, downstream(7, ends.near, Location::default()));
    publish(&mut net, 0, object(0, 0, 40));
    net.run_for(ms(11_000));
    publish(&mut net, 0, last(object(1, 0, 40)));
    net.run_for(ms(100));
    let mut events = ended(&net.take_events(1));
    events.sort_unstable();
    assert_eq!(events, vec![(0, true), (1, false)]);
}

#[test]
fn all_tracks_together_hold_no_more_than_the_total_and_running_groups_stay() {
    const BYTES_MAX: u64 = 1_000_000;
    let mut net = Net::new(1);
    let limits = Limits {
        cache_total_bytes_max: BYTES_MAX,
        ..Limits::default()
    };
    let host = net.add_host_with(vec![Draft::D18], limits);
    for track in 0..5 {
        add_track_numbered(&mut net, host, track);
    }
    for group in 0..10 {
        for track in 0..5 {
            let object = last(object(group, 0, 50_000));
            net.execute(host, Command::Publish { track, object });
            net.run_for(ms(10));
            assert!(net.snapshot(host).cache_bytes <= BYTES_MAX);
        }
    }
    assert!(net.snapshot(host).cache_bytes > BYTES_MAX / 2);
    for track in 0..5 {
        net.execute(
            host,
            Command::AddSink {
                downstream: track,
                track,
                start: Location::new(9, 0),
            },
        );
    }
    assert_eq!(objects(&net.take_events(host)), vec![(9, 0); 5]);
    for track in 0..5 {
        net.execute(host, Command::RemoveTrack { track });
    }
    assert_eq!(net.snapshot(host).cache_bytes, 0);
}

#[test]
fn request_streams_that_are_over_are_forgotten_however_they_ended() {
    for via in [
        Via::Quic(Draft::D18),
        Via::WebTransport(Draft::D18),
        Via::Hop,
    ] {
        let (mut net, ends) = pair(via, 1);
        let (session, far) = (ends.near, ends.far);
        for n in 0..40u64 {
            let stream = LOCAL_STREAM_BIT | n;
            net.take_events(1);
            let data = Bytes::from_static(b"request");
            let bidi = true;
            net.execute(
                0,
                Command::OpenStream {
                    session,
                    stream,
                    bidi,
                },
            );
            let fin = n % 2 == 0;
            net.execute(
                0,
                Command::Write {
                    session,
                    stream,
                    data,
                    fin,
                },
            );
            net.run_for(ms(50));
            let theirs = net
                .take_events(1)
                .into_iter()
                .find_map(|event| match event {
                    Event::StreamData { stream, .. } => Some(stream),
                    _ => None,
                });
            end_request(&mut net, far, theirs.unwrap(), session, stream, n % 4);
            net.run_for(ms(50));
        }
        for host in 0..2 {
            let streams = net.snapshot(host).sessions[0].control_streams;
            assert_eq!(streams, 0, "host {host}");
        }
    }
}

/// The responder (1) and the requester (0) end a request in one of four ways.
fn end_request(net: &mut Net, far: u64, theirs: u64, near: u64, ours: u64, how: u64) {
    let code = 1;
    let answer = |session, stream, fin| Command::Write {
        session,
        stream,
        data: Bytes::from_static(b"answer"),
        fin,
    };
    match how {
        // The request ended with its last byte, and so does the answer.
        0 => net.execute(1, answer(far, theirs, true)),
        // The requester gives up.
        1 => {
            let (session, stream) = (near, ours);
            net.execute(
                0,
                Command::ResetStream {
                    session,
                    stream,
                    code,
                },
            );
            net.execute(
                0,
                Command::StopStream {
                    session,
                    stream,
                    code,
                },
            );
            net.run_for(ms(50));
        }
        // The responder refuses by a reset.
        2 => {
            let (session, stream) = (far, theirs);
            net.execute(
                1,
                Command::ResetStream {
                    session,
                    stream,
                    code,
                },
            );
        }
        // Both finish, the responder first.
        _ => {
            net.execute(1, answer(far, theirs, true));
            net.run_for(ms(50));
            net.execute(0, answer(near, ours, true));
        }
    }
}

#[test]
fn a_hop_whose_peer_is_gone_is_reported_closed_within_seconds() {
    let (mut net, ends) = pair(Via::Hop, 1);
    net.run_for(ms(20_000));
    assert!(net.take_events(0).is_empty(), "an idle hop stays");
    let cut = LinkSpec {
        rate_bps: Some(1),
        ..LinkSpec::delay_ms(5)
    };
    net.set_links(0, 1, cut);
    net.run_for(ms(7_000));
    let closed = net
        .take_events(0)
        .into_iter()
        .find_map(|event| match event {
            Event::SessionClosed { session, by, .. } => Some((session, by)),
            _ => None,
        });
    assert_eq!(closed, Some((ends.near, ClosedBy::Timeout)));
}

#[test]
fn a_crowd_of_handshakes_has_to_show_its_addresses_and_is_then_let_in() {
    let limits = Limits {
        handshakes_max: 2,
        ..Limits::default()
    };
    let mut net = Net::new(1);
    let edge = net.add_host_with(vec![Draft::D18], limits);
    for _ in 0..5 {
        let client = net.add_host(vec![Draft::D18]);
        net.begin_connect(client, edge, Via::Quic(Draft::D18));
    }
    net.run_for(ms(2_000));
    let is_opened = |event: &&Event| matches!(event, Event::SessionOpened { .. });
    assert_eq!(net.take_events(edge).iter().filter(is_opened).count(), 5);
    assert_eq!(net.snapshot(edge).totals.handshakes_retried, 3);
    // Nobody is under way any more, so nobody is asked.
    net.begin_connect(1, edge, Via::WebTransport(Draft::D18));
    net.run_for(ms(1_000));
    assert_eq!(net.take_events(edge).iter().filter(is_opened).count(), 1);
    assert_eq!(net.snapshot(edge).totals.handshakes_retried, 3);
}

#[test]
fn a_session_closed_by_either_end_tells_both_the_code_and_leaves_nothing() {
    let all = [
        Via::Quic(Draft::D16),
        Via::WebTransport(Draft::D18),
        Via::Hop,
    ];
    for via in all {
        for closer in 0..2 {
            let (mut net, ends) = pair(via, 1);
            net.execute(1, bind(ends.far));
            net.execute(0, downstream(7, ends.near, Location::default()));
            for id in 0..5 {
                publish(&mut net, 0, object(0, id, 200_000));
            }
            net.run_for(ms(15));
            let session = [ends.near, ends.far][closer];
            let reason = "enough".to_owned();
            let code = 0x5;
            net.execute(
                closer,
                Command::Close {
                    session,
                    code,
                    reason,
                },
            );
            net.run_for(ms(4_000));
            for host in 0..2 {
                let closed = net
                    .take_events(host)
                    .into_iter()
                    .find_map(|event| match event {
                        Event::SessionClosed {
                            by, code, reason, ..
                        } => Some((by, code, reason)),
                        _ => None,
                    });
                let by = if host == closer {
                    ClosedBy::Local
                } else {
                    ClosedBy::Peer
                };
                assert_eq!(closed, Some((by, 0x5, "enough".to_owned())));
                let left = net.snapshot(host);
                assert_eq!(
                    (left.sessions.len(), left.downstreams.len()),
                    (0, 1 - usize::from(host == 0))
                );
            }
        }
    }
}
