//! QUIC settings of the kinds of connection: public, hop, control, and outgoing.

use crate::command::{ALPN_CONTROL, ALPN_HOP};
use crate::config::{DatapathConfig, Limits};
use crate::congestion::CongestionConfig;
use crate::hop::HoldConfig;
use crate::seed;
use crate::tls::TlsError;
use noq_proto::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of datagrams queued inside QUIC on a hop: one pacing quantum, so that control on streams
/// never waits behind media (core_prototype, rule 4).
const HOP_DATAGRAM_SEND_BYTES: usize = 16 << 10;
/// Received datagrams waiting to be drained; an overflow would lose what QUIC has acknowledged.
const HOP_DATAGRAM_RECEIVE_BYTES: usize = 8 << 20;
/// Packets of a hop that QUIC's acknowledgement may wait for. Repair goes by the hop's own acknowledgements, which come
/// sooner and are themselves acknowledged by QUIC; what QUIC needs its own for, rate and round trip, bears it.
const HOP_ACK_PACKETS: u32 = 8;
/// Requests that an edge may have open at another one: a source or a standby for every track.
const HOP_REQUESTS_MAX: u32 = 16_384;
/// WebTransport requires datagram support; stock peers' datagrams are counted and dropped.
const PUBLIC_DATAGRAM_BYTES: usize = 64 << 10;
/// Streams of either direction that the peer of a control session may have open: it needs one.
const CONTROL_STREAMS_MAX: u32 = 16;
/// Flow-control window of a control stream. QUIC ends a connection whose unread stream has come in more
/// than 2048 packets, so a window must hold fewer of the smallest, or who is not read in time is lost.
const CONTROL_STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Everything a datapath needs to accept and open connections.
pub(crate) struct QuicConfigs {
    pub(crate) endpoint: EndpointConfig,
    pub(crate) public_server: Option<Arc<ServerConfig>>,
    pub(crate) hop_server: Option<Arc<ServerConfig>>,
    pub(crate) control_server: Option<Arc<ServerConfig>>,
    pub(crate) public_transport: Arc<TransportConfig>,
    pub(crate) hop_transport: Arc<TransportConfig>,
    pub(crate) control_transport: Arc<TransportConfig>,
}

impl QuicConfigs {
    pub(crate) fn new(config: &DatapathConfig) -> Result<QuicConfigs, TlsError> {
        let public_transport = Arc::new(public_transport(&config.limits, &config.congestion));
        let hop_transport = Arc::new(hop_transport(&config.limits, &config.hop_rate));
        let control_transport = Arc::new(control_transport(&config.limits));
        let (mut public_server, mut hop_server) = (None, None);
        if let Some(tls) = &config.server {
            let public = tls.public(&config.drafts)?;
            public_server = Some(Arc::new(server(config, public, public_transport.clone())));
            if let Some(hop) = tls.hop()? {
                hop_server = Some(Arc::new(server(config, hop, hop_transport.clone())));
            }
        }
        let control_server = match config.control {
            true => Some(control_server(config, control_transport.clone())?),
            false => None,
        };
        Ok(QuicConfigs {
            endpoint: config.seed.map(seed::endpoint_config).unwrap_or_default(),
            public_server,
            hop_server,
            control_server,
            public_transport,
            hop_transport,
            control_transport,
        })
    }

    /// The server side that asks for a client certificate, if that is what the ALPN list is for; `None`
    /// is the public one.
    pub(crate) fn server_for(&self, offered: &[String]) -> Option<Arc<ServerConfig>> {
        let offers = |alpn: &str| offered.iter().any(|token| token == alpn);
        if offers(ALPN_HOP) {
            self.hop_server.clone()
        } else if offers(ALPN_CONTROL) {
            self.control_server.clone()
        } else {
            None
        }
    }
}

fn control_server(
    config: &DatapathConfig,
    transport: Arc<TransportConfig>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let tls = match &config.server {
        Some(tls) => tls.control()?,
        None => None,
    };
    let without = "control sessions need a listener with a hop certificate, its key and the roots of \
                   the edges";
    let tls = tls.ok_or_else(|| TlsError(without.into()))?;
    Ok(Arc::new(server(config, tls, transport)))
}

fn server(
    config: &DatapathConfig,
    tls: Arc<noq_proto::crypto::rustls::QuicServerConfig>,
    transport: Arc<TransportConfig>,
) -> ServerConfig {
    let mut server = match config.seed {
        Some(seed) => {
            let mut server = ServerConfig::new(tls, Arc::new(seed::SeededKey(seed)));
            server.time_source(Arc::new(seed::FixedTime));
            server
        }
        None => ServerConfig::with_crypto(tls),
    };
    server.transport_config(transport);
    server.max_incoming(config.limits.handshakes_max);
    server
}

fn base_transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(limits.uni_streams_max))
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.bidi_streams_max))
        .stream_receive_window(VarInt::from_u32(limits.stream_window_bytes))
        .receive_window(VarInt::from_u32(limits.connection_window_bytes))
        .send_window(limits.send_window_bytes)
        // Without fairness a stream that always has more is never interrupted, whatever its priority: sound
        // would wait for pictures. Streams of one track have priorities of their own, by group.
        .send_fairness(true)
        .initial_rtt(Duration::from_millis(u64::from(limits.initial_rtt_ms)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(
            limits.idle_timeout_ms,
        ))))
        .keep_alive_interval(Some(Duration::from_millis(u64::from(limits.keep_alive_ms))));
    transport
}

fn public_transport(limits: &Limits, congestion: &CongestionConfig) -> TransportConfig {
    let mut transport = base_transport(limits);
    transport
        .datagram_receive_buffer_size(Some(PUBLIC_DATAGRAM_BYTES))
        .datagram_send_buffer_size(PUBLIC_DATAGRAM_BYTES)
        .congestion_controller_factory(congestion.factory());
    transport
}

fn control_transport(limits: &Limits) -> TransportConfig {
    let mut transport = base_transport(limits);
    transport
        .datagram_receive_buffer_size(Some(PUBLIC_DATAGRAM_BYTES))
        .datagram_send_buffer_size(PUBLIC_DATAGRAM_BYTES)
        .max_concurrent_uni_streams(VarInt::from_u32(CONTROL_STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(CONTROL_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(CONTROL_STREAM_WINDOW_BYTES));
    transport
}

fn hop_transport(limits: &Limits, rate: &HoldConfig) -> TransportConfig {
    let mut transport = base_transport(limits);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(HOP_ACK_PACKETS));
    let idle_ms = limits.hop_idle_timeout_ms;
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .keep_alive_interval(Some(Duration::from_millis(u64::from(idle_ms / 4))))
        .max_concurrent_bidi_streams(VarInt::from_u32(
            limits.bidi_streams_max.max(HOP_REQUESTS_MAX),
        ))
        .ack_frequency_config(Some(acks))
        .datagram_receive_buffer_size(Some(HOP_DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(HOP_DATAGRAM_SEND_BYTES)
        .congestion_controller_factory(Arc::new(*rate));
    transport
}
