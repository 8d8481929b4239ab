//! An edge with two parents that send at the same time.
//!
//! The nodes are those of `reroute.rs`. The child has a table of second paths for its hop to A, and the standby
//! at B. What happens is the datapath's own doing.

mod net;

use farcast_core::command::Command;
use farcast_core::event::SwitchCause;
use farcast_core::second_policy::{SecondPathLimits, SecondPathPolicy, SecondPathRow, Stance};
use farcast_core::seed::SplitMix;
use net::LinkSpec;
use net::mesh::{A, AT_A, AT_B, B, CHILD, Happened, Mesh, TRACK};
use std::sync::Arc;

/// Two paths from 3 % on and for 40 ms of queue, as before from 1 % on.
fn table(limits: SecondPathLimits) -> Arc<SecondPathPolicy> {
    let row = |loss_ppm_max, rise_us_max, stance| SecondPathRow {
        loss_ppm_max,
        rtt_us_max: 0,
        rise_us_max,
        small: stance,
        large: stance,
    };
    let rows = vec![
        row(10_000, 40_000, Stance::Off),
        row(30_000, 40_000, Stance::Keep),
        row(1_000_000, 0, Stance::On),
    ];
    Arc::new(SecondPathPolicy::new(rows, limits).expect("a table"))
}

fn quick() -> SecondPathLimits {
    SecondPathLimits {
        clear_ms: 2_000,
        ..SecondPathLimits::default()
    }
}

fn allow(mesh: &mut Mesh, limits: SecondPathLimits) {
    for session in [mesh.a.near, mesh.b.near] {
        let policy = table(limits);
        mesh.net
            .execute(CHILD, Command::HopSecondPaths { session, policy });
    }
}

fn lose(mesh: &mut Mesh, from: usize, to: usize, delay_ms: u64, loss: f64) {
    let spec = LinkSpec {
        loss,
        ..LinkSpec::delay_ms(delay_ms)
    };
    mesh.net.set_link(from, to, spec);
}

fn seconds(mesh: &Mesh) -> Vec<(u64, bool)> {
    let of = |(_, happened): &(u64, Happened)| match *happened {
        Happened::Second(session, on) => Some((session, on)),
        _ => None,
    };
    mesh.log.iter().filter_map(of).collect()
}

fn on_two_paths(mesh: &mut Mesh) -> u64 {
    mesh.net.snapshot(CHILD).tracks_on_two_paths
}

/// A mesh that takes two paths since a while.
fn paired(a_ms: u64, b_ms: u64, seed: u64) -> Mesh {
    let mut mesh = Mesh::new(a_ms, b_ms, seed);
    allow(&mut mesh, quick());
    mesh.film(60);
    lose(&mut mesh, A, CHILD, a_ms, 0.10);
    mesh.film(60);
    assert_eq!(seconds(&mesh), [(mesh.b.near, true)], "{:?}", mesh.log);
    mesh
}

