//! A process or machine that stood still is noticed by how late the engine is called, and not by idleness.
#![allow(clippy::unwrap_used)] // a test fails by panicking
mod duel;

use duel::Duel;
use farcast_core::command::Draft;
use farcast_core::datapath::STALL;
use std::time::{Duration, Instant};

/// An edge with a session that waits for its next timer, and when that is.
fn waiting() -> (Duel, Instant) {
    let mut duel = Duel::with_track(Draft::D18);
    let due = duel.edge.poll_timeout().expect("a session has timers");
    assert!(due > duel.now, "the next timer lies ahead");
    (duel, due)
}

fn stalls(duel: &mut Duel, now: Instant) -> u64 {
    duel.edge.snapshot(now).totals.stalls
}

#[test]
fn a_timer_that_is_served_a_little_late_is_no_standstill() {
    let (mut duel, due) = waiting();
    let now = due + STALL - Duration::from_millis(1);
    duel.edge.handle_timeout(now);
    assert_eq!(stalls(&mut duel, now), 0);
}

#[test]
fn a_timer_that_is_served_far_too_late_is_one_standstill() {
    let (mut duel, due) = waiting();
    let now = due + STALL;
    duel.edge.handle_timeout(now);
    assert_eq!(stalls(&mut duel, now), 1);
    duel.edge.handle_timeout(now + Duration::from_millis(1));
    assert_eq!(stalls(&mut duel, now), 1, "it is counted once");
}

#[test]
fn an_engine_that_waited_for_nothing_did_not_stand_still() {
    let (mut duel, due) = waiting();
    let quiet = due - Duration::from_millis(1);
    duel.edge.handle_timeout(quiet);
    assert_eq!(stalls(&mut duel, quiet), 0);
}
