//! Control does not wait for pictures, however many of them fill what QUIC may hold.
//!
//! A picture of 3 Mbit/s over a link of 4 that falls to 0.3: what QUIC has taken until then takes many seconds to
//! leave. From the fall on a viewer is told something on a stream of its own each second, as it is where it asks
//! for a smaller picture: it has to be there as soon as the link's queue allows. Virtual time.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod net;

use bytes::Bytes;
use farcast_core::command::{
    CacheLimits, Command, Draft, GroupOrder, LOCAL_STREAM_BIT, NewObject, QueueLimits,
};
use farcast_core::event::Event;
use farcast_core::location::{LargestCell, Location};
use net::{LinkSpec, Net, Via};
use std::sync::Arc;
use std::time::Duration;

const PICTURE: u64 = 1;
const SECONDS: u64 = 12;
const FALLS_AT: u64 = 4;
const FRAMES: u64 = 30;
const FRAME_BYTES: usize = 12_500;
/// The queue of the link, and sending once again.
const LATE_US_MAX: u64 = 1_000_000;

fn link(rate_bps: u64) -> LinkSpec {
    LinkSpec {
        rate_bps: Some(rate_bps),
        queue_ms: 300,
        ..LinkSpec::delay_ms(80)
    }
}

fn setup() -> (Net, u64) {
    let mut net = Net::new(5);
    for _ in 0..2 {
        net.add_host(vec![Draft::D18]);
    }
    net.set_links(0, 1, link(4_000_000));
    let ends = net.connect(0, 1, Via::Quic(Draft::D18));
    let add = Command::AddTrack {
        track: PICTURE,
        cache: CacheLimits::default(),
        largest: Arc::new(LargestCell::default()),
    };
    let send = Command::AddDownstream {
        downstream: PICTURE,
        session: ends.near,
        alias: PICTURE,
        track: PICTURE,
        start: Location::default(),
        end_group: None,
        subscriber_priority: 128,
        group_order: GroupOrder::Ascending,
        forward: true,
        limits: QueueLimits::default(),
    };
    net.execute_all(0, [add, send]);
    (net, ends.near)
}

fn publish(net: &mut Net, group: u64, object: u64) {
    let last = object + 1 == FRAMES;
    let object = NewObject {
        group,
        subgroup: 0,
        object,
        priority: 128,
        status: 0,
        properties: Bytes::new(),
        payload: vec![object as u8; FRAME_BYTES].into(),
        end_of_subgroup: last,
        end_of_group: last,
    };
    let track = PICTURE;
    net.execute(0, Command::Publish { track, object });
}

/// Tells the viewer which second it is.
fn tell(net: &mut Net, session: u64, second: u64) {
    let stream = LOCAL_STREAM_BIT | second;
    let open = Command::OpenStream {
        session,
        stream,
        bidi: true,
    };
    let data = Bytes::from(vec![second as u8]);
    let write = Command::Write {
        session,
        stream,
        data,
        fin: true,
    };
    net.execute_all(0, [open, write]);
}

#[test]
fn control_is_not_held_up_by_pictures_that_do_not_fit() {
    let (mut net, session) = setup();
    let mut told_us = [0; SECONDS as usize];
    let mut late_us = Vec::new();
    for group in 0..SECONDS {
        if group == FALLS_AT {
            net.set_links(0, 1, link(300_000));
        }
        if group >= FALLS_AT {
            told_us[group as usize] = net.now_us();
            tell(&mut net, session, group);
        }
        for object in 0..FRAMES {
            publish(&mut net, group, object);
            net.run_for(Duration::from_millis(1_000 / FRAMES));
            for event in net.take_events(1) {
                if let Event::StreamData { data, .. } = event
                    && let Some(second) = data.first()
                {
                    late_us.push(net.now_us() - told_us[usize::from(*second)]);
                }
            }
        }
    }
    assert!(
        late_us.len() as u64 >= SECONDS - FALLS_AT - 1,
        "{late_us:?}"
    );
    let latest_us = late_us.iter().max().unwrap();
    assert!(*latest_us < LATE_US_MAX, "{late_us:?}");
}
