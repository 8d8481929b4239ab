//! The controller on a path with one queue, in virtual time.

use super::*;
use crate::hop::tests::epoch;
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
        let now = epoch();
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
        self.run_ms(1_000 * seconds);
    }

    fn run_ms(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
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

/// Share of packets that meet a queue of more than 80 ms.
fn share_late(path: &mut Path, seconds: u64) -> f64 {
    let (mut packets, mut late) = (0, 0);
    let end = path.now + Duration::from_secs(seconds);
    while path.now < end {
        path.run_ms(10);
        packets += 1;
        late += u32::from(path.queued_last > 80 * MS);
    }
    f64::from(late) / f64::from(packets)
}

#[test]
fn a_link_that_shrank_is_soon_without_a_queue_and_stays_used() {
    for rtt_ms in [30, 64, 160, 300] {
        for offered in [2 * MBIT, 8 * MBIT] {
            let mut path = Path::new(HoldConfig::default(), rtt_ms, 12 * MBIT, offered);
            path.run(5);
            path.rate = 3 * MBIT / 2;
            path.run(3);
            let late = share_late(&mut path, 20);
            let packets = path.packets;
            path.run(10);
            let used = (path.packets - packets) as f64 * f64::from(MTU) / (15 * MBIT) as f64;
            let of = format!("{rtt_ms} ms, {offered} B/s: late {late:.2}, used {used:.2}");
            assert!(late < 0.25 && used > 0.95, "{of}");
        }
    }
}

/// Shallow buffers are full at once, and a round trip that cannot grow looks like a longer path.
#[test]
fn a_full_shallow_buffer_is_not_taken_for_a_longer_path() {
    let mut failed = Vec::new();
    for (before, after) in [(6, 4), (8, 6), (10, 5), (4, 3), (10, 8)] {
        for rtt_ms in [100, 150, 200, 250, 300] {
            for queue_ms in [100, 150, 200, 300] {
                let offered = before * MBIT * 13 / 10;
                let mut path = Path::new(HoldConfig::default(), rtt_ms, before * MBIT, offered);
                path.queue_max = queue_ms * MS;
                path.run(10);
                path.rate = after * MBIT;
                path.run(20);
                let rate = path.controller.rate();
                if rate > after * MBIT * 13 / 10 {
                    failed.push((before, after, rtt_ms, queue_ms, rate / 125));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{} {failed:?}", failed.len());
}

#[test]
fn a_longer_path_takes_little_from_a_film_that_the_rate_did_not_limit() {
    let mut path = Path::new(HoldConfig::default(), 160, 20 * MBIT, 2 * MBIT);
    path.run(5);
    let packets = path.packets;
    path.rtt = 355 * MS;
    path.run(5);
    let sent = (path.packets - packets) as f64 * f64::from(MTU) / (10 * MBIT) as f64;
    assert!(sent > 0.9, "{sent:.2}");
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
    assert!(path.controller.rate() >= HoldConfig::default().rate_initial);
    assert!(path.controller.rate() < HoldConfig::default().rate_initial * 6 / 5);
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
fn who_sends_next_to_nothing_is_not_the_cause_of_a_queue() {
    let mut path = Path::new(HoldConfig::default(), 100, 20 * MBIT, MBIT / 10);
    path.run(5);
    path.rtt = 200 * MS;
    for _ in 0..5 {
        path.run(1);
        assert_eq!(path.controller.rate(), HoldConfig::default().rate_initial);
    }
}

#[test]
fn an_ecn_mark_steps_down_once_a_round() {
    let now = epoch();
    let mut controller = HoldController::new(HoldConfig::default(), now, MTU);
    controller.on_congestion_event(now, now, false, true, 0, 0);
    controller.on_congestion_event(now, now, false, true, 0, 0);
    assert_eq!(controller.rate(), 1_250_000 * 85 / 100);
}

#[test]
fn an_outage_leaves_the_rate_alone() {
    let now = epoch();
    let mut controller = HoldController::new(HoldConfig::default(), now, MTU);
    controller.on_congestion_event(now, now, true, false, u64::MAX, u64::MAX);
    assert_eq!(controller.rate(), 1_250_000);
}

#[test]
fn no_configuration_overflows() {
    let now = epoch();
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
