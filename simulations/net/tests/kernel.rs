//! The kernel moves datagrams, time and events as it promises, whatever the engine.

mod pinger;

use farcast_core::command::Command;
use farcast_net::kernel::{EVENTS_PER_BATCH_MAX, STEPS_PER_INSTANT_MAX};
use farcast_net::{LinkConfig, Loss, World, WorldError};
use pinger::{Answer, Pinger, Timer, address, answers, delay, epoch, pair, ping};

#[test]
fn a_train_is_split_and_its_answers_come_one_round_trip_later_in_order() {
    let mut world = pair(delay(40_000), 1, Timer::Once);
    ping(&mut world, 3);
    let got = answers(&mut world, 1_000_000);
    let at = 80_000;
    assert_eq!(got, [(at, 0, 0, 1_000), (at, 0, 1, 1_000), (at, 0, 2, 999)]);
    assert_eq!(world.now_us(), at);
    assert_eq!(world.stats().datagrams, 6);
    assert_eq!(world.stats().bytes, 2 * 2_999);
}

#[test]
fn the_clock_stops_at_each_instant_with_events_and_otherwise_at_the_end() {
    let slow = LinkConfig {
        rate_bps: Some(8_000_000),
        ..delay(10_000)
    };
    let mut world = pair(slow, 1, Timer::Once);
    ping(&mut world, 2);
    let first = answers(&mut world, 1_000_000);
    let second = answers(&mut world, 1_000_000);
    assert_eq!((first.len(), second.len()), (1, 1));
    // The last is 1027 bytes on the wire, one byte a microsecond.
    assert_eq!(second[0].0 - first[0].0, 1_027);
    assert!(answers(&mut world, 1_000_000).is_empty());
    assert_eq!(world.now_us(), 1_000_000);
    assert!(answers(&mut world, 5).is_empty());
    assert_eq!(world.now_us(), 1_000_000, "time never runs backwards");
}

#[test]
fn commands_take_effect_at_the_instant_at_which_the_caller_was_called_back() {
    let mut world = pair(delay(1_000), 1, Timer::Once);
    ping(&mut world, 1);
    for round in 1..=10 {
        let got = answers(&mut world, 1_000_000);
        assert_eq!(got, [(round * 2_000, 0, 0, 999)]);
        ping(&mut world, 1);
    }
}

#[test]
fn a_timer_fires_at_its_time_and_moves_when_the_engine_moves_it() {
    let mut world = pair(delay(1_000), 1, Timer::Once);
    let set = |world: &mut World<Pinger>, after_us| {
        let command = Command::RemoveTrack { track: after_us };
        world.execute(0, vec![command]).expect("the host exists");
    };
    set(&mut world, 50_000);
    set(&mut world, 30_000); // earlier
    assert_eq!(answers(&mut world, 1_000_000)[0].0, 32_000);
    set(&mut world, 10_000);
    set(&mut world, 40_000); // later, so that the armed entry comes too early
    assert_eq!(answers(&mut world, 1_000_000)[0].0, 74_000);
    assert!(answers(&mut world, 1_000_000).is_empty());
    assert_eq!(world.engine(0).map(|e| e.timeouts), Some(2));
}

/// A lossy, shaking, narrow path, used for two virtual seconds.
fn trace(seed: u64) -> (u64, u64, Vec<Answer>) {
    let config = LinkConfig {
        delay_us: 30_000,
        jitter_us: 4_000,
        rate_bps: Some(5_000_000),
        queue_bytes: 20_000,
        loss: Loss::GilbertElliott {
            loss: 0.1,
            burst: 3.0,
        },
        ..LinkConfig::default()
    };
    let mut world = pair(config, seed, Timer::Once);
    let mut got = Vec::new();
    for round in 0..100 {
        ping(&mut world, 1 + round % 7);
        while world.now_us() < (round + 1) * 20_000 {
            got.extend(answers(&mut world, (round + 1) * 20_000));
        }
    }
    (world.trace_hash(), world.stats().datagrams, got)
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let (first, again, other) = (trace(5), trace(5), trace(6));
    assert_eq!(first, again);
    assert_ne!(first.0, other.0);
    assert!(first.1 > 400 && !first.2.is_empty());
}

