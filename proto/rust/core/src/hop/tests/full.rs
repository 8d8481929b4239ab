//! What leaves first where not everything can, and what is dropped then.

use super::epoch;
use super::link::{Weather, World, chunk};
use super::recovery::one_row;
use crate::hop::frame::Frame;
use crate::hop::{Hop, HopConfig};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Three chunks of a picture are known to be lost; their symbols are not made yet.
fn world_with_losses() -> World {
    let mut world = World::new(21, HopConfig::default(), Weather::bursty(100, 0.0));
    world.hops[0].set_policy(one_row(true, 3));
    world.run_ms(2_000);
    world.weather[0].down = true;
    (0..3).for_each(|object| world.send(0, chunk(1, 0, object, 100, 1_000)));
    world.weather[0].down = false;
    world.send(0, chunk(1, 0, 3, 100, 1_000));
    while world.hops[0].stats().chunks_lost < 3 {
        world.run_ms(1);
    }
    world
}

fn drain(hop: &mut Hop, now: Instant) {
    while hop.poll_datagram(now).is_some() {}
}

#[test]
fn what_is_redundant_is_dropped_where_new_media_waits_and_sent_where_it_does_not() {
    for (waits, sent) in [(false, 3), (true, 0)] {
        let mut world = world_with_losses();
        let hop = &mut world.hops[0];
        if waits {
            hop.send(world.now, chunk(1, 0, 4, 100, 1_000)).unwrap();
        }
        let later = world.now + 70 * MS;
        hop.handle_timeout(later);
        drain(hop, later);
        let stats = hop.stats();
        assert_eq!(stats.chunks_repaired, 3, "the first copies always leave");
        assert_eq!(stats.symbols_sent, sent);
        assert_eq!(stats.repairs_withheld, 3 - sent);
    }
}

#[test]
fn everything_arrives_though_what_is_redundant_was_dropped() {
    let mut world = world_with_losses();
    world.hops[0]
        .send(world.now, chunk(1, 0, 4, 100, 1_000))
        .unwrap();
    world.now += 70 * MS;
    world.weather[0].down = true;
    world.run_ms(1);
    world.weather[0].down = false;
    world.send(0, chunk(1, 0, 5, 100, 1_000));
    world.run_ms(2_000);
    assert!(world.hops[0].stats().repairs_withheld > 0);
    assert_eq!(world.frames[1].len(), 6);
    assert_eq!(world.hops[0].stats().unacked_bytes, 0);
}

/// Objects in the order in which they leave once a picture was lost, which is known `after_ms` later: then there is a
/// newer picture (object 9), and sound (track 2).
fn order_after_loss(after_ms: u32) -> Vec<(u64, u64)> {
    let mut now = epoch();
    let mut ends = [
        Hop::new(HopConfig::default(), now),
        Hop::new(HopConfig::default(), now),
    ];
    for object in 0..5 {
        ends[0].send(now, chunk(1, 0, object, 100, 1_000)).unwrap();
    }
    while let Some(data) = ends[0].poll_datagram(now) {
        if ends[0].stats().chunks_sent != 1 {
            ends[1].handle_datagram(now, data).unwrap();
        }
    }
    now += 10 * MS;
    let acks: Vec<_> = std::iter::from_fn(|| ends[1].poll_datagram(now)).collect();
    while ends[1].poll_frame().is_some() {}
    now += after_ms * MS;
    for ack in acks {
        ends[0].handle_datagram(now, ack).unwrap();
    }
    for (alias, object, priority) in [(1, 9, 100), (2, 0, 10)] {
        ends[0]
            .send(now, chunk(alias, 0, object, priority, 1_000))
            .unwrap();
    }
    while let Some(data) = ends[0].poll_datagram(now) {
        ends[1].handle_datagram(now, data).unwrap();
    }
    let named = |frame| match frame {
        Frame::Chunk(chunk) => (chunk.alias, chunk.object),
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| ends[1].poll_frame())
        .map(named)
        .collect()
}

#[test]
fn sound_leaves_before_repairs_of_pictures_and_those_before_new_pictures() {
    assert_eq!(order_after_loss(10), [(2, 0), (1, 0), (1, 9)]);
}

#[test]
fn a_repair_that_can_only_come_late_leaves_after_new_pictures() {
    assert_eq!(order_after_loss(700), [(2, 0), (1, 9), (1, 0)]);
}
