//! The controller itself: one judgement a round. The theory stands in [`crate::congestion`].

mod compete;
mod down;

use super::config::MediaConfig;
use super::good::Good;
use super::policer::Policer;
use super::recent::Recent;
use super::round::{Base, ROUND_MIN, Round, bytes_in, per_second, scale};
use super::shift::{LEVEL, Shift};
use super::startup::{self, Outcome, Startup};
use super::steps::Steps;
use super::wander::Wander;
use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerMetrics};
use std::any::Any;
use std::time::{Duration, Instant};

/// Most that the window grows to in the beginning.
const STARTUP_WINDOW_MAX: u64 = 16 << 20;
/// A step up is a packet a round trip, below this rate, bytes/s, as much less as the root of it says; it is
/// doubled after every so many calm ones. What the rate may be above what comes through.
const UP_RATE: u64 = 250_000;
/// Below this rate, bytes/s, a round takes longer than a round trip.
const SLOW_RATE: u64 = 50_000;
/// So much of the rate is all of it.
const USED: (u64, u64) = (80, 100);
const SQRT_UNIT: u64 = 1 << 20;
const UP_CALM_ROUNDS: u32 = 12;
const UP_DOUBLINGS_MAX: u32 = 6;
const UP_SHARE: (u64, u64) = (25, 100);
/// What the rate may be above the delivered one when a queue is found.
const HEADROOM: (u64, u64) = (110, 100);
/// A mark of congestion (RFC 3168, RFC 8511) counts this much.
const ECN_DOWN: (u64, u64) = (85, 100);
/// No link takes longer for a packet.
const PACKET_TIME_MAX: Duration = Duration::from_millis(100);
/// The bound of a queue is never beyond so many of the configured one, however much a path's delay wanders.
const QUEUE_BOUND_MAX: u32 = 5;
/// The window never falls below this many packets.
const WINDOW_PACKETS_MIN: u64 = 8;
/// Worth of sending in one go, and its bounds in packets: no fewer than QUIC's pacer lets out at once anyway, or every
/// frame would cost several system calls.
const QUANTUM: Duration = Duration::from_millis(2);
const QUANTUM_PACKETS: (u64, u64) = (10, 44);
/// Taken for the round trip before the first is known.
const RTT_UNKNOWN: Duration = Duration::from_millis(100);

/// What the controller makes of the path now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Slow start.
    Startup(Startup),
    /// The queue is kept short.
    Delay,
    /// Someone else fills the queue.
    /// Rounds in which it was empty, and in which we were above what came through.
    Competing {
        since: Instant,
        empty: u32,
        over: u32,
    },
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaFigures {
    /// What a sender may count on, bytes/s: the rate, or where it goes when a queue has drained.
    pub usable: u64,
    /// Greatest delivery rate of the last rounds, bytes/s.
    pub delivered: u64,
    /// What the pacer lets out, bytes/s.
    pub pacing: u64,
    /// Standing queue of the last round.
    pub queue_delay: Duration,
    /// A cap was found (a policer).
    pub is_capped: bool,
    /// Another flow fills the queue.
    pub is_competing: bool,
}

/// The media controller of one path.
#[derive(Clone, Debug)]
pub struct MediaController {
    config: MediaConfig,
    mtu: u64,
    rate: u64,
    mode: Mode,
    srtt: Option<Duration>,
    round: Round,
    /// Until then a queue is somebody else's, as the last one was.
    foreign_until: Option<Instant>,
    /// The last step down and the last step up: what was sent before does not show their effect.
    lowered_at: Option<Instant>,
    raised_at: Option<Instant>,
    /// The rate before the last step up.
    rate_unraised: u64,
    is_raise_shown: bool,
    /// Rounds in a row with a queue that nothing was done about yet, and the greatest of them.
    suspected: u32,
    suspected_queue: Duration,
    steps: Steps,
    calm: u32,
    /// A rate that was held until a queue came which may not have been ours, and when that was.
    return_to: u64,
    queue_at: Option<Instant>,
    good: Good,
    base: Base,
    shift: Shift,
    wander: Wander,
    queue_delay: Duration,
    /// Greatest standing queue since someone competes.
    queue_delay_peak: Duration,
    recent: Recent,
    policer: Policer,
}

