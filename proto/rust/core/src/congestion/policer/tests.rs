//! Policers and chance, told apart.

use super::*;

const PACKET: u64 = 1_200;

fn epoch() -> Instant {
    #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
    Instant::now()
}

/// Rounds of 100 ms; of each, packets that came and were lost.
struct Rounds {
    policer: Policer,
    now: Instant,
}

impl Rounds {
    fn new() -> Rounds {
        Rounds {
            policer: Policer::new(250),
            now: epoch(),
        }
    }

    fn round(&mut self, came: u64, lost: u64, is_limited: bool) {
        let mut round = Round::new(self.now);
        for _ in 0..came {
            round.add(self.now, Duration::from_millis(50), PACKET, !is_limited);
        }
        round.lost = lost * PACKET;
        self.now += Duration::from_millis(100);
        self.policer.end_round(self.now, &round, false);
    }
}

#[test]
fn loss_that_little_traffic_meets_too_is_the_paths_and_no_test_is_made() {
    let mut rounds = Rounds::new();
    for number in 0..400 {
        match number / 4 % 2 {
            0 => rounds.round(36, 4, false),
            _ => rounds.round(18, 2, false),
        }
        assert_eq!(rounds.policer.cap(), None);
    }
}

#[test]
fn a_film_is_not_slowed_for_a_test_while_nothing_varies() {
    let mut rounds = Rounds::new();
    for _ in 0..400 {
        rounds.round(36, 4, false);
        assert_eq!(rounds.policer.cap(), None);
    }
}

#[test]
fn a_policer_is_found_by_a_sender_that_fills_it_and_its_rate_kept() {
    let mut rounds = Rounds::new();
    // The policer lets 30 packets a round pass; the sender sends 40, or its cap.
    for _ in 0..600 {
        let cap = rounds.policer.cap().map_or(40, |cap| cap / 10 / PACKET);
        let sent = cap.min(40);
        rounds.round(sent.min(30), sent.saturating_sub(30), true);
    }
    let cap = rounds.policer.cap().expect("it is capped") / 10 / PACKET;
    assert!((24..=31).contains(&cap), "{cap} packets a round");
}

#[test]
fn chance_is_acquitted_by_a_test_and_the_cap_goes() {
    let mut rounds = Rounds::new();
    let mut capped = 0;
    for _ in 0..300 {
        rounds.round(36, 4, true);
        capped += u32::from(rounds.policer.cap().is_some());
    }
    assert!(capped > 0, "nothing was tested");
    assert!(capped < 60, "{capped} of 300 rounds were capped");
    assert_eq!(rounds.policer.cap(), None);
}

#[test]
fn two_quiet_windows_without_loss_do_not_accuse_a_film_of_its_own() {
    let mut rounds = Rounds::new();
    for number in 0..400 {
        match number / 4 % 4 {
            0 => rounds.round(17, 0, false),
            _ => rounds.round(36, 4, false),
        }
        assert_eq!(rounds.policer.cap(), None);
    }
}

#[test]
fn what_a_path_usually_loses_is_not_unusual() {
    let mut rounds = Rounds::new();
    for _ in 0..100 {
        rounds.round(36, 4, false);
    }
    assert!(!rounds.policer.is_unusual(150));
    assert!(rounds.policer.is_unusual(400));
}
