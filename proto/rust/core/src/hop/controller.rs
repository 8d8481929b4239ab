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
//! - *Down*: to 85 %, of the rate or of a quarter more than what was delivered in the round, whichever is
//!   less (a rate far above what is used could be lowered many times without effect). Then a round is
//!   waited for the effect. ECN marks do the same.
//! - *Not ours*: if three steps down did not shorten the delay, it is not our queue; the path itself
//!   got longer (a detour). Its round trip becomes the new base and the rate is what it was before.
//! - *Up*: 5 % a round, only while the rate is what limits the sender, and no queue is in sight.
//! - *Window*: rate × (RTT + the longest outage to ride out). Lost datagrams count as in flight until
//!   QUIC declares them lost, so a window of one round trip stops the flow in an outage and keeps it
//!   stopped (ARCHITECTURE.md, "Five rules", rule 2). The rate is what limits, through the pacer.
//!
//! Loss alone never lowers the rate. On a path that drops without queueing (a policer), the cap is what
//! bounds the damage: set it to what the link was bought for.

use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numerator and denominator of a step up, a step down, and of the headroom over what was delivered.
const UP: (u64, u64) = (105, 100);
const DOWN: (u64, u64) = (85, 100);
const HEADROOM: (u64, u64) = (125, 100);
/// No rate leaves these bounds, whatever the configuration says.
const RATE_MIN: u64 = 1_000;
const RATE_MAX: u64 = 1 << 40;
/// The least round trip is kept over the running window of this length and the one before.
const BASE_WINDOW: Duration = Duration::from_secs(30);
/// Steps down without effect after which a longer round trip is taken for the path's own.
const STEPS_MAX: u32 = 3;
/// Packets acknowledged in a round before it is judged.
const ROUND_PACKETS_MIN: u64 = 4;
/// The window never falls below this many packets.
const WINDOW_PACKETS_MIN: u64 = 32;
/// Worth of sending in one go, and its bounds in packets.
const QUANTUM: Duration = Duration::from_millis(2);
const QUANTUM_PACKETS: (u64, u64) = (2, 44);

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
    srtt: Duration,
    round: Round,
    /// The last step down; the round after it is not judged.
    settling: bool,
    /// Steps down in a row, and the round trip and the rate before the first of them.
    steps: u32,
    before_steps: (Duration, u64),
    /// Least round trip in the window that began at `base_since`, and in the one before.
    base: Option<Duration>,
    base_before: Option<Duration>,
    base_since: Instant,
}

impl HoldController {
    /// A controller that starts at the configured rate.
    pub fn new(config: HoldConfig, now: Instant, mtu: u16) -> HoldController {
        HoldController {
            config,
            mtu: u64::from(mtu).max(1),
            rate: config.clamp(config.rate_initial),
            srtt: Duration::from_millis(100),
            round: Round::new(now),
            settling: false,
            steps: 0,
            before_steps: (Duration::ZERO, 0),
            base: None,
            base_before: None,
            base_since: now,
        }
    }

    /// The rate it paces at, bytes/s.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    fn acked(&mut self, now: Instant, packet: AckedPacket, smoothed_rtt: Duration) {
        let rtt = now.saturating_duration_since(packet.sent);
        self.srtt = smoothed_rtt;
        self.note_base(now, rtt);
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

    fn note_base(&mut self, now: Instant, rtt: Duration) {
        if now.saturating_duration_since(self.base_since) >= BASE_WINDOW {
            self.base_before = self.base.take();
            self.base_since = now;
        }
        self.base = Some(self.base.map_or(rtt, |base| base.min(rtt)));
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        if std::mem::take(&mut self.settling) {
            return;
        }
        let base = [self.base, self.base_before].into_iter().flatten().min();
        let (Some(rtt_min), Some(base)) = (round.rtt_min, base) else {
            return;
        };
        let queued = rtt_min.saturating_sub(base);
        if queued > self.config.queue_delay_max {
            let took = now.saturating_duration_since(round.start);
            let at_most = scale(per_second(round.bytes, took), HEADROOM);
            self.handle_queue(now, rtt_min, at_most);
            return;
        }
        self.steps = 0;
        if queued <= self.config.queue_delay_max / 2 && round.bytes_limited > round.bytes / 2 {
            self.rate = self.config.clamp(scale(self.rate, UP));
        }
    }

