//! The recovery layer of a hop: media between two edges, over QUIC datagrams.
//!
//! QUIC streams repair by QUIC's own rules: one copy, when QUIC notices, in order. On the long lossy
//! links between edges that is too late too often, and a stream cannot send a copy twice, skip what is
//! too old, or use two paths. So media crosses a hop as [`Chunk`]s in datagrams, and this layer
//! decides what is repaired, when, and what is given up. QUIC still encrypts, paces and limits every
//! byte. One [`Hop`] sits on each end of a connection; both send and receive.
//!
//! # The parts
//!
//! ```text
//!   send ─► store + queue (priority) ─► inflight (numbers) ─► wire ─► poll_datagram
//!                 ▲          repair ◄─ lost ◄─┘   ▲ acknowledged
//!   poll_frame ◄─ receiver (dedup) ◄─ wire ◄─ handle_datagram ─► heartbeat (life, RTT)
//!                     └─► acknowledgements ─► poll_datagram
//! ```
//!
//! - Every data datagram has a sequence number of its own, repairs too; acknowledgements name ranges of
//!   those. So an acknowledgement always says which copy arrived, RTT samples are never ambiguous and
//!   loss is counted exactly. A frame is known by the number it was first sent with; a repair carries
//!   that too, and the receiver delivers a frame once.
//! - Loss shows by later datagrams that were acknowledged (inflight.rs), or by the sender's own timer
//!   when nothing followed (sender.rs). No feedback is needed to go on: an acknowledgement repeats all
//!   recent ranges, so the next one makes up for a lost one, and the timer asks for it.
//! - What to send for a loss is a policy of its own (repair.rs).
//! - What cannot be delivered is given up by subgroup with a reset that is itself reliable.
//!
//! # Rules of use
//!
//! After any `handle_*` or command: take frames until [`Hop::poll_frame`] is `None`, datagrams until
//! [`Hop::poll_datagram`] is `None` or QUIC has no room, and events; then sleep until
//! [`Hop::poll_timeout`]. Feed what has arrived before calling [`Hop::handle_timeout`], or a late wake-up
//! looks like a silent peer. Keep QUIC's own datagram queue short (16 KiB): what is in it cannot be
//! reordered, repaired or cancelled, and control streams wait behind it.
//!
//! Sources: RFC 9000 §13.2 and §19.3 (acknowledgements), RFC 9002 §5–6 (RTT, loss, probe timeout).

pub mod config;
pub mod controller;
pub mod error;
pub mod frame;
mod heartbeat;
mod inflight;
mod queue;
mod receiver;
mod repair;
mod rtt;
mod sender;
mod store;
mod window;
mod wire;

#[cfg(test)]
mod tests;

pub use config::HopConfig;
pub use controller::{HoldConfig, HoldController};
pub use error::{FrameError, HopError};
pub use frame::{CHUNK_BODY_BYTES, Chunk, DATAGRAM_BYTES_MAX, Frame, SubgroupKey, cut};
pub use sender::{RESET_DELIVERY_TIMEOUT, RESET_TOO_FAR_BEHIND};

use crate::stats::HopStats;
use bytes::Bytes;
use heartbeat::{Heartbeats, Liveness};
use receiver::Receiver;
use rtt::Rtt;
use sender::Sender;
use std::time::{Duration, Instant};
use wire::{Datagram, Heartbeat};

/// What the caller should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HopEvent {
    /// Nothing was heard from the peer for too long.
    PeerSilent,
    /// The peer is heard again.
    PeerHeard,
    /// A subgroup was given up. The receiver is told by the hop itself; frames of it that the caller
    /// still offers are refused until [`Hop::cancel`] names it.
    Shed {
        /// Track alias.
        alias: u64,
        /// Group id.
        group: u64,
        /// Subgroup id.
        subgroup: u64,
    },
}

/// One end of a hop's recovery layer.
#[derive(Debug)]
pub struct Hop {
    sender: Sender,
    receiver: Receiver,
    heartbeats: Heartbeats,
    rtt: Rtt,
    /// Whether the caller has yet to hear that the peer became silent or is heard again.
    liveness: Option<Liveness>,
    stats: HopStats,
}

impl Hop {
    /// A hop whose connection is established now.
    pub fn new(config: HopConfig, now: Instant) -> Hop {
        Hop {
            sender: Sender::new(config, now),
            receiver: Receiver::new(config),
            heartbeats: Heartbeats::new(config, now),
            rtt: Rtt::new(config::ms(config.initial_rtt_ms)),
            liveness: None,
            stats: HopStats::default(),
        }
    }

    /// Counters of this end.
    pub fn stats(&self) -> HopStats {
        HopStats {
            queue_bytes: self.sender.queue_bytes(),
            unacked_bytes: self.sender.unacked_bytes(),
            rtt_us: u64::try_from(self.rtt.smoothed().as_micros()).unwrap_or(u64::MAX),
            ..self.stats
        }
    }

