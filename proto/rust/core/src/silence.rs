//! Whether an outgoing public session still hears its server.
//!
//! QUIC's idle timeout is no answer to that: both ends take the smaller one, and what it ends is gone
//! with everything in flight, although the path may be back a moment later. So a client is only told,
//! and decides for itself whether to open another session beside this one. Any authenticated frame is a
//! sign of life; where no media flows, keep-alives ask for one.

use crate::conn::{Conn, Ctx, Mode};
use crate::event::Event;
use noq_proto::{FrameStats, PathId};
use std::time::{Duration, Instant};

/// Round trips that the answer to a keep-alive may take: one is lost and sent once more.
const ROUND_TRIPS: u32 = 2;

/// What one session has heard.
#[derive(Debug)]
pub(crate) struct Silence {
    /// Frames of any kind that QUIC had received when it was looked at last.
    received: FrameStats,
    heard_at: Instant,
    is_silent: bool,
}

impl Silence {
    pub(crate) fn new(now: Instant) -> Silence {
        Silence {
            received: FrameStats::default(),
            heard_at: now,
            is_silent: false,
        }
    }
}

/// Something may have arrived.
pub(crate) fn note_heard(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    if !is_watched(conn, ctx.limits.silence_ms) {
        return;
    }
    let Some(path) = conn.quic.path_stats(PathId::ZERO) else {
        return;
    };
    if conn.silence.received == path.frame_rx {
        return;
    }
    conn.silence.received = path.frame_rx;
    conn.silence.heard_at = now;
    if std::mem::take(&mut conn.silence.is_silent) {
        let session = conn.session;
        ctx.emit(Event::SessionSilent {
            session,
            silent: false,
        });
    }
}

/// Report a session whose time is over, once.
pub(crate) fn on_timeout(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    if deadline(conn, ctx.limits.silence_ms, ctx.limits.keep_alive_ms).is_some_and(|at| at <= now) {
        conn.silence.is_silent = true;
        let session = conn.session;
        ctx.emit(Event::SessionSilent {
            session,
            silent: true,
        });
    }
}

/// When the session will have been silent for too long; `None` once that was reported.
pub(crate) fn deadline(conn: &Conn, silence_ms: u32, keep_alive_ms: u32) -> Option<Instant> {
    if !is_watched(conn, silence_ms) || conn.silence.is_silent {
        return None;
    }
    let rtt = conn.quic.rtt(PathId::ZERO).unwrap_or_default();
    let answer = Duration::from_millis(u64::from(keep_alive_ms)) + rtt * ROUND_TRIPS;
    let limit = Duration::from_millis(u64::from(silence_ms)).max(answer);
    Some(conn.silence.heard_at + limit)
}

fn is_watched(conn: &Conn, silence_ms: u32) -> bool {
    silence_ms > 0 && !conn.incoming && conn.is_open() && !matches!(conn.mode, Mode::Hop(_))
}
