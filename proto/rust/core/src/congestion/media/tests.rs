//! The controller on synthetic acknowledgements.

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const PACKET: u64 = 1_200;

fn epoch() -> Instant {
    #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
    Instant::now()
}

fn controller(now: Instant) -> MediaController {
    MediaController::new(MediaConfig::default(), now, PACKET as u16)
}

/// Acknowledge a packet a millisecond for so long, at one round trip.
fn feed(
    controller: &mut MediaController,
    from: Instant,
    ms: u32,
    rtt: Duration,
    app_limited: bool,
) -> Instant {
    for step in 0..ms {
        let now = from + step * MS;
        controller.srtt = Some(rtt);
        controller.acked(now, now - rtt, PACKET, app_limited);
    }
    from + ms * MS
}

#[test]
fn the_rate_grows_while_it_is_used_and_nothing_queues() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let before = controller.rate();
    feed(&mut controller, now, 1_000, 50 * MS, false);
    assert!(controller.rate() > before);
}

#[test]
fn a_standing_queue_lowers_the_rate_below_what_is_delivered() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 1_000, 50 * MS, false);
    feed(&mut controller, now, 600, 120 * MS, false);
    assert!(controller.rate() < 1_200_000, "{}", controller.rate());
}

/// The path's own delay, as of a mobile network: drawn anew every half a second, lasting for that time.
fn wander_ms(ms: u32) -> u32 {
    const DRAWN: [u32; 16] = [
        2, 70, 9, 140, 30, 5, 90, 18, 180, 4, 60, 12, 110, 7, 40, 150,
    ];
    DRAWN[(ms / 500) as usize % DRAWN.len()]
}

#[test]
fn delay_that_wanders_by_itself_leaves_most_of_a_rate_that_comes_through() {
    let start = epoch() + 1_000 * MS;
    let mut controller = controller(start);
    feed(&mut controller, start, 300, 20 * MS, false);
    controller.mode = Mode::Delay;
    controller.set_rate(500_000);
    let (mut credit, mut least) = (0, u64::MAX);
    for ms in 300..40_000 {
        // A film that needs half of the rate while delay wanders little; then everything there is, and more.
        let is_film = ms < 10_000;
        let wander = if is_film {
            wander_ms(ms) / 4
        } else {
            wander_ms(ms)
        };
        let (now, rtt) = (start + ms * MS, (20 + wander) * MS);
        let rate = if is_film { 250_000 } else { controller.rate() };
        controller.srtt = Some(rtt);
        credit += rate / 1_000;
        while credit >= PACKET {
            controller.acked(now, now - rtt, PACKET, is_film);
            credit -= PACKET;
        }
        least = least.min(controller.figures().usable);
    }
    assert!(least > 150_000, "{least}");
    assert!(
        controller.figures().usable > 1_000_000,
        "it is used, and nothing queues"
    );
}

#[test]
fn an_acknowledgement_that_its_receiver_kept_is_no_queue() {
    let start = epoch() + 1_000 * MS;
    let mut controller = controller(start);
    let mut now = feed(&mut controller, start, 300, 20 * MS, false);
    controller.mode = Mode::Delay;
    controller.set_rate(40_000);
    // The path takes 10 ms more, and a packet goes every 30 ms: each is acknowledged alone, 25 ms after it came. Nearer
    // ones go two by two.
    let end = now + 20_000 * MS;
    while now < end {
        let apart = Duration::from_nanos(PACKET * 1_000_000_000 / controller.rate());
        now += 2 * apart;
        let last = if apart < 25 * MS { 0 } else { 25 };
        let kept = [apart.min(25 * MS), last * MS];
        let arrivals = [now - apart, now];
        for (arrived, kept) in arrivals.into_iter().zip(kept) {
            controller.srtt = Some(30 * MS + kept);
            controller.acked(arrived + kept, arrived - 30 * MS, PACKET, false);
        }
    }
    assert!(controller.rate() > 200_000, "{}", controller.rate());
}

/// A bottleneck with a queue, 170 ms away and back, and who sends over it.
#[derive(Default)]
struct Bottleneck {
    /// Bytes a millisecond.
    capacity: u64,
    now_ms: u32,
    free_us: u64,
    credit: u64,
    wanted: u64,
    under_way: std::collections::VecDeque<(u64, u64)>,
}

impl Bottleneck {
    /// Let time pass while there are so many bytes a millisecond to be sent.
    fn run(&mut self, controller: &mut MediaController, start: Instant, ms: u32, demand: u64) {
        const RTT_US: u64 = 170_000;
        for _ in 0..ms {
            self.now_ms += 1;
            let now_us = u64::from(self.now_ms) * 1_000;
            self.wanted = (self.wanted + demand * 1_000).min(100 * PACKET * 1_000);
            self.credit = (self.credit + controller.rate()).min(10 * PACKET * 1_000);
            while self.wanted.min(self.credit) >= PACKET * 1_000 {
                self.wanted -= PACKET * 1_000;
                self.credit -= PACKET * 1_000;
                self.free_us = now_us.max(self.free_us) + PACKET * 1_000 / self.capacity;
                self.under_way.push_back((self.free_us + RTT_US, now_us));
            }
            let app_limited = self.wanted < PACKET * 1_000;
            while let Some((_, sent_us)) = self.under_way.pop_front_if(|(at, _)| *at <= now_us) {
                let sent = start + Duration::from_micros(sent_us);
                controller.srtt = Some(170 * MS);
                controller.acked(start + self.now_ms * MS, sent, PACKET, app_limited);
            }
        }
    }
}

