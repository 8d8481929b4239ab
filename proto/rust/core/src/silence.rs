//! Whether an outgoing public session still hears its server.
//!
//! QUIC's idle timeout is no answer to that: both ends take the smaller one, and what it ends is gone
//! with everything in flight, although the path may be back a moment later. So a client is only told,
//! and decides for itself whether to open another session beside this one. Any authenticated frame is a
//! sign of life. Where no media flows, keep-alives ask for one, and unlike QUIC's own probes they do not
//! become rarer: one lost packet must not look like a dead server, and a path that is mended is to show.

use crate::config::Limits;
use crate::conn::{Conn, Ctx, Mode};
use crate::event::Event;
use noq_proto::{FrameStats, PathId};
use std::time::{Duration, Instant};

/// Round trips that the answer to a keep-alive may take: one is lost and sent once more.
const ROUND_TRIPS: u32 = 2;

/// Keep-alives are never more frequent.
const KEEP_ALIVE_MS_MIN: u32 = 10;

/// What one session has heard.
#[derive(Debug)]
pub(crate) struct Silence {
    /// Frames of any kind that QUIC had received when it was looked at last.
    received: FrameStats,
    heard_at: Instant,
    asked_at: Instant,
    is_silent: bool,
}

impl Silence {
    pub(crate) fn new(now: Instant) -> Silence {
        Silence {
            received: FrameStats::default(),
            heard_at: now,
            asked_at: now,
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

/// Ask for a sign of life, and report a session whose time is over, once.
pub(crate) fn on_timeout(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    if !is_watched(conn, ctx.limits.silence_ms) {
        return;
    }
    if asks_at(conn, &ctx.limits) <= now {
        conn.silence.asked_at = now;
        conn.quic.ping();
    }
    if !conn.silence.is_silent && silent_at(conn, &ctx.limits) <= now {
        conn.silence.is_silent = true;
        let session = conn.session;
        ctx.emit(Event::SessionSilent {
            session,
            silent: true,
        });
    }
}

/// When `on_timeout` has something to do.
pub(crate) fn deadline(conn: &Conn, limits: &Limits) -> Option<Instant> {
    let reports_at = (!conn.silence.is_silent).then(|| silent_at(conn, limits));
    is_watched(conn, limits.silence_ms)
        .then(|| reports_at.map_or(asks_at(conn, limits), |at| at.min(asks_at(conn, limits))))
}

/// QUIC itself asks once, a keep-alive interval after it heard something; the next ones are ours.
fn asks_at(conn: &Conn, limits: &Limits) -> Instant {
    let interval = Duration::from_millis(u64::from(limits.keep_alive_ms.max(KEEP_ALIVE_MS_MIN)));
    (conn.silence.heard_at + interval).max(conn.silence.asked_at) + interval
}

fn silent_at(conn: &Conn, limits: &Limits) -> Instant {
    let rtt = conn.quic.rtt(PathId::ZERO).unwrap_or_default();
    let answer = Duration::from_millis(u64::from(limits.keep_alive_ms)) + rtt * ROUND_TRIPS;
    conn.silence.heard_at + Duration::from_millis(u64::from(limits.silence_ms)).max(answer)
}

/// Whether this is a client's session whose engine wants to know how it fares.
pub(crate) fn is_watched(conn: &Conn, silence_ms: u32) -> bool {
    silence_ms > 0 && !conn.incoming && conn.is_open() && !matches!(conn.mode, Mode::Hop(_))
}
