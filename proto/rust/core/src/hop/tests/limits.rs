//! Nothing grows without bound, and what has to go goes in the right order.

use super::epoch;
use super::link::{Random, Weather, World, chunk};
use crate::hop::frame::Frame;
use crate::hop::{Hop, HopConfig, HopEvent};
use std::time::{Duration, Instant};

fn shed_groups(hop: &mut Hop) -> Vec<(u64, u64)> {
    let mut groups = Vec::new();
    while let Some(event) = hop.poll_event() {
        if let HopEvent::Shed { alias, group, .. } = event {
            groups.push((alias, group));
        }
    }
    groups
}

fn drain(hop: &mut Hop, now: Instant) -> usize {
    std::iter::from_fn(|| hop.poll_datagram(now)).count()
}

#[test]
fn a_full_queue_gives_up_the_oldest_group_of_the_lowest_priority() {
    let now = epoch();
    let config = HopConfig {
        queue_bytes_max: 6 * 1_200,
        ..HopConfig::default()
    };
    let mut hop = Hop::new(config, now);
    for (alias, group, priority) in [(1, 0, 10), (2, 0, 20), (2, 1, 20), (1, 1, 10), (3, 0, 0)] {
        hop.send(now, chunk(alias, group, 0, priority, 1_000))
            .unwrap();
    }
    assert_eq!(shed_groups(&mut hop), []);
    hop.send(now, chunk(3, 1, 0, 0, 1_000)).unwrap();
    hop.send(now, chunk(3, 1, 1, 0, 1_000)).unwrap();
    hop.send(now, chunk(3, 1, 2, 0, 1_000)).unwrap();
    assert_eq!(shed_groups(&mut hop), [(2, 0), (2, 1), (1, 0)]);
    assert!(hop.stats().queue_bytes <= config.queue_bytes_max);
    assert_eq!(
        (hop.stats().groups_shed, hop.stats().chunks_given_up),
        (3, 3)
    );
    hop.send(now, chunk(2, 1, 1, 20, 1_000)).unwrap();
    assert_eq!(hop.stats().chunks_refused, 1);
}

#[test]
fn the_receiver_is_told_of_what_was_shed_before_anything_else() {
    let config = HopConfig {
        queue_bytes_max: 3 * 1_200,
        ..HopConfig::default()
    };
    let mut world = World::new(1, config, Weather::bursty(50, 0.2));
    for group in 0..5 {
        world.hops[0]
            .send(world.now, chunk(1, group, 0, 9, 1_000))
            .unwrap();
    }
    world.run_ms(5_000);
    let mut resets = Vec::new();
    let mut chunks = Vec::new();
    for (_, frame) in &world.frames[1] {
        match frame {
            Frame::SubgroupReset { group, code, .. } => resets.push((*group, *code)),
            _ => chunks.push(frame.key().group),
        }
    }
    resets.sort_unstable();
    chunks.sort_unstable();
    assert_eq!(resets, [(0, 5), (1, 5), (2, 5)]);
    assert_eq!(chunks, [3, 4]);
}

#[test]
fn a_frame_that_waits_too_long_to_be_sent_goes_with_its_subgroup() {
    let start = epoch();
    let mut hop = Hop::new(HopConfig::default(), start);
    drain(&mut hop, start);
    hop.send(start, chunk(1, 0, 0, 9, 1_000)).unwrap();
    let later = start + Duration::from_millis(1_500);
    hop.send(later, chunk(1, 0, 1, 9, 1_000)).unwrap();
    hop.send(later, chunk(1, 1, 0, 9, 1_000)).unwrap();
    let at = start + Duration::from_millis(2_000);
    hop.handle_timeout(at - Duration::from_millis(1));
    assert_eq!(hop.stats().groups_shed, 0);
    hop.handle_timeout(at);
    assert_eq!(shed_groups(&mut hop), [(1, 0)]);
    assert_eq!(hop.stats().chunks_given_up, 2);
}

#[test]
fn a_cancelled_subgroup_that_was_shed_may_be_sent_again() {
    let now = epoch();
    let mut hop = Hop::new(
        HopConfig {
            queue_bytes_max: 100,
            ..HopConfig::default()
        },
        now,
    );
    hop.send(now, chunk(1, 0, 0, 9, 1_000)).unwrap();
    hop.send(now, chunk(1, 0, 1, 9, 1_000)).unwrap();
    assert_eq!(hop.stats().chunks_refused, 1);
    hop.cancel(1, None, None);
    hop.send(now, chunk(1, 0, 2, 9, 1_000)).unwrap();
    assert_eq!(hop.stats().chunks_refused, 1);
}

#[test]
fn a_reset_replaces_what_is_owed_of_its_subgroup() {
    let mut world = World::new(1, HopConfig::default(), Weather::bursty(50, 0.0));
    let reset = Frame::SubgroupReset {
        alias: 1,
        group: 0,
        subgroup: 0,
        code: 1,
    };
    for frame in [
        chunk(1, 0, 0, 9, 100),
        chunk(1, 1, 0, 9, 100),
        reset.clone(),
    ] {
        world.hops[0].send(world.now, frame).unwrap();
    }
    world.run_ms(1_000);
    let arrived: Vec<Frame> = world.frames[1]
        .iter()
        .map(|(_, frame)| frame.clone())
        .collect();
    assert_eq!(arrived[0], reset);
    assert_eq!(arrived[1].key().group, 1);
    assert_eq!(arrived.len(), 2);
}

