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
//! - The receiver of a track tells its sender to send it, from where on, or to stop ([`Hop::forward`]),
//!   so that a track moves to another upstream without a word of the agents. The other way, its sender
//!   tells how it is supplied itself ([`Hop::supply`]).
//! - Heartbeats are numbered in the same row as data. Each end counts what it did not get
//!   (arrivals.rs), and each knows by acknowledgements whether the other hears it (heartbeat.rs).
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

mod arrivals;
mod coding;
pub mod config;
pub mod controller;
pub mod error;
pub mod frame;
mod heartbeat;
mod inflight;
mod loss_meter;
pub mod policy;
mod queue;
mod receiver;
mod repair;
mod repair_budget;
mod rtt;
mod sender;
mod showing;
mod store;
mod window;
mod wire;

#[cfg(test)]
mod tests;

pub use config::HopConfig;
pub use controller::{HoldConfig, HoldController};
pub use error::{FrameError, HopError};
pub use frame::{
    CHUNK_BODY_BYTES, Chunk, DATAGRAM_BYTES_MAX, Frame, SubgroupKey, Supply, WAY_NODES_MAX, cut,
};
pub use policy::{HopPolicy, PolicyError, PolicyRow};
pub(crate) use showing::{Shown, Window};

pub use sender::{RESET_DELIVERY_TIMEOUT, RESET_TOO_FAR_BEHIND};

