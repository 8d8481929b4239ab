//! The agent's commands, one small function each.

use crate::command::{Command, DownstreamId, SessionId, Target, TrackId};
use crate::conn::{Binding, Bounds, Conn, Mode};
use crate::control;
use crate::datapath::Datapath;
use crate::downstream::{Downstream, Kind, Replay};
use crate::event::{ClosedBy, Event};
use crate::ingest;
use crate::location::Location;
use crate::publish;
use crate::reach::reach_back;
use crate::reroute::{self, Reroute};
use crate::supply;
use crate::tls::ClientTls;
use crate::track::Track;
use crate::upstreams::Source;
use noq_proto::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) fn execute(datapath: &mut Datapath, now: Instant, command: Command) {
    match command {
        Command::Connect {
            session,
            remote,
            server_name,
            target,
            tls,
        } => {
            connect(datapath, now, session, remote, &server_name, target, &tls);
        }
        Command::AddTrack {
            track,
            cache,
            largest,
        } => {
            datapath.relay.add_track(track, Track::new(cache, largest));
        }
        Command::RemoveTrack { track } => remove_track(datapath, now, track),
        Command::BindUpstream {
            session,
            alias,
            track,
            default_priority,
            restart_allowed,
        } => {
            let binding = Binding {
                track,
                default_priority,
                restart_allowed,
                source: Source { session, alias },
                is_standby: false,
            };
            bind(datapath, now, binding);
        }
        Command::BindStandby {
            session,
            alias,
            track,
            default_priority,
            rank,
        } => {
            let binding = Binding {
                track,
                default_priority,
                restart_allowed: false,
                source: Source { session, alias },
                is_standby: true,
            };
            bind_standby(datapath, now, binding, rank);
        }
        Command::ReachBack { track, start } => reach_back(datapath, now, track, start),
        Command::SwitchUpstream {
            track,
            session,
            alias,
        } => {
            reroute::move_to(datapath, now, track, Source { session, alias });
        }
        Command::AddDownstream { .. } => add_downstream(datapath, now, command),
        Command::UpdateDownstream { .. } => update_downstream(datapath, now, &command),
        Command::RemoveDownstream { downstream, code } => {
            cancel_downstream(datapath, downstream, code);
        }
        Command::FinishDownstream { downstream } => finish_downstream(datapath, now, downstream),
        Command::AddSink {
            downstream,
            track,
            start,
        } => {
            add_sink(datapath, now, downstream, track, start);
        }
        Command::Publish { track, object } => {
            publish::publish(&mut datapath.relay, &mut datapath.ctx, now, track, object);
        }
        Command::Snapshot { token } => {
            let snapshot = Box::new(datapath.snapshot(now));
            datapath.ctx.emit(Event::Snapshot { token, snapshot });
        }
        on_session => execute_on_session(datapath, now, on_session),
    }
}

/// Commands that concern the streams of one open session.
fn execute_on_session(datapath: &mut Datapath, now: Instant, command: Command) {
    let (Command::Close { session, .. }
    | Command::OpenStream { session, .. }
    | Command::Write { session, .. }
    | Command::ResetStream { session, .. }
    | Command::StopStream { session, .. }
    | Command::HopBounds { session, .. }
    | Command::HopPolicy { session, .. }
    | Command::HopSecondPaths { session, .. }
    | Command::UnbindUpstream { session, .. }) = command
    else {
        return;
    };
    let Some((index, conn)) = datapath.conns.of_session(session) else {
        return;
    };
    let ctx = &mut datapath.ctx;
    match command {
        Command::Close { code, reason, .. } => {
            conn.close(ctx, now, ClosedBy::Local, code, &reason);
        }
        Command::OpenStream { stream, bidi, .. } => {
            control::open(conn, stream, bidi);
            if let Some(link) = conn.hop().filter(|_| bidi) {
                link.hop.expect_answer(now);
            }
        }
        Command::Write {
            stream, data, fin, ..
        } => {
            control::write(conn, ctx, now, stream, data, fin);
        }
        Command::ResetStream { stream, code, .. } => control::reset(conn, stream, code),
        Command::StopStream { stream, code, .. } => control::stop(conn, stream, code),
        Command::HopBounds {
            loss_max_permille,
            rtt_max_us,
            ..
        } => {
            let packets_min = ctx.hop.bounds_packets_min;
            if let Some(link) = conn.hop() {
                link.bounds = Bounds {
                    loss_max_permille,
                    rtt_max_us,
                    packets_min,
                };
            }
        }
        Command::HopPolicy { policy, .. } => {
            if let Some(link) = conn.hop() {
                link.hop.set_policy(policy);
            }
        }
        Command::HopSecondPaths { policy, .. } => {
            if let Some(link) = conn.hop() {
                link.second_paths = Some(policy);
            }
        }
        Command::UnbindUpstream { alias, .. } => ingest::unbind(conn, ctx, now, alias),
        _ => {}
    }
    datapath.conns.wake(index);
}

