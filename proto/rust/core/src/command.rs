//! What the agent tells the datapath: the whole vocabulary of its shell and of the simulator.
//!
//! A command never fails towards the caller: a command that names a session, stream, track or
//! downstream which is gone is ignored, because its end was or will be reported by an
//! [`Event`](crate::event::Event) and the two may cross.

use crate::congestion::MediaConfig;
use crate::hop::HopPolicy;
use crate::location::{LargestCell, Location};
use crate::second_policy::SecondPathPolicy;
use crate::tls::ClientTls;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One MoQT session, or one connection that is about to become one.
///
/// The datapath gives incoming sessions even ids; the caller gives the ones it connects odd ids.
pub type SessionId = u64;

/// A control or request stream of a session: the QUIC stream id where the peer opened it, and an id
/// of the caller's choice with bit 62 set ([`LOCAL_STREAM_BIT`]) where the agent opened it.
pub type StreamKey = u64;

/// Set in every [`StreamKey`] that the agent makes.
pub const LOCAL_STREAM_BIT: u64 = 1 << 62;

/// A track as the agent numbers it.
pub type TrackId = u64;

/// A downstream subscription (or a local sink) as the agent numbers it.
pub type DownstreamId = u64;

/// The MoQT draft whose data streams a session uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Draft {
    /// draft-ietf-moq-transport-16: RFC 9000 varints, one bidirectional control stream.
    D16,
    /// draft-ietf-moq-transport-18: vi64 varints, a pair of unidirectional control streams.
    D18,
}

impl Draft {
    /// The ALPN token and `WT-Protocol` value, `moqt-NN`.
    pub fn protocol(self) -> &'static str {
        match self {
            Draft::D16 => "moqt-16",
            Draft::D18 => "moqt-18",
        }
    }

    /// The draft that a protocol token names.
    pub fn from_protocol(token: &str) -> Option<Draft> {
        [Draft::D16, Draft::D18]
            .into_iter()
            .find(|d| d.protocol() == token)
    }

    /// The number in the draft's name.
    pub fn number(self) -> u16 {
        match self {
            Draft::D16 => 16,
            Draft::D18 => 18,
        }
    }
}

/// ALPN of a hop between two edges.
pub const ALPN_HOP: &str = "farcast-hop/1";
/// ALPN of the channel between an edge and the control plane.
pub const ALPN_CONTROL: &str = "farcast-control/1";
/// ALPN of HTTP/3, over which WebTransport runs.
pub const ALPN_H3: &str = "h3";

/// How to speak to the peer of an outgoing session.
#[derive(Clone, Debug)]
pub enum Target {
    /// MoQT over raw QUIC; the drafts are offered in this order.
    Quic {
        /// Offered drafts, most wanted first.
        drafts: Vec<Draft>,
    },
    /// MoQT over WebTransport.
    WebTransport {
        /// `host:port` of the `:authority` pseudo header.
        authority: String,
        /// `:path`, with its query, starting with a slash.
        path: String,
        /// Offered drafts, most wanted first.
        drafts: Vec<Draft>,
    },
    /// A hop to another edge.
    Hop,
    /// The control plane.
    Control,
}

/// Limits of one downstream's backlog. Beyond either, its oldest groups of the lowest priority go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueLimits {
    /// Bytes that wait for the viewer, over all its open groups.
    pub queue_bytes_max: u64,
    /// How long the first waiting byte may wait.
    pub queue_ms_max: u32,
    /// How long it may wait before the viewer's highest layer (subgroup above 0) is given up.
    pub layer_ms_max: u32,
    /// A viewer of whom nothing is heard for so long gets the newest group alone.
    pub unheard_ms_max: u32,
}

impl Default for QueueLimits {
    fn default() -> Self {
        QueueLimits {
            queue_bytes_max: 8 << 20,
            queue_ms_max: 2_000,
            layer_ms_max: 250,
            unheard_ms_max: 500,
        }
    }
}

/// Limits of the media controller ([`crate::congestion`]) in the units of settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CongestionLimits {
    /// Rate at the start, bits/s.
    pub rate_initial_bps: u64,
    /// Lowest rate, bits/s.
    pub rate_min_bps: u64,
    /// Highest rate, bits/s.
    pub rate_max_bps: u64,
    /// Packets under way before the first round trip is known.
    pub initial_packets: u32,
    /// Standing queue beyond which the rate goes down.
    pub queue_delay_ms_max: u32,
    /// Outage that the window rides out.
    pub outage_ms: u32,
    /// Lasting loss beyond which the rate goes down whatever the cause, in thousandths.
    pub loss_max_permille: u32,
}

