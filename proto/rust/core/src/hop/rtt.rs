//! The round trip as the hop itself sees it, its own queueing in QUIC included.
//!
//! Samples come from acknowledgements (every datagram has a number of its own, so none is ambiguous)
//! and from echoed heartbeats. Until there is one, what QUIC measured stands in. Smoothing is that of
//! RFC 9002 §5.3.

use std::time::Duration;

/// Nothing beyond this is believed.
const RTT_MAX: Duration = Duration::from_secs(60);

/// Smoothed round trip and its variation.
#[derive(Debug)]
pub(super) struct Rtt {
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
    pub(super) fn sample(&mut self, elapsed: Duration, held: Duration) {
        let rtt = elapsed.saturating_sub(held).clamp(self.floor, RTT_MAX);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn quic_counts_until_the_first_own_sample() {
        let mut rtt = Rtt::new(100 * MS);
        assert_eq!(rtt.measured(), None);
        rtt.set_from_quic(80 * MS, 40 * MS);
        assert_eq!(rtt.measured(), Some(80 * MS));
        rtt.sample(60 * MS, 10 * MS);
        assert_eq!(rtt.measured(), Some(50 * MS));
        rtt.set_from_quic(80 * MS, 40 * MS);
        assert_eq!(rtt.measured(), Some(50 * MS));
    }

    #[test]
    fn a_peer_that_overstates_its_delay_cannot_push_it_below_what_quic_saw() {
        let mut rtt = Rtt::new(100 * MS);
        rtt.set_from_quic(80 * MS, 70 * MS);
        rtt.sample(80 * MS, 79 * MS);
        assert_eq!(rtt.measured(), Some(70 * MS));
    }

    #[test]
    fn it_converges_and_its_timeout_approaches_the_round_trip() {
        let mut rtt = Rtt::new(100 * MS);
        for _ in 0..100 {
            rtt.sample(205 * MS, 5 * MS);
        }
        assert_eq!(rtt.smoothed().as_millis(), 200);
        assert!(rtt.timeout() < 202 * MS);
    }

    #[test]
    fn no_sample_overflows() {
        let mut rtt = Rtt::new(Duration::ZERO);
        rtt.set_from_quic(Duration::MAX, Duration::ZERO);
        for (elapsed, held) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX)] {
            rtt.sample(Duration::from_micros(elapsed), Duration::from_micros(held));
            assert!(rtt.timeout() < Duration::from_secs(600));
        }
    }
}
