//! A datapath on real sockets, in threads that need no interpreter.

use crate::command::{self, Command};
use crate::config::DatapathConfig;
use crate::error::io_error;
use crate::event::Event;
use crate::snapshot;
use crate::words::Address;
use farcast_io::CommandQueueFull;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::fd::RawFd;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// A datapath on real UDP sockets.
#[pyclass(frozen, module = "farcast.proto._core")]
pub struct Runtime(RwLock<farcast_io::Runtime>);

impl Runtime {
    fn read(&self) -> RwLockReadGuard<'_, farcast_io::Runtime> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Runtime {
    #[new]
    fn new(py: Python<'_>, listen: Address, config: &DatapathConfig) -> PyResult<Self> {
        let config = config.to_core();
        let started = py.detach(|| farcast_io::Runtime::start(listen.0, config));
        Ok(Runtime(RwLock::new(started.map_err(io_error)?)))
    }

    #[getter]
    fn local_addr(&self) -> String {
        self.read().local_addr().to_string()
    }

    #[getter]
    fn event_fd(&self) -> RawFd {
        self.read().event_fd()
    }

    fn execute(&self, py: Python<'_>, commands: Vec<Bound<'_, Command>>) -> PyResult<()> {
        let commands = command::to_core(&commands);
        py.detach(|| self.read().execute(commands))
            .map_err(queue_full)
    }

    fn drain_events(&self, py: Python<'_>, max: usize) -> PyResult<Vec<Event>> {
        let events = py.detach(|| self.read().drain_events(max));
        events
            .into_iter()
            .map(|event| Event::from_core(py, event))
            .collect()
    }

    fn now_us(&self) -> u64 {
        self.read().now_us()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.read().stats());
        snapshot::io(py, &stats)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            self.0
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .close()
        });
    }
}

fn queue_full(error: CommandQueueFull) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
