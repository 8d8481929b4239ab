//! What edges tell each other of their own supply with a track, and that nobody waits for media in vain.
//!
//! ```text
//!   origin ── relay ──┬── A
//!                     ├── B        A, B and C stand by for one another as each test says
//!                     └── C
//! ```
//!
//! All links are hops of 20 ms one way, the origin publishes the film itself, and all edges but the relay
//! have a sink. After the wiring no test gives any command, but where it says so.

mod net;

use farcast_core::command::{CacheLimits, Command, Draft, GroupOrder, QueueLimits};
use farcast_core::event::{Event, SinkObject, SwitchCause};
use farcast_core::location::{LargestCell, Location};
use farcast_core::second_policy::{SecondPathLimits, SecondPathPolicy, SecondPathRow, Stance};
use net::film::{OBJECTS, assert_intact, frame};
use net::{Ends, LinkSpec, Net, Via};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TRACK: u64 = 1;
const ORIGIN: usize = 0;
const RELAY: usize = 1;
const A: usize = 2;
const B: usize = 3;
const C: usize = 4;
const DELAY_MS: u64 = 20;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happened {
    Switched(usize, SwitchCause),
    Starved(bool),
}

struct Edges {
    net: Net,
    hops: BTreeMap<(usize, usize), Ends>,
    next: (u64, u64),
    objects: BTreeMap<usize, Vec<SinkObject>>,
    log: Vec<(u64, usize, Happened)>,
}

impl Edges {
    /// A film that all edges get of the relay, with these standbys: edge, and the one that stands by for it.
    fn playing(standbys: &[(usize, usize)]) -> Edges {
        let mut net = Net::new(77);
        for host in ORIGIN..=C {
            net.add_host(vec![Draft::D18]);
            let (cache, largest) = (CacheLimits::default(), Arc::new(LargestCell::default()));
            let track = TRACK;
            net.execute(
                host,
                Command::AddTrack {
                    track,
                    cache,
                    largest,
                },
            );
        }
        for one in ORIGIN..=C {
            for other in one + 1..=C {
                net.set_links(one, other, LinkSpec::delay_ms(DELAY_MS));
            }
        }
        let mut edges = Edges {
            net,
            hops: BTreeMap::new(),
            next: (0, 0),
            objects: BTreeMap::new(),
            log: Vec::new(),
        };
        edges.feed(RELAY, ORIGIN);
        for edge in [A, B, C] {
            edges.feed(edge, RELAY);
            let (downstream, track, start) = (1, TRACK, Location::default());
            edges.net.execute(
                edge,
                Command::AddSink {
                    downstream,
                    track,
                    start,
                },
            );
        }
        for (rank, (edge, by)) in standbys.iter().enumerate() {
            edges.stand_by(*edge, *by, rank as u32);
        }
        edges.film(40);
        edges.log.clear();
        edges
    }

    fn subscribe(&mut self, edge: usize, at: usize, forward: bool) -> (u64, u64) {
        let hop = self.net.connect(edge, at, Via::Hop);
        self.hops.insert((edge, at), hop);
        let alias = 10 + edge as u64;
        let downstream = Command::AddDownstream {
            downstream: 100 + hop.far,
            session: hop.far,
            alias,
            track: TRACK,
            start: Location::default(),
            end_group: None,
            subscriber_priority: 128,
            group_order: GroupOrder::Ascending,
            forward,
            limits: QueueLimits::default(),
        };
        self.net.execute(at, downstream);
        (hop.near, alias)
    }

    fn feed(&mut self, edge: usize, at: usize) {
        let (session, alias) = self.subscribe(edge, at, true);
        let bind = Command::BindUpstream {
            session,
            alias,
            track: TRACK,
            default_priority: 128,
            restart_allowed: true,
        };
        self.net.execute(edge, bind);
    }

    fn stand_by(&mut self, edge: usize, at: usize, rank: u32) {
        let (session, alias) = self.subscribe(edge, at, false);
        let bind = Command::BindStandby {
            session,
            alias,
            track: TRACK,
            default_priority: 128,
            rank,
        };
        self.net.execute(edge, bind);
    }