#[test]
fn the_trace_hash_is_the_same_in_every_build() {
    let mut world = pair(delay(1_000), 1, Timer::Once);
    assert_eq!(world.trace_hash(), 0xcbf2_9ce4_8422_2325);
    ping(&mut world, 2);
    answers(&mut world, 1_000_000);
    assert_eq!(format!("{:016x}", world.trace_hash()), TWO_PINGS_TRACE);
}

/// FNV-1a over (0, 1000, 0 to 1), (0, 999, 0 to 1) and the two answers at 1000, computed elsewhere.
const TWO_PINGS_TRACE: &str = "e3632ea87f58beb5";

#[test]
fn a_datagram_without_a_route_is_counted_and_gone() {
    let mut world = World::new(epoch(), 1);
    let nobody = Pinger::new(address(9), Timer::Once);
    let unlinked = Pinger::new(address(1), Timer::Once);
    world
        .add_engine(address(1), nobody)
        .expect("a free address");
    world
        .add_engine(address(2), unlinked)
        .expect("a free address");
    for host in [0, 1] {
        let commands = vec![Command::Snapshot { token: 1 }];
        world.execute(host, commands).expect("the host exists");
    }
    assert!(answers(&mut world, 1_000).is_empty());
    assert_eq!(world.stats().datagrams_no_route, 2);
}

#[test]
fn a_cut_link_loses_what_is_sent_until_it_is_mended() {
    let mut world = pair(delay(1_000), 1, Timer::Once);
    world.set_link_up(0, 1, false).expect("the link exists");
    ping(&mut world, 1);
    assert!(answers(&mut world, 10_000).is_empty());
    world.set_link_up(0, 1, true).expect("the link exists");
    world.set_link(1, 0, delay(5_000)).expect("the link exists");
    ping(&mut world, 1);
    assert_eq!(answers(&mut world, 100_000)[0].0, 16_000);
    let stats = world.link_stats(0, 1).expect("the link exists");
    assert_eq!((stats.packets_in, stats.packets_dropped_down), (2, 1));
}

#[test]
fn more_events_than_a_batch_follow_in_order_at_the_same_instant() {
    let mut world = pair(delay(1_000), 1, Timer::Once);
    for _ in 0..EVENTS_PER_BATCH_MAX / 40 + 1 {
        ping(&mut world, 40);
    }
    let first = answers(&mut world, 1_000_000);
    let second = answers(&mut world, 1_000_000);
    assert_eq!(first.len(), EVENTS_PER_BATCH_MAX);
    assert!(!second.is_empty());
    for (i, event) in first.iter().chain(&second).enumerate() {
        assert_eq!((event.0, event.2), (2_000, i as u64 % 40));
    }
}

#[test]
fn an_engine_that_keeps_the_clock_from_moving_is_an_error() {
    let mut world = pair(delay(0), 1, Timer::Stuck);
    let commands = vec![Command::RemoveTrack { track: 10 }];
    world.execute(1, commands).expect("the host exists");
    let error = world.run_until(1_000).expect_err("it stands still");
    assert_eq!(
        error,
        WorldError::Standstill {
            now_us: 10,
            host: 1
        }
    );
    let timeouts = world.engine(1).map(|e| e.timeouts);
    assert!(timeouts.is_some_and(|t| t <= u64::from(STEPS_PER_INSTANT_MAX)));
}

#[test]
fn what_does_not_exist_or_exists_already_is_an_error() {
    let mut world = pair(delay(0), 1, Timer::Once);
    let errors = [
        (world.execute(7, vec![]), WorldError::NoHost(7)),
        (world.add_link(0, 7, delay(0)), WorldError::NoHost(7)),
        (
            world.add_link(0, 1, delay(0)),
            WorldError::DuplicateLink(0, 1),
        ),
        (world.set_link(0, 0, delay(0)), WorldError::NoLink(0, 0)),
        (world.set_link_up(1, 1, true), WorldError::NoLink(1, 1)),
        (world.link_stats(0, 0).map(|_| ()), WorldError::NoLink(0, 0)),
    ];
    for (got, want) in errors {
        assert_eq!(got, Err(want));
    }
    let again = Pinger::new(address(2), Timer::Once);
    let error = world.add_engine(address(1), again);
    assert_eq!(error, Err(WorldError::DuplicateAddress(address(1))));
    let refused = world.set_link(
        0,
        1,
        LinkConfig {
            rate_bps: Some(0),
            ..delay(0)
        },
    );
    assert!(matches!(refused, Err(WorldError::Link(e)) if e.field == "rate_bps"));
}
