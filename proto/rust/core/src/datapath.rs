//! The datapath of one shard: connections, sessions, tracks and the forwarding table, without I/O.
//!
//! A shell (UDP threads, or the simulator's kernel) feeds datagrams and time, executes the agent's
//! commands, and carries out what the `poll_*` methods give back:
//! `handle_*` and `execute` first, then `poll_transmit` until `None`, then `poll_event` until `None`,
//! then sleep until `poll_timeout` or the next datagram.

use crate::command::{Command, SessionId};
use crate::config::DatapathConfig;
use crate::conn::{Conn, Ctx, Phase};
use crate::conns::Conns;
use crate::event::{ClosedBy, Event};
use crate::object_trace::{ObjectTrace, TracedObject};
use crate::quic::QuicConfigs;
use crate::relay::Relay;
use crate::reroute::Reroute;
use crate::stats::{DownstreamStats, HopStats, SessionStats, Snapshot, Totals};
use crate::tls::TlsError;
use crate::{hop_link, ingest, session, silence};
use bytes::BytesMut;
use noq_proto::{
    ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint, FourTuple, Incoming, PathId,
};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One or several datagrams of equal size to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// ECN codepoint bits (0 to 3) of the IP header.
    pub ecn: u8,
    /// Bytes written to the buffer.
    pub size: usize,
    /// Size of every datagram but the last, if there are several.
    pub segment_size: Option<usize>,
    /// Local address to send from, if it matters.
    pub src_ip: Option<IpAddr>,
}

/// Datagrams that answer no connection (version negotiation, refusals) and wait to be sent.
const RESPONSES_MAX: usize = 1_024;

/// So much later than it asked for the engine was not called for want of something to do: the process or its
/// machine stood still, and times measured then are longer than the network made them.
pub const STALL: Duration = Duration::from_millis(200);

/// The engine.
pub struct Datapath {
    pub(crate) config: DatapathConfig,
    pub(crate) quic: QuicConfigs,
    pub(crate) endpoint: Endpoint,
    pub(crate) conns: Conns,
    pub(crate) relay: Relay,
    pub(crate) ctx: Ctx,
    next_incoming: SessionId,
    responses: VecDeque<(noq_proto::Transmit, Vec<u8>)>,
    scratch: Vec<u8>,
    /// When we were last called with the time, and what `poll_timeout` last gave.
    called_at: Instant,
    awaited: Option<Instant>,
}

impl Datapath {
    /// `epoch` is the moment that all `*_us` values of events count from.
    pub fn new(config: DatapathConfig, epoch: Instant) -> Result<Datapath, TlsError> {
        let quic = QuicConfigs::new(&config)?;
        let endpoint = Endpoint::new(
            Arc::new(quic.endpoint.clone()),
            quic.public_server.clone(),
            true,
        );
        let ctx = Ctx {
            epoch,
            limits: config.limits,
            events: VecDeque::new(),
            totals: Totals::default(),
            hop: config.hop,
            drafts: config.drafts.clone(),
            moq_net_quirk: config.moq_net_quirk,
            control_held: false,
            reroutes: VecDeque::new(),
            node: crate::seed::node_number(config.seed),
            object_trace: None,
        };
        Ok(Datapath {
            config,
            quic,
            endpoint,
            conns: Conns::default(),
            relay: Relay::default(),
            ctx,
            next_incoming: 0,
            responses: VecDeque::new(),
            scratch: Vec::new(),
            called_at: epoch,
            awaited: None,
        })
    }

