//! Carrying out that a track takes another upstream: what is told to whom, and what is noted (upstreams.rs).
//!
//! When and where to is decided by reroute.rs. Here are the two kinds of switch, at once and make before
//! break, and what has to be asked of an upstream before it can be one.

use crate::command::{SessionId, TrackId};
use crate::conn::HopLink;
use crate::datapath::Datapath;
use crate::event::{Event, SwitchCause};
use crate::location::Location;
use crate::second_path;
use crate::supply;
use crate::upstreams::{Move, Source, Upstreams};
use std::time::{Duration, Instant};

/// At once to another upstream.
pub(crate) fn switch(
    datapath: &mut Datapath,
    now: Instant,
    track: TrackId,
    to: Source,
    cause: SwitchCause,
) {
    let start = resume_location(datapath, now, track);
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    let (failed, moving) = (upstreams.failed, upstreams.moving.take());
    let before = upstreams.activate(to);
    upstreams.by_hop = true;
    upstreams.expect(to);
    let from = before.or(failed.map(|failed| failed.from));
    let sends = second_path::take_over(datapath, track, to);
    let was_asked = moving.is_some_and(|moving| moving.to == to);
    if let Some(moving) = moving.filter(|moving| moving.to != to) {
        stop(datapath, now, track, moving.to);
    }
    if !sends && !was_asked {
        forward(datapath, now, to, true, start);
    }
    let silent = match (before, failed) {
        (_, Some(failed)) => failed.noticed.saturating_duration_since(failed.since),
        (Some(before), None) => silence(datapath, now, before),
        (None, None) => Duration::ZERO,
    };
    if let Some(before) = before {
        forward(datapath, now, before, false, None);
    }
    settle(datapath, now, track, before, to);
    report(datapath, track, from, to, cause, silent);
}

/// Both send from now on, until the other one delivers; or, if it is tentative, until the active one is
/// silent or heard again.
pub(crate) fn begin_move(
    datapath: &mut Datapath,
    now: Instant,
    track: TrackId,
    (to, tentative): (Source, bool),
    cause: SwitchCause,
) {
    let start = resume_location(datapath, now, track);
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    if let Some(moving) = &mut upstreams.moving
        && moving.to == to
    {
        if moving.tentative && !tentative {
            (moving.tentative, moving.cause) = (false, cause);
            complete_move(datapath, now, track);
        }
        return;
    }
    let sends = upstreams.is_second(to);
    let before = upstreams.moving.replace(Move {
        to,
        start,
        cause,
        delivered: false,
        tentative,
    });
    if let Some(before) = before {
        stop(datapath, now, track, before.to);
    }
    if !sends {
        forward(datapath, now, to, true, start);
    }
}

/// Both send, and the other one has delivered: it is the active one from now on, unless it says that it brings
/// nothing, for what it delivered may be out of its cache.
pub(crate) fn complete_move(datapath: &mut Datapath, now: Instant, track: TrackId) {
    let is_done = |moving: &Move| moving.delivered && !moving.tentative;
    let moving = upstreams(datapath, track).and_then(|upstreams| upstreams.moving);
    let Some(moving) = moving.filter(is_done) else {
        return;
    };
    if !can_feed(datapath, track, moving.to) {
        return;
    }
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    upstreams.moving = None;
    let before = upstreams.activate(moving.to);
    upstreams.by_hop = true;
    if upstreams.is_second(moving.to) && !second_path::take_over(datapath, track, moving.to) {
        let start = resume_location(datapath, now, track);
        forward(datapath, now, moving.to, true, start);
    }
    settle(datapath, now, track, before, moving.to);
    let silent = Duration::ZERO;
    report(datapath, track, before, moving.to, moving.cause, silent);
    let is_planned = moving.cause == SwitchCause::Command;
    if let Some(before) = before
        && !(is_planned && second_path::overlap(datapath, now, track, before))
    {
        forward(datapath, now, before, false, None);
    }
    supply::tell(datapath, now, track);
}

/// A move leads nowhere: the other one stays a standby.
pub(crate) fn end_move_to(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    if let Some(upstreams) = upstreams(datapath, track)
        && upstreams.moving.is_some_and(|moving| moving.to == source)
    {
        upstreams.moving = None;
        stop(datapath, now, track, source);
    }
}

