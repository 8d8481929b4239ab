//! How the link loses in the send direction, as acknowledgements tell: what the policy is chosen by.
//!
//! Share and bursts of the last ten seconds; where the last second is far worse, its share. Until enough
//! datagrams have met their fate, a share of [`LOSS_PPM_ASSUMED`] is assumed, which costs nothing unless
//! something is lost, or somebody waits: then nobody knows that nothing is.

use super::arrivals::{Counts, Recent};
use std::time::{Duration, Instant};

/// Assumed while too little is known.
const LOSS_PPM_ASSUMED: u32 = 50_000;
/// Datagrams that must have met their fate.
const PACKETS_MIN: u64 = 200;
/// A second counts for itself when it lost more than twice what the ten did, and this much more.
const SUDDEN_PPM: u32 = 30_000;

/// Loss of the send direction.
#[derive(Debug)]
pub(super) struct LossMeter {
    second: Recent,
    ten_seconds: Recent,
    /// The last lost one, to tell runs.
    last_lost: Option<u64>,
}

impl LossMeter {
    pub(super) fn new() -> LossMeter {
        LossMeter {
            second: Recent::new(Duration::from_millis(100)),
            ten_seconds: Recent::new(Duration::from_secs(1)),
            last_lost: None,
        }
    }

    pub(super) fn handle_arrived(&mut self, now: Instant, datagrams: u64) {
        self.count(now, datagrams, 0, 0);
    }

    /// Heartbeats in between do not end a run: nobody knows whether they came.
    pub(super) fn handle_lost(&mut self, now: Instant, seq: u64) {
        let goes_on = self
            .last_lost
            .is_some_and(|last| seq > last && seq - last <= 2);
        self.last_lost = Some(seq);
        self.count(now, 1, 1, u64::from(!goes_on));
    }

    /// Lost share in millionths, mean run in thousandths.
    pub(super) fn measured(&self, now: Instant) -> (u32, u32) {
        let ten = self.ten_seconds.sum(now);
        if ten.due < PACKETS_MIN {
            return (LOSS_PPM_ASSUMED, 3_000);
        }
        let (long, short) = (ppm(&ten), ppm(&self.second.sum(now)));
        let sudden = short > long.saturating_mul(2).saturating_add(SUDDEN_PPM);
        let runs = ten.runs.max(1);
        let burst = (ten.lost.max(1) * 1_000 / runs).max(1_000);
        let loss = if sudden { short } else { long };
        (loss, u32::try_from(burst).unwrap_or(u32::MAX))
    }

    fn count(&mut self, now: Instant, due: u64, lost: u64, runs: u64) {
        self.second.add(now, Counts { due, lost, runs });
        self.ten_seconds.add(now, Counts { due, lost, runs });
    }
}

fn ppm(counts: &Counts) -> u32 {
    let share = counts.lost * 1_000_000 / counts.due.max(1);
    u32::try_from(share).unwrap_or(1_000_000)
}