impl MediaController {
    /// A controller that starts at the configured rate.
    pub fn new(config: MediaConfig, now: Instant, mtu: u16) -> MediaController {
        let mtu = u64::from(mtu).max(1);
        let mode = match config.startup {
            true => Mode::Startup(Startup::new(first_window(&config, mtu))),
            false => Mode::Delay,
        };
        MediaController {
            config,
            mtu,
            rate: config.clamp(config.rate_initial),
            mode,
            srtt: None,
            round: Round::new(now),
            foreign_until: None,
            lowered_at: None,
            raised_at: None,
            rate_unraised: 0,
            is_raise_shown: true,
            suspected: 0,
            suspected_queue: Duration::ZERO,
            steps: Steps::default(),
            calm: 0,
            return_to: 0,
            queue_at: None,
            good: Good::default(),
            base: Base::new(now),
            shift: Shift::new(now),
            wander: Wander::default(),
            queue_delay: Duration::ZERO,
            queue_delay_peak: Duration::ZERO,
            recent: Recent::default(),
            policer: Policer::new(config.loss_max_permille),
        }
    }

    /// The rate it paces at, bytes/s.
    pub fn rate(&self) -> u64 {
        let rate = match &self.mode {
            Mode::Startup(startup) => self.rate.max(startup.rate(self.rtt())),
            _ => self.rate,
        };
        self.config.clamp(rate.min(self.cap()))
    }

    /// Figures for metrics.
    pub fn figures(&self) -> MediaFigures {
        let after_steps = if self.steps.is_any() {
            self.steps.resume
        } else {
            0
        };
        MediaFigures {
            usable: self.rate().max(after_steps.min(self.cap())),
            delivered: self.recent.delivered_max(),
            pacing: self.rate(),
            queue_delay: self.queue_delay,
            is_capped: self.policer.cap().is_some(),
            is_competing: matches!(self.mode, Mode::Competing { .. }),
        }
    }

    fn rtt(&self) -> Duration {
        self.srtt.unwrap_or(RTT_UNKNOWN)
    }

    fn cap(&self) -> u64 {
        self.policer.cap().unwrap_or(u64::MAX)
    }

    fn set_rate(&mut self, rate: u64) {
        self.rate = self.config.clamp(rate);
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) {
        let rtt = now.saturating_duration_since(sent);
        self.base.note(now, rtt);
        if let Some(rtt) = self.shift.note(now, rtt, self.wander.level()) {
            self.take_longer_path(now, rtt);
        }
        if self.ends_round(now, sent) {
            self.end_round(now);
        }
        let is_prompt = self
            .base
            .get()
            .is_none_or(|base| rtt <= base + self.config.queue_delay_max.max(base / 4));
        if let Mode::Startup(startup) = &mut self.mode
            && is_prompt
            && !app_limited
        {
            startup.grow(bytes, STARTUP_WINDOW_MAX);
        }
        self.round.add(sent, rtt, bytes, app_limited);
    }

    /// Where the queue is kept short it is looked at as often as it can be told; elsewhere growth is what
    /// counts, a round trip at a time.
    fn ends_round(&self, now: Instant, sent: Instant) -> bool {
        match self.mode {
            Mode::Startup(_) => {
                sent >= self.round.start && self.round.is_over(now, startup::ROUND_MIN)
            }
            Mode::Delay => self.round.is_over(now, ROUND_MIN),
            Mode::Competing { .. } => {
                sent >= self.round.start && self.round.is_over(now, ROUND_MIN)
            }
        }
    }

