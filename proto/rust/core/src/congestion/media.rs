//! The controller itself: one judgement a round. The theory stands in [`crate::congestion`].

use super::config::MediaConfig;
use super::policer::Policer;
use super::round::{Base, Round, bytes_in, per_second, scale};
use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerMetrics};
use std::any::Any;
use std::time::{Duration, Instant};

/// Rounds of which the greatest delivery rate counts.
const DELIVERED_ROUNDS: usize = 4;
/// Startup: less growth than this much (a quarter) in so many rounds in a row ends it.
const STARTUP_GROWTH: (u64, u64) = (125, 100);
const STARTUP_ROUNDS_FLAT: u32 = 2;
/// Packets a round that a step up adds, doubled after every so many calm rounds, and the most as a
/// share of the rate at first and later.
const UP_PACKETS: u64 = 2;
const UP_CALM_ROUNDS: u32 = 6;
const UP_DOUBLINGS_MAX: u32 = 5;
const UP_SHARE: (u64, u64) = (5, 100);
const UP_SHARE_CALM: (u64, u64) = (25, 100);
/// Of what was delivered when a queue was found: the rate after it has drained, and the least while it
/// drains.
const RESUME: (u64, u64) = (90, 100);
const DRAIN_MIN: (u64, u64) = (50, 100);
/// What the rate may be above the delivered one when a queue is found.
const HEADROOM: (u64, u64) = (110, 100);
/// Steps down after which a queue that did not shrink is taken for not ours.
const STEPS_MAX: u32 = 4;
/// Round trips that vary less than this over the steps are a path's own.
const LEVEL: Duration = Duration::from_millis(10);
/// Competing: decrease upon loss (RFC 9438 §4.6), and the standing queue beyond which nothing is added.
const COMPETE_DOWN: (u64, u64) = (70, 100);
const COMPETE_QUEUE_MAX: Duration = Duration::from_millis(400);
/// Rounds without a queue that end it, and its longest time before it is looked again whose queue it is.
const COMPETE_ROUNDS_EMPTY: u32 = 2;
const COMPETE_MAX: Duration = Duration::from_secs(15);
/// A mark of congestion (RFC 3168, RFC 8511) counts this much.
const ECN_DOWN: (u64, u64) = (85, 100);
/// A queue of so many packets is no queue: a slow link takes that long for one.
const QUEUE_PACKETS: u64 = 2;
/// The window never falls below this many packets.
const WINDOW_PACKETS_MIN: u64 = 8;
/// Worth of sending in one go, and its bounds in packets.
const QUANTUM: Duration = Duration::from_millis(2);
const QUANTUM_PACKETS: (u64, u64) = (2, 44);

/// What the controller makes of the path now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The rate doubles a round while it is used.
    Startup { flat: u32, best: u64 },
    /// The queue is kept short.
    Delay,
    /// Someone else fills the queue.
    Competing { since: Instant, empty: u32 },
}

/// A queue that stands, and the steps down that were taken against it.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    count: u32,
    /// The rate before the first, and where it goes when the queue is gone.
    rate_before: u64,
    resume: u64,
    /// Least and greatest round trip since the second, and the latest.
    least: Duration,
    greatest: Duration,
    first: Duration,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaFigures {
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
    /// The last step down; the round after it is not judged.
    settling: bool,
    steps: Steps,
    calm: u32,
    base: Base,
    queue_delay: Duration,
    /// Greatest standing queue since someone competes.
    queue_delay_peak: Duration,
    delivered: [u64; DELIVERED_ROUNDS],
    policer: Policer,
}

impl MediaController {
    /// A controller that starts at the configured rate.
    pub fn new(config: MediaConfig, now: Instant, mtu: u16) -> MediaController {
        let mode = match config.startup {
            true => Mode::Startup { flat: 0, best: 0 },
            false => Mode::Delay,
        };
        MediaController {
            config,
            mtu: u64::from(mtu).max(1),
            rate: config.clamp(config.rate_initial),
            mode,
            srtt: None,
            round: Round::new(now),
            settling: false,
            steps: Steps::default(),
            calm: 0,
            base: Base::new(now),
            queue_delay: Duration::ZERO,
            queue_delay_peak: Duration::ZERO,
            delivered: [0; DELIVERED_ROUNDS],
            policer: Policer::new(config.loss_max_permille),
        }
    }

    /// The rate it paces at, bytes/s.
    pub fn rate(&self) -> u64 {
        let cap = self.policer.cap().unwrap_or(u64::MAX);
        self.config.clamp(self.rate.min(cap))
    }

