//! An edge with two parents: what a viewer gets when one of them fails.
//!
//! ```text
//!   publisher ── origin ──┬── parent A ──┐
//!                         └── parent B ──┴── child ── viewer
//! ```
//!
//! All four links between edges are hops; the child takes the track of A and has a paused subscription at
//! B. After the wiring no test gives the child or a parent any command (but those that are about
//! commands): what happens is the datapath's own doing.

mod net;

use farcast_core::command::Command;
use farcast_core::event::{Event, SwitchCause};
use farcast_core::seed::SplitMix;
use net::mesh::{A, AT_A, AT_B, B, CHILD, Happened, Mesh, ORIGIN, TRACK, bind, ms, stand_by};
use net::{Ends, LinkSpec};

#[test]
fn when_the_hop_to_the_active_parent_is_cut_media_goes_on_by_the_other_with_nothing_lost_or_doubled()
 {
    for (seed, (a_ms, b_ms, frames)) in [(40, 60, 70), (100, 20, 83), (5, 110, 96), (20, 20, 101)]
        .into_iter()
        .enumerate()
    {
        let mut mesh = Mesh::new(a_ms, b_ms, seed as u64);
        mesh.film(frames);
        let commands = [A, B, CHILD].map(|host| mesh.commands(host));
        let cut_us = mesh.net.now_us();
        mesh.cut_both(A, CHILD);
        mesh.film(60);
        assert_eq!(
            [A, B, CHILD].map(|host| mesh.commands(host)),
            commands,
            "no agent was asked"
        );
        let (a, b) = (mesh.a.near, mesh.b.near);
        assert_eq!(mesh.switches(), [(a, b, SwitchCause::Silent)]);
        let (switched_us, silent_us) = mesh.first_switch();
        let noticed_us = switched_us - cut_us;
        assert!(
            noticed_us <= (200 + a_ms + 40) * 1_000,
            "noticed after {noticed_us} µs, {a_ms} ms away"
        );
        assert!((200_000..=241_000).contains(&silent_us), "{silent_us}");
        let (resumed_us, gap_us) = mesh.first_resumption();
        let fetched_us = resumed_us - switched_us;
        assert!(
            fetched_us <= 2 * b_ms * 1_000 + 20_000,
            "resumed {fetched_us} µs after the switch, {b_ms} ms away"
        );
        assert!(gap_us <= noticed_us + fetched_us + 33_000, "{gap_us}");
        mesh.finish();
        mesh.assert_nothing_lost_or_doubled();
    }
}

