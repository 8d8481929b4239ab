//! Which upstream a track takes: the reaction to silence, to the end of a session, and to loss and delay
//! beyond their bounds, without a word of the agent.
//!
//! The agent keeps the table current (upstreams.rs); here it is acted on, in the same call in which the
//! cause was noticed. Two kinds of switch:
//!
//! - *At once*, where the active upstream is silent or gone: the first standby whose hop is heard is told
//!   to send, from the lowest place where something is missing ([`Track::resume_location`]); the gap
//!   comes out of its cache. The old one is told to stop, which it reads if it lives: it may still hear
//!   us, or be heard again. Nobody heard: wait, and take the first that is.
//! - *Make before break*, where the active one still runs: the standby is told to send, and when its
//!   first byte is there the old one is told to stop. What both brought falls to the byte intervals.
//!
//! A hop that is heard brings nothing if its peer has lost the track itself, or is fed from here: peers
//! tell (supply.rs), and count as silent for the track while they say so.
//!
//! Silence takes its time to be certain, and then the standby's first byte takes a round trip. So the
//! standby is told to send as soon as the active one is in doubt, and to stop if it is heard again: a move
//! that is *tentative* and is reported to nobody. A doubt that was wrong costs some bytes twice, and is
//! followed by a time in which there is none. Where a second path sends (second_path.rs) nobody need be asked,
//! unless it has the track by the very upstream that is in doubt.
//!
//! A place to start from and intervals of bytes, not counters of packets, join the two upstreams, so that
//! it makes no difference how far ahead or behind one is of the other: one that is behind sends what is
//! wanted when it gets there.
//!
//! Moves for loss and delay are held down ([`HopConfig::switch_hold_ms`]) per track, because a wrong one
//! costs something and can wait. Escapes from silence are not: they are to be quick, and each needs a
//! silence time of its own before it.
//!
//! What notices a cause works on one connection that is out of its slot, so it leaves a [`Reroute`]
//! behind; [`run`] carries them out when all are back in place.
//!
//! [`Track::resume_location`]: crate::track::Track::resume_location
//! [`HopConfig::switch_hold_ms`]: crate::hop::HopConfig::switch_hold_ms

use crate::command::{SessionId, TrackId};
use crate::conn::{Bounds, HopLink};
use crate::datapath::Datapath;
use crate::event::SwitchCause;
use crate::hop::Supply;
use crate::moves::{
    begin_move, can_feed, complete_move, end_move_to, forward, is_bound, is_heard, link,
    resume_location, set_standby, silence, stand_by_last, stop, switch, upstreams,
};
use crate::second_path;
use crate::supply;
use crate::upstreams::{Failed, Source};
use std::time::{Duration, Instant};

/// Something that may move tracks.
#[derive(Clone, Debug)]
pub(crate) enum Reroute {
    /// A hop's peer became silent.
    Silent { session: SessionId },
    /// It is heard again.
    Heard { session: SessionId },
    /// It may be about to become silent, or there was nothing to it.
    InDoubt { session: SessionId, in_doubt: bool },
    /// A hop is beyond its bounds.
    Beyond {
        session: SessionId,
        cause: SwitchCause,
    },
    /// An upstream told how it is supplied itself.
    Supplied {
        track: TrackId,
        source: Source,
        turn: u64,
        supply: Supply,
    },
    /// The second paths of a hop's tracks are to be looked at.
    Weigh { session: SessionId },
    /// A move has delivered.
    Delivered { track: TrackId },
    /// An upstream is not bound any more.
    Gone { track: TrackId, source: Source },
}

/// Carry out what was left behind.
pub(crate) fn run(datapath: &mut Datapath, now: Instant) {
    while let Some(reroute) = datapath.ctx.reroutes.pop_front() {
        match reroute {
            Reroute::Silent { session } => {
                for_each_bound(datapath, session, |d, track, source| {
                    on_silent(d, now, track, source);
                    supply::tell(d, now, track);
                });
            }
            Reroute::Heard { session } => {
                for_each_bound(datapath, session, |d, track, source| {
                    on_heard(d, now, track, source);
                    supply::tell(d, now, track);
                });
            }
            Reroute::InDoubt { session, in_doubt } => {
                for_each_bound(datapath, session, |d, track, source| {
                    on_doubt(d, now, track, source, in_doubt);
                });
            }
            Reroute::Beyond { session, cause } => {
                for_each_bound(datapath, session, |d, track, source| {
                    on_beyond(d, now, track, source, cause);
                });
            }
            Reroute::Supplied {
                track,
                source,
                turn,
                supply,
            } => on_supplied(datapath, now, track, source, (turn, supply)),
            Reroute::Weigh { session } => second_path::weigh(datapath, now, session),
            Reroute::Delivered { track } => complete_move(datapath, now, track),
            Reroute::Gone { track, source } => on_gone(datapath, now, track, source),
        }
    }
}

