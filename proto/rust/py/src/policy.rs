//! The policy table of a hop, checked when it is made.

use farcast_core::hop::policy::{ROUND_CHUNKS_MAX, Symbols};
use farcast_core::hop::{HopPolicy, PolicyRow};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A table, immutable.
#[pyclass(
    frozen,
    eq,
    from_py_object,
    module = "farcast.proto._core",
    name = "HopPolicy"
)]
#[derive(Clone, PartialEq, Eq)]
pub struct Policy(pub HopPolicy);

/// (loss_ppm_max, burst_milli_max, rtt_us_max, budget_ms_min, again, spacing_us, collect_us, span_us, coded, small_copies,
/// essential, disposable)
type Row = (
    u32,
    u32,
    u64,
    u16,
    bool,
    u32,
    u32,
    u32,
    bool,
    u8,
    Vec<u8>,
    Vec<u8>,
);

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (rows, disposable_priority_min=256))]
    fn new(rows: Vec<Row>, disposable_priority_min: u16) -> PyResult<Policy> {
        let rows = rows.into_iter().map(row).collect::<PyResult<Vec<_>>>()?;
        let policy = HopPolicy::new(rows, disposable_priority_min);
        let policy = policy.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Policy(policy))
    }
}

fn row(row: Row) -> PyResult<PolicyRow> {
    let symbols = |list: &[u8]| -> PyResult<Symbols> {
        let wrong = || format!("symbols: {} entries, not {ROUND_CHUNKS_MAX}", list.len());
        list.try_into().map_err(|_| PyValueError::new_err(wrong()))
    };
    Ok(PolicyRow {
        loss_ppm_max: row.0,
        burst_milli_max: row.1,
        rtt_us_max: row.2,
        budget_ms_min: row.3,
        again: row.4,
        spacing_us: row.5,
        collect_us: row.6,
        span_us: row.7,
        coded: row.8,
        small_copies: row.9,
        essential: symbols(&row.10)?,
        disposable: symbols(&row.11)?,
    })
}
