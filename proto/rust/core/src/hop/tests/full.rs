//! What is dropped where a queue stands on the way.

use super::link::{Weather, World, chunk};
use super::recovery::one_row;
use crate::hop::HopConfig;

/// A hop over which packets take `queue_ms` longer for half a second, and three chunks of a picture that are then
/// known to be lost; their symbols are not made yet.
fn world_with_losses(queue_ms: u64) -> World {
    let mut world = World::new(21, HopConfig::default(), Weather::bursty(100, 0.0));
    world.hops[0].set_policy(one_row(true, 3));
    let mut object = 0;
    let mut send = |world: &mut World| {
        world.send(0, chunk(1, 0, object, 100, 1_000));
        object += 1;
    };
    for ms in (0..2_500).step_by(20) {
        world.weather[0].delay_ms = if ms < 2_000 { 100 } else { 100 + queue_ms };
        send(&mut world);
        world.run_ms(20);
    }
    world.weather[0].down = true;
    (0..3).for_each(|_| send(&mut world));
    world.weather[0].down = false;
    send(&mut world);
    while world.hops[0].stats().chunks_lost < 3 {
        world.run_ms(1);
    }
    world
}

#[test]
fn what_is_redundant_is_dropped_where_a_queue_stands_and_sent_where_delay_moves_a_little() {
    for (queue_ms, symbols) in [(0, 3), (30, 3), (60, 0)] {
        let mut world = world_with_losses(queue_ms);
        world.run_ms(200);
        let stats = world.hops[0].stats();
        assert_eq!(stats.chunks_repaired, 3, "the first copies always leave");
        assert_eq!(stats.symbols_sent, symbols, "{queue_ms} ms of queue");
    }
}

#[test]
fn everything_arrives_though_what_is_redundant_was_dropped() {
    let mut world = world_with_losses(60);
    world.weather[0].down = true;
    world.run_ms(1);
    world.weather[0].down = false;
    world.run_ms(2_000);
    assert_eq!(world.hops[0].stats().symbols_sent, 0);
    assert_eq!(world.frames[1].len(), 125 + 4);
    assert_eq!(world.hops[0].stats().unacked_bytes, 0);
}
