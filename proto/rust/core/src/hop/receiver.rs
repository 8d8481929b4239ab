//! The receiving half: deduplication, and acknowledgements soon enough that repairs are quick.
//!
//! An acknowledgement is due after [`HopConfig::ack_every`] data datagrams, or
//! [`HopConfig::ack_delay_ms_max`] after the first that none covered; and at once when a datagram is
//! missing, out of order, or the repair of a frame that had arrived (its sender does not know).

use super::arrivals::Arrivals;
use super::coding::Decoder;
use super::config::{HopConfig, ms};
use super::frame::Frame;
use super::showing::{Showing, Shown, Window};
use super::window::{Seen, SeqWindow};
use super::wire::{ACK_RANGES_MAX, Ack, Data, Symbol};
use crate::stats::HopStats;
use std::collections::VecDeque;
use std::time::Instant;

/// The receiving half of a hop.
#[derive(Debug)]
pub(super) struct Receiver {
    config: HopConfig,
    /// Sequence numbers of datagrams, to be acknowledged.
    seqs: SeqWindow,
    /// First sequence numbers of frames, to tell a repair from news.
    ids: SeqWindow,
    /// Which numbers came, for telemetry and bounds.
    arrivals: Arrivals,
    showing: Showing,
    decoder: Decoder,
    frames: VecDeque<Frame>,
    frames_bytes: u64,
    largest_at: Option<Instant>,
    unacknowledged: u32,
    ack_at: Option<Instant>,
    ack_due: bool,
}

impl Receiver {
    pub(super) fn new(config: HopConfig) -> Receiver {
        Receiver {
            config,
            seqs: SeqWindow::new(config.gaps_max),
            ids: SeqWindow::new(config.gaps_max),
            arrivals: Arrivals::new(&config),
            showing: Showing::default(),
            decoder: Decoder::new(config.coded_bytes_max),
            frames: VecDeque::new(),
            frames_bytes: 0,
            largest_at: None,
            unacknowledged: 0,
            ack_at: None,
            ack_due: false,
        }
    }

    /// A frame arrived. It is not acknowledged if there is no room for it: QUIC has delivered it, but
    /// only an acknowledgement of ours stops the sender's repairs.
    pub(super) fn handle_data(&mut self, now: Instant, data: Data, stats: &mut HopStats) {
        self.handle_number(now, data.seq);
        if self.frames_bytes >= self.config.received_bytes_max {
            stats.datagrams_refused += 1;
            return;
        }
        let (in_order, is_new) = self.note_seq(now, data.seq);
        let news = is_new && self.is_news(data.id);
        if data.id != data.seq || !in_order {
            let restored = self.decoder.handle_frame(data.id, &data.frame);
            self.take_restored(restored, stats);
        }
        self.schedule_ack(now, in_order && news);
        if news {
            stats.chunks_received += 1;
            self.frames_bytes += data.frame.cost_bytes();
            self.frames.push_back(data.frame);
        } else {
            stats.chunks_duplicate += 1;
        }
    }

    /// A repair symbol arrived. What it restores is acknowledged under its first number, as if that had come.
    pub(super) fn handle_symbol(&mut self, now: Instant, symbol: Symbol, stats: &mut HopStats) {
        self.handle_number(now, symbol.seq);
        stats.symbols_received += 1;
        if self.frames_bytes >= self.config.received_bytes_max {
            stats.datagrams_refused += 1;
            return;
        }
        let (in_order, is_new) = self.note_seq(now, symbol.seq);
        self.ids.insert(symbol.seq);
        self.schedule_ack(now, in_order && is_new);
        let restored = self.decoder.handle_symbol(symbol);
        self.take_restored(restored, stats);
    }

    fn take_restored(&mut self, restored: Vec<(u64, Frame)>, stats: &mut HopStats) {
        for (id, frame) in restored {
            self.seqs.insert(id);
            self.ack_due = true;
            if self.is_news(id) {
                stats.chunks_received += 1;
                stats.chunks_restored += 1;
                self.frames_bytes += frame.cost_bytes();
                self.frames.push_back(frame);
            }
        }
    }

    /// A heartbeat's number. It needs no acknowledgement, but what is missing before it does.
    pub(super) fn handle_heartbeat(&mut self, now: Instant, seq: u64) {
        self.handle_number(now, seq);
        let ahead = self.seqs.largest().is_some_and(|largest| seq > largest);
        let (in_order, _) = self.note_seq(now, seq);
        self.ack_due |= ahead && !in_order;
        self.ids.insert(seq);
    }

    /// Whether a number is the next one, and whether it is new.
    fn note_seq(&mut self, now: Instant, seq: u64) -> (bool, bool) {
        let expected = self.seqs.largest().map_or(0, |largest| largest + 1);
        if seq >= expected {
            self.largest_at = Some(now);
        }
        (seq == expected, self.seqs.insert(seq) != Seen::Before)
    }

    fn handle_number(&mut self, now: Instant, seq: u64) {
        self.arrivals.handle_number(now, seq);
        self.showing.handle_number(now, seq);
    }

    pub(super) fn shown_loss(&self, now: Instant, window: Window) -> Shown {
        self.showing.shown(now, window)
    }

    pub(super) fn arrivals(&mut self) -> &mut Arrivals {
        &mut self.arrivals
    }

    /// A frame so old that it was forgotten is delivered: better twice than never, and the caller
    /// keeps byte intervals.
    fn is_news(&mut self, id: u64) -> bool {
        self.ids.insert(id) != Seen::Before
    }

    fn schedule_ack(&mut self, now: Instant, ordinary: bool) {
        self.unacknowledged += 1;
        self.ack_due |= !ordinary || self.unacknowledged >= self.config.ack_every;
        self.ack_at
            .get_or_insert(now + ms(self.config.ack_delay_ms_max));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.ack_due |= self.ack_at.is_some_and(|at| at <= now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.ack_due { None } else { self.ack_at }
    }

    /// The acknowledgement, if one is due.
    pub(super) fn poll_ack(&mut self, now: Instant) -> Option<Ack> {
        self.handle_timeout(now);
        if !self.ack_due {
            return None;
        }
        self.ack_due = false;
        self.ack_at = None;
        self.unacknowledged = 0;
        let largest_at = self.largest_at?;
        let delay = now.saturating_duration_since(largest_at);
        Some(Ack {
            delay_us: u64::try_from(delay.as_micros()).unwrap_or(0),
            ranges: self.seqs.descending().take(ACK_RANGES_MAX).collect(),
        })
    }

    pub(super) fn poll_frame(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.frames_bytes -= frame.cost_bytes();
        Some(frame)
    }
}
