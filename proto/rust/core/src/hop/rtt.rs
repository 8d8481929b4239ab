//! The round trip as the hop itself sees it, its own queueing in QUIC included.
//!
//! Samples come from acknowledgements (every datagram has a number of its own, so none is ambiguous)
//! and from echoed heartbeats. Until there is one, what QUIC measured stands in. Smoothing is that of
//! RFC 9002 §5.3. For telemetry every sample also goes into a sketch: counts in buckets whose bounds
//! grow by a constant factor, which merge by adding and give quantiles to 2 % (C. Masson, J. E. Rim,
//! H. K. Lee: "DDSketch", VLDB 2019).

use crate::windowed_min::WindowedMin;
use std::time::{Duration, Instant};

/// Nothing beyond this is believed.
const RTT_MAX: Duration = Duration::from_secs(60);

/// The least round trip is that of the running window of this length and the one before.
const MIN_WINDOW: Duration = Duration::from_secs(5);

/// The same for what stands in the way now.
const NOW_WINDOW: Duration = Duration::from_millis(100);

/// Factor between bounds of the sketch, for quantiles with a relative error of at most 2 %.
const GAMMA: f64 = 1.02 / 0.98;

/// Smoothed round trip and its variation.
#[derive(Debug)]
pub(super) struct Rtt {
    latest: Duration,
    least: WindowedMin,
    least_now: WindowedMin,
    sketch: Sketch,
    smoothed: Duration,
    variation: Duration,
    /// The least that QUIC ever saw; no sample is believed below it.
    floor: Duration,
    /// Where the values are from: 0 assumed, 1 QUIC, 2 measured here.
    source: u8,
}

impl Rtt {
    pub(super) fn new(initial: Duration) -> Rtt {
        Rtt {
            latest: Duration::ZERO,
            least: WindowedMin::new(MIN_WINDOW),
            least_now: WindowedMin::new(NOW_WINDOW),
            sketch: Sketch::default(),
            smoothed: initial,
            variation: initial / 2,
            floor: Duration::ZERO,
            source: 0,
        }
    }

    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The smoothed round trip, once anybody measured it.
    pub(super) fn measured(&self) -> Option<Duration> {
        (self.source > 0).then_some(self.smoothed)
    }

    /// How much samples vary around it; zero before the first, since what stands in has no variation.
    pub(super) fn variation(&self) -> Duration {
        if self.source < 2 {
            return Duration::ZERO;
        }
        self.variation
    }

    /// The last sample; zero before the first.
    pub(super) fn latest(&self) -> Duration {
        self.latest
    }

    /// The least of the last five to ten seconds in which there were samples.
    pub(super) fn min(&self) -> Duration {
        self.least.get().unwrap_or(self.smoothed)
    }

    /// How much longer even the quickest of the last tenths of a second took than [`Rtt::min`]: a queue that
    /// stands.
    pub(super) fn standing(&self) -> Duration {
        let now = self.least_now.get().unwrap_or(Duration::ZERO);
        now.saturating_sub(self.min())
    }

    /// Buckets of all samples with their counts.
    pub(super) fn sketch(&self) -> Vec<(u32, u64)> {
        self.sketch.counts()
    }

    /// Longest that an answer takes in all likelihood (RFC 9002 §6.2.1, without the peer's delay).
    pub(super) fn timeout(&self) -> Duration {
        self.smoothed + 4 * self.variation
    }

    /// What QUIC measured; its smoothed value counts until the hop has a sample of its own.
    pub(super) fn set_from_quic(&mut self, smoothed: Duration, min: Duration) {
        self.floor = min.min(RTT_MAX);
        if self.source < 2 {
            self.smoothed = smoothed.min(RTT_MAX);
            self.variation = self.smoothed / 4;
            self.source = 1;
        }
    }

    /// A sample; `held` is how long the peer says it kept the answer back.
    pub(super) fn sample(&mut self, now: Instant, elapsed: Duration, held: Duration) {
        let rtt = elapsed.saturating_sub(held).clamp(self.floor, RTT_MAX);
        self.latest = rtt;
        self.least.note(now, rtt);
        self.least_now.note(now, rtt);
        self.sketch.add(rtt);
        if self.source < 2 {
            self.smoothed = rtt;
            self.variation = rtt / 2;
            self.source = 2;
        } else {
            self.variation = (3 * self.variation + self.smoothed.abs_diff(rtt)) / 4;
            self.smoothed = (7 * self.smoothed + rtt) / 8;
        }
    }
}

