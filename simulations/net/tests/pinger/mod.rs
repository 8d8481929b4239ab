//! An engine of a few lines, for tests of the kernel alone.
#![allow(dead_code)] // each test uses some of it

use bytes::BytesMut;
use farcast_core::command::Command;
use farcast_core::datapath::Transmit;
use farcast_core::event::Event;
use farcast_net::{Engine, LinkConfig, World};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Sends a train of `token` datagrams to its peer on `Command::Snapshot`, answers datagrams that
/// begin with 0 by the same beginning with 1, and reports answers as `DownstreamEnded`, whose
/// `downstream` is the second byte and whose `streams` is the length. `Command::RemoveTrack` sets a
/// timer that far ahead, in microseconds; when it fires, a train of one is sent.
pub struct Pinger {
    peer: SocketAddr,
    out: VecDeque<(SocketAddr, Vec<u8>, Option<usize>)>,
    events: VecDeque<Event>,
    deadline: Option<Instant>,
    timer: Timer,
    pub timeouts: u64,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Timer {
    Once,
    Stuck,
}

impl Pinger {
    pub fn new(peer: SocketAddr, timer: Timer) -> Self {
        Pinger {
            peer,
            out: VecDeque::new(),
            events: VecDeque::new(),
            deadline: None,
            timer,
            timeouts: 0,
        }
    }

    fn send_train(&mut self, count: u64) {
        let mut train = vec![0u8; 1_000 * count as usize];
        for (i, datagram) in train.chunks_mut(1_000).enumerate() {
            datagram[1] = i as u8;
        }
        train.truncate(train.len() - 1); // the last of a train may be shorter
        let segment = (count > 1).then_some(1_000);
        self.out.push_back((self.peer, train, segment));
    }
}

impl Engine for Pinger {
    fn handle_datagram(
        &mut self,
        _now: Instant,
        remote: SocketAddr,
        _local_ip: Option<IpAddr>,
        _ecn: u8,
        mut data: BytesMut,
    ) {
        if data[0] == 0 {
            data[0] = 1;
            self.out.push_back((remote, data.to_vec(), None));
        } else {
            self.events.push_back(Event::DownstreamEnded {
                downstream: u64::from(data[1]),
                streams: data.len() as u64,
            });
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.timeouts += 1;
        assert!(
            self.deadline.is_some_and(|at| at <= now),
            "called too early"
        );
        if self.timer == Timer::Once {
            self.deadline = None;
            self.send_train(1);
        }
    }

    fn execute(&mut self, now: Instant, command: Command) {
        match command {
            Command::Snapshot { token } => self.send_train(token),
            Command::RemoveTrack { track } => {
                self.deadline = Some(now + Duration::from_micros(track));
            }
            other => panic!("{other:?}"),
        }
    }

    fn poll_transmit(
        &mut self,
        _now: Instant,
        _max_datagrams: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let (destination, data, segment_size) = self.out.pop_front()?;
        buf.extend_from_slice(&data);
        Some(Transmit {
            destination,
            ecn: 2,
            size: data.len(),
            segment_size,
            src_ip: None,
        })
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.deadline
    }
}

pub fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 4433))
}

#[allow(clippy::disallowed_methods)] // any instant serves as the epoch
pub fn epoch() -> Instant {
    Instant::now()
}

pub fn pair(config: LinkConfig, seed: u64, timer: Timer) -> World<Pinger> {
    let mut world = World::new(epoch(), seed);
    for (me, peer) in [(1, 2), (2, 1)] {
        world
            .add_engine(address(me), Pinger::new(address(peer), timer))
            .expect("a free address");
    }
    world.add_link(0, 1, config.clone()).expect("a new link");
    world.add_link(1, 0, config).expect("a new link");
    world
}

pub fn delay(delay_us: u64) -> LinkConfig {
    LinkConfig {
        delay_us,
        ..LinkConfig::default()
    }
}

/// What `run_until` returned, as numbers: time, host, datagram, length.
pub type Answer = (u64, usize, u64, u64);

pub fn answers(world: &mut World<Pinger>, until_us: u64) -> Vec<Answer> {
    let events = world.run_until(until_us).expect("the world runs");
    let numbers = events.into_iter().map(|(at_us, host, event)| match event {
        Event::DownstreamEnded {
            downstream,
            streams,
        } => (at_us, host, downstream, streams),
        other => panic!("{other:?}"),
    });
    numbers.collect()
}

pub fn ping(world: &mut World<Pinger>, count: u64) {
    world
        .execute(0, vec![Command::Snapshot { token: count }])
        .expect("the host exists");
}
