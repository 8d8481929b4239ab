use super::*;
use crate::command::CacheLimits;
use crate::location::LargestCell;
use crate::track::{ObjectKey, ObjectMeta};
use bytes::Bytes;
use std::sync::Arc;

struct Writer {
    track: Track,
    now: Instant,
}

impl Writer {
    #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
    fn new() -> Writer {
        let largest = Arc::new(LargestCell::default());
        Writer {
            track: Track::new(CacheLimits::default(), largest),
            now: Instant::now(),
        }
    }

    /// An object of 2,000 bytes, all or the first half of it.
    fn put(&mut self, group: u64, subgroup: u64, object: u64, prev: Option<u64>, whole: bool) {
        let meta = ObjectMeta {
            prev,
            first_object: prev.is_none(),
            priority: 0,
            status: 0,
            props_len: 0,
            body_len: 2_000,
            budget_ms: 0,
        };
        let key = ObjectKey {
            group,
            subgroup,
            object,
        };
        let data = Bytes::from(vec![1; if whole { 2_000 } else { 1_000 }]);
        self.track
            .write(self.now, key, &meta, (0, &mut [data]))
            .unwrap();
    }

    /// Objects of one subgroup, each after the one before.
    fn row(&mut self, group: u64, objects: std::ops::Range<u64>) {
        for object in objects {
            self.put(group, 0, object, object.checked_sub(1), true);
        }
    }

    fn end(&mut self, group: u64, last: u64) {
        let end = End::Finished { last: Some(last) };
        self.track.end_subgroup(group, 0, end, true);
    }

    fn resume(&self) -> Option<(u64, u64)> {
        let at = self.track.resume_location(self.now);
        at.map(|at| (at.group, at.object))
    }
}

#[test]
fn nothing_held_gives_no_place() {
    assert_eq!(Writer::new().resume(), None);
}

#[test]
fn a_whole_row_goes_on_after_its_last_object_and_after_a_closed_group_with_the_next() {
    let mut w = Writer::new();
    w.row(4, 0..3);
    assert_eq!(w.resume(), Some((4, 3)));
    w.end(4, 2);
    assert_eq!(w.resume(), Some((5, 0)));
    w.row(5, 0..1);
    assert_eq!(w.resume(), Some((5, 1)));
}

#[test]
fn an_object_that_is_held_in_part_is_asked_for_from_its_beginning() {
    let mut w = Writer::new();
    w.row(4, 0..3);
    w.put(4, 0, 3, Some(2), false);
    w.row(4, 4..6);
    assert_eq!(w.resume(), Some((4, 3)));
}

#[test]
fn a_hole_in_the_chain_counts_and_a_gap_in_ids_does_not() {
    let mut w = Writer::new();
    w.row(4, 0..3);
    w.put(4, 0, 9, Some(2), true);
    assert_eq!(w.resume(), Some((4, 10)));
    w.put(4, 0, 15, Some(12), true);
    assert_eq!(w.resume(), Some((4, 10)));
}

#[test]
fn a_subgroup_whose_beginning_is_missing_is_asked_for_from_its_first_object() {
    let mut w = Writer::new();
    w.put(4, 0, 3, Some(2), true);
    assert_eq!(w.resume(), Some((4, 0)));
}

#[test]
fn an_end_that_did_not_come_is_asked_for_also_in_a_group_before_the_last() {
    let mut w = Writer::new();
    w.row(4, 0..3);
    w.row(5, 0..2);
    assert_eq!(w.resume(), Some((4, 3)));
    w.end(4, 3);
    assert_eq!(w.resume(), Some((4, 3)));
    w.row(4, 3..4);
    assert_eq!(w.resume(), Some((5, 2)));
}

#[test]
fn a_group_of_which_nothing_came_is_asked_for() {
    let mut w = Writer::new();
    for group in [4, 5, 7] {
        w.row(group, 0..1);
        w.end(group, 0);
    }
    assert_eq!(w.resume(), Some((6, 0)));
}

#[test]
fn what_a_reset_subgroup_lacks_is_not_asked_for() {
    let mut w = Writer::new();
    w.row(4, 0..3);
    w.track.end_subgroup(4, 0, End::Reset { code: 5 }, false);
    w.row(5, 0..2);
    assert_eq!(w.resume(), Some((5, 2)));
}

#[test]
fn a_group_that_was_left_long_ago_is_not_asked_for_but_the_last_one_is() {
    let mut w = Writer::new();
    w.row(4, 0..3);
    w.now += Duration::from_millis(3_001);
    w.row(5, 0..2);
    assert_eq!(w.resume(), Some((5, 2)));
    w.now += Duration::from_secs(60);
    assert_eq!(w.resume(), Some((5, 2)));
}

#[test]
fn of_several_subgroups_one_may_be_lost_as_a_whole() {
    let mut w = Writer::new();
    for object in [0, 1, 3] {
        w.put(4, object, object, None, true);
        let end = End::Finished { last: Some(object) };
        w.track.end_subgroup(4, object, end, false);
    }
    assert_eq!(w.resume(), Some((4, 2)));
    w.put(4, 2, 2, None, true);
    let end = End::Finished { last: Some(2) };
    w.track.end_subgroup(4, 2, end, false);
    assert_eq!(w.resume(), Some((4, 4)));
    w.track
        .end_subgroup(4, 3, End::Finished { last: Some(3) }, true);
    assert_eq!(w.resume(), Some((5, 0)));
}
