//! One direction of a path between two hosts: rate and finite queue, propagation, jitter, loss.
//!
//! A datagram first meets the queue (drop-tail, drained at the link's rate), then the wire, which may
//! lose it, and arrives after the propagation delay and a random share of the jitter. Datagrams never
//! overtake one another: one that would is held until its predecessor's arrival.
//!
//! Loss is independent or bursty. Bursty loss is the Gilbert model: in the bad state everything is
//! lost, in the good state nothing. With loss share π and mean burst length L (packets) the chance to
//! leave the bad state is r = 1/L and to enter it p = π·r / (1 − π); it steps once per packet.

use crate::rng::{Rng, derive_seed};
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

/// Longest accepted `delay_us` and `jitter_us`.
pub const DELAY_US_MAX: u64 = 60_000_000;
/// Header bytes that a UDP datagram has on the wire over IPv4 (20 + 8).
pub const HEADER_BYTES_V4: usize = 28;
/// Header bytes that a UDP datagram has on the wire over IPv6 (40 + 8).
pub const HEADER_BYTES_V6: usize = 48;

/// How a link loses datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// Nothing is lost on the wire.
    #[default]
    None,
    /// Each datagram is lost on its own account.
    Random {
        /// Share lost, 0 to 1.
        p: f64,
    },
    /// Losses come in bursts (Gilbert model).
    GilbertElliott {
        /// Share lost in the long run, 0 to below 1.
        loss: f64,
        /// Mean length of a burst in packets, at least 1 and at least `loss / (1 - loss)`.
        burst: f64,
    },
}

/// What a link is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// Propagation delay, microseconds.
    pub delay_us: u64,
    /// Up to this much is added to the delay, uniformly, microseconds.
    pub jitter_us: u64,
    /// Bits per second, IP and UDP headers included; `None` for no limit (and then no queue).
    pub rate_bps: Option<u64>,
    /// What may wait for the rate, the datagram being sent included, bytes. An idle link takes any
    /// one datagram.
    pub queue_bytes: u64,
    /// Loss on the wire.
    pub loss: Loss,
}

impl Default for LinkConfig {
    fn default() -> Self {
        LinkConfig {
            delay_us: 0,
            jitter_us: 0,
            rate_bps: None,
            queue_bytes: 256 << 10,
            loss: Loss::None,
        }
    }
}

impl LinkConfig {
    /// Refuse what no link can be; the error names the field.
    pub fn validate(&self) -> Result<(), LinkError> {
        check_delay("delay_us", self.delay_us)?;
        check_delay("jitter_us", self.jitter_us)?;
        if self.rate_bps == Some(0) {
            return Err(LinkError::new(
                "rate_bps",
                0,
                "must be above 0, or absent for no limit",
            ));
        }
        if self.queue_bytes == 0 {
            return Err(LinkError::new("queue_bytes", 0, "must be above 0"));
        }
        self.loss.validate()
    }
}

fn check_delay(field: &'static str, value_us: u64) -> Result<(), LinkError> {
    if value_us > DELAY_US_MAX {
        return Err(LinkError::new(field, value_us, "must be at most 60000000"));
    }
    Ok(())
}

impl Loss {
    fn validate(&self) -> Result<(), LinkError> {
        match *self {
            Loss::None => Ok(()),
            Loss::Random { p } if (0.0..=1.0).contains(&p) => Ok(()),
            Loss::Random { p } => Err(LinkError::new("loss.p", p, "must be from 0 to 1")),
            Loss::GilbertElliott { loss, .. } if !(0.0..1.0).contains(&loss) => Err(
                LinkError::new("loss.loss", loss, "must be from 0 to below 1"),
            ),
            Loss::GilbertElliott { burst, .. } if !(burst >= 1.0 && burst.is_finite()) => Err(
                LinkError::new("loss.burst", burst, "must be at least 1 packet"),
            ),
            Loss::GilbertElliott { loss, burst } if burst < loss / (1.0 - loss) => {
                Err(LinkError::new(
                    "loss.burst",
                    burst,
                    "is too short for this loss: must be at least loss / (1 - loss)",
                ))
            }
            Loss::GilbertElliott { .. } => Ok(()),
        }
    }
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
    fn new(field: &'static str, value: impl fmt::Display, rule: &'static str) -> Self {
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

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives at this time (microseconds, the clock of `now_us`).
    Deliver(u64),
    /// Lost on the wire.
    DropLoss,
    /// The queue was full.
    DropQueue,
    /// The link is down.
    DropDown,
}

/// Counters of one link since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Datagrams offered, whatever became of them.
    pub packets_in: u64,
    /// Bytes offered.
    pub bytes_in: u64,
    /// Datagrams delivered, or on their way.
    pub packets_delivered: u64,
    /// Bytes delivered, or on their way.
    pub bytes_delivered: u64,
    /// Datagrams lost on the wire.
    pub packets_lost: u64,
    /// Datagrams that met a full queue.
    pub packets_dropped_queue: u64,
    /// Datagrams that met a link that was down.
    pub packets_dropped_down: u64,
    /// Most bytes that ever waited.
    pub queue_bytes_peak: u64,
}

