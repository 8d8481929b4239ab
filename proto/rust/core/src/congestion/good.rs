//! A rate that was held not long ago, and is gone back to sooner than it would be found again.
//!
//! A mobile network gives a third of its rate for a second and all of it in the next one, and delay that wanders costs
//! steps down that were not needed. Growth by packets takes tens of round trips to make up for that. So the rate
//! before a step is remembered, and each step after it takes some of the memory away: little if it came late, for
//! then the rate had been held again, much if it came soon, for then the bottleneck has become smaller.

use super::round::scale;
use std::time::{Duration, Instant};

/// Of the rate before a step.
const SHARE: (u64, u64) = (90, 100);
/// What another step leaves of the memory, if it comes soon, and later.
const KEPT_SOON: (u64, u64) = (65, 100);
const KEPT_LATER: (u64, u64) = (95, 100);
const SOON: Duration = Duration::from_secs(2);
/// The most by which a round trip brings the rate back.
const BACK: (u64, u64) = (125, 100);

/// The memory of one path, bytes/s.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Good {
    rate: u64,
    stepped_at: Option<Instant>,
}

impl Good {
    /// The rate was `rate`, and goes down.
    pub(super) fn note_step(&mut self, now: Instant, rate: u64) {
        let is_soon = self
            .stepped_at
            .replace(now)
            .is_some_and(|at| now.saturating_duration_since(at) < SOON);
        let kept = if is_soon { KEPT_SOON } else { KEPT_LATER };
        self.rate = scale(rate, SHARE.0, SHARE.1).max(scale(self.rate, kept.0, kept.1));
    }

    /// Where the rate may go in this round trip.
    pub(super) fn back_from(&self, rate: u64) -> u64 {
        scale(rate, BACK.0, BACK.1).min(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_come_soon_take_the_memory_away_and_late_ones_keep_it() {
        #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
        let epoch = Instant::now();
        let after = |wait: Duration| {
            let mut good = Good::default();
            good.note_step(epoch, 1_000_000);
            for step in 1..=4 {
                good.note_step(epoch + wait * step, 100_000);
            }
            good.rate
        };
        assert!(after(Duration::from_millis(500)) < 200_000);
        assert!(after(Duration::from_secs(4)) > 700_000);
    }
}
