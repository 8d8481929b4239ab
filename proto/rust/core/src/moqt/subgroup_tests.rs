//! Reader and writer of subgroup streams against each other and against the drafts' examples.

use super::*;
use crate::command::Draft;
use bytes::Bytes;
use proptest::prelude::*;

const BOTH: [Draft; 2] = [Draft::D16, Draft::D18];

/// Everything a stream gives, payload pieces put together, and how it ends.
fn read(
    draft: Draft,
    limits: DataLimits,
    chunks: impl IntoIterator<Item = Bytes>,
) -> (Vec<SubgroupItem>, Result<(), DataError>) {
    let mut reader = SubgroupReader::new(draft, limits);
    let mut items = Vec::new();
    for chunk in chunks {
        reader.feed(chunk);
        loop {
            match reader.poll() {
                Ok(Some(item)) => push_joined(&mut items, item),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.finish(), Err(error));
                    return (items, Err(error));
                }
            }
        }
        assert!(reader.buffered_bytes() as u64 <= limits.properties_bytes_max.max(9));
    }
    (items, reader.finish())
}

fn push_joined(items: &mut Vec<SubgroupItem>, item: SubgroupItem) {
    if let (Some(SubgroupItem::Payload(last)), SubgroupItem::Payload(more)) =
        (items.last_mut(), &item)
    {
        *last = Bytes::from([&last[..], more].concat());
    } else {
        items.push(item);
    }
}

fn read_whole(draft: Draft, bytes: &[u8]) -> (Vec<SubgroupItem>, Result<(), DataError>) {
    read(
        draft,
        DataLimits::default(),
        [Bytes::copy_from_slice(bytes)],
    )
}

fn failure(draft: Draft, bytes: &[u8]) -> DataError {
    read_whole(draft, bytes).1.unwrap_err()
}

fn header(alias: u64, group: u64, subgroup: Option<u64>) -> SubgroupHeader {
    SubgroupHeader {
        alias,
        group,
        subgroup,
        priority: None,
        end_of_group: false,
        first_object: false,
        has_properties: false,
    }
}

fn object(id: u64, payload_len: u64) -> SubgroupItem {
    SubgroupItem::Object(ObjectHeader {
        id,
        properties: Bytes::new(),
        payload_len,
        status: 0,
    })
}

fn payload(bytes: &'static [u8]) -> SubgroupItem {
    SubgroupItem::Payload(Bytes::from_static(bytes))
}

#[test]
fn first_example_of_the_drafts_reads() {
    let wire = b"\x14\x02\x00\x00\x00\x00\x04abcd\x00\x04efgh";
    for draft in BOTH {
        let (items, end) = read_whole(draft, wire);
        let expected_header = SubgroupHeader {
            priority: Some(0),
            ..header(2, 0, Some(0))
        };
        assert_eq!(end, Ok(()));
        assert_eq!(
            items,
            [
                SubgroupItem::Header(expected_header),
                object(0, 4),
                payload(b"abcd"),
                object(1, 4),
                payload(b"efgh"),
            ]
        );
    }
}

#[test]
fn second_example_of_the_drafts_reads_into_stored_form() {
    let stored =
        Bytes::from_static(b"\x04\xc0\x00\x00\x00\x82\x58\x5d\xd3\x40\x49\x0etraceID:123456");
    let wires: [(Draft, &[u8]); 2] = [
        (
            Draft::D16,
            b"\x35\x02\x00\x00\x00\x1a\x04\xc0\x00\x00\x00\x82\x58\x5d\xd3\x40\x49\x0etraceID:123456\x04abcd\x00\x00\x04efgh",
        ),
        (
            Draft::D18,
            b"\x35\x02\x00\x00\x00\x16\x04\xf0\x82\x58\x5d\xd3\x49\x0etraceID:123456\x04abcd\x00\x00\x04efgh",
        ),
    ];
    for (draft, wire) in wires {
        let (items, end) = read_whole(draft, wire);
        assert_eq!(end, Ok(()));
        let first = SubgroupItem::Object(ObjectHeader {
            id: 0,
            properties: stored.clone(),
            payload_len: 4,
            status: 0,
        });
        assert_eq!(
            items[1..],
            [first, payload(b"abcd"), object(1, 4), payload(b"efgh")]
        );
    }
}

#[test]
fn the_subgroup_id_has_three_forms() {
    for draft in BOTH {
        for (wire, subgroup) in [
            (&b"\x30\x01\x02"[..], Some(0)),
            (b"\x32\x01\x02", None),
            (b"\x34\x01\x02\x05", Some(5)),
        ] {
            let (items, end) = read_whole(draft, wire);
            assert_eq!(items, [SubgroupItem::Header(header(1, 2, subgroup))]);
            assert_eq!(end, Ok(()));
        }
    }
}

