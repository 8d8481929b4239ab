//! What a link's queue is drained at: one rate, or rates over time.
//!
//! All in whole nanoseconds and bits, rounded so that nothing leaves early: the same on every machine.

use crate::link_config::{LinkConfig, RateEntry};

const NS_PER_S: u64 = 1_000_000_000;
/// Stretches of one rate that one datagram may take to leave; a link so slow takes nothing.
const STRETCHES_MAX: usize = 10_000;

/// A stretch of time with one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    rate_bps: u64,
    end_ns: u64,
}

/// Bytes that leave between two times, rounded up: at least what has not left, if `from_ns` is now and
/// `to_ns` when the queue will be empty.
pub(crate) fn bytes_between(config: &LinkConfig, from_ns: u64, to_ns: u64) -> u64 {
    let Some(rate_bps) = fixed_rate(config) else {
        let mut bits_ns: u128 = 0;
        let mut at_ns = from_ns;
        for _ in 0..STRETCHES_MAX {
            if at_ns >= to_ns {
                break;
            }
            let stretch = stretch(config, at_ns);
            let end_ns = stretch.end_ns.min(to_ns);
            bits_ns += u128::from(end_ns - at_ns) * u128::from(stretch.rate_bps);
            at_ns = end_ns;
        }
        return narrow(bits_ns.div_ceil(u128::from(8 * NS_PER_S)));
    };
    scale(to_ns - from_ns, rate_bps, 8 * NS_PER_S)
}

/// When `bytes` that begin to leave at `start_ns` have left; `None` if never, as far as can be seen.
pub(crate) fn end_of(config: &LinkConfig, start_ns: u64, bytes: u64) -> Option<u64> {
    if let Some(rate_bps) = fixed_rate(config) {
        return Some(start_ns.saturating_add(scale(bytes, 8 * NS_PER_S, rate_bps)));
    }
    let mut left = u128::from(bytes) * u128::from(8 * NS_PER_S);
    let mut at_ns = start_ns;
    for _ in 0..STRETCHES_MAX {
        let stretch = stretch(config, at_ns);
        let fits = u128::from(stretch.end_ns - at_ns) * u128::from(stretch.rate_bps);
        if left <= fits {
            let took = left.div_ceil(u128::from(stretch.rate_bps.max(1)));
            return Some(at_ns.saturating_add(narrow(took)));
        }
        left -= fits;
        at_ns = stretch.end_ns;
    }
    None
}

/// Tokens, in units of 1 / (8 · 10⁹) byte, that `rate_bps` gives in `elapsed_ns`.
pub(crate) fn tokens(rate_bps: u64, elapsed_ns: u64) -> u128 {
    u128::from(rate_bps) * u128::from(elapsed_ns)
}

/// The same units of whole bytes.
pub(crate) fn tokens_of(bytes: u64) -> u128 {
    u128::from(bytes) * u128::from(8 * NS_PER_S)
}

fn fixed_rate(config: &LinkConfig) -> Option<u64> {
    config.rate_bps.filter(|_| config.rate_schedule.is_empty())
}

fn stretch(config: &LinkConfig, at_ns: u64) -> Stretch {
    let entries = &config.rate_schedule;
    let (begin_ns, in_cycle_ns) = match config.rate_repeat_us.saturating_mul(1_000) {
        0 => (0, at_ns),
        repeat_ns => (at_ns - at_ns % repeat_ns, at_ns % repeat_ns),
    };
    let next = entries.partition_point(|entry| ns(entry) <= in_cycle_ns);
    let rate_bps = match next.checked_sub(1) {
        Some(current) => entries[current].rate_bps,
        None => config.rate_bps.unwrap_or(u64::MAX),
    };
    let end_ns = match (entries.get(next), config.rate_repeat_us) {
        (Some(entry), _) => begin_ns.saturating_add(ns(entry)),
        (None, 0) => u64::MAX,
        (None, repeat_us) => begin_ns.saturating_add(repeat_us.saturating_mul(1_000)),
    };
    Stretch { rate_bps, end_ns }
}

fn ns(entry: &RateEntry) -> u64 {
    entry.at_us.saturating_mul(1_000)
}

/// `value · multiplier / divisor`, rounded up, without overflow on the way.
fn scale(value: u64, multiplier: u64, divisor: u64) -> u64 {
    narrow((u128::from(value) * u128::from(multiplier)).div_ceil(u128::from(divisor)))
}

fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}
