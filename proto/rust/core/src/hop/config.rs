//! Settings of a hop. Every interval and limit has its name and default here.

use std::time::Duration;

/// Settings of one hop, the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopConfig {
    /// Data datagrams received before an acknowledgement is sent at once.
    pub ack_every: u32,
    /// Longest that a received data datagram waits for its acknowledgement.
    pub ack_delay_ms_max: u64,
    /// A datagram is lost when one sent this many later has been acknowledged (at least 1).
    pub loss_packets: u64,
    /// A datagram is lost when a later one was acknowledged this long ago.
    pub loss_ms: u64,
    /// RTT assumed until one is measured.
    pub initial_rtt_ms: u64,
    /// Shortest time without an acknowledgement after which the sender probes.
    pub probe_ms_min: u64,
    /// Longest such time, however often it doubled.
    pub probe_ms_max: u64,
    /// A frame that is not acknowledged this long after it was offered is given up, and its subgroup
    /// with it.
    pub frame_life_ms_max: u64,
    /// Frames that wait to be sent for the first time, bytes. Beyond it the oldest groups of the
    /// lowest priority are given up.
    pub queue_bytes_max: u64,
    /// How long a frame may wait to be sent for the first time before its subgroup is given up.
    pub queue_ms_max: u64,
    /// How much longer than the least round trip even the quickest may take before the pipe counts as full, and what
    /// is redundant is dropped. Above what jitter does to the few samples of a tenth of a second.
    pub full_queue_ms: u64,
    /// How long it still does afterwards: one key frame to the next.
    pub full_hold_ms: u64,
    /// Frames sent and not acknowledged, bytes. At this much nothing new is sent.
    pub unacked_bytes_max: u64,
    /// Records of datagrams whose fate is not known. Beyond it the oldest count as lost.
    pub in_flight_max: usize,
    /// What an object may take through the network, from the edge that it enters at to that of its viewers. How
    /// much of it is left when something is lost decides how it is repaired (policy.rs).
    pub budget_ms: u16,
    /// Bytes that repairs of every kind may have per 100 bytes of new media. Beyond it copies wait, and what is
    /// redundant is dropped.
    pub repair_percent_max: u64,
    /// How far repairs may run ahead of that, bytes.
    pub repair_burst_bytes: u64,
    /// What repairs may have besides, bit/s: the tail of what ended is repaired too.
    pub repair_bps_min: u64,
    /// Repairs that wait for their time. Beyond it losses are repaired at once, with one copy each.
    pub repairs_planned_max: usize,
    /// Shards and repair symbols that a receiver keeps to solve coded rounds, bytes.
    pub coded_bytes_max: usize,
    /// Received frames that the caller has not fetched, bytes. Beyond it datagrams are refused, and
    /// not acknowledged.
    pub received_bytes_max: u64,
    /// Gaps remembered in the sequence numbers received.
    pub gaps_max: usize,
    /// Subgroups given up whose later frames are still refused.
    pub given_up_max: usize,
    /// Events that the caller has not fetched; beyond it the oldest are lost.
    pub events_max: usize,
    /// How long after a data datagram, sent or received, media counts as flowing.
    pub media_ms: u64,
    /// Heartbeat interval while media flows.
    pub heartbeat_ms: u64,
    /// Heartbeat interval otherwise.
    pub heartbeat_idle_ms: u64,
    /// How long the short interval goes on after media ended, so that both ends agree on it.
    pub heartbeat_linger_ms: u64,
    /// Silence after which the peer counts as gone while media flows.
    pub silent_ms: u64,
    /// Silence after which it is in doubt while media flows: a standby is asked meanwhile, and told to stop
    /// if there was nothing.
    pub doubt_ms: u64,
    /// How long nothing more is asked of a standby after a doubt that was wrong.
    pub doubt_hold_ms: u64,
    /// Silence after which the peer counts as gone otherwise; at least three of its intervals.
    pub silent_idle_ms: u64,
    /// Closest that heartbeats come where loss in bursts asks for more of them.
    pub heartbeat_gap_ms: u64,
    /// How closely packets follow one another while a flow is younger than `heartbeat_start_ms`: how the
    /// link loses is not known yet.
    pub heartbeat_start_gap_ms: u64,
    /// How long that goes on.
    pub heartbeat_start_ms: u64,
    /// How long a missing datagram may still come after a later one did, before it counts as lost.
    pub reorder_ms: u64,
    /// Datagrams due within a second without which its loss is no reason to leave a hop.
    pub bounds_packets_min: u64,
    /// How long a track stays where it went because of loss or delay.
    pub switch_hold_ms: u64,
}

impl Default for HopConfig {
    fn default() -> Self {
        HopConfig {
            ack_every: 8,
            ack_delay_ms_max: 10,
            loss_packets: 3,
            loss_ms: 8,
            initial_rtt_ms: 100,
            probe_ms_min: 20,
            probe_ms_max: 1_000,
            frame_life_ms_max: 10_000,
            queue_bytes_max: 8 << 20,
            queue_ms_max: 2_000,
            full_queue_ms: 40,
            full_hold_ms: 2_000,
            unacked_bytes_max: 32 << 20,
            in_flight_max: 1 << 17,
            budget_ms: 400,
            repair_percent_max: 400,
            repair_burst_bytes: 512 << 10,
            repair_bps_min: 256_000,
            repairs_planned_max: 8_192,
            coded_bytes_max: 2 << 20,
            received_bytes_max: 8 << 20,
            gaps_max: 8_192,
            given_up_max: 1_024,
            events_max: 1_024,
            media_ms: 1_000,
            heartbeat_ms: 40,
            heartbeat_idle_ms: 1_000,
            heartbeat_linger_ms: 500,
            silent_ms: 200,
            doubt_ms: 90,
            doubt_hold_ms: 1_000,
            silent_idle_ms: 3_000,
            heartbeat_gap_ms: 3,
            heartbeat_start_gap_ms: 5,
            heartbeat_start_ms: 1_000,
            reorder_ms: 100,
            bounds_packets_min: 40,
            switch_hold_ms: 5_000,
        }
    }
}

/// Milliseconds of a setting.
pub(super) fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}
