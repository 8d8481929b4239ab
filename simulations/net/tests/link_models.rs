//! The models of loss, delay, rate and size against their closed forms, over fixed seeds.
//!
//! Where a figure is random the tolerance is five standard errors of its estimate, correlation included,
//! and is computed beside it; seeds are fixed, so that a failure is a change and not bad luck.

use farcast_net::link::Verdict;
use farcast_net::{GilbertChain, Link, LinkConfig, Loss, LossWindow, RateEntry};
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

/// Which of `count` datagrams are lost that are sent every `gap_us`.
fn losses(loss: Loss, seed: u64, count: u64, gap_us: u64) -> Vec<bool> {
    let mut link = link(lossy(loss), seed);
    let send = |i| link.send(i * gap_us, 1_200) == Verdict::DropLoss;
    (0..count).map(send).collect()
}

fn share(lost: &[bool]) -> f64 {
    lost.iter().filter(|l| **l).count() as f64 / lost.len() as f64
}

/// P(lost | the datagram `lag` before was lost).
fn share_after_loss(lost: &[bool], lag: usize) -> f64 {
    let after: Vec<bool> = (lag..lost.len())
        .filter(|&i| lost[i - lag])
        .map(|i| lost[i])
        .collect();
    share(&after)
}

/// Five standard errors of a share over `count` datagrams with that correlation between neighbours.
fn tolerance(p: f64, count: u64, correlation: f64) -> f64 {
    let widening = (1.0 + correlation) / (1.0 - correlation);
    5.0 * (p * (1.0 - p) * widening / count as f64).sqrt()
}

fn assert_near(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!(
        (got - want).abs() <= tolerance,
        "{what}: {got}, expected {want} ± {tolerance}"
    );
}

// ---- Loss ----------------------------------------------------------------------------------------

#[test]
fn bursts_in_time_have_their_share_and_their_correlation_at_every_spacing() {
    let count = 400_000;
    for (loss, burst_us, gap_us) in [
        (0.02, 15_000, 1_000),
        (0.05, 70_000, 4_000),
        (0.1, 5_000, 3_000),
    ] {
        let lost = losses(
            Loss::GilbertElliottTime { loss, burst_us },
            3,
            count,
            gap_us,
        );
        // 1/c = 1/B + 1/G with G = B (1 - loss) / loss.
        let good_us = burst_us as f64 * (1.0 - loss) / loss;
        let rate = 1.0 / burst_us as f64 + 1.0 / good_us;
        let correlation = (-(gap_us as f64) * rate).exp();
        let near = tolerance(loss, count, correlation);
        assert_near(share(&lost), loss, near, "share");
        for lag in [1, 3, 10] {
            let want = loss + (1.0 - loss) * correlation.powi(lag);
            let near = tolerance(want, (count as f64 * loss) as u64, correlation);
            let got = share_after_loss(&lost, lag as usize);
            assert_near(got, want, near, "share after a loss");
        }
    }
}

