//! How much of a path's delay comes and goes by itself.
//!
//! Mobile networks add tens of milliseconds and take them away again. Who takes all of it for a queue of his
//! own goes down for nothing; so the bound of a queue follows what is seen in rounds in which the
//! application, and not the rate, limited what was sent, for a queue that we cause makes us be limited soon.

use std::time::Duration;

/// Shares of the way that the level goes to a delay above it and to one below: about the p90 of what is seen.
const UP: u32 = 8;
const DOWN: u32 = 64;

/// A level that a tenth of the delays exceeds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wander {
    level: Duration,
}

impl Wander {
    pub(super) fn note(&mut self, delay: Duration) {
        self.level = match delay.checked_sub(self.level) {
            Some(above) => self.level + above / UP,
            None => self.level - (self.level - delay) / DOWN,
        };
    }

    pub(super) fn level(&self) -> Duration {
        self.level
    }
}
