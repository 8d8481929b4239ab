//! From a handshake to an open session, and its end.

use crate::command::{ALPN_CONTROL, ALPN_H3, ALPN_HOP, Draft, Target};
use crate::config::Limits;
use crate::conn::{Conn, Ctx, HopLink, Mode, Phase};
use crate::event::{ClosedBy, Event, SessionInfo};
use crate::hop::Hop;
use crate::ingest::{self, Inbound};
use crate::moqt::session_error;
use crate::relay::Relay;
use crate::wt::{Action, OwnStream, Role, StreamFate, WebTransport, WtEvent, h3};
use crate::{congestion, control, hop_link};
use bytes::Bytes;
use noq_proto::crypto::rustls::HandshakeData;
use noq_proto::rustls::pki_types::CertificateDer;
use noq_proto::{
    ConnectionError, Dir, Incoming, PathId, StreamEvent, StreamId, TransportErrorCode, VarInt,
};
use std::time::{Duration, Instant};

/// HTTP/3's "nothing wrong" (RFC 9114 §8.1).
pub(crate) const H3_NO_ERROR: VarInt = VarInt::from_u32(h3::NO_ERROR as u32);
/// Bytes read from one HTTP/3 stream at a time.
const H3_READ_BYTES: usize = 16 << 10;
/// A protocol token that only moq-dev's clients offer beside the drafts; `@moq/net` misreads drafts
/// from 17 on, so it gets draft 16 (ARCHITECTURE.md, "Quirks").
const MOQ_LITE: &str = "moq-lite";
/// Least bytes a slow connection may have under way.
const SEND_WINDOW_MIN: u64 = 12 << 10;

/// The ALPN list of a ClientHello, empty if it cannot be read in the first packet.
pub(crate) fn offered_protocols(incoming: &Incoming) -> Vec<String> {
    let alpns = incoming.decrypt().and_then(|initial| initial.alpns());
    let names = alpns.into_iter().flatten().flatten();
    names
        .map(|name| String::from_utf8_lossy(&name).into_owned())
        .take(PROTOCOLS_MAX)
        .collect()
}

/// Protocol tokens of one offer that are kept.
const PROTOCOLS_MAX: usize = 32;

/// One event of the QUIC connection.
pub(crate) fn on_quic_event(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    event: noq_proto::Event,
) {
    use noq_proto::Event as Quic;
    match event {
        Quic::Connected => on_connected(conn, relay, ctx, now),
        Quic::ConnectionLost { reason } => on_lost(conn, ctx, &reason),
        Quic::Stream(event) => on_stream_event(conn, relay, ctx, now, event),
        Quic::DatagramReceived => on_datagrams(conn, relay, ctx, now),
        Quic::DatagramsUnblocked => hop_link::flush(conn, now),
        Quic::HandshakeDataReady
        | Quic::HandshakeConfirmed
        | Quic::Path(_)
        | Quic::NatTraversal(_) => {}
    }
}

fn on_connected(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, now: Instant) {
    match negotiated_protocol(conn).as_str() {
        ALPN_HOP => {
            conn.mode = Mode::Hop(Box::new(HopLink::new(Hop::new(ctx.hop, now))));
            open(conn, relay, ctx, now, String::new(), String::new());
        }
        ALPN_CONTROL => {
            conn.mode = Mode::Control;
            open(conn, relay, ctx, now, String::new(), String::new());
        }
        ALPN_H3 => {
            conn.phase = Phase::Http3;
            begin_http3(conn, ctx, now);
        }
        token => match Draft::from_protocol(token) {
            Some(draft) => {
                conn.draft = draft;
                conn.mode = Mode::Quic;
                open(conn, relay, ctx, now, String::new(), String::new());
            }
            None => {
                let reason = format!("peer negotiated the unknown protocol {token:?}");
                let code = session_error::VERSION_NEGOTIATION_FAILED;
                conn.close(ctx, now, ClosedBy::Local, code, &reason);
            }
        },
    }
}

fn begin_http3(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    match WebTransport::new(wt_role(conn)) {
        Ok(wt) => {
            conn.mode = Mode::WebTransport(Box::new(wt));
            run_wt_actions(conn);
        }
        Err(error) => conn.close(ctx, now, ClosedBy::Local, 0, &error.to_string()),
    }
}

fn negotiated_protocol(conn: &Conn) -> String {
    let data = conn.quic.crypto_session().handshake_data();
    let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
    String::from_utf8_lossy(&protocol).into_owned()
}

fn wt_role(conn: &Conn) -> Role {
    match &conn.target {
        Some(Target::WebTransport {
            authority,
            path,
            drafts,
        }) => Role::Client {
            authority: authority.clone(),
            path: path.clone(),
            protocols: drafts
                .iter()
                .map(|draft| draft.protocol().to_owned())
                .collect(),
            origin: None,
        },
        _ => Role::Server,
    }
}

