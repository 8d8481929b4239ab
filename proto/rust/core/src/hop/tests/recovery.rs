//! What is offered arrives once, whatever the link does.

use super::link::{Weather, World, chunk, plain};
use crate::hop::frame::{Chunk, Frame};
use crate::hop::{HopConfig, HopError, HopEvent, HopPolicy, PolicyRow};
use std::time::Duration;

/// Pictures at 30 a second of 5 chunks each, in groups of 15 with an end, from both ends.
fn film(world: &mut World, pictures: u64) -> Vec<Frame> {
    let mut offered = Vec::new();
    for picture in 0..pictures {
        let (group, index) = (picture / 15, picture % 15);
        for piece in 0..5 {
            offered.push(chunk(7, group, index * 5 + piece, 100, 1_000));
        }
        if index == 14 {
            offered.push(Frame::SubgroupEnd {
                alias: 7,
                group,
                subgroup: 0,
                last: Some(74),
                end_of_group: true,
            });
        }
        let first = offered.len() - if index == 14 { 6 } else { 5 };
        for frame in offered[first..].iter().cloned() {
            world.send(0, frame.clone());
            world.send(1, frame);
        }
        world.run_ms(33);
    }
    offered
}

fn sorted(frames: impl Iterator<Item = Frame>) -> Vec<String> {
    let mut all: Vec<String> = frames.map(|frame| format!("{:?}", plain(&frame))).collect();
    all.sort();
    all
}

fn assert_arrived_once(world: &World, end: usize, offered: &[Frame]) {
    let arrived = sorted(world.frames[end].iter().map(|(_, frame)| frame.clone()));
    let offered = sorted(offered.iter().cloned());
    assert_eq!(arrived.len(), offered.len());
    assert_eq!(arrived, offered);
    assert_eq!(world.hops[1 - end].stats().unacked_bytes, 0);
    assert_eq!(world.hops[1 - end].stats().queue_bytes, 0);
}

#[test]
fn every_frame_arrives_once_under_bursty_loss_both_ways() {
    for (seed, loss, delay_ms) in [
        (1, 0.03, 40),
        (2, 0.05, 100),
        (3, 0.10, 150),
        (4, 0.20, 40),
        (5, 0.20, 150),
    ] {
        let mut world = World::new(seed, HopConfig::default(), Weather::bursty(delay_ms, loss));
        let offered = film(&mut world, 300);
        world.run_ms(9_000);
        for end in 0..2 {
            assert_arrived_once(&world, end, &offered);
            assert_eq!(world.hops[end].stats().chunks_given_up, 0);
            assert!(world.hops[end].stats().chunks_repaired > 0);
        }
    }
}

#[test]
fn repairs_cost_little_more_than_what_was_lost() {
    let mut world = World::new(6, HopConfig::default(), Weather::bursty(40, 0.05));
    world.hops[0].set_policy(HopPolicy::plain_arq());
    film(&mut world, 600);
    world.run_ms(5_000);
    let stats = world.hops[0].stats();
    assert!(
        stats.chunks_repaired < stats.chunks_lost + stats.chunks_lost / 4 + 20,
        "{stats:?}"
    );
}

#[test]
fn a_lost_frame_is_there_about_one_round_trip_later() {
    let mut world = World::new(7, HopConfig::default(), Weather::bursty(100, 0.0));
    film(&mut world, 30);
    world.weather[0].down = true;
    world.send(0, chunk(8, 0, 0, 1, 500));
    world.weather[0].down = false;
    let lost_at = world.now;
    film(&mut world, 30);
    let arrived = world.frames[1]
        .iter()
        .find(|(_, frame)| frame.key().alias == 8)
        .unwrap();
    let took = arrived.0 - lost_at;
    assert!(took < Duration::from_millis(320), "{took:?}");
}

#[test]
fn a_chunk_that_somebody_waits_for_leaves_twice_so_that_a_loss_costs_no_round_trip() {
    let mut world = World::new(7, HopConfig::default(), Weather::bursty(100, 0.0));
    world.run_ms(3_000);
    world.weather[0].down = true;
    world.send_awaited(0, chunk(8, 0, 0, 1, 500));
    world.run_ms(5);
    world.weather[0].down = false;
    let lost_at = world.now - Duration::from_millis(5);
    world.run_ms(1_000);
    let after_ms: Vec<u128> = world.frames[1]
        .iter()
        .map(|(at, _)| (*at - lost_at).as_millis())
        .collect();
    assert_eq!(after_ms, [112]);
}