/// An upstream was bound as the active one. The caller tells it, once what that one said before is heard.
pub(crate) fn activated(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    let is_hop = link(datapath, source.session).is_some();
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    let moving = upstreams.moving.take();
    let was_standby = upstreams.has_standby(source) && moving.is_none_or(|m| m.to != source);
    let before = upstreams.activate(source);
    upstreams.by_hop = is_hop;
    set_standby(datapath, now, source, false);
    let was_paused = was_standby && !second_path::take_over(datapath, track, source);
    if let Some(moving) = moving.filter(|moving| moving.to != source) {
        stop(datapath, now, track, moving.to);
    }
    if was_paused {
        let start = resume_location(datapath, now, track);
        forward(datapath, now, source, true, start);
    }
    if let Some(before) = before {
        stand_by_last(datapath, now, track, before);
    }
    if is_hop {
        second_path::watch(datapath, track);
    } else {
        second_path::end(datapath, now, track);
    }
    if is_bound(datapath, track, source) {
        leave_if_unfed(datapath, now, track, source);
    }
}

/// An upstream was bound as a standby; false if the track has too many.
pub(crate) fn stood_by(
    datapath: &mut Datapath,
    now: Instant,
    track: TrackId,
    source: Source,
    rank: u32,
) -> bool {
    let Some(upstreams) = upstreams(datapath, track) else {
        return false;
    };
    if upstreams.active == Some(source) {
        return true;
    }
    if !upstreams.stand_by(source, rank) {
        return false;
    }
    set_standby(datapath, now, source, true);
    true
}

/// A standby was bound while the track had lost its upstream: it is taken at once if it can feed.
pub(crate) fn take_if_failed(
    datapath: &mut Datapath,
    now: Instant,
    track: TrackId,
    source: Source,
) {
    let failed = upstreams(datapath, track).and_then(|upstreams| upstreams.failed);
    if let Some(failed) = failed
        && can_feed(datapath, track, source)
    {
        switch(datapath, now, track, source, failed.cause);
        supply::tell(datapath, now, track);
    }
}

/// The agent wants a track to move to one of its standbys.
pub(crate) fn move_to(datapath: &mut Datapath, now: Instant, track: TrackId, to: Source) {
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    if !upstreams.has_standby(to) {
        return;
    }
    let runs = upstreams
        .active
        .is_some_and(|active| is_heard(datapath, track, active));
    if runs {
        begin_move(datapath, now, track, (to, false), SwitchCause::Command);
    } else {
        switch(datapath, now, track, to, SwitchCause::Command);
        leave_if_unfed(datapath, now, track, to);
        supply::tell(datapath, now, track);
    }
}

/// The agent made an upstream the active one, whatever that one said of itself: if it brings nothing, that is
/// known already, and nobody below is to hear anything else.
fn leave_if_unfed(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    if !is_heard(datapath, track, source) {
        escape(datapath, now, track, SwitchCause::Silent);
    } else if !can_feed(datapath, track, source) {
        escape(datapath, now, track, SwitchCause::Starved);
    }
}

fn on_silent(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    if upstreams.active == Some(source) {
        escape(datapath, now, track, SwitchCause::Silent);
    } else {
        end_move_to(datapath, now, track, source);
        second_path::end_if(datapath, now, track, source);
    }
}

fn on_supplied(
    datapath: &mut Datapath,
    now: Instant,
    track: TrackId,
    source: Source,
    (turn, supply): (u64, Supply),
) {
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    if !upstreams.hear(source, turn, supply) {
        return;
    }
    let is_active = upstreams.active == Some(source);
    match (can_feed(datapath, track, source), is_active) {
        (true, _) => {
            take_again(datapath, now, track, source);
            complete_move(datapath, now, track);
        }
        (false, true) => escape(datapath, now, track, SwitchCause::Starved),
        (false, false) => {
            end_move_to(datapath, now, track, source);
            second_path::end_if(datapath, now, track, source);
        }
    }
    supply::tell(datapath, now, track);
}

fn on_doubt(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source, in_doubt: bool) {
    let hold = Duration::from_millis(datapath.ctx.hop.doubt_hold_ms);
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    if upstreams.active != Some(source) || upstreams.failed.is_some() {
        return;
    }
    // A second path that leads through the active one falls with it.
    let second = upstreams.second.map(|second| second.source);
    let is_covered = second.is_some_and(|second| !upstreams.leads_through(second, source));
    match upstreams.moving {
        None if is_covered => {}
        None if in_doubt && upstreams.trust_until.is_none_or(|until| until <= now) => {
            if let Some(to) = way_out(datapath, track) {
                begin_move(datapath, now, track, (to, true), SwitchCause::Silent);
            }
        }
        Some(moving) if moving.tentative && !in_doubt => {
            upstreams.trust_until = Some(now + hold);
            end_move_to(datapath, now, track, moving.to);
        }
        _ => {}
    }
}

fn on_heard(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    if can_feed(datapath, track, source) {
        take_again(datapath, now, track, source);
    }
}

