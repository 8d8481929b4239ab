//! What the datapath tells the agent. Nothing here happens per packet; `Object` events exist only for
//! local sinks (viewers), never in a relay.

use crate::command::{DownstreamId, Draft, SessionId, StreamKey, TrackId};
use crate::payload::Payload;
use crate::stats::Snapshot;
use bytes::Bytes;
use std::net::SocketAddr;

/// What a session runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// MoQT over raw QUIC.
    Quic,
    /// MoQT over WebTransport.
    WebTransport,
    /// A hop between edges.
    Hop,
    /// A channel between an edge and the control plane: bytes on bidirectional streams, no MoQT.
    Control,
}

/// Whether a stream is the session's control stream or a request's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Draft 16: the first bidirectional stream. Draft 18 and hops: the peer's unidirectional stream
    /// that begins with SETUP (the bytes of its type are part of the data).
    Control,
    /// Any other bidirectional stream.
    Request,
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// We did, by a `Close` command or because the peer broke the protocol.
    Local,
    /// The peer did.
    Peer,
    /// Nothing was heard for the idle time, or the handshake got no answer.
    Timeout,
    /// TLS: certificate, ALPN or identity refused, by us or by the peer.
    Tls,
    /// Any other transport error.
    Transport,
}

/// A session is ready: for its MoQT set-up messages, or, on a control session, for requests.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// What it runs on.
    pub transport: Transport,
    /// The draft agreed on; hops speak draft 18's shape; a control session has none (it says 18).
    pub draft: Draft,
    /// The peer opened it.
    pub incoming: bool,
    /// The peer's address.
    pub remote: SocketAddr,
    /// What the peer offered: ALPN tokens, or the list of `WT-Available-Protocols`.
    pub offered: Vec<String>,
    /// WebTransport: `:authority`; empty for raw QUIC (it is in SETUP there).
    pub authority: String,
    /// WebTransport: `:path` with its query; empty for raw QUIC.
    pub path: String,
    /// The peer's certificate chain, DER, leaf first; empty where none was asked for.
    pub peer_certificates: Vec<Bytes>,
}

/// One whole object for a local sink.
#[derive(Clone, Debug)]
pub struct SinkObject {
    /// The sink it is for.
    pub downstream: DownstreamId,
    /// Group id.
    pub group: u64,
    /// Subgroup id.
    pub subgroup: u64,
    /// Object id.
    pub object: u64,
    /// Publisher priority of its subgroup.
    pub priority: u8,
    /// Object status (0 normal).
    pub status: u64,
    /// Key-value pairs, RFC 9000 varints, delta-coded types.
    pub properties: Bytes,
    /// Payload, in the pieces in which it came.
    pub payload: Payload,
    /// Microseconds since the datapath's epoch at which the first byte arrived.
    pub first_byte_us: u64,
    /// Microseconds since the datapath's epoch at which the object was complete.
    pub complete_us: u64,
}

/// Why a track moved to another upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchCause {
    /// Nothing was heard on the hop any more, or nothing of ours was acknowledged.
    Silent,
    /// The session is over, or the upstream was unbound.
    Closed,
    /// Loss beyond the hop's bound.
    Loss,
    /// A round trip beyond the hop's bound.
    Delay,
    /// It is heard, but has lost the track itself, or is fed from here.
    Starved,
    /// A `SwitchUpstream` command.
    Command,
}

/// What happened in the datapath.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Event {
    /// A session is established.
    SessionOpened {
        session: SessionId,
        info: SessionInfo,
    },
    /// A session, or the attempt to make one, is over. `code` is the MoQT or QUIC code, `reason` a
    /// sentence for people.
    SessionClosed {
        session: SessionId,
        by: ClosedBy,
        code: u64,
        reason: String,
    },
    /// Bytes of a control or request stream, in order.
    StreamData {
        session: SessionId,
        stream: StreamKey,
        kind: StreamKind,
        data: Bytes,
        fin: bool,
    },
    /// The peer reset its side of a control or request stream.
    StreamReset {
        session: SessionId,
        stream: StreamKey,
        code: u64,
    },
    /// The peer asked us to stop sending on a control or request stream.
    StreamStopped {
        session: SessionId,
        stream: StreamKey,
        code: u64,
    },
    /// The track started over below its old largest location: old cache and streams are gone, and
    /// the ids of the downstreams that had the old one (their streams are reset; they get nothing
    /// of the new one and are to be ended or added again).
    TrackRestarted {
        track: TrackId,
        downstreams: Vec<DownstreamId>,
    },
    /// An upstream sent what no track can hold (another payload for the same object, …).
    TrackMalformed {
        session: SessionId,
        alias: u64,
        track: TrackId,
        reason: String,
    },
    /// A downstream is over; `streams` were opened for it in all (PUBLISH_DONE wants the number).
    DownstreamEnded {
        downstream: DownstreamId,
        streams: u64,
    },
    /// A local sink got an object, in order inside its subgroup.
    Object(SinkObject),
    /// A subgroup of a local sink ended; `reset` where it ended before its last object.
    SinkSubgroupEnded {
        downstream: DownstreamId,
        group: u64,
        subgroup: u64,
        end_of_group: bool,
        reset: bool,
    },
    /// Nothing was heard on a hop for its silence limit, or something is heard again.
    HopSilent { session: SessionId, silent: bool },
    /// The datapath took another upstream for a track by itself, or carried out `SwitchUpstream`.
    /// `silent_us`: how long nothing had been heard on, or nothing acknowledged by, the one before when
    /// that was noticed; the switch is later where no other upstream was there yet.
    UpstreamSwitched {
        track: TrackId,
        from_session: SessionId,
        from_alias: u64,
        session: SessionId,
        alias: u64,
        cause: SwitchCause,
        silent_us: u64,
    },
    /// After a switch the new upstream brought its first byte that was not held; `gap_us` after the
    /// last new byte by any upstream.
    UpstreamResumed {
        track: TrackId,
        session: SessionId,
        alias: u64,
        gap_us: u64,
    },
    /// On an outgoing public session a data stream of a bound alias brought its first object; told only
    /// where `Limits::silence_ms` is set. So a client with several sessions knows which of them delivers.
    UpstreamDelivers {
        session: SessionId,
        alias: u64,
        group: u64,
        object: u64,
    },
    /// An upstream sends the track beside the active one from now on (`on`), or no longer. Where it becomes the
    /// active one, only `UpstreamSwitched` says so.
    SecondPath {
        track: TrackId,
        session: SessionId,
        alias: u64,
        on: bool,
    },
    /// No upstream edge of the track can give it now, or one can again.
    TrackStarved { track: TrackId, starved: bool },
    /// Nothing was heard on an outgoing public session for `Limits::silence_ms`, or something is again.
    SessionSilent { session: SessionId, silent: bool },
    /// The answer to a `Snapshot` command.
    Snapshot { token: u64, snapshot: Box<Snapshot> },
}
