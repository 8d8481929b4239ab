//! Counters as plain dictionaries.

use crate::words::Word;
use farcast_core::stats::{DownstreamStats, HopStats, SessionStats, Snapshot, Totals};
use farcast_io::IoStats;
use farcast_net::{LinkStats, WorldStats};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A dictionary of the named fields of a struct.
macro_rules! dict {
    ($py:expr, $from:expr, $($field:ident),+ $(,)?) => {{
        let dict = PyDict::new($py);
        $(dict.set_item(pyo3::intern!($py, stringify!($field)), $from.$field)?;)+
        dict
    }};
}

/// All counters of a datapath.
pub fn snapshot<'py>(py: Python<'py>, from: &Snapshot) -> PyResult<Bound<'py, PyDict>> {
    let sessions: PyResult<Vec<_>> = from.sessions.iter().map(|s| session(py, s)).collect();
    let downstreams: PyResult<Vec<_>> =
        from.downstreams.iter().map(|d| downstream(py, d)).collect();
    let dict = dict!(py, from, now_us, tracks, tracks_on_two_paths, cache_bytes);
    dict.set_item("totals", totals(py, &from.totals)?)?;
    dict.set_item("sessions", sessions?)?;
    dict.set_item("downstreams", downstreams?)?;
    Ok(dict)
}

fn totals<'py>(py: Python<'py>, from: &Totals) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(
        py,
        from,
        udp_datagrams_in,
        udp_bytes_in,
        udp_datagrams_out,
        udp_bytes_out,
        objects_in,
        object_bytes_in,
        objects_out,
        object_bytes_out,
        duplicate_bytes_in,
        second_path_bytes_in,
        second_path_new_bytes_in,
        groups_dropped_slow,
        groups_dropped_evicted,
        layers_dropped,
        layer_switches_down,
        layer_switches_up,
        queue_bytes_peak,
        cache_bytes_peak,
        streams_rejected,
        datagrams_dropped,
        protocol_errors,
        handshakes_refused,
        stalls,
        commands,
        events,
    ))
}

fn session<'py>(py: Python<'py>, from: &SessionStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = dict!(
        py,
        from,
        session,
        rtt_us,
        congestion_window_bytes,
        rate_bps,
        delivered_bps,
        pacing_bps,
        queue_delay_us,
        is_rate_capped,
        is_rate_competing,
        congestion,
        packets_sent,
        packets_lost,
        bytes_sent,
        bytes_received,
    );
    dict.set_item("transport", &Word(from.transport))?;
    dict.set_item("remote", &from.remote)?;
    let hop = from.hop.as_ref().map(|stats| hop(py, stats)).transpose()?;
    if let Some(hop) = &hop {
        let sketch = PyDict::new(py);
        for (bucket, count) in &from.hop_rtt_sketch {
            sketch.set_item(bucket, count)?;
        }
        hop.set_item("rtt_sketch", sketch)?;
    }
    dict.set_item("hop", hop)?;
    Ok(dict)
}

fn hop<'py>(py: Python<'py>, from: &HopStats) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(
        py,
        from,
        chunks_sent,
        chunks_repaired,
        symbols_sent,
        symbols_received,
        chunks_restored,
        repair_bytes,
        media_bytes,
        repairs_withheld,
        rounds_failed,
        budget_misses,
        tx_loss_ppm,
        tx_burst_milli,
        chunks_received,
        chunks_duplicate,
        chunks_lost,
        chunks_given_up,
        chunks_refused,
        losses_spurious,
        probe_timeouts,
        acks_sent,
        acks_received,
        heartbeats_sent,
        queue_bytes,
        unacked_bytes,
        groups_shed,
        datagrams_malformed,
        datagrams_refused,
        forwards_received,
        forwards_refused,
        rtt_us,
        rtt_latest_us,
        rtt_min_us,
        rtt_variation_us,
        rx_packets,
        rx_lost,
        rx_bursts,
        rx_spacing_us,
        rx_bytes,
        tx_bytes,
        heard_us,
        is_silent,
        has_media,
    ))
}

fn downstream<'py>(py: Python<'py>, from: &DownstreamStats) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(
        py,
        from,
        downstream,
        session,
        objects,
        bytes,
        groups_dropped,
        layers_given_up,
        queue_bytes,
    ))
}

/// Counters of a thread and its socket.
pub fn io<'py>(py: Python<'py>, from: &IoStats) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(
        py,
        from,
        wakeups,
        receive_calls,
        send_calls,
        datagrams_in,
        bytes_in,
        datagrams_out,
        bytes_out,
        datagrams_truncated,
        datagrams_dropped_queue,
        datagrams_refused,
        receive_errors,
        send_blocked,
        objects_dropped,
        gso,
        gro,
        receive_buffer_bytes,
        send_buffer_bytes,
    ))
}

/// Counters of one direction of a link.
pub fn link<'py>(py: Python<'py>, from: &LinkStats) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(
        py,
        from,
        packets_in,
        bytes_in,
        packets_delivered,
        bytes_delivered,
        packets_lost,
        packets_lost_large,
        packets_dropped_queue,
        packets_dropped_policer,
        packets_dropped_mtu,
        packets_dropped_down,
        packets_duplicated,
        packets_reordered,
        queue_bytes_peak,
    ))
}

/// Counters of a simulated world.
pub fn world<'py>(py: Python<'py>, from: &WorldStats) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(
        py,
        from,
        datagrams,
        bytes,
        datagrams_no_route,
        datagrams_host_down,
        datagrams_socket_full,
        records_dropped,
        traces_dropped,
    ))
}
