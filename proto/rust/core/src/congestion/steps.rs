//! Steps down against a queue that stands, and what they say about whose queue it is.

use std::time::Duration;

/// Steps down without effect after which a queue is taken for somebody else's.
const VAIN_MAX: u32 = 3;
/// A queue that our steps drain falls to this share of itself between two looks.
const SHRINKS: (u32, u32) = (2, 3);

/// A queue that stands, and the steps down that were taken against it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    count: u32,
    /// Of them, those that changed nothing.
    vain: u32,
    /// The rate before the first, and where it goes when the queue is gone.
    pub(super) rate_before: u64,
    pub(super) resume: u64,
    /// The rate, not the application, was what limited when the first was taken.
    pub(super) was_limited: bool,
    /// The queue at the last look.
    queue: Duration,
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

    /// One more, at a queue; `rate` is that before it.
    pub(super) fn take(&mut self, rate: u64, is_limited: bool, queue: Duration) {
        if self.count == 0 {
            (self.rate_before, self.was_limited) = (rate, is_limited);
        }
        self.queue = queue;
        self.count += 1;
    }

    /// The queue at the last look.
    pub(super) fn queue(&self) -> Duration {
        self.queue
    }

    /// The queue after a step had its time: whether it shrinks, as one does that is ours.
    pub(super) fn shrinks(&mut self, queue: Duration) -> bool {
        let before = std::mem::replace(&mut self.queue, queue);
        queue * SHRINKS.1 <= before * SHRINKS.0
    }

    /// A step changed nothing; whether that was one too many.
    pub(super) fn are_in_vain(&mut self) -> bool {
        self.vain += 1;
        self.vain >= VAIN_MAX
    }
}
