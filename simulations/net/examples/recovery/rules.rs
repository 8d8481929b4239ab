//! Other rules of repair as a model, on the same links: no cryptography, no congestion control, only which datagrams
//! leave when.
//!
//! A frame is cut into chunks, `parity_key`, `parity_other` or `parity_audio` symbols leave behind it (any `k` of
//! them make it whole), and what is missing is asked for again, `copies` times `spacing_us` apart:
//!
//! - *SRT's rule* (draft-sharabayko-srt-01, 4.6 and 4.8): no parity, one copy. A gap is reported as it is seen, and
//!   all that is missing again every half round trip (20 ms at least); the sender repeats nothing within a round
//!   trip, and what is later than the budget is dropped.
//! - *Block FEC for each frame*: parity, and nothing is asked for (`ask=0`).
//! - *A fixed mix of both*: of a frame that its parity does not complete as many datagrams are asked for as it lacks,
//!   while they can still come in time (`spare=1`).

use crate::film::{TRACKS, Track, Whole};
use farcast_net::Link;
use farcast_net::link::{HEADER_BYTES_V4, Verdict};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Payload of a datagram.
const CHUNK_BYTES: usize = 1_100;
/// SRT's data header, and that of its reports.
const RULE_HEADER_BYTES: usize = 16;
const REPORT_US_MIN: u64 = 20_000;

/// What is sent, and when.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Of key frames, other frames and sound.
    pub parity: [usize; 3],
    pub copies: u64,
    pub spacing_us: u64,
    pub asks: bool,
    /// Nothing is asked for that cannot come in time.
    pub spares: bool,
    pub budget_us: u64,
    pub rtt_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    Request(Vec<usize>),
    Copy(usize),
    Report,
}

/// A frame on its way.
#[derive(Clone, Debug)]
struct Frame {
    track: u64,
    number: u64,
    sent_us: u64,
    chunks: usize,
    first: usize,
    datagrams: usize,
    got: usize,
    wire_bytes: usize,
}

/// One run.
pub struct Run<'a> {
    rule: Rule,
    forward: &'a mut Link,
    back: &'a mut Link,
    begin_us: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events_no: u64,
    frames: Vec<Frame>,
    /// The frame of each datagram.
    frame_of: Vec<usize>,
    got: Vec<bool>,
    repeated_us: Vec<Option<u64>>,
    /// The receiver: what it waits for, and the next datagram that it has not heard of.
    missing: BTreeSet<usize>,
    next: usize,
    pub whole: BTreeMap<u64, Whole>,
}

