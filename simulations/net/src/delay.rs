//! Delay that wanders: a lognormal part on top of propagation.
//!
//! Every `delay_redraw_us` there is a new standard normal z; between two of them a and b it is
//! ((1 − t)·a + t·b) / √((1 − t)² + t²), which is standard normal at every t, and moves steadily from one
//! draw to the next. The delay is median · e^(σ·z): lognormal at every instant, not only at the draws, so
//! that quantiles which a world was fitted to come out again. (A straight line between two lognormal
//! draws would have a narrower distribution.) The draw of a time depends on the seed and that time
//! alone: what is sent, and when, changes no delay.

use crate::link_config::{DELAY_US_MAX, LinkConfig};
use crate::rng::{Rng, derive_seed};

/// The wandering part of one link's delay.
#[derive(Clone, Debug)]
pub(crate) struct LogDelay {
    seed: u64,
    /// Number of the draw before the present time, and the values of it and the next.
    knot: Option<(u64, f64, f64)>,
}

impl LogDelay {
    pub(crate) fn new(seed: u64) -> LogDelay {
        LogDelay { seed, knot: None }
    }

    /// Extra delay of what is put on the wire at `at_us`.
    pub(crate) fn at_us(&mut self, config: &LinkConfig, at_us: u64) -> u64 {
        if config.delay_log_median_us == 0 {
            return 0;
        }
        let number = at_us / config.delay_redraw_us;
        let (_, a, b) = match self.knot {
            Some(knot) if knot.0 == number => knot,
            _ => *self
                .knot
                .insert((number, self.draw(number), self.draw(number + 1))),
        };
        let t = (at_us % config.delay_redraw_us) as f64 / config.delay_redraw_us as f64;
        let z = ((1.0 - t) * a + t * b) / ((1.0 - t).powi(2) + t.powi(2)).sqrt();
        let extra_us = config.delay_log_median_us as f64 * (config.delay_log_sigma * z).exp();
        extra_us.min(DELAY_US_MAX as f64) as u64
    }

    /// The cached draws belong to a spacing of draws.
    pub(crate) fn forget(&mut self) {
        self.knot = None;
    }

    fn draw(&self, number: u64) -> f64 {
        Rng::new(derive_seed(self.seed, number)).normal()
    }
}
