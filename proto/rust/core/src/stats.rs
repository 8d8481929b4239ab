//! Counters of the datapath, read as one consistent snapshot.

use crate::command::{DownstreamId, SessionId};
use crate::event::Transport;

/// Counters of the whole datapath since its start.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // named after what they count; units are in the names
pub struct Totals {
    pub udp_datagrams_in: u64,
    pub udp_bytes_in: u64,
    pub udp_datagrams_out: u64,
    pub udp_bytes_out: u64,
    /// Objects whose last byte arrived from an upstream.
    pub objects_in: u64,
    pub object_bytes_in: u64,
    /// Objects handed whole to a downstream's transport.
    pub objects_out: u64,
    pub object_bytes_out: u64,
    /// Bytes of objects that were already held (a second upstream, a resumed one).
    pub duplicate_bytes_in: u64,
    /// Bytes of objects that second paths brought, and those of them that nobody had brought before.
    pub second_path_bytes_in: u64,
    pub second_path_new_bytes_in: u64,
    /// Groups dropped for a viewer that could not keep up.
    pub groups_dropped_slow: u64,
    /// Groups that a viewer lagged behind in were evicted from the cache.
    pub groups_dropped_evicted: u64,
    /// Subgroups above 0 that a viewer did not get, or not to their end, because it could not keep up.
    pub layers_dropped: u64,
    /// Times that a viewer gave up a layer, and got one back.
    pub layer_switches_down: u64,
    pub layer_switches_up: u64,
    /// Most that ever waited for one downstream, before it was shed, and most that all caches ever held,
    /// after eviction.
    pub queue_bytes_peak: u64,
    pub cache_bytes_peak: u64,
    pub streams_rejected: u64,
    /// QUIC datagrams of sessions that are not hops: objects in datagrams are not carried.
    pub datagrams_dropped: u64,
    pub protocol_errors: u64,
    pub handshakes_refused: u64,
    /// Clients that were asked to show that they receive at their address.
    pub handshakes_retried: u64,
    /// Times that we were called later than asked by [`STALL`](crate::datapath::STALL) or more.
    pub stalls: u64,
    /// Commands executed and events emitted: what crosses to Python. Neither grows with objects in a
    /// relay.
    pub commands: u64,
    pub events: u64,
}

/// One session.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct SessionStats {
    pub session: SessionId,
    pub transport: Transport,
    pub remote: String,
    pub rtt_us: u64,
    pub congestion_window_bytes: u64,
    /// What a sender may count on for what it sends to this peer, headers and repairs included.
    pub rate_bps: u64,
    /// Greatest delivery rate of the last rounds, and what the pacer lets out; 0 where the controller
    /// does not say.
    pub delivered_bps: u64,
    pub pacing_bps: u64,
    /// What even the quickest packet of the last round waited.
    pub queue_delay_us: u64,
    /// A policer's rate was found; another flow fills the queue.
    pub is_rate_capped: bool,
    pub is_rate_competing: bool,
    /// Name of the controller.
    pub congestion: &'static str,
    pub packets_sent: u64,
    pub packets_lost: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Control and request streams of which a side is not over.
    pub control_streams: u64,
    pub hop: Option<HopStats>,
    /// Round trips of the hop as a sketch: bucket, count. See `hop::rtt`.
    pub hop_rtt_sketch: Vec<(u32, u64)>,
}

/// The recovery layer of one hop, this end.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct HopStats {
    pub chunks_sent: u64,
    pub chunks_repaired: u64,
    /// Repair symbols; bytes of repairs of every kind, and of media sent for the first time.
    pub symbols_sent: u64,
    pub symbols_received: u64,
    /// Received frames that were computed from repair symbols.
    pub chunks_restored: u64,
    pub repair_bytes: u64,
    pub media_bytes: u64,
    /// Repairs that were due and exceeded the bound of repair bytes, or were redundant in a full pipe.
    pub repairs_withheld: u64,
    /// Chunks lost for which a whole further round was needed, and chunks acknowledged only after their budget.
    pub rounds_failed: u64,
    pub budget_misses: u64,
    /// Loss of the send direction as acknowledgements tell, millionths; mean burst, thousandths.
    pub tx_loss_ppm: u64,
    pub tx_burst_milli: u64,
    pub chunks_received: u64,
    pub chunks_duplicate: u64,
    pub chunks_lost: u64,
    pub chunks_given_up: u64,
    /// Offered for a subgroup that this end had already given up.
    pub chunks_refused: u64,
    /// Declared lost and acknowledged after all.
    pub losses_spurious: u64,
    /// Times the sender's own timer ran out without an acknowledgement.
    pub probe_timeouts: u64,
    pub acks_sent: u64,
    pub acks_received: u64,
    pub heartbeats_sent: u64,
    pub queue_bytes: u64,
    pub unacked_bytes: u64,
    pub groups_shed: u64,
    pub datagrams_malformed: u64,
    /// Not taken (and not acknowledged) because the received frames had not been fetched.
    pub datagrams_refused: u64,
    /// Requests of the peer to forward a track or to stop it: carried out, and refused because nothing
    /// is sent under the alias (any more).
    pub forwards_received: u64,
    pub forwards_refused: u64,
    /// Round trip as the hop sees it: smoothed, the last one, the least of the last ten seconds, its
    /// mean deviation; 0 is not measured.
    pub rtt_us: u64,
    pub rtt_latest_us: u64,
    pub rtt_min_us: u64,
    pub rtt_variation_us: u64,
    /// Numbered datagrams of the peer that were due, and of those what never came.
    pub rx_packets: u64,
    pub rx_lost: u64,
    /// Runs of lost ones by length: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more.
    pub rx_bursts: [u64; BURST_BUCKETS],
    /// Mean variation of transit times (RFC 3550 §6.4.1), now.
    pub rx_spacing_us: u64,
    /// UDP payload of the whole connection.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// How long ago anything was heard.
    pub heard_us: u64,
    pub is_silent: bool,
    /// Media flowed within the last second.
    pub has_media: bool,
}

/// Buckets of [`HopStats::rx_bursts`].
pub const BURST_BUCKETS: usize = 8;

/// One downstream.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct DownstreamStats {
    pub downstream: DownstreamId,
    pub session: SessionId,
    pub objects: u64,
    pub bytes: u64,
    pub groups_dropped: u64,
    pub layers_given_up: u64,
    pub queue_bytes: u64,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Snapshot {
    pub now_us: u64,
    pub totals: Totals,
    pub sessions: Vec<SessionStats>,
    pub downstreams: Vec<DownstreamStats>,
    pub tracks: u64,
    /// Those of them that two upstreams send at the same time.
    pub tracks_on_two_paths: u64,
    pub cache_bytes: u64,
}