#[test]
fn what_nobody_waits_for_or_goes_over_a_link_that_loses_nothing_leaves_once() {
    let mut world = World::new(7, HopConfig::default(), Weather::bursty(100, 0.0));
    world.run_ms(500);
    world.send(0, chunk(8, 0, 0, 1, 500));
    world.run_ms(1_000);
    assert_eq!(world.hops[0].stats().chunks_repaired, 0, "nobody waits");
    // Tables that edges are given have more than one copy for what is late, whatever is lost.
    world.hops[0].set_policy(one_row(false, 1));
    film(&mut world, 60);
    world.send_awaited(0, chunk(8, 0, 1, 1, 500));
    world.run_ms(1_000);
    assert_eq!(world.hops[0].stats().chunks_repaired, 0, "nothing is lost");
}

#[test]
fn the_last_frame_of_an_idle_sender_arrives() {
    for seed in 0..40 {
        let mut world = World::new(seed, HopConfig::default(), Weather::bursty(100, 0.20));
        world.run_ms(2_000);
        world.send(0, chunk(1, 0, 0, 0, 100));
        world.run_ms(9_000);
        assert_arrived_once(&world, 1, &[chunk(1, 0, 0, 0, 100)]);
    }
}

#[test]
fn a_lost_tail_is_repaired_within_a_probe_timeout_and_a_round_trip() {
    let mut world = World::new(8, HopConfig::default(), Weather::bursty(100, 0.0));
    world.run_ms(20_000);
    world.weather[0].down = true;
    let offered: Vec<Frame> = (0..60)
        .map(|object| chunk(1, 0, object, 0, 1_000))
        .collect();
    offered
        .iter()
        .for_each(|frame| world.send(0, frame.clone()));
    world.weather[0].down = false;
    let sent_at = world.now;
    world.run_ms(9_000);
    assert_arrived_once(&world, 1, &offered);
    let last = world.frames[1].last().unwrap().0;
    assert!(
        last - sent_at < Duration::from_millis(600),
        "{:?}",
        last - sent_at
    );
}

#[test]
fn a_copy_that_may_still_arrive_is_waited_for() {
    let mut world = World::new(8, HopConfig::default(), Weather::bursty(50, 0.0));
    world.hops[0].set_policy(HopPolicy::plain_arq());
    world.run_ms(20_000);
    world.weather[0].down = true;
    world.send(0, chunk(1, 0, 0, 0, 100));
    world.weather[0] = Weather::bursty(55, 0.0);
    while world.hops[0].stats().chunks_repaired == 0 {
        world.run_ms(1);
    }
    world.weather[0].delay_ms = 50;
    world.send(0, chunk(1, 0, 1, 0, 100));
    world.send(0, chunk(1, 0, 2, 0, 100));
    world.run_ms(1_000);
    assert_eq!(world.frames[1].len(), 3);
    assert_eq!(world.hops[0].stats().chunks_lost, 1);
    assert_eq!(world.hops[0].stats().chunks_repaired, 1);
}

#[test]
fn no_acknowledgement_for_seconds_does_not_stop_new_frames() {
    let mut world = World::new(9, HopConfig::default(), Weather::bursty(50, 0.0));
    let mut offered = film(&mut world, 30);
    world.weather[1].down = true;
    for object in 0..90 {
        let frame = chunk(9, 1, object, 5, 900);
        world.send(0, frame.clone());
        offered.push(frame);
        world.run_ms(33);
    }
    world.run_ms(100);
    let during = world.frames[1].len();
    assert_eq!(during, offered.len());
    world.weather[1].down = false;
    world.run_ms(3_000);
    assert_arrived_once(&world, 1, &offered);
}