    /// Tracks that an edge takes a second path for at most, whatever comes over these hops.
    fn two_paths(&mut self, edge: usize, from: &[usize], tracks_max: u32) {
        let row = SecondPathRow {
            loss_ppm_max: 1_000_000,
            rtt_us_max: 0,
            rise_us_max: 0,
            small: Stance::On,
            large: Stance::On,
        };
        let limits = SecondPathLimits {
            tracks_max,
            ..SecondPathLimits::default()
        };
        let policy = SecondPathPolicy::new(vec![row], limits);
        let policy = Arc::new(policy.expect("a table"));
        for at in from {
            let (session, policy) = (self.hops[&(edge, *at)].near, policy.clone());
            self.net
                .execute(edge, Command::HopSecondPaths { session, policy });
        }
    }

    /// The agent of an edge moves the track to a standby, or binds that one as the active upstream.
    fn order(&mut self, edge: usize, at: usize, bound: bool) {
        let (session, alias) = (self.hops[&(edge, at)].near, 10 + edge as u64);
        let track = TRACK;
        let order = if bound {
            Command::BindUpstream {
                session,
                alias,
                track,
                default_priority: 128,
                restart_allowed: false,
            }
        } else {
            Command::SwitchUpstream {
                track,
                session,
                alias,
            }
        };
        self.net.execute(edge, order);
    }

    fn film(&mut self, frames: u64) {
        for _ in 0..frames {
            let (group, object) = self.next;
            let (track, object) = (TRACK, frame(group, object));
            self.net.execute(ORIGIN, Command::Publish { track, object });
            self.next = match self.next {
                (group, object) if object + 1 == OBJECTS => (group + 1, 0),
                (group, object) => (group, object + 1),
            };
            self.net.run_for(ms(20));
        }
        self.collect();
    }

    fn collect(&mut self) {
        for edge in RELAY..=C {
            for (at_us, event) in self.net.take_timed_events(edge) {
                let happened = match event {
                    Event::Object(object) => {
                        self.objects.entry(edge).or_default().push(object);
                        continue;
                    }
                    Event::UpstreamSwitched { session, cause, .. } => {
                        Happened::Switched(self.other_end(edge, session), cause)
                    }
                    Event::TrackStarved { starved, .. } => Happened::Starved(starved),
                    _ => continue,
                };
                self.log.push((at_us, edge, happened));
            }
        }
    }

    fn other_end(&self, edge: usize, session: u64) -> usize {
        let mut hops = self.hops.iter();
        let hop = hops.find(|((from, _), ends)| *from == edge && ends.near == session);
        hop.map(|((_, to), _)| *to).expect("a hop of the test")
    }

    fn cut(&mut self, one: usize, other: usize, down: bool) {
        self.net.set_down(one, other, down);
        self.net.set_down(other, one, down);
    }

    fn lose(&mut self, from: usize, to: usize, loss: f64) {
        let spec = LinkSpec {
            loss,
            ..LinkSpec::delay_ms(DELAY_MS)
        };
        self.net.set_link(from, to, spec);
    }

    fn kill_relay(&mut self) -> u64 {
        for other in [ORIGIN, A, B, C] {
            self.cut(RELAY, other, true);
        }
        self.net.now_us()
    }

    fn of(&self, edge: usize) -> Vec<Happened> {
        let of_edge = self.log.iter().filter(|(_, of, _)| *of == edge);
        of_edge.map(|(_, _, happened)| *happened).collect()
    }

    fn assert_whole(&mut self, edges: &[usize]) {
        while self.next.1 != 0 {
            self.film(1);
        }
        self.net.run_for(ms(2_000));
        self.collect();
        for edge in edges {
            assert_intact(&self.objects[edge], 0..self.next.0);
        }
    }
}

