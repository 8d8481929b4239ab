//! "Hold": the congestion controller of hop connections.
//!
//! The common controllers take loss for congestion. On a link that loses 5 % in bursts whatever is
//! sent, they starve a film of 3 Mbit/s within a minute. This one holds its rate under loss and backs
//! off when the round trip shows a queue:
//!
//! - *Signal*: the least round trip of all packets acknowledged in one round, against the least of the
//!   last half to whole minute. If even the quickest packet of a round waited longer than
//!   [`HoldConfig::queue_delay_max`], a queue stands; jitter and delayed acknowledgements leave the
//!   minimum alone.
//! - *Down*: what was delivered while a queue stands is what the link carries. From there the rate falls by
//!   what empties the queue in two round trips, to half at most: sound waits in it as long as pictures do,
//!   whoever is sent first. Further steps lower it to 85 % of it, or of what is delivered
//!   then, and ECN marks to 85 %. Then a round is
//!   waited for the effect. Who delivers less than the lowest rate (heartbeats, a voice) is not the cause of any
//!   queue, and keeps the rate for what comes.
//! - *Empty*: the rate is nearly what was delivered.
//! - *Not ours*: if further steps down do not shorten the delay, it is not our queue; the path itself
//!   got longer (a detour). Its round trip becomes the new base and the rate is what it was before.
//! - *Up*: 5 % a round, only while the rate is what limits the sender, and no queue is in sight; 1 % around
//!   what was delivered when the rate last made a queue, or each rise overshoots by what a round trip hides.
//! - *Window*: rate × (RTT + the longest outage to ride out). Lost datagrams count as in flight until
//!   QUIC declares them lost, so a window of one round trip stops the flow in an outage and keeps it
//!   stopped (ARCHITECTURE.md, "Rules that cost something to learn"). The rate is what limits, through
//!   the pacer.
//!
//! Loss alone never lowers the rate. On a path that drops without queueing (a policer), the cap is what
//! bounds the damage: set it to what the link was bought for.

use crate::congestion::bytes_in;
use crate::windowed_min::WindowedMin;
use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numerator and denominator of a step up, of one around what the link carried, and of a step down.
const UP: (u64, u64) = (105, 100);
const UP_NEAR: (u64, u64) = (101, 100);
const DOWN: (u64, u64) = (85, 100);
/// Of what the link carried: the rate once the queue is empty, and where steps up are small.
const EMPTY: (u64, u64) = (95, 100);
const NEAR: [(u64, u64); 2] = [(90, 100), (110, 100)];
/// A rate up to this much of what was delivered has made the queue; one far above may have met a longer path.
const CLOSE: (u64, u64) = (150, 100);
/// No rate leaves these bounds, whatever the configuration says.
const RATE_MIN: u64 = 1_000;
const RATE_MAX: u64 = 1 << 40;
/// The least round trip is kept over the running window of this length and the one before.
const BASE_WINDOW: Duration = Duration::from_secs(30);
/// Steps down without effect after which a longer round trip is taken for the path's own: more where what we send may
/// have made the queue, for a shallow buffer that stays full looks like a longer path.
const STEPS_MAX: u32 = 2;
const STEPS_OURS_MAX: u32 = 3;
/// Packets acknowledged in a round before it is judged.
const ROUND_PACKETS_MIN: u64 = 4;
/// The window never falls below this many packets.
const WINDOW_PACKETS_MIN: u64 = 32;
/// Worth of sending in one go, and its bounds in packets: no fewer than QUIC's pacer lets out at once anyway, or every
/// frame would cost several system calls.
const QUANTUM: Duration = Duration::from_millis(2);
const QUANTUM_PACKETS: (u64, u64) = (10, 44);

/// Settings of the controller; also the factory that QUIC builds it from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldConfig {
    /// Rate at the start, bytes/s.
    pub rate_initial: u64,
    /// Lowest rate, bytes/s.
    pub rate_min: u64,
    /// Highest rate, bytes/s.
    pub rate_max: u64,
    /// Delay over the least round trip that counts as a standing queue.
    pub queue_delay_max: Duration,
    /// Outage that the window rides out.
    pub outage: Duration,
}

