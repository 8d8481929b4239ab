//! Settings of a datapath, a track and a downstream.

use crate::record;
use crate::tls::ServerTls;
use crate::words::{DraftNumber, default_drafts};
use farcast_core::command;
use farcast_core::config::{self, Limits};
use farcast_core::congestion::{CongestionConfig, ControllerKind};
use farcast_core::hop::HopConfig;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Settings of one datapath.
#[pyclass(frozen, module = "farcast.proto._core")]
pub struct DatapathConfig {
    #[pyo3(get)]
    server: Option<Py<ServerTls>>,
    config: config::DatapathConfig,
}

impl DatapathConfig {
    /// As the core wants it.
    pub fn to_core(&self) -> config::DatapathConfig {
        self.config.clone()
    }
}

/// A constructor that takes every limit, and every setting of hops, as an optional keyword, and a getter
/// for each.
macro_rules! datapath_config {
    ($($limit:ident: $kind:ty),+; $($hop:ident = $setting:ident: $hop_kind:ty),+ $(,)?) => {
        #[pymethods]
        impl DatapathConfig {
            #[new]
            #[pyo3(signature = (server=None, drafts=default_drafts(), seed=None, *, moq_net_quirk=true, control=false, congestion=None, congestion_limits=None, $($limit=None,)+ $($hop=None),+))]
            #[allow(clippy::too_many_arguments)] // keywords in Python
            fn new(
                server: Option<Py<ServerTls>>,
                drafts: Vec<DraftNumber>,
                seed: Option<u64>,
                moq_net_quirk: bool,
                control: bool,
                congestion: Option<&str>,
                congestion_limits: Option<CongestionLimits>,
                $($limit: Option<$kind>,)+
                $($hop: Option<$hop_kind>),+
            ) -> PyResult<Self> {
                let mut limits = Limits::default();
                $(limits.$limit = $limit.unwrap_or(limits.$limit);)+
                let mut hop = HopConfig::default();
                $(hop.$setting = $hop.unwrap_or(hop.$setting);)+
                let config = config::DatapathConfig {
                    server: server.as_ref().map(|tls| tls.get().0.clone()),
                    drafts: crate::words::drafts(&drafts),
                    seed,
                    limits,
                    hop,
                    moq_net_quirk,
                    control,
                    congestion: congestion_config(congestion, congestion_limits)?,
                    ..config::DatapathConfig::default()
                };
                Ok(DatapathConfig { server, config })
            }

            #[getter]
            fn drafts(&self) -> Vec<u16> {
                self.config.drafts.iter().map(|draft| draft.number()).collect()
            }

            #[getter]
            fn seed(&self) -> Option<u64> {
                self.config.seed
            }

            #[getter]
            fn moq_net_quirk(&self) -> bool {
                self.config.moq_net_quirk
            }

            #[getter]
            fn congestion(&self) -> &'static str {
                self.config.congestion.kind.name()
            }

            #[getter]
            fn control(&self) -> bool {
                self.config.control
            }

            $(#[getter]
            fn $limit(&self) -> $kind {
                self.config.limits.$limit
            })+

            $(#[getter]
            fn $hop(&self) -> $hop_kind {
                self.config.hop.$setting
            })+
        }
    };
}

datapath_config! {
    sessions_max: usize,
    uni_streams_max: u32,
    bidi_streams_max: u32,
    stream_window_bytes: u32,
    connection_window_bytes: u32,
    send_window_bytes: u64,
    send_queue_ms: u32,
    idle_timeout_ms: u32,
    hop_idle_timeout_ms: u32,
    keep_alive_ms: u32,
    silence_ms: u32,
    initial_rtt_ms: u32,
    handshakes_max: usize,
    handshake_timeout_ms: u32,
    control_pending_bytes_max: usize,
    control_session_pending_bytes_max: usize,
    stream_header_timeout_ms: u32,
    object_bytes_max: u64,
    unbound_bytes_max: usize,
    cache_total_bytes_max: u64,
    control_event_bytes_max: usize;
    hop_heartbeat_ms = heartbeat_ms: u64,
    hop_heartbeat_gap_ms = heartbeat_gap_ms: u64,
    hop_heartbeat_idle_ms = heartbeat_idle_ms: u64,
    hop_silent_ms = silent_ms: u64,
    hop_silent_idle_ms = silent_idle_ms: u64,
    hop_reorder_ms = reorder_ms: u64,
    hop_bounds_packets_min = bounds_packets_min: u64,
    hop_switch_hold_ms = switch_hold_ms: u64,
    hop_budget_ms = budget_ms: u16,
    hop_repair_percent_max = repair_percent_max: u64,
    hop_repair_burst_bytes = repair_burst_bytes: u64,
    hop_repair_bps_min = repair_bps_min: u64,
    hop_repairs_planned_max = repairs_planned_max: usize,
    hop_coded_bytes_max = coded_bytes_max: usize,
}

fn congestion_config(
    name: Option<&str>,
    limits: Option<CongestionLimits>,
) -> PyResult<CongestionConfig> {
    let limits = limits.unwrap_or_default().0;
    let kind = match name {
        Some(name) => ControllerKind::from_name(name).ok_or_else(|| {
            PyValueError::new_err(format!(
                "congestion = {name:?}: must be media, cubic, newreno or bbr3"
            ))
        })?,
        None => ControllerKind::default(),
    };
    let media = limits.media().map_err(PyValueError::new_err)?;
    Ok(CongestionConfig { kind, media })
}

/// Limits that cross as a small immutable value: constructor with the core's defaults, getters,
/// equality, a readable form.
macro_rules! limits {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[pyclass(frozen, from_py_object, module = "farcast.proto._core")]
        #[derive(Clone, Copy, Default)]
        pub struct $name(pub command::$name);

        #[pymethods]
        impl $name {
            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
                PyTuple::new(py, [$(stringify!($field)),+])
            }

            #[new]
            #[pyo3(signature = ($($field=command::$name::default().$field),+))]
            fn new($($field: $kind),+) -> Self {
                $name(command::$name { $($field),+ })
            }

            $(#[getter]
            fn $field(&self) -> $kind {
                self.0.$field
            })+

            fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                record::eq(slf.as_any(), other)
            }

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                record::repr(slf.as_any())
            }
        }
    };
}

limits! {
    /// How much of a track is kept for late joiners.
    CacheLimits { cache_bytes_max: u64, cache_ms_max: u32, cache_groups_max: u32 }
}

limits! {
    /// Limits of one downstream's backlog.
    QueueLimits { queue_bytes_max: u64, queue_ms_max: u32, layer_ms_max: u32, unheard_ms_max: u32 }
}

limits! {
    /// Limits of the media controller.
    CongestionLimits {
        rate_initial_bps: u64,
        rate_min_bps: u64,
        rate_max_bps: u64,
        initial_packets: u32,
        queue_delay_ms_max: u32,
        outage_ms: u32,
        loss_max_permille: u32,
    }
}
