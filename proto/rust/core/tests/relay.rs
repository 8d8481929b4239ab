//! Datapaths joined in memory on a virtual clock: publisher → edge → hop → edge → viewer.
//!
//! The test plays the agent: it binds aliases and adds downstreams by hand, so that what is checked is
//! the datapath alone.

mod net;

use bytes::Bytes;
use farcast_core::command::{CacheLimits, Command, Draft, GroupOrder, NewObject, QueueLimits};
use farcast_core::event::{Event, SinkObject};
use farcast_core::location::{LargestCell, Location};
use net::film::{OBJECTS, assert_intact, frame};
use net::{LinkSpec, Net, Via};
use std::sync::Arc;
use std::time::Duration;

const TRACK: u64 = 1;

fn add_track(net: &mut Net, host: usize) -> Arc<LargestCell> {
    let largest = Arc::new(LargestCell::default());
    let cell = largest.clone();
    net.execute(
        host,
        Command::AddTrack {
            track: TRACK,
            cache: CacheLimits::default(),
            largest: cell,
        },
    );
    largest
}

fn downstream(session: u64, alias: u64, start: Location) -> Command {
    Command::AddDownstream {
        downstream: 100 + session,
        session,
        alias,
        track: TRACK,
        start,
        end_group: None,
        subscriber_priority: 128,
        group_order: GroupOrder::Ascending,
        forward: true,
        limits: QueueLimits::default(),
    }
}

fn bind(session: u64, alias: u64) -> Command {
    Command::BindUpstream {
        session,
        alias,
        track: TRACK,
        default_priority: 128,
        restart_allowed: false,
    }
}

/// Publisher (0), edges (1, 2), viewers (3…), sessions opened and wired.
fn world(via: Via, viewers: usize, hop: LinkSpec, seed: u64) -> (Net, Vec<u64>) {
    let mut net = Net::new(seed);
    for _ in 0..3 + viewers {
        net.add_host(vec![Draft::D18, Draft::D16]);
    }
    for host in 0..net.len() {
        add_track(&mut net, host);
    }
    net.set_links(1, 2, hop);
    let publisher = net.connect(0, 1, Via::Quic(Draft::D18));
    let between = net.connect(2, 1, Via::Hop);
    let mut sessions = Vec::new();
    net.execute(0, downstream(publisher.near, 5, Location::default()));
    net.execute(1, bind(publisher.far, 5));
    net.execute(1, downstream(between.far, 6, Location::default()));
    net.execute(2, bind(between.near, 6));
    for viewer in 3..3 + viewers {
        let session = net.connect(viewer, 2, via);
        net.execute(2, downstream(session.far, 7, Location::default()));
        net.execute(viewer, bind(session.near, 7));
        net.execute(
            viewer,
            Command::AddSink {
                downstream: 1,
                track: TRACK,
                start: Location::default(),
            },
        );
        sessions.push(session.far);
    }
    (net, sessions)
}

fn publish_film(net: &mut Net, groups: std::ops::Range<u64>) {
    for group in groups {
        for object in 0..OBJECTS {
            net.execute(
                0,
                Command::Publish {
                    track: TRACK,
                    object: frame(group, object),
                },
            );
            net.run_for(Duration::from_millis(33));
        }
    }
}

fn objects_of(net: &mut Net, host: usize) -> Vec<SinkObject> {
    let events = net.take_events(host).into_iter();
    let objects = events.filter_map(|event| match event {
        Event::Object(object) => Some(object),
        _ => None,
    });
    objects.collect()
}

#[test]
fn a_film_crosses_two_edges_and_a_clean_hop_intact_on_both_drafts() {
    for draft in [Draft::D16, Draft::D18] {
        let (mut net, _) = world(Via::Quic(draft), 1, LinkSpec::delay_ms(40), 1);
        publish_film(&mut net, 0..4);
        net.run_for(Duration::from_secs(1));
        assert_intact(&objects_of(&mut net, 3), 0..4);
    }
}

#[test]
fn a_film_reaches_webtransport_viewers_intact_on_both_drafts() {
    for draft in [Draft::D16, Draft::D18] {
        let (mut net, _) = world(Via::WebTransport(draft), 2, LinkSpec::delay_ms(40), 1);
        publish_film(&mut net, 0..4);
        net.run_for(Duration::from_secs(1));
        for viewer in 3..5 {
            assert_intact(&objects_of(&mut net, viewer), 0..4);
        }
    }
}