#[test]
fn the_first_object_bit_exists_in_draft_18_only() {
    let (items, _) = read_whole(Draft::D18, b"\x78\x01\x02");
    let expected = SubgroupHeader {
        end_of_group: true,
        first_object: true,
        ..header(1, 2, Some(0))
    };
    assert_eq!(items, [SubgroupItem::Header(expected)]);
    let mut out = Vec::new();
    encode_subgroup_header(Draft::D16, &expected, &mut out).unwrap();
    assert_eq!(out, b"\x38\x01\x02");
    assert_eq!(
        failure(Draft::D16, b"\x40\x78\x01\x02"),
        DataError::UnknownStreamType(0x78)
    );
}

#[test]
fn statuses_come_without_payload_and_end_the_stream() {
    for draft in BOTH {
        for status in [object_status::END_OF_GROUP, object_status::END_OF_TRACK] {
            let wire = [0x30, 1, 2, 7, 0, status as u8];
            let (items, end) = read_whole(draft, &wire);
            let expected = ObjectHeader {
                id: 7,
                properties: Bytes::new(),
                payload_len: 0,
                status,
            };
            assert_eq!(items[1], SubgroupItem::Object(expected));
            assert_eq!(end, Ok(()));
            assert_eq!(
                failure(draft, &[&wire[..], &[0]].concat()),
                DataError::ObjectAfterEnd
            );
        }
        assert_eq!(read_whole(draft, b"\x30\x01\x02\x07\x00\x00").1, Ok(()));
        for status in [1, 2, 5] {
            let wire = [0x30, 1, 2, 7, 0, status];
            assert_eq!(
                failure(draft, &wire),
                DataError::UnknownStatus(status.into())
            );
        }
    }
}

#[test]
fn properties_on_a_status_are_a_violation_unless_empty() {
    for draft in BOTH {
        let wire = b"\x31\x01\x02\x00\x02\x04\x09\x00\x03";
        assert_eq!(failure(draft, wire), DataError::PropertiesOnStatus(3));
        assert_eq!(read_whole(draft, b"\x31\x01\x02\x00\x00\x00\x03").1, Ok(()));
    }
}

#[test]
fn object_ids_beyond_the_largest_are_a_violation() {
    let last = [&b"\x30\x01\x02"[..], &[0xff; 9], b"\x01x"].concat();
    assert_eq!(read_whole(Draft::D18, &last).1, Ok(()));
    assert_eq!(
        failure(Draft::D18, &[&last[..], &[0]].concat()),
        DataError::ObjectIdOverflow
    );
    let last = [&b"\x30\x01\x02"[..], &[0xff; 8], b"\x01x"].concat();
    assert_eq!(read_whole(Draft::D16, &last).1, Ok(()));
    assert_eq!(
        failure(Draft::D16, &[&last[..], &[0]].concat()),
        DataError::ObjectIdOverflow
    );
}

#[test]
fn an_end_inside_a_header_or_an_object_is_a_violation() {
    let wire = b"\x15\x02\x00\x00\x00\x00\x02\x04\x09\x04abcd";
    for draft in BOTH {
        for cut in 0..wire.len() {
            let end = read_whole(draft, &wire[..cut]).1;
            let between_objects = cut == 5;
            assert_eq!(end.is_ok(), between_objects, "cut at {cut}");
        }
        assert_eq!(read_whole(draft, wire).1, Ok(()));
    }
}

#[test]
fn limits_act_before_anything_is_held() {
    let limits = DataLimits {
        properties_bytes_max: 8,
        object_bytes_max: 20,
    };
    for draft in BOTH {
        let wire = Bytes::from_static(b"\x31\x01\x02\x00\x09");
        let error = read(draft, limits, [wire]).1.unwrap_err();
        assert_eq!(error, DataError::PropertiesTooLarge(9));
        assert_eq!(
            error.scope(),
            ErrorScope::Stream(ResetReason::ExcessiveLoad)
        );
        let wire = Bytes::from_static(b"\x31\x01\x02\x00\x02\x04\x09\x13");
        assert_eq!(
            read(draft, limits, [wire]).1,
            Err(DataError::ObjectTooLarge(21))
        );
    }
    let huge = Bytes::from([&b"\x30\x01\x02\x00"[..], &[0xff; 9]].concat());
    let end = read(Draft::D18, limits, [huge]).1;
    assert_eq!(end, Err(DataError::ObjectTooLarge(u64::MAX)));
}

#[test]
fn payload_leaves_as_it_arrives_and_is_not_copied() {
    let mut reader = SubgroupReader::new(Draft::D16, DataLimits::default());
    reader.feed(Bytes::from_static(b"\x30\x01\x02\x00\x08"));
    while reader.poll().unwrap().is_some() {}
    let chunk = Bytes::from_static(b"abcde");
    reader.feed(chunk.clone());
    match reader.poll() {
        Ok(Some(SubgroupItem::Payload(piece))) => assert_eq!(piece.as_ptr(), chunk.as_ptr()),
        other => panic!("{other:?}"),
    }
    assert_eq!(reader.buffered_bytes(), 0);
    assert_eq!(reader.finish(), Err(DataError::Truncated));
}

