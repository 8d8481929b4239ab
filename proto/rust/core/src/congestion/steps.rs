//! Steps down against a queue that stands, and what they say about whose queue it is.

use std::time::Duration;

/// Steps down after which a queue that did not shrink is taken for not ours.
const STEPS_MAX: u32 = 4;
/// Round trips that vary less than this, or than the path's delay does by itself, are a path's own.
const LEVEL: Duration = Duration::from_millis(10);

/// A queue that stands, and the steps down that were taken against it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    count: u32,
    /// The rate before the first, and where it goes when the queue is gone.
    pub(super) rate_before: u64,
    pub(super) resume: u64,
    /// Most that a round has delivered since the last one: while a queue drains, about what the bottleneck carries
    /// (acknowledgements that come together after a pause show more).
    drained: u64,
    /// The rate, not the application, was what limited when the first was taken.
    pub(super) was_limited: bool,
    /// Round trip at the second step, and the least and greatest since.
    first: Duration,
    least: Duration,
    greatest: Duration,
}

impl Steps {
    /// Whether any was taken.
    pub(super) fn is_any(&self) -> bool {
        self.count > 0
    }

    /// Whether only one was.
    pub(super) fn is_first(&self) -> bool {
        self.count <= 1
    }

    /// One more, at a round trip; `rate` is that before it.
    pub(super) fn take(&mut self, rate: u64, is_limited: bool, rtt: Duration) {
        match self.count {
            0 => (self.rate_before, self.was_limited) = (rate, is_limited),
            // Only now: when a queue is first seen, more of it is on the way.
            1 => (self.first, self.least, self.greatest) = (rtt, rtt, rtt),
            _ => {}
        }
        self.least = self.least.min(rtt);
        self.greatest = self.greatest.max(rtt);
        self.count += 1;
        self.drained = 0;
    }

    /// A round ended, and has delivered so much, bytes/s.
    pub(super) fn note_delivered(&mut self, delivered: u64) {
        if self.is_any() {
            self.drained = self.drained.max(delivered);
        }
    }

    /// What the bottleneck carried while the queue drained, bytes/s; 0: not known.
    pub(super) fn drained(&self) -> u64 {
        self.drained
    }

    /// Enough were taken, and the queue does not shrink: somebody else's, or no queue.
    pub(super) fn are_in_vain(&mut self, rtt: Duration) -> bool {
        if self.count < STEPS_MAX {
            return false;
        }
        let gained = self.first.saturating_sub(rtt);
        let shrinks = gained > LEVEL && rtt < self.least + LEVEL;
        if shrinks {
            self.count = 1;
        }
        !shrinks
    }

    /// The round trip stayed what it was: a longer path, not a queue of somebody.
    pub(super) fn is_level(&self, wander: Duration) -> bool {
        self.greatest.saturating_sub(self.least) <= LEVEL.max(wander)
    }
}
