//! A hop's peer that asks for tracks it was not given, asks too often, and counts as it likes.

mod duel;

use bytes::Bytes;
use duel::{Duel, TRACK};
use farcast_core::command::{CacheLimits, Command, GroupOrder, NewObject, QueueLimits};
use farcast_core::event::Event;
use farcast_core::location::{LargestCell, Location};
use farcast_core::seed::SplitMix;
use farcast_core::stats::HopStats;
use std::sync::Arc;
use std::time::Duration;

const ALIAS: u64 = 6;
const OBJECT_BYTES: usize = 1_000;
const OBJECTS: u64 = 20;

/// An RFC 9000 integer of eight bytes.
fn varint(value: u64) -> [u8; 8] {
    (value | 0xc000_0000_0000_0000).to_be_bytes()
}

/// The word to forward an alias from a location on, or to stop.
fn forward(seq: u64, alias: u64, turn: u64, on: bool, start: Option<(u64, u64)>) -> Bytes {
    let mut bytes = vec![0x04];
    for value in [seq, alias, turn] {
        bytes.extend(varint(value));
    }
    bytes.push(u8::from(on) | if start.is_some() { 2 } else { 0 });
    for value in start
        .into_iter()
        .flat_map(|(group, object)| [group, object])
    {
        bytes.extend(varint(value));
    }
    bytes.into()
}

fn heartbeat(seq: u64, times: [u64; 3]) -> Bytes {
    let mut bytes = vec![0x11, 1];
    bytes.extend(varint(seq));
    times.iter().for_each(|time| bytes.extend(varint(*time)));
    bytes.into()
}

/// A hop with a paused downstream of a track that holds twenty objects.
fn duel() -> Duel {
    let mut duel = Duel::new("farcast-hop/1");
    let (session, now) = (duel.session(), duel.now);
    let add = Command::AddTrack {
        track: TRACK,
        cache: CacheLimits::default(),
        largest: Arc::new(LargestCell::default()),
    };
    let downstream = Command::AddDownstream {
        downstream: 1,
        session,
        alias: ALIAS,
        track: TRACK,
        start: Location::default(),
        end_group: None,
        subscriber_priority: 128,
        group_order: GroupOrder::Ascending,
        forward: false,
        limits: QueueLimits::default(),
    };
    duel.edge.execute(now, add);
    duel.edge.execute(now, downstream);
    for object in 0..OBJECTS {
        publish(&mut duel, object);
    }
    duel
}

fn publish(duel: &mut Duel, object: u64) {
    let object = NewObject {
        group: 0,
        subgroup: 0,
        object,
        priority: 0,
        status: 0,
        properties: Bytes::new(),
        payload: vec![object as u8; OBJECT_BYTES].into(),
        end_of_subgroup: false,
        end_of_group: false,
    };
    let now = duel.now;
    let track = TRACK;
    duel.edge.execute(now, Command::Publish { track, object });
}

fn say(duel: &mut Duel, datagram: Bytes) {
    // What does not fit is not sent, as on any link.
    let _ = duel.peer.datagrams().send(datagram, true);
    duel.run(Duration::from_millis(2));
}

fn hop(duel: &mut Duel) -> HopStats {
    let snapshot = duel.edge.snapshot(duel.now);
    snapshot.sessions[0].hop.expect("a hop")
}

fn sent_bytes(duel: &mut Duel) -> u64 {
    duel.edge.snapshot(duel.now).totals.object_bytes_out
}

#[test]
fn a_word_about_an_alias_that_is_not_the_peers_is_refused_counted_and_costs_nothing() {
    let mut duel = duel();
    for (seq, alias) in [0, 5, 7, (1 << 62) - 1].into_iter().enumerate() {
        say(&mut duel, forward(seq as u64, alias, 1, true, Some((0, 0))));
    }
    let stats = hop(&mut duel);
    assert_eq!((stats.forwards_received, stats.forwards_refused), (0, 4));
    assert_eq!(sent_bytes(&mut duel), 0);
    assert_eq!(duel.closed(), None);
}

#[test]
fn a_word_begins_the_flow_at_its_place_and_another_ends_it() {
    let mut duel = duel();
    say(&mut duel, forward(0, ALIAS, 1, true, Some((0, 15))));
    assert_eq!(sent_bytes(&mut duel), 5 * OBJECT_BYTES as u64);
    say(&mut duel, forward(1, ALIAS, 2, false, None));
    publish(&mut duel, OBJECTS);
    duel.run(Duration::from_millis(10));
    assert_eq!(sent_bytes(&mut duel), 5 * OBJECT_BYTES as u64);
    assert_eq!(hop(&mut duel).queue_bytes, 0);
    assert_eq!(
        hop(&mut duel).unacked_bytes,
        0,
        "what was owed is forgotten"
    );
}

#[test]
fn an_earlier_word_that_comes_late_is_void() {
    let mut duel = duel();
    say(&mut duel, forward(1, ALIAS, 2, false, None));
    say(&mut duel, forward(0, ALIAS, 1, true, Some((0, 0))));
    assert_eq!(sent_bytes(&mut duel), 0);
    say(
        &mut duel,
        forward(2, ALIAS, (1 << 62) - 1, true, Some((0, 19))),
    );
    say(&mut duel, forward(3, ALIAS, 3, false, None));
    assert_eq!(sent_bytes(&mut duel), OBJECT_BYTES as u64);
    publish(&mut duel, OBJECTS);
    duel.run(Duration::from_millis(10));
    assert_eq!(sent_bytes(&mut duel), 2 * OBJECT_BYTES as u64);
}