fn connect(
    datapath: &mut Datapath,
    now: Instant,
    session: SessionId,
    remote: SocketAddr,
    server_name: &str,
    target: Target,
    tls: &Arc<ClientTls>,
) {
    let refuse = |datapath: &mut Datapath, by: ClosedBy, reason: String| {
        datapath.ctx.emit(Event::SessionClosed {
            session,
            by,
            code: 0,
            reason,
        });
    };
    if datapath.conns.index_of(session).is_some() {
        return refuse(
            datapath,
            ClosedBy::Local,
            format!("session id {session} is in use"),
        );
    }
    let crypto = match tls.for_target(&target) {
        Ok(crypto) => crypto,
        Err(error) => return refuse(datapath, ClosedBy::Tls, error.to_string()),
    };
    let mut config = ClientConfig::new(crypto);
    config.transport_config(match target {
        Target::Hop => datapath.quic.hop_transport.clone(),
        Target::Control => datapath.quic.control_transport.clone(),
        Target::Quic { .. } | Target::WebTransport { .. } => datapath.quic.public_transport.clone(),
    });
    if let Some(seed) = datapath.config.seed {
        config.initial_dst_cid_provider(crate::seed::initial_cids(seed ^ session));
    }
    match datapath.endpoint.connect(now, config, remote, server_name) {
        Ok((handle, quic)) => {
            let conn = Conn::new(quic, session, Some(target), remote, now);
            datapath.conns.insert(handle.0, conn);
        }
        Err(error) => {
            refuse(
                datapath,
                ClosedBy::Transport,
                format!("cannot connect to {remote}: {error}"),
            );
        }
    }
}

fn remove_track(datapath: &mut Datapath, now: Instant, track: TrackId) {
    let Some(entry) = datapath.relay.remove_track(track) else {
        return;
    };
    for id in entry.downstreams {
        cancel_downstream(datapath, id, CANCELLED);
    }
    for index in datapath.conns.indices() {
        let Some(conn) = datapath.conns.get(index) else {
            continue;
        };
        let bound = conn
            .bindings
            .iter()
            .filter(|(_, b)| b.track == track)
            .map(|(a, _)| *a);
        let bound: Vec<u64> = bound.collect();
        let ctx = &mut datapath.ctx;
        bound
            .iter()
            .for_each(|alias| ingest::unbind(conn, ctx, now, *alias));
        if !bound.is_empty() {
            datapath.conns.wake(index);
        }
    }
}

/// The track's active upstream; the one before stands by.
fn bind(datapath: &mut Datapath, now: Instant, binding: Binding) {
    if !is_open(datapath, binding.source.session) {
        return;
    }
    if binding.restart_allowed {
        datapath.relay.expect_restart(binding.track);
    }
    insert_binding(datapath, now, binding);
    reroute::activated(datapath, now, binding.track, binding.source);
    // What it said of its own supply came before its binding.
    reroute::run(datapath, now);
    supply::tell(datapath, now, binding.track);
}

/// A standby of the track, on a hop.
fn bind_standby(datapath: &mut Datapath, now: Instant, binding: Binding, rank: u32) {
    let (source, track) = (binding.source, binding.track);
    let hop = datapath.conns.of_session(source.session);
    if !hop.is_some_and(|(_, conn)| conn.is_open() && conn.hop().is_some()) {
        return;
    }
    let entry = datapath.relay.tracks.get(&track);
    if entry.is_none_or(|entry| entry.upstreams.active == Some(source)) {
        return;
    }
    if reroute::stood_by(datapath, now, track, source, rank) {
        insert_binding(datapath, now, binding);
        // What it said of its own supply came before its binding.
        reroute::run(datapath, now);
        reroute::take_if_failed(datapath, now, track, source);
    }
}