#[test]
fn two_levels_have_the_share_and_the_dwell_of_each() {
    let count = 1_000_000;
    let chain = |loss, burst| GilbertChain { loss, burst };
    for (good, bad) in [
        (chain(0.001, None), chain(0.2, None)),
        (chain(0.002, Some(1.5)), chain(0.3, Some(4.0))),
    ] {
        let (enter, leave) = (0.001, 0.01);
        let loss = Loss::TwoLevel {
            good,
            bad,
            good_to_bad: enter,
            bad_to_good: leave,
        };
        let lost = losses(loss, 5, count, 1_000);
        let bad_share = enter / (enter + leave);
        let want = bad_share * bad.loss + (1.0 - bad_share) * good.loss;
        // The outer state varies slowly: by itself it has the correlation 1 - enter - leave.
        let outer: f64 = 1.0 - enter - leave;
        let spread = (bad.loss - good.loss) * (bad_share * (1.0 - bad_share)).sqrt();
        let widening = (1.0 + outer) / (1.0 - outer);
        let outer_error = spread * (widening / count as f64).sqrt();
        let inner = 1.0 - 1.0 / bad.burst.unwrap_or(1.0);
        let inner_error = tolerance(want, count, inner) / 5.0;
        let near = 5.0 * outer_error.hypot(inner_error);
        assert_near(share(&lost), want, near, "share");
        // Far beyond a burst, but within the outer state, a loss still tells of losses to come.
        let lag = 30;
        let in_bad = bad_share * bad.loss / want;
        let stays = bad_share + (1.0 - bad_share) * outer.powi(lag);
        let later = |stays: f64| stays * bad.loss + (1.0 - stays) * good.loss;
        let leaves_good = bad_share * (1.0 - outer.powi(lag));
        let expected = in_bad * later(stays) + (1.0 - in_bad) * later(leaves_good);
        let got = share_after_loss(&lost, lag as usize);
        assert_near(got, expected, 0.02, "share 30 after a loss");
        assert!(got > 3.0 * want, "one chain alone would have forgotten");
    }
}

#[test]
fn windows_lose_their_share_and_nothing_is_lost_between_them() {
    let window = |start_us, length_us, share| LossWindow {
        start_us,
        length_us,
        share,
    };
    let windows = [
        window(0, 70_000, 0.37),
        window(300_000, 70_000, 1.0),
        window(550_000, 10_000, 0.0),
    ];
    let loss = Loss::Windows {
        windows: windows.into(),
        repeat_us: 620_000,
    };
    let lost = losses(loss, 2, 620_000, 1_000);
    let within = |begin: usize, end: usize| -> Vec<bool> {
        let in_cycle = |i: usize| (i * 1_000) % 620_000;
        (0..lost.len())
            .filter(|&i| (begin..end).contains(&in_cycle(i)))
            .map(|i| lost[i])
            .collect()
    };
    let first = within(0, 70_000);
    let near = tolerance(0.37, first.len() as u64, 0.0);
    assert_near(share(&first), 0.37, near, "the first window");
    assert_eq!(share(&within(70_000, 300_000)), 0.0);
    assert_eq!(share(&within(300_000, 370_000)), 1.0);
    assert_eq!(share(&within(370_000, 620_000)), 0.0);
    // Akamai's formula: loss in the window times its share of the time.
    let want = (0.37 + 1.0) * 70.0 / 620.0;
    assert_near(share(&lost), want, 0.001, "the mean");
}

#[test]
fn windows_that_do_not_repeat_end() {
    let window = LossWindow {
        start_us: 10_000,
        length_us: 5_000,
        share: 1.0,
    };
    let loss = Loss::Windows {
        windows: [window].into(),
        repeat_us: 0,
    };
    let lost = losses(loss, 2, 100, 1_000);
    let which: Vec<usize> = (0..100).filter(|&i| lost[i]).collect();
    assert_eq!(which, [10, 11, 12, 13, 14]);
}

#[test]
fn busy_hours_lose_more_than_quiet_ones_from_their_beginning_on() {
    let (period_us, count) = (1_000_000, 1_000_000);
    let loss = Loss::Diurnal {
        low: 0.01,
        high: 0.15,
        period_us,
        high_share: 0.25,
        phase_us: 700_000,
    };
    let lost = losses(loss, 4, count, 1_000);
    let in_cycle = |i: usize| (i % 1_000) * 1_000;
    let is_busy = |i: usize| (700_000..950_000).contains(&in_cycle(i));
    let (busy, quiet): (Vec<usize>, Vec<usize>) = (0..count as usize).partition(|&i| is_busy(i));
    for (which, want) in [(busy, 0.15), (quiet, 0.01)] {
        let lost: Vec<bool> = which.iter().map(|&i| lost[i]).collect();
        let near = tolerance(want, lost.len() as u64, 0.0);
        assert_near(share(&lost), want, near, "share");
    }
}

