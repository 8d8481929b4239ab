//! A viewer whose link shrinks keeps its sound and the base of its picture, and gets the layer back.
//!
//! Sound of 64 kbit/s, a base of 0.6 Mbit/s and a disposable layer of 1.5 Mbit/s in a subgroup of its
//! own, groups of one second; the link falls from 5 to 1 Mbit/s and recovers. Virtual time.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod net;

use bytes::Bytes;
use farcast_core::command::{CacheLimits, Command, Draft, GroupOrder, NewObject, QueueLimits};
use farcast_core::event::{Event, SinkObject};
use farcast_core::location::{LargestCell, Location};
use net::{LinkSpec, Net, Via};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SOUND: u64 = 1;
const PICTURE: u64 = 2;
const FRAMES_A_GROUP: u64 = 30;
const SECONDS: u64 = 40;
const SHRINKS_AT: u64 = 10;
const RECOVERS_AT: u64 = 20;

fn link(rate_bps: u64) -> LinkSpec {
    LinkSpec {
        rate_bps: Some(rate_bps),
        queue_ms: 100,
        ..LinkSpec::delay_ms(20)
    }
}

fn setup() -> (Net, u64) {
    let mut net = Net::new(3);
    for _ in 0..2 {
        net.add_host(vec![Draft::D18]);
    }
    net.set_links(0, 1, link(5_000_000));
    let ends = net.connect(0, 1, Via::Quic(Draft::D18));
    for track in [SOUND, PICTURE] {
        for host in 0..2 {
            let (cache, largest) = (CacheLimits::default(), Arc::new(LargestCell::default()));
            net.execute(
                host,
                Command::AddTrack {
                    track,
                    cache,
                    largest,
                },
            );
        }
        let start = Location::default();
        net.execute(
            1,
            Command::AddSink {
                downstream: track,
                track,
                start,
            },
        );
        let bind = Command::BindUpstream {
            session: ends.far,
            alias: track,
            track,
            default_priority: 128,
            restart_allowed: false,
        };
        net.execute(1, bind);
        let add = Command::AddDownstream {
            downstream: track,
            session: ends.near,
            alias: track,
            track,
            start,
            end_group: None,
            subscriber_priority: if track == SOUND { 64 } else { 128 },
            group_order: GroupOrder::Ascending,
            forward: true,
            limits: QueueLimits::default(),
        };
        net.execute(0, add);
    }
    (net, ends.far)
}

fn publish(net: &mut Net, track: u64, (group, subgroup, object): (u64, u64, u64), len: usize) {
    // The end of the group ends every subgroup of it.
    let last = object + 1 == FRAMES_A_GROUP;
    let made = NewObject {
        group,
        subgroup,
        object,
        priority: 100 + subgroup as u8,
        status: 0,
        properties: Bytes::new(),
        payload: vec![object as u8; len].into(),
        end_of_subgroup: last,
        end_of_group: last,
    };
    net.execute(
        0,
        Command::Publish {
            track,
            object: made,
        },
    );
}

/// What arrived, when each group began, and how many subgroups of pictures ended whole, by subgroup.
struct Run {
    net: Net,
    objects: Vec<SinkObject>,
    began: Vec<u64>,
    ended: BTreeMap<u64, u64>,
}

impl Run {
    fn take(&mut self) {
        for event in self.net.take_events(1) {
            match event {
                Event::Object(object) => self.objects.push(object),
                Event::SinkSubgroupEnded {
                    downstream: PICTURE,
                    subgroup,
                    reset: false,
                    ..
                } => *self.ended.entry(subgroup).or_default() += 1,
                _ => {}
            }
        }
    }
}

fn run() -> Run {
    let (net, _) = setup();
    let mut run = Run {
        net,
        objects: Vec::new(),
        began: Vec::new(),
        ended: BTreeMap::new(),
    };
    for group in 0..SECONDS {
        match group {
            SHRINKS_AT => run.net.set_links(0, 1, link(1_000_000)),
            RECOVERS_AT => run.net.set_links(0, 1, link(5_000_000)),
            _ => {}
        }
        run.began.push(run.net.now_us());
        for object in 0..FRAMES_A_GROUP {
            publish(&mut run.net, SOUND, (group, 0, object), 267);
            let len = if object % 2 == 0 { 5_000 } else { 12_500 };
            publish(&mut run.net, PICTURE, (group, object % 2, object), len);
            run.net.run_for(Duration::from_micros(33_333));
        }
        run.take();
    }
    run.net.run_for(Duration::from_secs(1));
    run.take();
    run
}

#[test]
fn a_shrunken_link_costs_the_layer_and_neither_sound_nor_base_and_it_comes_back() {
    let Run {
        mut net,
        objects,
        began,
        ended,
    } = run();
    let mut seen: BTreeMap<(u64, u64, u64), Vec<u64>> = BTreeMap::new();
    let mut latest_us = BTreeMap::from([(SOUND, 0), (PICTURE, 0)]);
    for object in &objects {
        let key = (object.downstream, object.group, object.subgroup);
        seen.entry(key).or_default().push(object.object);
        if object.subgroup == 0 {
            let made_us = began[object.group as usize] + object.object * 33_333;
            let latest = latest_us.get_mut(&object.downstream).unwrap();
            *latest = (*latest).max(object.complete_us.saturating_sub(made_us));
        }
    }
    let mut narrow = 0;
    let evens: Vec<u64> = (0..FRAMES_A_GROUP).step_by(2).collect();
    let odds: Vec<u64> = (1..FRAMES_A_GROUP).step_by(2).collect();
    for group in 0..SECONDS {
        let sound = &seen[&(SOUND, group, 0)];
        assert_eq!(sound, &(0..FRAMES_A_GROUP).collect::<Vec<_>>());
        assert_eq!(seen[&(PICTURE, group, 0)], evens, "base of group {group}");
        let layer = seen.remove(&(PICTURE, group, 1)).unwrap_or_default();
        assert!(odds.starts_with(&layer), "group {group} has {layer:?}");
        if group < SHRINKS_AT {
            assert_eq!(layer, odds, "group {group} before");
        }
        if (SHRINKS_AT + 6..RECOVERS_AT).contains(&group) {
            narrow += layer.len();
        }
        if group >= RECOVERS_AT + 12 {
            assert_eq!(layer, odds, "group {group} after");
        }
    }
    assert!(
        latest_us[&SOUND] < 1_000_000,
        "sound late by {latest_us:?} µs"
    );
    assert!(
        latest_us[&PICTURE] < 1_100_000,
        "base late by {latest_us:?} µs"
    );
    assert!(
        narrow < 15,
        "{narrow} of 60 frames of the layer in the narrow link"
    );
    assert_eq!(ended[&0], SECONDS, "every base ended whole");
    let snapshot = net.snapshot(0);
    assert!(snapshot.totals.layer_switches_down >= 1);
    assert_eq!(
        snapshot.totals.layer_switches_down,
        snapshot.totals.layer_switches_up
    );
    assert!(snapshot.totals.layer_switches_down <= 5, "it swings");
    assert_eq!(snapshot.totals.groups_dropped_slow, 0);
    assert!(snapshot.downstreams.iter().all(|d| d.layers_given_up == 0));
}
