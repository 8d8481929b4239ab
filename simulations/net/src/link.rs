//! One direction of a path between two hosts: policer, rate and finite queue, propagation, jitter, loss.
//!
//! A datagram first meets the policer (what exceeds its bucket is lost), then the queue (drop-tail,
//! drained at the link's rate), then the wire, which may lose it for its size or by the link's
//! [`Loss`], and arrives after the propagation delay, its wandering part and a random share of the jitter.
//! Datagrams never overtake one another: one that would is held until its predecessor's arrival. Only
//! what `reorder` holds back is overtaken.
//!
//! Each kind of chance has a generator of its own, so that changing one leaves the others as they were.

use crate::delay::LogDelay;
use crate::link_config::{LinkConfig, LinkError};
use crate::loss::LossState;
use crate::rate::{bytes_between, end_of, tokens, tokens_of};
use crate::rng::{Rng, derive_seed};
use std::net::SocketAddr;

/// Header bytes that a UDP datagram has on the wire over IPv4 (20 + 8).
pub const HEADER_BYTES_V4: usize = 28;
/// Header bytes that a UDP datagram has on the wire over IPv6 (40 + 8).
pub const HEADER_BYTES_V6: usize = 48;

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives at this time (microseconds, the clock of `now_us`).
    Deliver(u64),
    /// It arrives twice, at these times.
    DeliverTwice(u64, u64),
    /// Lost on the wire.
    DropLoss,
    /// The queue was full.
    DropQueue,
    /// Beyond the policer's bucket.
    DropPolicer,
    /// Larger than the link takes.
    DropMtu,
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
    /// Datagrams lost on the wire, those lost for their size included.
    pub packets_lost: u64,
    /// Datagrams lost on the wire for their size (`large_loss`).
    pub packets_lost_large: u64,
    /// Datagrams that met a full queue.
    pub packets_dropped_queue: u64,
    /// Datagrams beyond the policer's bucket.
    pub packets_dropped_policer: u64,
    /// Datagrams larger than the link takes.
    pub packets_dropped_mtu: u64,
    /// Datagrams that met a link that was down.
    pub packets_dropped_down: u64,
    /// Datagrams that arrive twice; the copies count nowhere else.
    pub packets_duplicated: u64,
    /// Datagrams held back, to be overtaken.
    pub packets_reordered: u64,
    /// Most bytes that ever waited.
    pub queue_bytes_peak: u64,
}

/// One direction of a path.
#[derive(Clone, Debug)]
pub struct Link {
    config: LinkConfig,
    up: bool,
    rng_loss: Rng,
    rng_jitter: Rng,
    rng_large: Rng,
    rng_order: Rng,
    loss: LossState,
    log_delay: LogDelay,
    policer: Policer,
    /// When the last accepted datagram has left the queue.
    free_ns: u64,
    last_arrival_us: u64,
    stats: LinkStats,
}