#[test]
fn losses_in_series_leave_what_all_let_through() {
    let parts = [
        Loss::Random { p: 0.1 },
        Loss::Random { p: 0.2 },
        Loss::GilbertElliott {
            loss: 0.05,
            burst: 3.0,
        },
    ];
    let count = 400_000;
    let lost = losses(Loss::AnyOf(parts.into()), 6, count, 1_000);
    let want = 1.0 - 0.9 * 0.8 * 0.95;
    assert_near(share(&lost), want, tolerance(want, count, 0.1), "share");
}

#[test]
fn large_datagrams_are_lost_and_small_ones_are_not() {
    let config = LinkConfig {
        large_bytes: 300,
        large_loss: 0.4,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    let mut lost_of = |bytes| -> Vec<bool> {
        let send = |i: u64| link.send(i * 1_000, bytes) == Verdict::DropLoss;
        (0..50_000).map(send).collect()
    };
    assert_eq!(share(&lost_of(300)), 0.0);
    let large = share(&lost_of(301));
    assert_near(large, 0.4, tolerance(0.4, 50_000, 0.0), "share");
    let stats = link.stats();
    assert_eq!(stats.packets_lost, stats.packets_lost_large);
}

// ---- Delay ---------------------------------------------------------------------------------------

#[test]
fn wandering_delay_is_lognormal_at_every_instant() {
    let (median_us, sigma) = (20_000.0, 0.5);
    let config = LinkConfig {
        delay_us: 50_000,
        delay_log_median_us: median_us as u64,
        delay_log_sigma: sigma,
        delay_redraw_us: 1_000_000,
        ..LinkConfig::default()
    };
    // At a draw, and at a third of the way to the next one.
    for part_us in [0, 333_333] {
        let mut link = link(config.clone(), 8);
        let mut extra: Vec<f64> = (0..20_000)
            .map(|i| {
                let now_us = i * 1_000_000 + part_us;
                match link.send(now_us, 100) {
                    Verdict::Deliver(at_us) => (at_us - now_us - 50_000) as f64,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        extra.sort_by(f64::total_cmp);
        // z of the quantile; the standard error of a sample quantile is √(q(1-q)/n) / f(z).
        for (quantile, z) in [(0.1, -1.281_55), (0.5, 0.0), (0.9, 1.281_55)] {
            let want = median_us * f64::exp(sigma * z);
            let density = f64::exp(-z * z / 2.0) / std::f64::consts::TAU.sqrt();
            let error = f64::sqrt(quantile * (1.0 - quantile) / 20_000.0) / density;
            // Neighbours share a draw: twice the variance at most.
            let near = 5.0 * error * std::f64::consts::SQRT_2 * sigma * want;
            let got = extra[(quantile * 20_000.0) as usize];
            assert_near(got, want, near, "quantile");
        }
    }
}

#[test]
fn wandering_delay_moves_steadily_and_keeps_order() {
    let config = LinkConfig {
        delay_log_median_us: 30_000,
        delay_log_sigma: 0.8,
        delay_redraw_us: 200_000,
        ..LinkConfig::default()
    };
    let mut link = link(config, 5);
    let (mut last_us, mut last_delay) = (0, None);
    for now_us in (0..20_000_000).step_by(1_000) {
        let Verdict::Deliver(at_us) = link.send(now_us, 100) else {
            panic!("nothing is lost");
        };
        assert!(at_us >= last_us, "order");
        let delay = at_us - now_us;
        if let Some(last) = last_delay {
            let step: u64 = u64::abs_diff(delay, last);
            assert!(step < 8_000, "{last} to {delay} within a millisecond");
        }
        (last_us, last_delay) = (at_us, Some(delay));
    }
}

#[test]
fn what_is_sent_changes_no_delay() {
    let config = LinkConfig {
        delay_log_median_us: 30_000,
        delay_log_sigma: 0.5,
        ..LinkConfig::default()
    };
    let at = |earlier: &[u64]| {
        let mut link = link(config.clone(), 5);
        for &now_us in earlier {
            link.send(now_us, 100);
        }
        link.send(90_500_000, 100)
    };
    assert_eq!(at(&[]), at(&[1, 70_000, 3_000_000, 80_000_000]));
}

#[test]
fn only_what_is_held_back_is_overtaken() {
    let config = LinkConfig {
        delay_us: 10_000,
        jitter_us: 2_000,
        reorder: 0.1,
        reorder_us: 7_000,
        ..LinkConfig::default()
    };
    let mut link = link(config, 5);
    let (mut last_us, mut held) = (0, 0);
    for i in 0..10_000u64 {
        let Verdict::Deliver(at_us) = link.send(i * 1_000, 100) else {
            panic!("nothing is lost");
        };
        let is_held = link.stats().packets_reordered > held;
        held = link.stats().packets_reordered;
        assert!(is_held || at_us >= last_us, "order");
        if is_held {
            assert!(at_us >= i * 1_000 + 17_000, "held");
        } else {
            last_us = at_us;
        }
    }
    assert_near(held as f64 / 1e4, 0.1, tolerance(0.1, 10_000, 0.0), "share");
}

#[test]
fn some_datagrams_arrive_twice() {
    let config = LinkConfig {
        duplicate: 0.2,
        ..LinkConfig::default()
    };
    let mut link = link(config, 5);
    let twice = (0..10_000)
        .filter(|i| matches!(link.send(i * 10, 100), Verdict::DeliverTwice(a, b) if a == b))
        .count();
    assert_near(
        twice as f64 / 1e4,
        0.2,
        tolerance(0.2, 10_000, 0.0),
        "share",
    );
    assert_eq!(link.stats().packets_duplicated, twice as u64);
    assert_eq!(link.stats().packets_delivered, 10_000);
}

// ---- Rate, policer, size -------------------------------------------------------------------------

fn schedule(entries: &[(u64, u64)]) -> std::sync::Arc<[RateEntry]> {
    let entry = |&(at_us, rate_bps)| RateEntry { at_us, rate_bps };
    entries.iter().map(entry).collect()
}

#[test]
fn a_datagram_leaves_at_the_rates_that_hold_while_it_does() {
    // One byte a microsecond, from 1 ms on a tenth of that, nothing from 2 to 5 ms, then the first again.
    let config = LinkConfig {
        rate_schedule: schedule(&[
            (0, 8_000_000),
            (1_000, 800_000),
            (2_000, 0),
            (5_000, 8_000_000),
        ]),
        queue_bytes: 1 << 20,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    let got: Vec<Verdict> = [500, 550, 50, 100, 1_000]
        .map(|bytes| link.send(0, bytes))
        .into();
    let want = [500, 1_500, 2_000, 5_100, 6_100].map(Verdict::Deliver);
    assert_eq!(got, want);
}

#[test]
fn a_schedule_begins_again_and_before_it_begins_the_plain_rate_holds() {
    let config = LinkConfig {
        rate_bps: Some(8_000_000),
        rate_schedule: schedule(&[(3_000, 800_000)]),
        rate_repeat_us: 10_000,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    for cycle in [0, 10_000, 70_000] {
        assert_eq!(link.send(cycle, 1_000), Verdict::Deliver(cycle + 1_000));
        let slow = cycle + 4_000;
        assert_eq!(link.send(slow, 500), Verdict::Deliver(slow + 5_000));
    }
}

#[test]
fn the_queue_is_bounded_in_bytes_whatever_the_rate_does() {
    let config = LinkConfig {
        rate_schedule: schedule(&[(0, 8_000_000), (10_000, 80_000), (20_000, 4_000_000)]),
        rate_repeat_us: 30_000,
        queue_bytes: 5_000,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    for i in 0..1_000 {
        link.send(i * 300, 1_000);
    }
    let stats = link.stats();
    assert!(
        stats.queue_bytes_peak <= 5_000,
        "{}",
        stats.queue_bytes_peak
    );
    assert!(stats.queue_bytes_peak > 4_000 && stats.packets_dropped_queue > 100);
    // What came out is what the rates carry: 300 ms in cycles of 10000 + 100 + 5000 bytes.
    let carried = 10 * (10_000 + 100 + 5_000);
    assert!(stats.bytes_delivered.abs_diff(carried) <= 5_000 + 1_000);
}

#[test]
fn a_policer_loses_without_delay_and_lets_its_rate_and_burst_through() {
    let config = LinkConfig {
        delay_us: 10_000,
        policer_bps: Some(800_000), // a byte in ten microseconds
        policer_burst_bytes: 3_000,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    let burst: Vec<Verdict> = (0..5).map(|_| link.send(0, 1_000)).collect();
    let passes = Verdict::Deliver(10_000);
    let drops = Verdict::DropPolicer;
    assert_eq!(burst, [passes, passes, passes, drops, drops]);
    assert_eq!(link.send(9_999, 1_000), drops);
    assert_eq!(link.send(10_000, 1_000), Verdict::Deliver(20_000));
    // For a second at ten times the rate: what passes is the rate and the bucket.
    let before = link.stats().bytes_delivered;
    for i in 0..1_000 {
        if let Verdict::Deliver(at_us) = link.send(1_000_000 + i * 1_000, 1_000) {
            assert_eq!(at_us, 1_010_000 + i * 1_000, "no delay");
        }
    }
    let passed = link.stats().bytes_delivered - before;
    assert!(passed.abs_diff(100_000 + 3_000) <= 1_000, "{passed}");
    assert_eq!(link.stats().packets_lost, 0);
}

#[test]
fn what_is_larger_than_the_link_takes_vanishes() {
    let config = LinkConfig {
        mtu_bytes: 1_280,
        ..LinkConfig::default()
    };
    let mut link = link(config, 1);
    assert_eq!(link.send(0, 1_280), Verdict::Deliver(0));
    assert_eq!(link.send(0, 1_281), Verdict::DropMtu);
    assert_eq!(link.stats().packets_dropped_mtu, 1);
}

// ---- Changes, chance, refusals -------------------------------------------------------------------

#[test]
fn one_kind_of_chance_does_not_change_another() {
    let base = lossy(Loss::Random { p: 0.1 });
    let more = LinkConfig {
        jitter_us: 500,
        delay_log_median_us: 1_000,
        delay_log_sigma: 0.3,
        duplicate: 0.1,
        reorder: 0.1,
        reorder_us: 1_000,
        large_bytes: 5_000,
        large_loss: 0.5,
        ..base.clone()
    };
    let lost = |config: &LinkConfig| -> Vec<bool> {
        let mut link = link(config.clone(), 3);
        let send = |i: u64| link.send(i * 1_000, 1_200) == Verdict::DropLoss;
        (0..5_000).map(send).collect()
    };
    assert_eq!(lost(&base), lost(&more));
}

#[test]
fn a_burst_goes_on_when_something_else_is_changed() {
    let loss = Loss::GilbertElliott {
        loss: 0.5,
        burst: 1_000.0,
    };
    let mut link = link(lossy(loss.clone()), 1);
    let slower = LinkConfig {
        delay_us: 1_000,
        ..lossy(loss)
    };
    let mut changes = 0;
    let mut last = link.send(0, 100) == Verdict::DropLoss;
    for i in 1..2_000 {
        link.set_config(slower.clone()).expect("valid");
        let lost = link.send(i, 100) == Verdict::DropLoss;
        changes += u32::from(lost != last);
        last = lost;
    }
    assert!(changes < 20, "{changes}: one every thousand");
}

#[test]
fn a_wrong_field_is_refused_by_name() {
    let base = LinkConfig::default;
    let chain = |loss| GilbertChain { loss, burst: None };
    let window = |start_us, length_us, share| LossWindow {
        start_us,
        length_us,
        share,
    };
    let two_windows = |second| {
        lossy(Loss::Windows {
            windows: [window(0, 10, 0.5), second].into(),
            repeat_us: 100,
        })
    };
    let rates = |entries: &[(u64, u64)], rate_repeat_us| LinkConfig {
        rate_schedule: schedule(entries),
        rate_repeat_us,
        ..base()
    };
    let diurnal = |period_us, high_share| {
        lossy(Loss::Diurnal {
            low: 0.0,
            high: 0.1,
            period_us,
            high_share,
            phase_us: 0,
        })
    };
    let two_level = |good, good_to_bad, bad_to_good| {
        lossy(Loss::TwoLevel {
            good: chain(good),
            bad: chain(0.5),
            good_to_bad,
            bad_to_good,
        })
    };
    let nested = Loss::AnyOf([Loss::AnyOf([].into())].into());
    let many = Loss::AnyOf(vec![Loss::None; 17].into());
    let timed = |loss, burst_us| lossy(Loss::GilbertElliottTime { loss, burst_us });
    #[rustfmt::skip] // a table
    let cases = [
        (timed(1.0, 10), "loss.loss"),
        (timed(0.1, 0), "loss.burst_us"),
        (two_level(1.0, 0.1, 0.1), "loss.loss"),
        (two_level(0.1, 1.1, 0.1), "loss.good_to_bad"),
        (two_level(0.1, 0.0, 0.0), "loss.bad_to_good"),
        (two_windows(window(9, 5, 0.1)), "loss.windows"),
        (two_windows(window(20, 81, 0.1)), "loss.windows"),
        (two_windows(window(20, u64::MAX, 0.1)), "loss.windows"),
        (two_windows(window(20, 5, 1.1)), "loss.windows"),
        (diurnal(0, 0.5), "loss.period_us"),
        (diurnal(10, 1.5), "loss.high_share"),
        (lossy(nested), "loss.any_of"),
        (lossy(many), "loss.any_of"),
        (lossy(Loss::AnyOf([Loss::Random { p: 2.0 }].into())), "loss.p"),
        (LinkConfig { delay_log_sigma: 4.1, ..base() }, "delay_log_sigma"),
        (LinkConfig { delay_log_sigma: f64::NAN, ..base() }, "delay_log_sigma"),
        (LinkConfig { delay_log_median_us: u64::MAX, ..base() }, "delay_log_median_us"),
        (LinkConfig { delay_redraw_us: 0, ..base() }, "delay_redraw_us"),
        (rates(&[(5, 1)], 0), "rate_schedule"),
        (rates(&[(0, 1), (0, 2)], 0), "rate_schedule"),
        (rates(&[(0, 1), (5, 0)], 0), "rate_schedule"),
        (rates(&[(0, 0), (5, 0)], 10), "rate_schedule"),
        (rates(&[(0, 1), (10, 2)], 10), "rate_schedule"),
        (LinkConfig { policer_bps: Some(0), ..base() }, "policer_bps"),
        (LinkConfig { policer_bps: Some(1), ..base() }, "policer_burst_bytes"),
        (LinkConfig { mtu_bytes: 0, ..base() }, "mtu_bytes"),
        (LinkConfig { large_loss: -0.1, ..base() }, "large_loss"),
        (LinkConfig { duplicate: 1.1, ..base() }, "duplicate"),
        (LinkConfig { reorder: f64::NAN, ..base() }, "reorder"),
        (LinkConfig { reorder_us: u64::MAX, ..base() }, "reorder_us"),
    ];
    for (config, field) in cases {
        assert_eq!(Link::new(config, 1).expect_err(field).field, field);
    }
}

fn any_loss() -> impl Strategy<Value = Loss> {
    let part = prop_oneof![
        (0.0..=1.0).prop_map(|p| Loss::Random { p }),
        (0.0..0.5, 1.0..20.0).prop_map(|(loss, burst)| Loss::GilbertElliott { loss, burst }),
        (0.0..0.9, 1u64..1_000_000)
            .prop_map(|(loss, burst_us)| Loss::GilbertElliottTime { loss, burst_us }),
        (0.0..0.5, 0.0..0.9, 0.001..1.0, 0.0..=1.0).prop_map(|(good, bad, enter, leave)| {
            let chain = |loss, burst| GilbertChain { loss, burst };
            Loss::TwoLevel {
                good: chain(good, Some(2.0)),
                bad: chain(bad, None),
                good_to_bad: enter,
                bad_to_good: leave,
            }
        }),
        (0u64..50_000, 1u64..50_000, 0.0..=1.0).prop_map(|(start_us, length_us, share)| {
            let window = LossWindow {
                start_us,
                length_us,
                share,
            };
            Loss::Windows {
                windows: [window].into(),
                repeat_us: 100_000,
            }
        }),
        (1u64..100_000, 0.0..=1.0, any::<u64>()).prop_map(|(period_us, share, phase_us)| {
            Loss::Diurnal {
                low: 0.0,
                high: 0.3,
                period_us,
                high_share: share,
                phase_us,
            }
        }),
    ];
    proptest::collection::vec(part, 0..4).prop_map(|parts| Loss::AnyOf(parts.into()))
}

prop_compose! {
    fn any_config()(
        delay_us in 0u64..300_000,
        jitter_us in 0u64..50_000,
        delay_log_median_us in 0u64..100_000,
        delay_log_sigma in 0.0..=4.0,
        delay_redraw_us in 1u64..2_000_000,
        rates in proptest::collection::vec((1u64..50_000, 0u64..50_000_000), 0..6),
        queue_bytes in 1u64..1_000_000,
        policer_bps in proptest::option::of(1u64..50_000_000),
        mtu_bytes in 1u64..2_000,
        loss in any_loss(),
        large_loss in 0.0..=1.0,
        duplicate in 0.0..=1.0,
    ) -> LinkConfig {
        let mut at_us = 0;
        let mut entries = vec![RateEntry { at_us: 0, rate_bps: 1_000_000 }];
        for (gap_us, rate_bps) in rates {
            at_us += gap_us;
            entries.push(RateEntry { at_us, rate_bps });
        }
        LinkConfig {
            delay_us, jitter_us, delay_log_median_us, delay_log_sigma, delay_redraw_us,
            rate_schedule: entries.into(),
            rate_repeat_us: at_us + 10_000,
            queue_bytes, policer_bps, policer_burst_bytes: 3_000, mtu_bytes, loss,
            large_bytes: 600, large_loss, duplicate,
            ..LinkConfig::default()
        }
    }
}

proptest! {
    #[test]
    fn any_link_keeps_order_counts_everything_and_repeats_itself(
        config in any_config(),
        seed: u64,
        sends in proptest::collection::vec((0u64..20_000, 28usize..1_500), 1..200),
    ) {
        let (mut link, mut again) = (link(config.clone(), seed), link(config.clone(), seed));
        let (mut now_us, mut last_us) = (0, 0);
        for &(gap_us, bytes) in &sends {
            now_us += gap_us;
            let verdict = link.send(now_us, bytes);
            prop_assert_eq!(verdict, again.send(now_us, bytes));
            if let Verdict::Deliver(at_us) | Verdict::DeliverTwice(at_us, _) = verdict {
                prop_assert!(at_us >= last_us);
                prop_assert!(at_us >= now_us + config.delay_us);
                last_us = at_us;
            }
        }
        let s = link.stats();
        prop_assert_eq!(s.packets_in, sends.len() as u64);
        let dropped = s.packets_dropped_queue + s.packets_dropped_policer + s.packets_dropped_mtu;
        prop_assert_eq!(s.packets_in, s.packets_delivered + s.packets_lost + dropped);
        prop_assert!(s.queue_bytes_peak <= config.queue_bytes.max(1_500));
    }
}