#[test]
fn edges_that_stand_by_for_each_other_in_a_circle_know_it_within_two_ways_round() {
    let mut edges = Edges::playing(&[(A, B), (B, C), (C, A)]);
    let killed_us = edges.kill_relay();
    edges.film(30);
    for edge in [A, B, C] {
        let starved = |(_, of, what): &&(u64, usize, Happened)| {
            *of == edge && *what == Happened::Starved(true)
        };
        let (at_us, ..) = edges.log.iter().find(starved).expect("it knows");
        // Silence, the last sign of life on its way, and at most two ways round the circle.
        let within_ms = (at_us - killed_us) / 1_000;
        assert!(
            within_ms <= 200 + 40 + 6 * DELAY_MS,
            "{edge}: {within_ms} ms"
        );
    }
    // The agent of one of them has found another upstream: that frees them all.
    edges.stand_by(B, ORIGIN, 9);
    edges.film(50);
    for edge in [A, B, C] {
        assert_eq!(edges.of(edge).last(), Some(&Happened::Starved(false)));
    }
    edges.assert_whole(&[A, B, C]);
}

#[test]
fn a_standby_that_falls_with_the_upstream_is_the_last_choice_whatever_its_rank() {
    let mut edges = Edges::playing(&[(A, B), (A, ORIGIN)]);
    edges.kill_relay();
    edges.film(30);
    let expected = [Happened::Switched(ORIGIN, SwitchCause::Silent)];
    assert_eq!(edges.of(A), expected);
    edges.assert_whole(&[A]);
}

#[test]
fn a_standby_that_falls_with_the_upstream_is_taken_where_there_is_no_other() {
    let mut edges = Edges::playing(&[(A, B)]);
    edges.cut(A, RELAY, true);
    edges.film(30);
    assert_eq!(
        edges.of(A),
        [Happened::Switched(B, SwitchCause::Silent)],
        "only the link was cut"
    );
    edges.assert_whole(&[A, B]);
}

#[test]
fn a_second_path_that_falls_with_the_upstream_keeps_nobody_from_asking_another_in_doubt() {
    let mut edges = Edges::playing(&[(A, B)]);
    edges.two_paths(A, &[RELAY, B], 1);
    edges.film(60);
    edges.net.run_for(ms(200));
    edges.collect();
    // Another one is apart, but its link has lost more than the relay's.
    edges.lose(ORIGIN, A, 0.10);
    edges.stand_by(A, ORIGIN, 1);
    edges.film(100);
    edges.lose(ORIGIN, A, 0.0);
    let killed_us = edges.kill_relay();
    edges.film(30);
    let switched = Happened::Switched(ORIGIN, SwitchCause::Silent);
    assert!(edges.of(A).contains(&switched), "{:?}", edges.log);
    // Media stops once what was under way by B is there; doubt comes after 110 ms, the
    // question is answered after 150.
    let mut arrivals: Vec<u64> = edges.objects[&A].iter().map(|o| o.complete_us).collect();
    arrivals.sort_unstable();
    let pairs = arrivals.windows(2).filter(|pair| pair[1] > killed_us);
    let gap_ms = pairs.map(|pair| (pair[1] - pair[0]) / 1_000).max();
    assert!(gap_ms.is_some_and(|ms| ms < 150), "{gap_ms:?}");
    edges.assert_whole(&[A]);
    let by_second = edges.net.snapshot(A).totals.second_path_bytes_in;
    assert!(by_second > 0, "B sent beside the relay");
}

#[test]
fn a_second_path_that_ends_while_the_upstream_is_in_doubt_is_not_lost_as_the_way_out() {
    for frames in 4..14 {
        let mut edges = Edges::playing(&[(A, B)]);
        edges.two_paths(A, &[RELAY, B], 1);
        edges.film(60);
        // The relay is still heard, and does not hear.
        edges.net.set_down(A, RELAY, true);
        edges.film(frames);
        edges.two_paths(A, &[RELAY, B], 0);
        edges.film(12);
        // Nothing comes of it any more: only of the one that the track has moved to.
        edges.cut(A, RELAY, true);
        edges.film(60);
        assert_eq!(edges.of(A), [Happened::Switched(B, SwitchCause::Silent)]);
        edges.assert_whole(&[A]);
    }
}