/// One direction of a path.
#[derive(Clone, Debug)]
pub struct Link {
    config: LinkConfig,
    up: bool,
    /// Apart, so that a change of jitter leaves the losses as they were.
    rng_loss: Rng,
    rng_jitter: Rng,
    burst_running: bool,
    /// When the last accepted datagram has left the queue.
    free_ns: u64,
    last_arrival_us: u64,
    stats: LinkStats,
}

impl Link {
    /// A link that is up. The same seed and the same datagrams give the same verdicts.
    pub fn new(config: LinkConfig, seed: u64) -> Result<Link, LinkError> {
        config.validate()?;
        let mut rng_loss = Rng::new(derive_seed(seed, 0));
        let burst_running = starts_in_burst(config.loss, &mut rng_loss);
        Ok(Link {
            config,
            up: true,
            rng_loss,
            rng_jitter: Rng::new(derive_seed(seed, 1)),
            burst_running,
            free_ns: 0,
            last_arrival_us: 0,
            stats: LinkStats::default(),
        })
    }

    /// What it is like now.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Its counters.
    pub fn stats(&self) -> &LinkStats {
        &self.stats
    }

    /// Whether it takes datagrams.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Change what the link is like. Datagrams under way keep their arrival times, and later ones do
    /// not overtake them.
    pub fn set_config(&mut self, config: LinkConfig) -> Result<(), LinkError> {
        config.validate()?;
        self.config = config;
        Ok(())
    }

    /// Cut or mend the link. Datagrams under way still arrive.
    pub fn set_up(&mut self, up: bool) {
        self.up = up;
    }

    /// A datagram of `bytes` (headers included, see [`wire_bytes`]) enters the link.
    pub fn send(&mut self, now_us: u64, bytes: usize) -> Verdict {
        let bytes = bytes as u64;
        self.stats.packets_in += 1;
        self.stats.bytes_in += bytes;
        if !self.up {
            self.stats.packets_dropped_down += 1;
            return Verdict::DropDown;
        }
        let Some(departure_ns) = self.pass_queue(now_us.saturating_mul(1_000), bytes) else {
            self.stats.packets_dropped_queue += 1;
            return Verdict::DropQueue;
        };
        let jitter_us = self.rng_jitter.up_to(self.config.jitter_us);
        if self.is_lost() {
            self.stats.packets_lost += 1;
            return Verdict::DropLoss;
        }
        let arrival_us = (departure_ns.div_ceil(1_000))
            .saturating_add(self.config.delay_us + jitter_us)
            .max(self.last_arrival_us);
        self.last_arrival_us = arrival_us;
        self.stats.packets_delivered += 1;
        self.stats.bytes_delivered += bytes;
        Verdict::Deliver(arrival_us)
    }

    /// When the datagram has been put on the wire; `None` if the queue has no room.
    fn pass_queue(&mut self, now_ns: u64, bytes: u64) -> Option<u64> {
        let Some(rate_bps) = self.config.rate_bps else {
            return Some(now_ns);
        };
        let start_ns = self.free_ns.max(now_ns);
        let waiting = scale(start_ns - now_ns, rate_bps, 8_000_000_000);
        let queue_bytes = waiting.saturating_add(bytes);
        if waiting > 0 && queue_bytes > self.config.queue_bytes {
            return None;
        }
        self.stats.queue_bytes_peak = self.stats.queue_bytes_peak.max(queue_bytes);
        self.free_ns = start_ns.saturating_add(scale(bytes, 8_000_000_000, rate_bps));
        Some(self.free_ns)
    }

    fn is_lost(&mut self) -> bool {
        match self.config.loss {
            Loss::None => false,
            Loss::Random { p } => self.rng_loss.unit() < p,
            Loss::GilbertElliott { loss, burst } => {
                let leave = 1.0 / burst;
                let enter = loss * leave / (1.0 - loss);
                let x = self.rng_loss.unit();
                self.burst_running = if self.burst_running {
                    x >= leave
                } else {
                    x < enter
                };
                self.burst_running
            }
        }
    }
}

/// The state before the first packet, so that the first packet too is lost with the loss share.
fn starts_in_burst(loss: Loss, rng: &mut Rng) -> bool {
    match loss {
        Loss::GilbertElliott { loss, .. } => rng.unit() < loss,
        _ => false,
    }
}

/// `value · multiplier / divisor`, rounded up, without overflow on the way.
fn scale(value: u64, multiplier: u64, divisor: u64) -> u64 {
    let wide = (u128::from(value) * u128::from(multiplier)).div_ceil(u128::from(divisor));
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// Size on the wire of a UDP payload sent to `destination`.
pub fn wire_bytes(payload_bytes: usize, destination: SocketAddr) -> usize {
    match destination {
        SocketAddr::V4(_) => payload_bytes + HEADER_BYTES_V4,
        SocketAddr::V6(_) => payload_bytes + HEADER_BYTES_V6,
    }
}
