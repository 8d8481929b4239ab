//! A link in real time between UDP sockets.

use crate::error::io_error;
use crate::link::LinkConfig;
use crate::snapshot;
use crate::words::Address;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Puts the datagrams between clients and one server through a link.
#[pyclass(frozen, module = "farcast.proto._core")]
pub struct UdpShaper(Mutex<farcast_io::UdpShaper>);

impl UdpShaper {
    fn lock(&self) -> MutexGuard<'_, farcast_io::UdpShaper> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl UdpShaper {
    #[new]
    #[pyo3(signature = (listen, target, forward, backward, seed=0))]
    fn new(
        py: Python<'_>,
        listen: Address,
        target: Address,
        forward: &LinkConfig,
        backward: &LinkConfig,
        seed: u64,
    ) -> PyResult<Self> {
        let (forward, backward) = (forward.to_core(), backward.to_core());
        let started =
            py.detach(|| farcast_io::UdpShaper::start(listen.0, target.0, forward, backward, seed));
        Ok(UdpShaper(Mutex::new(started.map_err(io_error)?)))
    }

    #[getter]
    fn local_addr(&self) -> String {
        self.lock().local_addr().to_string()
    }

    fn set_links(&self, forward: &LinkConfig, backward: &LinkConfig) -> PyResult<()> {
        let shaper = self.lock();
        let changed = shaper.set_links(forward.to_core(), backward.to_core());
        changed.map_err(io_error)
    }

    fn set_up(&self, forward: bool, backward: bool) {
        self.lock().set_up(forward, backward);
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.lock().stats());
        let dict = PyDict::new(py);
        dict.set_item("forward", snapshot::link(py, &stats.forward)?)?;
        dict.set_item("backward", snapshot::link(py, &stats.backward)?)?;
        dict.set_item("clients", stats.clients)?;
        dict.set_item("datagrams_refused", stats.datagrams_refused)?;
        dict.set_item("datagrams_dropped", stats.datagrams_dropped)?;
        Ok(dict)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.lock().close());
    }
}
