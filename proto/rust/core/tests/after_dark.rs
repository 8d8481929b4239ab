//! A viewer without signal for a while gets what is on when it is back, not what it missed.
//!
//! A picture of 1.5 Mbit/s in groups of one second over 15 Mbit/s: QUIC takes all that is published in the dark.
//! Virtual time.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod net;

use bytes::Bytes;
use farcast_core::command::{CacheLimits, Command, Draft, GroupOrder, NewObject, QueueLimits};
use farcast_core::event::{Event, SinkObject};
use farcast_core::location::{LargestCell, Location};
use net::{LinkSpec, Net, Via};
use std::sync::Arc;
use std::time::Duration;

const PICTURE: u64 = 1;
const FRAMES_A_GROUP: u64 = 30;
const SECONDS: u64 = 12;

fn link(down: bool) -> LinkSpec {
    LinkSpec {
        rate_bps: Some(15_000_000),
        queue_ms: 100,
        down,
        ..LinkSpec::delay_ms(10)
    }
}

fn setup() -> Net {
    let mut net = Net::new(3);
    for _ in 0..2 {
        net.add_host(vec![Draft::D18]);
    }
    net.set_links(0, 1, link(false));
    let ends = net.connect(0, 1, Via::Quic(Draft::D18));
    for host in 0..2 {
        let (cache, largest) = (CacheLimits::default(), Arc::new(LargestCell::default()));
        net.execute(
            host,
            Command::AddTrack {
                track: PICTURE,
                cache,
                largest,
            },
        );
    }
    let start = Location::default();
    let sink = Command::AddSink {
        downstream: PICTURE,
        track: PICTURE,
        start,
    };
    net.execute(1, sink);
    let bind = Command::BindUpstream {
        session: ends.far,
        alias: PICTURE,
        track: PICTURE,
        default_priority: 128,
        restart_allowed: false,
    };
    net.execute(1, bind);
    let add = Command::AddDownstream {
        downstream: PICTURE,
        session: ends.near,
        alias: PICTURE,
        track: PICTURE,
        start,
        end_group: None,
        subscriber_priority: 128,
        group_order: GroupOrder::Ascending,
        forward: true,
        limits: QueueLimits::default(),
    };
    net.execute(0, add);
    net
}

fn publish(net: &mut Net, number: u64) {
    let (group, object) = (number / FRAMES_A_GROUP, number % FRAMES_A_GROUP);
    let last = object + 1 == FRAMES_A_GROUP;
    let made = NewObject {
        group,
        subgroup: 0,
        object,
        priority: 128,
        status: 0,
        properties: Bytes::new(),
        payload: vec![object as u8; if object == 0 { 36_000 } else { 5_000 }].into(),
        end_of_subgroup: last,
        end_of_group: last,
    };
    net.execute(
        0,
        Command::Publish {
            track: PICTURE,
            object: made,
        },
    );
}

/// What arrives of a film whose viewer has no signal from one frame to another: number of the frame that was being
/// published, and the frame.
fn watch(dark_from: u64, dark_until: u64) -> Vec<(u64, SinkObject)> {
    let mut net = setup();
    let mut arrived = Vec::new();
    for number in 0..SECONDS * FRAMES_A_GROUP {
        if number == dark_from || number == dark_until {
            net.set_links(0, 1, link(number == dark_from));
        }
        publish(&mut net, number);
        net.run_for(Duration::from_micros(33_333));
        for event in net.take_events(1) {
            if let Event::Object(object) = event {
                arrived.push((number, object));
            }
        }
    }
    arrived
}

fn number_of(object: &SinkObject) -> u64 {
    object.group * FRAMES_A_GROUP + object.object
}

#[test]
fn after_the_dark_no_group_comes_that_was_over_before_the_signal_was_back() {
    let (from, until) = (130, 205);
    let arrived = watch(from, until);
    let after: Vec<_> = arrived
        .iter()
        .filter(|(at, _)| *at >= until)
        .map(|(_, object)| number_of(object))
        .collect();
    let first = *after.first().unwrap();
    assert!(
        first >= until / FRAMES_A_GROUP * FRAMES_A_GROUP,
        "frame {first} came after frame {until} was on"
    );
    let expected: Vec<_> = (first..SECONDS * FRAMES_A_GROUP).collect();
    assert_eq!(after[..after.len() - 1], expected[..after.len() - 1]);
    assert!(after.len() > 140, "{} frames after the dark", after.len());
}

#[test]
fn a_short_dark_costs_nothing() {
    let arrived = watch(130, 140);
    let numbers: Vec<_> = arrived
        .iter()
        .map(|(_, object)| number_of(object))
        .collect();
    let count = numbers.len() as u64;
    assert!(count >= SECONDS * FRAMES_A_GROUP - 3, "{count} frames");
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}
