//! Datagrams whose fate is not known, and how their loss is noticed.
//!
//! As in RFC 9002 §6.1, a datagram is lost when one sent [`HopConfig::loss_packets`] later was
//! acknowledged, or when any later one was acknowledged [`HopConfig::loss_ms`] ago. Both thresholds
//! are tighter than QUIC's: a needless repair costs one datagram, a late one a round trip of somebody's
//! picture. Loss of the last datagrams shows in nothing that follows; the sender's own timer
//! (sender.rs) makes something follow.

use super::config::{HopConfig, ms};
use super::error::HopError;
use super::store::FrameNo;
use super::wire::Ack;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Lost datagrams remembered, to recognise an acknowledgement that comes late.
const LOST_REMEMBERED_MAX: usize = 4_096;

/// One datagram.
#[derive(Clone, Copy, Debug)]
struct Sent {
    frame: FrameNo,
    at: Instant,
    /// When a later datagram was first acknowledged.
    overtaken_at: Option<Instant>,
}

/// What an acknowledgement told.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// Frames that arrived.
    pub frames: Vec<FrameNo>,
    /// How many of their datagrams had been declared lost.
    pub spurious: u64,
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
}

impl InFlight {
    pub(super) fn new(config: HopConfig) -> InFlight {
        InFlight {
            config,
            next_seq: 0,
            sent: BTreeMap::new(),
            lost: BTreeMap::new(),
            largest_acked: None,
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

    /// A datagram with this frame leaves now. Gives its sequence number.
    pub(super) fn record(&mut self, now: Instant, frame: FrameNo) -> u64 {
        let seq = self.take_seq();
        self.sent.insert(
            seq,
            Sent {
                frame,
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

    /// The frame of the oldest datagram.
    pub(super) fn oldest(&self) -> Option<FrameNo> {
        self.sent.first_key_value().map(|(_, sent)| sent.frame)
    }

    /// Declares the oldest datagram lost. Gives its frame.
    pub(super) fn evict(&mut self) -> Vec<FrameNo> {
        let mut lost = Vec::new();
        if let Some((&seq, _)) = self.sent.first_key_value() {
            self.declare_lost(seq, &mut lost);
        }
        lost
    }

    /// Frames in flight, oldest datagram first; may name a frame several times.
    pub(super) fn frames(&self) -> impl Iterator<Item = FrameNo> + '_ {
        self.sent.values().map(|sent| sent.frame)
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
            self.take_range(first, last, &mut acked);
        }
        Ok(acked)
    }

    fn take_range(&mut self, first: u64, last: u64, acked: &mut Acked) {
        while let Some((&seq, sent)) = self.sent.range(first..=last).next() {
            acked.frames.push(sent.frame);
            acked.sent_at = acked.sent_at.max(Some(sent.at));
            self.sent.remove(&seq);
        }
        while let Some((&seq, &frame)) = self.lost.range(first..=last).next() {
            acked.frames.push(frame);
            acked.spurious += 1;
            self.lost.remove(&seq);
        }
    }

    /// Takes out what counts as lost by now. Gives the frames.
    pub(super) fn take_lost(&mut self, now: Instant) -> Vec<FrameNo> {
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
            self.declare_lost(seq, &mut lost);
        }
        let mut overdue = Vec::new();
        for (seq, sent) in self.sent.range_mut(..self.largest_acked.unwrap_or(0)) {
            let overtaken_at = *sent.overtaken_at.get_or_insert(now);
            if now.saturating_duration_since(overtaken_at) >= loss_after {
                overdue.push(*seq);
            }
        }
        overdue
            .into_iter()
            .for_each(|seq| self.declare_lost(seq, &mut lost));
        lost
    }

    fn declare_lost(&mut self, seq: u64, lost: &mut Vec<FrameNo>) {
        let Some(sent) = self.sent.remove(&seq) else {
            return;
        };
        lost.push(sent.frame);
        self.lost.insert(seq, sent.frame);
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