#[test]
fn a_webtransport_group_that_comes_at_once_with_its_end_waits_for_its_binding() {
    for draft in [Draft::D16, Draft::D18] {
        let mut net = Net::new(1);
        for host in 0..2 {
            net.add_host(vec![Draft::D18, Draft::D16]);
            add_track(&mut net, host);
        }
        let publisher = net.connect(0, 1, Via::WebTransport(draft));
        let object = NewObject {
            payload: Bytes::from_static(b"fits one datagram"),
            end_of_subgroup: true,
            ..frame(0, 0)
        };
        net.execute(
            0,
            Command::Publish {
                track: TRACK,
                object,
            },
        );
        net.execute(0, downstream(publisher.near, 5, Location::default()));
        net.run_for(Duration::from_millis(200));
        net.execute(1, bind(publisher.far, 5));
        net.execute(
            1,
            Command::AddSink {
                downstream: 1,
                track: TRACK,
                start: Location::default(),
            },
        );
        net.run_for(Duration::from_millis(200));
        let objects = objects_of(&mut net, 1);
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].payload, "fits one datagram");
    }
}

#[test]
fn a_film_crosses_a_hop_with_bursty_loss_intact_and_in_order() {
    let hop = LinkSpec {
        loss: 0.05,
        ..LinkSpec::delay_ms(40)
    };
    let (mut net, _) = world(Via::Quic(Draft::D18), 3, hop, 7);
    publish_film(&mut net, 0..20);
    net.run_for(Duration::from_secs(2));
    for viewer in 3..6 {
        assert_intact(&objects_of(&mut net, viewer), 0..20);
    }
    let snapshot = net.snapshot(1);
    let repaired = snapshot
        .sessions
        .iter()
        .filter_map(|s| s.hop)
        .map(|h| h.chunks_repaired);
    assert!(repaired.sum::<u64>() > 10, "the loss was real");
}

#[test]
fn what_was_published_just_before_a_downstream_finishes_still_arrives() {
    let (mut net, _) = world(Via::Quic(Draft::D18), 1, LinkSpec::delay_ms(10), 1);
    publish_film(&mut net, 0..1);
    let object = frame(1, OBJECTS - 1);
    let last = object.payload.clone();
    let publish = Command::Publish {
        track: TRACK,
        object,
    };
    let finish = Command::FinishDownstream {
        downstream: 100 + 1,
    };
    net.execute_all(0, [publish, finish]);
    net.run_for(Duration::from_millis(500));
    let objects = objects_of(&mut net, 3);
    assert_eq!(objects.len() as u64, OBJECTS + 1);
    assert_eq!(objects[OBJECTS as usize].payload, last);
}

#[test]
fn what_comes_in_while_a_hop_subscribes_or_resumes_crosses_it_once() {
    let mut net = Net::new(1);
    for host in 0..2 {
        net.add_host(vec![Draft::D18]);
        add_track(&mut net, host);
    }
    let between = net.connect(1, 0, Via::Hop);
    net.execute(1, bind(between.near, 6));
    let publish = |object| Command::Publish {
        track: TRACK,
        object: frame(0, object),
    };
    let update = |start, forward| Command::UpdateDownstream {
        downstream: 100 + between.far,
        start,
        end_group: None,
        subscriber_priority: None,
        forward: Some(forward),
    };
    let subscribe = downstream(between.far, 6, Location::default());
    net.execute_all(0, [publish(0), subscribe]);
    net.run_for(Duration::from_millis(200));
    net.execute(0, update(None, false));
    let from = Some(Location::new(0, 1));
    net.execute_all(0, [publish(1), update(from, true)]);
    net.run_for(Duration::from_millis(200));
    assert_eq!(net.snapshot(0).totals.objects_out, 2);
    assert_eq!(net.snapshot(1).totals.objects_in, 2);
    assert_eq!(net.snapshot(1).totals.duplicate_bytes_in, 0);
}

#[test]
fn a_late_joiner_gets_the_running_group_from_its_first_object_at_once() {
    let (mut net, _) = world(Via::Quic(Draft::D18), 1, LinkSpec::delay_ms(10), 3);
    publish_film(&mut net, 0..2);
    for object in 0..10 {
        net.execute(
            0,
            Command::Publish {
                track: TRACK,
                object: frame(2, object),
            },
        );
        net.run_for(Duration::from_millis(33));
    }
    let late = net.add_host(vec![Draft::D18]);
    add_track(&mut net, late);
    let session = net.connect(late, 2, Via::Quic(Draft::D18));
    net.execute(late, bind(session.near, 9));
    net.execute(
        late,
        Command::AddSink {
            downstream: 1,
            track: TRACK,
            start: Location::default(),
        },
    );
    net.execute(2, downstream(session.far, 9, Location::new(2, 0)));
    net.run_for(Duration::from_millis(200));
    let got: Vec<_> = objects_of(&mut net, late)
        .iter()
        .map(|o| (o.group, o.object))
        .collect();
    assert_eq!(got, (0..10).map(|object| (2, object)).collect::<Vec<_>>());
}

