//! Datagrams whose fate is not known, and how their loss is noticed.
//!
//! As in RFC 9002 §6.1, a datagram is lost when one sent [`HopConfig::loss_packets`] later was
//! acknowledged, or when any later one was acknowledged [`HopConfig::loss_ms`] ago. Both thresholds
//! are tighter than QUIC's: a needless repair costs one datagram, a late one a round trip of somebody's
//! picture. Loss of the last datagrams shows in nothing that follows; the sender's own timer
//! (sender.rs) makes something follow.

use super::config::{HopConfig, ms};
use super::error::HopError;
use super::loss_meter::LossMeter;
use super::store::FrameNo;
use super::wire::Ack;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lost datagrams remembered, to recognise an acknowledgement that comes late.
const LOST_REMEMBERED_MAX: usize = 4_096;

/// What a datagram brings.
#[derive(Clone, Debug)]
pub(super) enum Carried {
    /// A frame.
    Frame(FrameNo),
    /// A repair symbol made of these.
    Symbol(Arc<[FrameNo]>),
}

impl Carried {
    /// The frames that it may bring.
    pub(super) fn frames(&self) -> &[FrameNo] {
        match self {
            Carried::Frame(no) => std::slice::from_ref(no),
            Carried::Symbol(members) => members,
        }
    }
}

/// One datagram.
#[derive(Clone, Debug)]
struct Sent {
    carried: Carried,
    at: Instant,
    /// When a later datagram was first acknowledged.
    overtaken_at: Option<Instant>,
}

/// What an acknowledgement told.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// Frames that arrived.
    pub frames: Vec<FrameNo>,
    /// Frames of which a datagram came that had been declared lost, or that the peer restored.
    pub revived: Vec<FrameNo>,
    /// What the symbols that arrived were made of: each frame has one less to hope for.
    pub symbols: Vec<Arc<[FrameNo]>>,
    /// Time since the largest was sent and the peer's delay, if the largest is news.
    pub rtt_sample: Option<(Duration, Duration)>,
    /// When the latest of them was sent.
    pub sent_at: Option<Instant>,
}

/// The datagrams.
#[derive(Debug)]
pub(super) struct InFlight {
    config: HopConfig,
    next_seq: u64,
    sent: BTreeMap<u64, Sent>,
    lost: BTreeMap<u64, FrameNo>,
    largest_acked: Option<u64>,
    pub meter: LossMeter,
}

impl InFlight {
    pub(super) fn new(config: HopConfig) -> InFlight {
        InFlight {
            config,
            next_seq: 0,
            sent: BTreeMap::new(),
            lost: BTreeMap::new(),
            largest_acked: None,
            meter: LossMeter::new(),
        }
    }

    /// The number of a datagram whose fate nobody follows.
    ///
    /// Numbers are never used twice and never wrap: 2^62 of them last longer than any connection.
    pub(super) fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// A datagram leaves now. Gives its sequence number.
    pub(super) fn record(&mut self, now: Instant, carried: Carried) -> u64 {
        let seq = self.take_seq();
        self.sent.insert(
            seq,
            Sent {
                carried,
                at: now,
                overtaken_at: None,
            },
        );
        seq
    }

    /// No more datagrams are kept.
    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= self.config.in_flight_max
    }

    /// What the oldest datagram brings.
    pub(super) fn oldest(&self) -> Option<&Carried> {
        self.sent.first_key_value().map(|(_, sent)| &sent.carried)
    }

    /// Declares the oldest datagram lost. Gives what it carried.
    pub(super) fn evict(&mut self) -> Vec<Carried> {
        let mut lost = Vec::new();
        if let Some((&seq, _)) = self.sent.first_key_value() {
            self.declare_lost(seq, &mut lost);
        }
        lost
    }

    /// Frames in flight, oldest datagram first; may name a frame several times.
    pub(super) fn frames(&self) -> impl Iterator<Item = FrameNo> + '_ {
        let carried = self.sent.values().map(|sent| sent.carried.frames());
        carried.flatten().copied()
    }

    /// # Errors
    /// `AckOfUnsent`: the peer acknowledges what was never sent. Nothing changed then.
    pub(super) fn handle_ack(&mut self, now: Instant, ack: &Ack) -> Result<Acked, HopError> {
        let mut acked = Acked::default();
        let Some(&(_, largest)) = ack.ranges.first() else {
            return Ok(acked);
        };
        if largest >= self.next_seq {
            return Err(HopError::AckOfUnsent {
                largest,
                next: self.next_seq,
            });
        }
        if self.largest_acked.is_none_or(|before| largest > before) {
            self.largest_acked = Some(largest);
            acked.rtt_sample = self.sent.get(&largest).map(|sent| {
                (
                    now.saturating_duration_since(sent.at),
                    Duration::from_micros(ack.delay_us),
                )
            });
        }
        for &(first, last) in &ack.ranges {
            self.take_range(now, first, last, &mut acked);
        }
        Ok(acked)
    }

    fn take_range(&mut self, now: Instant, first: u64, last: u64, acked: &mut Acked) {
        let mut arrived = 0;
        while let Some((&seq, sent)) = self.sent.range(first..=last).next() {
            acked.sent_at = acked.sent_at.max(Some(sent.at));
            match &sent.carried {
                Carried::Frame(no) => acked.frames.push(*no),
                Carried::Symbol(members) => acked.symbols.push(members.clone()),
            }
            arrived += 1;
            self.sent.remove(&seq);
        }
        if arrived > 0 {
            self.meter.handle_arrived(now, arrived);
        }
        while let Some((&seq, &frame)) = self.lost.range(first..=last).next() {
            acked.revived.push(frame);
            self.lost.remove(&seq);
        }
    }

    /// Takes out what counts as lost by now. Gives what it carried.
    pub(super) fn take_lost(&mut self, now: Instant) -> Vec<Carried> {
        let mut lost = Vec::new();
        let loss_after = ms(self.config.loss_ms);
        let life = ms(self.config.frame_life_ms_max);
        let horizon = self
            .largest_acked
            .unwrap_or(0)
            .checked_sub(self.config.loss_packets.max(1));
        while let Some((&seq, sent)) = self.sent.first_key_value() {
            let beyond = horizon.is_some_and(|horizon| seq <= horizon);
            if !beyond && now.saturating_duration_since(sent.at) < life {
                break;
            }
            self.meter.handle_lost(now, seq);
            self.declare_lost(seq, &mut lost);
        }
        let mut overdue = Vec::new();
        for (seq, sent) in self.sent.range_mut(..self.largest_acked.unwrap_or(0)) {
            let overtaken_at = *sent.overtaken_at.get_or_insert(now);
            if now.saturating_duration_since(overtaken_at) >= loss_after {
                overdue.push(*seq);
            }
        }
        for seq in overdue {
            self.meter.handle_lost(now, seq);
            self.declare_lost(seq, &mut lost);
        }
        lost
    }

    fn declare_lost(&mut self, seq: u64, lost: &mut Vec<Carried>) {
        let Some(sent) = self.sent.remove(&seq) else {
            return;
        };
        if let Carried::Frame(frame) = sent.carried {
            self.lost.insert(seq, frame);
        }
        lost.push(sent.carried);
        if self.lost.len() > LOST_REMEMBERED_MAX {
            self.lost.pop_first();
        }
    }

    /// When [`InFlight::take_lost`] finds the next one lost by time.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let overtaken = self.sent.range(..self.largest_acked?);
        let first = overtaken.filter_map(|(_, sent)| sent.overtaken_at).min()?;
        Some(first + ms(self.config.loss_ms))
    }
}