/// Counts of round trips: bucket `i` holds those above `GAMMA^(i-1)` and up to `GAMMA^i` microseconds.
#[derive(Debug)]
struct Sketch {
    /// `GAMMA^i`, by repeated multiplication: the same on every machine.
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

impl Default for Sketch {
    fn default() -> Sketch {
        let longest = RTT_MAX.as_micros() as f64;
        let bounds = std::iter::successors(Some(1.0), |bound| {
            (*bound < longest).then_some(bound * GAMMA)
        });
        let bounds: Vec<f64> = bounds.collect();
        let counts = vec![0; bounds.len()];
        Sketch { bounds, counts }
    }
}

impl Sketch {
    fn add(&mut self, rtt: Duration) {
        let rtt_us = rtt.as_micros() as f64;
        let bucket = self.bounds.partition_point(|bound| *bound < rtt_us);
        let bucket = bucket.min(self.counts.len() - 1);
        self.counts[bucket] += 1;
    }

    fn counts(&self) -> Vec<(u32, u64)> {
        let filled = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        filled
            .map(|(bucket, count)| (bucket as u32, *count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::tests::epoch;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn quic_counts_until_the_first_own_sample() {
        let mut rtt = Rtt::new(100 * MS);
        assert_eq!(rtt.measured(), None);
        assert_eq!(
            (rtt.latest(), rtt.variation()),
            (Duration::ZERO, Duration::ZERO)
        );
        rtt.set_from_quic(80 * MS, 40 * MS);
        assert_eq!(rtt.measured(), Some(80 * MS));
        assert_eq!(
            (rtt.latest(), rtt.variation()),
            (Duration::ZERO, Duration::ZERO)
        );
        rtt.sample(epoch(), 60 * MS, 10 * MS);
        assert_eq!(rtt.measured(), Some(50 * MS));
        assert_eq!((rtt.latest(), rtt.variation()), (50 * MS, 25 * MS));
        rtt.set_from_quic(80 * MS, 40 * MS);
        assert_eq!(rtt.measured(), Some(50 * MS));
    }

    #[test]
    fn a_peer_that_overstates_its_delay_cannot_push_it_below_what_quic_saw() {
        let mut rtt = Rtt::new(100 * MS);
        rtt.set_from_quic(80 * MS, 70 * MS);
        rtt.sample(epoch(), 80 * MS, 79 * MS);
        assert_eq!(rtt.measured(), Some(70 * MS));
    }

    #[test]
    fn it_converges_and_its_timeout_approaches_the_round_trip() {
        let mut rtt = Rtt::new(100 * MS);
        for _ in 0..100 {
            rtt.sample(epoch(), 205 * MS, 5 * MS);
        }
        assert_eq!(rtt.smoothed().as_millis(), 200);
        assert!(rtt.timeout() < 202 * MS);
    }

    #[test]
    fn no_sample_overflows() {
        let mut rtt = Rtt::new(Duration::ZERO);
        rtt.set_from_quic(Duration::MAX, Duration::ZERO);
        for (elapsed, held) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX)] {
            rtt.sample(
                epoch(),
                Duration::from_micros(elapsed),
                Duration::from_micros(held),
            );
            assert!(rtt.timeout() < Duration::from_secs(600));
        }
    }

    #[test]
    fn the_least_is_that_of_the_last_ten_seconds() {
        let (mut rtt, start) = (Rtt::new(100 * MS), epoch());
        let mut least = Vec::new();
        for second in 0..20u32 {
            let sample = if second == 2 { 40 * MS } else { 60 * MS };
            rtt.sample(start + second * 1_000 * MS, sample, Duration::ZERO);
            least.push(rtt.min());
        }
        assert_eq!(least[1], 60 * MS);
        assert!(least[2..10].iter().all(|least| *least == 40 * MS));
        assert_eq!(least[10], 60 * MS);
        assert_eq!(rtt.latest(), 60 * MS);
    }

    #[test]
    fn a_queue_stands_once_even_the_quickest_take_longer() {
        let (mut rtt, start) = (Rtt::new(100 * MS), epoch());
        let mut standing = Vec::new();
        for at in 0..40u32 {
            let extra = if at >= 20 { 30 } else { 40 * (at % 2) };
            rtt.sample(start + 10 * at * MS, (60 + extra) * MS, Duration::ZERO);
            standing.push(rtt.standing());
        }
        assert!(standing[..20].iter().all(Duration::is_zero));
        assert_eq!(standing[39], 30 * MS);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_lies_within_two_percent_of_its_middle(rtt_us in 1u64..60_000_000) {
            let mut rtt = Rtt::new(MS);
            rtt.sample(epoch(), Duration::from_micros(rtt_us), Duration::ZERO);
            let sketch = rtt.sketch();
            prop_assert_eq!(sketch.len(), 1);
            let (bucket, count) = sketch[0];
            prop_assert_eq!(count, 1);
            let upper = GAMMA.powi(bucket as i32);
            let value = 2.0 * upper / (1.0 + GAMMA);
            prop_assert!((value - rtt_us as f64).abs() <= 0.020_001 * rtt_us as f64);
        }
    }
}