impl Default for HoldConfig {
    /// 10 Mbit/s at the start, 0.5 to 100 Mbit/s.
    fn default() -> Self {
        HoldConfig {
            rate_initial: 1_250_000,
            rate_min: 62_500,
            rate_max: 12_500_000,
            queue_delay_max: Duration::from_millis(50),
            outage: Duration::from_secs(5),
        }
    }
}

impl HoldConfig {
    fn clamp(&self, rate: u64) -> u64 {
        let floor = self.rate_min.clamp(RATE_MIN, RATE_MAX);
        rate.clamp(floor, self.rate_max.clamp(floor, RATE_MAX))
    }
}

impl ControllerFactory for HoldConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(HoldController::new(*self, now, current_mtu))
    }
}

/// One acknowledged packet, as the controller sees it.
#[derive(Clone, Copy, Debug)]
struct AckedPacket {
    sent: Instant,
    bytes: u64,
    /// The sender had nothing more to send.
    app_limited: bool,
}

/// What was acknowledged since the last round ended.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Packets sent from here on end the round.
    start: Instant,
    rtt_min: Option<Duration>,
    packets: u64,
    bytes: u64,
    /// Of `bytes`, those that the rate held back.
    bytes_limited: u64,
}

impl Round {
    /// The rate was the limit for most of it.
    fn is_limited(&self) -> bool {
        self.bytes_limited > self.bytes / 2
    }

    fn new(start: Instant) -> Round {
        Round {
            start,
            rtt_min: None,
            packets: 0,
            bytes: 0,
            bytes_limited: 0,
        }
    }
}

/// The controller of one hop connection.
#[derive(Clone, Debug)]
pub struct HoldController {
    config: HoldConfig,
    mtu: u64,
    rate: u64,
    /// What was delivered when a queue was seen last while the rate was the limit, bytes/s.
    carried: Option<u64>,
    srtt: Duration,
    round: Round,
    /// The last step down; the round after it is not judged.
    settling: bool,
    /// The rate is low for a queue to empty.
    draining: bool,
    /// When the latest packet was sent of those that were acknowledged.
    acknowledged: Option<Instant>,
    /// Steps down in a row; the rate before the first, what was delivered at the last, and the round trip after it.
    steps: u32,
    rate_before_steps: u64,
    delivered: u64,
    rtt_after_step: Duration,
    base: WindowedMin,
}

impl HoldController {
    /// A controller that starts at the configured rate.
    pub fn new(config: HoldConfig, now: Instant, mtu: u16) -> HoldController {
        HoldController {
            config,
            mtu: u64::from(mtu).max(1),
            rate: config.clamp(config.rate_initial),
            carried: None,
            srtt: Duration::from_millis(100),
            round: Round::new(now),
            settling: false,
            draining: false,
            acknowledged: None,
            steps: 0,
            rate_before_steps: 0,
            delivered: 0,
            rtt_after_step: Duration::ZERO,
            base: WindowedMin::starting(BASE_WINDOW, now),
        }
    }

    /// The rate it paces at, bytes/s.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// When the latest packet was sent of those that the peer acknowledged.
    pub fn acknowledged(&self) -> Option<Instant> {
        self.acknowledged
    }