/// A film of `per_second` frames for `seconds` towards a peer that sends nothing.
fn offer(hop: &mut Hop, start: Instant, seconds: u64, per_second: u64, len: usize) -> (u64, u64) {
    let (mut queue_max, mut unacked_max) = (0, 0);
    for count in 0..seconds * per_second {
        let now = start + Duration::from_micros(count * 1_000_000 / per_second);
        hop.send(now, chunk(1, count / per_second, count, 9, len))
            .unwrap();
        while hop.poll_timeout().is_some_and(|at| at <= now) {
            hop.handle_timeout(now);
        }
        drain(hop, now);
        queue_max = queue_max.max(hop.stats().queue_bytes);
        unacked_max = unacked_max.max(hop.stats().unacked_bytes);
    }
    (queue_max, unacked_max)
}

#[test]
fn memory_is_bounded_under_a_peer_that_never_acknowledges() {
    let start = epoch();
    let config = HopConfig {
        unacked_bytes_max: 1 << 20,
        queue_bytes_max: 1 << 20,
        in_flight_max: 500,
        ..HopConfig::default()
    };
    let mut hop = Hop::new(config, start);
    let (queue_max, unacked_max) = offer(&mut hop, start, 40, 500, 1_000);
    assert!(queue_max <= config.queue_bytes_max + 1_200);
    assert!(unacked_max <= config.unacked_bytes_max + 1_200);
    let mut events = 0;
    while hop.poll_event().is_some() {
        events += 1;
    }
    assert!(events <= config.events_max + 1);
}

#[test]
fn no_more_datagrams_are_in_flight_than_are_kept_and_what_is_cancelled_makes_room() {
    let start = epoch();
    let mut hop = Hop::new(
        HopConfig {
            in_flight_max: 50,
            ..HopConfig::default()
        },
        start,
    );
    for object in 0..200 {
        hop.send(start, chunk(1, 0, object, 9, 1_000)).unwrap();
        hop.send(start, chunk(2, 0, object, 10, 1_000)).unwrap();
    }
    drain(&mut hop, start);
    assert_eq!(hop.stats().chunks_sent, 50);
    let probed_at = start + Duration::from_millis(500);
    hop.handle_timeout(probed_at);
    drain(&mut hop, probed_at);
    assert_eq!(
        (hop.stats().chunks_sent, hop.stats().chunks_repaired),
        (50, 2)
    );
    hop.cancel(1, None, None);
    drain(&mut hop, probed_at);
    assert_eq!(hop.stats().chunks_sent, 100);
}

#[test]
fn frames_without_a_body_count_towards_the_limits() {
    let now = epoch();
    let config = HopConfig {
        queue_bytes_max: 10_000,
        ..HopConfig::default()
    };
    let mut hop = Hop::new(config, now);
    for group in 0..10_000 {
        let end = Frame::SubgroupEnd {
            alias: 1,
            group,
            subgroup: 0,
            last: None,
            end_of_group: true,
        };
        hop.send(now, end).unwrap();
        assert!(hop.stats().queue_bytes <= config.queue_bytes_max);
    }
}

#[test]
fn a_receiver_whose_caller_does_not_fetch_refuses_and_does_not_acknowledge() {
    let config = HopConfig {
        received_bytes_max: 10_000,
        ..HopConfig::default()
    };
    let mut world = World::new(1, config, Weather::bursty(50, 0.0));
    world.fetch = false;
    for object in 0..100 {
        world.send(0, chunk(1, 0, object, 9, 1_000));
    }
    world.run_ms(500);
    assert!(world.hops[1].stats().datagrams_refused > 0);
    assert!(world.hops[0].stats().unacked_bytes > 90_000);
    world.fetch = true;
    world.run_ms(5_000);
    assert_eq!(world.frames[1].len(), 100);
    assert_eq!(world.hops[0].stats().unacked_bytes, 0);
}

#[test]
fn a_peer_that_leaves_gaps_everywhere_does_not_make_the_receiver_grow() {
    let now = epoch();
    let config = HopConfig {
        gaps_max: 100,
        ..HopConfig::default()
    };
    let mut hop = Hop::new(config, now);
    for seq in 0..20_000u32 {
        let seq = (2 * seq) | 0x8000_0000;
        let data = [vec![0x03], seq.to_be_bytes().to_vec(), vec![1, 1, 1, 0]].concat();
        hop.handle_datagram(now, data.into()).unwrap();
        while hop.poll_frame().is_some() {}
        let ack = hop.poll_datagram(now).unwrap();
        assert!(ack.len() < 400);
    }
}

#[test]
fn any_sequence_of_calls_keeps_every_timer_moving() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let config = HopConfig {
            queue_bytes_max: 20_000,
            ..HopConfig::default()
        };
        let mut world = World::new(seed, config, Weather::bursty(60, 0.15));
        for object in 0..400 {
            let end = usize::try_from(random.next() % 2).unwrap();
            let (group, priority) = (random.next() % 5, (random.next() % 3) as u8);
            match random.next() % 20 {
                0 => world.hops[end].cancel(1, Some(group), None),
                1 => world.weather[end].down ^= true,
                2 => world.send(
                    end,
                    Frame::SubgroupReset {
                        alias: 1,
                        group,
                        subgroup: 0,
                        code: 0,
                    },
                ),
                _ => world.send(end, chunk(1, group, object, priority, 1_000)),
            }
            world.run_ms(random.next() % 80);
        }
        world.weather[0].down = false;
        world.weather[1].down = false;
        world.run_ms(25_000);
        for hop in &world.hops {
            assert_eq!((hop.stats().queue_bytes, hop.stats().unacked_bytes), (0, 0));
        }
    }
}