    /// Whether something of a track is still to be delivered, or its delivery to be confirmed.
    pub fn owes(&self, alias: u64) -> bool {
        self.sender.owes(alias)
    }

    /// A QUIC datagram came from the peer.
    ///
    /// # Errors
    /// The peer is at fault; the datagram was dropped and counted. The caller may go on, or close the
    /// connection with [`HopError::close_code`].
    pub fn handle_datagram(&mut self, now: Instant, data: Bytes) -> Result<(), HopError> {
        self.handle_heard(now);
        let result = wire::decode(data).and_then(|datagram| self.handle_decoded(now, datagram));
        self.stats.datagrams_malformed += u64::from(result.is_err());
        result
    }

    fn handle_decoded(&mut self, now: Instant, datagram: Datagram) -> Result<(), HopError> {
        match datagram {
            Datagram::Data(data) => {
                self.heartbeats.handle_media(now);
                self.receiver.handle_data(now, data, &mut self.stats);
                Ok(())
            }
            Datagram::Ack(ack) => self
                .sender
                .handle_ack(now, &ack, &mut self.rtt, &mut self.stats),
            Datagram::Heartbeat(heartbeat) => self.handle_heartbeat(now, heartbeat),
        }
    }

    fn handle_heartbeat(&mut self, now: Instant, heartbeat: Heartbeat) -> Result<(), HopError> {
        if let Some((elapsed, held)) = self.heartbeats.handle_heartbeat(now, heartbeat)? {
            self.rtt.sample(elapsed, held);
        }
        Ok(())
    }

    /// Any other authenticated packet came from the peer on this connection.
    pub fn handle_heard(&mut self, now: Instant) {
        let change = self.heartbeats.handle_heard(now);
        self.note(change);
    }

    /// The time given by [`Hop::poll_timeout`] has come (calling it earlier does no harm).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.receiver.handle_timeout(now);
        self.sender.handle_timeout(now, &self.rtt, &mut self.stats);
        let change = self.heartbeats.handle_timeout(now, self.rtt.timeout());
        self.note(change);
    }

    /// Silence and its end, if the caller has heard of neither, cancel out.
    fn note(&mut self, change: Option<Liveness>) {
        self.liveness = match (self.liveness, change) {
            (Some(_), Some(_)) => None,
            (before, change) => before.or(change),
        };
    }

    /// What QUIC measured; used until the hop has measured for itself.
    pub fn set_rtt(&mut self, smoothed: Duration, min: Duration) {
        self.rtt.set_from_quic(smoothed, min);
    }

    /// Takes a frame to be delivered. A reset replaces all that is still owed of its subgroup.
    ///
    /// # Errors
    /// The frame cannot be on a hop; nothing was queued.
    pub fn send(&mut self, now: Instant, frame: Frame) -> Result<(), FrameError> {
        self.sender.send(now, frame, &mut self.stats)
    }

    /// Forgets what is queued or unacknowledged of a track, of a group, or of a subgroup, without
    /// telling the receiver.
    pub fn cancel(&mut self, alias: u64, group: Option<u64>, subgroup: Option<u64>) {
        self.sender.cancel(alias, group, subgroup);
    }

    /// The next datagram, at most [`DATAGRAM_BYTES_MAX`] bytes: acknowledgement, heartbeat, repairs,
    /// then new frames. It counts as sent: ask only while QUIC takes it.
    pub fn poll_datagram(&mut self, now: Instant) -> Option<Bytes> {
        if let Some(ack) = self.receiver.poll_ack(now) {
            self.stats.acks_sent += 1;
            return Some(wire::encode_ack(&ack));
        }
        if let Some(heartbeat) = self.heartbeats.poll_heartbeat(now) {
            self.stats.heartbeats_sent += 1;
            return Some(wire::encode_heartbeat(&heartbeat));
        }
        let data = self.sender.poll_data(now, &self.rtt, &mut self.stats)?;
        self.heartbeats.handle_media(now);
        Some(data)
    }

    /// The next received frame, in order of arrival; each is delivered once, unless it is so old that
    /// it was forgotten.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.receiver.poll_frame()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<HopEvent> {
        match self.liveness.take() {
            Some(Liveness::Silent) => return Some(HopEvent::PeerSilent),
            Some(Liveness::Heard) => return Some(HopEvent::PeerHeard),
            None => {}
        }
        let SubgroupKey {
            alias,
            group,
            subgroup,
        } = self.sender.poll_given_up()?;
        Some(HopEvent::Shed {
            alias,
            group,
            subgroup,
        })
    }

    /// When [`Hop::handle_timeout`] wants to be called next. Due acknowledgements, heartbeats and
    /// frames that only wait for room are not in it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = [
            self.receiver.poll_timeout(),
            self.heartbeats.poll_timeout(self.rtt.timeout()),
            self.sender.poll_timeout(&self.rtt),
        ];
        timers.into_iter().flatten().min()
    }
}
