//! The largest location of a track, and locations as tuples.

use farcast_core::location::{self, Location};
use pyo3::prelude::*;
use std::sync::Arc;

/// The largest location of a track, shared between the datapath, which writes it, and the agent.
#[pyclass(frozen, module = "farcast.proto._core")]
pub struct LargestCell(pub Arc<location::LargestCell>);

#[pymethods]
impl LargestCell {
    #[new]
    fn new() -> Self {
        LargestCell(Arc::default())
    }

    fn get(&self) -> Option<(u64, u64)> {
        self.0.get().map(|at| (at.group, at.object))
    }

    fn set(&self, location: Option<(u64, u64)>) {
        self.0.set(location.map(self::location));
    }

    fn __repr__(&self) -> String {
        match self.get() {
            Some((group, object)) => format!("<LargestCell ({group}, {object})>"),
            None => "<LargestCell None>".to_owned(),
        }
    }
}

/// A `(group, object)` tuple as the core wants it.
pub fn location((group, object): (u64, u64)) -> Location {
    Location { group, object }
}
