//! How much of a path's delay comes and goes by itself.
//!
//! Mobile networks add tens of milliseconds and take them away again. Who takes all of it for a queue of his
//! own goes down for nothing; so the bound of a queue follows what is seen in rounds in which the
//! application, and not the rate, limited what was sent, for a queue that we cause makes us be limited soon.
//!
//! Where every packet is delayed by chance, the least of a few lies above the least of many, by as much as the
//! packets of a moment lie apart; that is noise, and no queue either.

use std::time::Duration;

/// Shares of the way that the level goes to a delay above it and to one below: about the p90 of what is seen.
const UP: u32 = 8;
const DOWN: u32 = 32;

/// Spreads of which noise is the mean, about, and the most that one counts.
const NOISE: u32 = 16;
const SPREAD_MAX: Duration = Duration::from_millis(60);

/// A level that a tenth of the delays exceeds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wander {
    level: Duration,
    noise: Duration,
}

impl Wander {
    pub(super) fn note(&mut self, delay: Duration) {
        self.level = match delay.checked_sub(self.level) {
            Some(above) => self.level + above / UP,
            None => self.level - (self.level - delay) / DOWN,
        };
    }

    /// How far the round trips of a moment lay apart, see [`super::round::Round::spread`].
    pub(super) fn note_spread(&mut self, spread: Duration) {
        self.noise = (self.noise * (NOISE - 1) + spread.min(SPREAD_MAX)) / NOISE;
    }

    /// What the least round trip of a moment may be off.
    pub(super) fn noise(&self) -> Duration {
        self.noise / 2
    }

    pub(super) fn level(&self) -> Duration {
        self.level
    }
}
