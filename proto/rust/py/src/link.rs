//! What a modelled link is like.

use crate::error::value_error;
use crate::record;
use farcast_net::{LinkConfig as Config, Loss};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// One direction of a path between two hosts.
#[pyclass(frozen, module = "farcast.proto._core")]
pub struct LinkConfig {
    config: Config,
    #[pyo3(get)]
    loss: f64,
    #[pyo3(get)]
    loss_burst: Option<f64>,
}

impl LinkConfig {
    /// As the network wants it.
    pub fn to_core(&self) -> Config {
        self.config
    }
}

#[pymethods]
impl LinkConfig {
    #[classattr]
    fn __match_args__(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        let names = [
            "delay_us",
            "jitter_us",
            "rate_bps",
            "queue_bytes",
            "loss",
            "loss_burst",
        ];
        PyTuple::new(py, names)
    }

    #[new]
    #[pyo3(signature = (
        delay_us=0, jitter_us=0, rate_bps=None, queue_bytes=Config::default().queue_bytes,
        loss=0.0, loss_burst=None
    ))]
    fn new(
        delay_us: u64,
        jitter_us: u64,
        rate_bps: Option<u64>,
        queue_bytes: u64,
        loss: f64,
        loss_burst: Option<f64>,
    ) -> PyResult<Self> {
        let config = Config {
            delay_us,
            jitter_us,
            rate_bps,
            queue_bytes,
            loss: match loss_burst {
                Some(burst) => Loss::GilbertElliott { loss, burst },
                None => Loss::Random { p: loss },
            },
        };
        config.validate().map_err(value_error)?;
        Ok(LinkConfig {
            config,
            loss,
            loss_burst,
        })
    }

    #[getter]
    fn delay_us(&self) -> u64 {
        self.config.delay_us
    }

    #[getter]
    fn jitter_us(&self) -> u64 {
        self.config.jitter_us
    }

    #[getter]
    fn rate_bps(&self) -> Option<u64> {
        self.config.rate_bps
    }

    #[getter]
    fn queue_bytes(&self) -> u64 {
        self.config.queue_bytes
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        record::eq(slf.as_any(), other)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        record::repr(slf.as_any())
    }
}
