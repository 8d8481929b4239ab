//! The controller itself: one judgement a round. The theory stands in [`crate::congestion`].

use super::config::MediaConfig;
use super::policer::Policer;
use super::round::{BASE_WINDOW, ROUND_MIN, Round, bytes_in, per_second, scale};
use super::startup::{self, Outcome, Startup};
use super::steps::Steps;
use super::wander::Wander;
use crate::windowed_min::WindowedMin;
use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerMetrics};
use std::any::Any;
use std::time::{Duration, Instant};

/// Rounds of which the greatest delivery rate counts.
const DELIVERED_ROUNDS: usize = 4;
/// Most that the window grows to in the beginning.
const STARTUP_WINDOW_MAX: u64 = 16 << 20;
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
/// Less than this share of the rate comes through: it is still above what the bottleneck gives us.
const STILL_ABOVE: (u64, u64) = (90, 100);
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
/// The bound of a queue is never beyond so many of the configured one, however much a path's delay wanders.
const QUEUE_BOUND_MAX: u32 = 5;
/// A queue of so many bounds does not come by itself.
const OURS_MIN: u32 = 2;
/// A queue so long after the last one is another matter.
const QUEUE_MEMORY: Duration = Duration::from_secs(10);
/// Of the rate before a queue that nobody knows the cause of: where it goes back to, and if another one came
/// soon after the last.
const RETURN: (u64, u64) = (95, 100);
const RETURN_AGAIN: (u64, u64) = (50, 100);
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
    Competing { since: Instant, empty: u32 },
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
    /// The last step down; the round after it is not judged.
    settling: bool,
    /// The last round had a queue while the application limited: if the next has one too, it counts.
    suspected: bool,
    steps: Steps,
    calm: u32,
    /// A rate that was held until a queue came which may not have been ours, and when that was.
    return_to: u64,
    queue_at: Option<Instant>,
    /// The rate before the test of loss that is being made; 0 where there is none, or something else has lowered the
    /// rate since.
    uncapped: u64,
    /// The least round trip of the last 30 to 60 s.
    base: WindowedMin,
    wander: Wander,
    queue_delay: Duration,
    /// Greatest standing queue since someone competes.
    queue_delay_peak: Duration,
    delivered: [u64; DELIVERED_ROUNDS],
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
            settling: false,
            suspected: false,
            steps: Steps::default(),
            calm: 0,
            return_to: 0,
            queue_at: None,
            uncapped: 0,
            base: WindowedMin::starting(BASE_WINDOW, now),
            wander: Wander::default(),
            queue_delay: Duration::ZERO,
            queue_delay_peak: Duration::ZERO,
            delivered: [0; DELIVERED_ROUNDS],
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
            delivered: self.delivered_max(),
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

    fn delivered_max(&self) -> u64 {
        self.delivered.iter().copied().max().unwrap_or(0)
    }

    fn set_rate(&mut self, rate: u64) {
        self.rate = self.config.clamp(rate);
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) {
        let rtt = now.saturating_duration_since(sent);
        self.base.note(now, rtt);
        let round_min = match self.mode {
            Mode::Startup(_) => startup::ROUND_MIN,
            _ => ROUND_MIN,
        };
        if self.round.ends_with(now, sent, round_min) {
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
        self.steps.note_delivered(delivered);
        self.queue_delay = round.queue_delay(now, base);
        let has_queue = self.queue_delay > self.queue_bound(round.is_limited());
        self.try_cap(now, &round, has_queue);
        let has_drained =
            self.steps.is_any() && self.queue_delay <= self.config.queue_delay_max / 2;
        if std::mem::take(&mut self.settling) && !has_drained {
            return;
        }
        match self.mode {
            Mode::Startup(startup) => self.start_up(&round, rtt, startup),
            Mode::Delay => self.keep_short(now, &round, rtt),
            Mode::Competing { since, empty } => self.compete(now, &round, since, empty),
        }
        if let Some(cap) = self.policer.cap() {
            // What lies above a cap was never tried.
            self.rate = self.rate.min(scale(cap, HEADROOM.0, HEADROOM.1));
        }
    }

    /// Let the policer judge a round. Loss that was found innocent leaves no trace: the rate is what it was before the
    /// test, or a sender whose media hardly varies would stay at what it sent while it was tested.
    fn try_cap(&mut self, now: Instant, round: &Round, has_queue: bool) {
        let was_capped = self.policer.cap().is_some();
        self.policer.end_round(now, round, has_queue);
        if self.policer.is_found() {
            self.uncapped = 0;
        }
        match (was_capped, self.policer.cap().is_some()) {
            (false, true) => self.uncapped = self.rate,
            (true, false) => {
                let before = std::mem::take(&mut self.uncapped);
                self.set_rate(self.rate.max(before));
            }
            _ => {}
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
        let per_packets = scale(
            QUEUE_PACKETS * self.mtu,
            1_000_000_000,
            self.delivered_max().max(self.config.clamp(0)),
        );
        let wander = self.wander.level();
        Duration::from_nanos(per_packets)
            .max(wander + wander / 4)
            .clamp(self.config.queue_delay_max, most)
    }

    fn start_up(&mut self, round: &Round, rtt: Duration, mut startup: Startup) {
        let has_queue = self.queue_delay > self.queue_bound(round.is_limited());
        let permille = round.loss_permille();
        let outcome = match has_queue && self.policer.is_unusual(permille) {
            true => Outcome::Queue,
            false => {
                let has_lost = permille > u64::from(self.config.loss_max_permille);
                startup.end_round(self.delivered[0], round.is_limited(), has_queue, has_lost)
            }
        };
        self.mode = Mode::Startup(startup);
        match outcome {
            Outcome::GoesOn => {}
            Outcome::Queue => {
                self.rate = self.rate();
                self.mode = Mode::Delay;
                self.step_down(round.is_limited(), rtt);
            }
            Outcome::Flat => {
                self.mode = Mode::Delay;
                self.set_rate(self.delivered_max());
                self.settling = true;
            }
        }
    }

    fn keep_short(&mut self, now: Instant, round: &Round, rtt: Duration) {
        let bound = self.queue_bound(round.is_limited());
        if self.queue_delay > bound {
            return self.handle_queue(now, round.is_limited(), rtt);
        }
        self.suspected = false;
        if !round.is_limited() {
            self.wander.note(self.queue_delay);
        }
        if self.queue_delay > bound / 2 {
            self.calm = 0;
        } else if self.steps.is_any() {
            self.end_steps(now);
        } else if self.return_to > self.rate {
            self.set_rate(self.rate + ((self.return_to - self.rate) / 2).max(self.mtu));
        } else if round.is_limited() {
            self.step_up();
        }
    }

    /// The queue is gone. Where the application limited, it may have gone by itself; a second one soon after
    /// was ours.
    fn end_steps(&mut self, now: Instant) {
        let steps = std::mem::take(&mut self.steps);
        let is_again = self
            .queue_at
            .is_some_and(|at| now.saturating_duration_since(at) < QUEUE_MEMORY);
        self.queue_at = Some(now);
        self.return_to = match (steps.was_limited, is_again) {
            (true, _) => 0,
            (false, false) => scale(steps.rate_before, RETURN.0, RETURN.1),
            (false, true) => scale(steps.rate_before, RETURN_AGAIN.0, RETURN_AGAIN.1),
        };
        // A link that faded and is back carries more now than it did when the queue was found.
        let carried = scale(steps.drained().min(steps.rate_before), RESUME.0, RESUME.1);
        self.set_rate(self.rate.max(steps.resume).max(carried));
        self.calm = 0;
    }

    fn step_up(&mut self) {
        let doublings = (self.calm / UP_CALM_ROUNDS).min(UP_DOUBLINGS_MAX);
        self.calm = self.calm.saturating_add(1);
        let packets = (UP_PACKETS * self.mtu) << doublings;
        let share = if doublings > 1 {
            UP_SHARE_CALM
        } else {
            UP_SHARE
        };
        let step = per_second(packets, self.rtt()).min(scale(self.rate, share.0, share.1));
        self.set_rate(self.rate.saturating_add(step.max(1)));
    }

    fn handle_queue(&mut self, now: Instant, is_limited: bool, rtt: Duration) {
        self.calm = 0;
        // Who sends next to nothing is not the cause of any queue, and keeps the rate for what comes.
        if self.delivered_max() < self.config.clamp(0) {
            return;
        }
        let is_new = !std::mem::replace(&mut self.suspected, true);
        if !is_limited && !self.steps.is_any() && is_new {
            return self.wander.note(self.queue_delay);
        }
        if self.steps.are_in_vain(rtt) {
            return self.handle_foreign_queue(now, rtt);
        }
        self.step_down(is_limited, rtt);
    }

    fn step_down(&mut self, is_limited: bool, rtt: Duration) {
        self.steps.take(self.rate, is_limited, rtt);
        self.uncapped = 0;
        if self.queue_delay > OURS_MIN * self.queue_bound(false) {
            self.steps.was_limited = true;
        }
        self.return_to = 0;
        // The rate may have been far above what was used; the first time an older round may say more.
        let delivered = match self.steps.is_first() {
            true => self.delivered_max(),
            false => self.delivered[0].max(self.delivered[1]),
        };
        let at_most = scale(delivered, HEADROOM.0, HEADROOM.1).min(self.steps.rate_before);
        let resume = scale(at_most, RESUME.0, RESUME.1);
        let is_above = delivered < scale(self.rate, STILL_ABOVE.0, STILL_ABOVE.1);
        let wanders = 2 * self.wander.level() > self.config.queue_delay_max;
        self.steps.resume = match self.steps.is_first() || is_above || !wanders {
            true => resume,
            // Where delay comes and goes by itself, and all that is sent comes through: that says what we send
            // while a queue drains, and nothing of the bottleneck. Elsewhere to go lower is to share.
            false => resume.max(self.steps.resume),
        };
        let drained = bytes_in(delivered, self.queue_delay);
        let within = self
            .rtt()
            .max(self.config.queue_delay_max)
            .saturating_mul(2);
        let floor = scale(self.steps.resume, DRAIN_MIN.0, DRAIN_MIN.1);
        let rate = self
            .steps
            .resume
            .saturating_sub(per_second(drained, within));
        self.set_rate(rate.max(floor));
        self.settling = true;
    }

    fn handle_foreign_queue(&mut self, now: Instant, rtt: Duration) {
        let steps = std::mem::take(&mut self.steps);
        self.set_rate(steps.rate_before);
        if steps.is_level(self.wander.level()) {
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
        let is_empty = self.queue_delay <= self.queue_bound(true);
        let empty = if is_empty { empty + 1 } else { 0 };
        let is_over = now.saturating_duration_since(since) > COMPETE_MAX;
        if empty >= COMPETE_ROUNDS_EMPTY || is_over {
            self.mode = Mode::Delay;
            self.steps = Steps::default();
            return;
        }
        self.mode = Mode::Competing { since, empty };
        self.queue_delay_peak = self.queue_delay_peak.max(self.queue_delay);
        let is_deep = self.queue_delay >= self.queue_delay_peak / 2;
        if is_deep && self.policer.is_unusual(round.loss_permille()) {
            self.set_rate(scale(self.rate, COMPETE_DOWN.0, COMPETE_DOWN.1));
            self.settling = true;
            self.uncapped = 0;
        } else if round.is_limited() && self.queue_delay < COMPETE_QUEUE_MAX {
            let share = scale(self.rate, UP_SHARE.0, UP_SHARE.1);
            let step = per_second(self.mtu, self.rtt()).min(share);
            self.set_rate(self.rate.saturating_add(step.max(1)));
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
        _now: Instant,
        _sent: Instant,
        _is_persistent_congestion: bool,
        is_ecn: bool,
        _lost_bytes: u64,
        _largest_lost_pn: u64,
    ) {
        if is_ecn && !self.settling {
            let rate = self.rate();
            if matches!(self.mode, Mode::Startup(_)) {
                self.mode = Mode::Delay;
            }
            self.set_rate(scale(rate, ECN_DOWN.0, ECN_DOWN.1));
            (self.calm, self.uncapped) = (0, 0);
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
        let least = WINDOW_PACKETS_MIN * self.mtu;
        if let Mode::Startup(startup) = &self.mode {
            let outage = bytes_in(self.delivered_max().min(self.rate()), self.config.outage);
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
        metrics.bandwidth_estimate = Some(self.delivered_max().saturating_mul(8));
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