#[test]
fn an_outage_of_four_seconds_loses_nothing() {
    let mut world = World::new(10, HopConfig::default(), Weather::bursty(80, 0.0));
    let mut offered = film(&mut world, 60);
    world.weather = [Weather {
        down: true,
        ..world.weather[0]
    }; 2];
    for object in 0..120 {
        let frame = chunk(9, 1, object, 5, 900);
        world.send(0, frame.clone());
        offered.push(frame);
        world.run_ms(33);
    }
    world.weather = [Weather::bursty(80, 0.0); 2];
    let back_at = world.now;
    world.run_ms(4_000);
    assert_arrived_once(&world, 1, &offered);
    let last = world.frames[1].last().unwrap().0;
    assert!(
        last - back_at < Duration::from_millis(1_500),
        "{:?}",
        last - back_at
    );
}

#[test]
fn reordering_and_duplication_deliver_once_and_count_as_spurious() {
    let weather = Weather {
        delay_ms: 50,
        loss: 0.05,
        burst: 3.0,
        jitter_us: 30_000,
        duplicates: 0.1,
        down: false,
    };
    let mut world = World::new(11, HopConfig::default(), weather);
    let offered = film(&mut world, 300);
    world.run_ms(5_000);
    for end in 0..2 {
        assert_arrived_once(&world, end, &offered);
        assert!(world.hops[end].stats().losses_spurious > 0);
        assert!(world.hops[end].stats().chunks_duplicate > 0);
    }
}

#[test]
fn small_reordering_is_not_taken_for_loss() {
    let mut world = World::new(12, HopConfig::default(), Weather::bursty(50, 0.0));
    for object in 0..500 {
        world.weather[0].delay_ms = if object % 10 == 0 { 53 } else { 50 };
        world.send(0, chunk(1, 0, object, 0, 1_000));
        world.run_ms(2);
    }
    world.run_ms(1_000);
    assert_eq!(world.frames[1].len(), 500);
    assert_eq!(world.hops[0].stats().chunks_lost, 0);
}