impl<'a> Run<'a> {
    /// Begins at `begin_us` of the links' clock.
    pub fn new(rule: Rule, forward: &'a mut Link, back: &'a mut Link, begin_us: u64) -> Run<'a> {
        Run {
            rule,
            forward,
            back,
            begin_us,
            events: BinaryHeap::new(),
            events_no: 0,
            frames: Vec::new(),
            frame_of: Vec::new(),
            got: Vec::new(),
            repeated_us: Vec::new(),
            missing: BTreeSet::new(),
            next: 0,
            whole: TRACKS
                .iter()
                .map(|track| (track.id, Whole::new()))
                .collect(),
        }
    }

    /// Sends the tracks and lets them arrive.
    pub fn play(&mut self, tracks: &[Track], length_us: u64) {
        let mut frames: Vec<(u64, usize, u64)> = Vec::new();
        for (at, track) in tracks.iter().enumerate() {
            frames.extend((0..track.frames(length_us)).map(|n| (n * track.every_us, at, n)));
        }
        frames.sort_unstable();
        self.push(self.begin_us, Event::Report);
        for (offset_us, track, number) in frames {
            self.run_to(self.begin_us + offset_us);
            self.publish(self.begin_us + offset_us, &tracks[track], number);
        }
        self.run_to(self.begin_us + length_us + 2 * self.rule.budget_us + self.rule.rtt_us);
    }

    fn push(&mut self, at_us: u64, event: Event) {
        self.events_no += 1;
        self.events.push(Reverse((at_us, self.events_no, event)));
    }

    fn run_to(&mut self, until_us: u64) {
        while self
            .events
            .peek()
            .is_some_and(|Reverse((at_us, ..))| *at_us < until_us)
        {
            let Some(Reverse((at_us, _, event))) = self.events.pop() else {
                return;
            };
            match event {
                Event::Arrival(datagram) => self.arrive(at_us, datagram),
                Event::Request(datagrams) => self.repeat(at_us, &datagrams),
                Event::Copy(datagram) => self.send(at_us, datagram),
                Event::Report => self.report(at_us),
            }
        }
    }

    fn publish(&mut self, now_us: u64, track: &Track, number: u64) {
        let bytes = track.bytes(number);
        let chunks = bytes.div_ceil(CHUNK_BYTES);
        let kind = match (track.id, number % track.group) {
            (1, 0) => 0,
            (1, _) => 1,
            _ => 2,
        };
        let first = self.frame_of.len();
        let datagrams = chunks + self.rule.parity[kind];
        self.frame_of.resize(first + datagrams, self.frames.len());
        self.got.resize(first + datagrams, false);
        self.repeated_us.resize(first + datagrams, None);
        self.frames.push(Frame {
            track: track.id,
            number,
            sent_us: now_us,
            chunks,
            first,
            datagrams,
            got: 0,
            wire_bytes: bytes.div_ceil(chunks) + RULE_HEADER_BYTES + HEADER_BYTES_V4,
        });
        (first..first + datagrams).for_each(|datagram| self.send(now_us, datagram));
    }

    fn send(&mut self, now_us: u64, datagram: usize) {
        let bytes = self.frames[self.frame_of[datagram]].wire_bytes;
        match self.forward.send(now_us, bytes) {
            Verdict::Deliver(at_us) | Verdict::DeliverTwice(at_us, _) => {
                self.push(at_us, Event::Arrival(datagram));
            }
            _ => {}
        }
    }

    fn arrive(&mut self, now_us: u64, datagram: usize) {
        if !std::mem::replace(&mut self.got[datagram], true) {
            self.missing.remove(&datagram);
            let frame = &mut self.frames[self.frame_of[datagram]];
            frame.got += 1;
            if frame.got == frame.chunks {
                if let Some(whole) = self.whole.get_mut(&frame.track) {
                    whole.insert(frame.number, now_us - self.begin_us);
                }
                for other in frame.first..frame.first + frame.datagrams {
                    self.missing.remove(&other);
                }
            }
        }
        if datagram < self.next {
            return;
        }
        let before = std::mem::replace(&mut self.next, datagram + 1);
        for lost in before..datagram {
            let frame = &self.frames[self.frame_of[lost]];
            if frame.got < frame.chunks {
                self.missing.insert(lost);
            }
        }
        // What was sent behind the gap may still complete the frame.
        let wanted = self.wanted(now_us, before);
        self.ask(now_us, wanted);
    }

    /// What is missing of frames that ended between `heard_before` and what has been heard of now.
    fn wanted(&self, now_us: u64, heard_before: usize) -> Vec<usize> {
        let from = self.frames[self.frame_of[heard_before.min(self.next - 1)]].first;
        let is_new = |datagram: &usize| {
            let frame = &self.frames[self.frame_of[*datagram]];
            let has_parity = frame.datagrams > frame.chunks;
            let end = frame.first + frame.datagrams;
            let is_over = heard_before < end && end <= self.next;
            if has_parity {
                is_over
            } else {
                *datagram >= heard_before
            }
        };
        let new = self.missing.range(from..).copied().filter(is_new);
        self.lacking(now_us, new)
    }

    /// Of these, as many of each frame as it lacks, if they are of use.
    fn lacking(&self, now_us: u64, missing: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut asked: BTreeMap<usize, usize> = BTreeMap::new();
        missing
            .filter(|datagram| {
                let frame = &self.frames[self.frame_of[*datagram]];
                let count = asked.entry(frame.first).or_default();
                *count += 1;
                let takes_us = if self.rule.spares {
                    self.rule.rtt_us
                } else {
                    0
                };
                *count <= frame.chunks.saturating_sub(frame.got)
                    && now_us + takes_us <= frame.sent_us + self.rule.budget_us
            })
            .collect()
    }

    fn ask(&mut self, now_us: u64, datagrams: Vec<usize>) {
        if !self.rule.asks || datagrams.is_empty() {
            return;
        }
        let bytes = HEADER_BYTES_V4 + RULE_HEADER_BYTES + 4 * datagrams.len();
        if let Verdict::Deliver(at_us) = self.back.send(now_us, bytes) {
            self.push(at_us, Event::Request(datagrams));
        }
    }

    fn report(&mut self, now_us: u64) {
        let (frames, frame_of) = (&self.frames, &self.frame_of);
        let budget_us = self.rule.budget_us;
        self.missing
            .retain(|datagram| now_us <= frames[frame_of[*datagram]].sent_us + budget_us);
        let over = self.missing.iter().copied().filter(|datagram| {
            let frame = &frames[frame_of[*datagram]];
            frame.datagrams == frame.chunks || frame.first + frame.datagrams <= self.next
        });
        let wanted = self.lacking(now_us, over);
        self.ask(now_us, wanted);
        let every_us = (self.rule.rtt_us / 2).max(REPORT_US_MIN);
        self.push(now_us + every_us, Event::Report);
    }

    fn repeat(&mut self, now_us: u64, datagrams: &[usize]) {
        for &datagram in datagrams {
            let is_under_way =
                self.repeated_us[datagram].is_some_and(|at_us| now_us < at_us + self.rule.rtt_us);
            if is_under_way {
                continue;
            }
            self.repeated_us[datagram] = Some(now_us);
            self.send(now_us, datagram);
            for copy in 1..self.rule.copies {
                self.push(now_us + copy * self.rule.spacing_us, Event::Copy(datagram));
            }
        }
    }
}