fn is_open(datapath: &mut Datapath, session: SessionId) -> bool {
    let found = datapath.conns.of_session(session);
    found.is_some_and(|(_, conn)| conn.is_open())
}

/// Bind, and deliver what waited for it.
fn insert_binding(datapath: &mut Datapath, now: Instant, binding: Binding) {
    let Source { session, alias } = binding.source;
    let Some(index) = datapath.conns.index_of(session) else {
        return;
    };
    let Some(mut conn) = datapath.conns.take(index) else {
        return;
    };
    if let Some(before) = conn.bind(now, alias, binding) {
        let (track, source) = (before.track, before.source);
        datapath
            .ctx
            .reroutes
            .push_back(Reroute::Gone { track, source });
    }
    let (relay, ctx) = (&mut datapath.relay, &mut datapath.ctx);
    ingest::unpark(&mut conn, relay, ctx, now, alias);
    datapath.conns.put_back(index, conn);
    datapath.conns.wake(index);
}

fn add_downstream(datapath: &mut Datapath, now: Instant, command: Command) {
    // What came in a moment ago is in the cache: a hop would get it from there and once more as news.
    carry_out(datapath, now);
    let Command::AddDownstream {
        downstream: id,
        session,
        alias,
        track,
        start,
        end_group,
        subscriber_priority,
        group_order,
        forward,
        limits,
    } = command
    else {
        return;
    };
    let Some((index, conn)) = datapath.conns.of_session(session) else {
        return;
    };
    let kind = match conn.mode {
        Mode::Hop(_) => Kind::Hop { conn: index },
        _ => Kind::Viewer { conn: index },
    };
    let mut downstream = Downstream::new(id, kind, session, alias, track, start);
    downstream.end_group = end_group;
    downstream.subscriber_priority = subscriber_priority;
    downstream.group_order = group_order;
    downstream.forward = forward;
    downstream.limits = limits;
    if datapath.relay.add_downstream(downstream) {
        conn.downstreams.insert(id);
        if let Some(link) = conn.hop() {
            link.aliases.insert(alias, id);
        }
        supply::introduce(datapath, now, id);
        replay(datapath, now, id);
    }
}

fn add_sink(
    datapath: &mut Datapath,
    now: Instant,
    id: DownstreamId,
    track: TrackId,
    start: Location,
) {
    let sink = Downstream::new(id, Kind::Sink, 0, 0, track, start);
    if datapath.relay.add_downstream(sink) {
        replay(datapath, now, id);
    }
}

fn update_downstream(datapath: &mut Datapath, now: Instant, command: &Command) {
    // As for a new one.
    carry_out(datapath, now);
    let &Command::UpdateDownstream {
        downstream: id,
        start,
        end_group,
        subscriber_priority,
        forward,
    } = command
    else {
        return;
    };
    let Some(downstream) = datapath.relay.downstreams.get_mut(&id) else {
        return;
    };
    let resumes = forward == Some(true) && !downstream.forward;
    downstream.is_whole &= start.is_none_or(|start| downstream.start <= start);
    downstream.start = start.unwrap_or(downstream.start);
    downstream.end_group = end_group.or(downstream.end_group);
    downstream.subscriber_priority = subscriber_priority.unwrap_or(downstream.subscriber_priority);
    downstream.forward = forward.unwrap_or(downstream.forward);
    let index = match downstream.kind {
        Kind::Viewer { conn } => Some(conn),
        Kind::Hop { .. } | Kind::Sink => None,
    };
    if let Some(index) = index
        && let Some(conn) = datapath.conns.get(index)
    {
        downstream.drop_unwanted(conn);
        datapath.conns.wake(index);
    }
    if resumes {
        replay(datapath, now, id);
    }
}

/// A downstream begins, or goes on: it is sent all that the cache holds for it.
fn replay(datapath: &mut Datapath, now: Instant, id: DownstreamId) {
    let (ctx, conns) = (&mut datapath.ctx, &mut datapath.conns);
    datapath.relay.replay(ctx, now, conns, id, Replay::Whole);
}

