//! Signs of life, both ways, and the round trip measured by them.
//!
//! QUIC's own probes tell this layer nothing (ARCHITECTURE.md, "Rules that cost something to learn"),
//! so each end sends heartbeats of its own: every 40 ms while media flows or may begin to at any time (a standby
//! upstream), every second otherwise. Each returns the time stamp of the last one heard and how long
//! ago that was; the difference is the round trip.
//!
//! Both ends must agree on the short interval, or the one that expects it takes the other for dead.
//! They do, whatever is lost: an end that keeps it says so in its heartbeats and its peer then
//! keeps it too; after media ended both keep it for a while ([`HopConfig::heartbeat_linger_ms`]),
//! longer than the end of the flow takes to reach the other. And when a flow begins, silence counts from
//! one round trip later.
//!
//! The peer is *silent* if it is mute or deaf:
//!
//! - *mute*: nothing authenticated came from it for the silence time;
//! - *deaf*: nothing that we sent within the silence time and a round trip was acknowledged, by QUIC, by
//!   the hop or by the echo of a heartbeat. A link that is cut in one direction only shows in this
//!   way to the end that still hears: whoever cannot be asked for repairs is no upstream.
//!
//! Short of that it is *in doubt*, by the same two signs, after a time that two heartbeats have to be lost for, with
//! 10 ms for jitter. Doubt decides nothing. It is there so that what would be asked for after the silence
//! time can be on its way already.
//!
//! Where losses come in runs, more heartbeats are sent than one every 40 ms: the peer asks for it
//! (arrivals.rs), as a mean distance of packets. What it wants are so many packets within a silence time, and a
//! picture is many at once: each packet with a number stands for one distance, as far as the next heartbeat at
//! 40 ms, and only what they leave open is filled. But behind the last packet of a picture [`TAIL_PROBES`] follow
//! at that distance, whatever stands: they show the peer at once what it lacks of the picture's end. How a link
//! loses is not known when a flow begins, so packets of any kind are close together for its first second.

use super::config::{HopConfig, ms};
use super::error::HopError;
use super::wire::{Echo, Heartbeat};
use std::time::{Duration, Instant};

/// The peer is silent, when idle, only after this many of its own intervals.
const IDLE_INTERVALS: u32 = 3;
/// Requests make heartbeats close together again only after this many times `heartbeat_start_ms`.
const START_AGAIN: u32 = 3;
/// Heartbeats behind the last of several packets at once.
const TAIL_PROBES: u32 = 2;
/// No longer interval is believed.
const INTERVAL_MAX: Duration = Duration::from_secs(20);

/// Liveness of one hop.
#[derive(Debug)]
pub(super) struct Heartbeats {
    config: HopConfig,
    epoch: Instant,
    /// When the next is to be sent.
    next_at: Instant,
    due: bool,
    /// The last packet of any kind to the peer.
    sent_at: Instant,
    /// The last one with a number, of data or a heartbeat.
    number_sent_at: Instant,
    /// Up to when those stand for the packets that the peer wants.
    covered_until: Instant,
    /// The last one with data.
    data_sent_at: Instant,
    /// Heartbeats that are still to follow the last of several packets at once.
    probes: u32,
    /// The last data datagram, either way.
    media_at: Option<Instant>,
    /// When the flow that goes on began.
    media_since: Instant,
    /// Media may begin to flow at any time; when that was so last.
    watched: bool,
    watched_at: Option<Instant>,
    /// The peer keeps the short interval.
    peer_media: bool,
    /// Since when the peer is to answer in short intervals: a flow began, or it told of its own.
    fast_since: Instant,
    /// When heartbeats were last sent close together because the link was not known.
    dense_since: Instant,
    /// How closely our packets are to follow one another, by the peer's wish.
    peer_gap: Option<Duration>,
    peer_interval: Duration,
    heard_at: Instant,
    mute: bool,
    /// When the latest was sent of what is known to have arrived.
    acknowledged_at: Instant,
    deaf: bool,
    in_doubt: bool,
    /// Because it seems deaf.
    deaf_in_doubt: bool,
    /// Time stamp of the peer's last heartbeat and when it came.
    peer_time: Option<(u64, Instant)>,
    /// The last own time stamp that came back.
    echoed_us: Option<u64>,
    /// Mean variation of the transit times of heartbeats, µs times 16.
    spacing_us16: u64,
}

/// Whether the peer became silent, or is heard again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    Silent,
    Heard,
}

/// What the echo in a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echoed {
    /// When ours was sent.
    pub sent_at: Instant,
    /// Time since then, and how much of it the peer held the answer.
    pub sample: (Duration, Duration),
}