#[test]
fn a_standby_that_has_lost_the_track_is_not_taken_before_it_has_it_again() {
    let mut edges = Edges::playing(&[(A, B)]);
    edges.cut(B, RELAY, true);
    edges.film(30);
    edges.cut(A, RELAY, true);
    edges.film(30);
    assert_eq!(edges.of(A), [Happened::Starved(true)]);
    edges.cut(B, RELAY, false);
    edges.film(30);
    let then = [
        Happened::Starved(true),
        Happened::Switched(B, SwitchCause::Silent),
        Happened::Starved(false),
    ];
    assert_eq!(edges.of(A), then);
    edges.assert_whole(&[A, B]);
}

#[test]
fn children_leave_a_parent_that_has_lost_the_track_and_wait_where_they_cannot() {
    let mut edges = Edges::playing(&[(A, ORIGIN)]);
    let cut_us = edges.net.now_us();
    edges.cut(RELAY, ORIGIN, true);
    edges.film(30);
    assert_eq!(
        edges.of(A),
        [Happened::Switched(ORIGIN, SwitchCause::Starved)]
    );
    let (switched_us, ..) = edges.log.iter().find(|(_, of, _)| *of == A).unwrap();
    let after_ms = (switched_us - cut_us) / 1_000;
    assert!(
        after_ms <= 200 + 40 + 2 * DELAY_MS,
        "{after_ms} ms: as soon as it is told"
    );
    assert_eq!(edges.of(B), [Happened::Starved(true)]);
    edges.cut(RELAY, ORIGIN, false);
    edges.film(30);
    let told = [Happened::Starved(true), Happened::Starved(false)];
    assert_eq!(edges.of(B), told, "it stayed, and gets what it missed");
    edges.assert_whole(&[A, B, C]);
}

#[test]
fn an_edge_that_is_fed_from_here_is_no_way_out() {
    let mut edges = Edges::playing(&[(A, B), (B, A)]);
    edges.cut(A, RELAY, true);
    edges.film(30);
    assert_eq!(edges.of(A), [Happened::Switched(B, SwitchCause::Silent)]);
    edges.cut(B, RELAY, true);
    edges.film(30);
    assert_eq!(edges.of(B), [Happened::Starved(true)], "A is fed by B");
    edges.cut(A, RELAY, false);
    edges.film(50);
    let freed = Happened::Switched(RELAY, SwitchCause::Starved);
    assert!(edges.of(A).contains(&freed), "{:?}", edges.of(A));
    edges.assert_whole(&[A, B]);
}

#[test]
fn an_edge_that_is_moved_to_a_standby_without_the_track_does_not_say_that_it_has_it() {
    for bound in [false, true] {
        let mut edges = Edges::playing(&[(A, B), (C, A)]);
        edges.cut(B, RELAY, true);
        edges.film(30);
        edges.cut(A, RELAY, true);
        edges.film(30);
        assert_eq!(edges.of(A), [Happened::Starved(true)]);
        edges.order(A, B, bound);
        edges.cut(C, RELAY, true);
        edges.film(30);
        let freed = Happened::Starved(false);
        assert!(!edges.of(A).contains(&freed), "{:?}", edges.of(A));
        assert_eq!(edges.of(C), [Happened::Starved(true)], "A has nothing");
        edges.cut(B, RELAY, false);
        edges.film(50);
        for edge in [A, C] {
            assert_eq!(edges.of(edge).last(), Some(&freed));
        }
        edges.assert_whole(&[A, B, C]);
    }
}

#[test]
fn a_move_to_a_standby_that_has_lost_the_track_is_not_completed_by_what_it_has_cached() {
    let mut edges = Edges::playing(&[(A, B)]);
    // Not so fast that it looks like silence.
    for longer in 2..=20 {
        edges
            .net
            .set_links(A, RELAY, LinkSpec::delay_ms(longer * DELAY_MS));
        edges.film(10);
    }
    edges.log.clear();
    edges.cut(B, RELAY, true);
    edges.film(15);
    assert_eq!(edges.of(B), [Happened::Starved(true)]);
    edges.order(A, B, false);
    edges.film(30);
    assert_eq!(edges.of(A), [], "it stays where the film comes from");
    edges.cut(B, RELAY, false);
    edges.film(30);
    assert_eq!(edges.of(A), [Happened::Switched(B, SwitchCause::Command)]);
    edges.assert_whole(&[A, B]);
}
