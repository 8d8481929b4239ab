//! The beginning: as fast as slow start, so that a late joiner catches up, and ended by delay.
//!
//! A viewer that joins gets the running group, half a megabyte at once, and what it sees first waits for
//! that. So the beginning is slow start (RFC 9002 §7.3.1), paced: the window grows by what is acknowledged
//! promptly while the rate, and not the application, limits. It ends when a queue shows in two rounds in a row
//! (in one the growth only pauses: HyStart++, RFC 9406, and wandering delay) or in one that loses, or when
//! three rounds deliver no more than those before. A film that never uses its window never leaves the beginning, and the window
//! stays what was once needed.

use super::round::{per_second, scale};
use std::time::Duration;

/// Rounds are at least this long: what is left of jitter in a minimum over less would end the beginning.
pub(super) const ROUND_MIN: Duration = Duration::from_millis(20);
/// Less growth of what is delivered than by this much (a quarter), in so many rounds in a row, ends it.
const GROWTH: (u64, u64) = (125, 100);
const ROUNDS_FLAT: u32 = 3;
/// Rounds with a queue that end it.
const ROUNDS_QUEUED: u32 = 2;
/// Packets lost in a round that no burst on the way explains.
pub(super) const LOST_PACKETS_MIN: u64 = 24;
/// The pace of a window a round trip (RFC 9002 §7.7).
const PACE: (u64, u64) = (5, 4);

/// Slow start of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Startup {
    window: u64,
    /// Greatest delivery rate of the rounds before, bytes/s, and the rounds since it grew.
    best: u64,
    flat: u32,
    queued: u32,
}

/// What a round means for the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    GoesOn,
    /// It ends: a queue stands.
    Queue,
    /// It ends: more is not delivered.
    Flat,
}

impl Startup {
    pub(super) fn new(window: u64) -> Startup {
        Startup {
            window,
            best: 0,
            flat: 0,
            queued: 0,
        }
    }

    /// Bytes that may be under way.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// The pace, bytes/s.
    pub(super) fn rate(&self, srtt: Duration) -> u64 {
        scale(per_second(self.window, srtt), PACE.0, PACE.1)
    }

    /// Bytes were acknowledged promptly while the rate limited.
    pub(super) fn grow(&mut self, bytes: u64, window_max: u64) {
        if self.queued == 0 {
            self.window = self.window.saturating_add(bytes).min(window_max);
        }
    }

    /// A round ended.
    /// `has_lost`: more than any path loses by itself.
    pub(super) fn end_round(
        &mut self,
        delivered: u64,
        is_limited: bool,
        has_queue: bool,
        has_lost: bool,
    ) -> Outcome {
        self.queued = if has_queue { self.queued + 1 } else { 0 };
        if self.queued >= ROUNDS_QUEUED {
            return Outcome::Queue;
        }
        if !is_limited {
            return Outcome::GoesOn;
        }
        let has_grown = delivered >= scale(self.best, GROWTH.0, GROWTH.1);
        self.flat = if has_grown { 0 } else { self.flat + 1 };
        self.best = self.best.max(delivered);
        let most = if has_lost { 1 } else { ROUNDS_FLAT };
        match self.flat >= most {
            true => Outcome::Flat,
            false => Outcome::GoesOn,
        }
    }
}
