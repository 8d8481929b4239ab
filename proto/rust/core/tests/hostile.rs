//! A peer that speaks QUIC well and everything above it badly, against one datapath in memory.
//!
//! What is asserted everywhere: no panic (the test would fail), the right error to the peer, and
//! memory that does not grow with what it sends.
#![allow(clippy::unwrap_used)] // a test fails by panicking
mod duel;

use bytes::Bytes;
use duel::{ALIAS, Duel, PROTOCOL_VIOLATION};
use farcast_core::command::{CacheLimits, Draft};
use farcast_core::config::DatapathConfig;
use farcast_core::event::{ClosedBy, Event};
use farcast_core::seed::SplitMix;
use noq_proto::{Dir, VarInt};
use std::time::Duration;

/// A subgroup header for the bound alias: group 0, subgroup 0, priority 128.
const HEADER: [u8; 4] = [0x10, ALIAS as u8, 0, 128];

#[test]
fn an_unknown_stream_type_ends_the_session_as_a_protocol_violation() {
    for draft in [Draft::D16, Draft::D18] {
        let mut duel = Duel::with_track(draft);
        duel.send(Dir::Uni, &[0x3e], false);
        assert_eq!(duel.lost_code(), Some(PROTOCOL_VIOLATION));
        assert_eq!(duel.closed(), Some((ClosedBy::Local, PROTOCOL_VIOLATION)));
    }
}

#[test]
fn a_stream_that_ends_inside_an_object_ends_the_session() {
    let mut duel = Duel::with_track(Draft::D18);
    let truncated = [&HEADER[..], &[0, 10, b'a', b'b']].concat();
    duel.send(Dir::Uni, &truncated, true);
    assert_eq!(duel.lost_code(), Some(PROTOCOL_VIOLATION));
}

#[test]
fn an_object_beyond_the_limit_costs_its_stream_and_nothing_else() {
    let mut duel = Duel::with_track(Draft::D16);
    // Object id 0, payload length 2^30 - 1 as a four-byte varint.
    let oversized = [&HEADER[..], &[0, 0xbf, 0xff, 0xff, 0xff], &[1; 500]].concat();
    let id = duel.send(Dir::Uni, &oversized, false).unwrap();
    assert_eq!(
        duel.stopped.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        vec![id]
    );
    assert_eq!(duel.closed(), None);
    let now = duel.now;
    assert!(duel.edge.snapshot(now).cache_bytes < 1_000);
}

#[test]
fn silence_after_a_header_that_never_completes_is_cut_off() {
    let mut duel = Duel::with_track(Draft::D18);
    let id = duel.send(Dir::Uni, &HEADER[..2], false).unwrap();
    duel.run(Duration::from_secs(4));
    assert!(duel.stopped.is_empty());
    duel.run(Duration::from_secs(2));
    assert_eq!(duel.stopped.first().map(|(stopped, _)| *stopped), Some(id));
    assert_eq!(duel.closed(), None);
}

#[test]
fn streams_of_an_alias_that_is_never_bound_are_not_buffered_and_are_cut_off() {
    let mut duel = Duel::with_track(Draft::D18);
    let unbound = [&[0x10, 99, 0, 128][..], &[0, 0x87, 0xd0], &[7; 2000]].concat();
    for _ in 0..50 {
        duel.send(Dir::Uni, &unbound, false);
    }
    let now = duel.now;
    assert_eq!(duel.edge.snapshot(now).cache_bytes, 0);
    duel.run(Duration::from_secs(6));
    assert_eq!(duel.stopped.len(), 50);
    assert_eq!(duel.closed(), None);
}

#[test]
fn a_peer_gets_no_more_streams_than_the_limit() {
    let mut duel = Duel::with_track(Draft::D18);
    let opened = (0..3000)
        .filter(|_| duel.peer.streams().open(Dir::Uni).is_some())
        .count();
    assert_eq!(
        opened,
        DatapathConfig::default().limits.uni_streams_max as usize
    );
}

#[test]
fn garbage_on_every_kind_of_stream_never_panics_and_is_bounded() {
    for draft in [Draft::D16, Draft::D18] {
        for seed in 0..150 {
            let mut duel = Duel::with_track(draft);
            let mut random = SplitMix(seed);
            for _ in 0..6 {
                let len = random.next_u64() as usize % 200;
                let mut bytes: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
                if random.next_u64().is_multiple_of(2) {
                    bytes.splice(0..0, HEADER);
                }
                let dir = if random.next_u64().is_multiple_of(3) {
                    Dir::Bi
                } else {
                    Dir::Uni
                };
                duel.send(dir, &bytes, random.next_u64().is_multiple_of(2));
            }
            let now = duel.now;
            assert!(duel.edge.snapshot(now).cache_bytes < 10_000);
        }
    }
}

#[test]
fn garbage_datagrams_on_a_hop_end_it_and_a_single_one_does_not() {
    let mut duel = Duel::new("farcast-hop/1");
    let mut random = SplitMix(3);
    let garbage = |random: &mut SplitMix| {
        (0..80)
            .map(|_| random.next_u64() as u8 | 0x80)
            .collect::<Vec<u8>>()
    };
    let one = Bytes::from(garbage(&mut random));
    duel.peer.datagrams().send(one, false).unwrap();
    duel.run(Duration::from_millis(100));
    assert_eq!(duel.closed(), None);
    for _ in 0..40 {
        let bytes = Bytes::from(garbage(&mut random));
        let _ = duel.peer.datagrams().send(bytes, false);
    }
    duel.run(Duration::from_millis(500));
    assert_eq!(duel.closed(), Some((ClosedBy::Local, PROTOCOL_VIOLATION)));
}

