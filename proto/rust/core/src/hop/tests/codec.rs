//! The wire format: what is written is read, and nothing that arrives does harm.

use super::epoch;
use crate::hop::error::HopError;
use crate::hop::frame::{
    BODY_BYTES_MAX, CHUNK_BODY_BYTES, Chunk, Frame, Supply, VALUE_MAX, WAY_NODES_MAX, cut,
};
use crate::hop::wire::{
    ACK_RANGES_MAX, Ack, Data, Datagram, Echo, Heartbeat, decode, encode_ack, encode_data,
    encode_heartbeat,
};
use crate::hop::{DATAGRAM_BYTES_MAX, FrameError, Hop, HopConfig};
use crate::location::Location;
use bytes::Bytes;
use proptest::prelude::*;

/// Integers of every encoded length.
fn value() -> impl Strategy<Value = u64> {
    (0u32..62, any::<u64>()).prop_map(|(bits, value)| value & (VALUE_MAX >> bits))
}

prop_compose! {
    fn chunk()(
        (alias, group, subgroup, object) in (value(), value(), value(), value()),
        back in prop::option::of(value()),
        (first_object, priority, status, budget_ms) in (any::<bool>(), any::<u8>(), value(), any::<u16>()),
        body in prop::collection::vec(any::<u8>(), 0..=CHUNK_BODY_BYTES),
        before in 0u64..1 << 29,
        after in 0u64..1 << 28,
        props in any::<u32>(),
    ) -> Frame {
        let len = body.len() as u64;
        let (before, after) = if len == 0 { (0, 0) } else { (before, after) };
        let body_len = before + len + after;
        Frame::Chunk(Chunk {
            alias, group, subgroup, object,
            prev: back.filter(|_| object > 0).map(|back| back % object),
            first_object, priority, status, budget_ms,
            props_len: u32::try_from(u64::from(props).min(body_len)).unwrap(),
            body_len,
            offset: before,
            body: Bytes::from(body),
        })
    }
}

fn frame() -> impl Strategy<Value = Frame> {
    let key = || (value(), value(), value());
    prop_oneof![
        chunk(),
        (key(), prop::option::of(value()), any::<bool>()).prop_map(
            |((alias, group, subgroup), last, end_of_group)| Frame::SubgroupEnd {
                alias,
                group,
                subgroup,
                last,
                end_of_group
            }
        ),
        (key(), any::<bool>(), prop::option::of((value(), value()))).prop_map(
            |((alias, turn, _), on, start)| Frame::Forward {
                alias,
                turn,
                on,
                start: start.map(|(group, object)| Location::new(group, object)),
            }
        ),
        (
            key(),
            any::<bool>(),
            prop::collection::vec(any::<u64>(), 0..=WAY_NODES_MAX)
        )
            .prop_map(|((alias, turn, _), fed, way)| Frame::Supply {
                alias,
                turn,
                supply: Supply { fed, way },
            }),
        (key(), any::<u32>()).prop_map(|((alias, group, subgroup), code)| {
            Frame::SubgroupReset {
                alias,
                group,
                subgroup,
                code,
            }
        }),
    ]
}

fn ack() -> impl Strategy<Value = Ack> {
    let range = (0u64..1 << 40, 0u64..1 << 40);
    (prop::collection::vec(range, 1..=ACK_RANGES_MAX), value()).prop_map(|(steps, delay_us)| {
        let mut ranges = Vec::new();
        let mut floor = 0;
        for (gap, len) in steps {
            let first = floor + gap;
            ranges.push((first, first + len));
            floor = first + len + 2;
        }
        ranges.reverse();
        Ack { delay_us, ranges }
    })
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    let echo = (value(), value()).prop_map(|(time_us, hold_us)| Echo { time_us, hold_us });
    let times = (value(), value(), value());
    (any::<bool>(), value(), times, prop::option::of(echo)).prop_map(
        |(media, seq, (time_us, interval_us, gap_us), echo)| Heartbeat {
            seq,
            media,
            time_us,
            interval_us,
            gap_us,
            echo,
        },
    )
}

fn largest_chunk() -> Chunk {
    Chunk {
        alias: VALUE_MAX,
        group: VALUE_MAX,
        subgroup: VALUE_MAX,
        object: VALUE_MAX,
        prev: Some(0),
        first_object: true,
        priority: 255,
        status: VALUE_MAX,
        budget_ms: u16::MAX,
        props_len: u32::try_from(BODY_BYTES_MAX).unwrap(),
        body_len: BODY_BYTES_MAX,
        offset: BODY_BYTES_MAX - CHUNK_BODY_BYTES as u64,
        body: Bytes::from(vec![7; CHUNK_BODY_BYTES]),
    }
}

