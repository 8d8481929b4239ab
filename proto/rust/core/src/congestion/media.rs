//! The controller itself: one judgement a round. The theory stands in [`crate::congestion`].

use super::config::MediaConfig;
use super::policer::Policer;
use super::round::{Base, ROUND_MIN, Round, bytes_in, per_second, scale};
use super::shift::{LEVEL, Shift};
use super::startup::{self, Outcome, Startup};
use super::steps::Steps;
use super::wander::Wander;
use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerMetrics};
use std::any::Any;
use std::time::{Duration, Instant};

/// Rounds of which the greatest delivery rate counts.
const DELIVERED_ROUNDS: usize = 4;
/// Most that the window grows to in the beginning.
const STARTUP_WINDOW_MAX: u64 = 16 << 20;
/// A step up is a packet a round trip, below this rate, bytes/s, as much less as the root of it says; it is
/// doubled after every so many calm ones. What the rate may be above what comes through, at first and later.
const UP_RATE: u64 = 250_000;
const USED: (u64, u64) = (80, 100);
const SQRT_UNIT: u64 = 1 << 20;
const UP_CALM_ROUNDS: u32 = 12;
const UP_DOUBLINGS_MAX: u32 = 6;
const UP_SHARE: (u64, u64) = (25, 100);
const UP_SHARE_CALM: (u64, u64) = (25, 100);
/// Of what was delivered when a queue was found: the rate after it has drained, and the least while it
/// drains.
const RESUME: (u64, u64) = (90, 100);
const DRAIN_MIN: (u64, u64) = (50, 100);
/// Less than this share of the rate comes through: it is still too high.
const STILL_ABOVE: (u64, u64) = (90, 100);
/// What the rate may be above the delivered one when a queue is found.
const HEADROOM: (u64, u64) = (110, 100);
/// Competing: the most that is added a round trip, decrease upon loss (RFC 9438 §4.6), and the standing queue beyond which nothing is added.
const UP_SHARE_COMPETING: (u64, u64) = (5, 100);
const COMPETE_DOWN: (u64, u64) = (70, 100);
const COMPETE_QUEUE_MAX: Duration = Duration::from_millis(400);
/// Rounds without a queue, and those with nothing to gain, that end it, and its longest time before it is looked again whose queue it is.
const COMPETE_ROUNDS_EMPTY: u32 = 2;
const COMPETE_ROUNDS_OVER: u32 = 3;
const FOREIGN_MEMORY: Duration = Duration::from_secs(10);
const ALONE: (u64, u64) = (85, 100);
const COMPETE_MAX: Duration = Duration::from_secs(15);
/// A mark of congestion (RFC 3168, RFC 8511) counts this much.
const ECN_DOWN: (u64, u64) = (85, 100);
/// No link takes longer for a packet.
const PACKET_TIME_MAX: Duration = Duration::from_millis(100);
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
    /// The last round had a queue while the application limited: if the next has one too, it counts.
    suspected: bool,
    steps: Steps,
    calm: u32,
    /// A rate that was held until a queue came which may not have been ours, and when that was.
    return_to: u64,
    queue_at: Option<Instant>,
    base: Base,
    shift: Shift,
    wander: Wander,
    queue_delay: Duration,
    /// Greatest standing queue since someone competes.
    queue_delay_peak: Duration,
    delivered: [u64; DELIVERED_ROUNDS],
    /// The same with what the path loses by itself.
    through: [u64; DELIVERED_ROUNDS],
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
            suspected: false,
            steps: Steps::default(),
            calm: 0,
            return_to: 0,
            queue_at: None,
            base: Base::new(now),
            shift: Shift::new(now),
            wander: Wander::default(),
            queue_delay: Duration::ZERO,
            queue_delay_peak: Duration::ZERO,
            delivered: [0; DELIVERED_ROUNDS],
            through: [0; DELIVERED_ROUNDS],
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

    fn through_max(&self) -> u64 {
        self.through.iter().copied().max().unwrap_or(0)
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
        self.suspected = false;
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
        let delivered = round.delivered(now);
        self.delivered.rotate_right(1);
        self.delivered[0] = delivered;
        self.through.rotate_right(1);
        self.through[0] = self.policer.with_usual_loss(delivered);
        self.queue_delay = rtt.saturating_sub(base);
        self.wander.note_spread(round.spread());
        let has_queue = self.queue_delay > self.queue_bound(round.is_limited());
        self.policer.end_round(now, &round, has_queue);
        if has_queue && self.shift.is_open() {
            return;
        }
        let has_drained = self.steps.is_any() && self.is_short(self.config.queue_delay_max);
        if !round.is_after(self.lowered_at) && !has_drained {
            return;
        }
        match self.mode {
            Mode::Startup(startup) => self.start_up(now, &round, startup),
            Mode::Delay => self.keep_short(now, &round),
            Mode::Competing { since, empty, over } => {
                self.compete(now, &round, since, (empty, over));
            }
        }
        if let Some(cap) = self.policer.cap() {
            // What lies above a cap was never tried.
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
            .clamp(self.config.queue_delay_max, most)
            + self.wander.noise() / 2
    }

    /// The queue is less than half of what it may be.
    fn is_short(&self, bound: Duration) -> bool {
        self.queue_delay <= bound / 2 + self.packet_time() + self.wander.noise()
    }

    /// What the bottleneck takes for a packet, which is no queue.
    fn packet_time(&self) -> Duration {
        let rate = self.through_max().max(self.config.clamp(0));
        let time = Duration::from_nanos(scale(self.mtu, 1_000_000_000, rate));
        time.min(PACKET_TIME_MAX)
    }

    fn start_up(&mut self, now: Instant, round: &Round, mut startup: Startup) {
        let has_queue = self.queue_delay > self.queue_bound(round.is_limited());
        let permille = round.loss_permille();
        let outcome = match has_queue && self.policer.is_unusual(permille) {
            true => Outcome::Queue,
            false => {
                let has_lost = permille > u64::from(self.config.loss_max_permille)
                    && round.lost > startup::LOST_PACKETS_MIN * self.mtu;
                startup.end_round(self.delivered[0], round.is_limited(), has_queue, has_lost)
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
                self.set_rate(self.through_max());
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
        self.suspected = false;
        if !round.is_limited() {
            self.wander.note(self.queue_delay);
        }
        if !self.is_short(bound) {
            self.calm = 0;
        } else if self.return_to > self.rate {
            self.set_rate(self.rate + ((self.return_to - self.rate) / 2).max(self.mtu));
        } else if self.is_used(round) && round.is_after(self.raised_at) {
            self.step_up(now);
        }
    }

    /// The rate is what is wanted: it limits, or most of it is used. An encoder leaves some of what it may send, and
    /// where a frame is a packet or two the pacer never holds it.
    fn is_used(&self, round: &Round) -> bool {
        round.is_limited() || self.through[0] >= scale(self.rate, USED.0, USED.1)
    }

    /// A step down has had its time: is the queue gone, or going, and if not, whose is it?
    fn drain(&mut self, now: Instant, is_limited: bool, bound: Duration) {
        let shrinks = self.steps.shrinks(self.queue_delay);
        if self.is_short(bound) {
            return self.end_steps(now);
        }
        let is_above = self.through[0] < scale(self.rate, STILL_ABOVE.0, STILL_ABOVE.1);
        if !shrinks && !is_above && self.steps.are_in_vain() {
            return self.compete_from(now);
        }
        if self.queue_delay > bound {
            self.step_down(now, is_limited);
        } else if !shrinks {
            self.lowered_at = Some(now);
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
        self.set_rate(self.rate.max(steps.resume));
        self.raised_at = Some(now);
        self.calm = 0;
    }

    fn step_up(&mut self, now: Instant) {
        let doublings = (self.calm / UP_CALM_ROUNDS).min(UP_DOUBLINGS_MAX);
        self.calm = self.calm.saturating_add(1);
        // As binomial controllers do (Bansal and Balakrishnan 2001): flows still become equal, and a small pipe
        // is not filled by a single step.
        let share = scale(self.rate.min(UP_RATE), SQRT_UNIT, UP_RATE).isqrt();
        let packet = scale(self.mtu, share, SQRT_UNIT.isqrt());
        let packets = packet << doublings;
        let share = if doublings > 1 {
            UP_SHARE_CALM
        } else {
            UP_SHARE
        };
        let through = self.through_max();
        let most = through.saturating_add(scale(through, share.0, share.1));
        let step = per_second(packets, self.rtt().max(ROUND_MIN)).max(1);
        let rate = self.rate.saturating_add(step).min(most);
        if rate > self.rate {
            self.set_rate(rate);
            self.raised_at = Some(now);
        }
    }

    fn handle_queue(&mut self, now: Instant, is_limited: bool) {
        self.calm = 0;
        // Who sends next to nothing is not the cause of any queue, and keeps the rate for what comes.
        if self.delivered_max() < self.config.clamp(0) {
            return;
        }
        let is_new = !std::mem::replace(&mut self.suspected, true);
        if !is_limited && is_new {
            return self.wander.note(self.queue_delay);
        }
        if self.foreign_until.is_some_and(|until| now < until) {
            return self.compete_from(now);
        }
        self.step_down(now, is_limited);
    }

    fn step_down(&mut self, now: Instant, is_limited: bool) {
        self.steps.take(self.rate, is_limited, self.queue_delay);
        if self.queue_delay > OURS_MIN * self.queue_bound(false) {
            self.steps.was_limited = true;
        }
        self.return_to = 0;
        // Where the application limited, the rate may have been far above what was used, and an older round
        // may say more. Later steps learn something only where we still send more than comes through.
        let through = self.through[0].midpoint(self.through[1]);
        let through = match (self.steps.is_first(), is_limited) {
            (true, true) => through.min(self.rate),
            (true, false) => scale(self.through_max(), HEADROOM.0, HEADROOM.1).min(self.rate),
            (false, _) if self.through[0] < scale(self.rate, STILL_ABOVE.0, STILL_ABOVE.1) => {
                self.through[0]
            }
            (false, _) => scale(self.steps.resume, RESUME.1, RESUME.0),
        };
        self.steps.resume = scale(through, RESUME.0, RESUME.1);
        let drained = bytes_in(through, self.queue_delay);
        let within = self.rtt().max(self.config.queue_delay_max);
        let floor = scale(self.steps.resume, DRAIN_MIN.0, DRAIN_MIN.1);
        let rate = self
            .steps
            .resume
            .saturating_sub(per_second(drained, within));
        self.set_rate(rate.max(floor));
        self.lowered_at = Some(now);
    }

    /// Somebody else fills the queue: to yield would be to give up.
    fn compete_from(&mut self, now: Instant) {
        let steps = std::mem::take(&mut self.steps);
        self.set_rate(steps.rate_before.max(self.rate));
        self.lowered_at = None;
        self.queue_delay_peak = self.queue_delay;
        self.mode = Mode::Competing {
            since: now,
            empty: 0,
            over: 0,
        };
    }

    fn compete(&mut self, now: Instant, round: &Round, since: Instant, (empty, over): (u32, u32)) {
        let is_empty = self.is_short(self.config.queue_delay_max);
        let empty = if is_empty { empty + 1 } else { 0 };
        let is_over = now.saturating_duration_since(since) > COMPETE_MAX;
        // Where others share the queue, whoever puts more in gets more out. Who does not is alone with it.
        let is_above = self.through[0] < scale(self.rate, ALONE.0, ALONE.1);
        let is_unusual = self.policer.is_unusual(round.loss_permille());
        let over = if is_above && round.is_limited() && !is_unusual {
            over + 1
        } else {
            0
        };
        if empty >= COMPETE_ROUNDS_EMPTY || over >= COMPETE_ROUNDS_OVER || is_over {
            self.mode = Mode::Delay;
            let is_gone = empty < COMPETE_ROUNDS_EMPTY;
            self.foreign_until = (!is_gone).then(|| now + FOREIGN_MEMORY);
            return;
        }
        self.mode = Mode::Competing { since, empty, over };
        self.queue_delay_peak = self.queue_delay_peak.max(self.queue_delay);
        let is_deep = self.queue_delay >= self.queue_delay_peak / 2;
        if is_deep && is_unusual {
            self.set_rate(scale(self.rate, COMPETE_DOWN.0, COMPETE_DOWN.1));
            self.lowered_at = Some(now);
        } else if round.is_limited() && self.queue_delay < COMPETE_QUEUE_MAX {
            let share = scale(self.rate, UP_SHARE_COMPETING.0, UP_SHARE_COMPETING.1);
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
