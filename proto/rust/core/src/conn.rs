//! One QUIC connection and the session on it: what it is made of, and how its parts are reached.
//!
//! The behaviour stands in the neighbours: `session` (from handshake to open session, and its end),
//! `control` (control and request streams), `ingest` (incoming data streams), `hop_link` (chunks),
//! `downstream` (outgoing data streams).

use crate::command::{DownstreamId, Draft, SessionId, Target, TrackId};
use crate::config::Limits;
use crate::control::ControlStreams;
use crate::event::{ClosedBy, Event, Transport};
use crate::forward::Forward;
use crate::hop::{Hop, HopConfig};
use crate::ingest::Inbound;
use crate::object_trace::ObjectTrace;
use crate::reroute::Reroute;
use crate::second_policy::SecondPathPolicy;
use crate::send_room::SendRoom;
use crate::silence::{self, Silence};
use crate::stats::Totals;
use crate::upstreams::Source;
use crate::wt::{OwnStream, WebTransport};
use bytes::Bytes;
use noq_proto::{Connection, FrameStats, StreamId, VarInt};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What several parts of the datapath write to while they work on one connection.
#[derive(Debug)]
pub(crate) struct Ctx {
    pub(crate) epoch: Instant,
    pub(crate) limits: Limits,
    pub(crate) events: VecDeque<Event>,
    pub(crate) totals: Totals,
    pub(crate) hop: HopConfig,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) moq_net_quirk: bool,
    /// The agent has too much to read: control and request streams are not read.
    pub(crate) control_held: bool,
    /// What may move tracks to other upstreams, to be carried out in this turn.
    pub(crate) reroutes: VecDeque<Reroute>,
    /// By which edges know each other on the way of a track.
    pub(crate) node: u64,
    /// When objects came; only where that was asked for.
    pub(crate) object_trace: Option<ObjectTrace>,
}

impl Ctx {
    pub(crate) fn emit(&mut self, event: Event) {
        self.totals.events += 1;
        self.events.push_back(event);
    }

    pub(crate) fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_micros() as u64
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// QUIC and TLS.
    Handshaking,
    /// HTTP/3 SETTINGS and CONNECT.
    Http3,
    /// The session is open.
    Open,
    /// It was reported closed; what is left is QUIC's own end.
    Closed,
}

/// What runs on the connection.
pub(crate) enum Mode {
    /// Not known before ALPN is agreed.
    Unknown,
    Quic,
    WebTransport(Box<WebTransport>),
    Hop(Box<HopLink>),
    Control,
}

/// A hop's recovery engine and what waits around it.
pub(crate) struct HopLink {
    pub(crate) hop: Hop,
    /// A datagram that QUIC had no room for.
    pub(crate) held: Option<Bytes>,
    /// Frames whose alias is not bound yet, in order of arrival.
    pub(crate) unbound: VecDeque<crate::hop::Frame>,
    pub(crate) unbound_bytes: usize,
    /// Aliases that were unbound: their chunks are dropped, not held. Aliases are not used twice.
    pub(crate) retired: BTreeSet<u64>,
    /// Frames of any kind that QUIC had received when it was looked at last.
    pub(crate) received: FrameStats,
    /// The peer's words to forward a track that are to be carried out, by alias.
    pub(crate) forwards: BTreeMap<u64, Forward>,
    pub(crate) forwards_received: u64,
    pub(crate) forwards_refused: u64,
    /// Our downstreams on this hop by alias.
    pub(crate) aliases: BTreeMap<u64, DownstreamId>,
    /// Bindings that stand by.
    pub(crate) standbys: usize,
    pub(crate) bounds: Bounds,
    /// When to look whether the hop is beyond them.
    pub(crate) bounds_check_at: Option<Instant>,
    /// Which of its tracks take a second path.
    pub(crate) second_paths: Option<Arc<SecondPathPolicy>>,
    /// Some track of which this is the active upstream has one.
    pub(crate) is_paired: bool,
    /// When to look at its condition again, and when at its tracks.
    pub(crate) look_at: Option<Instant>,
    pub(crate) weigh_at: Option<Instant>,
}

/// Beyond these a hop's tracks move to standbys. 0 is no bound.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) loss_max_permille: u32,
    pub(crate) rtt_max_us: u64,
    /// Datagrams without which loss says nothing.
    pub(crate) packets_min: u64,
}

impl Bounds {
    pub(crate) fn are_set(&self) -> bool {
        self.loss_max_permille > 0 || self.rtt_max_us > 0
    }
}