impl Heartbeats {
    pub(super) fn new(config: HopConfig, now: Instant) -> Heartbeats {
        Heartbeats {
            config,
            epoch: now,
            next_at: now,
            due: true,
            sent_at: now,
            number_sent_at: now,
            covered_until: now,
            data_sent_at: now,
            probes: 0,
            media_at: None,
            media_since: now,
            watched: false,
            watched_at: None,
            peer_media: false,
            fast_since: now,
            dense_since: now,
            peer_gap: None,
            peer_interval: Duration::ZERO,
            heard_at: now,
            mute: false,
            acknowledged_at: now,
            deaf: false,
            in_doubt: false,
            deaf_in_doubt: false,
            peer_time: None,
            echoed_us: None,
            spacing_us16: 0,
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.mute || self.deaf
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt || self.is_silent()
    }

    /// How long nothing was heard.
    pub(super) fn unheard(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard_at)
    }

    /// How long nothing was heard, or an acknowledgement is overdue, whichever is longer.
    pub(super) fn silence(&self, now: Instant, rtt: Duration) -> Duration {
        let unacknowledged = now.saturating_duration_since(self.acknowledged_at);
        self.unheard(now).max(unacknowledged.saturating_sub(rtt))
    }

    pub(super) fn spacing_us(&self) -> u64 {
        self.spacing_us16 / 16
    }

    /// Anything authenticated came from the peer.
    pub(super) fn handle_heard(&mut self, now: Instant) -> Option<Liveness> {
        let was_silent = self.is_silent();
        self.heard_at = now;
        self.mute = false;
        // Of a deaf peer something is heard all the time.
        self.in_doubt &= self.deaf_in_doubt;
        self.change(was_silent)
    }

    /// Something that was sent at `sent` is known to have arrived.
    pub(super) fn handle_acknowledged(
        &mut self,
        now: Instant,
        sent: Instant,
        answer_within: Duration,
    ) -> Option<Liveness> {
        let was_silent = self.is_silent();
        self.acknowledged_at = self.acknowledged_at.max(sent);
        self.deaf &= self.deaf_at(answer_within) <= now;
        let doubt = ms(self.config.doubt_ms);
        self.deaf_in_doubt &= self.deaf_after(doubt, answer_within) <= now;
        self.in_doubt &= self.deaf_in_doubt || self.mute_after(doubt, answer_within) <= now;
        self.change(was_silent)
    }

    /// A data datagram was sent or received.
    pub(super) fn handle_media(&mut self, now: Instant) {
        self.begin_flow(now, true);
        self.media_at = Some(now);
    }

    /// Media may begin to flow at any time (or no longer): the short interval is kept without any.
    pub(super) fn set_watched(&mut self, now: Instant, watched: bool) {
        if watched {
            self.begin_flow(now, true);
        }
        if watched || self.watched {
            // After it, as after a flow, the short interval goes on until the peer has heard of it.
            self.watched_at = Some(now);
        }
        self.watched = watched;
    }

    /// The peer was asked for something: the short interval is kept for as long as after a flow.
    pub(super) fn expect_answer(&mut self, now: Instant) {
        self.begin_flow(now, self.is_forgotten(now));
        self.watched_at = Some(now);
    }

    /// A heartbeat came.
    pub(super) fn handle_heartbeat(
        &mut self,
        now: Instant,
        heartbeat: Heartbeat,
    ) -> Result<Option<Echoed>, HopError> {
        let echoed = self.echoed(now, heartbeat.echo)?;
        if heartbeat.media {
            self.due |= !self.is_fast(now);
            if !self.peer_media && !self.flows(now) {
                self.fast_since = now;
                if self.is_forgotten(now) {
                    self.dense_since = now;
                }
            }
        }
        self.peer_media = heartbeat.media;
        self.peer_interval = Duration::from_micros(heartbeat.interval_us).min(INTERVAL_MAX);
        let gap = Duration::from_micros(heartbeat.gap_us).max(ms(self.config.heartbeat_gap_ms));
        self.peer_gap = (heartbeat.gap_us > 0).then_some(gap);
        if self
            .peer_time
            .is_none_or(|(time_us, _)| heartbeat.time_us > time_us)
        {
            self.note_spacing(now, heartbeat.time_us);
            self.peer_time = Some((heartbeat.time_us, now));
        }
        Ok(echoed)
    }

