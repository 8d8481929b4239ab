//! An edge asks its upstream for what lies before the place where it began, while the track flows.
//!
//! One hop of 20 ms one way. The edge is sent the film from group 2 on, and asks for object 10 of group 0 and all
//! that follows. Virtual time.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod net;

use farcast_core::command::{Command, Draft};
use farcast_core::event::Event;
use farcast_core::location::Location;
use net::film::{OBJECTS, frame};
use net::mesh::{self, SINK, TRACK, add_track};
use net::{Ends, LinkSpec, Net, Via};
use std::collections::BTreeMap;
use std::time::Duration;

const UPSTREAM: usize = 0;
const EDGE: usize = 1;
const ALIAS: u64 = 7;
const BEGAN: (u64, u64) = (2, 0);
const WANTED: (u64, u64) = (0, 10);
const FRAME_MS: u64 = 33;

struct Pair {
    net: Net,
    hop: Ends,
    next: u64,
    /// How often each object of the film arrived.
    arrived: BTreeMap<(u64, u64), u32>,
}

impl Pair {
    fn playing() -> Pair {
        let mut net = Net::new(5);
        for host in [UPSTREAM, EDGE] {
            net.add_host(vec![Draft::D18]);
            add_track(&mut net, host);
        }
        net.set_links(UPSTREAM, EDGE, LinkSpec::delay_ms(20));
        let hop = net.connect(EDGE, UPSTREAM, Via::Hop);
        let arrived = BTreeMap::new();
        let mut pair = Pair {
            net,
            hop,
            next: 0,
            arrived,
        };
        pair.film(2 * OBJECTS + 10);
        pair.subscribe();
        pair.film(5);
        pair
    }

    fn subscribe(&mut self) {
        let (downstream, track, start) =
            (100 + self.hop.far, TRACK, Location::new(BEGAN.0, BEGAN.1));
        self.net
            .execute(UPSTREAM, mesh::downstream(self.hop.far, ALIAS, false));
        // As a subscription does that was paused.
        self.net.execute(
            UPSTREAM,
            Command::UpdateDownstream {
                downstream,
                start: Some(start),
                end_group: None,
                subscriber_priority: None,
                forward: Some(true),
            },
        );
        let start = Location::new(WANTED.0, WANTED.1);
        let sink = Command::AddSink {
            downstream: SINK,
            track,
            start,
        };
        self.net
            .execute_all(EDGE, [mesh::bind(self.hop.near, ALIAS), sink]);
    }

    fn film(&mut self, frames: u64) {
        for _ in 0..frames {
            let object = frame(self.next / OBJECTS, self.next % OBJECTS);
            let track = TRACK;
            self.net
                .execute(UPSTREAM, Command::Publish { track, object });
            self.next += 1;
            self.run_ms(FRAME_MS);
        }
    }

    fn run_ms(&mut self, ms: u64) {
        self.net.run_for(Duration::from_millis(ms));
        for event in self.net.take_events(EDGE) {
            if let Event::Object(object) = event {
                let place = (object.group, object.object);
                *self.arrived.entry(place).or_default() += 1;
            }
        }
    }

    fn reach_back(&mut self) {
        let start = Location::new(WANTED.0, WANTED.1);
        let track = TRACK;
        self.net.execute(EDGE, Command::ReachBack { track, start });
    }

    /// Bytes of the track that have left for the edge.
    fn sent(&mut self) -> u64 {
        let snapshot = self.net.snapshot(UPSTREAM);
        let mut downstreams = snapshot.downstreams.iter();
        downstreams
            .find(|d| d.session == self.hop.far)
            .unwrap()
            .bytes
    }

    fn assert_each_once_from_the_wanted_place_on(&self) {
        let wanted = WANTED.0 * OBJECTS + WANTED.1;
        let places = (wanted..self.next).map(|no| ((no / OBJECTS, no % OBJECTS), 1));
        assert_eq!(self.arrived, places.collect());
    }
}

fn bytes_of(film: std::ops::Range<u64>) -> u64 {
    film.map(|no| frame(no / OBJECTS, no % OBJECTS).payload.len() as u64)
        .sum()
}

#[test]
fn what_a_subscription_begins_with_leaves_once() {
    let mut pair = Pair::playing();
    let snapshot = pair.net.snapshot(UPSTREAM);
    let hop = snapshot.sessions.iter().find_map(|session| session.hop);
    let hop = hop.unwrap();
    assert!(hop.chunks_sent > 50, "{hop:?}");
    assert_eq!(hop.chunks_repaired, 0);
}

#[test]
fn of_a_track_that_flows_only_what_lies_before_its_start_leaves() {
    let mut pair = Pair::playing();
    pair.film(40);
    let before = pair.sent();
    pair.reach_back();
    pair.run_ms(500);
    let older = bytes_of(WANTED.1..BEGAN.0 * OBJECTS);
    let left = pair.sent() - before;
    assert!(
        (older..older + older / 50).contains(&left),
        "{left} bytes for {older}"
    );
    pair.film(40);
    pair.run_ms(500);
    pair.assert_each_once_from_the_wanted_place_on();
}

#[test]
fn what_is_under_way_while_an_older_place_is_asked_for_still_arrives() {
    let mut pair = Pair::playing();
    // Lost, and owed when the wish arrives.
    pair.net.set_down(UPSTREAM, EDGE, true);
    pair.film(2);
    pair.net.set_down(UPSTREAM, EDGE, false);
    pair.reach_back();
    pair.film(40);
    pair.run_ms(1_000);
    pair.assert_each_once_from_the_wanted_place_on();
}

#[test]
fn where_something_was_given_up_an_older_place_brings_everything_anew() {
    let mut pair = Pair::playing();
    let narrow = LinkSpec {
        rate_bps: Some(1_000_000),
        ..LinkSpec::delay_ms(20)
    };
    pair.net.set_links(UPSTREAM, EDGE, narrow);
    pair.film(150);
    let (before, wanted) = (pair.sent(), bytes_of(WANTED.1..pair.next));
    pair.reach_back();
    pair.run_ms(1_000);
    let left = pair.sent() - before;
    assert!(left >= wanted, "{left} bytes of {wanted}");
}