    /// Figures for metrics.
    pub fn figures(&self) -> MediaFigures {
        MediaFigures {
            delivered: self.delivered_max(),
            pacing: self.rate(),
            queue_delay: self.queue_delay,
            is_capped: self.policer.cap().is_some(),
            is_competing: matches!(self.mode, Mode::Competing { .. }),
        }
    }

    fn delivered_max(&self) -> u64 {
        self.delivered.iter().copied().max().unwrap_or(0)
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) {
        let rtt = now.saturating_duration_since(sent);
        self.base.note(now, rtt);
        if self.round.ends_with(now, sent) {
            self.end_round(now);
        }
        self.round.add(rtt, bytes, app_limited);
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        let (Some(rtt), Some(base)) = (round.rtt_min, self.base.get()) else {
            return;
        };
        let delivered = round.delivered(now);
        self.delivered.rotate_right(1);
        self.delivered[0] = delivered;
        self.queue_delay = rtt.saturating_sub(base);
        let has_queue = self.queue_delay > self.queue_delay_max();
        self.policer.end_round(now, &round, has_queue);
        if std::mem::take(&mut self.settling) {
            return;
        }
        match self.mode {
            Mode::Startup { flat, best } => self.start_up(now, &round, rtt, flat, best),
            Mode::Delay => self.keep_short(now, &round, rtt),
            Mode::Competing { since, empty } => self.compete(now, &round, since, empty),
        }
        self.follow_cap();
    }

    /// What lies above a cap was never tried.
    fn follow_cap(&mut self) {
        if let Some(cap) = self.policer.cap() {
            self.rate = self.rate.min(scale(cap, HEADROOM.0, HEADROOM.1));
        }
    }

    /// A slow link takes long for a packet, and this is then no queue.
    fn queue_delay_max(&self) -> Duration {
        let packets = Duration::from_nanos(scale(
            QUEUE_PACKETS * self.mtu,
            1_000_000_000,
            self.delivered_max().max(self.config.clamp(0)),
        ));
        self.config
            .queue_delay_max
            .max(packets.min(4 * self.config.queue_delay_max))
    }

    fn start_up(&mut self, now: Instant, round: &Round, rtt: Duration, flat: u32, best: u64) {
        let delivered = round.delivered(now);
        if self.queue_delay > self.queue_delay_max() {
            self.mode = Mode::Delay;
            return self.handle_queue(now, rtt);
        }
        if !round.is_limited() {
            return;
        }
        let has_grown = delivered >= scale(best, STARTUP_GROWTH.0, STARTUP_GROWTH.1);
        let flat = if has_grown { 0 } else { flat + 1 };
        if flat >= STARTUP_ROUNDS_FLAT {
            self.mode = Mode::Delay;
            self.rate = self.config.clamp(self.delivered_max());
            self.settling = true;
            return;
        }
        let best = best.max(delivered);
        self.mode = Mode::Startup { flat, best };
        if has_grown {
            self.rate = self.config.clamp(self.rate.saturating_mul(2));
        }
    }

    fn keep_short(&mut self, now: Instant, round: &Round, rtt: Duration) {
        let bound = self.queue_delay_max();
        if self.queue_delay > bound {
            let delivered = self.delivered_max();
            // Who sends next to nothing is not the cause of any queue, and keeps the rate for what comes.
            if delivered >= self.config.clamp(0) {
                self.handle_queue(now, rtt);
            }
            return;
        }
        if self.queue_delay > bound / 2 {
            self.calm = 0;
            return;
        }
        if self.steps.count > 0 {
            self.rate = self.config.clamp(self.rate.max(self.steps.resume));
            self.steps = Steps::default();
            self.calm = 0;
        } else if round.is_limited() {
            self.step_up();
        }
    }

    fn step_up(&mut self) {
        let doublings = (self.calm / UP_CALM_ROUNDS).min(UP_DOUBLINGS_MAX);
        self.calm = self.calm.saturating_add(1);
        let srtt = self.srtt.unwrap_or(Duration::from_millis(100));
        let packets = (UP_PACKETS * self.mtu) << doublings;
        let share = if doublings > 1 {
            UP_SHARE_CALM
        } else {
            UP_SHARE
        };
        let step = per_second(packets, srtt).min(scale(self.rate, share.0, share.1));
        self.rate = self.config.clamp(self.rate.saturating_add(step.max(1)));
    }

    fn handle_queue(&mut self, now: Instant, rtt: Duration) {
        self.calm = 0;
        if self.steps.count >= STEPS_MAX && !self.is_shrinking(rtt) {
            return self.handle_foreign_queue(now, rtt);
        }
        let steps = &mut self.steps;
        match steps.count {
            0 => steps.rate_before = self.rate,
            // Only now: when a queue is first seen, more of it is on the way.
            1 => (steps.first, steps.least, steps.greatest) = (rtt, rtt, rtt),
            _ => {}
        }
        steps.least = steps.least.min(rtt);
        steps.greatest = steps.greatest.max(rtt);
        steps.count += 1;
        self.step_down();
    }

