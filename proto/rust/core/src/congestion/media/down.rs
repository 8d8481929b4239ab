//! Steps down: when a queue is believed, how far the rate goes, and what follows.

use super::{HEADROOM, MediaController, QUEUE_BOUND_MAX};
use crate::congestion::round::{bytes_in, per_second, scale};
use std::time::{Duration, Instant};

/// Of what was delivered when a queue was found: the rate after it has drained, and the least while it
/// drains.
const RESUME: (u64, u64) = (90, 100);
const DRAIN_MIN: (u64, u64) = (50, 100);
/// Rounds that a queue is watched in while as much comes through as is sent: it grows slowly then, if it is ours.
const SUSPECTED_ROUNDS: u32 = 1;
/// Less than this share of the rate comes through: it is still too high.
const STILL_ABOVE: (u64, u64) = (90, 100);
/// A queue of so many bounds does not come by itself.
const OURS_MIN: u32 = 2;
/// A queue so long after the last one is another matter.
const QUEUE_MEMORY: Duration = Duration::from_secs(10);
/// Of the rate before a queue that nobody knows the cause of: where it goes back to, and if another one came
/// soon after the last.
const RETURN: (u64, u64) = (95, 100);
const RETURN_AGAIN: (u64, u64) = (50, 100);

impl MediaController {
    /// A step down has had its time: is the queue gone, or going, and if not, whose is it?
    pub(super) fn drain(&mut self, now: Instant, is_limited: bool, bound: Duration) {
        let shrinks = self.steps.shrinks(self.queue_delay);
        if self.is_short(bound) {
            return self.end_steps(now);
        }
        let is_above = self.recent.through() < scale(self.rate, STILL_ABOVE.0, STILL_ABOVE.1);
        if !shrinks && !is_above && self.steps.are_in_vain() {
            return self.compete_from(now);
        }
        if self.queue_delay > bound {
            self.step_down(now, is_limited);
        } else if !shrinks {
            self.lowered_at = Some(now);
        }
    }

    /// The queue is gone. Where the application limited, it may have gone by itself; a second one soon after
    /// was ours.
    pub(super) fn end_steps(&mut self, now: Instant) {
        let steps = std::mem::take(&mut self.steps);
        let is_again = self
            .queue_at
            .is_some_and(|at| now.saturating_duration_since(at) < QUEUE_MEMORY);
        self.queue_at = Some(now);
        self.return_to = match (steps.was_limited, is_again) {
            (true, _) => 0,
            (false, false) => scale(steps.rate_before, RETURN.0, RETURN.1),
            (false, true) => scale(steps.rate_before, RETURN_AGAIN.0, RETURN_AGAIN.1),
        };
        self.set_rate(self.rate.max(steps.resume));
        self.raised_at = Some(now);
        self.calm = 0;
    }

    pub(super) fn handle_queue(&mut self, now: Instant, is_limited: bool) {
        self.calm = 0;
        // Who sends next to nothing is not the cause of any queue, and keeps the rate for what comes.
        if self.recent.delivered_max() < self.config.clamp(0) {
            return;
        }
        self.suspected += 1;
        if !is_limited && self.suspected <= 1 {
            return self.wander.note(self.queue_delay);
        }
        if is_limited && self.suspected <= SUSPECTED_ROUNDS && !self.is_full() {
            self.suspected_queue = self.suspected_queue.max(self.queue_delay);
            return;
        }
        if self.foreign_until.is_some_and(|until| now < until) {
            return self.compete_from(now);
        }
        self.step_down(now, is_limited);
    }

    /// Less comes through than is sent, or the queue is one that no path makes by itself.
    pub(super) fn is_full(&self) -> bool {
        let sent = if self.is_raise_shown {
            self.rate
        } else {
            self.rate_unraised.min(self.rate)
        };
        self.recent.arrived_of_two() < scale(sent, STILL_ABOVE.0, STILL_ABOVE.1) || self.is_deep()
    }

    pub(super) fn is_deep(&self) -> bool {
        self.queue_delay > QUEUE_BOUND_MAX * self.config.queue_delay_max
    }

    pub(super) fn step_down(&mut self, now: Instant, is_limited: bool) {
        self.steps.take(self.rate, is_limited, self.queue_delay);
        (self.suspected, self.suspected_queue) = (0, Duration::ZERO);
        if self.queue_delay > OURS_MIN * self.queue_bound(false) {
            self.steps.was_limited = true;
        }
        self.return_to = 0;
        if self.steps.is_first() {
            let rate = self.steps.rate_before.min(self.recent.through_max());
            self.good.note_step(now, rate);
        }
        // Where the application limited, the rate may have been far above what was used, and an older round
        // may say more. Later steps learn something only where we still send more than comes through.
        let is_deep = self.is_deep();
        let through = match is_deep {
            true => self.policer.with_usual_loss(self.recent.delivered_of_two()),
            false => self.recent.arrived_of_two(),
        };
        let through = match (self.steps.is_first(), is_limited) {
            (true, true) => through.min(self.rate),
            (true, false) => {
                scale(self.recent.through_max(), HEADROOM.0, HEADROOM.1).min(self.rate)
            }
            (false, _)
                if self.recent.through() < scale(self.rate, STILL_ABOVE.0, STILL_ABOVE.1) =>
            {
                self.recent.through()
            }
            (false, _) => scale(self.steps.resume, RESUME.1, RESUME.0),
        };
        let least = match is_deep {
            true => 0,
            false if self.steps.is_first() => self.rate / 2,
            false => self.steps.resume / 2,
        };
        self.steps.resume = scale(through, RESUME.0, RESUME.1).max(least);
        let drained = bytes_in(through, self.queue_delay);
        let within = self.rtt().max(self.config.queue_delay_max);
        let floor = scale(self.steps.resume, DRAIN_MIN.0, DRAIN_MIN.1);
        let rate = self
            .steps
            .resume
            .saturating_sub(per_second(drained, within));
        self.set_rate(rate.max(floor));
        self.lowered_at = Some(now);
    }
}
