//! A hop's recovery engine on its connection: datagrams between it and QUIC, frames between it and
//! the tracks.

use crate::conn::{Binding, Bounds, Conn, Ctx, HopLink};
use crate::event::{ClosedBy, Event};
use crate::forward::Forward;
use crate::hop::{Chunk, Frame, HoldController, HopEvent};
use crate::relay::Relay;
use crate::reroute::{self, Reroute};
use crate::second_path;
use crate::track::{Conflict, End, ObjectKey, ObjectMeta};
use noq_proto::{PathId, SendDatagramError};
use std::time::{Duration, Instant};

/// Datagrams of a hop that broke the protocol before the session is closed: a single one may be a
/// fault of an older version, a row of them is not.
const MALFORMED_MAX: u64 = 16;

/// How often a hop's loss and delay are looked at.
const BOUNDS_CHECK: Duration = Duration::from_millis(100);

/// Aliases that were unbound and are remembered, per hop.
const RETIRED_MAX: usize = 4_096;

/// Datagrams arrived: all of them are drained, or QUIC drops the oldest after acknowledging it.
pub(crate) fn on_datagrams(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, now: Instant) {
    let mut last_error = None;
    while let Some(data) = conn.quic.datagrams().recv() {
        let Some(link) = conn.hop() else { continue };
        if let Err(error) = link.hop.handle_datagram(now, data) {
            ctx.totals.protocol_errors += 1;
            last_error = Some(error);
        }
        deliver(conn, relay, ctx, now);
    }
    if let Some(error) = last_error {
        let malformed = conn
            .hop()
            .map_or(0, |link| link.hop.stats().datagrams_malformed);
        if malformed > MALFORMED_MAX {
            let reason = error.to_string();
            conn.close(ctx, now, ClosedBy::Local, error.close_code(), &reason);
        }
    }
    flush(conn, now);
    report(conn, ctx);
    check_bounds(conn, ctx, now);
    second_path::check(conn, ctx, now);
}

/// Whether loss or delay is a reason to leave the hop, looked at now and then.
fn check_bounds(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    let session = conn.session;
    let Some(link) = conn.hop().filter(|link| link.bounds.are_set()) else {
        return;
    };
    if link.bounds_check_at.is_some_and(|at| now < at) {
        return;
    }
    link.bounds_check_at = Some(now + BOUNDS_CHECK);
    if let Some(cause) = reroute::exceeded(link, now) {
        ctx.reroutes.push_back(Reroute::Beyond { session, cause });
    }
}

/// Hand what the engine wants to send to QUIC as far as it takes it.
pub(crate) fn flush(conn: &mut Conn, now: Instant) {
    let rtt = conn.quic.rtt(PathId::ZERO);
    let is_open = conn.is_open();
    let crate::conn::Mode::Hop(link) = &mut conn.mode else {
        return;
    };
    if !is_open {
        return;
    }
    if let Some(rtt) = rtt {
        // The smoothed one is no floor: the path may get shorter.
        link.hop.set_rtt(rtt, rtt / 2);
    }
    loop {
        let Some(data) = link.held.take().or_else(|| link.hop.poll_datagram(now)) else {
            return;
        };
        match conn.quic.datagrams().send(data, false) {
            Ok(()) => {}
            Err(SendDatagramError::Blocked(data)) => {
                link.held = Some(data);
                return;
            }
            // The peer's edge offers datagrams by definition of the hop; what cannot be sent now is
            // repaired as if it had been lost.
            Err(_) => return,
        }
    }
}

/// Any authenticated packet is a sign of life: media may keep heartbeats out for a while.
pub(crate) fn note_heard(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    if conn.hop().is_none() {
        return;
    }
    let Some(path) = conn.quic.path_stats(PathId::ZERO) else {
        return;
    };
    let Some(link) = conn.hop() else { return };
    if link.received != path.frame_rx {
        link.received = path.frame_rx;
        link.hop.handle_heard(now);
        note_acknowledged(conn, now);
        report(conn, ctx);
    }
}

/// QUIC's acknowledgements, which come for every packet, where those of the hop do not show that the
/// peer hears us.
fn note_acknowledged(conn: &mut Conn, now: Instant) {
    let wanted = |link: &mut HopLink| link.hop.wants_acknowledged(now);
    if !conn.hop().is_some_and(wanted) {
        return;
    }
    let controller = conn.quic.congestion_state(PathId::ZERO);
    let controller = controller.and_then(|c| c.clone_box().into_any().downcast().ok());
    let sent = controller.and_then(|hold: Box<HoldController>| hold.acknowledged());
    if let (Some(sent), Some(link)) = (sent, conn.hop()) {
        link.hop.handle_acknowledged(now, sent);
    }
}

pub(crate) fn on_timeout(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    note_acknowledged(conn, now);
    let Some(link) = conn.hop() else { return };
    link.hop.handle_timeout(now);
    flush(conn, now);
    report(conn, ctx);
}

fn report(conn: &mut Conn, ctx: &mut Ctx) {
    let session = conn.session;
    let Some(link) = conn.hop() else { return };
    if let Some(in_doubt) = link.hop.poll_doubt() {
        ctx.reroutes
            .push_back(Reroute::InDoubt { session, in_doubt });
    }
    while let Some(event) = link.hop.poll_event() {
        match event {
            HopEvent::PeerSilent => {
                ctx.reroutes.push_back(Reroute::Silent { session });
                ctx.emit(Event::HopSilent {
                    session,
                    silent: true,
                });
            }
            HopEvent::PeerHeard => {
                ctx.reroutes.push_back(Reroute::Heard { session });
                ctx.emit(Event::HopSilent {
                    session,
                    silent: false,
                });
            }
            // The engine tells the receiver itself; the counter is in its statistics.
            HopEvent::Shed { .. } => {}
        }
    }
}

