use super::*;
use crate::hop::tests::epoch;
use proptest::prelude::*;
use std::collections::BTreeSet;

const MS: Duration = Duration::from_millis(1);

fn arrivals() -> Arrivals {
    Arrivals::new(&HopConfig::default())
}

fn bucket(run: u64) -> usize {
    let upper = [1, 2, 4, 8, 16, 32, 64];
    upper.iter().position(|max| run <= *max).unwrap_or(7)
}

/// What a list of all numbers says: numbers up to the highest that came, lost ones, runs between two
/// that came.
fn reference(came: &BTreeSet<u64>) -> Loss {
    let mut loss = Loss::default();
    let Some(&highest) = came.last() else {
        return loss;
    };
    loss.due = highest + 1;
    let mut run = 0;
    for number in 0..=highest {
        if !came.contains(&number) {
            run += 1;
            loss.lost += 1;
        } else if run > 0 {
            loss.bursts[bucket(run)] += 1;
            run = 0;
        }
    }
    loss
}

proptest! {
    #[test]
    fn it_counts_what_a_list_of_all_numbers_says_however_they_overtake_one_another(
        fates in prop::collection::vec((any::<bool>(), 0u64..90, 1u64..12), 1..400),
    ) {
        // Number i is sent after the one before it, and comes up to 90 ms late, or never; some twice.
        let (mut arrivals, start) = (arrivals(), epoch());
        let (mut sent_ms, mut events, mut came) = (0, Vec::new(), BTreeSet::new());
        for (number, (comes, late_ms, pause_ms)) in fates.into_iter().enumerate() {
            sent_ms += pause_ms;
            if comes {
                events.push((sent_ms + late_ms, number as u64));
                if late_ms % 7 == 0 {
                    events.push((sent_ms + late_ms + 3, number as u64));
                }
                came.insert(number as u64);
            }
        }
        events.sort_unstable();
        for (at_ms, number) in events {
            arrivals.handle_number(start + at_ms as u32 * MS, number);
        }
        arrivals.judge(start + Duration::from_secs(3600));
        prop_assert_eq!(arrivals.total(), reference(&came));
    }

    #[test]
    fn no_row_of_numbers_makes_it_large_or_lets_it_fail(
        numbers in prop::collection::vec(prop_oneof![0u64..100_000, any::<u64>().prop_map(|n| n >> 2)], 0..300),
        pause_ms in 0u64..50,
    ) {
        let (mut arrivals, mut now) = (arrivals(), epoch());
        for number in numbers {
            now += pause_ms as u32 * MS;
            arrivals.handle_number(now, number);
            prop_assert!(arrivals.seen.len() as u64 <= UNJUDGED_MAX);
            prop_assert!(arrivals.horizon.len() <= 16);
            prop_assert!(arrivals.wanted_gap(now).is_none_or(|gap| gap >= 3 * MS));
            let total = arrivals.total();
            prop_assert!(total.lost <= total.due);
        }
    }
}

#[test]
fn what_comes_after_its_time_stays_lost() {
    let (mut arrivals, start) = (arrivals(), epoch());
    for number in [0, 1, 3] {
        arrivals.handle_number(start, number);
    }
    arrivals.handle_number(start + 111 * MS, 2);
    arrivals.judge(start + 500 * MS);
    let total = arrivals.total();
    assert_eq!((total.due, total.lost, total.bursts[0]), (4, 1, 1));
    let mut in_time = Arrivals::new(&HopConfig::default());
    for number in [0, 1, 3] {
        in_time.handle_number(start, number);
    }
    in_time.handle_number(start + 99 * MS, 2);
    in_time.judge(start + 500 * MS);
    assert_eq!(in_time.total().lost, 0);
}

#[test]
fn an_absurd_number_is_no_loss_and_counting_goes_on_from_there() {
    let (mut arrivals, start) = (arrivals(), epoch());
    for number in [0, 1, 1 << 61, (1 << 61) + 2] {
        arrivals.handle_number(start, number);
    }
    arrivals.judge(start + 500 * MS);
    let total = arrivals.total();
    assert_eq!((total.due, total.lost), (5, 1));
}

#[test]
fn the_last_second_forgets_what_was_before() {
    let (mut arrivals, start) = (arrivals(), epoch());
    for number in (0..200).filter(|n| n % 4 != 0) {
        arrivals.handle_number(start + 5 * number as u32 * MS, number);
    }
    let now = start + 1_100 * MS;
    arrivals.judge(now);
    let (due, lost) = arrivals.last_second(now);
    assert!(
        due > 150 && lost * 4 >= due - 4 && lost * 4 <= due + 4,
        "{due} {lost}"
    );
    for number in 200..600u64 {
        arrivals.handle_number(start + 5 * number as u32 * MS, number);
    }
    let (due, lost) = arrivals.last_second(start + 3_000 * MS);
    assert!(due > 150 && lost == 0, "{due} {lost}");
}

#[test]
fn packets_are_wanted_closer_together_the_longer_the_runs_of_losses() {
    let gap = |run: u64, every: u64| {
        let (mut arrivals, start) = (arrivals(), epoch());
        for number in (0..2_000).filter(|n| n % every >= run) {
            arrivals.handle_number(start + 4 * number as u32 * MS, number);
        }
        arrivals.wanted_gap(start + 8_000 * MS)
    };
    assert_eq!(gap(0, 10), None);
    // Losses that stand alone, one in a hundred: a few heartbeats more are enough.
    assert!(gap(1, 100).unwrap() > 25 * MS);
    let (two, three) = (gap(2, 20).unwrap(), gap(3, 30).unwrap());
    assert!(three < two && two < 40 * MS, "{two:?} {three:?}");
    assert_eq!(gap(20, 200), Some(3 * MS));
}

#[test]
fn packets_are_wanted_as_close_as_half_a_minute_asks_for_although_ten_seconds_look_better() {
    let (mut arrivals, start) = (arrivals(), epoch());
    let at = |number: u64| start + 4 * number as u32 * MS;
    // Runs of three for ten seconds, and then losses that stand alone.
    for number in (0..2_500).filter(|n| n % 40 >= 3) {
        arrivals.handle_number(at(number), number);
    }
    let before = arrivals.wanted_gap(at(2_500)).unwrap();
    for number in (2_500..5_500).filter(|n| n % 40 >= 1) {
        arrivals.handle_number(at(number), number);
    }
    let since = arrivals.wanted_gap(at(5_500)).unwrap();
    for number in (5_500..14_000).filter(|n| n % 40 >= 1) {
        arrivals.handle_number(at(number), number);
    }
    let after = arrivals.wanted_gap(at(14_000)).unwrap();
    assert!(before < 5 * MS, "{before:?}");
    assert!(since < 10 * MS, "{since:?}");
    assert!(after > 30 * MS, "{after:?}");
}

#[test]
fn what_lasted_a_silence_time_is_an_outage_and_asks_for_nothing() {
    let gap_after = |pause_ms: u32| {
        let (mut arrivals, start) = (arrivals(), epoch());
        for number in 0..500u64 {
            arrivals.handle_number(start + 5 * number as u32 * MS, number);
        }
        let mended = start + (2_495 + pause_ms) * MS;
        for number in 540..1_040u64 {
            arrivals.handle_number(mended + 5 * (number - 540) as u32 * MS, number);
        }
        let now = mended + 3_000 * MS;
        arrivals.judge(now);
        assert_eq!(arrivals.total().lost, 40);
        arrivals.wanted_gap(now)
    };
    assert_eq!(gap_after(200), None);
    assert_eq!(gap_after(199), Some(3 * MS));
}
