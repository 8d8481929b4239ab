//! Datapaths over modelled links on a virtual clock.

use crate::command::{self, Command};
use crate::config::DatapathConfig;
use crate::error::{tls_error, value_error};
use crate::event::Event;
use crate::link::LinkConfig;
use crate::snapshot;
use crate::words::{Address, to_python};
use farcast_net::{HostId, WorldError};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Datapaths over modelled links on a virtual clock that starts at 0.
#[pyclass(frozen, module = "farcast.proto._core")]
pub struct World(Mutex<farcast_net::World>);

impl World {
    fn lock(&self) -> MutexGuard<'_, farcast_net::World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl World {
    #[new]
    fn new(seed: u64) -> Self {
        // Only differences of instants matter to the engines; this one is an arbitrary zero.
        #[allow(clippy::disallowed_methods)]
        let epoch = Instant::now();
        World(Mutex::new(farcast_net::World::new(epoch, seed)))
    }

    fn add_host(&self, addr: Address, config: &DatapathConfig) -> PyResult<HostId> {
        self.lock()
            .add_host(addr.0, config.to_core())
            .map_err(world_error)
    }

    fn add_link(&self, src_host: HostId, dst_host: HostId, config: &LinkConfig) -> PyResult<()> {
        self.lock()
            .add_link(src_host, dst_host, config.to_core())
            .map_err(world_error)
    }

    fn set_link(&self, src_host: HostId, dst_host: HostId, config: &LinkConfig) -> PyResult<()> {
        self.lock()
            .set_link(src_host, dst_host, config.to_core())
            .map_err(world_error)
    }

    fn set_link_up(&self, src_host: HostId, dst_host: HostId, up: bool) -> PyResult<()> {
        self.lock()
            .set_link_up(src_host, dst_host, up)
            .map_err(world_error)
    }

    fn remove_link(&self, src_host: HostId, dst_host: HostId) -> PyResult<()> {
        self.lock()
            .remove_link(src_host, dst_host)
            .map_err(world_error)
    }

    fn link_stats<'py>(
        &self,
        py: Python<'py>,
        src_host: HostId,
        dst_host: HostId,
    ) -> PyResult<Bound<'py, PyDict>> {
        let stats = *self
            .lock()
            .link_stats(src_host, dst_host)
            .map_err(world_error)?;
        snapshot::link(py, &stats)
    }

    fn execute(
        &self,
        py: Python<'_>,
        host: HostId,
        commands: Vec<Bound<'_, Command>>,
    ) -> PyResult<()> {
        let commands = command::to_core(&commands);
        py.detach(|| self.lock().execute(host, commands))
            .map_err(world_error)
    }

    fn schedule(
        &self,
        py: Python<'_>,
        host: HostId,
        commands: Vec<(u64, Bound<'_, Command>)>,
    ) -> PyResult<()> {
        let (times, commands): (Vec<u64>, Vec<_>) = commands.into_iter().unzip();
        let commands = times.into_iter().zip(command::to_core(&commands)).collect();
        py.detach(|| self.lock().schedule(host, commands))
            .map_err(world_error)
    }

    fn pause_host(&self, host: HostId, until_us: u64) -> PyResult<()> {
        self.lock().pause_host(host, until_us).map_err(world_error)
    }

    fn stop_host(&self, host: HostId) -> PyResult<()> {
        self.lock().stop_host(host).map_err(world_error)
    }

    fn restart_host(&self, host: HostId, config: &DatapathConfig) -> PyResult<()> {
        self.lock()
            .restart_host(host, config.to_core())
            .map_err(world_error)
    }

    fn move_host(&self, host: HostId, addr: Address) -> PyResult<()> {
        self.lock().move_host(host, addr.0).map_err(world_error)
    }

    fn record(&self, host: HostId, downstream: u64) -> PyResult<()> {
        self.lock().record(host, downstream).map_err(world_error)
    }

    fn take_record(&self, py: Python<'_>, host: HostId) -> PyResult<Py<PyBytes>> {
        let records = self.lock().take_record(host).map_err(world_error)?;
        Ok(to_python(py, &records))
    }

    fn trace_objects(&self, host: HostId, on: bool) -> PyResult<()> {
        self.lock().trace_objects(host, on).map_err(world_error)
    }

    fn take_object_trace(&self, py: Python<'_>, host: HostId) -> PyResult<Py<PyBytes>> {
        let trace = self.lock().take_object_trace(host).map_err(world_error)?;
        Ok(to_python(py, &trace))
    }

    fn run_until(&self, py: Python<'_>, t_us: u64) -> PyResult<Vec<(u64, HostId, Event)>> {
        let events = py
            .detach(|| self.lock().run_until(t_us))
            .map_err(world_error)?;
        let convert = |(at_us, host, event)| Ok((at_us, host, Event::from_core(py, event)?));
        events.into_iter().map(convert).collect()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = *self.lock().stats();
        snapshot::world(py, &stats)
    }

    fn now_us(&self) -> u64 {
        self.lock().now_us()
    }

    fn trace_hash(&self) -> String {
        format!("{:016x}", self.lock().trace_hash())
    }
}

fn world_error(error: WorldError) -> PyErr {
    match error {
        WorldError::Standstill { .. } | WorldError::TooMuchUnderWay { .. } => {
            PyRuntimeError::new_err(error.to_string())
        }
        WorldError::NoHost(_)
        | WorldError::NoLink(..)
        | WorldError::DuplicateLink(..)
        | WorldError::DuplicateAddress(_)
        | WorldError::Link(_) => value_error(error),
        WorldError::Tls(error) => tls_error(&error),
    }
}