use crate::location::Location;
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
    /// The caller has heard that the peer is in doubt.
    doubt_told: bool,
    /// Of the last word about a track.
    turn: u64,
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
            doubt_told: false,
            turn: 0,
            stats: HopStats::default(),
        }
    }

    /// Counters of this end.
    pub fn stats(&self) -> HopStats {
        HopStats {
            queue_bytes: self.sender.queue_bytes(),
            unacked_bytes: self.sender.unacked_bytes(),
            rtt_us: self.rtt.measured().map_or(0, micros),
            ..self.stats
        }
    }

    /// Counters of this end, and what it has measured of the link.
    pub fn measured(&mut self, now: Instant) -> HopStats {
        let arrivals = self.receiver.arrivals();
        arrivals.judge(now);
        let loss = arrivals.total();
        let (tx_loss_ppm, tx_burst_milli) = self.sender.measured_loss(now);
        HopStats {
            tx_loss_ppm: u64::from(tx_loss_ppm),
            tx_burst_milli: u64::from(tx_burst_milli),
            rtt_latest_us: micros(self.rtt.latest()),
            rtt_min_us: self.rtt.measured().map_or(0, |_| micros(self.rtt.min())),
            rtt_variation_us: micros(self.rtt.variation()),
            rx_packets: loss.due,
            rx_lost: loss.lost,
            rx_bursts: loss.bursts,
            rx_spacing_us: self.heartbeats.spacing_us(),
            heard_us: micros(self.heartbeats.unheard(now)),
            is_silent: self.is_silent(),
            has_media: self.heartbeats.has_media(now),
            ..self.stats()
        }
    }

    /// Loss of the direction of the peer's datagrams as it shows.
    pub(crate) fn shown_loss(&self, now: Instant, window: Window) -> Shown {
        self.receiver.shown_loss(now, window)
    }

    /// Share of the peer's datagrams that never came, over the last ten seconds, millionths.
    pub(crate) fn lasting_loss_ppm(&mut self, now: Instant) -> u32 {
        let arrivals = self.receiver.arrivals();
        arrivals.judge(now);
        arrivals.lasting_loss_ppm(now)
    }

    /// How much of the smoothed round trip is above the least of the last ten seconds.
    pub(crate) fn rtt_rise(&self) -> Duration {
        self.rtt.smoothed().saturating_sub(self.rtt.min())
    }

    /// All round trips so far: bucket `ceil(log(rtt in µs, 1.02 / 0.98))`, count.
    pub fn rtt_sketch(&self) -> Vec<(u32, u64)> {
        self.rtt.sketch()
    }

    /// Smoothed round trip.
    pub fn rtt(&self) -> Duration {
        self.rtt.smoothed()
    }

    /// Numbered datagrams that were due from the peer within the last second, and those of them that
    /// never came.
    pub fn last_second(&mut self, now: Instant) -> (u64, u64) {
        let arrivals = self.receiver.arrivals();
        arrivals.judge(now);
        arrivals.last_second(now)
    }

    /// Whether the peer is mute or deaf.
    pub fn is_silent(&self) -> bool {
        self.heartbeats.is_silent()
    }

    /// How long nothing was heard from it, or an acknowledgement of it is overdue.
    pub fn silence(&self, now: Instant) -> Duration {
        self.heartbeats.silence(now, self.rtt.smoothed())
    }

    /// Whether something of a track is still to be delivered, or its delivery to be confirmed.
    pub fn owes(&self, alias: u64) -> bool {
        self.sender.owes(alias)
    }

    /// Whether a track is sent without a break: nothing of it was given up, nor will be soon.
    pub fn is_flowing(&self, now: Instant, alias: u64) -> bool {
        self.sender.is_flowing(now, alias)
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
            Datagram::Symbol(symbol) => {
                self.heartbeats.handle_media(now);
                self.receiver.handle_symbol(now, symbol, &mut self.stats);
                Ok(())
            }
            Datagram::Ack(ack) => {
                let (rtt, stats) = (&mut self.rtt, &mut self.stats);
                if let Some(sent) = self.sender.handle_ack(now, &ack, rtt, stats)? {
                    self.handle_acknowledged(now, sent);
                }
                Ok(())
            }
            Datagram::Heartbeat(heartbeat) => self.handle_heartbeat(now, heartbeat),
        }
    }

    fn handle_heartbeat(&mut self, now: Instant, heartbeat: Heartbeat) -> Result<(), HopError> {
        let echoed = self.heartbeats.handle_heartbeat(now, heartbeat)?;
        self.receiver.handle_heartbeat(now, heartbeat.seq);
        if let Some(echoed) = echoed {
            let (elapsed, held) = echoed.sample;
            self.rtt.sample(now, elapsed, held);
            self.handle_acknowledged(now, echoed.sent_at);
        }
        Ok(())
    }

    /// Something that was sent then is known to have arrived, by an acknowledgement of QUIC's.
    pub fn handle_acknowledged(&mut self, now: Instant, sent: Instant) {
        let within = self.rtt.timeout();
        let change = self.heartbeats.handle_acknowledged(now, sent, within);
        self.note(change);
    }

    /// Whether [`Hop::handle_acknowledged`] would make a difference now: QUIC need not be asked for
    /// its acknowledgements before.
    pub fn wants_acknowledged(&self, now: Instant) -> bool {
        self.heartbeats.wants_acknowledged(now, self.rtt.timeout())
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
        self.sender.send(now, frame, false, &mut self.stats)
    }

    /// Takes a frame that somebody stands and waits for: it leaves twice, unless the link is known to lose next
    /// to nothing, so that a loss costs no round trip.
    ///
    /// # Errors
    /// The frame cannot be on a hop; nothing was queued.
    pub fn send_awaited(&mut self, now: Instant, frame: Frame) -> Result<(), FrameError> {
        self.sender.send(now, frame, true, &mut self.stats)
    }

    /// Tells the peer to send what it has under this alias of its own, from a location on (`None`: as
    /// the subscription says), or to stop. An earlier word about the same alias is void.
    ///
    /// # Errors
    /// A value is beyond what a hop can carry; nothing was queued.
    pub fn forward(
        &mut self,
        now: Instant,
        alias: u64,
        on: bool,
        start: Option<Location>,
    ) -> Result<(), FrameError> {
        self.turn += 1;
        let turn = self.turn;
        self.send(
            now,
            Frame::Forward {
                alias,
                turn,
                on,
                start,
            },
        )
    }

    /// Tells the peer how a track that goes to it under this alias comes here. An earlier word is void.
    ///
    /// # Errors
    /// A value is beyond what a hop can carry; nothing was queued.
    pub fn supply(&mut self, now: Instant, alias: u64, supply: Supply) -> Result<(), FrameError> {
        self.turn += 1;
        let turn = self.turn;
        self.send(
            now,
            Frame::Supply {
                alias,
                turn,
                supply,
            },
        )
    }

    /// What to spend on losses from now on.
    pub fn set_policy(&mut self, policy: HopPolicy) {
        self.sender.set_policy(policy);
    }

    /// A track may begin to flow at any time: keep the short heartbeats, and notice silence in their
    /// time, without media.
    pub fn set_watched(&mut self, now: Instant, watched: bool) {
        self.heartbeats.set_watched(now, watched);
    }

    /// The peer was asked for something: whether it is there at all is to show soon, as if media flowed
    /// for a moment.
    pub fn expect_answer(&mut self, now: Instant) {
        self.heartbeats.expect_answer(now);
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
            self.heartbeats.handle_sent(now);
            return Some(wire::encode_ack(&ack));
        }
        let wanted_gap = || self.receiver.arrivals().wanted_gap(now);
        let seq = || self.sender.take_seq();
        if let Some(heartbeat) = self.heartbeats.poll_heartbeat(now, wanted_gap, seq) {
            self.stats.heartbeats_sent += 1;
            self.heartbeats.handle_number_sent(now);
            return Some(wire::encode_heartbeat(&heartbeat));
        }
        let data = self.sender.poll_data(now, &self.rtt, &mut self.stats)?;
        self.heartbeats.handle_data_sent(now);
        Some(data)
    }

    /// The next received frame, in order of arrival; each is delivered once, unless it is so old that
    /// it was forgotten.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.receiver.poll_frame()
    }

    /// Whether the peer is in doubt, if that has changed since the last call: nothing was heard from it for
    /// so long that it may be about to become silent, or there was nothing to it. To be called before [`Hop::poll_event`].
    pub fn poll_doubt(&mut self) -> Option<bool> {
        let in_doubt = self.heartbeats.is_in_doubt();
        let before = std::mem::replace(&mut self.doubt_told, in_doubt);
        (before != in_doubt).then_some(in_doubt)
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
