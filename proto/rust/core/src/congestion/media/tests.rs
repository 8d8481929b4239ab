//! The controller on synthetic acknowledgements.

mod access;

use super::*;
use access::Access;
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
    let mut now = feed(&mut controller, now, 1_000, 50 * MS, false);
    for ms in 0..600 {
        now = feed(&mut controller, now, 1, (50 + ms / 4) * MS, false);
    }
    assert!(controller.rate() < 1_200_000, "{}", controller.rate());
}

#[test]
fn a_path_that_becomes_longer_costs_no_rate_and_is_the_base_within_two_round_trips() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 400, 50 * MS, false);
    controller.mode = Mode::Delay;
    let mut now = feed(&mut controller, now, 400, 50 * MS, false);
    let before = controller.rate();
    for _ in 0..570 {
        now = feed(&mut controller, now, 1, 285 * MS, false);
        assert!(controller.rate() >= before);
    }
    assert_eq!(controller.base.get(), Some(285 * MS));
}

#[test]
fn a_rate_that_is_mostly_used_grows_though_the_pacer_never_holds_anything() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 400, 50 * MS, false);
    controller.mode = Mode::Delay;
    controller.rate = 1_300_000; // 1,200,000 bytes/s are acknowledged
    feed(&mut controller, now, 1_000, 50 * MS, true);
    assert!(controller.rate() > 1_300_000);
}

#[test]
fn delay_that_the_application_cannot_have_caused_leaves_the_rate_alone() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 400, 50 * MS, false);
    controller.mode = Mode::Delay;
    controller.rate = 2_000_000;
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
fn a_test_that_acquits_loss_leaves_the_rate_as_it_was() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let mut now = feed(&mut controller, now, 400, 50 * MS, false);
    controller.mode = Mode::Delay;
    controller.rate = 3_000_000;
    let mut was_tested = false;
    for _ in 0..1_500 {
        controller.on_packet_lost(PACKET as u16, 0, now);
        now = feed(&mut controller, now, 9, 50 * MS, false);
        was_tested |= controller.policer.is_testing();
    }
    assert!(was_tested);
    assert_eq!(controller.rate(), 3_000_000);
}

#[test]
fn delay_that_comes_and_goes_at_the_beginning_is_no_queue_later() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let mut now = feed(&mut controller, now, 400, 50 * MS, true);
    for number in 0..30 {
        now = feed(&mut controller, now, 100, (50 + number % 2 * 40) * MS, true);
    }
    assert!(matches!(controller.mode, Mode::Startup(_)));
    assert!(controller.queue_bound(true) > 40 * MS);
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
fn slow_start_at_most_doubles_a_round_trip() {
    let now = epoch() + 1_000 * MS;
    let mut controller = controller(now);
    let now = feed(&mut controller, now, 100, 50 * MS, false);
    let before = controller.rate();
    feed(&mut controller, now, 50, 50 * MS, false);
    assert!(controller.rate() <= 2 * before);
}

/// A mobile access: it loses a tenth in windows, its delay wanders, its rate fades.
fn mobile(seed: u64) -> Access {
    Access {
        seed,
        rate: 290_000,
        fades: true,
        wanders: true,
        window_loss_permille: 300,
        rtt_ms: 240,
        queue_ms_max: 300,
    }
}

/// What several such accesses yield in the mean.
fn mean_used(access: impl Fn(u64) -> Access) -> f64 {
    (0..6).map(|seed| access(seed).run(60).used).sum::<f64>() / 6.0
}

#[test]
fn delay_that_wanders_and_windows_of_loss_do_not_make_the_rate_fall_to_a_third_of_the_access() {
    let used = mean_used(|seed| Access {
        fades: false,
        rate: 1_250_000,
        rtt_ms: 150,
        ..mobile(seed)
    });
    assert!(used > 0.6, "{used}");
}

#[test]
fn an_access_that_fades_each_second_is_used_though_its_delay_wanders_and_windows_lose() {
    let used = mean_used(|seed| Access {
        rate: 60_000,
        ..mobile(seed)
    });
    assert!(used > 0.54, "{used}");
}

#[test]
fn a_flow_that_is_alone_keeps_its_queue_short_and_the_bottleneck_busy() {
    let alone = Access {
        rate: 625_000,
        rtt_ms: 100,
        fades: false,
        wanders: false,
        window_loss_permille: 0,
        queue_ms_max: 500,
        ..mobile(0)
    };
    let outcome = alone.run(30);
    assert!(outcome.queue_p95_ms <= 50, "{}", outcome.queue_p95_ms);
    assert!(outcome.used > 0.9, "{}", outcome.used);
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