    /// A UDP datagram arrived. `ecn`: the two bits of its IP header.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: u8,
        data: BytesMut,
    ) {
        self.note_stall(now);
        self.ctx.totals.udp_datagrams_in += 1;
        self.ctx.totals.udp_bytes_in += data.len() as u64;
        let path = FourTuple::new(remote, local_ip);
        let ecn = EcnCodepoint::from_bits(ecn & 3);
        self.scratch.clear();
        match self
            .endpoint
            .handle(now, path, ecn, data, &mut self.scratch)
        {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(conn) = self.conns.get(handle.0) {
                    conn.quic.handle_event(event);
                    conn.has_input = true;
                    self.conns.wake(handle.0);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(now, incoming),
            Some(DatagramEvent::Response(transmit)) => self.respond(transmit),
            None => {}
        }
    }

    /// The time given by `poll_timeout` has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.note_stall(now);
        // What arrived comes first, or a late wake-up makes a hop's peer look silent.
        self.drive(now);
        while let Some(index) = self.conns.pop_due(now) {
            let Some(mut conn) = self.conns.take(index) else {
                continue;
            };
            if conn.quic.poll_timeout().is_some_and(|at| at <= now) {
                conn.quic.handle_timeout(now);
            }
            self.on_own_timers(now, &mut conn);
            self.conns.put_back(index, conn);
            self.conns.wake(index);
        }
    }

    /// The next datagrams to send, appended to `buf` (which the caller clears), at most
    /// `max_datagrams` of them. Also where all that came in since the last call is worked on.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.drive(now);
        if let Some((transmit, bytes)) = self.responses.pop_front() {
            buf.extend_from_slice(&bytes);
            return Some(self.count_out(transmit));
        }
        let max = NonZeroUsize::new(max_datagrams).unwrap_or(NonZeroUsize::MIN);
        while let Some(index) = self.conns.first_dirty() {
            if let Some(conn) = self.conns.get(index)
                && let Some(transmit) = conn.quic.poll_transmit(now, max, buf)
            {
                return Some(self.count_out(transmit));
            }
            self.conns.settle_first_dirty();
            // Events such as freed datagram space are raised inside poll_transmit.
            self.drive_conn(now, index);
            self.drive(now);
        }
        None
    }

    /// Whether to leave control and request streams unread, because the agent is behind with its
    /// events: then QUIC's flow control holds the peers back. Media goes on. Not to be called between
    /// `poll_transmit` and sleeping: what resumes is worked on by the next `poll_transmit`.
    pub fn hold_control(&mut self, held: bool) {
        let was_held = std::mem::replace(&mut self.ctx.control_held, held);
        if held || !was_held {
            return;
        }
        for index in self.conns.indices() {
            let waits = |conn: &mut Conn| conn.control.is_held();
            if self.conns.get(index).is_some_and(waits) {
                self.conns.wake(index);
            }
        }
    }

    /// The next event for the agent.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.ctx.events.pop_front()
    }

    /// When `handle_timeout` wants to be called next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.awaited = self.conns.next_timeout();
        self.awaited
    }

    fn note_stall(&mut self, now: Instant) {
        if let Some(due) = self.awaited {
            let late = now.saturating_duration_since(due.max(self.called_at));
            if late >= STALL {
                self.ctx.totals.stalls += 1;
            }
        }
        self.called_at = now;
    }

    /// Note when each object's first and last byte comes, or stop that and forget what was noted.
    pub fn trace_objects(&mut self, on: bool) {
        let trace = &mut self.ctx.object_trace;
        if on != trace.is_some() {
            *trace = on.then(ObjectTrace::default);
        }
    }

    /// The objects noted since the last call, in the order of their last bytes, and how many more there
    /// were than [`TRACED_OBJECTS_MAX`](crate::object_trace::TRACED_OBJECTS_MAX).
    pub fn take_object_trace(&mut self) -> (Vec<TracedObject>, u64) {
        let trace = self.ctx.object_trace.as_mut();
        trace.map(ObjectTrace::take).unwrap_or_default()
    }

    /// All counters at one moment.
    pub fn snapshot(&mut self, now: Instant) -> Snapshot {
        let sessions = self.conns.indices().into_iter();
        let sessions = sessions.filter_map(|index| {
            let conn = self.conns.get(index);
            conn.and_then(|conn| session_stats(conn, now))
        });
        let sessions = sessions.collect();
        let (tracks, relay) = (&self.relay.tracks, &self.relay);
        let downstreams = relay.downstreams.values().map(|d| DownstreamStats {
            downstream: d.id,
            session: d.session,
            objects: d.objects,
            bytes: d.bytes,
            groups_dropped: d.groups_dropped,
            layers_given_up: d.layers_given_up(),
            queue_bytes: tracks
                .get(&d.track)
                .map_or(0, |entry| d.waiting_bytes(&entry.track)),
        });
        Snapshot {
            now_us: self.ctx.micros(now),
            totals: self.ctx.totals,
            sessions,
            downstreams: downstreams.collect(),
            tracks: tracks.len() as u64,
            tracks_on_two_paths: tracks
                .values()
                .filter(|entry| entry.upstreams.second.is_some())
                .count() as u64,
            cache_bytes: relay.cache_bytes(),
        }
    }

    /// Carry out one command of the agent.
    pub fn execute(&mut self, now: Instant, command: Command) {
        self.ctx.totals.commands += 1;
        crate::execute::execute(self, now, command);
    }

    /// Work on all that came in, then carry it to the downstreams.
    fn drive(&mut self, now: Instant) {
        while let Some(index) = self.conns.next_ready() {
            if let Some(conn) = self.conns.get(index) {
                session::tune_send_window(conn, now, &self.config.limits);
            }
            self.drive_conn(now, index);
        }
        if self.relay.has_work() {
            self.relay.fan_out(&mut self.ctx, now, &mut self.conns);
        }
        crate::reroute::run(self, now);
    }

    fn drive_conn(&mut self, now: Instant, index: usize) {
        let Some(mut conn) = self.conns.take(index) else {
            return;
        };
        let drained = self.exchange_endpoint_events(index, &mut conn);
        while let Some(event) = conn.quic.poll() {
            session::on_quic_event(&mut conn, &mut self.relay, &mut self.ctx, now, event);
        }
        crate::control::resume(&mut conn, &mut self.ctx);
        session::end_failed_http3(&mut conn, &mut self.ctx, now);
        if std::mem::take(&mut conn.has_input) {
            hop_link::note_heard(&mut conn, &mut self.ctx, now);
            silence::note_heard(&mut conn, &mut self.ctx, now);
        }
        let serve = session::take_writable(&mut conn);
        let ended = conn.phase == Phase::Closed;
        self.conns.put_back(index, conn);
        if serve {
            self.serve_blocked(now, index);
        }
        crate::forward::carry_out(self, now, index);
        crate::execute::report_finished(self, now, index);
        if ended {
            self.forget_downstreams(index);
            self.forget_upstreams(index);
        }
        if drained {
            self.conns.remove(index);
        } else {
            self.conns.rearm(index, &self.config.limits);
        }
    }

    fn exchange_endpoint_events(&mut self, index: usize, conn: &mut Conn) -> bool {
        let mut drained = false;
        while let Some(event) = conn.quic.poll_endpoint_events() {
            drained |= event.is_drained();
            if let Some(answer) = self.endpoint.handle_event(ConnectionHandle(index), event) {
                conn.quic.handle_event(answer);
            }
        }
        drained
    }

    /// QUIC has room again: serve what was blocked, most urgent first.
    fn serve_blocked(&mut self, now: Instant, index: usize) {
        let Some(conn) = self.conns.get(index) else {
            return;
        };
        let ids = conn.downstreams.clone();
        let mut order = Vec::new();
        for id in ids {
            let Some(downstream) = self.relay.downstreams.get(&id) else {
                continue;
            };
            let Some(entry) = self.relay.tracks.get(&downstream.track) else {
                continue;
            };
            for (rank, key) in downstream.blocked().into_iter().enumerate() {
                let Some(source) = entry.track.subgroup(key.0, key.1) else {
                    continue;
                };
                order.push((
                    downstream.subscriber_priority,
                    source.priority,
                    rank,
                    id,
                    key,
                ));
            }
        }
        order.sort_unstable();
        let mut is_blocked = false;
        for (_, _, _, id, key) in order {
            let Some(downstream) = self.relay.downstreams.get_mut(&id) else {
                continue;
            };
            let Some(entry) = self.relay.tracks.get(&downstream.track) else {
                continue;
            };
            let (ctx, conns) = (&mut self.ctx, &mut self.conns);
            crate::relay::pump(ctx, now, conns, downstream, &entry.track, key);
            is_blocked |= downstream.has_blocked();
        }
        if let Some(conn) = self.conns.get(index).filter(|_| !is_blocked) {
            conn.send_room.note_free();
        }
    }

    /// A closed session's downstreams are gone; the agent knows by `SessionClosed`.
    fn forget_downstreams(&mut self, index: usize) {
        let Some(conn) = self.conns.get(index) else {
            return;
        };
        for id in std::mem::take(&mut conn.downstreams) {
            self.relay.remove_downstream(id);
        }
    }

    /// Its tracks take other upstreams.
    fn forget_upstreams(&mut self, index: usize) {
        let Some(conn) = self.conns.get(index) else {
            return;
        };
        for binding in std::mem::take(&mut conn.bindings).into_values() {
            let (track, source) = (binding.track, binding.source);
            self.ctx.reroutes.push_back(Reroute::Gone { track, source });
        }
    }

    fn on_own_timers(&mut self, now: Instant, conn: &mut Conn) {
        let ctx = &mut self.ctx;
        if matches!(conn.phase, Phase::Handshaking | Phase::Http3)
            && conn.handshake_deadline(&ctx.limits) <= now
        {
            let reason = format!("no answer from {}", conn.remote);
            conn.close(ctx, now, ClosedBy::Timeout, 0, &reason);
        }
        if conn.close_at.is_some_and(|at| at <= now) {
            conn.close_at = None;
            conn.quic
                .close(now, session::H3_NO_ERROR, bytes::Bytes::new());
        }
        hop_link::on_timeout(conn, ctx, now);
        silence::on_timeout(conn, ctx, now);
        ingest::expire_parked(conn, ctx, now);
        if conn.finish_check_at.is_some_and(|at| at <= now) {
            conn.finish_check_at = None; // being woken, it is looked at
        }
        if conn.lag_check_at.is_some_and(|at| at <= now) {
            conn.lag_check_at = None;
            self.check_lag(now, conn);
        }
    }

    fn check_lag(&mut self, now: Instant, conn: &mut Conn) {
        let mut blocked = false;
        for id in conn.downstreams.clone() {
            let Some(downstream) = self.relay.downstreams.get_mut(&id) else {
                continue;
            };
            let Some(entry) = self.relay.tracks.get(&downstream.track) else {
                continue;
            };
            blocked |= downstream.shed_lag(&mut self.ctx, now, conn, &entry.track);
        }
        if blocked {
            conn.lag_check_at = Some(now + crate::downstream::LAG_CHECK);
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) {
        let offered = session::offered_protocols(&incoming);
        self.scratch.clear();
        if self.conns.len() >= self.config.limits.sessions_max {
            self.ctx.totals.handshakes_refused += 1;
            let transmit = self.endpoint.refuse(incoming, &mut self.scratch);
            return self.respond(transmit);
        }
        let is_crowded = self.conns.handshaking() >= self.config.limits.handshakes_max;
        if is_crowded && !incoming.remote_address_validated() {
            return self.ask_for_address(incoming);
        }
        let server = self.quic.server_for(&offered);
        let remote = incoming.remote_address();
        match self
            .endpoint
            .accept(incoming, now, &mut self.scratch, server)
        {
            Ok((handle, quic)) => {
                let session = self.next_incoming;
                self.next_incoming += 2;
                let mut conn = Conn::new(quic, session, None, remote, now);
                conn.offered = offered;
                self.conns.insert(handle.0, conn);
            }
            Err(refused) => {
                self.ctx.totals.handshakes_refused += 1;
                if let Some(transmit) = refused.response {
                    self.respond(transmit);
                }
            }
        }
    }

    /// Too many are under way: first show that you are where you say.
    fn ask_for_address(&mut self, incoming: Incoming) {
        match self.endpoint.retry(incoming, &mut self.scratch) {
            Ok(transmit) => {
                self.ctx.totals.handshakes_retried += 1;
                self.respond(transmit);
            }
            Err(error) => self.endpoint.ignore(error.into_incoming()),
        }
    }

    fn respond(&mut self, transmit: noq_proto::Transmit) {
        if self.responses.len() < RESPONSES_MAX {
            let bytes = self.scratch[..transmit.size].to_vec();
            self.responses.push_back((transmit, bytes));
        }
    }

    fn count_out(&mut self, transmit: noq_proto::Transmit) -> Transmit {
        let datagrams = transmit
            .segment_size
            .map_or(1, |size| transmit.size.div_ceil(size));
        self.ctx.totals.udp_datagrams_out += datagrams as u64;
        self.ctx.totals.udp_bytes_out += transmit.size as u64;
        Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.map_or(0, |codepoint| codepoint as u8),
            size: transmit.size,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        }
    }
}

