//! Two upstreams of one track that send at the same time: what is known of them together.
//!
//! Bytes need no state here: each is taken from whoever brings it first, and the other's copy falls to the byte
//! intervals of the store. What does need it is the *end* of a subgroup before its time: an upstream gives one up
//! when it could not bring the rest, which says nothing about what the other brings. So with two of them a subgroup
//! is over when both have given it up, and what only one has is remembered until the other has done the same,
//! is gone, or has brought the end.

use crate::upstreams::Source;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Subgroups given up by one of two that are remembered at most; beyond it the lowest is over.
pub(crate) const GIVEN_UP_MAX: usize = 256;
/// Over what time the rate of a track is counted.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// Windows of the budgets of chunks: those that are compared with, and those that are compared.
const BEST_WINDOW: Duration = Duration::from_secs(5);
const RECENT_WINDOW: Duration = Duration::from_millis(40);
/// From this lateness on the track is looked at at once, and how often at most.
const LATE_MS: u16 = 40;
const LATE_EVERY: Duration = Duration::from_millis(50);

/// Group and subgroup.
pub(crate) type Place = (u64, u64);

/// A further upstream that sends beside the active one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Second {
    pub(crate) source: Source,
    /// When it was last wanted, or tolerated.
    pub(crate) wanted_at: Instant,
    /// It only goes on for a moment after a planned move, and is not to become the active one again.
    pub(crate) is_overlap: bool,
    /// New bytes since it began: its own, and those of the active one.
    pub(crate) brought: u64,
    pub(crate) beaten: u64,
}

/// What one of two has given up, with the code of its reset.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    by_place: BTreeMap<Place, (Source, u32)>,
}

impl GivenUp {
    /// One of two gave up a subgroup. Gives those that are over thereby, with their codes.
    pub(crate) fn give_up(
        &mut self,
        source: Source,
        place: Place,
        code: u32,
    ) -> Option<(Place, u32)> {
        let before = self.by_place.insert(place, (source, code));
        if before.is_some_and(|(by, _)| by != source) {
            self.by_place.remove(&place);
            return Some((place, code));
        }
        if self.by_place.len() <= GIVEN_UP_MAX {
            return None;
        }
        let (place, (_, code)) = self.by_place.pop_first()?;
        Some((place, code))
    }

    /// Only one source is left. Gives what it has given up: nobody brings the rest.
    pub(crate) fn leave_to(&mut self, source: Source) -> Vec<(Place, u32)> {
        let given_up = std::mem::take(&mut self.by_place).into_iter();
        let by_it = given_up.filter(|(_, (by, _))| *by == source);
        by_it.map(|(place, (_, code))| (place, code)).collect()
    }
}

/// The greatest value of the last one or two of its windows.
#[derive(Debug)]
struct Greatest {
    window: Duration,
    since: Option<Instant>,
    now: u16,
    before: u16,
}

impl Greatest {
    fn new(window: Duration) -> Greatest {
        Greatest {
            window,
            since: None,
            now: 0,
            before: 0,
        }
    }

    fn add(&mut self, at: Instant, value: u16) {
        self.roll(at);
        self.now = self.now.max(value);
    }

    /// `None` if there was none.
    fn get(&mut self, at: Instant) -> Option<u16> {
        self.roll(at);
        Some(self.now.max(self.before)).filter(|value| *value > 0)
    }

    fn roll(&mut self, at: Instant) {
        let since = *self.since.get_or_insert(at);
        let past = at.saturating_duration_since(since);
        if past >= self.window {
            let has_rested = past >= self.window * 2;
            self.before = if has_rested { 0 } else { self.now };
            (self.since, self.now) = (Some(at), 0);
        }
    }
}

/// How much later the chunks of a track come than they did, as the budgets on them tell: what waits at an edge
/// above shows in no round trip. The best of a moment counts, for keys take their time and repairs theirs.
#[derive(Debug)]
pub(crate) struct Lateness {
    best: Greatest,
    recent: Greatest,
    next_news: Option<Instant>,
}

impl Default for Lateness {
    fn default() -> Self {
        Lateness {
            best: Greatest::new(BEST_WINDOW),
            recent: Greatest::new(RECENT_WINDOW),
            next_news: None,
        }
    }
}

impl Lateness {
    /// A chunk came with so much of its budget left. Whether that is a reason to look at the track now.
    pub(crate) fn add(&mut self, now: Instant, budget_ms: u16) -> bool {
        self.best.add(now, budget_ms);
        self.recent.add(now, budget_ms);
        let is_news = self.rise_ms(now) >= LATE_MS && self.next_news.is_none_or(|at| at <= now);
        if is_news {
            self.next_news = Some(now + LATE_EVERY);
        }
        is_news
    }