    fn handle_queue(&mut self, now: Instant, rtt_min: Duration, at_most: u64) {
        if self.steps == STEPS_MAX {
            self.steps = 0;
            let (rtt_before, rate_before) = self.before_steps;
            if rtt_min.saturating_add(self.config.queue_delay_max / 4) >= rtt_before {
                self.rate = rate_before;
                self.base = Some(rtt_min);
                self.base_before = None;
                self.base_since = now;
                return;
            }
        }
        if self.steps == 0 {
            self.before_steps = (rtt_min, self.rate);
        }
        self.steps += 1;
        self.step_down(Some(at_most));
    }

    fn step_down(&mut self, at_most: Option<u64>) {
        let rate = at_most.map_or(self.rate, |rate| rate.min(self.rate));
        self.rate = self.config.clamp(scale(rate, DOWN));
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
            self.step_down(None);
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

fn scale(value: u64, (numerator, denominator): (u64, u64)) -> u64 {
    value.saturating_mul(numerator) / denominator
}

fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate).saturating_mul(time.as_nanos()) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes).saturating_mul(1_000_000_000) / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const MTU: u16 = 1_200;
    const MS: Duration = Duration::from_millis(1);
    const MBIT: u64 = 125_000;

    /// A sender on a path with one drop-tail queue, in steps of a packet.
    struct Path {
        now: Instant,
        controller: HoldController,
        /// Propagation, both ways together.
        rtt: Duration,
        /// Bottleneck, bytes/s.
        rate: u64,
        /// What the application offers, bytes/s.
        offered: u64,
        queue_max: Duration,
        busy_until: Instant,
        loss_every: u64,
        packets: u64,
        acks: VecDeque<(Instant, Instant, bool)>,
        queued_last: Duration,
    }

    impl Path {
        fn new(config: HoldConfig, rtt_ms: u32, rate: u64, offered: u64) -> Path {
            let now = Instant::now();
            Path {
                now,
                controller: HoldController::new(config, now, MTU),
                rtt: rtt_ms * MS,
                rate,
                offered,
                queue_max: 1_000 * MS,
                busy_until: now,
                loss_every: 0,
                packets: 0,
                acks: VecDeque::new(),
                queued_last: Duration::ZERO,
            }
        }

        fn run(&mut self, seconds: u64) {
            let end = self.now + Duration::from_secs(seconds);
            while self.now < end {
                let paced = self.controller.metrics().pacing_rate.unwrap();
                let app_limited = self.offered < paced;
                self.send(app_limited);
                let gap = u128::from(MTU) * 1_000_000_000 / u128::from(paced.min(self.offered));
                self.now += Duration::from_nanos(u64::try_from(gap).unwrap());
                self.deliver_acks();
                assert!(self.controller.window() >= 5 * self.controller.rate());
            }
        }

        fn send(&mut self, app_limited: bool) {
            self.packets += 1;
            self.queued_last = self.busy_until.saturating_duration_since(self.now);
            let lost = self.loss_every > 0 && self.packets % self.loss_every < 3;
            if self.queued_last > self.queue_max || lost {
                self.controller
                    .on_congestion_event(self.now, self.now, false, false, 1_200, 0);
                return;
            }
            let service = bytes_in(1_000_000_000, MS) * u64::from(MTU) * 1_000 / self.rate;
            self.busy_until = self.busy_until.max(self.now) + Duration::from_nanos(service);
            self.acks
                .push_back((self.busy_until + self.rtt, self.now, app_limited));
        }

        fn deliver_acks(&mut self) {
            while let Some((at, sent, app_limited)) = self.acks.front().copied() {
                if at > self.now {
                    return;
                }
                self.acks.pop_front();
                let packet = AckedPacket {
                    sent,
                    bytes: u64::from(MTU),
                    app_limited,
                };
                self.controller.acked(at, packet, self.rtt);
            }
        }
    }

    #[test]
    fn bursty_loss_does_not_lower_the_rate() {
        let mut path = Path::new(HoldConfig::default(), 200, 20 * MBIT, 3 * MBIT);
        path.loss_every = 15;
        path.run(60);
        assert_eq!(path.controller.rate(), HoldConfig::default().rate_initial);
    }

    #[test]
    fn a_full_pipe_is_found_and_its_queue_stays_short() {
        let mut path = Path::new(HoldConfig::default(), 100, 5 * MBIT / 2, 8 * MBIT);
        path.run(10);
        for _ in 0..60 {
            path.run(1);
            assert!(path.queued_last < 200 * MS, "queue {:?}", path.queued_last);
            assert!(
                path.controller.rate() > 5 * MBIT / 2 * 6 / 10,
                "{}",
                path.controller.rate()
            );
            assert!(
                path.controller.rate() < 5 * MBIT / 2 * 14 / 10,
                "{}",
                path.controller.rate()
            );
        }
    }

    #[test]
    fn it_does_not_probe_while_the_application_is_the_limit() {
        let mut path = Path::new(HoldConfig::default(), 100, 100 * MBIT, 3 * MBIT);
        path.run(20);
        assert_eq!(path.controller.rate(), HoldConfig::default().rate_initial);
    }

    #[test]
    fn it_grows_to_its_cap_while_it_is_used_and_no_further() {
        let config = HoldConfig {
            rate_max: 20 * MBIT,
            ..HoldConfig::default()
        };
        let mut path = Path::new(config, 100, 100 * MBIT, 50 * MBIT);
        path.run(10);
        assert_eq!(path.controller.rate(), 20 * MBIT);
    }

    #[test]
    fn a_longer_path_is_not_taken_for_a_queue_for_long() {
        let mut path = Path::new(HoldConfig::default(), 100, 20 * MBIT, 3 * MBIT);
        path.run(5);
        path.rtt = 250 * MS;
        path.run(5);
        assert_eq!(path.controller.rate(), HoldConfig::default().rate_initial);
    }

    #[test]
    fn it_never_falls_below_its_floor() {
        let config = HoldConfig {
            rate_min: 2 * MBIT,
            ..HoldConfig::default()
        };
        let mut path = Path::new(config, 100, MBIT / 2, 8 * MBIT);
        for _ in 0..30 {
            path.run(1);
            assert!(path.controller.rate() >= 2 * MBIT);
        }
    }

    #[test]
    fn an_ecn_mark_steps_down_once_a_round() {
        let now = Instant::now();
        let mut controller = HoldController::new(HoldConfig::default(), now, MTU);
        controller.on_congestion_event(now, now, false, true, 0, 0);
        controller.on_congestion_event(now, now, false, true, 0, 0);
        assert_eq!(controller.rate(), 1_250_000 * 85 / 100);
    }

    #[test]
    fn an_outage_leaves_the_rate_alone() {
        let now = Instant::now();
        let mut controller = HoldController::new(HoldConfig::default(), now, MTU);
        controller.on_congestion_event(now, now, true, false, u64::MAX, u64::MAX);
        assert_eq!(controller.rate(), 1_250_000);
    }

    #[test]
    fn no_configuration_overflows() {
        let now = Instant::now();
        for rate in [0, 1, u64::MAX] {
            let config = HoldConfig {
                rate_initial: rate,
                rate_min: rate,
                rate_max: u64::MAX - rate,
                queue_delay_max: Duration::MAX,
                outage: Duration::MAX,
            };
            let mut controller = HoldController::new(config, now, 0);
            for step in 0..100u32 {
                let packet = AckedPacket {
                    sent: now,
                    bytes: u64::MAX,
                    app_limited: false,
                };
                controller.acked(now + step * MS, packet, Duration::MAX);
                assert!(controller.metrics().pacing_rate.unwrap() >= RATE_MIN);
                assert!(controller.window() > 0);
            }
        }
    }
}
