//! Hosts pause, crash, come back and move; links go; commands are carried out when they were meant to be.

mod pinger;

use farcast_core::command::Command;
use farcast_net::host::SOCKET_BYTES_MAX;
use farcast_net::{World, WorldError};
use pinger::{Pinger, Timer, address, answers, delay, pair, ping};

const ONE_WAY_US: u64 = 1_000;
const FAR_US: u64 = 10_000_000;

fn world() -> World<Pinger> {
    pair(delay(ONE_WAY_US), 1, Timer::Once)
}

fn train(count: u64) -> Command {
    Command::Snapshot { token: count }
}

#[test]
fn scheduled_commands_run_at_their_times_without_the_caller() {
    let mut world = world();
    let at = [30_000, 10_000, 10_000, 20_000];
    let commands = at.map(|at_us| (at_us, train(1)));
    world.schedule(0, commands.into()).expect("the host exists");
    let mut times = Vec::new();
    while let [first, ..] = answers(&mut world, FAR_US)[..] {
        times.push(first.0);
    }
    assert_eq!(times, [12_000, 22_000, 32_000]);
    assert_eq!(world.stats().datagrams, 8, "two of them at 10 ms");
}

#[test]
fn commands_scheduled_for_one_instant_keep_their_order() {
    let mut world = world();
    let commands = vec![(5_000, train(2)), (5_000, train(1)), (4_000, train(3))];
    world.schedule(0, commands).expect("the host exists");
    assert_eq!(answers(&mut world, FAR_US).len(), 3);
    let got: Vec<u64> = answers(&mut world, FAR_US).iter().map(|a| a.3).collect();
    assert_eq!(got, [1_000, 999, 999]);
}

#[test]
fn a_schedule_in_the_past_runs_now() {
    let mut world = world();
    answers(&mut world, 50_000);
    world.schedule(0, vec![(10, train(1))]).expect("a host");
    assert_eq!(answers(&mut world, FAR_US)[0].0, 52_000);
}

#[test]
fn a_paused_host_gets_everything_at_once_when_it_goes_on() {
    let mut world = world();
    world.pause_host(1, 100_000).expect("the host exists");
    for round in 1..=3 {
        ping(&mut world, 1);
        assert!(answers(&mut world, round * 10_000).is_empty());
    }
    let got = answers(&mut world, FAR_US);
    let at = 100_000 + ONE_WAY_US;
    assert_eq!(got.iter().map(|a| a.0).collect::<Vec<_>>(), [at; 3]);
}

#[test]
fn the_socket_of_a_paused_host_holds_so_much_and_then_drops() {
    let mut world = world();
    world.pause_host(1, 5_000_000).expect("the host exists");
    let trains = SOCKET_BYTES_MAX as u64 / 40_000 + 10;
    for _ in 0..trains {
        ping(&mut world, 40);
    }
    assert!(answers(&mut world, 4_000_000).is_empty());
    let lost = world.stats().datagrams_socket_full;
    // All of a train but the last datagram have 1,000 bytes.
    let fit = SOCKET_BYTES_MAX as u64 / 1_000;
    assert!(
        lost > 0 && (trains * 40 - lost).abs_diff(fit) <= 10,
        "{lost}"
    );
    let mut count = 0;
    loop {
        let got = answers(&mut world, FAR_US).len() as u64;
        count += got;
        if got == 0 {
            break;
        }
    }
    assert_eq!(count, trains * 40 - lost);
}

#[test]
fn timers_and_commands_of_a_paused_host_wait() {
    let mut world = world();
    let timer = Command::RemoveTrack { track: 10_000 };
    world.execute(0, vec![timer]).expect("the host exists");
    world.pause_host(0, 50_000).expect("the host exists");
    ping(&mut world, 2);
    world.schedule(0, vec![(20_000, train(3))]).expect("a host");
    let got = answers(&mut world, FAR_US);
    let at = 50_000 + 2 * ONE_WAY_US;
    assert!(got.iter().all(|answer| answer.0 == at), "{got:?}");
    assert_eq!(got.len(), 2 + 3 + 1, "two commands and the timer's train");
}