    /// RFC 3550 §6.4.1, with the peer's own clock.
    fn note_spacing(&mut self, now: Instant, time_us: u64) {
        let Some((before_us, before)) = self.peer_time else {
            return;
        };
        let sent_us = time_us - before_us;
        let arrived_us = micros(now.saturating_duration_since(before));
        // A peer with an absurd clock is not to make the mean absurd for long.
        let variation_us = sent_us.abs_diff(arrived_us).min(micros(INTERVAL_MAX));
        self.spacing_us16 = self.spacing_us16 - self.spacing_us16 / 16 + variation_us;
    }

    fn echoed(&mut self, now: Instant, echo: Option<Echo>) -> Result<Option<Echoed>, HopError> {
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
        let (age, held) = (
            Duration::from_micros(age_us),
            Duration::from_micros(echo.hold_us),
        );
        Ok(Some(Echoed {
            sent_at: self.epoch + Duration::from_micros(echo.time_us),
            sample: (age, held),
        }))
    }

    /// `answer_within`: how long the peer's answer takes in all likelihood.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        answer_within: Duration,
    ) -> Option<Liveness> {
        let was_silent = self.is_silent();
        self.note_own_pause(now);
        self.due |= self.due_at() <= now;
        let doubt = ms(self.config.doubt_ms);
        self.deaf_in_doubt |= self.deaf_after(doubt, answer_within) <= now;
        self.in_doubt |= self.deaf_in_doubt || self.mute_after(doubt, answer_within) <= now;
        self.mute |= self.mute_at(answer_within) <= now;
        self.deaf |= self.deaf_at(answer_within) <= now;
        self.change(was_silent)
    }

    /// Who sent nothing himself for so long, because he did not run, cannot have been answered either.
    fn note_own_pause(&mut self, now: Instant) {
        if now.saturating_duration_since(self.sent_at) >= ms(self.config.silent_ms)
            && self.is_fast(now)
        {
            self.fast_since = now;
            self.dense_since = now;
            self.sent_at = now;
        }
    }

    pub(super) fn poll_timeout(&self, answer_within: Duration) -> Option<Instant> {
        let next = (!self.due).then(|| self.due_at());
        let in_doubt = (!self.is_in_doubt()).then(|| {
            let doubt = ms(self.config.doubt_ms);
            let mute = self.mute_after(doubt, answer_within);
            mute.min(self.deaf_after(doubt, answer_within))
        });
        // Asked after every packet: what certainly comes later is not reckoned.
        let is_first = in_doubt.is_some() && self.config.doubt_ms <= self.config.silent_ms;
        let mute = (!is_first && !self.mute).then(|| self.mute_at(answer_within));
        let deaf = (!is_first && !self.deaf).then(|| self.deaf_at(answer_within));
        [next, mute, deaf, in_doubt].into_iter().flatten().min()
    }

    /// Whether it will be in doubt now that the peer hears us, unless an acknowledgement of QUIC's is known.
    pub(super) fn wants_acknowledged(&self, now: Instant, answer_within: Duration) -> bool {
        self.deaf || self.deaf_after(ms(self.config.doubt_ms), answer_within) <= now
    }

    /// A packet of any kind goes to the peer.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.note_own_pause(now);
        self.sent_at = now;
    }

    /// One with a number does. Of no others does the peer know how many are lost in a row, so that no others stand
    /// for those that it wants.
    pub(super) fn handle_number_sent(&mut self, now: Instant) {
        self.handle_sent(now);
        if let Some(gap) = self.peer_gap {
            let most = now + ms(self.config.heartbeat_ms);
            self.covered_until = (self.covered_until.max(now) + gap).min(most);
            self.probes = self.probes.saturating_sub(1);
        }
        self.number_sent_at = now;
    }

    /// And one of those that has data.
    pub(super) fn handle_data_sent(&mut self, now: Instant) {
        self.handle_number_sent(now);
        let gap = self.peer_gap.unwrap_or_default();
        if now < self.data_sent_at + gap {
            self.probes = TAIL_PROBES;
        }
        self.data_sent_at = now;
        self.handle_media(now);
    }

    /// The heartbeat, if one is due, under the number that `seq` gives; only then is the gap asked for.
    pub(super) fn poll_heartbeat(
        &mut self,
        now: Instant,
        wanted_gap: impl FnOnce() -> Option<Duration>,
        seq: impl FnOnce() -> u64,
    ) -> Option<Heartbeat> {
        self.due |= self.due_at() <= now;
        if !std::mem::take(&mut self.due) {
            return None;
        }
        let is_fast = self.is_fast(now);
        let interval = ms(if is_fast {
            self.config.heartbeat_ms
        } else {
            self.config.heartbeat_idle_ms
        });
        self.next_at = now + interval;
        let echo = self.peer_time.map(|(time_us, at)| Echo {
            time_us,
            hold_us: micros(now.saturating_duration_since(at)),
        });
        Some(Heartbeat {
            seq: seq(),
            media: self.flows(now),
            time_us: self.time_us(now),
            interval_us: micros(interval),
            gap_us: wanted_gap().map_or(0, micros),
            echo,
        })
    }

    /// Media flowed a moment ago.
    pub(super) fn has_media(&self, now: Instant) -> bool {
        self.media_at
            .is_some_and(|at| now < at + ms(self.config.media_ms))
    }

    fn change(&self, was_silent: bool) -> Option<Liveness> {
        match (was_silent, self.is_silent()) {
            (false, true) => Some(Liveness::Silent),
            (true, false) => Some(Liveness::Heard),
            _ => None,
        }
    }

    /// Media flows, or may begin to at any time.
    fn flows(&self, now: Instant) -> bool {
        let flowed = self.flowed_at();
        self.watched || flowed.is_some_and(|at| now < at + ms(self.config.media_ms))
    }

    /// When media flowed last, or might have begun to.
    fn flowed_at(&self) -> Option<Instant> {
        self.media_at.max(self.watched_at)
    }

    /// Whether the short interval is kept then, as things are.
    fn is_fast(&self, at: Instant) -> bool {
        let lingers = ms(self.config.media_ms + self.config.heartbeat_linger_ms);
        let flowed = self.flowed_at();
        self.watched || self.peer_media || flowed.is_some_and(|last| at < last + lingers)
    }

    /// Called before the flow is noted.
    fn begin_flow(&mut self, now: Instant, dense: bool) {
        if !self.flows(now) {
            self.media_since = now;
            self.fast_since = now;
            self.due = true;
            if dense {
                self.dense_since = now;
            }
        }
    }

    /// Whether what was learnt of the link is too old: requests that are repeated need not learn it anew.
    fn is_forgotten(&self, now: Instant) -> bool {
        now >= self.dense_since + ms(self.config.heartbeat_start_ms) * START_AGAIN
    }

    fn due_at(&self) -> Instant {
        let start_gap = self.sent_at + ms(self.config.heartbeat_start_gap_ms);
        let is_young = start_gap < self.dense_since + ms(self.config.heartbeat_start_ms);
        let wanted = self.peer_gap.map(|gap| match self.probes {
            0 => self.covered_until.max(self.number_sent_at + gap),
            _ => self.number_sent_at + gap,
        });
        let closer = wanted.into_iter().chain(is_young.then_some(start_gap));
        let closer = closer.filter(|at| self.is_fast(*at)).min();
        closer.map_or(self.next_at, |at| at.min(self.next_at))
    }

    /// When the peer counts as mute if nothing comes.
    fn mute_at(&self, answer_within: Duration) -> Instant {
        self.mute_after(ms(self.config.silent_ms), answer_within)
    }

    /// When it is after so much silence, where it keeps the short interval.
    fn mute_after(&self, silence: Duration, answer_within: Duration) -> Instant {
        let intervals = self.peer_interval * IDLE_INTERVALS;
        let idle = self.heard_at + intervals.max(ms(self.config.silent_idle_ms));
        let answered_at = self.heard_at.max(self.media_since + answer_within);
        let fast = answered_at + silence;
        if self.answers_fast(fast) {
            fast.min(idle)
        } else {
            idle
        }
    }

    /// When the peer counts as deaf if nothing is acknowledged.
    fn deaf_at(&self, answer_within: Duration) -> Instant {
        self.deaf_after(ms(self.config.silent_ms), answer_within)
    }

    fn deaf_after(&self, silence: Duration, answer_within: Duration) -> Instant {
        let intervals = ms(self.config.heartbeat_idle_ms) * IDLE_INTERVALS;
        let patience = intervals.max(ms(self.config.silent_idle_ms)) + self.peer_interval;
        let idle = self.acknowledged_at + patience + answer_within;
        let sent_since = self.acknowledged_at.max(self.fast_since);
        let fast = sent_since + silence + answer_within;
        if self.answers_fast(fast) {
            fast.min(idle)
        } else {
            idle
        }
    }

    /// Whether the peer certainly keeps the short interval up to then: it does so as long as we say that
    /// something flows, and for a while after its own flow.
    fn answers_fast(&self, until: Instant) -> bool {
        let flowed = self.flowed_at();
        let flows = flowed.is_some_and(|at| until <= at + ms(self.config.media_ms));
        self.watched || self.peer_media || flows
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