#[test]
fn values_beyond_62_bits_cannot_be_written_in_draft_16() {
    let wide = 1 << 62;
    let mut out = Vec::new();
    let result = encode_subgroup_header(Draft::D16, &header(1, wide, Some(0)), &mut out);
    assert_eq!(result, Err(DataError::Unrepresentable(wide)));
    assert!(encode_subgroup_header(Draft::D18, &header(1, wide, Some(0)), &mut out).is_ok());
}

#[test]
fn ids_that_do_not_rise_cannot_be_written() {
    let SubgroupItem::Object(again) = object(5, 1) else {
        unreachable!()
    };
    for last in [5, 6] {
        let result = encode_object_header(Draft::D18, Some(last), &again, false, &mut Vec::new());
        assert_eq!(result, Err(DataError::Unrepresentable(5)));
    }
}

/// A stream as a list of items that a writer can write and a reader must give back.
fn streams() -> impl Strategy<Value = (SubgroupHeader, Vec<(ObjectHeader, Vec<u8>)>)> {
    let id = || (any::<u64>(), 2u32..64).prop_map(|(value, shift)| value >> shift);
    let header = (
        (id(), id(), proptest::option::of(id())),
        proptest::option::of(any::<u8>()),
        any::<[bool; 3]>(),
    );
    let properties = prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"\x04\x09")),
        Just(Bytes::from_static(
            b"\x02\x7f\xff\x05\x03abc\x01\xff\xff\xff\xff\xff\xff\xff\xff"
        )),
    ];
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    let objects = proptest::collection::vec((0u64..1 << 40, properties, body), 0..6);
    (header, objects).prop_map(
        |((ids, priority, [end_of_group, first_object, has]), objects)| {
            let header = SubgroupHeader {
                alias: ids.0,
                group: ids.1,
                subgroup: ids.2,
                priority,
                end_of_group,
                first_object,
                has_properties: has,
            };
            let mut next_id = 0;
            let objects = objects.into_iter().map(|(gap, properties, body)| {
                let id = next_id + gap;
                next_id = id + 1;
                let object = ObjectHeader {
                    id,
                    properties: if has { properties } else { Bytes::new() },
                    payload_len: body.len() as u64,
                    status: 0,
                };
                (object, body)
            });
            (header, objects.collect())
        },
    )
}

fn write(draft: Draft, header: &SubgroupHeader, objects: &[(ObjectHeader, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_subgroup_header(draft, header, &mut out).unwrap();
    let mut last_id = None;
    for (object, body) in objects {
        encode_object_header(draft, last_id, object, header.has_properties, &mut out).unwrap();
        out.extend_from_slice(body);
        last_id = Some(object.id);
    }
    out
}

fn chunks_of(bytes: &[u8], sizes: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes;
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, more) = rest.split_at((*size).min(rest.len()));
        chunks.push(Bytes::copy_from_slice(chunk));
        rest = more;
    }
    chunks
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_at_any_split(
        (header, objects) in streams(),
        sizes in proptest::collection::vec(1usize..20, 1..8),
    ) {
        for draft in BOTH {
            let wire = write(draft, &header, &objects);
            let mut expected = vec![SubgroupItem::Header(SubgroupHeader {
                first_object: header.first_object && draft == Draft::D18,
                ..header
            })];
            for (object, body) in &objects {
                expected.push(SubgroupItem::Object(object.clone()));
                if !body.is_empty() {
                    expected.push(SubgroupItem::Payload(Bytes::from(body.clone())));
                }
            }
            for chunks in [chunks_of(&wire, &sizes), chunks_of(&wire, &[1]), chunks_of(&wire, &[wire.len()])] {
                let (items, end) = read(draft, DataLimits::default(), chunks);
                prop_assert_eq!(end, Ok(()));
                prop_assert_eq!(&items, &expected);
            }
        }
    }

    #[test]
    fn garbage_gives_the_same_at_any_split_and_never_panics(
        first in 0u8..0x80,
        tail in proptest::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..80),
        sizes in proptest::collection::vec(1usize..9, 1..6),
    ) {
        let limits = DataLimits { properties_bytes_max: 32, object_bytes_max: 64 };
        let wire = [&[first][..], &tail].concat();
        for draft in BOTH {
            let whole = read(draft, limits, [Bytes::from(wire.clone())]);
            prop_assert_eq!(&whole, &read(draft, limits, chunks_of(&wire, &sizes)));
        }
    }
}
