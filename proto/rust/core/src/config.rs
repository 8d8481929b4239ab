//! Settings of a datapath, fixed at its start. Every limit has a name and a default here.

use crate::command::Draft;
use crate::congestion::CongestionConfig;
use crate::hop::{HoldConfig, HopConfig};
use crate::tls::ServerTls;
use std::sync::Arc;

/// Settings of one datapath (one shard).
#[derive(Clone, Debug)]
pub struct DatapathConfig {
    /// Certificates and trust of the listener; `None` for a client that never listens.
    pub server: Option<Arc<ServerTls>>,
    /// Drafts that incoming sessions may use, most wanted first.
    pub drafts: Vec<Draft>,
    /// Makes connection ids, packet numbers and timers reproducible (simulator only).
    pub seed: Option<u64>,
    /// Limits against peers.
    pub limits: Limits,
    /// Recovery on hops.
    pub hop: HopConfig,
    /// Congestion control of public sessions.
    pub congestion: CongestionConfig,
    /// Congestion control on hops.
    pub hop_rate: HoldConfig,
    /// Clients whose offer marks them as `@moq/net` get draft 16 over WebTransport.
    pub moq_net_quirk: bool,
    /// Edges may open control sessions (`farcast-control/1`); the listener must have a hop identity.
    pub control: bool,
}

/// Bounds on what a peer can make us hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Concurrent sessions.
    pub sessions_max: usize,
    /// Unidirectional (data) streams a peer may have open.
    pub uni_streams_max: u32,
    /// Bidirectional (request) streams a peer may have open.
    pub bidi_streams_max: u32,
    /// Flow-control window of one stream, bytes. QUIC gives up a connection with a stream of which more
    /// than 2048 packets lie unread, so that larger windows cost honest peers their connection.
    pub stream_window_bytes: u32,
    /// Flow-control window of one connection, bytes.
    pub connection_window_bytes: u32,
    /// Sent and not acknowledged, or waiting inside QUIC, per connection, bytes.
    pub send_window_bytes: u64,
    /// What QUIC takes of media beyond what is under way, as time at the session's rate. What it has taken
    /// cannot be shed any more, so this comes on top of a viewer's `queue_ms_max`.
    pub send_queue_ms: u32,
    /// A connection that hears nothing this long is dead.
    pub idle_timeout_ms: u32,
    /// The same for a hop, whose heartbeats come every second at least: the agent is to connect anew.
    pub hop_idle_timeout_ms: u32,
    /// A public connection that heard nothing this long asks its peer for a sign of life (PING).
    pub keep_alive_ms: u32,
    /// An outgoing public session that hears nothing this long is reported (`Event::SessionSilent`); it
    /// lives on until its idle timeout. 0 is never; else it has to be well above `keep_alive_ms`.
    pub silence_ms: u32,
    /// What a round trip is taken to be before one was measured: a third of the time after which the first
    /// packet of a handshake is sent again.
    pub initial_rtt_ms: u32,
    /// Incoming connections without an open session, at once. Beyond it a client must first show that it
    /// receives at its address (RFC 9000 §8.1.2), or spoofed ones would use up `sessions_max`.
    pub handshakes_max: usize,
    /// A session that is not open after this long is given up.
    pub handshake_timeout_ms: u32,
    /// Bytes written to control and request streams that the peer has not taken, per session.
    pub control_pending_bytes_max: usize,
    /// The same on a control session, where one message may be a whole plan of 16 MiB and the next may
    /// be written before it is taken.
    pub control_session_pending_bytes_max: usize,
    /// A data stream whose header does not complete, or whose alias is not bound, this long is
    /// stopped.
    pub stream_header_timeout_ms: u32,
    /// Largest object, properties included.
    pub object_bytes_max: u64,
    /// What all tracks together may hold, bytes. Beyond it the groups that were written to longest ago
    /// go, of whatever track; the running ones stay.
    pub cache_total_bytes_max: u64,
    /// Chunks with an alias that is not bound yet, per hop, bytes.
    pub unbound_bytes_max: usize,
    /// Longest control-stream data handed over in one event, bytes.
    pub control_event_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions_max: 20_000,
            uni_streams_max: 1_024,
            bidi_streams_max: 1_024,
            stream_window_bytes: 2 << 20,
            connection_window_bytes: 16 << 20,
            send_window_bytes: 1 << 20,
            send_queue_ms: 150,
            idle_timeout_ms: 30_000,
            keep_alive_ms: 5_000,
            silence_ms: 0,
            initial_rtt_ms: 333,
            hop_idle_timeout_ms: 5_000,
            handshakes_max: 1_024,
            handshake_timeout_ms: 10_000,
            control_pending_bytes_max: 4 << 20,
            control_session_pending_bytes_max: 32 << 20,
            stream_header_timeout_ms: 5_000,
            object_bytes_max: 16 << 20,
            cache_total_bytes_max: 1 << 30,
            unbound_bytes_max: 1 << 20,
            control_event_bytes_max: 64 << 10,
        }
    }
}

impl Default for DatapathConfig {
    fn default() -> Self {
        DatapathConfig {
            server: None,
            drafts: vec![Draft::D18, Draft::D16],
            seed: None,
            limits: Limits::default(),
            hop: HopConfig::default(),
            congestion: CongestionConfig::default(),
            hop_rate: HoldConfig::default(),
            moq_net_quirk: true,
            control: false,
        }
    }
}