/// Objects with an alias feed this track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) track: TrackId,
    pub(crate) default_priority: u8,
    pub(crate) restart_allowed: bool,
    pub(crate) source: Source,
    /// It waits for its turn: what ends a subgroup before its time is not believed of it.
    pub(crate) is_standby: bool,
}

/// An open data stream of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutKey {
    pub(crate) downstream: DownstreamId,
    pub(crate) group: u64,
    pub(crate) subgroup: u64,
}

pub(crate) struct Conn {
    pub(crate) quic: Connection,
    pub(crate) session: SessionId,
    pub(crate) incoming: bool,
    pub(crate) target: Option<Target>,
    pub(crate) remote: SocketAddr,
    pub(crate) offered: Vec<String>,
    pub(crate) created: Instant,
    pub(crate) phase: Phase,
    pub(crate) mode: Mode,
    pub(crate) draft: Draft,
    pub(crate) control: ControlStreams,
    pub(crate) inbound: BTreeMap<StreamId, Inbound>,
    pub(crate) bindings: BTreeMap<u64, Binding>,
    pub(crate) outbound: BTreeMap<StreamId, OutKey>,
    pub(crate) downstreams: BTreeSet<DownstreamId>,
    /// Blocked downstreams may go on.
    pub(crate) writable: bool,
    /// Server: `:authority` and `:path` of the CONNECT that is being answered.
    pub(crate) requested: (String, String),
    /// Streams that HTTP/3 asked for while the peer's limits did not allow them.
    pub(crate) h3_unopened: Vec<OwnStream>,
    /// HTTP/3 found a fault of the peer that ends the connection: code and reason.
    pub(crate) h3_failure: Option<(u64, String)>,
    /// Some downstream is to end once all is sent.
    pub(crate) has_finishing: bool,
    /// When to look for one that is kept a while although it has nothing to send.
    pub(crate) finish_check_at: Option<Instant>,
    /// Some downstream waits for a stream credit.
    pub(crate) starved: bool,
    /// When to look for downstreams that lag; armed while one is blocked.
    pub(crate) lag_check_at: Option<Instant>,
    /// What bounds the bytes that QUIC holds for it.
    pub(crate) send_room: SendRoom,
    /// When to end a WebTransport connection whose CLOSE capsule was just written.
    pub(crate) close_at: Option<Instant>,
    pub(crate) silence: Silence,
    /// A datagram came that was not looked at yet.
    pub(crate) has_input: bool,
    pub(crate) is_dirty: bool,
    pub(crate) is_ready: bool,
    pub(crate) armed: Option<Instant>,
}

