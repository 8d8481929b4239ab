//! What is dropped where a queue stands on the way.

use super::link::{Weather, World, chunk};
use super::recovery::one_row_over;
use crate::hop::{HopConfig, HopStats};

/// A hop of 200 ms with a chunk every 20 ms, and rounds of three symbols spread over `span_ms`.
struct Film {
    world: World,
    sent: u64,
}

impl Film {
    fn new(span_ms: u32) -> Film {
        let mut world = World::new(21, HopConfig::default(), Weather::bursty(100, 0.0));
        world.hops[0].set_policy(one_row_over(true, 3, span_ms));
        let mut film = Film { world, sent: 0 };
        film.run_ms(2_000);
        film
    }

    fn send(&mut self) {
        self.world.send(0, chunk(1, 0, self.sent, 100, 1_000));
        self.sent += 1;
    }

    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.send();
            self.world.run_ms(20);
        }
    }

    /// Packets take so much longer from now on.
    fn queue_ms(&mut self, ms: u64) {
        self.world.weather[0].delay_ms = 100 + ms;
    }

    /// Three chunks are lost; nobody knows yet.
    fn lose(&mut self) {
        self.world.weather[0].down = true;
        (0..3).for_each(|_| self.send());
        self.world.weather[0].down = false;
        self.send();
    }

    /// Runs until so many losses are known.
    fn until_known(&mut self, lost: u64) {
        for _ in 0..1_000 {
            if self.stats().chunks_lost >= lost {
                return;
            }
            self.world.run_ms(1);
        }
        panic!("{:?}", self.stats());
    }

    fn stats(&self) -> HopStats {
        self.world.hops[0].stats()
    }
}

#[test]
fn losses_are_sent_again_once_where_a_queue_stands_and_in_rounds_where_delay_moves_a_little() {
    for (queue_ms, symbols) in [(0, 3), (30, 3), (60, 0)] {
        let mut film = Film::new(30);
        film.queue_ms(queue_ms);
        film.run_ms(500);
        film.lose();
        film.until_known(3);
        film.run_ms(200);
        assert_eq!(
            film.stats().chunks_repaired,
            3,
            "the first copies always leave"
        );
        assert_eq!(film.stats().symbols_sent, symbols, "{queue_ms} ms of queue");
    }
}

#[test]
fn symbols_that_wait_for_their_time_are_dropped_once_a_queue_stands() {
    for (queue_ms, drops) in [(0, false), (60, true)] {
        let mut film = Film::new(500);
        film.lose();
        film.queue_ms(queue_ms);
        film.run_ms(160);
        film.until_known(3);
        film.run_ms(1_000);
        let stats = film.stats();
        assert_eq!(
            stats.symbols_sent + stats.repairs_withheld,
            3,
            "a round was planned"
        );
        assert_eq!(stats.repairs_withheld > 0, drops, "{queue_ms} ms of queue");
    }
}

#[test]
fn everything_arrives_though_copies_are_lost_and_symbols_dropped() {
    let mut film = Film::new(30);
    film.queue_ms(60);
    film.run_ms(500);
    film.lose();
    film.world.run_ms(200);
    film.world.weather[0].down = true;
    film.until_known(3);
    film.world.weather[0].down = false;
    film.run_ms(2_000);
    assert!(film.stats().chunks_repaired > 3, "copies were lost");
    assert_eq!(film.stats().symbols_sent, 0);
    film.world.run_ms(1_000);
    assert_eq!(film.world.frames[1].len() as u64, film.sent);
    assert_eq!(film.stats().unacked_bytes, 0);
}