impl Default for CongestionLimits {
    fn default() -> Self {
        let media = MediaConfig::default();
        CongestionLimits {
            rate_initial_bps: media.rate_initial * 8,
            rate_min_bps: media.rate_min * 8,
            rate_max_bps: media.rate_max * 8,
            initial_packets: media.initial_packets,
            queue_delay_ms_max: media.queue_delay_max.as_millis() as u32,
            outage_ms: media.outage.as_millis() as u32,
            loss_max_permille: media.loss_max_permille,
        }
    }
}

impl CongestionLimits {
    /// As the controller wants them; the error names the limit, its value and what would be right.
    pub fn media(&self) -> Result<MediaConfig, String> {
        let within = |name: &str, value: u64, least: u64, most: u64| {
            let rule = format!("{name} = {value}: must be from {least} to {most}");
            (least..=most).contains(&value).then_some(()).ok_or(rule)
        };
        let rate_max = 1_000_000_000_000;
        within("rate_min_bps", self.rate_min_bps, 8_000, rate_max)?;
        within(
            "rate_max_bps",
            self.rate_max_bps,
            self.rate_min_bps,
            rate_max,
        )?;
        let (least, most) = (self.rate_min_bps, self.rate_max_bps);
        within("rate_initial_bps", self.rate_initial_bps, least, most)?;
        within("initial_packets", self.initial_packets.into(), 2, 1_000)?;
        within(
            "queue_delay_ms_max",
            self.queue_delay_ms_max.into(),
            5,
            2_000,
        )?;
        within("outage_ms", self.outage_ms.into(), 0, 30_000)?;
        within("loss_max_permille", self.loss_max_permille.into(), 20, 900)?;
        Ok(MediaConfig {
            rate_initial: self.rate_initial_bps / 8,
            rate_min: self.rate_min_bps / 8,
            rate_max: self.rate_max_bps / 8,
            initial_packets: self.initial_packets,
            queue_delay_max: Duration::from_millis(self.queue_delay_ms_max.into()),
            outage: Duration::from_millis(self.outage_ms.into()),
            loss_max_permille: self.loss_max_permille,
            ..MediaConfig::default()
        })
    }
}

/// How much of a track is kept for late joiners.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheLimits {
    /// Bytes over all groups of the track.
    pub cache_bytes_max: u64,
    /// Age at which a group that is not the newest goes.
    pub cache_ms_max: u32,
    /// Groups kept at most, the running one included.
    pub cache_groups_max: u32,
}

impl Default for CacheLimits {
    fn default() -> Self {
        CacheLimits {
            cache_bytes_max: 64 << 20,
            cache_ms_max: 10_000,
            cache_groups_max: 64,
        }
    }
}

/// Order in which groups of one downstream are sent when not all can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupOrder {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// One object made by a local publisher, whole.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Group id.
    pub group: u64,
    /// Subgroup id.
    pub subgroup: u64,
    /// Object id, rising inside the subgroup.
    pub object: u64,
    /// Publisher priority, 0 (first) to 255, of the subgroup.
    pub priority: u8,
    /// Object status: 0 normal, 3 end of group, 4 end of track.
    pub status: u64,
    /// Serialised key-value pairs, RFC 9000 varints, delta-coded types (the drafts differ only in
    /// varints; the datapath converts).
    pub properties: Bytes,
    /// Payload; empty unless the status is 0.
    pub payload: Bytes,
    /// No further object of this subgroup follows.
    pub end_of_subgroup: bool,
    /// This subgroup holds the last object of the group.
    pub end_of_group: bool,
}