#[test]
fn a_pause_ends_when_it_was_last_said_to() {
    for (ends, want) in [([80_000, 30_000], 30_000), ([30_000, 80_000], 80_000)] {
        let mut world = world();
        for until_us in ends {
            world.pause_host(1, until_us).expect("the host exists");
        }
        ping(&mut world, 1);
        let got = answers(&mut world, FAR_US);
        assert_eq!(got[0].0, want + ONE_WAY_US);
    }
}

#[test]
fn what_is_for_a_stopped_host_is_lost_and_it_does_nothing_more() {
    let mut world = world();
    let timer = Command::RemoveTrack { track: 10_000 };
    world.execute(1, vec![timer]).expect("the host exists");
    world.schedule(1, vec![(20_000, train(1))]).expect("a host");
    world.stop_host(1).expect("the host exists");
    ping(&mut world, 2);
    world.execute(1, vec![train(1)]).expect("it is ignored");
    assert!(answers(&mut world, FAR_US).is_empty());
    assert_eq!(world.stats().datagrams_host_down, 2);
    assert_eq!(world.stats().datagrams, 2);
    assert!(world.engine(1).is_none());
}

#[test]
fn a_restarted_host_has_its_number_address_and_links_and_nothing_of_before() {
    let mut world = world();
    world.schedule(1, vec![(20_000, train(1))]).expect("a host");
    ping(&mut world, 1);
    assert_eq!(answers(&mut world, 3_000).len(), 1);
    world.stop_host(1).expect("the host exists");
    let again = Pinger::new(address(1), Timer::Once);
    world.restart_engine(1, again).expect("the host exists");
    assert!(answers(&mut world, 30_000).is_empty(), "no old schedule");
    ping(&mut world, 1);
    assert_eq!(answers(&mut world, FAR_US)[0].0, 32_000);
}

#[test]
fn events_that_an_engine_left_behind_are_not_its_successors() {
    let mut world = world();
    for _ in 0..EVENTS / 40 {
        ping(&mut world, 40);
    }
    assert!(!answers(&mut world, FAR_US).is_empty());
    world.stop_host(0).expect("the host exists");
    assert!(answers(&mut world, FAR_US).is_empty());
}

/// More than one batch.
const EVENTS: usize = farcast_net::kernel::EVENTS_PER_BATCH_MAX + 40;

#[test]
fn what_is_under_way_to_an_old_address_is_lost_and_the_new_one_is_the_source() {
    let mut world = world();
    ping(&mut world, 1);
    world.move_host(1, address(9)).expect("a free address");
    assert!(answers(&mut world, 10_000).is_empty());
    assert_eq!(world.stats().datagrams_host_down, 1);
    ping(&mut world, 1);
    assert!(answers(&mut world, 20_000).is_empty());
    assert_eq!(world.stats().datagrams_no_route, 1, "nobody is there now");
    // From the new address it reaches its peer, whose answer goes to where that came from.
    world.execute(1, vec![train(1)]).expect("the host exists");
    assert_eq!(answers(&mut world, FAR_US)[0].1, 1);
}

#[test]
fn an_address_that_is_taken_is_refused_and_a_freed_one_is_free() {
    let mut world = world();
    let taken = world.move_host(1, address(1));
    assert_eq!(taken, Err(WorldError::DuplicateAddress(address(1))));
    world.move_host(1, address(2)).expect("its own");
    world.move_host(1, address(3)).expect("a free address");
    world.move_host(0, address(2)).expect("free since then");
    for refused in [
        world.move_host(7, address(8)),
        world.pause_host(7, 0),
        world.stop_host(7),
        world.schedule(7, Vec::new()),
        world.record(7, 1),
        world.take_record(7).map(drop),
    ] {
        assert_eq!(refused, Err(WorldError::NoHost(7)));
    }
}

#[test]
fn a_removed_link_is_no_route_and_what_is_under_way_arrives() {
    let mut world = world();
    ping(&mut world, 1);
    world.remove_link(0, 1).expect("the link exists");
    assert_eq!(answers(&mut world, FAR_US).len(), 1);
    ping(&mut world, 1);
    assert!(answers(&mut world, FAR_US).is_empty());
    assert_eq!(world.stats().datagrams_no_route, 1);
    let again = world.remove_link(0, 1);
    assert_eq!(again, Err(WorldError::NoLink(0, 1)));
    world.add_link(0, 1, delay(ONE_WAY_US)).expect("a new link");
    ping(&mut world, 1);
    assert_eq!(answers(&mut world, 3 * FAR_US).len(), 1);
}