proptest! {
    #[test]
    fn data_is_read_as_it_was_written(frame in frame(), seq in value(), back in value()) {
        let id = seq - back.min(seq);
        let budget_ms = if let Frame::Chunk(chunk) = &frame { chunk.budget_ms } else { 0 };
        let wire = encode_data(seq, id, &frame, budget_ms);
        prop_assert!(wire.len() <= DATAGRAM_BYTES_MAX);
        prop_assert_eq!(decode(wire), Ok(Datagram::Data(Data { seq, id, frame })));
    }

    #[test]
    fn acknowledgements_are_read_as_they_were_written(ack in ack()) {
        let wire = encode_ack(&ack);
        prop_assert!(wire.len() <= DATAGRAM_BYTES_MAX);
        prop_assert_eq!(decode(wire), Ok(Datagram::Ack(ack)));
    }

    #[test]
    fn heartbeats_are_read_as_they_were_written(heartbeat in heartbeat()) {
        prop_assert_eq!(decode(encode_heartbeat(&heartbeat)), Ok(Datagram::Heartbeat(heartbeat)));
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_panics(data in prop::collection::vec(any::<u8>(), 0..1500)) {
        let now = epoch();
        let mut hop = Hop::new(HopConfig::default(), now);
        let result = hop.handle_datagram(now, Bytes::from(data));
        prop_assert_eq!(hop.stats().datagrams_malformed, u64::from(result.is_err()));
    }

    #[test]
    fn garbage_after_a_valid_type_never_panics(
        kind in prop::sample::select(vec![1u8, 2, 3, 4, 0x21, 0x22, 0x23, 0x24, 0x10, 0x11]),
        data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let now = epoch();
        let mut hop = Hop::new(HopConfig::default(), now);
        let _ = hop.handle_datagram(now, [vec![kind], data].concat().into());
        hop.handle_timeout(now);
        while hop.poll_datagram(now).is_some() {}
    }

    #[test]
    fn a_truncated_datagram_is_an_error_unless_only_the_body_is_cut(
        frame in frame(), cut in any::<prop::sample::Index>(),
    ) {
        let wire = encode_data(5, 3, &frame, 0);
        let short = wire.slice(..cut.index(wire.len()));
        match decode(short) {
            Err(HopError::Truncated | HopError::Malformed(_)) => {}
            Ok(Datagram::Data(Data { frame: Frame::Chunk(chunk), .. })) => {
                prop_assert!(!chunk.body.is_empty());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn pieces_join_to_the_body_and_end_on_multiples(
        offset in 0u64..10_000, len in 0usize..10_000,
    ) {
        let body = Bytes::from((0..len).map(|i| i as u8).collect::<Vec<_>>());
        let pieces: Vec<_> = cut(offset, body.clone()).collect();
        let mut at = offset;
        for (index, (start, piece)) in pieces.iter().enumerate() {
            prop_assert_eq!(*start, at);
            at += piece.len() as u64;
            prop_assert!(index + 1 == pieces.len() || at % CHUNK_BODY_BYTES as u64 == 0);
            prop_assert!(piece.len() <= CHUNK_BODY_BYTES);
        }
        let joined: Vec<u8> = pieces.iter().flat_map(|(_, piece)| piece.to_vec()).collect();
        prop_assert_eq!(joined, body.to_vec());
    }
}

#[test]
fn the_largest_chunk_fits_the_datagram() {
    let frame = Frame::Chunk(largest_chunk());
    let wire = encode_data(VALUE_MAX, 0, &frame, u16::MAX);
    assert!(wire.len() <= DATAGRAM_BYTES_MAX, "{}", wire.len());
    assert_eq!(
        decode(wire),
        Ok(Datagram::Data(Data {
            seq: VALUE_MAX,
            id: 0,
            frame
        }))
    );
}

#[test]
fn the_bytes_are_those_that_are_drawn() {
    let end = Frame::SubgroupEnd {
        alias: 1,
        group: 0x40,
        subgroup: 0,
        last: Some(0x4000),
        end_of_group: true,
    };
    let drawn = [0x22, 9, 2, 1, 0x40, 0x40, 0, 3, 0x80, 0, 0x40, 0];
    assert_eq!(encode_data(9, 7, &end, 0).as_ref(), drawn);
    let ack = Ack {
        delay_us: 100,
        ranges: vec![(8, 9), (3, 5), (0, 0)],
    };
    assert_eq!(
        encode_ack(&ack).as_ref(),
        [0x10, 9, 0x40, 100, 2, 1, 1, 2, 1, 0]
    );
    let forward = Frame::Forward {
        alias: 6,
        turn: 3,
        on: true,
        start: Some(Location::new(0x40, 5)),
    };
    let drawn = [0x24, 9, 2, 6, 3, 3, 0x40, 0x40, 5];
    assert_eq!(encode_data(9, 7, &forward, 0).as_ref(), drawn);
    let supply = Frame::Supply {
        alias: 6,
        turn: 3,
        supply: Supply {
            fed: true,
            way: vec![0x40, u64::MAX],
        },
    };
    let mut drawn = vec![0x25, 9, 2, 6, 3, 1, 2];
    drawn.extend(0x40u64.to_be_bytes());
    drawn.extend([0xff; 8]);
    assert_eq!(encode_data(9, 7, &supply, 0).as_ref(), drawn);
    let heartbeat = Heartbeat {
        seq: 9,
        media: true,
        time_us: 100,
        interval_us: 2,
        gap_us: 1,
        echo: Some(Echo {
            time_us: 8,
            hold_us: 4,
        }),
    };
    let drawn = [0x11, 3, 9, 0x40, 100, 2, 1, 8, 4];
    assert_eq!(encode_heartbeat(&heartbeat).as_ref(), drawn);
}

#[test]
fn an_empty_body_is_one_empty_piece() {
    assert_eq!(
        cut(0, Bytes::new()).collect::<Vec<_>>(),
        [(0, Bytes::new())]
    );
}

#[test]
fn every_field_out_of_place_is_named() {
    let repair_of_itself = [0x22, 9, 0, 1, 1, 1, 0];
    let repair_of_nothing = [0x22, 1, 2, 1, 1, 1, 0];
    let unknown_flags = [0x02, 9, 1, 1, 1, 4];
    let trailing = [0x02, 9, 1, 1, 1, 0, 0];
    let below_zero = [0x10, 3, 0, 1, 2, 0, 0];
    let too_many = [0x10, 3, 0, 0x40, 64, 0];
    let cases: [(&[u8], HopError); 8] = [
        (&[], HopError::Truncated),
        (&[0x07, 0, 0], HopError::UnknownType(0x07)),
        (
            &repair_of_itself,
            HopError::Malformed("repair of itself or of nothing"),
        ),
        (
            &repair_of_nothing,
            HopError::Malformed("repair of itself or of nothing"),
        ),
        (&unknown_flags, HopError::Malformed("unknown flags")),
        (&trailing, HopError::Malformed("trailing bytes")),
        (
            &below_zero,
            HopError::Malformed("acknowledged range below zero"),
        ),
        (
            &too_many,
            HopError::Malformed("too many acknowledged ranges"),
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(Bytes::copy_from_slice(bytes)), Err(error));
    }
}

#[test]
fn a_frame_that_cannot_be_on_a_hop_is_the_callers_error() {
    let now = epoch();
    let mut hop = Hop::new(HopConfig::default(), now);
    let good = largest_chunk();
    let cases = [
        (
            Chunk {
                group: 1 << 62,
                ..good.clone()
            },
            FrameError::ValueTooLarge("group id"),
        ),
        (
            Chunk {
                body_len: 1 << 30,
                ..good.clone()
            },
            FrameError::ValueTooLarge("body length"),
        ),
        (
            Chunk {
                prev: Some(good.object),
                ..good.clone()
            },
            FrameError::Inconsistent("previous object is not before"),
        ),
        (
            Chunk {
                body: Bytes::from(vec![0; CHUNK_BODY_BYTES + 1]),
                ..good.clone()
            },
            FrameError::Inconsistent("chunk is longer than a chunk may be"),
        ),
        (
            Chunk {
                offset: good.offset + 1,
                ..good.clone()
            },
            FrameError::Inconsistent("chunk exceeds the body"),
        ),
        (
            Chunk {
                body: Bytes::new(),
                ..good
            },
            FrameError::Inconsistent("chunk is empty"),
        ),
    ];
    for (chunk, error) in cases {
        assert_eq!(hop.send(now, Frame::Chunk(chunk)), Err(error));
    }
    assert_eq!(hop.stats().queue_bytes, 0);
}