#[test]
fn a_viewer_gets_the_first_bytes_of_a_large_object_before_its_last_ones_reached_the_edge() {
    // 1 Mbit/s from the publisher: an object of 125 kB takes a second to arrive.
    let (mut net, _) = world(Via::Quic(Draft::D18), 1, LinkSpec::delay_ms(5), 3);
    net.set_links(
        0,
        1,
        LinkSpec {
            rate_bps: Some(1_000_000),
            ..LinkSpec::delay_ms(5)
        },
    );
    let large = NewObject {
        payload: vec![1; 125_000].into(),
        ..frame(0, 1)
    };
    net.execute(
        0,
        Command::Publish {
            track: TRACK,
            object: large,
        },
    );
    net.run_for(Duration::from_millis(3_000));
    let object = objects_of(&mut net, 3).remove(0);
    let took_us = object.complete_us - object.first_byte_us;
    assert!(took_us > 800_000, "the viewer saw it grow for {took_us} µs");
}

/// A film for three viewers, the link of the last one as given.
fn film_with_last_viewer_behind(link: LinkSpec) -> (Net, Vec<u64>) {
    let (mut net, sessions) = world(Via::Quic(Draft::D18), 3, LinkSpec::delay_ms(20), 5);
    net.set_links(2, 5, link);
    publish_film(&mut net, 0..15);
    net.run_for(Duration::from_secs(4));
    (net, sessions)
}

#[test]
fn a_slow_viewer_loses_its_own_groups_and_delays_nobody() {
    let good = LinkSpec::delay_ms(5);
    let slow = LinkSpec {
        rate_bps: Some(160_000),
        queue_ms: 200,
        ..good
    };
    let (mut unhindered, _) = film_with_last_viewer_behind(good);
    let (mut net, sessions) = film_with_last_viewer_behind(slow);
    for viewer in 3..5 {
        let objects = objects_of(&mut net, viewer);
        assert_intact(&objects, 0..15);
        let expected = objects_of(&mut unhindered, viewer);
        for (object, expected) in objects.iter().zip(&expected) {
            let difference_us = object.complete_us.abs_diff(expected.complete_us);
            assert!(difference_us < 1_000, "{difference_us} µs off");
        }
    }
    let snapshot = net.snapshot(2);
    let of = |session| {
        snapshot
            .downstreams
            .iter()
            .find(|d| d.session == session)
            .unwrap()
    };
    assert!(of(sessions[2]).groups_dropped > 0);
    assert_eq!(
        of(sessions[0]).groups_dropped + of(sessions[1]).groups_dropped,
        0
    );
    assert!(net.snapshot(2).cache_bytes < 20 << 20);
    for object in objects_of(&mut net, 5) {
        assert_eq!(object.payload, frame(object.group, object.object).payload);
    }
}

#[test]
fn a_downstream_over_a_hop_ends_only_when_its_last_chunk_is_confirmed() {
    let hop = LinkSpec {
        loss: 0.4,
        ..LinkSpec::delay_ms(40)
    };
    for seed in 0..20 {
        let (mut net, _) = world(Via::Quic(Draft::D18), 1, LinkSpec::delay_ms(40), seed);
        net.set_links(1, 2, hop);
        let sessions = net.snapshot(1).downstreams;
        let downstream = sessions.first().map(|d| d.downstream).unwrap();
        publish_film(&mut net, 0..1);
        net.take_events(1);
        net.execute(1, Command::FinishDownstream { downstream });
        let ended = |event: &Event| matches!(event, Event::DownstreamEnded { .. });
        for _ in 0..400 {
            if net.take_events(1).iter().any(ended) {
                break;
            }
            net.run_for(Duration::from_millis(25));
        }
        // What was confirmed has left the hop; nothing more may come.
        net.run_for(Duration::from_millis(100));
        assert_intact(&objects_of(&mut net, 3), 0..1);
    }
}

#[test]
fn the_same_seed_gives_the_same_datagrams_and_another_seed_others() {
    let run = |seed| {
        let hop = LinkSpec {
            loss: 0.03,
            ..LinkSpec::delay_ms(40)
        };
        let (mut net, _) = world(Via::Quic(Draft::D18), 2, hop, seed);
        publish_film(&mut net, 0..5);
        net.run_for(Duration::from_secs(1));
        net.trace_hash()
    };
    let first = run(11);
    assert_eq!(first, run(11));
    assert_ne!(first, run(12));
}

#[test]
fn nobody_is_woken_when_nothing_happens() {
    let (mut net, _) = world(Via::Quic(Draft::D18), 1, LinkSpec::delay_ms(20), 1);
    net.run_for(Duration::from_secs(5));
    let before = net.wakeups(2);
    net.run_for(Duration::from_secs(10));
    let per_second = (net.wakeups(2) - before) as f64 / 10.0;
    assert!(
        per_second < 20.0,
        "{per_second} wake-ups a second on an idle edge"
    );
}
