//! Somebody else fills the queue.

use super::{MediaController, Mode};
use crate::congestion::round::{Round, per_second, scale};
use std::time::{Duration, Instant};

/// Competing: the most that is added a round trip, decrease upon loss (RFC 9438 §4.6), and the standing queue beyond which nothing is added.
const UP_SHARE_COMPETING: (u64, u64) = (5, 100);
const COMPETE_DOWN: (u64, u64) = (70, 100);
const COMPETE_QUEUE_MAX: Duration = Duration::from_millis(400);
/// Rounds without a queue, and those with nothing to gain, that end it, and its longest time before it is looked again whose queue it is.
const COMPETE_ROUNDS_EMPTY: u32 = 2;
const COMPETE_ROUNDS_OVER: u32 = 3;
const FOREIGN_MEMORY: Duration = Duration::from_secs(10);
const ALONE: (u64, u64) = (85, 100);
const COMPETE_MAX: Duration = Duration::from_secs(15);

impl MediaController {
    /// Somebody else fills the queue: to yield would be to give up.
    pub(super) fn compete_from(&mut self, now: Instant) {
        let steps = std::mem::take(&mut self.steps);
        self.set_rate(steps.rate_before.max(self.rate));
        self.lowered_at = None;
        self.queue_delay_peak = self.queue_delay;
        self.mode = Mode::Competing {
            since: now,
            empty: 0,
            over: 0,
        };
    }

    pub(super) fn compete(
        &mut self,
        now: Instant,
        round: &Round,
        since: Instant,
        (empty, over): (u32, u32),
    ) {
        let is_empty = self.is_short(self.config.queue_delay_max);
        let empty = if is_empty { empty + 1 } else { 0 };
        let is_over = now.saturating_duration_since(since) > COMPETE_MAX;
        // Where others share the queue, whoever puts more in gets more out. Who does not is alone with it.
        let is_above = self.recent.through() < scale(self.rate, ALONE.0, ALONE.1);
        let is_unusual = self.policer.is_unusual(round.loss_permille());
        let over = if is_above && round.is_limited() && !is_unusual {
            over + 1
        } else {
            0
        };
        if empty >= COMPETE_ROUNDS_EMPTY || over >= COMPETE_ROUNDS_OVER || is_over {
            self.mode = Mode::Delay;
            let is_gone = empty < COMPETE_ROUNDS_EMPTY;
            self.foreign_until = (!is_gone).then(|| now + FOREIGN_MEMORY);
            return;
        }
        self.mode = Mode::Competing { since, empty, over };
        self.queue_delay_peak = self.queue_delay_peak.max(self.queue_delay);
        let is_deep = self.queue_delay >= self.queue_delay_peak / 2;
        if is_deep && is_unusual {
            self.set_rate(scale(self.rate, COMPETE_DOWN.0, COMPETE_DOWN.1));
            self.lowered_at = Some(now);
        } else if round.is_limited() && self.queue_delay < COMPETE_QUEUE_MAX {
            let share = scale(self.rate, UP_SHARE_COMPETING.0, UP_SHARE_COMPETING.1);
            let step = per_second(self.mtu, self.rtt()).min(share);
            self.set_rate(self.rate.saturating_add(step.max(1)));
        }
    }
}