#[test]
fn a_rate_comes_back_with_what_a_bottleneck_carries_again_while_its_queue_drains() {
    let start = epoch() + 1_000 * MS;
    let mut controller = controller(start);
    controller.mode = Mode::Delay;
    controller.set_rate(225_000);
    let mut path = Bottleneck {
        capacity: 300,
        ..Bottleneck::default()
    };
    path.run(&mut controller, start, 4_000, 150);
    path.capacity = 60;
    path.run(&mut controller, start, 600, 150);
    path.capacity = 300;
    path.run(&mut controller, start, 2_000, 150);
    assert!(!controller.steps.is_any());
    assert!(controller.rate() >= 200_000, "{}", controller.rate());
}

#[test]
fn delay_that_the_application_cannot_have_caused_leaves_the_rate_alone() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 400, 50 * MS, false);
    controller.mode = Mode::Delay;
    let now = feed(&mut controller, now, 400, 50 * MS, true);
    let before = controller.rate();
    feed(&mut controller, now, 600, 130 * MS, true);
    assert_eq!(controller.rate(), before);
}

#[test]
fn an_application_that_sends_little_neither_raises_nor_lowers_the_rate() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 1_000, 50 * MS, true);
    let before = controller.rate();
    feed(&mut controller, now, 5_000, 50 * MS, true);
    assert_eq!(controller.rate(), before);
}

#[test]
fn loss_alone_never_lowers_the_rate_of_a_film() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let mut now = feed(&mut controller, now, 500, 50 * MS, true);
    let before = controller.rate();
    for _ in 0..1_000 {
        controller.on_packet_lost(PACKET as u16, 0, now);
        now = feed(&mut controller, now, 4, 50 * MS, true);
    }
    assert_eq!(controller.rate(), before);
}

#[test]
fn a_test_of_loss_that_was_innocent_leaves_the_rate_as_it_was() {
    let start = epoch() + 1_000 * MS;
    let mut controller = controller(start);
    controller.mode = Mode::Delay;
    controller.set_rate(150_000);
    let (mut before, mut credit, mut sent) = (0, 0, 0_u32);
    for ms in 0..60_000 {
        let (now, was_tested) = (start + ms * MS, controller.policer.cap().is_some());
        if !was_tested {
            before = controller.rate();
        }
        credit += controller.rate();
        while credit >= PACKET * 1_000 {
            credit -= PACKET * 1_000;
            sent += 1;
            match sent % 10 {
                0 => controller.round.lost += PACKET,
                _ => controller.acked(now, now - 50 * MS, PACKET, false),
            }
        }
        if was_tested && controller.policer.cap().is_none() {
            assert!(
                controller.rate() >= before,
                "{}, {before}",
                controller.rate()
            );
            return;
        }
    }
    panic!("no test was made, or it did not end");
}

#[test]
fn a_mark_of_congestion_lowers_the_rate_once_a_round() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 500, 50 * MS, false);
    let before = controller.rate();
    for _ in 0..5 {
        controller.on_congestion_event(now, now, false, true, 0, 0);
    }
    assert_eq!(controller.rate(), scale(before, ECN_DOWN.0, ECN_DOWN.1));
}

#[test]
fn a_mark_during_a_test_of_loss_is_not_taken_back_when_the_test_ends() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    controller.uncapped = 1_000_000;
    controller.on_congestion_event(now, now, false, true, 0, 0);
    assert_eq!(controller.uncapped, 0);
}

#[test]
fn slow_start_at_most_doubles_a_round_trip() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 100, 50 * MS, false);
    let before = controller.rate();
    feed(&mut controller, now, 50, 50 * MS, false);
    assert!(controller.rate() <= 2 * before);
}

#[derive(Clone, Debug)]
enum Step {
    Ack {
        rtt_ms: u32,
        bytes: u64,
        app_limited: bool,
    },
    Lost(u16),
    Ecn,
    Mtu(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![0u64..3_000, Just(u64::MAX)];
    prop_oneof![
        8 => (0u32..3_000, bytes, any::<bool>())
            .prop_map(|(rtt_ms, bytes, app_limited)| Step::Ack { rtt_ms, bytes, app_limited }),
        2 => any::<u16>().prop_map(Step::Lost),
        1 => Just(Step::Ecn),
        1 => any::<u16>().prop_map(Step::Mtu),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_events_leaves_the_limits(
        steps in prop::collection::vec((0u32..400, step()), 1..400),
        outage_ms in 0u64..5_000,
    ) {
        let config = MediaConfig {
            outage: Duration::from_millis(outage_ms),
            ..MediaConfig::default()
        };
        let mut now = epoch() + 10_000 * MS;
        let mut controller = MediaController::new(config, now, 1_200);
        for (wait_ms, step) in steps {
            now += wait_ms * MS;
            match step {
                Step::Ack { rtt_ms, bytes, app_limited } => {
                    controller.srtt = Some(rtt_ms * MS);
                    controller.acked(now, now - rtt_ms * MS, bytes, app_limited);
                }
                Step::Lost(bytes) => controller.on_packet_lost(bytes, 0, now),
                Step::Ecn => controller.on_congestion_event(now, now, false, true, 0, 0),
                Step::Mtu(mtu) => controller.on_mtu_update(mtu),
            }
            let metrics = controller.metrics();
            let rate = metrics.pacing_rate.unwrap_or(0);
            prop_assert!((config.rate_min..=config.rate_max).contains(&rate));
            prop_assert!(controller.window() >= WINDOW_PACKETS_MIN * controller.mtu);
            let most = bytes_in(config.rate_max, controller.rtt() + config.outage);
            prop_assert!(controller.window() <= 2 * (most + STARTUP_WINDOW_MAX));
            prop_assert!(controller.figures().usable >= rate);
        }
    }
}
