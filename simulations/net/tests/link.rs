//! A link does what its configuration says.

use farcast_net::link::Verdict;
use farcast_net::{Link, LinkConfig, LinkError, Loss};
use proptest::prelude::*;

fn link(config: LinkConfig, seed: u64) -> Link {
    Link::new(config, seed).expect("a valid link")
}

fn lossy(loss: Loss) -> LinkConfig {
    LinkConfig {
        loss,
        ..LinkConfig::default()
    }
}

/// Which of `count` datagrams are lost.
fn losses(config: &LinkConfig, seed: u64, count: usize) -> Vec<bool> {
    let mut link = link(config.clone(), seed);
    (0..count as u64)
        .map(|i| link.send(i * 1_000, 1_200) == Verdict::DropLoss)
        .collect()
}

fn share(lost: &[bool]) -> f64 {
    lost.iter().filter(|l| **l).count() as f64 / lost.len() as f64
}

fn mean_burst(lost: &[bool]) -> f64 {
    let bursts = lost.split(|l| !l).filter(|run| !run.is_empty());
    let lengths: Vec<usize> = bursts.map(<[bool]>::len).collect();
    lengths.iter().sum::<usize>() as f64 / lengths.len() as f64
}

#[test]
fn random_loss_is_within_five_sigma_of_its_share() {
    for p in [0.001, 0.03, 0.2, 0.5] {
        let count = 200_000;
        let got = share(&losses(&lossy(Loss::Random { p }), 1, count));
        let sigma = (p * (1.0 - p) / count as f64).sqrt();
        assert!((got - p).abs() < 5.0 * sigma, "{p}: {got}");
    }
}

#[test]
fn bursty_loss_has_its_share_and_its_burst_length() {
    for (loss, burst) in [
        (0.01, 1.0),
        (0.02, 3.0),
        (0.05, 3.0),
        (0.1, 6.0),
        (0.2, 10.0),
    ] {
        let count = 400_000;
        let lost = losses(&lossy(Loss::GilbertElliott { loss, burst }), 3, count);
        // Neighbours are correlated by 1 - p - r, which widens the spread of the mean.
        let leave = 1.0 / burst;
        let correlation: f64 = 1.0 - leave - loss * leave / (1.0 - loss);
        let widening = (1.0 + correlation) / (1.0 - correlation);
        let sigma = (loss * (1.0 - loss) * widening / count as f64).sqrt();
        let got = share(&lost);
        assert!((got - loss).abs() < 5.0 * sigma, "{loss}/{burst}: {got}");
        // Burst lengths are geometric with variance L (L - 1).
        let bursts = count as f64 * loss / burst;
        let sigma = (burst * (burst - 1.0) / bursts).sqrt();
        let got = mean_burst(&lost);
        assert!(
            (got - burst).abs() < 5.0 * sigma + 1e-9,
            "{loss}/{burst}: {got}"
        );
    }
}

#[test]
fn the_first_datagram_is_lost_with_the_loss_share_too() {
    let loss = Loss::GilbertElliott {
        loss: 0.2,
        burst: 5.0,
    };
    let first: Vec<bool> = (0..5_000)
        .map(|seed| losses(&lossy(loss.clone()), seed, 1)[0])
        .collect();
    assert!((share(&first) - 0.2).abs() < 0.03, "{}", share(&first));
}

#[test]
fn certain_loss_and_no_loss_are_exact() {
    assert_eq!(
        share(&losses(&lossy(Loss::Random { p: 1.0 }), 1, 1_000)),
        1.0
    );
    assert_eq!(
        share(&losses(&lossy(Loss::Random { p: 0.0 }), 1, 1_000)),
        0.0
    );
    let none = Loss::GilbertElliott {
        loss: 0.0,
        burst: 3.0,
    };
    assert_eq!(share(&losses(&lossy(none), 1, 1_000)), 0.0);
}