    fn acked(&mut self, now: Instant, packet: AckedPacket, smoothed_rtt: Duration) {
        let rtt = now.saturating_duration_since(packet.sent);
        self.srtt = smoothed_rtt;
        self.acknowledged = self.acknowledged.max(Some(packet.sent));
        self.base.note(now, rtt);
        if packet.sent >= self.round.start && self.round.packets >= ROUND_PACKETS_MIN {
            self.end_round(now);
        }
        let round = &mut self.round;
        round.rtt_min = Some(round.rtt_min.map_or(rtt, |min| min.min(rtt)));
        round.packets += 1;
        round.bytes = round.bytes.saturating_add(packet.bytes);
        if !packet.app_limited {
            round.bytes_limited = round.bytes_limited.saturating_add(packet.bytes);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        if std::mem::take(&mut self.settling) {
            return;
        }
        let (Some(rtt_min), Some(base)) = (round.rtt_min, self.base.get()) else {
            return;
        };
        let queued = rtt_min.saturating_sub(base);
        if queued > self.config.queue_delay_max {
            self.handle_queue(now, round, rtt_min, queued);
            return;
        }
        self.steps = 0;
        if queued <= self.config.queue_delay_max / 2 {
            self.handle_empty(round.is_limited());
        }
    }

    fn handle_queue(&mut self, now: Instant, round: Round, rtt_min: Duration, queued: Duration) {
        let delivered = per_second(round.bytes, now.saturating_duration_since(round.start));
        if delivered < self.config.clamp(0) {
            return;
        }
        let steps_max = match self.carried {
            Some(_) => STEPS_OURS_MAX,
            None => STEPS_MAX,
        };
        if self.steps >= steps_max {
            self.steps = 0;
            if rtt_min.saturating_add(self.config.queue_delay_max / 4) >= self.rtt_after_step {
                self.accept_path(now, rtt_min);
                return;
            }
        }
        self.delivered = delivered;
        if self.steps == 0 {
            let is_ours = round.is_limited() || self.rate <= scale(delivered, CLOSE);
            self.carried = Some(delivered).filter(|_| is_ours);
            self.rate_before_steps = self.rate;
            self.rate = self.rate.min(drain_rate(delivered, queued, rtt_min));
        } else {
            // Only now: when a queue is first seen, more of it is on the way.
            self.rtt_after_step = rtt_min;
            // What was delivered in the first round may have been sent before the link shrank.
            self.carried = self.carried.map(|_| delivered);
            self.rate = scale(self.rate.min(delivered), DOWN);
        }
        self.steps += 1;
        self.draining = true;
        self.settle();
    }

    /// No queue is in sight.
    fn handle_empty(&mut self, is_limiting: bool) {
        if std::mem::take(&mut self.draining) {
            let emptied = scale(self.delivered, EMPTY);
            self.rate = self.config.clamp(self.rate.max(emptied));
        } else if is_limiting {
            let is_near = self.carried.is_some_and(|carried| {
                let [least, most] = NEAR.map(|near| scale(carried, near));
                (least..most).contains(&self.rate)
            });
            let up = if is_near { UP_NEAR } else { UP };
            self.rate = self.config.clamp(scale(self.rate, up));
        }
    }

    fn accept_path(&mut self, now: Instant, rtt: Duration) {
        self.rate = self.rate_before_steps;
        self.carried = None;
        self.draining = false;
        self.base.reset(now, rtt);
    }

    fn settle(&mut self) {
        self.rate = self.config.clamp(self.rate);
        self.settling = true;
    }
}

impl Controller for HoldController {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.acked(
            now,
            AckedPacket {
                sent,
                bytes,
                app_limited,
            },
            rtt.get(),
        );
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
            self.rate = scale(self.rate, DOWN);
            self.settle();
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu).max(1);
    }

    fn window(&self) -> u64 {
        let ride_out = self.srtt.saturating_add(self.config.outage);
        bytes_in(self.rate, ride_out).max(WINDOW_PACKETS_MIN * self.mtu)
    }

    fn metrics(&self) -> ControllerMetrics {
        let (least, most) = QUANTUM_PACKETS;
        let quantum = bytes_in(self.rate, QUANTUM).clamp(least * self.mtu, most * self.mtu);
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.pacing_rate = Some(self.rate);
        metrics.send_quantum = Some(quantum);
        metrics.bandwidth_estimate = Some(self.rate.saturating_mul(8));
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What empties a queue in two round trips, where a link delivers so much.
fn drain_rate(delivered: u64, queued: Duration, rtt: Duration) -> u64 {
    let two_rtts_us = (2 * rtt.as_micros()).max(1);
    let left_us = two_rtts_us.saturating_sub(queued.as_micros());
    u64::try_from(u128::from(delivered) * left_us / two_rtts_us).unwrap_or(u64::MAX)
}

fn scale(value: u64, (numerator, denominator): (u64, u64)) -> u64 {
    value.saturating_mul(numerator) / denominator
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes).saturating_mul(1_000_000_000) / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
