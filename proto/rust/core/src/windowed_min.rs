//! The least of what was seen lately, in two numbers.

use std::time::{Duration, Instant};

/// The least of the running window of a given length and of the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowedMin {
    window: Duration,
    /// When the running window began; `None`: with the first sample.
    since: Option<Instant>,
    current: Option<Duration>,
    before: Option<Duration>,
}

impl WindowedMin {
    /// The first window begins with the first sample.
    pub(crate) fn new(window: Duration) -> WindowedMin {
        WindowedMin {
            window,
            since: None,
            current: None,
            before: None,
        }
    }

    /// The first window begins now.
    pub(crate) fn starting(window: Duration, now: Instant) -> WindowedMin {
        WindowedMin {
            since: Some(now),
            ..WindowedMin::new(window)
        }
    }

    pub(crate) fn note(&mut self, now: Instant, value: Duration) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.window {
            self.before = self.current.take();
            self.since = Some(now);
        }
        self.current = Some(self.current.map_or(value, |least| least.min(value)));
    }

    /// Nothing from before counts any more.
    pub(crate) fn reset(&mut self, now: Instant, value: Duration) {
        *self = WindowedMin::starting(self.window, now);
        self.current = Some(value);
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        [self.current, self.before].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn epoch() -> Instant {
        #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
        Instant::now()
    }

    #[test]
    fn the_least_counts_until_the_window_after_its_own_has_ended() {
        let start = epoch();
        let mut least = WindowedMin::new(10 * MS);
        let mut seen = Vec::new();
        for (at, value) in [(0, 5), (9, 7), (10, 8), (19, 9), (20, 9)] {
            least.note(start + at * MS, value * MS);
            seen.push(least.get());
        }
        assert_eq!(seen, [5, 5, 5, 5, 8].map(|ms| Some(ms * MS)));
    }

    #[test]
    fn after_a_reset_only_what_comes_then_counts() {
        let start = epoch();
        let mut least = WindowedMin::starting(10 * MS, start);
        assert_eq!(least.get(), None);
        least.note(start, 5 * MS);
        least.reset(start + MS, 7 * MS);
        least.note(start + 2 * MS, 8 * MS);
        assert_eq!(least.get(), Some(7 * MS));
    }
}