#[test]
fn a_hop_whose_peer_only_sends_quic_packets_is_not_silent() {
    let mut duel = Duel::new("farcast-hop/1");
    let silent = |event: &Event| matches!(event, Event::HopSilent { silent: true, .. });
    for _ in 0..16 {
        duel.peer.ping();
        duel.run(Duration::from_millis(500));
    }
    assert!(!duel.events.iter().any(silent));
}

#[test]
fn datagrams_on_a_session_that_is_no_hop_are_counted_and_dropped() {
    for alpn in ["moqt-18", "farcast-control/1"] {
        let mut duel = Duel::new(alpn);
        for _ in 0..10 {
            duel.peer
                .datagrams()
                .send(Bytes::from_static(&[0, 5, 0, 0, 1]), false)
                .unwrap();
        }
        duel.run(Duration::from_millis(100));
        let now = duel.now;
        assert_eq!(duel.edge.snapshot(now).totals.datagrams_dropped, 10);
        assert_eq!(duel.closed(), None);
    }
}

#[test]
fn a_reset_of_a_data_stream_is_no_error() {
    let mut duel = Duel::with_track(Draft::D18);
    let id = duel
        .send(Dir::Uni, &[&HEADER[..], &[0, 10, b'a']].concat(), false)
        .unwrap();
    duel.peer
        .send_stream(id)
        .reset(VarInt::from_u32(2))
        .unwrap();
    duel.run(Duration::from_millis(100));
    assert_eq!(duel.closed(), None);
}

#[test]
fn ids_that_no_hop_can_carry_cost_the_track_and_nothing_else() {
    // Draft 18's integers reach 2^64 - 1: nine bytes of ones.
    let group = [&[0x10, ALIAS as u8][..], &[0xff; 9], &[128, 0, 1, b'a']].concat();
    let object = [&HEADER[..], &[0xff; 9], &[1, b'a']].concat();
    for stream in [group, object] {
        let mut duel = Duel::with_track(Draft::D18);
        duel.send(Dir::Uni, &stream, false);
        duel.send(Dir::Uni, &HEADER, false);
        let malformed = |event: &Event| matches!(event, Event::TrackMalformed { .. });
        assert!(duel.events.iter().any(malformed));
        assert_eq!(duel.closed(), None);
    }
}

#[test]
fn objects_without_a_payload_do_not_fill_the_memory() {
    let mut duel = Duel::with_track(Draft::D18);
    let id = duel.send(Dir::Uni, &HEADER, false).unwrap();
    // Id delta, payload length 0, status 0.
    let many = [0, 0, 0].repeat(20_000);
    for _ in 0..50 {
        duel.write(id, &many, false);
    }
    let now = duel.now;
    let held = duel.edge.snapshot(now).cache_bytes;
    let bound = u64::from(CacheLimits::default().cache_bytes_max as u32);
    assert!(
        held > bound / 2,
        "an object costs more than its bytes: {held}"
    );
    assert!(held <= bound, "{held}");
}

#[test]
fn subgroups_without_end_in_one_group_cost_the_track() {
    let mut duel = Duel::with_track(Draft::D18);
    let malformed = |event: &Event| matches!(event, Event::TrackMalformed { .. });
    for subgroup in 0..5_000u64 {
        let [high, low] = (subgroup as u16 | 0x8000).to_be_bytes();
        let stream = [0x14, ALIAS as u8, 0, high, low, 128, 0, 1, b'a'];
        if let Some(id) = duel.peer.streams().open(Dir::Uni) {
            let _ = duel.peer.send_stream(id).write(&stream);
            let _ = duel.peer.send_stream(id).finish();
        }
        if subgroup % 50 == 0 {
            duel.run(Duration::from_millis(10));
        }
    }
    duel.run(Duration::from_millis(100));
    assert!(duel.events.iter().any(malformed));
    assert_eq!(duel.closed(), None);
}

#[test]
fn control_streams_wait_in_quic_while_the_agent_is_behind_and_come_whole_afterwards() {
    let mut duel = Duel::with_track(Draft::D18);
    let received = |duel: &Duel| -> (usize, usize) {
        let data = duel.events.iter().filter_map(|event| match event {
            Event::StreamData { data, fin, .. } => Some((data.len(), usize::from(*fin))),
            _ => None,
        });
        data.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    duel.edge.hold_control(true);
    for _ in 0..3 {
        duel.send(Dir::Bi, &[7; 100_000], true);
    }
    duel.run(Duration::from_secs(1));
    assert_eq!(received(&duel), (0, 0));
    duel.edge.hold_control(false);
    duel.run(Duration::from_secs(1));
    assert_eq!(received(&duel), (300_000, 3));
}

#[test]
fn a_hop_without_a_certificate_of_our_ca_is_refused() {
    let duel = Duel::new_without_certificate();
    assert!(duel.lost.is_some());
    let opened = |event: &Event| matches!(event, Event::SessionOpened { .. });
    assert!(!duel.events.iter().any(opened));
}