/// Tell the one that a move led to that it is not wanted, unless it sends as the second path.
pub(crate) fn stop(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    if !upstreams(datapath, track).is_some_and(|u| u.is_second(source)) {
        forward(datapath, now, source, false, None);
    }
}

/// After a change: the bindings say who is active and who stands by.
fn settle(
    datapath: &mut Datapath,
    now: Instant,
    track: TrackId,
    before: Option<Source>,
    to: Source,
) {
    set_standby(datapath, now, to, false);
    if let Some(before) = before {
        stand_by_last(datapath, now, track, before);
    }
    second_path::watch(datapath, track);
}

fn report(
    datapath: &mut Datapath,
    track: TrackId,
    from: Option<Source>,
    to: Source,
    cause: SwitchCause,
    silent: Duration,
) {
    let from = from.unwrap_or(to);
    datapath.ctx.emit(Event::UpstreamSwitched {
        track,
        from_session: from.session,
        from_alias: from.alias,
        session: to.session,
        alias: to.alias,
        cause,
        silent_us: silent.as_micros() as u64,
    });
}

/// An upstream that was the active one is the last standby from now on, if it is one of a hop.
pub(crate) fn stand_by_last(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    if link(datapath, source.session).is_none() {
        return;
    }
    if let Some(upstreams) = upstreams(datapath, track)
        && upstreams.stand_by_last(source)
    {
        set_standby(datapath, now, source, true);
    }
}

/// Note in a binding which part it has; hops with standbys keep short heartbeats.
pub(crate) fn set_standby(datapath: &mut Datapath, now: Instant, source: Source, is_standby: bool) {
    if let Some((index, conn)) = datapath.conns.of_session(source.session) {
        conn.set_standby(now, source.alias, is_standby);
        datapath.conns.wake(index);
    }
}

/// Tell a hop's peer to send a track, or to stop.
pub(crate) fn forward(
    datapath: &mut Datapath,
    now: Instant,
    source: Source,
    on: bool,
    start: Option<Location>,
) {
    let Some((index, conn)) = datapath.conns.of_session(source.session) else {
        return;
    };
    if !conn.is_open() {
        return;
    }
    if let Some(link) = conn.hop() {
        // Aliases and locations came over a hop or a stream, whose values fit a hop.
        let _ = link.hop.forward(now, source.alias, on, start);
        crate::hop_link::flush(conn, now);
        datapath.conns.wake(index);
    }
}

pub(crate) fn upstreams(datapath: &mut Datapath, track: TrackId) -> Option<&mut Upstreams> {
    let entry = datapath.relay.tracks.get_mut(&track)?;
    Some(&mut entry.upstreams)
}

pub(crate) fn resume_location(
    datapath: &Datapath,
    now: Instant,
    track: TrackId,
) -> Option<Location> {
    let entry = datapath.relay.tracks.get(&track)?;
    entry.track.resume_location(now)
}

pub(crate) fn link(datapath: &mut Datapath, session: SessionId) -> Option<&mut HopLink> {
    let (_, conn) = datapath.conns.of_session(session)?;
    if conn.is_open() { conn.hop() } else { None }
}

/// Whether an upstream of the track is bound and its session open.
pub(crate) fn is_bound(datapath: &mut Datapath, track: TrackId, source: Source) -> bool {
    let Some((_, conn)) = datapath.conns.of_session(source.session) else {
        return false;
    };
    let binding = conn.bindings.get(&source.alias);
    conn.is_open() && binding.is_some_and(|binding| binding.track == track)
}

/// Whether, besides, its hop, if it is one, is not silent.
pub(crate) fn is_heard(datapath: &mut Datapath, track: TrackId, source: Source) -> bool {
    let link = link(datapath, source.session);
    link.is_none_or(|link| !link.hop.is_silent()) && is_bound(datapath, track, source)
}

/// Whether, besides, it has the track itself, and not from here.
pub(crate) fn can_feed(datapath: &mut Datapath, track: TrackId, source: Source) -> bool {
    let node = datapath.ctx.node;
    let says = upstreams(datapath, track).is_some_and(|u| u.may_feed(source, node));
    says && is_heard(datapath, track, source)
}

pub(crate) fn silence(datapath: &mut Datapath, now: Instant, source: Source) -> Duration {
    let link = link(datapath, source.session);
    link.map_or(Duration::ZERO, |link| link.hop.silence(now))
}
