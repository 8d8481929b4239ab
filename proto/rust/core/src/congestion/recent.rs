//! What came through in the last rounds.
//!
//! Windows of loss make a round's delivery rate say little of the bottleneck: what was lost in them is added where a
//! queue does not explain it, and a look at more than one round makes up for losses that are noticed late.

use super::round::{Round, per_second};
use std::time::{Duration, Instant};

/// Rounds of which the greatest rate counts.
const ROUNDS: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Came {
    acked: u64,
    lost: u64,
    took: Duration,
    /// Bytes/s that were acknowledged, and the same with what the path loses by itself.
    delivered: u64,
    through: u64,
}

/// The last rounds, the newest first. Rates in bytes/s.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    rounds: [Came; ROUNDS],
}

impl Recent {
    /// A round ended; `with_loss`: a delivery rate with what the path loses by itself.
    pub(super) fn note(&mut self, now: Instant, round: &Round, with_loss: impl Fn(u64) -> u64) {
        let delivered = round.delivered(now);
        self.rounds.rotate_right(1);
        self.rounds[0] = Came {
            acked: round.acked,
            lost: round.lost,
            took: now.saturating_duration_since(round.start),
            delivered,
            through: with_loss(delivered),
        };
    }

    /// How long the last round took.
    pub(super) fn took(&self) -> Duration {
        self.rounds[0].took
    }

    pub(super) fn delivered_max(&self) -> u64 {
        self.rounds
            .iter()
            .map(|came| came.delivered)
            .max()
            .unwrap_or(0)
    }

    /// Of the last round, with what the path loses by itself.
    pub(super) fn through(&self) -> u64 {
        self.rounds[0].through
    }

    pub(super) fn through_max(&self) -> u64 {
        self.rounds
            .iter()
            .map(|came| came.through)
            .max()
            .unwrap_or(0)
    }

    /// Mean of the last two rounds, of what was acknowledged.
    pub(super) fn delivered_of_two(&self) -> u64 {
        self.rounds[0].delivered.midpoint(self.rounds[1].delivered)
    }

    /// Over the last two rounds, with all that was lost then.
    pub(super) fn arrived_of_two(&self) -> u64 {
        let two = &self.rounds[..2];
        let bytes = two.iter().fold(0u64, |sum, came| {
            sum.saturating_add(came.acked).saturating_add(came.lost)
        });
        per_second(bytes, two.iter().map(|came| came.took).sum())
    }
}
