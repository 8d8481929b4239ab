//! How much QUIC may hold for a viewer, and who may go beyond it.
//!
//! QUIC takes no more than what leaves soon, because what it has taken cannot be shed
//! ([`crate::congestion::send_window`]). Its own scheduler is strict in priorities, but only among what it has:
//! once pictures have filled the window, sound waits in the store for them to leave, and when the rate has just
//! fallen, so that more is held than the window is now, for a long time. So whoever is more urgent than those who
//! filled the window may go some way beyond the largest window of the last second.
//!
//! Control waits for no media at all. It is small, and a whole track hangs on it: media whose SUBSCRIBE_OK is not
//! there cannot be read. (Streams that QUIC has turned away are told of room last in, first out, so that one that
//! speaks once can wait for many seconds beside those that try again and again.)
//!
//! In the dark, where nothing is acknowledged, only those and control get anything: every packet more puts off the
//! probes of QUIC, and what fills the congestion window in vain keeps out what is to go first when the signal is back.

use noq_proto::Connection;
use std::time::{Duration, Instant};

/// Bytes for those more urgent than who filled the window: sound of a few seconds, no picture.
const URGENT_BYTES: u64 = 16 << 10;
/// With control QUIC holds so much more than its largest window and what is urgent; more control waits.
const CONTROL_BYTES: u64 = 64 << 10;
/// For so long a larger window from before counts: by then what it let in has left.
const PEAK_LIFE: Duration = Duration::from_secs(1);

/// The bounds of one connection.
#[derive(Debug, Default)]
pub(crate) struct SendRoom {
    window: u64,
    /// The largest that a window may be.
    most: u64,
    peak: u64,
    peak_at: Option<Instant>,
    /// The least urgent subscriber priority that found the window full.
    crowded_by: Option<u8>,
    /// Acknowledgements that had come when the peer was found to be in the dark.
    unheard: Option<u64>,
    /// When it came out of it.
    back_at: Option<Instant>,
}

impl SendRoom {
    /// The window is this from now on, of `most` at most, unless the peer is in the dark. Whether it has just
    /// come out of it.
    pub(crate) fn set(
        &mut self,
        now: Instant,
        quic: &mut Connection,
        window: u64,
        most: u64,
    ) -> bool {
        self.most = most;
        if self.unheard.is_some_and(|before| before == acks(quic)) {
            return false;
        }
        let is_back = self.unheard.take().is_some();
        if is_back {
            self.back_at = Some(now);
        }
        self.window = window;
        let is_old = self
            .peak_at
            .is_none_or(|at| now.saturating_duration_since(at) > PEAK_LIFE);
        if window >= self.peak || is_old {
            (self.peak, self.peak_at) = (window, Some(now));
        }
        quic.set_send_window(window);
        is_back
    }

    /// When the peer has come out of the dark, if that is no longer ago than this.
    pub(crate) fn just_back(&self, now: Instant, within: Duration) -> Option<Instant> {
        self.back_at
            .filter(|at| now.saturating_duration_since(*at) < within)
    }

    /// Nothing is heard of the peer: no more for it until something is.
    pub(crate) fn hold(&mut self, quic: &mut Connection) {
        self.unheard = Some(acks(quic));
        quic.set_send_window(0);
    }

    /// A subscription is about to write; whether it may go beyond the window. `close` follows.
    pub(crate) fn open(&self, quic: &mut Connection, subscriber_priority: u8) -> bool {
        let is_urgent =
            self.window > 0 && self.crowded_by.is_some_and(|by| subscriber_priority < by);
        if is_urgent {
            quic.set_send_window(self.peak + URGENT_BYTES);
        }
        is_urgent
    }

    /// Control is about to be written; whether it needs more than QUIC's own window. `close` follows.
    pub(crate) fn open_for_control(&self, quic: &mut Connection) -> bool {
        let is_bounded = self.window > 0;
        if is_bounded {
            quic.set_send_window(self.most + URGENT_BYTES + CONTROL_BYTES);
        }
        is_bounded
    }

    /// It has written; `is_open` as `open` or `open_for_control` said.
    pub(crate) fn close(&self, quic: &mut Connection, is_open: bool) {
        if is_open {
            let is_held = self.unheard.is_some();
            quic.set_send_window(if is_held { 0 } else { self.window });
        }
    }

    /// A subscription found the window full.
    pub(crate) fn note_blocked(&mut self, subscriber_priority: u8) {
        self.crowded_by = self.crowded_by.max(Some(subscriber_priority));
    }

    /// Nobody is blocked any more.
    pub(crate) fn note_free(&mut self) {
        self.crowded_by = None;
    }
}

/// Acknowledgements that have come over a connection, however many paths it has.
pub(crate) fn acks(quic: &mut Connection) -> u64 {
    let frames = quic.stats().frame_rx;
    frames.acks + frames.path_acks
}
