//! An edge with two parents, its publisher and its viewer, and what happened at it.

use super::film::{OBJECTS, assert_intact, frame};
use super::{Ends, LinkSpec, Net, Via};
use farcast_core::command::{CacheLimits, Command, Draft, GroupOrder, QueueLimits};
use farcast_core::event::{Event, SinkObject, SwitchCause};
use farcast_core::location::{LargestCell, Location};
use farcast_core::stats::HopStats;
use std::sync::Arc;
use std::time::Duration;

pub const TRACK: u64 = 1;
pub const PUBLISHER: usize = 0;
pub const ORIGIN: usize = 1;
pub const A: usize = 2;
pub const B: usize = 3;
pub const CHILD: usize = 4;
pub const VIEWER: usize = 5;
/// Aliases of the track at the parents.
pub const AT_A: u64 = 7;
pub const AT_B: u64 = 8;
/// The child's own sink.
pub const SINK: u64 = 1;

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn downstream(session: u64, alias: u64, forward: bool) -> Command {
    Command::AddDownstream {
        downstream: 100 + session,
        session,
        alias,
        track: TRACK,
        start: Location::default(),
        end_group: None,
        subscriber_priority: 128,
        group_order: GroupOrder::Ascending,
        forward,
        limits: QueueLimits::default(),
    }
}

pub fn bind(session: u64, alias: u64) -> Command {
    Command::BindUpstream {
        session,
        alias,
        track: TRACK,
        default_priority: 128,
        restart_allowed: true,
    }
}

pub fn stand_by(session: u64, alias: u64, rank: u32) -> Command {
    Command::BindStandby {
        session,
        alias,
        track: TRACK,
        default_priority: 128,
        rank,
    }
}

/// What happened at the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Switched {
        from: u64,
        to: u64,
        cause: SwitchCause,
        silent_us: u64,
    },
    Resumed {
        by: u64,
        gap_us: u64,
    },
    Silent(u64, bool),
    /// A second path by this session begins, or ends.
    Second(u64, bool),
}

pub struct Mesh {
    pub net: Net,
    /// Hops of the child to A and to B: near is the child's end.
    pub a: Ends,
    pub b: Ends,
    /// The origin's session with B.
    pub of_b: u64,
    pub next: (u64, u64),
    pub objects: Vec<SinkObject>,
    pub at_child: Vec<SinkObject>,
    pub log: Vec<(u64, Happened)>,
}

impl Mesh {
    /// One-way delays of the child's links to A and to B.
    pub fn new(a_ms: u64, b_ms: u64, seed: u64) -> Mesh {
        Mesh::with_delays((20, 30), (a_ms, b_ms), seed)
    }

    /// One-way delays of the parents to the origin, and of the child to the parents.
    pub fn with_delays(to_origin: (u64, u64), (a_ms, b_ms): (u64, u64), seed: u64) -> Mesh {
        let mut net = Net::new(seed);
        for host in 0..6 {
            net.add_host(vec![Draft::D18]);
            add_track(&mut net, host);
        }
        for (one, other, delay_ms) in [
            (ORIGIN, A, to_origin.0),
            (ORIGIN, B, to_origin.1),
            (A, CHILD, a_ms),
            (B, CHILD, b_ms),
        ] {
            net.set_links(one, other, LinkSpec::delay_ms(delay_ms));
        }
        let publisher = net.connect(PUBLISHER, ORIGIN, Via::Quic(Draft::D18));
        net.execute(PUBLISHER, downstream(publisher.near, 5, true));
        net.execute(ORIGIN, bind(publisher.far, 5));
        let mut of_b = 0;
        for parent in [A, B] {
            let hop = net.connect(parent, ORIGIN, Via::Hop);
            of_b = hop.far;
            net.execute(ORIGIN, downstream(hop.far, 6, true));
            net.execute(parent, bind(hop.near, 6));
        }
        let a = net.connect(CHILD, A, Via::Hop);
        let b = net.connect(CHILD, B, Via::Hop);
        net.execute(A, downstream(a.far, AT_A, true));
        net.execute(B, downstream(b.far, AT_B, false));
        net.execute_all(CHILD, [bind(a.near, AT_A), stand_by(b.near, AT_B, 0)]);
        let viewer = net.connect(VIEWER, CHILD, Via::Quic(Draft::D18));
        net.execute(VIEWER, bind(viewer.near, 9));
        net.execute(CHILD, downstream(viewer.far, 9, true));
        for host in [CHILD, VIEWER] {
            let sink = Command::AddSink {
                downstream: SINK,
                track: TRACK,
                start: Location::default(),
            };
            net.execute(host, sink);
        }
        let mut mesh = Mesh {
            net,
            a,
            b,
            of_b,
            next: (0, 0),
            objects: Vec::new(),
            at_child: Vec::new(),
            log: Vec::new(),
        };
        mesh.collect();
        mesh.log.clear();
        mesh
    }