/// An upstream can feed the track: that is news if nobody could.
fn take_again(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    let Some(failed) = upstreams.failed else {
        return;
    };
    if upstreams.active == Some(source) {
        upstreams.failed = None;
        if failed.cause == SwitchCause::Starved || upstreams.standbys().next().is_none() {
            // Nothing was decided here: it goes on by itself, and the hop repairs what was lost.
            upstreams.expect(source);
            return;
        }
        // It has given up, or will, what it could not deliver: it is to begin again.
        upstreams.expect(source);
        let start = resume_location(datapath, now, track);
        forward(datapath, now, source, true, start);
    } else if upstreams.has_standby(source) {
        switch(datapath, now, track, source, failed.cause);
    }
}

fn on_beyond(
    datapath: &mut Datapath,
    now: Instant,
    track: TrackId,
    source: Source,
    cause: SwitchCause,
) {
    let hold = Duration::from_millis(datapath.ctx.hop.switch_hold_ms);
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    let held = upstreams.hold_until.is_some_and(|until| now < until);
    if upstreams.active != Some(source) || held {
        return;
    }
    // A move that is under way for as long has led nowhere.
    let tried = upstreams.moving.filter(|moving| !moving.tentative);
    let tried = tried.map(|moving| moving.to);
    let standbys: Vec<Source> = upstreams.standbys().collect();
    let fits = |standby: &Source| {
        let link = link(datapath, standby.session);
        let is_within = link.is_some_and(|link| exceeded(link, now).is_none());
        is_within && Some(*standby) != tried && can_feed(datapath, track, *standby)
    };
    let Some(to) = standbys.into_iter().find(fits) else {
        return;
    };
    if let Some(upstreams) = self::upstreams(datapath, track) {
        upstreams.hold_until = Some(now + hold);
    }
    begin_move(datapath, now, track, (to, false), cause);
}

fn on_gone(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    if is_bound(datapath, track, source) {
        return; // anew, meanwhile
    }
    second_path::end_if(datapath, now, track, source);
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    let moving = upstreams.moving;
    if upstreams.remove(source) {
        upstreams.moving = moving;
        let failed = Failed {
            from: source,
            cause: SwitchCause::Closed,
            since: now,
            noticed: now,
        };
        upstreams.failed.get_or_insert(failed);
        escape(datapath, now, track, SwitchCause::Closed);
        supply::tell(datapath, now, track);
    }
}

/// Where to go from the active upstream, if it fails: where a move was under way to, or to the first standby
/// that can feed; those last that have the track by the very one that fails.
fn way_out(datapath: &mut Datapath, track: TrackId) -> Option<Source> {
    let upstreams = upstreams(datapath, track)?;
    let failed = upstreams.failed.map(|failed| failed.from);
    let lost = upstreams.active.or(failed);
    let sending = upstreams.second.map(|second| second.source);
    let moving = upstreams.moving.map(|moving| moving.to);
    let first = sending.into_iter().chain(moving);
    let mut candidates: Vec<Source> = first.chain(upstreams.standbys()).collect();
    if let Some(lost) = lost {
        candidates.sort_by_key(|source| upstreams.leads_through(*source, lost));
    }
    let mut candidates = candidates.into_iter();
    candidates.find(|source| can_feed(datapath, track, *source))
}

/// Away from an active upstream that is silent, gone or starved.
fn escape(datapath: &mut Datapath, now: Instant, track: TrackId, cause: SwitchCause) {
    if let Some(to) = way_out(datapath, track) {
        return switch(datapath, now, track, to, cause);
    }
    let Some(from) = upstreams(datapath, track).and_then(|u| u.active) else {
        return;
    };
    let since = now - silence(datapath, now, from);
    if let Some(upstreams) = upstreams(datapath, track) {
        let noticed = now;
        let failed = upstreams.failed.get_or_insert(Failed {
            from,
            cause,
            since,
            noticed,
        });
        // Once it was silent, it has to be asked again.
        if failed.cause == SwitchCause::Starved {
            failed.cause = cause;
        }
    }
}

/// Which bound a hop is beyond.
pub(crate) fn exceeded(link: &mut HopLink, now: Instant) -> Option<SwitchCause> {
    let Bounds {
        loss_max_permille,
        rtt_max_us,
        packets_min,
    } = link.bounds;
    if rtt_max_us > 0 && link.hop.rtt().as_micros() > u128::from(rtt_max_us) {
        return Some(SwitchCause::Delay);
    }
    if loss_max_permille == 0 {
        return None;
    }
    let (due, lost) = link.hop.last_second(now);
    let is_lossy = due >= packets_min && lost * 1_000 > due * u64::from(loss_max_permille);
    is_lossy.then_some(SwitchCause::Loss)
}

fn for_each_bound(
    datapath: &mut Datapath,
    session: SessionId,
    mut act: impl FnMut(&mut Datapath, TrackId, Source),
) {
    let Some((_, conn)) = datapath.conns.of_session(session) else {
        return;
    };
    let bound: Vec<(u64, TrackId)> = conn
        .bindings
        .iter()
        .map(|(alias, binding)| (*alias, binding.track))
        .collect();
    for (alias, track) in bound {
        act(datapath, track, Source { session, alias });
    }
}