#[test]
fn a_place_that_will_never_come_sends_nothing() {
    let mut duel = duel();
    let far = (1 << 62) - 1;
    say(&mut duel, forward(0, ALIAS, 1, true, Some((far, far))));
    publish(&mut duel, OBJECTS);
    duel.run(Duration::from_millis(10));
    assert_eq!(sent_bytes(&mut duel), 0);
}

#[test]
fn who_reaches_back_beyond_the_budget_is_not_heard_and_misses_nothing_when_it_is() {
    let mut duel = duel();
    for turn in 0..32 {
        say(
            &mut duel,
            forward(turn, ALIAS, turn + 1, true, Some((0, 10))),
        );
    }
    say(&mut duel, forward(32, ALIAS, 33, true, Some((0, 5))));
    assert_eq!(hop(&mut duel).forwards_refused, 1);
    duel.run(Duration::from_millis(250));
    let before = sent_bytes(&mut duel);
    say(&mut duel, forward(33, ALIAS, 34, true, Some((0, 0))));
    let sent = sent_bytes(&mut duel) - before;
    assert_eq!(sent, 10 * OBJECT_BYTES as u64, "all before the tenth");
}

#[test]
fn a_flood_of_words_replays_the_cache_only_so_often_and_queues_no_more_than_the_cache() {
    let mut duel = duel();
    let (whole, start) = (OBJECTS * OBJECT_BYTES as u64, duel.now);
    for turn in 0..2_000 {
        say(
            &mut duel,
            forward(turn, ALIAS, turn + 1, turn % 3 != 0, Some((0, 0))),
        );
        let stats = hop(&mut duel);
        assert!(
            stats.queue_bytes + stats.unacked_bytes < 2 * whole,
            "{stats:?}"
        );
    }
    // One replay more every 250 ms.
    let replays = 32 + 1 + (duel.now - start).as_millis() as u64 / 250;
    let sent = sent_bytes(&mut duel);
    assert!(sent <= replays * whole, "{} replays", sent / whole);
    assert!(sent >= 32 * whole);
    let stats = hop(&mut duel);
    assert_eq!(stats.forwards_received, 2_000);
    assert!(stats.forwards_refused > 1_000);
    assert_eq!(duel.closed(), None);
    say(&mut duel, forward(2_000, ALIAS, 2_001, true, Some((0, 19))));
    let before = sent_bytes(&mut duel);
    publish(&mut duel, OBJECTS);
    duel.run(Duration::from_millis(10));
    assert_eq!(
        sent_bytes(&mut duel) - before,
        OBJECT_BYTES as u64,
        "new objects go on"
    );
}

#[test]
fn many_words_in_one_go_are_carried_out_once() {
    let mut duel = duel();
    for turn in 0..20 {
        let datagram = forward(turn, ALIAS, turn + 1, true, Some((0, 0)));
        duel.peer.datagrams().send(datagram, true).expect("room");
    }
    duel.run(Duration::from_millis(2));
    let whole = OBJECTS * OBJECT_BYTES as u64;
    assert!(
        sent_bytes(&mut duel) <= 4 * whole,
        "some packets, few replays"
    );
}

#[test]
fn absurd_numbers_and_times_are_bounded_and_never_panic() {
    let (mut random, mut duel) = (SplitMix(5), duel());
    let start = duel.now;
    let top = (1 << 62) - 1;
    for round in 0..3_000 {
        let any = |random: &mut SplitMix| match random.next_u64() % 4 {
            0 => random.next_u64() >> 2,
            1 => top - random.next_u64() % 5,
            2 => random.next_u64() % 70_000,
            _ => round,
        };
        let (seq, turn) = (any(&mut random), any(&mut random));
        let times = [any(&mut random), any(&mut random), any(&mut random)];
        let datagram = match random.next_u64() % 3 {
            0 => forward(seq, ALIAS, turn, round % 2 == 0, Some((times[0], times[1]))),
            _ => heartbeat(seq, times),
        };
        say(&mut duel, datagram);
    }
    let stats = hop(&mut duel);
    assert!(stats.rx_lost <= stats.rx_packets);
    assert!(stats.rx_spacing_us <= 20_000_000);
    // However closely it wants our packets: one each 3 ms.
    let most = (duel.now - start).as_millis() as u64 / 3 + 50;
    assert!(stats.heartbeats_sent <= most, "{}", stats.heartbeats_sent);
    let silent = |event: &Event| matches!(event, Event::HopSilent { silent: true, .. });
    assert!(!duel.events.iter().any(silent));
}

/// The word that nothing more comes of the track's only subgroup.
fn reset(seq: u64, alias: u64) -> Bytes {
    let mut bytes = vec![0x03];
    for value in [seq, alias, 0, 0, 5] {
        bytes.extend(varint(value));
    }
    bytes.into()
}

#[test]
fn only_the_active_upstream_ends_a_subgroup_before_its_time() {
    for is_standby in [true, false] {
        let mut duel = duel();
        let (session, now) = (duel.session(), duel.now);
        let (alias, track, default_priority) = (9, TRACK, 128);
        let bind = match is_standby {
            true => Command::BindStandby {
                session,
                alias,
                track,
                default_priority,
                rank: 0,
            },
            false => Command::BindUpstream {
                session,
                alias,
                track,
                default_priority,
                restart_allowed: false,
            },
        };
        let sink = Command::AddSink {
            downstream: 2,
            track,
            start: Location::default(),
        };
        duel.edge.execute(now, bind);
        duel.edge.execute(now, sink);
        say(&mut duel, reset(0, alias));
        let ended = |event: &Event| matches!(event, Event::SinkSubgroupEnded { .. });
        assert_eq!(duel.events.iter().any(ended), !is_standby);
    }
}
