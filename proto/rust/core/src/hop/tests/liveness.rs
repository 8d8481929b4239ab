//! Heartbeats, silence, and the round trip.

use super::link::{Weather, World, chunk};
use crate::hop::{Frame, Hop, HopConfig, HopError, HopEvent};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn heartbeats(hop: &Hop) -> u64 {
    hop.stats().heartbeats_sent
}

/// One chunk every 20 ms from end 0.
fn audio(world: &mut World, ms: u64) {
    for object in 0..ms / 20 {
        world.send(0, chunk(1, world.now_ms(), object, 0, 100));
        world.run_ms(20);
    }
}

fn events(world: &World, end: usize) -> Vec<HopEvent> {
    world.events[end].iter().map(|(_, event)| *event).collect()
}

#[test]
fn an_idle_hop_sends_a_heartbeat_a_second() {
    let mut world = World::new(1, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(10_500);
    assert_eq!(heartbeats(&world.hops[0]), 11);
    assert_eq!(heartbeats(&world.hops[1]), 11);
}

#[test]
fn a_round_trip_that_nobody_has_measured_is_reported_as_none() {
    let mut world = World::new(1, HopConfig::default(), Weather::bursty(5, 0.0));
    let rtts_us = |world: &mut World| {
        let stats = world.hops[0].measured(world.now);
        let of_now = [stats.rtt_us, stats.rtt_latest_us, stats.rtt_min_us];
        (of_now, stats.rtt_variation_us)
    };
    assert_eq!(rtts_us(&mut world), ([0; 3], 0));
    world.hops[0].set_rtt(12 * MS, 6 * MS);
    assert_eq!(rtts_us(&mut world), ([12_000, 0, 12_000], 0));
    world.run_ms(1_500);
    assert_eq!(rtts_us(&mut world), ([10_000; 3], 5_000));
}

#[test]
fn both_ends_send_one_every_forty_ms_while_media_flows_and_then_fall_back() {
    let mut world = World::new(2, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(5_010);
    audio(&mut world, 1_200); // close together at first
    let before = world.hops.each_ref().map(heartbeats);
    audio(&mut world, 4_000);
    for (hop, before) in world.hops.iter().zip(before) {
        let sent = heartbeats(hop) - before;
        assert!((95..=102).contains(&sent), "{sent}");
    }
    world.run_ms(3_000);
    let before = world.hops.each_ref().map(heartbeats);
    world.run_ms(5_000);
    for (hop, before) in world.hops.iter().zip(before) {
        assert_eq!(heartbeats(hop) - before, 5);
    }
    assert!(events(&world, 0).is_empty() && events(&world, 1).is_empty());
}

#[test]
fn silence_is_noticed_after_200_ms_while_media_flows_and_its_end_at_once() {
    let mut world = World::new(3, HopConfig::default(), Weather::bursty(50, 0.0));
    audio(&mut world, 2_000);
    let cut_at = world.now;
    world.weather = [Weather {
        down: true,
        ..world.weather[0]
    }; 2];
    audio(&mut world, 400);
    for end in 0..2 {
        let (at, event) = world.events[end][0];
        assert_eq!(event, HopEvent::PeerSilent);
        assert!(
            at - cut_at < Duration::from_millis(251),
            "{:?}",
            at - cut_at
        );
    }
    world.weather = [Weather::bursty(50, 0.0); 2];
    audio(&mut world, 200);
    for end in 0..2 {
        assert_eq!(
            events(&world, end),
            [HopEvent::PeerSilent, HopEvent::PeerHeard]
        );
    }
}

#[test]
fn silence_of_an_idle_peer_is_noticed_after_three_seconds() {
    let mut world = World::new(4, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(5_500);
    world.weather[1].down = true;
    world.run_ms(2_000);
    assert!(events(&world, 0).is_empty());
    world.run_ms(1_100);
    assert_eq!(events(&world, 0), [HopEvent::PeerSilent]);
    assert!(events(&world, 1).is_empty());
}

#[test]
fn a_flow_that_begins_or_ends_is_no_silence_even_over_a_long_way() {
    let mut world = World::new(5, HopConfig::default(), Weather::bursty(150, 0.0));
    world.run_ms(2_700);
    for _ in 0..20 {
        audio(&mut world, 300);
        world.run_ms(2_450);
    }
    for pause_ms in [950, 990, 1_000, 1_010, 1_490, 1_500, 1_510] {
        audio(&mut world, 20);
        world.run_ms(pause_ms);
    }
    assert!(events(&world, 0).is_empty(), "{:?}", world.events[0]);
    assert!(events(&world, 1).is_empty(), "{:?}", world.events[1]);
}

#[test]
fn heartbeats_lost_at_the_end_of_a_flow_are_no_silence() {
    for cut_ms in (900..1_400).step_by(20) {
        let mut world = World::new(5, HopConfig::default(), Weather::bursty(50, 0.0));
        audio(&mut world, 2_000);
        world.run_ms(cut_ms);
        world.weather = [Weather {
            down: true,
            ..world.weather[0]
        }; 2];
        world.run_ms(120);
        world.weather = [Weather::bursty(50, 0.0); 2];
        world.run_ms(3_000);
        assert!(
            events(&world, 0).is_empty(),
            "{cut_ms} {:?}",
            world.events[0]
        );
        assert!(
            events(&world, 1).is_empty(),
            "{cut_ms} {:?}",
            world.events[1]
        );
    }
}

#[test]
fn moderate_loss_is_no_silence_while_media_flows() {
    let mut world = World::new(6, HopConfig::default(), Weather::bursty(100, 0.03));
    for picture in 0..900 {
        for piece in 0..5 {
            world.send(0, chunk(1, picture, piece, 0, 1_000));
        }
        world.run_ms(33);
    }
    assert!(events(&world, 1).is_empty());
}

#[test]
fn the_round_trip_is_measured_without_any_media() {
    let mut world = World::new(7, HopConfig::default(), Weather::bursty(70, 0.0));
    world.run_ms(5_000);
    for hop in &world.hops {
        assert_eq!(hop.stats().rtt_us, 140_000);
    }
}

#[test]
fn quics_round_trip_counts_until_the_first_own_one() {
    let mut world = World::new(8, HopConfig::default(), Weather::bursty(70, 0.0));
    let (smoothed, min) = (Duration::from_millis(90), Duration::from_millis(80));
    world.hops[0].set_rtt(smoothed, min);
    assert_eq!(world.hops[0].stats().rtt_us, 90_000);
    world.run_ms(5_000);
    world.hops[0].set_rtt(smoothed, min);
    assert_eq!(world.hops[0].stats().rtt_us, 140_000);
}

#[test]
fn other_packets_of_the_peer_count_as_signs_of_life() {
    let mut world = World::new(9, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(5_000);
    world.weather[1].down = true;
    for _ in 0..10 {
        world.run_ms(1_000);
        world.hops[0].handle_heard(world.now);
        world.hops[0].handle_acknowledged(world.now, world.now - Duration::from_millis(100));
    }
    assert!(events(&world, 0).is_empty());
}

#[test]
fn an_echo_of_the_future_is_the_peers_error() {
    let mut world = World::new(10, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(10);
    let future = vec![0x11, 2, 9, 0, 0, 0, 0x80, 0, 0x40, 0, 0];
    let held_too_long = vec![0x11, 2, 9, 0, 0, 0, 0, 0x80, 0, 0x40, 0];
    for data in [future, held_too_long] {
        let result = world.hops[0].handle_datagram(world.now, data.into());
        assert_eq!(result, Err(HopError::EchoOfUnsent));
    }
}

fn down(world: &World, end: usize) -> Weather {
    Weather {
        down: true,
        ..world.weather[end]
    }
}

#[test]
fn a_watched_hop_keeps_the_short_interval_at_both_ends_and_notices_silence_without_any_media() {
    let mut world = World::new(11, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(5_010);
    world.hops[0].set_watched(world.now, true);
    world.run_ms(1_200);
    let before = world.hops.each_ref().map(heartbeats);
    world.run_ms(4_000);
    for (hop, before) in world.hops.iter_mut().zip(before) {
        assert!((99..=101).contains(&(heartbeats(hop) - before)));
        assert!(!hop.measured(world.now).has_media);
    }
    let cut_at = world.now;
    world.weather[1] = down(&world, 1);
    world.run_ms(300);
    let (at, event) = world.events[0][0];
    assert_eq!(event, HopEvent::PeerSilent);
    assert!(at - cut_at <= Duration::from_millis(250));
    world.weather[1] = world.weather[0];
    world.hops[0].set_watched(world.now, false);
    world.run_ms(3_000);
    let before = world.hops.each_ref().map(heartbeats);
    world.run_ms(5_000);
    for (hop, before) in world.hops.iter().zip(before) {
        assert_eq!(heartbeats(hop) - before, 5);
    }
    let expected = [HopEvent::PeerSilent, HopEvent::PeerHeard];
    assert_eq!(events(&world, 0), expected);
    assert!(events(&world, 1).len() <= 2);
}

#[test]
fn an_idle_peer_that_was_asked_for_something_and_is_gone_shows_within_a_moment() {
    let mut world = World::new(17, HopConfig::default(), Weather::bursty(50, 0.0));
    world.run_ms(5_010);
    world.weather[1] = down(&world, 1);
    world.run_ms(100);
    let asked_at = world.now;
    world.hops[0].expect_answer(world.now);
    world.run_ms(1_000);
    let (at, event) = world.events[0][0];
    assert_eq!(event, HopEvent::PeerSilent);
    assert!(
        at - asked_at <= Duration::from_millis(450),
        "{:?}",
        at - asked_at
    );
}

#[test]
fn asking_an_idle_peer_at_any_time_over_a_long_way_raises_no_false_alarm() {
    let mut world = World::new(18, HopConfig::default(), Weather::bursty(150, 0.0));
    world.run_ms(2_700);
    for pause_ms in (20..4_000).step_by(97) {
        world.hops[0].expect_answer(world.now);
        world.run_ms(pause_ms);
    }
    world.run_ms(4_000);
    assert!(events(&world, 0).is_empty(), "{:?}", world.events[0]);
    assert!(events(&world, 1).is_empty(), "{:?}", world.events[1]);
}

#[test]
fn watching_may_begin_and_end_at_any_time_over_a_long_way_without_a_false_alarm() {
    let mut world = World::new(12, HopConfig::default(), Weather::bursty(150, 0.0));
    world.run_ms(2_700);
    for pause_ms in (20..3_000).step_by(97) {
        world.hops[0].set_watched(world.now, true);
        world.run_ms(pause_ms);
        world.hops[0].set_watched(world.now, false);
        world.run_ms(3_100 - pause_ms);
    }
    assert!(events(&world, 0).is_empty(), "{:?}", world.events[0]);
    assert!(events(&world, 1).is_empty(), "{:?}", world.events[1]);
}

#[test]
fn a_peer_that_acknowledges_nothing_is_silent_until_it_does_again() {
    let mut world = World::new(13, HopConfig::default(), Weather::bursty(50, 0.0));
    audio(&mut world, 2_000);
    let cut_at = world.now;
    world.weather[0] = down(&world, 0);
    audio(&mut world, 500);
    let (at, event) = world.events[0][0];
    assert_eq!(event, HopEvent::PeerSilent);
    // Silence, a round trip, and a little for its variation.
    let noticed = at - cut_at;
    assert!(noticed >= Duration::from_millis(200), "{noticed:?}");
    assert!(
        noticed <= Duration::from_millis(200 + 100 + 20),
        "{noticed:?}"
    );
    assert!(world.hops[0].is_silent());
    assert!(
        world.hops[0].measured(world.now).heard_us < 50_000,
        "it is heard"
    );
    world.weather[0] = world.weather[1];
    audio(&mut world, 300);
    let expected = [HopEvent::PeerSilent, HopEvent::PeerHeard];
    assert_eq!(events(&world, 0), expected);
}

#[test]
fn an_acknowledgement_of_quics_shows_that_the_peer_hears() {
    let mut world = World::new(14, HopConfig::default(), Weather::bursty(50, 0.0));
    audio(&mut world, 2_000);
    world.weather[0] = down(&world, 0);
    for _ in 0..100 {
        audio(&mut world, 20);
        let sent = world.now - Duration::from_millis(100);
        world.hops[0].handle_acknowledged(world.now, sent);
    }
    assert!(events(&world, 0).is_empty());
    assert!(!world.hops[0].wants_acknowledged(world.now));
}

#[test]
fn where_losses_come_in_runs_heartbeats_come_closer_and_go_back_when_the_link_is_clean() {
    let mut world = World::new(15, HopConfig::default(), Weather::bursty(20, 0.0));
    world.weather[1] = Weather::bursty(20, 0.1);
    world.hops[0].set_watched(world.now, true);
    world.run_ms(12_000);
    let before = world.hops.each_ref().map(heartbeats);
    world.run_ms(1_000);
    let sent: Vec<u64> = (0..2)
        .map(|end| heartbeats(&world.hops[end]) - before[end])
        .collect();
    assert!(sent[0] <= 26, "the clean direction: {}", sent[0]);
    assert!((180..=334).contains(&sent[1]), "{}", sent[1]);
    world.weather[1] = Weather::bursty(20, 0.0);
    world.run_ms(32_000);
    let before = heartbeats(&world.hops[1]);
    world.run_ms(1_000);
    assert!(heartbeats(&world.hops[1]) - before <= 26);
    assert!(events(&world, 0).is_empty() && events(&world, 1).is_empty());
}

#[test]
fn acknowledgements_of_media_do_not_stand_for_the_heartbeats_that_losses_in_runs_ask_for() {
    let mut world = World::new(17, HopConfig::default(), Weather::bursty(20, 0.1));
    audio(&mut world, 12_000);
    let before = (heartbeats(&world.hops[1]), world.hops[1].stats().acks_sent);
    audio(&mut world, 5_000);
    let beats = heartbeats(&world.hops[1]) - before.0;
    let acks = world.hops[1].stats().acks_sent - before.1;
    assert!(acks > 200, "they were many: {acks}");
    assert!(beats > 5 * 180, "{beats} heartbeats in 5 s");
}

#[test]
fn a_peer_with_a_longer_idle_interval_is_no_sooner_silent_than_after_three_of_them() {
    let slow = HopConfig {
        heartbeat_idle_ms: 4_000,
        ..HopConfig::default()
    };
    let mut world = World::new(16, slow, Weather::bursty(50, 0.0));
    world.run_ms(60_000);
    assert!(events(&world, 0).is_empty());
    world.weather[1] = down(&world, 1);
    world.run_ms(11_900 - 4_000);
    assert!(events(&world, 0).is_empty());
    world.run_ms(4_300);
    assert_eq!(events(&world, 0), [HopEvent::PeerSilent]);
}

#[test]
fn a_lost_word_to_forward_is_repaired_and_the_last_one_said_arrives() {
    let mut world = World::new(17, HopConfig::default(), Weather::bursty(50, 0.4));
    for turn in 0..40 {
        let (now, on) = (world.now, turn % 2 == 0);
        world.hops[0].forward(now, 9, on, None).unwrap();
        world.run_ms(15);
    }
    world.run_ms(5_000);
    let turns = world.frames[1].iter().filter_map(|(_, frame)| match frame {
        Frame::Forward { turn, on, .. } => Some((*turn, *on)),
        _ => None,
    });
    assert_eq!(turns.max(), Some((40, false)));
    assert_eq!(world.hops[0].stats().unacked_bytes, 0);
}

#[test]
fn a_word_whose_first_copies_are_lost_arrives_no_round_trip_later() {
    let mut world = World::new(19, HopConfig::default(), Weather::bursty(100, 0.0));
    audio(&mut world, 1_000);
    let (said, open) = (world.now, world.weather[0]);
    world.weather[0] = down(&world, 0);
    world.hops[0].forward(said, 9, true, None).unwrap();
    world.run_ms(20);
    world.weather[0] = open;
    world.run_ms(1_000);
    let words = world.frames[1].iter();
    let words = words.filter(|(_, frame)| matches!(frame, Frame::Forward { .. }));
    let after_ms: Vec<u128> = words.map(|(at, _)| (*at - said).as_millis()).collect();
    assert_eq!(after_ms, [130]);
}

#[test]
fn a_word_to_forward_outlives_every_outage_and_the_cancelling_of_tracks() {
    let mut world = World::new(18, HopConfig::default(), Weather::bursty(50, 0.0));
    world.weather[0] = down(&world, 0);
    let now = world.now;
    world.hops[0].forward(now, 9, false, None).unwrap();
    world.send(0, chunk(9, 0, 0, 0, 100));
    world.hops[0].cancel(9, None, None);
    assert!(!world.hops[0].owes(9));
    world.run_ms(35_000);
    world.weather[0] = world.weather[1];
    world.run_ms(2_000);
    let words = world.frames[1].iter();
    let words = words.filter(|(_, frame)| matches!(frame, Frame::Forward { .. }));
    assert_eq!(words.count(), 1);
    assert_eq!(world.frames[1].len(), 1, "the chunk is forgotten");
}

#[test]
fn ends_that_did_not_run_for_a_while_do_not_take_each_other_for_gone() {
    for pause_ms in [250, 450, 700] {
        let mut world = World::new(21, HopConfig::default(), Weather::bursty(50, 0.0));
        audio(&mut world, 3_000);
        // Nobody runs; what arrived meanwhile waits, and is read first.
        world.now += Duration::from_millis(pause_ms);
        audio(&mut world, 1_000);
        assert!(events(&world, 0).is_empty(), "{pause_ms} ms");
        assert!(events(&world, 1).is_empty(), "{pause_ms} ms");
    }
}