#[test]
fn delay_alone_is_exact() {
    let mut link = link(
        LinkConfig {
            delay_us: 40_000,
            ..LinkConfig::default()
        },
        1,
    );
    assert_eq!(link.send(7, 1_200), Verdict::Deliver(40_007));
}

#[test]
fn rate_spaces_datagrams_and_the_queue_drops_what_does_not_fit() {
    let config = LinkConfig {
        delay_us: 1_000,
        rate_bps: Some(8_000_000), // one byte a microsecond
        queue_bytes: 3_000,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    let burst: Vec<Verdict> = (0..5).map(|_| link.send(0, 1_000)).collect();
    let want = [
        Verdict::Deliver(2_000),
        Verdict::Deliver(3_000),
        Verdict::Deliver(4_000),
        Verdict::DropQueue,
        Verdict::DropQueue,
    ];
    assert_eq!(burst, want);
    // A full millisecond later exactly one has left.
    assert_eq!(link.send(1_000, 1_000), Verdict::Deliver(5_000));
    assert_eq!(link.send(1_000, 1_000), Verdict::DropQueue);
    assert_eq!(link.stats().queue_bytes_peak, 3_000);
}

#[test]
fn an_idle_link_takes_a_datagram_larger_than_its_queue() {
    let config = LinkConfig {
        rate_bps: Some(1_000_000),
        queue_bytes: 100,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    assert_eq!(link.send(0, 1_000), Verdict::Deliver(8_000));
    assert_eq!(link.send(0, 1_000), Verdict::DropQueue);
    assert_eq!(link.send(8_000, 1_000), Verdict::Deliver(16_000));
}

#[test]
fn jitter_spreads_over_its_whole_range() {
    let config = LinkConfig {
        delay_us: 10_000,
        jitter_us: 5_000,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    let delays: Vec<u64> = (0..2_000)
        .map(|i| match link.send(i * 20_000, 100) {
            Verdict::Deliver(at) => at - i * 20_000,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(delays.iter().all(|d| (10_000..=15_000).contains(d)));
    assert!(delays.iter().any(|d| *d < 10_100) && delays.iter().any(|d| *d > 14_900));
}

#[test]
fn a_cut_link_drops_and_a_mended_one_delivers() {
    let mut link = link(LinkConfig::default(), 1);
    link.set_up(false);
    assert_eq!(link.send(0, 100), Verdict::DropDown);
    link.set_up(true);
    assert_eq!(link.send(5, 100), Verdict::Deliver(5));
    assert_eq!(link.stats().packets_dropped_down, 1);
}

#[test]
fn a_shorter_delay_set_later_does_not_overtake() {
    let slow = LinkConfig {
        delay_us: 100_000,
        ..LinkConfig::default()
    };
    let mut link = link(slow, 1);
    assert_eq!(link.send(0, 100), Verdict::Deliver(100_000));
    link.set_config(LinkConfig::default()).expect("valid");
    assert_eq!(link.send(10, 100), Verdict::Deliver(100_000));
    assert_eq!(link.send(200_000, 100), Verdict::Deliver(200_000));
}

#[test]
fn the_same_seed_loses_the_same_and_jitter_does_not_change_it() {
    let bursty = lossy(Loss::GilbertElliott {
        loss: 0.05,
        burst: 3.0,
    });
    let shaky = LinkConfig {
        jitter_us: 3_000,
        ..bursty.clone()
    };
    assert_eq!(losses(&bursty, 9, 5_000), losses(&bursty, 9, 5_000));
    assert_eq!(losses(&bursty, 9, 5_000), losses(&shaky, 9, 5_000));
    assert_ne!(losses(&bursty, 9, 5_000), losses(&bursty, 10, 5_000));
}

#[test]
fn a_wrong_field_is_refused_by_name() {
    let gilbert = |loss, burst| lossy(Loss::GilbertElliott { loss, burst });
    let random = |p| lossy(Loss::Random { p });
    let base = LinkConfig::default();
    let cases = [
        (random(-0.1), "loss.p"),
        (random(1.1), "loss.p"),
        (random(f64::NAN), "loss.p"),
        (gilbert(1.0, 3.0), "loss.loss"),
        (gilbert(-0.01, 3.0), "loss.loss"),
        (gilbert(f64::NAN, 3.0), "loss.loss"),
        (gilbert(0.1, 0.5), "loss.burst"),
        (gilbert(0.1, f64::NAN), "loss.burst"),
        (gilbert(0.1, f64::INFINITY), "loss.burst"),
        (gilbert(0.9, 2.0), "loss.burst"),
        (
            LinkConfig {
                rate_bps: Some(0),
                ..base.clone()
            },
            "rate_bps",
        ),
        (
            LinkConfig {
                queue_bytes: 0,
                ..base.clone()
            },
            "queue_bytes",
        ),
        (
            LinkConfig {
                delay_us: u64::MAX,
                ..base.clone()
            },
            "delay_us",
        ),
        (
            LinkConfig {
                jitter_us: u64::MAX,
                ..base.clone()
            },
            "jitter_us",
        ),
    ];
    for (config, field) in cases {
        let error = Link::new(config.clone(), 1).expect_err(field);
        assert_eq!(error.field, field);
        let mut link = link(base.clone(), 1);
        assert_eq!(link.set_config(config).expect_err(field).field, field);
        assert_eq!(*link.config(), base);
    }
}

#[test]
fn the_error_says_which_field_what_value_and_which_rule() {
    let error: LinkError = Link::new(lossy(Loss::Random { p: 1.5 }), 1).expect_err("refused");
    assert_eq!(error.to_string(), "link: loss.p = 1.5: must be from 0 to 1");
}

fn any_loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::None),
        (0.0..=1.0).prop_map(|p| Loss::Random { p }),
        (0.0..0.5, 1.0..20.0).prop_map(|(loss, burst)| Loss::GilbertElliott { loss, burst }),
    ]
}

prop_compose! {
    fn any_config()(
        delay_us in 0u64..300_000,
        jitter_us in 0u64..50_000,
        rate_bps in proptest::option::of(10_000u64..10_000_000_000),
        queue_bytes in 1u64..1_000_000,
        loss in any_loss(),
    ) -> LinkConfig {
        LinkConfig { delay_us, jitter_us, rate_bps, queue_bytes, loss, ..LinkConfig::default() }
    }
}

proptest! {
    #[test]
    fn order_is_kept_times_are_possible_and_every_datagram_is_counted(
        config in any_config(),
        seed: u64,
        sends in proptest::collection::vec((0u64..20_000, 28usize..1_500), 1..200),
    ) {
        let mut link = link(config.clone(), seed);
        let (mut now_us, mut last_us) = (0, 0);
        for &(gap_us, bytes) in &sends {
            now_us += gap_us;
            if let Verdict::Deliver(at_us) = link.send(now_us, bytes) {
                prop_assert!(at_us >= last_us);
                prop_assert!(at_us >= now_us + config.delay_us);
                let held_us = config.rate_bps.map_or(0, |rate| {
                    let bytes = config.queue_bytes.max(bytes as u64).max(1_500);
                    // Each datagram's time on the wire is rounded up to a nanosecond.
                    bytes * 8_000_000 / rate + 2
                });
                let latest_us = now_us + held_us + config.delay_us + config.jitter_us;
                // Held behind a predecessor: it was sent earlier, so it is bound by the same sum.
                prop_assert!(at_us <= latest_us, "{} > {}", at_us, latest_us);
                last_us = at_us;
            }
        }
        let s = link.stats();
        prop_assert_eq!(s.packets_in, sends.len() as u64);
        let ends = s.packets_delivered + s.packets_lost + s.packets_dropped_queue;
        prop_assert_eq!(s.packets_in, ends + s.packets_dropped_down);
    }
}
