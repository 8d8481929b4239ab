//! Sound is not held up by pictures, however many of them wait.
//!
//! Sound of 128 kbit/s and a picture of 0.6 Mbit/s over 1.5 Mbit/s; after a while a second picture of
//! 2.4 Mbit/s with large key frames is asked for, as by a viewer that tries a better rendition. Both pictures
//! together never fit, and lose what they cannot have; sound is on time once the controller has learnt what the
//! link carries. Virtual time.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod net;

use bytes::Bytes;
use farcast_core::command::{CacheLimits, Command, Draft, GroupOrder, NewObject, QueueLimits};
use farcast_core::event::Event;
use farcast_core::location::{LargestCell, Location};
use net::{LinkSpec, Net, Via};
use std::sync::Arc;
use std::time::Duration;

const SOUND: u64 = 1;
const SMALL: u64 = 2;
const LARGE: u64 = 3;
const TRIED_AT: u64 = 5;
/// By then the congestion controller knows what the link carries, and its queue is short.
const LEARNT_AT: u64 = 7;
const SECONDS: u64 = 14;
const STEP_MS: u64 = 20;
const SUBSCRIBER_PRIORITY: [u8; 4] = [0, 64, 128, 136];

fn add_downstream(net: &mut Net, session: u64, track: u64, group: u64) {
    let add = Command::AddDownstream {
        downstream: track,
        session,
        alias: track,
        track,
        start: Location::new(group, 0),
        end_group: None,
        subscriber_priority: SUBSCRIBER_PRIORITY[track as usize],
        group_order: GroupOrder::Ascending,
        forward: true,
        limits: QueueLimits::default(),
    };
    net.execute(0, add);
}

fn setup() -> (Net, u64) {
    let mut net = Net::new(5);
    for _ in 0..2 {
        net.add_host(vec![Draft::D18]);
    }
    let link = LinkSpec {
        rate_bps: Some(1_500_000),
        queue_ms: 300,
        ..LinkSpec::delay_ms(15)
    };
    net.set_links(0, 1, link);
    let ends = net.connect(0, 1, Via::Quic(Draft::D18));
    for track in [SOUND, SMALL, LARGE] {
        for host in 0..2 {
            let add = Command::AddTrack {
                track,
                cache: CacheLimits::default(),
                largest: Arc::new(LargestCell::default()),
            };
            net.execute(host, add);
        }
        let sink = Command::AddSink {
            downstream: track,
            track,
            start: Location::default(),
        };
        net.execute(1, sink);
        let bind = Command::BindUpstream {
            session: ends.far,
            alias: track,
            track,
            default_priority: 128,
            restart_allowed: false,
        };
        net.execute(1, bind);
    }
    (net, ends.near)
}

fn publish(net: &mut Net, track: u64, group: u64, object: u64, len: usize, last: bool) {
    let object = NewObject {
        group,
        subgroup: 0,
        object,
        priority: SUBSCRIBER_PRIORITY[track as usize],
        status: 0,
        properties: Bytes::new(),
        payload: vec![object as u8; len].into(),
        end_of_subgroup: last,
        end_of_group: last,
    };
    net.execute(0, Command::Publish { track, object });
}

#[test]
fn sound_is_not_held_up_by_a_picture_that_begins_beside_it() {
    let (mut net, session) = setup();
    let mut made_us = Vec::new();
    let mut latest_us = 0;
    add_downstream(&mut net, session, SOUND, 0);
    add_downstream(&mut net, session, SMALL, 0);
    for group in 0..SECONDS {
        if group == TRIED_AT {
            add_downstream(&mut net, session, LARGE, group);
        }
        for step in 0..1_000 / STEP_MS {
            made_us.push(net.now_us());
            let last = step + 1 == 1_000 / STEP_MS;
            publish(&mut net, SOUND, group, step, 320, last);
            if step % 2 == 0 {
                let (number, last) = (step / 2, step + 2 >= 1_000 / STEP_MS);
                let key = number == 0;
                publish(
                    &mut net,
                    SMALL,
                    group,
                    number,
                    if key { 10_000 } else { 2_600 },
                    last,
                );
                publish(
                    &mut net,
                    LARGE,
                    group,
                    number,
                    if key { 46_000 } else { 10_000 },
                    last,
                );
            }
            net.run_for(Duration::from_millis(STEP_MS));
            for event in net.take_events(1) {
                let Event::Object(object) = event else {
                    continue;
                };
                if object.downstream == SOUND {
                    let at = (object.group * 1_000 / STEP_MS + object.object) as usize;
                    let late = object.complete_us - made_us[at];
                    if object.group >= LEARNT_AT {
                        latest_us = latest_us.max(late);
                    }
                }
            }
        }
    }
    assert!(latest_us < 120_000, "sound late by {latest_us} µs");
}
