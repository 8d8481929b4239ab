//! A bound on what repairs may cost: a peer that lies about loss, or a link that loses because it is full, must not
//! make the sender send more than a multiple of its media.
//!
//! A bucket of bytes: every new datagram earns [`HopConfig::repair_percent_max`] of its own bytes, time earns
//! [`HopConfig::repair_bps_min`] (so that the tail of what ended is repaired too), repairs of every kind pay with
//! theirs. Without bytes in the bucket, copies wait and everything redundant is dropped.

use super::config::HopConfig;
use std::time::{Duration, Instant};

/// The bucket of one sender.
#[derive(Debug)]
pub(super) struct RepairBudget {
    percent: u64,
    bps_min: u64,
    bytes_max: u64,
    bytes: u64,
    at: Instant,
}

impl RepairBudget {
    pub(super) fn new(config: &HopConfig, now: Instant) -> RepairBudget {
        RepairBudget {
            percent: config.repair_percent_max,
            bps_min: config.repair_bps_min.max(8),
            bytes_max: config.repair_burst_bytes,
            bytes: config.repair_burst_bytes,
            at: now,
        }
    }

    /// A new datagram leaves.
    pub(super) fn earn(&mut self, bytes: usize) {
        let earned = (bytes as u64).saturating_mul(self.percent) / 100;
        self.bytes = self.bytes.saturating_add(earned).min(self.bytes_max);
    }

    /// A repair left.
    pub(super) fn pay(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }

    /// Whether a datagram of full size may be sent as a repair.
    pub(super) fn allows(&mut self, now: Instant, bytes: usize) -> bool {
        let elapsed = now.saturating_duration_since(self.at);
        let earned = u64::try_from(elapsed.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_mul(self.bps_min)
            / 8_000_000;
        if earned > 0 {
            self.at = now;
            self.bytes = self.bytes.saturating_add(earned).min(self.bytes_max);
        }
        self.bytes >= (bytes as u64).min(self.bytes_max)
    }

    /// When time alone will allow it.
    pub(super) fn allowed_at(&self, bytes: usize) -> Instant {
        let lacking = (bytes as u64)
            .min(self.bytes_max)
            .saturating_sub(self.bytes)
            + 1;
        self.at + Duration::from_micros(lacking.saturating_mul(8_000_000).div_ceil(self.bps_min))
    }
}
