//! Signs of life, both ways, and the round trip measured by them.
//!
//! QUIC's own probes tell this layer nothing (ARCHITECTURE.md, "Five rules", rule 3), so each end sends
//! heartbeats of its own: every 40 ms while media flows, every second otherwise. Each returns the
//! time stamp of the last one heard and how long ago that was; the difference is the round trip.
//!
//! Both ends must agree on the short interval, or the one that expects it takes the other for dead.
//! They do, whatever is lost: an end with media flowing says so in its heartbeats and its peer then
//! keeps the short interval too; after media ended both keep it for a while
//! ([`HopConfig::heartbeat_linger_ms`]), longer than the end of the flow takes to reach the other.
//! And when a flow begins, silence counts from one round trip later.

use super::config::{HopConfig, ms};
use super::error::HopError;
use super::wire::{Echo, Heartbeat};
use std::time::{Duration, Instant};

/// Liveness of one hop.
#[derive(Debug)]
pub(super) struct Heartbeats {
    config: HopConfig,
    epoch: Instant,
    /// When the next is to be sent.
    next_at: Instant,
    due: bool,
    /// The last data datagram, either way.
    media_at: Option<Instant>,
    /// When the flow that goes on began.
    media_since: Instant,
    /// The peer said that media flows.
    peer_media: bool,
    heard_at: Instant,
    silent: bool,
    /// Time stamp of the peer's last heartbeat and when it came.
    peer_time: Option<(u64, Instant)>,
    /// The last own time stamp that came back.
    echoed_us: Option<u64>,
}

/// Whether the peer became silent, or is heard again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    Silent,
    Heard,
}

impl Heartbeats {
    pub(super) fn new(config: HopConfig, now: Instant) -> Heartbeats {
        Heartbeats {
            config,
            epoch: now,
            next_at: now,
            due: true,
            media_at: None,
            media_since: now,
            peer_media: false,
            heard_at: now,
            silent: false,
            peer_time: None,
            echoed_us: None,
        }
    }

    /// Anything authenticated came from the peer.
    pub(super) fn handle_heard(&mut self, now: Instant) -> Option<Liveness> {
        self.heard_at = now;
        std::mem::take(&mut self.silent).then_some(Liveness::Heard)
    }

    /// A data datagram was sent or received.
    pub(super) fn handle_media(&mut self, now: Instant) {
        if !self.media_flows(now) {
            self.media_since = now;
            self.due = true;
        }
        self.media_at = Some(now);
    }

    /// A heartbeat came. Gives a sample of the round trip: time since ours was sent, and how long of
    /// it the peer held the answer.
    pub(super) fn handle_heartbeat(
        &mut self,
        now: Instant,
        heartbeat: Heartbeat,
    ) -> Result<Option<(Duration, Duration)>, HopError> {
        let sample = self.sample(now, heartbeat.echo)?;
        self.due |= heartbeat.media && !self.is_fast(now);
        self.peer_media = heartbeat.media;
        if self
            .peer_time
            .is_none_or(|(time_us, _)| heartbeat.time_us > time_us)
        {
            self.peer_time = Some((heartbeat.time_us, now));
        }
        Ok(sample)
    }

    fn sample(
        &mut self,
        now: Instant,
        echo: Option<Echo>,
    ) -> Result<Option<(Duration, Duration)>, HopError> {
        let Some(echo) = echo else { return Ok(None) };
        let age_us = self
            .time_us(now)
            .checked_sub(echo.time_us)
            .ok_or(HopError::EchoOfUnsent)?;
        if echo.hold_us > age_us {
            return Err(HopError::EchoOfUnsent);
        }
        if self.echoed_us.is_some_and(|before| before >= echo.time_us) {
            return Ok(None);
        }
        self.echoed_us = Some(echo.time_us);
        Ok(Some((
            Duration::from_micros(age_us),
            Duration::from_micros(echo.hold_us),
        )))
    }

    /// `answer_within`: how long the peer's answer takes in all likelihood.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        answer_within: Duration,
    ) -> Option<Liveness> {
        self.due |= self.next_at <= now;
        if self.silent || self.silent_at(answer_within) > now {
            return None;
        }
        self.silent = true;
        Some(Liveness::Silent)
    }

    pub(super) fn poll_timeout(&self, answer_within: Duration) -> Option<Instant> {
        let next = (!self.due).then_some(self.next_at);
        let silent = (!self.silent).then(|| self.silent_at(answer_within));
        next.into_iter().chain(silent).min()
    }

    /// The heartbeat, if one is due.
    pub(super) fn poll_heartbeat(&mut self, now: Instant) -> Option<Heartbeat> {
        self.due |= self.next_at <= now;
        if !std::mem::take(&mut self.due) {
            return None;
        }
        let interval = if self.is_fast(now) {
            self.config.heartbeat_ms
        } else {
            self.config.heartbeat_idle_ms
        };
        self.next_at = now + ms(interval);
        let echo = self.peer_time.map(|(time_us, at)| Echo {
            time_us,
            hold_us: micros(now.saturating_duration_since(at)),
        });
        Some(Heartbeat {
            media: self.media_flows(now),
            time_us: self.time_us(now),
            echo,
        })
    }

    fn media_flows(&self, now: Instant) -> bool {
        self.media_at
            .is_some_and(|at| now < at + ms(self.config.media_ms))
    }

    fn is_fast(&self, now: Instant) -> bool {
        let lingers = ms(self.config.media_ms + self.config.heartbeat_linger_ms);
        self.peer_media || self.media_at.is_some_and(|at| now < at + lingers)
    }

    /// When the peer counts as silent if nothing comes.
    fn silent_at(&self, answer_within: Duration) -> Instant {
        let idle = self.heard_at + ms(self.config.silent_idle_ms);
        let Some(media_at) = self.media_at.or(self.peer_media.then_some(self.heard_at)) else {
            return idle;
        };
        let answered_at = self.heard_at.max(self.media_since + answer_within);
        let fast = answered_at + ms(self.config.silent_ms);
        let flow_ends = media_at + ms(self.config.media_ms);
        if self.peer_media || fast <= flow_ends {
            fast.min(idle)
        } else {
            idle
        }
    }

    fn time_us(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.epoch))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .min(super::frame::VALUE_MAX)
}