#[test]
fn a_standby_is_asked_while_the_parent_is_only_in_doubt_so_that_its_bytes_are_there_sooner() {
    let mut mesh = Mesh::new(10, 10, 21);
    mesh.film(70);
    mesh.net.run_for(ms(50));
    mesh.collect();
    let before = mesh.objects.len();
    mesh.cut_both(A, CHILD);
    // Doubt after 90 ms and a round trip of 20 ms are short of the silence time.
    mesh.film(5);
    mesh.net.run_for(ms(10));
    mesh.collect();
    assert_eq!(mesh.switches(), [], "not certain yet");
    assert!(mesh.objects.len() > before, "but media goes on");
    mesh.film(20);
    let (a, b) = (mesh.a.near, mesh.b.near);
    assert_eq!(mesh.switches(), [(a, b, SwitchCause::Silent)]);
    assert!((200_000..=241_000).contains(&mesh.first_switch().1));
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_doubt_that_was_wrong_moves_nothing_and_the_standby_stops() {
    let mut mesh = Mesh::new(20, 20, 22);
    mesh.film(70);
    for _ in 0..10 {
        mesh.cut_both(A, CHILD);
        mesh.net.run_for(ms(125));
        mesh.mend(A, CHILD);
        mesh.film(10);
    }
    let sent = mesh.sent_by(B, mesh.b.far);
    assert!(sent > 0, "it was asked");
    mesh.film(30);
    assert_eq!(mesh.sent_by(B, mesh.b.far), sent, "it stands by again");
    assert_eq!(mesh.switches(), []);
    let far = mesh.b.far;
    let words = mesh.hop(B, far).forwards_received;
    assert!(words <= 10, "{words}: not at every doubt");
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_planned_move_to_the_standby_that_was_asked_in_doubt_is_completed() {
    let mut mesh = Mesh::new(20, 60, 23);
    mesh.film(70);
    mesh.cut(A, CHILD);
    mesh.net.run_for(ms(125));
    let switch = Command::SwitchUpstream {
        track: TRACK,
        session: mesh.b.near,
        alias: AT_B,
    };
    mesh.net.execute(CHILD, switch);
    mesh.mend(A, CHILD);
    mesh.film(20);
    let (a, b) = (mesh.a.near, mesh.b.near);
    assert_eq!(mesh.switches(), [(a, b, SwitchCause::Command)]);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn an_upstream_that_stood_by_and_is_bound_as_the_active_one_is_told_to_send() {
    let mut mesh = Mesh::new(40, 60, 24);
    mesh.film(70);
    let (a, b) = (mesh.a, mesh.b);
    mesh.net.execute(CHILD, bind(b.near, AT_B));
    let unbind = Command::UnbindUpstream {
        session: a.near,
        alias: AT_A,
    };
    mesh.net.execute(CHILD, unbind);
    mesh.film(60);
    assert_eq!(mesh.switches(), [], "the agent did it");
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn an_upstream_that_is_silent_when_it_is_bound_as_the_active_one_is_left_at_once() {
    let mut mesh = Mesh::new(40, 60, 25);
    mesh.film(70);
    let (a, b) = (mesh.a, mesh.b);
    mesh.cut_both(B, CHILD);
    mesh.film(15);
    mesh.net.execute(CHILD, bind(b.near, AT_B));
    mesh.film(30);
    assert_eq!(mesh.switches(), [(b.near, a.near, SwitchCause::Silent)]);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_parent_that_comes_back_has_been_told_to_stop_and_is_a_standby() {
    let mut mesh = Mesh::new(40, 60, 3);
    mesh.film(70);
    mesh.cut_both(A, CHILD);
    mesh.film(30);
    mesh.mend(A, CHILD);
    mesh.film(60);
    let sent = mesh.sent_by(A, mesh.a.far);
    mesh.film(30);
    assert_eq!(mesh.sent_by(A, mesh.a.far), sent, "A sends nothing more");
    let (a, b) = (mesh.a.near, mesh.b.near);
    mesh.cut_both(B, CHILD);
    mesh.film(60);
    let expected = [(a, b, SwitchCause::Silent), (b, a, SwitchCause::Silent)];
    assert_eq!(mesh.switches(), expected);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_link_cut_towards_the_child_only_is_noticed_as_silence() {
    let mut mesh = Mesh::new(40, 60, 4);
    mesh.film(70);
    let cut_us = mesh.net.now_us();
    mesh.cut(A, CHILD);
    mesh.film(40);
    let (a, b) = (mesh.a.near, mesh.b.near);
    assert_eq!(mesh.switches(), [(a, b, SwitchCause::Silent)]);
    assert!(mesh.first_switch().0 - cut_us <= 280_000);
    let sent = mesh.sent_by(A, mesh.a.far);
    mesh.film(30);
    assert_eq!(
        mesh.sent_by(A, mesh.a.far),
        sent,
        "A heard that it is to stop"
    );
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_link_cut_towards_the_parent_only_is_noticed_by_what_it_does_not_acknowledge() {
    let mut mesh = Mesh::new(40, 60, 5);
    mesh.film(70);
    let cut_us = mesh.net.now_us();
    mesh.cut(CHILD, A);
    mesh.film(40);
    let (a, b) = (mesh.a.near, mesh.b.near);
    assert_eq!(mesh.switches(), [(a, b, SwitchCause::Silent)]);
    let noticed_us = mesh.first_switch().0 - cut_us;
    // Silence, a round trip and what it varies by.
    assert!(noticed_us <= 200_000 + 80_000 + 60_000, "{noticed_us}");
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn loss_beyond_the_bound_moves_the_track_before_anything_breaks() {
    for (from, to) in [(A, CHILD), (CHILD, A)] {
        let mut mesh = Mesh::new(40, 60, 6);
        for session in [mesh.a.near, mesh.b.near] {
            let bounds = Command::HopBounds {
                session,
                loss_max_permille: 100,
                rtt_max_us: 0,
            };
            mesh.net.execute(CHILD, bounds);
        }
        mesh.film(70);
        let lossy = LinkSpec {
            loss: 0.2,
            ..LinkSpec::delay_ms(40)
        };
        mesh.net.set_link(from, to, lossy);
        let lossy_us = mesh.net.now_us();
        mesh.film(150);
        let (a, b) = (mesh.a.near, mesh.b.near);
        if from == A {
            assert_eq!(mesh.switches(), [(a, b, SwitchCause::Loss)]);
            assert!(mesh.first_switch().0 - lossy_us < 2_000_000);
        } else {
            // The child's own words are lost: it receives well, and stays.
            assert_eq!(mesh.switches(), []);
        }
        mesh.finish();
        mesh.assert_nothing_lost_or_doubled();
    }
}

#[test]
fn a_round_trip_beyond_the_bound_moves_the_track_and_the_hold_down_keeps_it_there() {
    let mut mesh = Mesh::new(40, 60, 7);
    for session in [mesh.a.near, mesh.b.near] {
        let bounds = Command::HopBounds {
            session,
            loss_max_permille: 0,
            rtt_max_us: 150_000,
        };
        mesh.net.execute(CHILD, bounds);
    }
    mesh.film(70);
    let far = LinkSpec::delay_ms(90);
    let (a, b) = (mesh.a.near, mesh.b.near);
    mesh.net.set_links(A, CHILD, far);
    mesh.film(90);
    assert_eq!(mesh.switches(), [(a, b, SwitchCause::Delay)]);
    mesh.net.set_links(A, CHILD, LinkSpec::delay_ms(40));
    mesh.net.set_links(B, CHILD, far);
    mesh.film(40);
    assert_eq!(mesh.switches().len(), 1, "held down");
    mesh.film(150);
    let expected = [(a, b, SwitchCause::Delay), (b, a, SwitchCause::Delay)];
    assert_eq!(mesh.switches(), expected);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_planned_switch_loses_and_doubles_nothing_while_both_run() {
    for (a_ms, b_ms) in [(40, 60), (10, 120), (120, 10)] {
        let mut mesh = Mesh::new(a_ms, b_ms, 8);
        mesh.film(75);
        let switch = |to: Ends, alias| Command::SwitchUpstream {
            track: TRACK,
            session: to.near,
            alias,
        };
        let there = switch(mesh.b, AT_B);
        mesh.net.execute(CHILD, there);
        mesh.film(40);
        let back = switch(mesh.a, AT_A);
        mesh.net.execute(CHILD, back);
        mesh.film(40);
        let (a, b) = (mesh.a.near, mesh.b.near);
        let command = SwitchCause::Command;
        assert_eq!(mesh.switches(), [(a, b, command), (b, a, command)]);
        let sent = mesh.sent_by(B, mesh.b.far);
        mesh.film(30);
        assert_eq!(mesh.sent_by(B, mesh.b.far), sent, "B stands by again");
        mesh.finish();
        mesh.assert_nothing_lost_or_doubled();
        let longest = mesh.log.iter().filter_map(|(_, h)| match h {
            Happened::Resumed { gap_us, .. } => Some(*gap_us),
            _ => None,
        });
        assert!(longest.max() <= Some(183_000), "no stall");
    }
}

#[test]
fn with_all_parents_dead_the_first_that_is_heard_again_is_taken() {
    for first in [A, B] {
        let mut mesh = Mesh::new(40, 60, 9);
        mesh.film(70);
        mesh.cut_both(A, CHILD);
        mesh.cut_both(B, CHILD);
        mesh.film(40);
        mesh.mend(first, CHILD);
        mesh.film(60);
        let (a, b) = (mesh.a.near, mesh.b.near);
        let heard = if first == A { a } else { b };
        let switches = mesh.switches();
        let active = switches.last().map_or(a, |(_, to, _)| *to);
        assert_eq!(active, heard);
        let is_silent = |(_, _, cause): &(_, _, SwitchCause)| *cause == SwitchCause::Silent;
        assert!(switches.iter().all(is_silent), "{switches:?}");
        mesh.finish();
        mesh.assert_nothing_lost_or_doubled();
    }
}

#[test]
fn a_standby_that_is_behind_goes_on_from_its_place_and_one_that_is_ahead_repeats_nothing() {
    for (to_a_ms, to_b_ms) in [(20, 300), (300, 20)] {
        let mut mesh = Mesh::with_delays((to_a_ms, to_b_ms), (40, 60), 19);
        mesh.film(100);
        let switch = Command::SwitchUpstream {
            track: TRACK,
            session: mesh.b.near,
            alias: AT_B,
        };
        mesh.net.execute(CHILD, switch);
        mesh.film(50);
        mesh.cut_both(B, CHILD);
        mesh.film(50);
        let (a, b) = (mesh.a.near, mesh.b.near);
        let expected = [(a, b, SwitchCause::Command), (b, a, SwitchCause::Silent)];
        assert_eq!(mesh.switches(), expected);
        mesh.finish();
        mesh.assert_nothing_lost_or_doubled();
    }
}

#[test]
fn a_bound_that_no_standby_keeps_moves_nothing_and_one_without_media_is_given_up() {
    let mut mesh = Mesh::new(40, 60, 20);
    let bounds = |session, rtt_max_us| Command::HopBounds {
        session,
        loss_max_permille: 0,
        rtt_max_us,
    };
    let (a, b) = (mesh.a, mesh.b);
    mesh.net
        .execute_all(CHILD, [bounds(a.near, 50_000), bounds(b.near, 50_000)]);
    mesh.film(200);
    assert_eq!(mesh.switches(), [], "both are too far");
    // B is near enough now but has nothing: A goes on sending.
    let at_origin = |forward| Command::UpdateDownstream {
        downstream: 100 + mesh.of_b,
        start: None,
        end_group: None,
        subscriber_priority: None,
        forward: Some(forward),
    };
    let (pause, resume) = (at_origin(false), at_origin(true));
    mesh.net.execute(ORIGIN, pause);
    mesh.film(10);
    mesh.net.execute(CHILD, bounds(b.near, 0));
    mesh.film(250);
    assert_eq!(mesh.switches(), []);
    mesh.net.execute(ORIGIN, resume);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn when_the_session_of_the_active_parent_ends_the_standby_takes_over_at_once() {
    let mut mesh = Mesh::new(40, 60, 10);
    mesh.film(70);
    let close = Command::Close {
        session: mesh.a.far,
        code: 0,
        reason: "restart".into(),
    };
    let closed_us = mesh.net.now_us();
    mesh.net.execute(A, close);
    mesh.film(40);
    let (a, b) = (mesh.a.near, mesh.b.near);
    assert_eq!(mesh.switches(), [(a, b, SwitchCause::Closed)]);
    assert!(mesh.first_switch().0 - closed_us <= 41_000);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn while_both_parents_have_lost_their_own_the_child_waits_for_the_first_that_has_it_again() {
    // The link behind both parents is cut: nobody the child could turn to has the track. B says so a
    // moment after A, because its last sign of life was longer on its way.
    let mut mesh = Mesh::new(40, 60, 11);
    mesh.film(70);
    for parent in [A, B] {
        mesh.cut_both(ORIGIN, parent);
    }
    mesh.film(30);
    let (a, b) = (mesh.a.near, mesh.b.near);
    let there = (a, b, SwitchCause::Starved);
    assert_eq!(mesh.switches(), [there]);
    for parent in [A, B] {
        mesh.mend(ORIGIN, parent);
    }
    mesh.film(60);
    assert_eq!(mesh.switches(), [there, (b, a, SwitchCause::Starved)]);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_paused_standby_costs_heartbeats_and_no_media() {
    let mut mesh = Mesh::new(40, 60, 12);
    mesh.film(100);
    assert_eq!(mesh.sent_by(B, mesh.b.far), 0);
    let (near, far) = (mesh.b.near, mesh.b.far);
    let stats = mesh.hop(B, far);
    assert_eq!((stats.queue_bytes, stats.unacked_bytes), (0, 0));
    let before = mesh.hop(CHILD, near).heartbeats_sent;
    mesh.film(60);
    let sent = mesh.hop(CHILD, near).heartbeats_sent - before;
    assert!((45..=52).contains(&sent), "{sent} in two seconds");
    let stats = mesh.hop(CHILD, near);
    assert!(!stats.has_media && !stats.is_silent && stats.heard_us < 60_000);
    assert_eq!((stats.rtt_min_us, stats.rx_lost), (120_000, 0));
    assert!(mesh.hop(CHILD, mesh.a.near).has_media);
}

#[test]
fn links_are_measured_as_they_are() {
    let mut mesh = Mesh::new(40, 60, 13);
    let lossy = LinkSpec {
        loss: 0.05,
        ..LinkSpec::delay_ms(40)
    };
    mesh.net.set_link(A, CHILD, lossy);
    mesh.film(900);
    let (a_near, a_far) = (mesh.a.near, mesh.a.far);
    let child = mesh.hop(CHILD, a_near);
    let share = child.rx_lost as f64 / child.rx_packets as f64;
    assert!((0.035..0.065).contains(&share), "{share}");
    let runs: u64 = child.rx_bursts.iter().sum();
    let mean = child.rx_lost as f64 / runs as f64;
    assert!((2.2..4.0).contains(&mean), "runs of {mean}");
    assert_eq!(
        mesh.hop(A, a_far).rx_lost,
        0,
        "the other direction is clean"
    );
    assert_eq!(child.rtt_min_us, 80_000);
    assert!(
        (80_000..100_000).contains(&child.rtt_us),
        "{}",
        child.rtt_us
    );
    let snapshot = mesh.net.snapshot(CHILD);
    let session = snapshot.sessions.iter().find(|s| s.session == a_near);
    let sketch = &session.expect("the hop").hop_rtt_sketch;
    // ceil(ln(80,000) / ln(1.02 / 0.98)) = 283
    assert!(
        sketch.first().is_some_and(|(bucket, _)| *bucket == 283),
        "{sketch:?}"
    );
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn the_end_of_a_track_comes_from_the_standby_although_its_subscription_is_over_there() {
    let mut mesh = Mesh::new(40, 60, 14);
    mesh.film(80);
    mesh.cut_both(A, CHILD);
    // The last frames of the film reach A only; then the track is over, before the child notices.
    while mesh.next.1 != 0 {
        mesh.publish_next();
    }
    mesh.net.run_for(ms(100));
    let finish = Command::FinishDownstream {
        downstream: 100 + mesh.b.far,
    };
    mesh.net.execute(B, finish);
    let finished_us = mesh.net.now_us();
    mesh.net.run_for(ms(2_000));
    let ended = mesh.net.take_timed_events(B).into_iter();
    let ended: Vec<u64> = ended
        .filter(|(_, event)| matches!(event, Event::DownstreamEnded { .. }))
        .map(|(at_us, _)| at_us - finished_us)
        .collect();
    assert_eq!(ended.len(), 1, "once what the child asked for is confirmed");
    assert!(ended[0] < 600_000, "{ended:?}");
    mesh.collect();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_paused_standby_whose_track_is_over_ends_by_itself() {
    let mut mesh = Mesh::new(40, 60, 15);
    mesh.film(40);
    let finish = Command::FinishDownstream {
        downstream: 100 + mesh.b.far,
    };
    mesh.net.execute(B, finish);
    mesh.film(40);
    let events = mesh.net.take_timed_events(B);
    let ended = |event: &&(u64, Event)| matches!(event.1, Event::DownstreamEnded { .. });
    assert_eq!(events.iter().filter(ended).count(), 1);
    // A word about it that comes now is about nothing.
    mesh.cut_both(A, CHILD);
    mesh.film(30);
    let far = mesh.b.far;
    assert_eq!(mesh.hop(B, far).forwards_refused, 1);
    mesh.mend(A, CHILD);
    mesh.finish();
}

#[test]
fn unbinding_the_active_upstream_moves_the_track_and_unbinding_all_moves_nothing() {
    let mut mesh = Mesh::new(40, 60, 16);
    mesh.film(40);
    let unbind = |ends: Ends, alias| Command::UnbindUpstream {
        session: ends.near,
        alias,
    };
    let (a, b) = (mesh.a, mesh.b);
    let (of_a, of_b) = (unbind(a, AT_A), unbind(b, AT_B));
    mesh.net.execute(CHILD, of_a.clone());
    mesh.film(20);
    assert_eq!(mesh.switches(), [(a.near, b.near, SwitchCause::Closed)]);
    mesh.net.execute(CHILD, of_b);
    mesh.film(20);
    assert_eq!(mesh.switches().len(), 1);
    let mut other = Mesh::new(40, 60, 17);
    other.film(40);
    let both = [of_a, unbind(other.b, AT_B)];
    other.net.execute_all(CHILD, both);
    other.film(10);
    assert_eq!(other.switches(), []);
}

#[test]
fn a_standby_bound_after_the_active_parent_was_lost_is_taken_at_once() {
    let mut mesh = Mesh::new(40, 60, 18);
    let (a, b) = (mesh.a, mesh.b);
    let unbind = Command::UnbindUpstream {
        session: b.near,
        alias: AT_B,
    };
    mesh.net.execute(CHILD, unbind);
    mesh.film(70);
    mesh.cut_both(A, CHILD);
    mesh.film(20);
    assert_eq!(mesh.switches(), []);
    mesh.net.execute(CHILD, stand_by(b.near, AT_B, 3));
    mesh.film(20);
    assert_eq!(mesh.switches(), [(a.near, b.near, SwitchCause::Silent)]);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn through_a_storm_of_cuts_losses_and_moves_every_object_arrives_once_and_in_order() {
    for seed in 0..12 {
        let mut random = SplitMix(seed);
        let mut mesh = Mesh::new(40, 60, 100 + seed);
        mesh.film(30);
        for _ in 0..25 {
            storm(&mut mesh, &mut random);
            mesh.film(3 + random.next_u64() % 25);
            for parent in [A, B] {
                mesh.mend(parent, CHILD);
            }
            mesh.film(random.next_u64() % 20);
        }
        for (parent, delay_ms) in [(A, 40), (B, 60)] {
            mesh.net
                .set_links(parent, CHILD, LinkSpec::delay_ms(delay_ms));
        }
        mesh.finish();
        assert!(!mesh.switches().is_empty());
        mesh.assert_nothing_lost_or_doubled();
    }
}

/// Something bad or something planned, to one parent.
fn storm(mesh: &mut Mesh, random: &mut SplitMix) {
    let (parent, ends, alias, delay_ms) = match random.next_u64() % 2 {
        0 => (A, mesh.a, AT_A, 40),
        _ => (B, mesh.b, AT_B, 60),
    };
    let lossy = LinkSpec {
        loss: 0.1,
        ..LinkSpec::delay_ms(delay_ms)
    };
    match random.next_u64() % 6 {
        0 => mesh.cut_both(parent, CHILD),
        1 => mesh.cut(parent, CHILD),
        2 => mesh.cut(CHILD, parent),
        3 => mesh.net.set_links(parent, CHILD, lossy),
        4 => mesh
            .net
            .set_links(parent, CHILD, LinkSpec::delay_ms(delay_ms)),
        _ => {
            let switch = Command::SwitchUpstream {
                track: TRACK,
                session: ends.near,
                alias,
            };
            mesh.net.execute(CHILD, switch);
        }
    }
}