    /// Steps are still shortening it: it is ours.
    fn is_shrinking(&mut self, rtt: Duration) -> bool {
        let least = self.steps.least;
        let gained = self.steps.first.saturating_sub(rtt);
        let shrinks = gained > LEVEL && rtt < least + LEVEL;
        if shrinks {
            self.steps.count = 1;
        }
        shrinks
    }

    fn step_down(&mut self) {
        let is_first = self.steps.count <= 1;
        // The rate may have been far above what was used; the first time an older round may say more.
        let delivered = if is_first {
            self.delivered_max()
        } else {
            self.delivered[0].max(self.delivered[1])
        };
        let at_most = scale(delivered, HEADROOM.0, HEADROOM.1).min(self.rate_before_step(is_first));
        let resume = scale(at_most, RESUME.0, RESUME.1);
        self.steps.resume = match is_first {
            true => resume,
            false => self.steps.resume.min(resume),
        };
        let srtt = self.srtt.unwrap_or(Duration::from_millis(100));
        let drained = bytes_in(delivered, self.queue_delay);
        let drain = per_second(
            drained,
            srtt.max(self.config.queue_delay_max).saturating_mul(2),
        );
        let floor = scale(self.steps.resume, DRAIN_MIN.0, DRAIN_MIN.1);
        self.rate = self
            .config
            .clamp(self.steps.resume.saturating_sub(drain).max(floor));
        self.settling = true;
    }

    fn rate_before_step(&self, is_first: bool) -> u64 {
        if is_first {
            self.rate
        } else {
            self.steps.rate_before
        }
    }

    fn handle_foreign_queue(&mut self, now: Instant, rtt: Duration) {
        let spread = self.steps.greatest.saturating_sub(self.steps.least);
        let steps = std::mem::take(&mut self.steps);
        self.rate = self.config.clamp(steps.rate_before);
        if spread <= LEVEL {
            self.base.reset(now, rtt);
        } else {
            self.queue_delay_peak = self.queue_delay;
            self.mode = Mode::Competing {
                since: now,
                empty: 0,
            };
        }
    }

    fn compete(&mut self, now: Instant, round: &Round, since: Instant, empty: u32) {
        let is_empty = self.queue_delay <= self.queue_delay_max();
        let empty = if is_empty { empty + 1 } else { 0 };
        let is_over = now.saturating_duration_since(since) > COMPETE_MAX;
        if empty >= COMPETE_ROUNDS_EMPTY || is_over {
            self.mode = Mode::Delay;
            self.steps = Steps::default();
            return;
        }
        self.mode = Mode::Competing { since, empty };
        self.queue_delay_peak = self.queue_delay_peak.max(self.queue_delay);
        if round.lost > 0 && self.queue_delay >= self.queue_delay_peak / 2 {
            self.rate = self
                .config
                .clamp(scale(self.rate, COMPETE_DOWN.0, COMPETE_DOWN.1));
            self.settling = true;
        } else if round.is_limited() && self.queue_delay < COMPETE_QUEUE_MAX {
            let srtt = self.srtt.unwrap_or(Duration::from_millis(100));
            let step = per_second(self.mtu, srtt).min(scale(self.rate, UP_SHARE.0, UP_SHARE.1));
            self.rate = self.config.clamp(self.rate.saturating_add(step.max(1)));
        }
    }
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
        _now: Instant,
        _sent: Instant,
        _is_persistent_congestion: bool,
        is_ecn: bool,
        _lost_bytes: u64,
        _largest_lost_pn: u64,
    ) {
        if is_ecn && !self.settling {
            self.rate = self.config.clamp(scale(self.rate, ECN_DOWN.0, ECN_DOWN.1));
            self.calm = 0;
            self.settling = true;
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu).max(1);
    }

    fn window(&self) -> u64 {
        let Some(srtt) = self.srtt else {
            return self.initial_window();
        };
        let ride_out = srtt.saturating_add(self.config.outage);
        bytes_in(self.rate(), ride_out).max(WINDOW_PACKETS_MIN * self.mtu)
    }

    fn metrics(&self) -> ControllerMetrics {
        let rate = self.rate();
        let (least, most) = QUANTUM_PACKETS;
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.pacing_rate = Some(rate);
        metrics.send_quantum =
            Some(bytes_in(rate, QUANTUM).clamp(least * self.mtu, most * self.mtu));
        metrics.bandwidth_estimate = Some(self.delivered_max().saturating_mul(8));
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        u64::from(self.config.initial_packets).max(WINDOW_PACKETS_MIN) * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests;