fn session_stats(conn: &mut Conn, now: Instant) -> Option<SessionStats> {
    let (session, transport, remote) = (conn.session, conn.transport(), conn.remote.to_string());
    let control_streams = conn.control.len() as u64;
    let path = conn.quic.path_stats(PathId::ZERO)?;
    let (bytes_sent, bytes_received) = (path.udp_tx.bytes, path.udp_rx.bytes);
    let (congestion, rate) = crate::congestion::figures(&conn.quic);
    let hop = conn.hop().map(|link| HopStats {
        forwards_received: link.forwards_received,
        forwards_refused: link.forwards_refused,
        rx_bytes: bytes_received,
        tx_bytes: bytes_sent,
        ..link.hop.measured(now)
    });
    let sketch = conn.hop().map(|link| link.hop.rtt_sketch());
    Some(SessionStats {
        session,
        transport,
        remote,
        rtt_us: path.rtt.as_micros() as u64,
        congestion_window_bytes: path.cwnd,
        rate_bps: rate.usable.saturating_mul(8),
        delivered_bps: rate.delivered.saturating_mul(8),
        pacing_bps: rate.pacing.saturating_mul(8),
        queue_delay_us: rate.queue_delay.as_micros() as u64,
        is_rate_capped: rate.is_capped,
        is_rate_competing: rate.is_competing,
        congestion,
        packets_sent: path.sent_packets,
        packets_lost: path.lost_packets,
        bytes_sent,
        bytes_received,
        control_streams,
        hop,
        hop_rtt_sketch: sketch.unwrap_or_default(),
    })
}
