//! Two hops in virtual time, joined by a link that delays, loses in bursts, reorders and duplicates.

use super::epoch;
use crate::hop::frame::{Chunk, Frame};
use crate::hop::{Hop, HopConfig, HopEvent};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the link does to datagrams of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// One way.
    pub delay_ms: u64,
    /// Share of datagrams lost.
    pub loss: f64,
    /// Mean length of a burst of losses, datagrams.
    pub burst: f64,
    /// Extra delay of up to this much; datagrams overtake each other.
    pub jitter_us: u64,
    /// Share of datagrams that arrive twice.
    pub duplicates: f64,
    /// Nothing arrives.
    pub down: bool,
}

impl Weather {
    pub(super) fn bursty(delay_ms: u64, loss: f64) -> Weather {
        Weather {
            delay_ms,
            loss,
            burst: 3.0,
            ..Weather::default()
        }
    }
}

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        (self.next() >> 11) as f64 / ((1u64 << 53) as f64) < share
    }
}

/// The two ends are 0 and 1; `weather[i]` is that of datagrams sent by end `i`.
pub(super) struct World {
    pub now: Instant,
    pub start: Instant,
    pub hops: [Hop; 2],
    pub weather: [Weather; 2],
    in_burst: [bool; 2],
    random: Random,
    /// Arrival time and order to receiving end and content.
    wire: BTreeMap<(Instant, u64), (usize, Bytes)>,
    sent: u64,
    pub frames: [Vec<(Instant, Frame)>; 2],
    pub events: [Vec<(Instant, HopEvent)>; 2],
    /// FNV-1a of time, size, and direction of every datagram sent.
    pub trace: u64,
    pub fetch: bool,
}

impl World {
    pub(super) fn new(seed: u64, config: HopConfig, weather: Weather) -> World {
        let now = epoch();
        World {
            now,
            start: now,
            hops: [Hop::new(config, now), Hop::new(config, now)],
            weather: [weather; 2],
            in_burst: [false; 2],
            random: Random(seed),
            wire: BTreeMap::new(),
            sent: 0,
            frames: [Vec::new(), Vec::new()],
            events: [Vec::new(), Vec::new()],
            trace: 0xcbf2_9ce4_8422_2325,
            fetch: true,
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from((self.now - self.start).as_millis()).unwrap()
    }

    pub(super) fn send(&mut self, end: usize, frame: Frame) {
        self.hops[end].send(self.now, frame).unwrap();
        self.pump();
    }

    pub(super) fn send_awaited(&mut self, end: usize, frame: Frame) {
        self.hops[end].send_awaited(self.now, frame).unwrap();
        self.pump();
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        self.pump();
        loop {
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let timers = self.hops.iter().filter_map(Hop::poll_timeout);
            let next = timers.chain(arrival).min().unwrap_or(until);
            assert!(
                next > self.now || arrival == Some(next),
                "a timer did not move on"
            );
            if next > until {
                break;
            }
            self.now = next;
            self.step();
        }
        self.now = until;
    }

    fn step(&mut self) {
        while let Some(entry) = self.wire.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (end, data) = entry.remove();
            self.hops[end].handle_datagram(self.now, data).unwrap();
        }
        for hop in &mut self.hops {
            if hop.poll_timeout().is_some_and(|at| at <= self.now) {
                hop.handle_timeout(self.now);
            }
        }
        self.pump();
    }

    fn pump(&mut self) {
        for end in 0..2 {
            while let Some(data) = self.hops[end].poll_datagram(self.now) {
                self.transmit(end, data);
            }
            while self.fetch
                && let Some(frame) = self.hops[end].poll_frame()
            {
                self.frames[end].push((self.now, frame));
            }
            while let Some(event) = self.hops[end].poll_event() {
                self.events[end].push((self.now, event));
            }
        }
    }

    fn transmit(&mut self, end: usize, data: Bytes) {
        let at_us = u64::try_from((self.now - self.start).as_micros()).unwrap();
        for word in [at_us, data.len() as u64, end as u64] {
            self.trace = (self.trace ^ word).wrapping_mul(0x100_0000_01b3);
        }
        assert!(data.len() <= crate::hop::DATAGRAM_BYTES_MAX);
        let copies = 1 + u64::from(self.random.chance(self.weather[end].duplicates));
        for _ in 0..copies {
            if self.is_lost(end) {
                continue;
            }
            let weather = self.weather[end];
            let jitter = self.random.next() % (weather.jitter_us + 1);
            let delay = Duration::from_micros(weather.delay_ms * 1_000 + jitter);
            self.sent += 1;
            self.wire
                .insert((self.now + delay, self.sent), (1 - end, data.clone()));
        }
    }

    /// Gilbert: a burst ends with probability 1 / mean length.
    fn is_lost(&mut self, end: usize) -> bool {
        let Weather {
            loss, burst, down, ..
        } = self.weather[end];
        let leave = if burst > 0.0 { 1.0 / burst } else { 1.0 };
        let enter = leave * loss / (1.0 - loss);
        let share = if self.in_burst[end] {
            1.0 - leave
        } else {
            enter
        };
        self.in_burst[end] = self.random.chance(share);
        down || self.in_burst[end]
    }
}

/// A chunk that is a whole object; `body` makes it recognisable.
pub(super) fn chunk(alias: u64, group: u64, object: u64, priority: u8, len: usize) -> Frame {
    Frame::Chunk(Chunk {
        alias,
        group,
        subgroup: 0,
        object,
        prev: object.checked_sub(1),
        first_object: object == 0,
        priority,
        status: 0,
        budget_ms: 600,
        props_len: 0,
        body_len: len as u64,
        offset: 0,
        body: Bytes::from(vec![object as u8; len]),
    })
}

/// The frame without what changes on its way.
pub(super) fn plain(frame: &Frame) -> Frame {
    let mut frame = frame.clone();
    if let Frame::Chunk(chunk) = &mut frame {
        chunk.budget_ms = 0;
    }
    frame
}