impl Link {
    /// A link that is up. The same seed and the same datagrams give the same verdicts.
    pub fn new(config: LinkConfig, seed: u64) -> Result<Link, LinkError> {
        config.validate()?;
        let rng = |part| Rng::new(derive_seed(seed, part));
        let mut rng_loss = rng(0);
        let loss = LossState::new(config.loss.clone(), &mut rng_loss);
        Ok(Link {
            policer: Policer::full(&config),
            config,
            up: true,
            rng_loss,
            rng_jitter: rng(1),
            rng_large: rng(2),
            rng_order: rng(3),
            loss,
            log_delay: LogDelay::new(derive_seed(seed, 4)),
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

    /// How long what waits now will take to leave.
    pub fn backlog_us(&self, now_us: u64) -> u64 {
        self.free_ns.saturating_sub(now_us.saturating_mul(1_000)) / 1_000
    }

    /// Whether it takes datagrams.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Change what the link is like. Datagrams under way keep their arrival times, and later ones do
    /// not overtake them.
    pub fn set_config(&mut self, config: LinkConfig) -> Result<(), LinkError> {
        config.validate()?;
        if config.loss != *self.loss.loss() {
            self.loss = LossState::new(config.loss.clone(), &mut self.rng_loss);
        }
        if config.delay_redraw_us != self.config.delay_redraw_us {
            self.log_delay.forget();
        }
        if (config.policer_bps, config.policer_burst_bytes)
            != (self.config.policer_bps, self.config.policer_burst_bytes)
        {
            self.policer = Policer::full(&config);
        }
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
        if bytes > self.config.mtu_bytes {
            self.stats.packets_dropped_mtu += 1;
            return Verdict::DropMtu;
        }
        let now_ns = now_us.saturating_mul(1_000);
        if !self.policer.takes(&self.config, now_ns, bytes) {
            self.stats.packets_dropped_policer += 1;
            return Verdict::DropPolicer;
        }
        let Some(departure_ns) = self.pass_queue(now_ns, bytes) else {
            self.stats.packets_dropped_queue += 1;
            return Verdict::DropQueue;
        };
        let departure_us = departure_ns.div_ceil(1_000);
        let jitter_us = self.rng_jitter.up_to(self.config.jitter_us);
        if self.is_lost(departure_us, bytes) {
            self.stats.packets_lost += 1;
            return Verdict::DropLoss;
        }
        self.stats.packets_delivered += 1;
        self.stats.bytes_delivered += bytes;
        self.deliver(departure_us, jitter_us)
    }

    /// When the datagram has been put on the wire; `None` if the queue has no room.
    fn pass_queue(&mut self, now_ns: u64, bytes: u64) -> Option<u64> {
        if self.config.rate_bps.is_none() && self.config.rate_schedule.is_empty() {
            return Some(now_ns);
        }
        let start_ns = self.free_ns.max(now_ns);
        let waiting = bytes_between(&self.config, now_ns, start_ns);
        let queue_bytes = waiting.saturating_add(bytes);
        if start_ns > now_ns && queue_bytes > self.config.queue_bytes {
            return None;
        }
        self.free_ns = end_of(&self.config, start_ns, bytes)?;
        self.stats.queue_bytes_peak = self.stats.queue_bytes_peak.max(queue_bytes);
        Some(self.free_ns)
    }

    fn is_lost(&mut self, at_us: u64, bytes: u64) -> bool {
        let is_large = self.config.large_loss > 0.0 && bytes > self.config.large_bytes;
        if is_large && self.rng_large.unit() < self.config.large_loss {
            self.stats.packets_lost_large += 1;
            return true;
        }
        self.loss.is_lost(at_us, &mut self.rng_loss)
    }

    fn deliver(&mut self, departure_us: u64, jitter_us: u64) -> Verdict {
        let config = &self.config;
        let wander_us = self.log_delay.at_us(config, departure_us);
        let at_us = departure_us
            .saturating_add(config.delay_us + wander_us + jitter_us)
            .max(self.last_arrival_us);
        if config.reorder > 0.0 && self.rng_order.unit() < config.reorder {
            self.stats.packets_reordered += 1;
            return Verdict::Deliver(at_us.saturating_add(config.reorder_us));
        }
        self.last_arrival_us = at_us;
        if config.duplicate > 0.0 && self.rng_order.unit() < config.duplicate {
            self.stats.packets_duplicated += 1;
            return Verdict::DeliverTwice(at_us, at_us);
        }
        Verdict::Deliver(at_us)
    }
}

/// A token bucket (RFC 2697's committed part): full at first, filled at the policer's rate.
#[derive(Clone, Debug)]
struct Policer {
    tokens: u128,
    last_ns: u64,
}

impl Policer {
    fn full(config: &LinkConfig) -> Policer {
        Policer {
            tokens: tokens_of(config.policer_burst_bytes),
            last_ns: 0,
        }
    }

    fn takes(&mut self, config: &LinkConfig, now_ns: u64, bytes: u64) -> bool {
        let Some(rate_bps) = config.policer_bps else {
            return true;
        };
        let gained = tokens(rate_bps, now_ns.saturating_sub(self.last_ns));
        self.last_ns = self.last_ns.max(now_ns);
        self.tokens = (self.tokens + gained).min(tokens_of(config.policer_burst_bytes));
        let Some(left) = self.tokens.checked_sub(tokens_of(bytes)) else {
            return false;
        };
        self.tokens = left;
        true
    }
}

/// Size on the wire of a UDP payload sent to `destination`.
pub fn wire_bytes(payload_bytes: usize, destination: SocketAddr) -> usize {
    match destination {
        SocketAddr::V4(_) => payload_bytes + HEADER_BYTES_V4,
        SocketAddr::V6(_) => payload_bytes + HEADER_BYTES_V6,
    }
}
