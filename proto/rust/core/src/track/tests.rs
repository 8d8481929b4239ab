use super::*;

fn meta(prev: Option<u64>, len: u64) -> ObjectMeta {
    ObjectMeta {
        prev,
        first_object: prev.is_none(),
        priority: 7,
        status: 0,
        props_len: 0,
        body_len: len,
        budget_ms: 500,
    }
}

fn key(group: u64, object: u64) -> ObjectKey {
    ObjectKey {
        group,
        subgroup: 0,
        object,
    }
}

#[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
fn track(cache: CacheLimits) -> (Track, Arc<LargestCell>, Instant) {
    let largest = Arc::new(LargestCell::default());
    (Track::new(cache, largest.clone()), largest, Instant::now())
}

fn put(track: &mut Track, now: Instant, group: u64, object: u64, len: usize) {
    let prev = object.checked_sub(1);
    let data = Bytes::from(vec![object as u8; len]);
    track
        .write(
            now,
            key(group, object),
            &meta(prev, len as u64),
            (0, &mut [data]),
        )
        .unwrap();
}

#[test]
fn a_reader_waits_for_the_object_before_the_one_that_came_first() {
    let (mut track, _, now) = track(CacheLimits::default());
    put(&mut track, now, 1, 1, 10);
    assert!(track.subgroup(1, 0).unwrap().next_after(None, 0).is_none());
    put(&mut track, now, 1, 0, 10);
    let subgroup = track.subgroup(1, 0).unwrap();
    assert_eq!(subgroup.next_after(None, 0).unwrap().0, 0);
    assert_eq!(subgroup.next_after(Some(0), 0).unwrap().0, 1);
}

#[test]
fn a_reader_that_starts_in_mid_group_does_not_wait_for_what_is_before() {
    let (mut track, _, now) = track(CacheLimits::default());
    put(&mut track, now, 1, 5, 10);
    assert_eq!(
        track.subgroup(1, 0).unwrap().next_after(None, 5).unwrap().0,
        5
    );
    assert!(track.subgroup(1, 0).unwrap().next_after(None, 4).is_none());
}

#[test]
fn gaps_in_object_ids_are_no_gaps_in_the_subgroup() {
    let (mut track, _, now) = track(CacheLimits::default());
    put(&mut track, now, 1, 0, 4);
    track
        .write(
            now,
            key(1, 9),
            &meta(Some(0), 4),
            (0, &mut [Bytes::from_static(b"late")]),
        )
        .unwrap();
    assert_eq!(
        track
            .subgroup(1, 0)
            .unwrap()
            .next_after(Some(0), 0)
            .unwrap()
            .0,
        9
    );
}

#[test]
fn the_same_object_with_another_header_is_a_conflict() {
    let (mut track, _, now) = track(CacheLimits::default());
    put(&mut track, now, 1, 0, 10);
    let other = track.write(
        now,
        key(1, 0),
        &meta(None, 11),
        (0, &mut [Bytes::from_static(b"x")]),
    );
    assert!(other.unwrap_err().0.contains("different headers"));
}

#[test]
fn the_largest_location_is_shared_as_soon_as_its_first_byte_is_there() {
    let (mut track, largest, now) = track(CacheLimits::default());
    assert_eq!(largest.get(), None);
    track
        .write(
            now,
            key(3, 2),
            &meta(Some(1), 100),
            (0, &mut [Bytes::from_static(b"a")]),
        )
        .unwrap();
    assert_eq!(largest.get(), Some(Location::new(3, 2)));
    put(&mut track, now, 2, 9, 1);
    assert_eq!(largest.get(), Some(Location::new(3, 2)));
}

#[test]
fn old_groups_leave_and_do_not_come_back_but_the_running_one_stays() {
    let (mut track, _, now) = track(CacheLimits {
        cache_groups_max: 2,
        ..CacheLimits::default()
    });
    for group in 0..4 {
        put(&mut track, now, group, 0, 10);
    }
    assert_eq!(track.evict(now), vec![0, 1]);
    put(&mut track, now, 1, 0, 10);
    assert_eq!(track.groups.keys().copied().collect::<Vec<_>>(), vec![2, 3]);
    let later = now + Duration::from_secs(3600);
    assert_eq!(track.evict(later), vec![2]);
    assert_eq!(track.evict(later), Vec::<u64>::new());
    assert_eq!(track.bytes(), 10 + OBJECT_COST_BYTES + SUBGROUP_COST_BYTES);
}

#[test]
fn a_group_that_outgrows_the_cache_loses_its_front_and_keeps_growing() {
    let (mut track, _, now) = track(CacheLimits {
        cache_bytes_max: SUBGROUP_COST_BYTES + 10 * (OBJECT_COST_BYTES + 10),
        ..CacheLimits::default()
    });
    for object in 0..30 {
        put(&mut track, now, 7, object, 10);
        track.evict(now);
        assert!(track.bytes() <= SUBGROUP_COST_BYTES + 10 * (OBJECT_COST_BYTES + 10));
    }
    let subgroup = track.subgroup(7, 0).unwrap();
    assert_eq!(subgroup.dropped_to, Some(19));
    put(&mut track, now, 7, 3, 10);
    assert!(!track.subgroup(7, 0).unwrap().objects.contains_key(&3));
}

#[test]
fn a_finished_subgroup_stays_finished_when_a_reset_comes_late() {
    let (mut track, _, now) = track(CacheLimits::default());
    put(&mut track, now, 1, 0, 1);
    track.end_subgroup(1, 0, End::Finished { last: Some(0) }, true);
    track.end_subgroup(1, 0, End::Reset { code: 2 }, false);
    let subgroup = track.subgroup(1, 0).unwrap();
    assert_eq!(subgroup.end, Some(End::Finished { last: Some(0) }));
    assert!(subgroup.is_finished_at(Some(0), 0) && subgroup.end_of_group);
}

#[test]
fn what_is_held_is_counted_exactly_although_incomplete_objects_are_dropped() {
    let (mut track, _, now) = track(CacheLimits {
        cache_bytes_max: 10_000,
        ..CacheLimits::default()
    });
    for object in 0..100u64 {
        // A tenth of the object only.
        let header = meta(object.checked_sub(1), 5_000);
        let data = Bytes::from(vec![1; 500]);
        track
            .write(now, key(1, object), &header, (0, &mut [data]))
            .unwrap();
        track.evict(now);
    }
    let subgroup = track.subgroup(1, 0).unwrap();
    let held: u64 = subgroup.objects.values().map(|o| o.body.held()).sum();
    let costs = subgroup.objects.len() as u64 * OBJECT_COST_BYTES + SUBGROUP_COST_BYTES;
    assert_eq!(track.bytes(), held + costs);
    assert!(held > 5_000 && track.bytes() <= 10_000, "{held}");
}
