//! The one place at which Farcast's Rust code reads a clock.

use std::time::Instant;

/// Real time. Shells read it here and hand it to engines as an argument.
#[allow(clippy::disallowed_methods)] // a shell over real sockets is what real time is for
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Whole microseconds from `epoch` to `now`; 0 if `now` is earlier.
pub(crate) fn micros_since(epoch: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(epoch).as_micros()).unwrap_or(u64::MAX)
}