/// Take the frames that arrived.
fn deliver(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, now: Instant) {
    while let Some(frame) = conn.hop().and_then(|link| link.hop.poll_frame()) {
        if let Frame::Forward {
            alias,
            turn,
            on,
            start,
        } = frame
        {
            note_forward(conn, alias, Forward { turn, on, start });
            continue;
        }
        match conn.bindings.get(&frame.alias()).copied() {
            Some(binding) => apply(conn, relay, ctx, now, binding, frame),
            None => hold(conn, ctx, frame),
        }
    }
}

/// The peer wants a track, or no longer: the latest word about it is carried out after this turn.
fn note_forward(conn: &mut Conn, alias: u64, word: Forward) {
    let Some(link) = conn.hop() else { return };
    if !link.aliases.contains_key(&alias) {
        // It may have ended a moment ago.
        link.forwards_refused += 1;
        return;
    }
    link.forwards_received += 1;
    let latest = link.forwards.entry(alias).or_insert(word);
    if latest.turn < word.turn {
        *latest = word;
    }
}

/// A frame came before the message that says which track its alias is: a bounded wait.
fn hold(conn: &mut Conn, ctx: &Ctx, frame: Frame) {
    let Some(link) = conn.hop() else { return };
    if link.retired.contains(&frame.alias()) {
        return;
    }
    link.unbound_bytes += cost(&frame);
    link.unbound.push_back(frame);
    while link.unbound_bytes > ctx.limits.unbound_bytes_max {
        let Some(oldest) = link.unbound.pop_front() else {
            break;
        };
        link.unbound_bytes -= cost(&oldest);
    }
}

/// An alias is not wanted any more: what still comes of it is dropped.
pub(crate) fn retire(conn: &mut Conn, alias: u64) {
    let Some(link) = conn.hop() else { return };
    link.unbound.retain(|frame| frame.alias() != alias);
    link.unbound_bytes = link.unbound.iter().map(cost).sum();
    link.retired.insert(alias);
    if link.retired.len() > RETIRED_MAX {
        // Aliases rise, so the lowest is the one that was unbound longest ago.
        link.retired.pop_first();
    }
}

/// An alias was bound: deliver what waited for it.
pub(crate) fn deliver_unbound(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    alias: u64,
) {
    let Some(link) = conn.hop() else { return };
    link.retired.remove(&alias);
    let waiting = std::mem::take(&mut link.unbound);
    link.unbound_bytes = 0;
    for frame in waiting {
        match conn.bindings.get(&frame.alias()).copied() {
            Some(binding) => apply(conn, relay, ctx, now, binding, frame),
            None => hold(conn, ctx, frame),
        }
    }
}

fn apply(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    binding: Binding,
    frame: Frame,
) {
    let (alias, group, subgroup) = {
        let key = frame.key();
        (key.alias, key.group, key.subgroup)
    };
    match frame {
        Frame::Chunk(chunk) => {
            if let Err(Conflict(reason)) = apply_chunk(relay, ctx, now, binding, chunk) {
                let (session, track) = (conn.session, binding.track);
                ctx.totals.protocol_errors += 1;
                conn.unbind(now, alias);
                retire(conn, alias);
                let source = binding.source;
                ctx.reroutes.push_back(Reroute::Gone { track, source });
                ctx.emit(Event::TrackMalformed {
                    session,
                    alias,
                    track,
                    reason,
                });
            }
        }
        Frame::SubgroupEnd {
            last, end_of_group, ..
        } => {
            let end = End::Finished { last };
            relay.end_subgroup_early(now, binding, (group, subgroup), end, end_of_group);
        }
        Frame::SubgroupReset { code, .. } => {
            relay.give_up(now, binding, (group, subgroup), code);
        }
        Frame::Supply { turn, supply, .. } => {
            let (track, source) = (binding.track, binding.source);
            ctx.reroutes.push_back(Reroute::Supplied {
                track,
                source,
                turn,
                supply,
            });
        }
        Frame::Forward { .. } => {} // taken out before
    }
}

fn apply_chunk(
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    binding: Binding,
    chunk: Chunk,
) -> Result<(), Conflict> {
    if chunk.body_len > ctx.limits.object_bytes_max {
        return Err(Conflict(format!("object of {} bytes", chunk.body_len)));
    }
    let key = ObjectKey {
        group: chunk.group,
        subgroup: chunk.subgroup,
        object: chunk.object,
    };
    let meta = ObjectMeta {
        prev: chunk.prev,
        first_object: chunk.first_object,
        priority: chunk.priority,
        status: chunk.status,
        props_len: u64::from(chunk.props_len),
        body_len: chunk.body_len,
        budget_ms: chunk.budget_ms,
    };
    let pieces = (chunk.offset, &mut [chunk.body][..]);
    relay.ingest(ctx, now, binding, key, &meta, pieces)
}

fn cost(frame: &Frame) -> usize {
    const FRAME_BYTES: usize = 200;
    match frame {
        Frame::Chunk(chunk) => FRAME_BYTES + chunk.body.len(),
        _ => FRAME_BYTES,
    }
}

impl HopLink {
    pub(crate) fn new(hop: crate::hop::Hop) -> HopLink {
        HopLink {
            hop,
            held: None,
            unbound: Default::default(),
            unbound_bytes: 0,
            retired: Default::default(),
            received: Default::default(),
            forwards: Default::default(),
            forwards_received: 0,
            forwards_refused: 0,
            aliases: Default::default(),
            standbys: 0,
            bounds: Bounds::default(),
            bounds_check_at: None,
            second_paths: None,
            is_paired: false,
            look_at: None,
            weigh_at: None,
        }
    }
}
