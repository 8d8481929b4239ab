//! Rounds: what came back between two moments a round trip apart, and the least round trip of a path.

use std::time::{Duration, Instant};

/// Packets acknowledged in a round before it is judged.
const ROUND_PACKETS_MIN: u64 = 4;
/// A round lasts at least this long, three frames of a film: within one frame's burst even the quickest
/// packet queues behind the others, and a lone packet's acknowledgement waits 25 ms.
pub(super) const ROUND_MIN: Duration = Duration::from_millis(100);
/// The least round trip is kept over the running window of this length and the one before.
pub(super) const BASE_WINDOW: Duration = Duration::from_secs(30);
/// For so long a peer may keep the acknowledgement of a packet that no other follows (RFC 9000 §18.2).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// What was acknowledged and lost since the last round ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Packets sent from here on end the round.
    pub(super) start: Instant,
    pub(super) rtt_min: Option<Duration>,
    pub(super) packets: u64,
    pub(super) acked: u64,
    pub(super) lost: u64,
    /// Of `acked`, those that the rate held back.
    acked_limited: u64,
}

impl Round {
    pub(super) fn new(start: Instant) -> Round {
        Round {
            start,
            rtt_min: None,
            packets: 0,
            acked: 0,
            lost: 0,
            acked_limited: 0,
        }
    }

    /// Whether a packet sent then, and acknowledged now, ends the round, which lasts at least so long.
    pub(super) fn ends_with(&self, now: Instant, sent: Instant, least: Duration) -> bool {
        let took = now.saturating_duration_since(self.start);
        sent >= self.start && self.packets >= ROUND_PACKETS_MIN && took >= least
    }

    pub(super) fn add(&mut self, rtt: Duration, bytes: u64, app_limited: bool) {
        self.rtt_min = Some(self.rtt_min.map_or(rtt, |min| min.min(rtt)));
        self.packets += 1;
        self.acked = self.acked.saturating_add(bytes);
        if !app_limited {
            self.acked_limited = self.acked_limited.saturating_add(bytes);
        }
    }

    /// By how much the least round trip is above ``base``, without what a peer may have kept acknowledgements for:
    /// where packets lie so far apart that each is acknowledged alone, even the quickest waited there, and not in
    /// a queue. As RFC 9002 §5.3, with the longest wait for the one that the peer tells, which controllers are not
    /// told.
    pub(super) fn queue_delay(&self, now: Instant, base: Duration) -> Duration {
        let above = self.rtt_min.unwrap_or(base).saturating_sub(base);
        let took = now.saturating_duration_since(self.start);
        let are_lone = took.as_nanos() >= u128::from(self.packets) * ACK_DELAY.as_nanos();
        match are_lone && above >= ACK_DELAY {
            true => above - ACK_DELAY,
            false => above,
        }
    }

    /// The rate, not the application, held back most of it.
    pub(super) fn is_limited(&self) -> bool {
        self.acked_limited > self.acked / 2
    }

    /// Share lost, in thousandths.
    pub(super) fn loss_permille(&self) -> u64 {
        let total = self.acked.saturating_add(self.lost).max(1);
        scale(self.lost, 1_000, total)
    }

    /// Bytes/s that came through.
    pub(super) fn delivered(&self, now: Instant) -> u64 {
        per_second(self.acked, now.saturating_duration_since(self.start))
    }
}

/// `value · numerator / denominator` without overflow on the way.
pub(super) fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    narrow(u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1)))
}

/// Bytes that leave at `rate` bytes/s in a time.
pub(crate) fn bytes_in(rate: u64, time: Duration) -> u64 {
    // Asked for several times a packet, and nearly always within 64 bits.
    let short = u64::try_from(time.as_nanos()).ok();
    match short.and_then(|ns| rate.checked_mul(ns)) {
        Some(product) => product / 1_000_000_000,
        None => narrow(u128::from(rate).saturating_mul(time.as_nanos()) / 1_000_000_000),
    }
}

pub(super) fn per_second(bytes: u64, time: Duration) -> u64 {
    narrow(u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1))
}

fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}
