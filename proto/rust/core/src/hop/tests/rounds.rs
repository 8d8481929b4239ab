//! Which row of the policy a round takes, and what shares it.

use super::link::{Weather, World, chunk};
use super::recovery::row_over;
use crate::hop::frame::Frame;
use crate::hop::{HopConfig, HopPolicy, PolicyRow};

/// Two hops over 20 ms that lose nothing, the first with these rows.
fn world(rows: Vec<PolicyRow>) -> World {
    let mut world = World::new(23, HopConfig::default(), Weather::bursty(20, 0.0));
    world.hops[0].set_policy(HopPolicy::new(rows, 256).unwrap());
    world.run_ms(2_000);
    world
}

fn lose(world: &mut World, frames: impl IntoIterator<Item = Frame>) {
    world.weather[0].down = true;
    frames
        .into_iter()
        .for_each(|frame| world.send(0, frame.clone()));
}

/// Three chunks that arrive show what was lost before them.
fn show(world: &mut World, first: u64) {
    world.weather[0].down = false;
    (first..first + 3).for_each(|object| world.send(0, chunk(1, 0, object, 100, 1_000)));
    world.run_ms(1);
}

/// Loses all that leaves until so many repairs did.
fn lose_repairs(world: &mut World, repairs: u64) {
    world.weather[0].down = true;
    while world.hops[0].stats().chunks_repaired < repairs {
        world.run_ms(1);
    }
}

fn within(budget_ms: u16, object: u64) -> Frame {
    match chunk(1, 0, object, 100, 1_000) {
        Frame::Chunk(whole) => Frame::Chunk(crate::hop::frame::Chunk { budget_ms, ..whole }),
        other => other,
    }
}

#[test]
fn what_a_round_has_not_brought_is_repaired_by_the_rows_for_that() {
    let again = PolicyRow {
        again: true,
        ..row_over(false, 2, 30)
    };
    let mut world = world(vec![again, row_over(false, 0, 30)]);
    lose(&mut world, [chunk(1, 0, 0, 100, 1_000)]);
    show(&mut world, 1);
    lose_repairs(&mut world, 1);
    world.run_ms(20);
    assert_eq!(world.hops[0].stats().chunks_repaired, 1, "nothing failed");
    show(&mut world, 4);
    world.run_ms(200);
    assert_eq!(world.hops[0].stats().chunks_repaired, 1 + 3);
    assert_eq!(world.frames[1].len(), 7);
}

#[test]
fn a_chunk_for_which_no_other_round_fits_does_not_share_the_few_datagrams_of_one_for_which_it_does()
{
    let first = PolicyRow {
        rtt_us_max: 100_000,
        budget_ms_min: 200,
        ..row_over(true, 0, 30)
    };
    let mut world = world(vec![first, row_over(true, 3, 30)]);
    lose(&mut world, [within(600, 0), within(200, 1)]);
    show(&mut world, 2);
    world.run_ms(200);
    let stats = world.hops[0].stats();
    assert_eq!((stats.chunks_repaired, stats.symbols_sent), (1 + 4, 0));
}

#[test]
fn a_round_has_the_symbols_that_a_chunk_lost_for_the_first_time_needs_whoever_opened_it() {
    let again = PolicyRow {
        again: true,
        ..row_over(true, 0, 30)
    };
    let mut world = world(vec![again, row_over(true, 3, 30)]);
    lose(&mut world, [chunk(1, 0, 0, 100, 1_000)]);
    show(&mut world, 1);
    lose_repairs(&mut world, 4);
    lose(&mut world, [chunk(1, 0, 4, 100, 1_000)]);
    show(&mut world, 5);
    world.run_ms(200);
    let stats = world.hops[0].stats();
    assert_eq!((stats.chunks_repaired, stats.symbols_sent), (4 + 2, 3));
    assert_eq!(world.frames[1].len(), 8);
}