    pub fn publish_next(&mut self) {
        let (group, object) = self.next;
        let object = frame(group, object);
        let track = TRACK;
        self.net
            .execute(PUBLISHER, Command::Publish { track, object });
        self.next = match self.next {
            (group, object) if object + 1 == OBJECTS => (group + 1, 0),
            (group, object) => (group, object + 1),
        };
    }

    /// The film goes on, 30 frames a second.
    pub fn film(&mut self, frames: u64) {
        for _ in 0..frames {
            self.publish_next();
            self.net.run_for(ms(33));
        }
        self.collect();
    }

    /// The film runs to the end of its group, and then all that is under way arrives.
    pub fn finish(&mut self) {
        while self.next.1 != 0 {
            self.film(1);
        }
        self.net.run_for(ms(2_000));
        self.collect();
    }

    pub fn collect(&mut self) {
        for event in self.net.take_events(VIEWER) {
            if let Event::Object(object) = event {
                self.objects.push(object);
            }
        }
        for (at_us, event) in self.net.take_timed_events(CHILD) {
            let happened = match event {
                Event::Object(object) => {
                    self.at_child.push(object);
                    continue;
                }
                Event::UpstreamSwitched {
                    from_session,
                    session,
                    cause,
                    silent_us,
                    ..
                } => Happened::Switched {
                    from: from_session,
                    to: session,
                    cause,
                    silent_us,
                },
                Event::UpstreamResumed {
                    session, gap_us, ..
                } => Happened::Resumed {
                    by: session,
                    gap_us,
                },
                Event::HopSilent { session, silent } => Happened::Silent(session, silent),
                Event::SecondPath { session, on, .. } => Happened::Second(session, on),
                Event::SinkSubgroupEnded { reset, group, .. } => {
                    assert!(
                        !reset,
                        "group {group} was given up at {at_us} µs: {:?}",
                        self.log
                    );
                    continue;
                }
                Event::SessionClosed { .. } | Event::TrackStarved { .. } => continue,
                other => panic!("{other:?}"),
            };
            self.log.push((at_us, happened));
        }
    }

    /// Every object so far once, in order, byte for byte, at the viewer and at the child's sink.
    pub fn assert_nothing_lost_or_doubled(&self) {
        assert_intact(&self.objects, 0..self.next.0);
        assert_intact(&self.at_child, 0..self.next.0);
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.net.set_down(from, to, true);
    }

    pub fn cut_both(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    pub fn mend(&mut self, one: usize, other: usize) {
        self.net.set_down(one, other, false);
        self.net.set_down(other, one, false);
    }

    pub fn switches(&self) -> Vec<(u64, u64, SwitchCause)> {
        let of = |(_, happened): &(u64, Happened)| match *happened {
            Happened::Switched {
                from, to, cause, ..
            } => Some((from, to, cause)),
            _ => None,
        };
        self.log.iter().filter_map(of).collect()
    }

    /// When, and with what silence, the first switch was.
    pub fn first_switch(&self) -> (u64, u64) {
        let of = |(at_us, happened): &(u64, Happened)| match *happened {
            Happened::Switched { silent_us, .. } => Some((*at_us, silent_us)),
            _ => None,
        };
        self.log.iter().find_map(of).expect("a switch")
    }

    pub fn first_resumption(&self) -> (u64, u64) {
        let of = |(at_us, happened): &(u64, Happened)| match *happened {
            Happened::Resumed { gap_us, .. } => Some((*at_us, gap_us)),
            _ => None,
        };
        self.log.iter().find_map(of).expect("a resumption")
    }

    pub fn commands(&mut self, host: usize) -> u64 {
        self.net.snapshot(host).totals.commands
    }

    pub fn hop(&mut self, host: usize, session: u64) -> HopStats {
        let snapshot = self.net.snapshot(host);
        let found = snapshot.sessions.iter().find(|s| s.session == session);
        found.and_then(|s| s.hop).expect("a hop")
    }

    /// Bytes of the track that a parent's downstream for the child has sent.
    pub fn sent_by(&mut self, host: usize, session: u64) -> u64 {
        let snapshot = self.net.snapshot(host);
        let found = snapshot.downstreams.iter().find(|d| d.session == session);
        found.expect("a downstream").bytes
    }
}

pub fn add_track(net: &mut Net, host: usize) {
    net.execute(
        host,
        Command::AddTrack {
            track: TRACK,
            cache: CacheLimits::default(),
            largest: Arc::new(LargestCell::default()),
        },
    );
}
