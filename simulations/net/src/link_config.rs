//! What a link is like: plain values, checked once.

use crate::loss::Loss;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Longest accepted delay, jitter and hold of a reordered datagram.
pub const DELAY_US_MAX: u64 = 60_000_000;
/// Greatest accepted `delay_log_sigma`; measured paths lie below 2.
pub const DELAY_LOG_SIGMA_MAX: f64 = 4.0;
/// Most entries that a `rate_schedule` may have.
pub const RATE_ENTRIES_MAX: usize = 100_000;
/// Wire bytes of the largest UDP datagram over IPv6, rounded up.
pub const MTU_BYTES_MAX: u64 = 65_583;

/// A rate from one time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateEntry {
    /// From when on, microseconds of the link's clock (of each repetition).
    pub at_us: u64,
    /// Bits per second; 0 for a stretch without service.
    pub rate_bps: u64,
}

/// What a link is like.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Propagation delay, microseconds.
    pub delay_us: u64,
    /// Up to this much is added to the delay, uniformly, microseconds.
    pub jitter_us: u64,
    /// Median of a lognormal delay on top of `delay_us`, microseconds; 0 for none.
    pub delay_log_median_us: u64,
    /// Its sigma: the standard deviation of its logarithm.
    pub delay_log_sigma: f64,
    /// It is drawn anew this often, and moves steadily in between.
    pub delay_redraw_us: u64,
    /// Bits per second, IP and UDP headers included; `None` for no limit (and then no queue).
    pub rate_bps: Option<u64>,
    /// Rates over time; before the first entry `rate_bps` holds.
    pub rate_schedule: Arc<[RateEntry]>,
    /// The schedule begins again after this long; 0 for never.
    pub rate_repeat_us: u64,
    /// What may wait for the rate, the datagram being sent included, bytes. An idle link takes any
    /// one datagram.
    pub queue_bytes: u64,
    /// Rate of a token bucket before the queue: what exceeds it is lost.
    pub policer_bps: Option<u64>,
    /// Size of that bucket.
    pub policer_burst_bytes: u64,
    /// Larger datagrams vanish; wire bytes.
    pub mtu_bytes: u64,
    /// Loss on the wire.
    pub loss: Loss,
    /// Datagrams of more wire bytes than this are lost with the share `large_loss` besides.
    pub large_bytes: u64,
    /// Share of them that is lost.
    pub large_loss: f64,
    /// Share of datagrams that arrives twice.
    pub duplicate: f64,
    /// Share of datagrams that is held back by `reorder_us`, and overtaken meanwhile.
    pub reorder: f64,
    /// How long.
    pub reorder_us: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        LinkConfig {
            delay_us: 0,
            jitter_us: 0,
            delay_log_median_us: 0,
            delay_log_sigma: 0.0,
            delay_redraw_us: 1_000_000,
            rate_bps: None,
            rate_schedule: Arc::default(),
            rate_repeat_us: 0,
            queue_bytes: 256 << 10,
            policer_bps: None,
            policer_burst_bytes: 0,
            mtu_bytes: 65_535,
            loss: Loss::None,
            large_bytes: 0,
            large_loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_us: 0,
        }
    }
}

impl LinkConfig {
    /// Refuse what no link can be; the error names the field.
    pub fn validate(&self) -> Result<(), LinkError> {
        check_delay("delay_us", self.delay_us)?;
        check_delay("jitter_us", self.jitter_us)?;
        check_delay("reorder_us", self.reorder_us)?;
        self.validate_delay_log()?;
        check_rate("rate_bps", self.rate_bps)?;
        self.validate_schedule()?;
        check_above_0("queue_bytes", self.queue_bytes)?;
        check_rate("policer_bps", self.policer_bps)?;
        if self.policer_bps.is_some() {
            check_above_0("policer_burst_bytes", self.policer_burst_bytes)?;
        }
        if !(1..=MTU_BYTES_MAX).contains(&self.mtu_bytes) {
            let rule = "must be from 1 to 65583";
            return Err(LinkError::new("mtu_bytes", self.mtu_bytes, rule));
        }
        check_share("large_loss", self.large_loss)?;
        check_share("duplicate", self.duplicate)?;
        check_share("reorder", self.reorder)?;
        self.loss.validate()
    }

    fn validate_delay_log(&self) -> Result<(), LinkError> {
        check_delay("delay_log_median_us", self.delay_log_median_us)?;
        if !(0.0..=DELAY_LOG_SIGMA_MAX).contains(&self.delay_log_sigma) {
            let rule = "must be from 0 to 4";
            return Err(LinkError::new(
                "delay_log_sigma",
                self.delay_log_sigma,
                rule,
            ));
        }
        check_above_0("delay_redraw_us", self.delay_redraw_us)
    }

    fn validate_schedule(&self) -> Result<(), LinkError> {
        let refuse = |value: u64, rule| Err(LinkError::new("rate_schedule", value, rule));
        let entries = &self.rate_schedule;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        if entries.len() > RATE_ENTRIES_MAX {
            return refuse(entries.len() as u64, "must be at most 100000 entries");
        }
        if first.at_us > 0 && self.rate_bps.is_none() {
            return refuse(
                first.at_us,
                "must begin at 0, or rate_bps say what holds before",
            );
        }
        if let Some(pair) = entries.windows(2).find(|p| p[0].at_us >= p[1].at_us) {
            return refuse(pair[1].at_us, "must be in order of time");
        }
        match self.rate_repeat_us {
            0 if last.rate_bps == 0 => refuse(0, "must not end with a rate of 0 for ever"),
            0 => Ok(()),
            repeat_us if last.at_us >= repeat_us => refuse(
                last.at_us,
                "must begin before rate_repeat_us, when the schedule begins again",
            ),
            _ if first.at_us == 0 && entries.iter().all(|entry| entry.rate_bps == 0) => {
                refuse(0, "must have a rate above 0")
            }
            _ => Ok(()),
        }
    }
}

fn check_delay(field: &'static str, value_us: u64) -> Result<(), LinkError> {
    if value_us > DELAY_US_MAX {
        return Err(LinkError::new(field, value_us, "must be at most 60000000"));
    }
    Ok(())
}

fn check_rate(field: &'static str, rate_bps: Option<u64>) -> Result<(), LinkError> {
    match rate_bps {
        Some(0) => Err(LinkError::new(
            field,
            0,
            "must be above 0, or absent for no limit",
        )),
        _ => Ok(()),
    }
}

fn check_above_0(field: &'static str, value: u64) -> Result<(), LinkError> {
    match value {
        0 => Err(LinkError::new(field, 0, "must be above 0")),
        _ => Ok(()),
    }
}

pub(crate) fn check_share(field: &'static str, share: f64) -> Result<(), LinkError> {
    if !(0.0..=1.0).contains(&share) {
        return Err(LinkError::new(field, share, "must be from 0 to 1"));
    }
    Ok(())
}

/// A [`LinkConfig`] that describes no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkError {
    /// Name of the field, `loss.burst` for one inside [`Loss`].
    pub field: &'static str,
    /// The value it had.
    pub value: String,
    /// What it must be.
    pub rule: &'static str,
}

impl LinkError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Display, rule: &'static str) -> Self {
        LinkError {
            field,
            value: value.to_string(),
            rule,
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link: {} = {}: {}", self.field, self.value, self.rule)
    }
}

impl Error for LinkError {}