#[test]
fn a_lossy_hop_gets_a_second_path_and_is_left_alone_again_when_it_has_been_clean_for_a_while() {
    let mut mesh = paired(60, 60, 1);
    assert_eq!(on_two_paths(&mut mesh), 1);
    assert!(mesh.switches().is_empty());
    lose(&mut mesh, A, CHILD, 60, 0.0);
    mesh.film(30);
    assert_eq!(on_two_paths(&mut mesh), 1, "not at once");
    mesh.film(450);
    assert_eq!(on_two_paths(&mut mesh), 0);
    let (a, b) = (mesh.a, mesh.b);
    let sent = |mesh: &mut Mesh| (mesh.sent_by(A, a.far), mesh.sent_by(B, b.far));
    let (_, before) = sent(&mut mesh);
    mesh.film(60);
    assert_eq!(sent(&mut mesh).1, before, "the standby sends nothing");
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_clean_hop_takes_no_second_path_and_neither_does_one_with_single_losses() {
    let mut mesh = Mesh::new(60, 60, 2);
    allow(&mut mesh, quick());
    mesh.film(60);
    lose(&mut mesh, A, CHILD, 60, 0.001);
    mesh.film(600);
    assert_eq!(seconds(&mesh), []);
    assert_eq!(mesh.sent_by(B, mesh.b.far), 0);
}

#[test]
fn when_the_active_parent_dies_media_goes_on_by_the_second_without_a_pause() {
    for seed in 0..4 {
        let mut mesh = paired(60, 50, 10 + seed);
        mesh.film(seed * 7);
        mesh.cut_both(A, CHILD);
        let at = mesh.net.now_us();
        let held = mesh.at_child.len();
        mesh.film(30);
        assert_eq!(
            mesh.switches(),
            [(mesh.a.near, mesh.b.near, SwitchCause::Silent)],
            "{:?}",
            mesh.log
        );
        mesh.finish();
        mesh.assert_nothing_lost_or_doubled();
        // Objects of the second after the cut: one after the other, as they were published.
        let arrivals: Vec<u64> = mesh.at_child[held..]
            .iter()
            .map(|o| o.complete_us)
            .collect();
        let gap = arrivals.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(gap.unwrap_or(0) < 120_000, "{gap:?}");
        assert!(arrivals[0] - at < 120_000);
    }
}

#[test]
fn when_the_second_parent_dies_nothing_is_lost_and_the_track_has_one_path() {
    let mut mesh = paired(60, 50, 20);
    mesh.cut_both(B, CHILD);
    mesh.film(60);
    assert_eq!(on_two_paths(&mut mesh), 0);
    assert!(mesh.switches().is_empty());
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn both_parents_may_die_and_come_back_in_any_order_and_nothing_is_lost_or_doubled() {
    for seed in 0..12 {
        let mut mesh = paired(40 + seed * 3, 60 - seed * 3, 100 + seed);
        let mut random = SplitMix(seed);
        for _ in 0..6 {
            let parent = if random.next_u64().is_multiple_of(2) {
                A
            } else {
                B
            };
            let one_way = random.next_u64().is_multiple_of(3);
            if one_way {
                mesh.cut(parent, CHILD);
            } else {
                mesh.cut_both(parent, CHILD);
            }
            mesh.film(random.next_u64() % 25);
            mesh.mend(parent, CHILD);
            mesh.film(1 + random.next_u64() % 25);
        }
        mesh.finish();
        mesh.assert_nothing_lost_or_doubled();
    }
}

#[test]
fn the_session_of_either_may_end_and_the_other_goes_on() {
    for (seed, dies_first) in [(30, true), (31, false)] {
        let mut mesh = paired(60, 50, seed);
        let session = if dies_first { mesh.a.near } else { mesh.b.near };
        let close = Command::Close {
            session,
            code: 0,
            reason: String::new(),
        };
        mesh.net.execute(CHILD, close);
        mesh.film(30);
        assert_eq!(on_two_paths(&mut mesh), 0);
        mesh.finish();
        mesh.assert_nothing_lost_or_doubled();
    }
}

#[test]
fn a_planned_move_to_the_second_makes_it_the_active_one_and_stops_the_other() {
    let mut mesh = paired(60, 50, 40);
    let to = Command::SwitchUpstream {
        track: TRACK,
        session: mesh.b.near,
        alias: AT_B,
    };
    mesh.net.execute(CHILD, to);
    mesh.film(30);
    let moved = (mesh.a.near, mesh.b.near, SwitchCause::Command);
    assert_eq!(mesh.switches(), [moved]);
    mesh.film(60);
    assert_eq!(on_two_paths(&mut mesh), 0, "after a moment");
    let before = mesh.sent_by(A, mesh.a.far);
    mesh.film(30);
    assert_eq!(mesh.sent_by(A, mesh.a.far), before);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn an_active_one_that_is_bound_in_place_of_the_second_goes_on_where_both_were() {
    let mut mesh = paired(60, 50, 41);
    let bind = Command::BindUpstream {
        session: mesh.b.near,
        alias: AT_B,
        track: TRACK,
        default_priority: 128,
        restart_allowed: false,
    };
    mesh.net.execute(CHILD, bind);
    let unbind = Command::UnbindUpstream {
        session: mesh.a.near,
        alias: AT_A,
    };
    mesh.net.execute(CHILD, unbind);
    mesh.film(30);
    assert_eq!(on_two_paths(&mut mesh), 0);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn a_queue_that_grows_is_a_reason_too_and_the_better_one_is_kept_in_the_end() {
    let mut mesh = Mesh::new(40, 60, 50);
    allow(&mut mesh, quick());
    mesh.film(60);
    mesh.net.set_links(A, CHILD, LinkSpec::delay_ms(40 + 100));
    mesh.film(30);
    assert_eq!(seconds(&mesh), [(mesh.b.near, true)]);
    // The longer round trip is the least of the last ten seconds in the end.
    mesh.film(600);
    assert_eq!(on_two_paths(&mut mesh), 0);
    let moved = (mesh.a.near, mesh.b.near, SwitchCause::Delay);
    assert_eq!(mesh.switches(), [moved]);
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}

#[test]
fn no_limit_is_exceeded() {
    let none = |limits| {
        let mut mesh = Mesh::new(60, 60, 60);
        allow(&mut mesh, limits);
        mesh.film(60);
        lose(&mut mesh, A, CHILD, 60, 0.10);
        mesh.film(90);
        seconds(&mesh).is_empty()
    };
    assert!(!none(quick()));
    for limits in [
        SecondPathLimits {
            tracks_max: 0,
            ..quick()
        },
        SecondPathLimits {
            percent_max: 50,
            ..quick()
        },
        SecondPathLimits {
            bps_max: 100_000,
            ..quick()
        },
    ] {
        assert!(none(limits), "{limits:?}");
    }
}

#[test]
fn a_standby_that_loses_more_than_the_active_one_is_not_taken() {
    let mut mesh = Mesh::new(60, 60, 61);
    allow(&mut mesh, quick());
    lose(&mut mesh, B, CHILD, 60, 0.9);
    mesh.film(300);
    lose(&mut mesh, A, CHILD, 60, 0.10);
    mesh.film(60);
    assert_eq!(seconds(&mesh), []);
}