/// End a downstream at once: what a hop has queued or unacknowledged of it is forgotten.
fn cancel_downstream(datapath: &mut Datapath, id: DownstreamId, code: u32) {
    if let Some(downstream) = datapath.relay.downstreams.get(&id) {
        let (kind, alias) = (downstream.kind, downstream.alias);
        if let Kind::Hop { conn: index } = kind
            && let Some(link) = datapath.conns.get(index).and_then(Conn::hop)
        {
            link.hop.cancel(alias, None, None);
        }
    }
    end_downstream(datapath, id, code);
}

fn end_downstream(datapath: &mut Datapath, id: DownstreamId, code: u32) {
    let Some(mut downstream) = datapath.relay.remove_downstream(id) else {
        return;
    };
    if let Kind::Viewer { conn: index } | Kind::Hop { conn: index } = downstream.kind
        && let Some(conn) = datapath.conns.get(index)
    {
        conn.downstreams.remove(&id);
        if let Some(link) = conn.hop()
            && link.aliases.get(&downstream.alias) == Some(&id)
        {
            link.aliases.remove(&downstream.alias);
            link.forwards.remove(&downstream.alias);
        }
        downstream.reset_all(conn, u64::from(code));
        datapath.conns.wake(index);
    }
    let streams = downstream.streams_opened;
    datapath.ctx.emit(Event::DownstreamEnded {
        downstream: id,
        streams,
    });
}

/// Carry what changed up to now to the downstreams as they are now.
fn carry_out(datapath: &mut Datapath, now: Instant) {
    if datapath.relay.has_work() {
        let (ctx, conns) = (&mut datapath.ctx, &mut datapath.conns);
        datapath.relay.fan_out(ctx, now, conns);
    }
}

/// No new subgroups; what is open ends with what the track has of it.
fn finish_downstream(datapath: &mut Datapath, now: Instant, id: DownstreamId) {
    // What was published a moment ago belongs to it too.
    carry_out(datapath, now);
    let Some(downstream) = datapath.relay.downstreams.get_mut(&id) else {
        return;
    };
    downstream.finishing = true;
    if matches!(downstream.kind, Kind::Hop { .. }) && !downstream.forward {
        downstream.finish_at = Some(now + STANDBY_GRACE);
    }
    match downstream.kind {
        Kind::Viewer { conn } | Kind::Hop { conn } => {
            if let Some(conn) = datapath.conns.get(conn) {
                conn.has_finishing = true;
            }
            report_finished(datapath, now, conn);
        }
        Kind::Sink => end_downstream(datapath, id, CANCELLED),
    }
}

/// End the finishing downstreams of a connection that have nothing left to send; on a hop, nothing that
/// the peer has not confirmed, so that what follows on the control stream cannot overtake it.
pub(crate) fn report_finished(datapath: &mut Datapath, now: Instant, index: usize) {
    let Some(conn) = datapath.conns.get(index) else {
        return;
    };
    if !conn.has_finishing {
        return;
    }
    let mut drained = Vec::new();
    conn.has_finishing = false;
    conn.finish_check_at = None;
    for id in conn.downstreams.clone() {
        let Some(downstream) = datapath.relay.downstreams.get(&id) else {
            continue;
        };
        let owes = conn
            .hop()
            .is_some_and(|link| link.hop.owes(downstream.alias));
        let waits_until = downstream
            .finish_at
            .filter(|at| *at > now && !downstream.forward && downstream.finishing);
        if let Some(at) = waits_until {
            let sooner = conn.finish_check_at.is_none_or(|before| at < before);
            conn.finish_check_at = if sooner {
                Some(at)
            } else {
                conn.finish_check_at
            };
        } else if downstream.finishing && downstream.is_drained() && !owes {
            drained.push(id);
        }
        conn.has_finishing |= downstream.finishing;
    }
    for id in drained {
        end_downstream(datapath, id, CANCELLED);
    }
}

/// How long the paused downstream of a hop is kept when its track is over: the peer may have lost its
/// active upstream a moment ago and not have noticed yet, and then wants the end of the track from here.
const STANDBY_GRACE: Duration = Duration::from_millis(1_000);

/// Stream reset code of a subscription that ended (draft-18 §3.3.2).
const CANCELLED: u32 = 0x1;