    /// Milliseconds; 0 where nothing comes.
    pub(crate) fn rise_ms(&mut self, now: Instant) -> u16 {
        let recent = self.recent.get(now);
        let best = self.best.get(now);
        recent
            .zip(best)
            .map_or(0, |(recent, best)| best.saturating_sub(recent))
    }
}

/// How many new bytes a track brings per second.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    since: Option<Instant>,
    bytes: u64,
    last_bps: u64,
}

impl Rate {
    pub(crate) fn add(&mut self, now: Instant, bytes: u64) {
        self.roll(now);
        self.bytes += bytes;
    }

    /// Bits per second, of the last whole second.
    pub(crate) fn bps(&mut self, now: Instant) -> u64 {
        self.roll(now);
        self.last_bps
    }

    fn roll(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let past = now.saturating_duration_since(since);
        if past < RATE_WINDOW {
            return;
        }
        let us = u64::try_from(past.as_micros()).unwrap_or(u64::MAX);
        self.last_bps = self.bytes.saturating_mul(8_000_000) / us.max(1);
        (self.since, self.bytes) = (Some(now), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn source(session: u64) -> Source {
        Source { session, alias: 7 }
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
    fn a_rate_is_that_of_the_last_whole_window() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(rate.bps(start), 0);
        (0..10).for_each(|i| rate.add(at(i * 100), 1_000));
        assert_eq!(rate.bps(at(999)), 0);
        assert_eq!(rate.bps(at(1_000)), 80_000);
        assert_eq!(rate.bps(at(3_000)), 0);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
    fn lateness_is_that_of_the_best_of_a_moment_and_is_the_usual_after_a_while() {
        let (mut lateness, start) = (Lateness::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(lateness.rise_ms(start), 0);
        let mut add = |range: std::ops::Range<u64>, budget: fn(u64) -> u16| {
            let times = range.map(|i| (i * 20, budget(i)));
            times
                .filter(|(ms, budget)| lateness.add(at(*ms), *budget))
                .count()
        };
        assert_eq!(add(0..100, |i| 1_900 - (i % 2) as u16 * 400), 0);
        assert!(add(100..150, |_| 1_750) > 10);
        assert_eq!(lateness.rise_ms(at(2_980)), 150);
        assert_eq!(lateness.rise_ms(at(3_200)), 0, "nothing comes");
        (160..750).for_each(|i| {
            lateness.add(at(i * 20), 1_750);
        });
        assert_eq!(lateness.rise_ms(at(14_980)), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_lowest_is_over_first() {
        let mut given_up = GivenUp::default();
        for group in 0..GIVEN_UP_MAX as u64 {
            assert_eq!(given_up.give_up(source(1), (group, 0), 2), None);
        }
        let over = given_up.give_up(source(1), (9_999, 0), 2);
        assert_eq!(over, Some(((0, 0), 2)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        GiveUp(u64, Place),
        Die(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (1..=2u64, (0..4u64, 0..2u64)).prop_map(|(by, place)| Step::GiveUp(by, place)),
            1 => (1..=2u64).prop_map(Step::Die),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        /// A subgroup is over exactly when every source that is left has given it up, whatever the order of
        /// resets and deaths.
        #[test]
        fn a_subgroup_is_over_when_nobody_is_left_to_bring_it(steps in steps()) {
            let mut given_up = GivenUp::default();
            let mut alive = BTreeSet::from([1, 2]);
            let mut by: BTreeMap<u64, BTreeSet<Place>> = BTreeMap::new();
            let mut over = BTreeSet::new();
            for step in steps {
                match step {
                    Step::GiveUp(who, place) if alive.contains(&who) && !over.contains(&place) => {
                        by.entry(who).or_default().insert(place);
                        if alive.len() == 2 {
                            over.extend(given_up.give_up(source(who), place, 2).map(|(at, _)| at));
                        } else {
                            over.insert(place);
                        }
                    }
                    Step::Die(who) if alive.len() == 2 && alive.remove(&who) => {
                        let left = if who == 1 { 2 } else { 1 };
                        over.extend(given_up.leave_to(source(left)).iter().map(|(at, _)| *at));
                    }
                    _ => {}
                }
                let mut expected: BTreeSet<Place> = BTreeSet::new();
                let all: BTreeSet<Place> = by.values().flatten().copied().collect();
                for place in all {
                    if alive.iter().all(|who| by.get(who).is_some_and(|of| of.contains(&place))) {
                        expected.insert(place);
                    }
                }
                prop_assert!(expected.is_subset(&over), "{expected:?} but {over:?}");
                for place in &over {
                    let left = alive.iter().any(|who| by.get(who).is_none_or(|of| !of.contains(place)));
                    prop_assert!(!left, "{place:?} was ended while somebody could bring it");
                }
            }
        }
    }
}
