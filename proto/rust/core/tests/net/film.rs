//! A film whose every byte is known, and the proof that it arrived whole.

use bytes::Bytes;
use farcast_core::command::NewObject;
use farcast_core::event::SinkObject;
use std::collections::BTreeMap;

/// Objects of a group.
pub const OBJECTS: u64 = 30;

/// Frame sizes from a few bytes to several chunks, with a key frame of 60 kB.
pub fn frame(group: u64, object: u64) -> NewObject {
    let len = match object {
        0 => 60_000,
        n => 200 + (group as usize * 7919 + n as usize * 1543) % 14_000,
    };
    let payload: Vec<u8> = (0..len)
        .map(|i| (i as u64 * 31 + group * 7 + object) as u8)
        .collect();
    NewObject {
        group,
        subgroup: 0,
        object,
        priority: 100,
        status: 0,
        // type 0x38C4, value 5: RFC 9000 varints.
        properties: Bytes::from_static(&[0x78, 0xC4, 5]),
        payload: payload.into(),
        end_of_subgroup: object + 1 == OBJECTS,
        end_of_group: object + 1 == OBJECTS,
    }
}

/// Every object of the groups once, in order, as published.
pub fn assert_intact(objects: &[SinkObject], groups: std::ops::Range<u64>) {
    let mut by_group: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for object in objects {
        let expected = frame(object.group, object.object);
        assert_eq!(
            object.payload, expected.payload,
            "{}/{}",
            object.group, object.object
        );
        assert_eq!(object.properties, expected.properties);
        assert_eq!(object.priority, 100);
        by_group
            .entry(object.group)
            .or_default()
            .push(object.object);
    }
    let whole: Vec<u64> = (0..OBJECTS).collect();
    assert_eq!(
        by_group.keys().copied().collect::<Vec<_>>(),
        groups.collect::<Vec<_>>()
    );
    assert!(
        by_group.values().all(|ids| *ids == whole),
        "every object once, in order"
    );
}