/// A command of the agent to the datapath.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the fields are named by the type's own documentation above
pub enum Command {
    /// Open a connection; answered by `SessionOpened` or `SessionClosed`.
    Connect {
        session: SessionId,
        remote: SocketAddr,
        /// Name to verify in the server's certificate.
        server_name: String,
        target: Target,
        tls: Arc<ClientTls>,
    },
    /// Close a session with a MoQT session error code (0 is no error).
    Close {
        session: SessionId,
        code: u32,
        reason: String,
    },
    /// Open a control (uni) or request (bidi) stream. Writes may follow at once.
    OpenStream {
        session: SessionId,
        stream: StreamKey,
        bidi: bool,
    },
    /// Append to a control or request stream; `fin` ends our side of it.
    Write {
        session: SessionId,
        stream: StreamKey,
        data: Bytes,
        fin: bool,
    },
    /// Reset our side of a stream.
    ResetStream {
        session: SessionId,
        stream: StreamKey,
        code: u32,
    },
    /// Ask the peer to stop sending on a stream.
    StopStream {
        session: SessionId,
        stream: StreamKey,
        code: u32,
    },
    /// Begin to hold a track.
    AddTrack {
        track: TrackId,
        cache: CacheLimits,
        largest: Arc<LargestCell>,
    },
    /// Forget a track, its cache, and what is bound to it.
    RemoveTrack { track: TrackId },
    /// Objects with this alias in this session feed the track. `restart_allowed`: the upstream is a
    /// new one, and if its first object lies at or below what the old one reached, the track starts
    /// over (`TrackRestarted`) instead of being taken for a duplicate.
    BindUpstream {
        session: SessionId,
        alias: u64,
        track: TrackId,
        default_priority: u8,
        restart_allowed: bool,
    },
    /// A subscription of the track at a hop's peer that is paused (forward=0) and takes over when the
    /// active upstream fails: the lowest rank first. Said again, it has the new rank. Ignored on a
    /// session that is not a hop.
    BindStandby {
        session: SessionId,
        alias: u64,
        track: TrackId,
        default_priority: u8,
        rank: u32,
    },
    /// Objects with this alias are no longer wanted; open streams are stopped. If it was the active
    /// upstream, the next standby takes over as if its session had closed: where the track is over,
    /// unbind the standbys first, or remove the track.
    UnbindUpstream { session: SessionId, alias: u64 },
    /// Move a track to a standby while the active upstream still runs: both send until the standby
    /// has delivered; then it is the active one (`UpstreamSwitched`), and the other the last standby.
    SwitchUpstream {
        track: TrackId,
        session: SessionId,
        alias: u64,
    },
    /// Have the upstream that feeds a track, if it is a hop's, send it from a place on that lies before the
    /// one from which it was subscribed.
    ReachBack { track: TrackId, start: Location },
    /// Beyond this loss (received, over the last second) or smoothed round trip, the tracks of a hop
    /// move to standbys whose hops are within theirs. 0 is no bound.
    HopBounds {
        session: SessionId,
        loss_max_permille: u32,
        rtt_max_us: u64,
    },
    /// What to spend on losses of a hop, from now on. Ignored on a session that is not a hop. Rows that are
    /// coded are for peers that offer it (NODE option).
    HopPolicy {
        session: SessionId,
        policy: HopPolicy,
    },
    /// Which tracks that a hop brings take a second path beside it, from now on. Ignored on a session that is
    /// not a hop.
    HopSecondPaths {
        session: SessionId,
        policy: Arc<SecondPathPolicy>,
    },
    /// Send the track to a session, from a location on; what the cache holds of it goes at once.
    AddDownstream {
        downstream: DownstreamId,
        session: SessionId,
        alias: u64,
        track: TrackId,
        start: Location,
        /// Last group to be sent.
        end_group: Option<u64>,
        /// Subscriber priority, 0 first.
        subscriber_priority: u8,
        group_order: GroupOrder,
        /// False: the subscription is paused.
        forward: bool,
        limits: QueueLimits,
    },
    /// Change a downstream; `None` leaves a field as it is.
    UpdateDownstream {
        downstream: DownstreamId,
        start: Option<Location>,
        end_group: Option<u64>,
        subscriber_priority: Option<u8>,
        forward: Option<bool>,
    },
    /// End a downstream: open streams are reset with `code`; answered by `DownstreamEnded`.
    RemoveDownstream { downstream: DownstreamId, code: u32 },
    /// Let open streams of a downstream finish what the track already has, open no more groups, then
    /// answer with `DownstreamEnded`.
    FinishDownstream { downstream: DownstreamId },
    /// Hand the objects of a track to the local application as `Object` events, from a location on.
    AddSink {
        downstream: DownstreamId,
        track: TrackId,
        start: Location,
    },
    /// Publish one object of a local track.
    Publish { track: TrackId, object: NewObject },
    /// Answer with a `Snapshot` of all counters.
    Snapshot { token: u64 },
}
