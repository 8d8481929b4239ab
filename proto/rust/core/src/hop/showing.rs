//! Loss as it shows, before it is certain: what a second path is taken for.
//!
//! arrivals.rs judges a number once it can hardly come any more, a tenth of a second later; that is right for
//! telemetry and for leaving a hop. A second path should run before the viewer notices, and costs little if it
//! was not needed. So here a number counts as lost as soon as a later one came, and as found again if it comes
//! after all. Only the last half second is kept, and of that the last tenth is looked at on its own: a few losses
//! there say as much as some more in all.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Width of one slot, and how many are kept.
const SLOT: Duration = Duration::from_millis(50);
const SLOTS: u32 = 10;
const TENTH_SLOTS: u32 = 2;
/// A number so far ahead of the last is no loss but nonsense: counting starts over there.
const JUMP_MAX: u64 = 1 << 12;

/// How far to look back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    HalfSecond,
    Tenth,
}

/// What showed within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) due: u64,
    pub(crate) lost: u64,
    /// Rows of lost ones.
    pub(crate) runs: u64,
}

/// The numbers of one direction.
#[derive(Debug, Default)]
pub(super) struct Showing {
    /// Above every number that came.
    next: u64,
    /// Beginning of a slot; what was due, missing, found again, and the rows of missing ones.
    slots: VecDeque<(Instant, [u64; 4])>,
}

impl Showing {
    /// The datagram with this number came.
    pub(super) fn handle_number(&mut self, now: Instant, number: u64) {
        let slot = self.slot(now);
        if number < self.next {
            let slot = &mut self.slots[slot].1;
            slot[2] += 1;
            return;
        }
        let missing = number - self.next;
        self.next = number + 1;
        let slot = &mut self.slots[slot].1;
        if missing > JUMP_MAX {
            return;
        }
        slot[0] += missing + 1;
        slot[1] += missing;
        slot[3] += u64::from(missing > 0);
    }

    /// What showed within the last half second, or tenth of a second.
    pub(super) fn shown(&self, now: Instant, window: Window) -> Shown {
        let slots = match window {
            Window::HalfSecond => SLOTS,
            Window::Tenth => TENTH_SLOTS,
        };
        let mut sum = [0; 4];
        for (began, slot) in &self.slots {
            if now < *began + SLOT * slots {
                sum.iter_mut().zip(slot).for_each(|(sum, one)| *sum += one);
            }
        }
        let [due, missing, found, runs] = sum;
        let lost = missing.saturating_sub(found);
        Shown {
            due,
            lost,
            runs: runs.min(lost),
        }
    }

    fn slot(&mut self, now: Instant) -> usize {
        let fits = |(began, _): &(Instant, [u64; 4])| now < *began + SLOT;
        if !self.slots.back().is_some_and(fits) {
            self.slots.push_back((now, [0; 4]));
        }
        while self.slots.len() > SLOTS as usize {
            self.slots.pop_front();
        }
        self.slots.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
    fn a_gap_shows_with_the_next_datagram_and_is_forgotten_after_half_a_second() {
        let (mut showing, start) = (Showing::default(), Instant::now());
        for (ms, number) in [(0, 0), (3, 1), (6, 5), (9, 6), (12, 8)] {
            showing.handle_number(at(start, ms), number);
        }
        let shown = showing.shown(at(start, 12), Window::HalfSecond);
        assert_eq!((shown.due, shown.lost, shown.runs), (9, 4, 2));
        assert_eq!(showing.shown(at(start, 99), Window::Tenth), shown);
        assert_eq!(
            showing.shown(at(start, 100), Window::Tenth),
            Shown::default()
        );
        assert_eq!(showing.shown(at(start, 499), Window::HalfSecond), shown);
        assert_eq!(
            showing.shown(at(start, 500), Window::HalfSecond),
            Shown::default()
        );
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
    fn what_was_only_overtaken_is_not_lost_and_nonsense_is_no_loss() {
        let (mut showing, start) = (Showing::default(), Instant::now());
        for number in [0, 3, 1, 2, 4] {
            showing.handle_number(start, number);
        }
        let shown = showing.shown(start, Window::HalfSecond);
        assert_eq!((shown.due, shown.lost, shown.runs), (5, 0, 0));
        showing.handle_number(start, u64::MAX - 1);
        assert_eq!(showing.shown(start, Window::HalfSecond).lost, 0);
    }
}