impl Conn {
    pub(crate) fn new(
        quic: Connection,
        session: SessionId,
        target: Option<Target>,
        remote: SocketAddr,
        now: Instant,
    ) -> Conn {
        Conn {
            quic,
            session,
            incoming: target.is_none(),
            target,
            remote,
            offered: Vec::new(),
            created: now,
            phase: Phase::Handshaking,
            mode: Mode::Unknown,
            draft: Draft::D18,
            control: ControlStreams::default(),
            inbound: BTreeMap::new(),
            bindings: BTreeMap::new(),
            outbound: BTreeMap::new(),
            downstreams: BTreeSet::new(),
            writable: false,
            requested: Default::default(),
            h3_unopened: Vec::new(),
            h3_failure: None,
            has_finishing: false,
            finish_check_at: None,
            starved: false,
            lag_check_at: None,
            send_room: SendRoom::default(),
            close_at: None,
            silence: Silence::new(now),
            has_input: true,
            is_dirty: false,
            is_ready: false,
            armed: None,
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self.mode {
            Mode::Hop(_) => Transport::Hop,
            Mode::Control => Transport::Control,
            Mode::WebTransport(_) => Transport::WebTransport,
            Mode::Quic | Mode::Unknown => Transport::Quic,
        }
    }

    pub(crate) fn hop(&mut self) -> Option<&mut HopLink> {
        match &mut self.mode {
            Mode::Hop(link) => Some(link),
            _ => None,
        }
    }

    /// Bind an alias, in place of what it was bound to, which is given back.
    pub(crate) fn bind(&mut self, now: Instant, alias: u64, binding: Binding) -> Option<Binding> {
        self.set_standby(now, alias, false);
        let is_standby = binding.is_standby;
        let fresh = Binding {
            is_standby: false,
            ..binding
        };
        let before = self.bindings.insert(alias, fresh);
        self.set_standby(now, alias, is_standby);
        before
    }

    pub(crate) fn unbind(&mut self, now: Instant, alias: u64) -> Option<Binding> {
        self.set_standby(now, alias, false);
        self.bindings.remove(&alias)
    }

    /// Whether a bound upstream stands by. A hop with one that does keeps short heartbeats.
    pub(crate) fn set_standby(&mut self, now: Instant, alias: u64, is_standby: bool) {
        let Some(binding) = self.bindings.get_mut(&alias) else {
            return;
        };
        // Whoever was a standby once never starts a track over: it may be behind.
        binding.restart_allowed &= !is_standby;
        let was_standby = std::mem::replace(&mut binding.is_standby, is_standby);
        if let Some(link) = self.hop() {
            link.standbys += usize::from(is_standby);
            link.standbys -= usize::from(was_standby);
            let watched = link.standbys > 0;
            link.hop.set_watched(now, watched);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Its session was opened, or never will be.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closed)
    }

    /// Ask the peer to stop sending on a stream; our state of it is gone.
    pub(crate) fn stop_stream(&mut self, id: StreamId, code: u64) {
        let code = self.wire_code(code);
        // A stream that has ended meanwhile needs no stop.
        let _ = self.quic.recv_stream(id).stop(code);
    }

    /// Reset our side of a stream.
    pub(crate) fn reset_stream(&mut self, id: StreamId, code: u64) {
        let code = self.wire_code(code);
        // A stream that has ended meanwhile needs no reset.
        let _ = self.quic.send_stream(id).reset(code);
    }

    /// An application error code as it goes on the wire: WebTransport maps it into HTTP/3's space.
    fn wire_code(&self, code: u64) -> VarInt {
        let code = match self.mode {
            Mode::WebTransport(_) => crate::wt::app_error_to_http3(code as u32),
            _ => code,
        };
        VarInt::from_u64(code).unwrap_or(VarInt::MAX)
    }

    /// An error code from the wire as the application meant it.
    pub(crate) fn application_code(&self, code: VarInt) -> u64 {
        let code = code.into_inner();
        match self.mode {
            Mode::WebTransport(_) => crate::wt::app_error_from_http3(code).map_or(code, u64::from),
            _ => code,
        }
    }

    /// End the session because the peer broke a rule, or because we were told to; reports it once.
    pub(crate) fn close(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        by: ClosedBy,
        code: u32,
        reason: &str,
    ) {
        if self.phase == Phase::Closed {
            return;
        }
        let linger = self.announce_close(code, reason);
        self.report_closed(ctx, by, u64::from(code), reason.to_owned());
        if linger {
            self.close_at = Some(now + CLOSE_CAPSULE_LINGER);
        } else {
            let bytes = Bytes::copy_from_slice(&reason.as_bytes()[..reason.len().min(256)]);
            self.quic.close(now, VarInt::from_u32(code), bytes);
        }
    }

    /// WebTransport: say it in a capsule, which needs the connection a moment longer.
    fn announce_close(&mut self, code: u32, reason: &str) -> bool {
        let is_open = self.is_open();
        match &mut self.mode {
            Mode::WebTransport(wt) if is_open => {
                let waits = wt.close(code, reason);
                crate::session::run_wt_actions(self);
                waits
            }
            _ => false,
        }
    }

    /// Tell the agent, once, that the session is over.
    pub(crate) fn report_closed(&mut self, ctx: &mut Ctx, by: ClosedBy, code: u64, reason: String) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.inbound.clear();
        self.outbound.clear();
        self.lag_check_at = None;
        self.finish_check_at = None;
        ctx.emit(Event::SessionClosed {
            session: self.session,
            by,
            code,
            reason,
        });
    }

    /// When this connection wants to be called next, QUIC's timers and ours together.
    pub(crate) fn next_timeout(&mut self, limits: &Limits) -> Option<Instant> {
        let handshake = match self.phase {
            Phase::Handshaking | Phase::Http3 => Some(self.handshake_deadline(limits)),
            _ => None,
        };
        let hop = match &self.mode {
            Mode::Hop(link) if self.phase == Phase::Open => link.hop.poll_timeout(),
            _ => None,
        };
        let silence = silence::deadline(self, limits);
        let parked = self.inbound.values().filter_map(Inbound::deadline).min();
        [
            self.quic.poll_timeout(),
            handshake,
            hop,
            parked,
            silence,
            self.lag_check_at,
            self.finish_check_at,
            self.close_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn handshake_deadline(&self, limits: &Limits) -> Instant {
        self.created + Duration::from_millis(u64::from(limits.handshake_timeout_ms))
    }
}

/// How long a connection stays after a CLOSE_WEBTRANSPORT_SESSION capsule, so that the peer reads it.
const CLOSE_CAPSULE_LINGER: Duration = Duration::from_millis(250);