#[test]
fn a_frame_that_never_arrives_is_given_up_with_its_subgroup_and_the_receiver_told() {
    let mut world = World::new(13, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(500);
    world.weather[0].down = true;
    world.send(0, chunk(1, 4, 0, 0, 100));
    world.run_ms(10_000);
    let shed = HopEvent::Shed {
        alias: 1,
        group: 4,
        subgroup: 0,
    };
    assert!(world.events[0].iter().any(|(_, event)| *event == shed));
    world.weather[0].down = false;
    world.run_ms(3_000);
    let reset = Frame::SubgroupReset {
        alias: 1,
        group: 4,
        subgroup: 0,
        code: 2,
    };
    assert_eq!(
        world.frames[1]
            .iter()
            .map(|(_, f)| f.clone())
            .collect::<Vec<_>>(),
        [reset]
    );
    assert_eq!(world.hops[0].stats().chunks_given_up, 1);
    assert_eq!(world.hops[0].stats().unacked_bytes, 0);
}

#[test]
fn repairs_stop_for_what_was_cancelled() {
    let mut world = World::new(14, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(500);
    world.weather[0].down = true;
    for group in 0..4 {
        world.send(0, chunk(1, group, 0, 0, 100));
    }
    world.send(0, chunk(2, 0, 0, 0, 100));
    world.hops[0].cancel(1, Some(2), Some(0));
    world.hops[0].cancel(1, Some(3), None);
    world.weather[0].down = false;
    world.run_ms(3_000);
    let arrived: Vec<_> = world.frames[1].iter().map(|(_, f)| f.key()).collect();
    assert_eq!(
        arrived
            .iter()
            .map(|key| (key.alias, key.group))
            .collect::<Vec<_>>(),
        [(1, 0), (1, 1), (2, 0)]
    );
    world.weather[0].down = true;
    world.send(0, chunk(1, 9, 0, 0, 100));
    world.hops[0].cancel(1, None, None);
    assert_eq!(world.hops[0].stats().unacked_bytes, 0);
    world.weather[0].down = false;
    world.run_ms(3_000);
    assert_eq!(world.frames[1].len(), 3);
}

#[test]
fn the_budget_shrinks_by_the_time_since_it_was_offered_and_half_the_round_trip() {
    let mut world = World::new(15, HopConfig::default(), Weather::bursty(100, 0.0));
    world.run_ms(3_000);
    world.send(0, chunk(1, 0, 0, 0, 100));
    world.weather[0].down = true;
    world.send(0, chunk(1, 0, 1, 0, 100));
    world.weather[0].down = false;
    let offered_at = world.now;
    world.run_ms(2_000);
    for (at, frame) in &world.frames[1] {
        let Frame::Chunk(Chunk { budget_ms, .. }) = frame else {
            panic!("a chunk")
        };
        let left = 600 - i64::try_from((*at - offered_at).as_millis()).unwrap();
        assert!(
            (i64::from(*budget_ms) - left).abs() <= 2,
            "{budget_ms} {left}"
        );
    }
    assert_eq!(world.frames[1].len(), 2);
}

#[test]
fn the_order_is_feedback_then_repairs_then_priority_then_group() {
    let mut world = World::new(16, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(500);
    let frames = [
        chunk(1, 5, 0, 9, 1),
        chunk(1, 4, 0, 9, 1),
        chunk(2, 8, 0, 1, 1),
    ];
    for frame in frames {
        world.hops[0].send(world.now, frame).unwrap();
    }
    world.run_ms(200);
    let keys = world.frames[1]
        .iter()
        .map(|(_, f)| (f.key().alias, f.key().group));
    assert_eq!(keys.collect::<Vec<_>>(), [(2, 8), (1, 4), (1, 5)]);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_the_peers_error() {
    let mut world = World::new(17, HopConfig::default(), Weather::bursty(50, 0.0));
    world.send(0, chunk(1, 0, 0, 0, 100));
    let error = world.hops[0].handle_datagram(world.now, vec![0x10, 3, 0, 0, 0].into());
    // Two heartbeats have numbers too.
    assert_eq!(
        error,
        Err(HopError::AckOfUnsent {
            largest: 3,
            next: 3
        })
    );
    assert_eq!(error.unwrap_err().close_code(), 0x3);
    assert_eq!(world.hops[0].stats().datagrams_malformed, 1);
    let fine = world.hops[0].handle_datagram(world.now, vec![0x10, 1, 0, 0, 1].into());
    assert_eq!(fine, Ok(()));
    assert_eq!(world.hops[0].stats().unacked_bytes, 0);
}

#[test]
fn acknowledgements_come_every_eight_or_after_ten_ms_or_at_once_for_a_gap() {
    let mut world = World::new(18, HopConfig::default(), Weather::bursty(50, 0.0));
    for object in 0..16 {
        world.send(0, chunk(1, 0, object, 0, 100));
        world.run_ms(1);
    }
    world.run_ms(50);
    assert_eq!(world.hops[1].stats().acks_sent, 2);
    world.send(0, chunk(1, 0, 16, 0, 100));
    world.run_ms(59);
    assert_eq!(world.hops[1].stats().acks_sent, 2);
    world.run_ms(2);
    assert_eq!(world.hops[1].stats().acks_sent, 3);
    world.weather[0].down = true;
    world.send(0, chunk(1, 0, 17, 0, 100));
    world.weather[0].down = false;
    world.send(0, chunk(1, 0, 18, 0, 100));
    world.run_ms(51);
    assert_eq!(world.hops[1].stats().acks_sent, 4);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::new(seed, HopConfig::default(), Weather::bursty(80, 0.10));
        film(&mut world, 150);
        world.run_ms(2_000);
        world.trace
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}

/// Rows for whatever is lost: `symbols` as given, coded or not.
fn one_row(coded: bool, extra: u8) -> HopPolicy {
    one_row_over(coded, extra, 30)
}

/// The same, its rounds spread over `span_ms`.
pub(super) fn one_row_over(coded: bool, extra: u8, span_ms: u32) -> HopPolicy {
    HopPolicy::new(vec![row_over(coded, extra, span_ms)], 256).unwrap()
}

/// Its row.
pub(super) fn row_over(coded: bool, extra: u8, span_ms: u32) -> PolicyRow {
    let symbols = std::array::from_fn(|k| k as u8 + 1 + extra);
    PolicyRow {
        loss_ppm_max: u32::MAX,
        burst_milli_max: 0,
        rtt_us_max: 0,
        budget_ms_min: 0,
        again: false,
        spacing_us: span_ms * 1_000 / 6,
        collect_us: 10_000,
        span_us: span_ms * 1_000,
        coded,
        essential: symbols,
        disposable: symbols,
        small_copies: 1 + extra,
    }
}

#[test]
fn a_chunk_whose_copy_is_lost_before_its_round_closes_without_symbols_is_sent_again() {
    let mut world = World::new(21, HopConfig::default(), Weather::bursty(1, 0.0));
    world.hops[0].set_policy(one_row(true, 0));
    world.run_ms(2_000);
    world.weather[0].down = true;
    world.send(0, chunk(1, 0, 0, 100, 1_000));
    world.weather[0].down = false;
    (1..4).for_each(|object| world.send(0, chunk(1, 0, object, 100, 1_000)));
    world.run_ms(1);
    world.weather[0].down = true;
    let lost_at = world.now_ms();
    while world.hops[0].stats().chunks_repaired == 0 {
        world.run_ms(1);
    }
    world.weather[0].down = false;
    (4..8).for_each(|object| world.send(0, chunk(1, 0, object, 100, 1_000)));
    while world.hops[0].stats().chunks_lost < 2 {
        world.run_ms(1);
    }
    assert!(world.now_ms() < lost_at + 10, "the round is open");
    world.run_ms(500);
    assert_eq!(world.frames[1].len(), 8);
    assert_eq!(world.hops[0].stats().unacked_bytes, 0);
}

#[test]
fn chunks_whose_copies_are_lost_too_are_restored_from_symbols_and_acknowledged() {
    let mut world = World::new(21, HopConfig::default(), Weather::bursty(100, 0.0));
    world.hops[0].set_policy(one_row(true, 3));
    world.run_ms(2_000);
    world.weather[0].down = true;
    (0..3).for_each(|object| world.send(0, chunk(1, 0, object, 100, 1_000)));
    world.weather[0].down = false;
    world.send(0, chunk(1, 0, 3, 100, 1_000));
    // The copies, 5 ms apart, meet the next outage; the symbols do not.
    while world.hops[0].stats().chunks_lost == 0 {
        world.weather[0].down = world.hops[0].stats().acks_received > 0;
        world.run_ms(1);
    }
    world.weather[0].down = true;
    world.run_ms(11);
    world.weather[0].down = false;
    world.run_ms(150);
    let stats = world.hops[1].stats();
    assert_eq!(world.frames[1].len(), 4, "{stats:?}");
    assert_eq!(stats.symbols_received, 3);
    assert!(stats.chunks_restored > 0);
    world.run_ms(1_000);
    let sender = world.hops[0].stats();
    assert_eq!((sender.unacked_bytes, sender.rounds_failed), (0, 0));
    assert_eq!(sender.losses_spurious, 0);
}

#[test]
fn coded_rounds_deliver_everything_once_through_heavy_loss_and_reordering() {
    for (seed, loss) in [(31, 0.05), (32, 0.2)] {
        let weather = Weather {
            jitter_us: 6_000,
            duplicates: 0.01,
            ..Weather::bursty(60, loss)
        };
        let mut world = World::new(seed, HopConfig::default(), weather);
        world
            .hops
            .iter_mut()
            .for_each(|hop| hop.set_policy(one_row(true, 3)));
        let offered = film(&mut world, 600);
        world.run_ms(9_000);
        for end in 0..2 {
            assert_arrived_once(&world, end, &offered);
            assert!(world.hops[end].stats().chunks_restored > 0);
            assert_eq!(world.hops[end].stats().unacked_bytes, 0);
        }
    }
}

#[test]
fn a_clean_link_costs_no_repairs() {
    let mut world = World::new(33, HopConfig::default(), Weather::bursty(60, 0.0));
    film(&mut world, 100);
    world.run_ms(2_000);
    assert_eq!(world.hops[0].stats().repair_bytes, 0);
}

#[test]
fn a_peer_that_loses_everything_gets_a_bounded_multiple_of_the_media() {
    let config = HopConfig {
        repair_percent_max: 100,
        repair_burst_bytes: 20_000,
        repair_bps_min: 80_000,
        ..HopConfig::default()
    };
    let mut world = World::new(34, config, Weather::bursty(20, 0.9));
    world.hops[0].set_policy(one_row(true, 40));
    film(&mut world, 150);
    let stats = world.hops[0].stats();
    let bound = stats.media_bytes + 20_000 + 10_000 * world.now_ms() / 1_000 + 1_200;
    assert!(stats.repair_bytes > stats.media_bytes / 2, "{stats:?}");
    assert!(stats.repair_bytes <= bound, "{stats:?}");
    assert!(stats.repairs_withheld > 0);
}