    /// The path takes longer than it did, and nothing queues.
    fn take_longer_path(&mut self, now: Instant, rtt: Duration) {
        if self.base.get().is_none_or(|base| rtt <= base + LEVEL) {
            return;
        }
        self.base.reset(now, rtt);
        self.suspected = 0;
        let steps = std::mem::take(&mut self.steps);
        if steps.is_any() {
            self.set_rate(steps.rate_before);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        let (Some(rtt), Some(base)) = (round.rtt_min, self.base.get()) else {
            return;
        };
        let policer = &self.policer;
        self.recent
            .note(now, &round, |rate| policer.with_usual_loss(rate));
        self.queue_delay = rtt.saturating_sub(base);
        self.wander.note_spread(round.spread());
        let has_queue = self.queue_delay > self.queue_bound(round.is_limited());
        self.policer.end_round(now, &round, has_queue);
        if has_queue && self.shift.is_open() {
            return;
        }
        self.is_raise_shown = round.is_after(self.raised_at);
        let has_drained = self.steps.is_any() && self.is_short(self.config.queue_delay_max);
        let is_shown = round.is_after(self.lowered_at);
        if has_drained
            && round.is_before(self.lowered_at)
            && self.steps.is_first()
            && round.is_limited()
        {
            // Gone before the step could show: it was not the rate.
            self.wander.note(self.steps.queue());
            self.steps.resume = self.steps.rate_before;
        }
        let is_worse = self.is_deep() && self.recent.delivered_of_two() < self.rate * 3 / 4;
        if !is_shown && !has_drained && !is_worse {
            return;
        }
        match self.mode {
            Mode::Startup(startup) => self.start_up(now, &round, startup),
            Mode::Delay => self.keep_short(now, &round),
            Mode::Competing { since, empty, over } => {
                self.compete(now, &round, since, (empty, over));
            }
        }
        if let Some(cap) = self.policer.cap()
            && !self.policer.is_testing()
        {
            // What lies above a cap was never tried; a test that acquits leaves the rate as it was.
            self.rate = self.rate.min(scale(cap, HEADROOM.0, HEADROOM.1));
        }
    }

    /// Standing delay that is a queue: not what a slow link takes for a packet, nor what comes and goes. Where
    /// the application limits, delay is hardly our doing; only a bottleneck below what the application sends
    /// makes a queue, and that soon grows beyond any bound.
    fn queue_bound(&self, is_limited: bool) -> Duration {
        let most = QUEUE_BOUND_MAX * self.config.queue_delay_max;
        let is_ours = match self.steps.is_any() {
            true => self.steps.was_limited,
            false => is_limited,
        };
        if !is_ours {
            return most;
        }
        let wander = self.wander.level();
        (wander + wander / 4)
            .max(2 * self.packet_time())
            .max(self.config.queue_delay_max + self.wander.noise() / 2)
            .min(most)
    }

    /// The queue is less than half of what it may be.
    fn is_short(&self, bound: Duration) -> bool {
        self.queue_delay <= bound / 2 + self.packet_time() + self.wander.noise()
    }

    /// What the bottleneck takes for a packet, which is no queue.
    fn packet_time(&self) -> Duration {
        let rate = self.recent.through_max().max(self.config.clamp(0));
        let time = Duration::from_nanos(scale(self.mtu, 1_000_000_000, rate));
        time.min(PACKET_TIME_MAX)
    }

    fn start_up(&mut self, now: Instant, round: &Round, mut startup: Startup) {
        if !round.is_limited() {
            self.wander.note(self.queue_delay);
        }
        if self.policer.is_testing() {
            return;
        }
        let has_queue = self.queue_delay > self.queue_bound(round.is_limited());
        let permille = round.loss_permille();
        let outcome = match has_queue && self.policer.is_unusual(permille) {
            true => Outcome::Queue,
            false => {
                let has_lost = permille > u64::from(self.config.loss_max_permille)
                    && round.lost > startup::LOST_PACKETS_MIN * self.mtu;
                startup.end_round(
                    round.delivered(now),
                    round.is_limited(),
                    has_queue,
                    has_lost,
                )
            }
        };
        self.mode = Mode::Startup(startup);
        match outcome {
            Outcome::GoesOn => {}
            Outcome::Queue => {
                self.rate = self.rate();
                self.mode = Mode::Delay;
                self.step_down(now, round.is_limited());
            }
            Outcome::Flat => {
                self.mode = Mode::Delay;
                self.set_rate(self.recent.through_max());
                self.lowered_at = Some(now);
            }
        }
    }

    fn keep_short(&mut self, now: Instant, round: &Round) {
        let bound = self.queue_bound(round.is_limited());
        if self.steps.is_any() {
            return self.drain(now, round.is_limited(), bound);
        }
        if self.queue_delay > bound {
            return self.handle_queue(now, round.is_limited());
        }
        self.learn_wander(round.is_limited());
        if !self.is_short(bound / 2) {
            return;
        }
        if self.policer.is_testing() {
            return;
        }
        if self.return_to > self.rate {
            self.set_rate(self.rate + ((self.return_to - self.rate) / 2).max(self.mtu));
        } else if self.is_used(round) && self.shows_raise(round) {
            self.step_up(now);
        }
    }

    /// What a round without a queue says of the path's own delay, and the queue that was suspected before it.
    fn learn_wander(&mut self, is_limited: bool) {
        self.suspected = 0;
        let peak = std::mem::take(&mut self.suspected_queue);
        let is_foreign = peak.saturating_sub(self.queue_delay) > self.recent.took() / 4;
        self.wander.note(match is_limited {
            false => self.queue_delay,
            // It went faster than one of ours can at this rate.
            true if is_foreign => peak,
            // What queues now may be ours: it shows how little the path wanders, never how much.
            true => self.queue_delay.min(self.wander.level()),
        });
    }

    /// The rate is what is wanted: it limits, or most of it is used. An encoder leaves some of what it may send, and
    /// where a frame is a packet or two the pacer never holds it.
    fn is_used(&self, round: &Round) -> bool {
        round.is_limited() || self.recent.through() >= scale(self.rate, USED.0, USED.1)
    }

    /// Whether a round shows what the last step up did: in full, or in part where a round takes long.
    fn shows_raise(&self, round: &Round) -> bool {
        match self.rate < SLOW_RATE {
            true => !round.is_before(self.raised_at),
            false => round.is_after(self.raised_at),
        }
    }

    fn step_up(&mut self, now: Instant) {
        let doublings = (self.calm / UP_CALM_ROUNDS).min(UP_DOUBLINGS_MAX);
        self.calm = self.calm.saturating_add(1);
        // As binomial controllers do (Bansal and Balakrishnan 2001): flows still become equal, and a small pipe
        // is not filled by a single step.
        let share = scale(self.rate.min(UP_RATE), SQRT_UNIT, UP_RATE).isqrt();
        let packet = scale(self.mtu, share, SQRT_UNIT.isqrt());
        let packets = packet << doublings;
        let through = self.recent.through_max();
        let most = through.saturating_add(scale(through, UP_SHARE.0, UP_SHARE.1));
        let step = per_second(packets, self.rtt().max(ROUND_MIN)).max(1);
        let back = self.good.back_from(self.rate);
        self.raise(now, self.rate.saturating_add(step).max(back).min(most));
    }

    fn raise(&mut self, now: Instant, rate: u64) {
        if rate > self.rate {
            self.rate_unraised = self.rate;
            self.set_rate(rate);
            self.raised_at = Some(now);
        }
    }
}

fn first_window(config: &MediaConfig, mtu: u64) -> u64 {
    u64::from(config.initial_packets).max(WINDOW_PACKETS_MIN) * mtu
}

impl Controller for MediaController {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.srtt = Some(rtt.get());
        self.acked(now, sent, bytes, app_limited);
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, _pn: u64, _now: Instant) {
        self.round.lost = self.round.lost.saturating_add(u64::from(lost_bytes));
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        _is_persistent_congestion: bool,
        is_ecn: bool,
        _lost_bytes: u64,
        _largest_lost_pn: u64,
    ) {
        if is_ecn && self.lowered_at.is_none_or(|at| sent > at) {
            let rate = self.rate();
            if matches!(self.mode, Mode::Startup(_)) {
                self.mode = Mode::Delay;
            }
            self.set_rate(scale(rate, ECN_DOWN.0, ECN_DOWN.1));
            self.calm = 0;
            self.lowered_at = Some(now);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu).max(1);
    }

    fn window(&self) -> u64 {
        let Some(srtt) = self.srtt else {
            return self.initial_window();
        };
        let least = WINDOW_PACKETS_MIN * self.mtu;
        if let Mode::Startup(startup) = &self.mode {
            let outage = bytes_in(
                self.recent.delivered_max().min(self.rate()),
                self.config.outage,
            );
            let first = startup.window().max(bytes_in(self.rate, srtt));
            return first.saturating_add(outage).max(least);
        }
        let ride_out = srtt.saturating_add(self.config.outage);
        bytes_in(self.rate(), ride_out).max(least)
    }

    fn metrics(&self) -> ControllerMetrics {
        let rate = self.rate();
        let (least, most) = QUANTUM_PACKETS;
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.pacing_rate = Some(rate);
        metrics.send_quantum =
            Some(bytes_in(rate, QUANTUM).clamp(least * self.mtu, most * self.mtu));
        metrics.bandwidth_estimate = Some(self.recent.delivered_max().saturating_mul(8));
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        first_window(&self.config, self.mtu)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests;
