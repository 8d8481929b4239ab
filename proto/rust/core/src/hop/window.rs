//! Which sequence numbers were seen, as ranges: a bounded number of them, however long a hop lives.

use std::collections::BTreeMap;

/// What is known of a number at its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not seen before.
    New,
    /// Seen before.
    Before,
    /// So old that it was forgotten whether it was seen.
    Forgotten,
}

/// A set of sequence numbers that forgets its lowest when it has too many gaps.
#[derive(Debug)]
pub(super) struct SeqWindow {
    /// First number of a range to its last.
    ranges: BTreeMap<u64, u64>,
    /// Everything below is forgotten.
    floor: u64,
    ranges_max: usize,
}

impl SeqWindow {
    pub(super) fn new(gaps_max: usize) -> SeqWindow {
        SeqWindow {
            ranges: BTreeMap::new(),
            floor: 0,
            ranges_max: gaps_max.saturating_add(1),
        }
    }

    /// The highest number seen.
    pub(super) fn largest(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, last)| *last)
    }

    /// The ranges, highest first.
    pub(super) fn descending(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges
            .iter()
            .rev()
            .map(|(first, last)| (*first, *last))
    }

    /// Adds a number (below 2^62).
    pub(super) fn insert(&mut self, number: u64) -> Seen {
        if number < self.floor {
            return Seen::Forgotten;
        }
        let below = self
            .ranges
            .range(..=number)
            .next_back()
            .map(|(first, last)| (*first, *last));
        let first = match below {
            Some((_, last)) if number <= last => return Seen::Before,
            Some((first, last)) if number == last + 1 => first,
            _ => number,
        };
        let last = self.ranges.remove(&(number + 1)).unwrap_or(number);
        self.ranges.insert(first, last);
        self.forget_lowest();
        Seen::New
    }

    fn forget_lowest(&mut self) {
        while self.ranges.len() > self.ranges_max {
            let Some((_, last)) = self.ranges.pop_first() else {
                return;
            };
            self.floor = last + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_lowest_range_is_forgotten_when_there_are_too_many_gaps() {
        let mut window = SeqWindow::new(2);
        for number in [0, 1, 10, 20, 30] {
            assert_eq!(window.insert(number), Seen::New);
        }
        assert_eq!(window.insert(1), Seen::Forgotten);
        assert_eq!(window.insert(5), Seen::New);
        assert_eq!(window.insert(5), Seen::Forgotten);
        assert_eq!(window.insert(10), Seen::Before);
        assert_eq!(
            window.descending().collect::<Vec<_>>(),
            [(30, 30), (20, 20), (10, 10)]
        );
    }

    proptest! {
        #[test]
        fn it_says_what_a_set_says(numbers in prop::collection::vec(0u64..60, 0..200)) {
            let mut window = SeqWindow::new(100);
            let mut set = BTreeSet::new();
            for number in numbers {
                let expected = if set.insert(number) { Seen::New } else { Seen::Before };
                prop_assert_eq!(window.insert(number), expected);
                prop_assert_eq!(window.largest(), set.last().copied());
            }
            let listed: Vec<u64> = window.descending().flat_map(|(a, b)| (a..=b).rev()).collect();
            prop_assert_eq!(listed, set.into_iter().rev().collect::<Vec<_>>());
        }

        #[test]
        fn it_stays_bounded(numbers in prop::collection::vec(0u64..(1 << 62), 0..200)) {
            let mut window = SeqWindow::new(8);
            for number in numbers {
                window.insert(number);
                prop_assert!(window.ranges.len() <= 9);
            }
        }
    }
}