/// The session is ready: say so, then take up what came early.
fn open(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    authority: String,
    path: String,
) {
    conn.phase = Phase::Open;
    let info = SessionInfo {
        transport: conn.transport(),
        draft: conn.draft,
        incoming: conn.incoming,
        remote: conn.remote,
        offered: conn.offered.clone(),
        authority,
        path,
        peer_certificates: peer_certificates(conn),
    };
    ctx.emit(Event::SessionOpened {
        session: conn.session,
        info,
    });
    ingest::accept_streams(conn, relay, ctx, now);
    let early: Vec<StreamId> = conn
        .inbound
        .iter()
        .filter(|(_, inbound)| matches!(inbound, Inbound::Early { .. }))
        .map(|(id, _)| *id)
        .collect();
    for id in early {
        if let Some(Inbound::Early { first, .. }) = conn.inbound.remove(&id) {
            ingest::begin_stream(conn, relay, ctx, now, id, first);
        }
    }
}

fn peer_certificates(conn: &Conn) -> Vec<Bytes> {
    let identity = conn.quic.crypto_session().peer_identity();
    let chain = identity.and_then(|id| id.downcast::<Vec<CertificateDer<'static>>>().ok());
    let chain = chain.map(|chain| *chain).unwrap_or_default();
    chain
        .into_iter()
        .map(|cert| Bytes::copy_from_slice(&cert))
        .collect()
}

fn on_stream_event(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    event: StreamEvent,
) {
    match event {
        StreamEvent::Opened { .. } => {
            if matches!(conn.phase, Phase::Open | Phase::Http3) {
                ingest::accept_streams(conn, relay, ctx, now);
            }
        }
        StreamEvent::Readable { id } => {
            if matches!(conn.phase, Phase::Open | Phase::Http3) {
                ingest::on_readable(conn, relay, ctx, now, id);
            }
        }
        StreamEvent::Writable { id } => {
            if !control::on_writable(conn, id) {
                conn.writable = true;
            }
        }
        StreamEvent::Available { dir } => {
            if dir == Dir::Uni {
                conn.writable |= std::mem::take(&mut conn.starved);
            }
            open_http3_streams(conn);
            control::open_waiting(conn);
        }
        StreamEvent::Stopped { id, error_code } => on_stopped(conn, relay, ctx, id, error_code),
        StreamEvent::Finished { .. } => {}
    }
}

fn on_stopped(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, id: StreamId, code: VarInt) {
    if let Some(key) = conn.outbound.get(&id).copied() {
        if let Some(downstream) = relay.downstreams.get_mut(&key.downstream) {
            downstream.stopped(conn, key.group, key.subgroup);
        }
        return;
    }
    if let Some(stream) = control::on_stopped(conn, id) {
        let code = conn.application_code(code);
        ctx.emit(Event::StreamStopped {
            session: conn.session,
            stream,
            code,
        });
    }
}

fn on_datagrams(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, now: Instant) {
    if matches!(conn.mode, Mode::Hop(_)) {
        return hop_link::on_datagrams(conn, relay, ctx, now);
    }
    // Objects in datagrams are not carried; the drafts allow any datagram to be dropped.
    while conn.quic.datagrams().recv().is_some() {
        ctx.totals.datagrams_dropped += 1;
    }
}

/// End a connection whose HTTP/3 the peer broke.
pub(crate) fn end_failed_http3(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    let Some((code, reason)) = conn.h3_failure.take() else {
        return;
    };
    ctx.totals.protocol_errors += 1;
    conn.report_closed(ctx, ClosedBy::Local, code, reason.clone());
    let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
    conn.quic.close(now, code, reason.into());
}

/// Whether blocked downstreams can go on.
pub(crate) fn take_writable(conn: &mut Conn) -> bool {
    std::mem::take(&mut conn.writable)
}

/// Let QUIC take no more than what is under way and what the rate lets out soon: what it has taken cannot
/// be shed, and what waits in the store can.
pub(crate) fn tune_send_window(conn: &mut Conn, now: Instant, limits: &Limits) {
    let is_public = matches!(conn.mode, Mode::Quic | Mode::WebTransport(_));
    if !is_public || conn.downstreams.is_empty() {
        return;
    }
    let Some(controller) = conn.quic.congestion_state(PathId::ZERO) else {
        return;
    };
    let rtt = conn.quic.rtt(PathId::ZERO).unwrap_or_default();
    let queue = Duration::from_millis(u64::from(limits.send_queue_ms));
    let least = SEND_WINDOW_MIN.min(limits.send_window_bytes);
    let window = congestion::send_window(controller, rtt, queue);
    let window = window.clamp(least, limits.send_window_bytes);
    let most = limits.send_window_bytes;
    let is_back = conn.send_room.set(now, &mut conn.quic, window, most);
    conn.writable |= is_back;
}

fn on_lost(conn: &mut Conn, ctx: &mut Ctx, reason: &ConnectionError) {
    let (by, code, text) = match reason {
        ConnectionError::ApplicationClosed(close) => {
            let code = conn.application_code(close.error_code);
            (
                ClosedBy::Peer,
                code,
                String::from_utf8_lossy(&close.reason).into_owned(),
            )
        }
        ConnectionError::TimedOut => (ClosedBy::Timeout, 0, timeout_text(conn)),
        ConnectionError::TransportError(error) => {
            (blame(error.code), u64::from(error.code), error.to_string())
        }
        ConnectionError::ConnectionClosed(close) => (
            blame(close.error_code),
            u64::from(close.error_code),
            reason.to_string(),
        ),
        ConnectionError::VersionMismatch
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => (ClosedBy::Transport, 0, reason.to_string()),
    };
    conn.report_closed(ctx, by, code, text);
}

fn timeout_text(conn: &Conn) -> String {
    if conn.phase == Phase::Open {
        return format!("nothing was heard from {} any more", conn.remote);
    }
    format!("no answer from {}", conn.remote)
}

/// Codes 0x100 to 0x1ff are TLS alerts (RFC 9001 §4.8).
fn blame(code: TransportErrorCode) -> ClosedBy {
    match u64::from(code) {
        0x100..=0x1ff => ClosedBy::Tls,
        _ => ClosedBy::Transport,
    }
}

/// Bytes for HTTP/3, or for it to say whose they are.
pub(crate) fn feed_http3(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    id: StreamId,
) {
    loop {
        // One chunk a time, so that the end of a stream is left for whom the stream turns out to be.
        let read = control::read_chunk(conn, id, H3_READ_BYTES);
        let is_own = conn.quic.side() == id.initiator();
        let Mode::WebTransport(wt) = &mut conn.mode else {
            return;
        };
        if read.reset.is_some() {
            wt.handle_reset(u64::from(id));
            conn.inbound.remove(&id);
            break;
        }
        let data: Bytes = read.data.concat().into();
        if data.is_empty() && !read.fin {
            break;
        }
        let fate = match id.dir() {
            _ if is_own => {
                wt.handle_own(u64::from(id), data, read.fin);
                StreamFate::Mine
            }
            Dir::Uni => wt.handle_uni(u64::from(id), data, read.fin),
            Dir::Bi => wt.handle_bidi(u64::from(id), data, read.fin),
        };
        let settled = settle_http3(conn, relay, ctx, now, id, fate);
        if read.fin {
            conn.inbound.remove(&id);
        }
        if settled || read.fin || !read.more {
            break;
        }
    }
    run_wt_actions(conn);
    on_wt_events(conn, relay, ctx, now);
}

/// Do with a stream what HTTP/3 says; whether HTTP/3 is done with it.
fn settle_http3(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    id: StreamId,
    fate: StreamFate,
) -> bool {
    match fate {
        StreamFate::NeedMore | StreamFate::Mine => return false,
        StreamFate::Session { rest } => {
            conn.inbound.remove(&id);
            session_stream(conn, relay, ctx, now, id, rest);
        }
        StreamFate::Over => {
            conn.inbound.insert(id, Inbound::Discarded);
        }
        StreamFate::Refused { code } => {
            ctx.totals.streams_rejected += 1;
            conn.inbound.remove(&id);
            let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
            // A stream that has ended meanwhile needs neither.
            let _ = conn.quic.recv_stream(id).stop(code);
            if id.dir() == Dir::Bi {
                let _ = conn.quic.send_stream(id).reset(code);
            }
        }
    }
    true
}

fn session_stream(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    id: StreamId,
    rest: Bytes,
) {
    if conn.is_open() {
        ingest::begin_stream(conn, relay, ctx, now, id, rest);
    } else {
        conn.inbound.insert(id, Inbound::Early { first: rest });
    }
}

fn on_wt_events(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, now: Instant) {
    loop {
        let Mode::WebTransport(wt) = &mut conn.mode else {
            return;
        };
        let Some(event) = wt.poll_event() else { return };
        match event {
            WtEvent::Requested {
                authority,
                path,
                protocols,
                ..
            } => {
                answer_request(conn, ctx, authority, path, protocols);
            }
            WtEvent::Established { protocol } => {
                established(conn, relay, ctx, now, protocol.as_deref());
            }
            WtEvent::Refused { status, reason } => {
                let code = u64::from(status.unwrap_or(0));
                conn.report_closed(ctx, ClosedBy::Peer, code, refusal(status, reason));
                conn.quic.close(now, H3_NO_ERROR, Bytes::new());
            }
            WtEvent::Closed { code, reason } => {
                conn.report_closed(ctx, ClosedBy::Peer, u64::from(code), reason);
                conn.quic.close(now, H3_NO_ERROR, Bytes::new());
            }
            WtEvent::Draining => {}
        }
        run_wt_actions(conn);
    }
}

fn refusal(status: Option<u16>, reason: &str) -> String {
    match status {
        Some(status) => format!("the server refused the WebTransport session: {status}, {reason}"),
        None => format!("the server refused the WebTransport session: {reason}"),
    }
}

/// The client's CONNECT: choose a draft, or refuse.
fn answer_request(
    conn: &mut Conn,
    ctx: &mut Ctx,
    authority: String,
    path: String,
    protocols: Vec<String>,
) {
    let draft = choose_draft(&ctx.drafts, &protocols, ctx.moq_net_quirk);
    let Mode::WebTransport(wt) = &mut conn.mode else {
        return;
    };
    match draft {
        Some(draft) => {
            wt.accept(Some(draft.protocol()));
            conn.offered = protocols;
            conn.requested = (authority, path);
        }
        None => {
            wt.reject(STATUS_BAD_REQUEST);
            ctx.totals.handshakes_refused += 1;
        }
    }
}

/// Both ends know the protocol.
fn established(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    protocol: Option<&str>,
) {
    match protocol.and_then(Draft::from_protocol) {
        Some(draft) => {
            conn.draft = draft;
            let (authority, path) = std::mem::take(&mut conn.requested);
            run_wt_actions(conn);
            open(conn, relay, ctx, now, authority, path);
        }
        None => {
            let code = session_error::VERSION_NEGOTIATION_FAILED;
            let reason = "the server chose none of the offered drafts";
            conn.close(ctx, now, ClosedBy::Local, code, reason);
        }
    }
}

/// The status of a CONNECT that offers no draft that we speak.
const STATUS_BAD_REQUEST: u16 = 400;

/// Our order of preference, but for `@moq/net`.
fn choose_draft(ours: &[Draft], offered: &[String], moq_net_quirk: bool) -> Option<Draft> {
    let offers = |draft: Draft| offered.iter().any(|token| token == draft.protocol());
    let is_moq_net = offered.iter().any(|token| token.starts_with(MOQ_LITE));
    if moq_net_quirk && is_moq_net && ours.contains(&Draft::D16) && offers(Draft::D16) {
        return Some(Draft::D16);
    }
    ours.iter().copied().find(|draft| offers(*draft))
}

/// Carry out what HTTP/3 wants to say.
pub(crate) fn run_wt_actions(conn: &mut Conn) {
    loop {
        let Mode::WebTransport(wt) = &mut conn.mode else {
            return;
        };
        let Some(action) = wt.poll_action() else {
            return;
        };
        match action {
            Action::Open(stream) => {
                conn.h3_unopened.push(stream);
                open_http3_streams(conn);
            }
            Action::Write { stream, data, fin } => {
                control::write_raw(conn, stream_id(stream), data, fin);
            }
            Action::Reset { stream, code } => {
                let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
                // A stream that has ended meanwhile needs no reset.
                let _ = conn.quic.send_stream(stream_id(stream)).reset(code);
            }
            Action::Stop { stream, code } => {
                let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
                // A stream that has ended meanwhile needs no stop.
                let _ = conn.quic.recv_stream(stream_id(stream)).stop(code);
            }
            Action::CloseConnection(error) => {
                conn.h3_failure = Some((error.code, error.to_string()));
            }
        }
    }
}

/// Open the streams that HTTP/3 asked for, as far as the peer's limits allow.
fn open_http3_streams(conn: &mut Conn) {
    while let Some(stream) = conn.h3_unopened.first().copied() {
        let dir = match stream {
            OwnStream::Control => Dir::Uni,
            OwnStream::Connect => Dir::Bi,
        };
        let Some(id) = conn.quic.streams().open(dir) else {
            return;
        };
        conn.h3_unopened.remove(0);
        // The stream was opened just now, so it exists.
        let _ = conn
            .quic
            .send_stream(id)
            .set_priority(control::CONTROL_PRIORITY);
        if stream == OwnStream::Connect {
            conn.inbound.insert(id, Inbound::Http3);
        }
        if let Mode::WebTransport(wt) = &mut conn.mode {
            wt.handle_opened(stream, u64::from(id));
        }
    }
}

fn stream_id(id: u64) -> StreamId {
    StreamId::from(VarInt::from_u64(id).unwrap_or(VarInt::MAX))
}
