//! The table of second paths, checked when it is made.

use farcast_core::second_policy::{SecondPathLimits, SecondPathPolicy, SecondPathRow, Stance};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;

/// A table, immutable.
#[pyclass(
    frozen,
    eq,
    from_py_object,
    module = "farcast.proto._core",
    name = "SecondPathPolicy"
)]
#[derive(Clone, PartialEq, Eq)]
pub struct SecondPaths(pub Arc<SecondPathPolicy>);

/// (loss_ppm_max, rtt_us_max, rise_us_max, small, large)
type Row = (u32, u64, u64, String, String);

#[pymethods]
impl SecondPaths {
    #[new]
    #[pyo3(signature = (
        rows, *, small_bps_max, tracks_max, percent_max, bps_max, clear_ms, runs_min
    ))]
    fn new(
        rows: Vec<Row>,
        small_bps_max: u64,
        tracks_max: u32,
        percent_max: u32,
        bps_max: u64,
        clear_ms: u64,
        runs_min: u64,
    ) -> PyResult<SecondPaths> {
        let rows = rows.into_iter().map(row).collect::<PyResult<Vec<_>>>()?;
        let limits = SecondPathLimits {
            small_bps_max,
            tracks_max,
            percent_max,
            bps_max,
            clear_ms,
            runs_min,
        };
        let policy = SecondPathPolicy::new(rows, limits);
        let policy = policy.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(SecondPaths(Arc::new(policy)))
    }
}

fn row((loss_ppm_max, rtt_us_max, rise_us_max, small, large): Row) -> PyResult<SecondPathRow> {
    Ok(SecondPathRow {
        loss_ppm_max,
        rtt_us_max,
        rise_us_max,
        small: stance(&small)?,
        large: stance(&large)?,
    })
}

fn stance(word: &str) -> PyResult<Stance> {
    match word {
        "off" => Ok(Stance::Off),
        "keep" => Ok(Stance::Keep),
        "on" => Ok(Stance::On),
        _ => {
            let rule = format!("stance {word:?}: must be \"off\", \"keep\" or \"on\"");
            Err(PyValueError::new_err(rule))
        }
    }
}
