//! `farcast.proto._core`: the datapath as Python sees it. Conversions only; every decision is made in
//! the crates below or in Python above.

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use super::*;
    use farcast_core::command;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("CORE_VERSION", env!("CARGO_PKG_VERSION"))?;
        module.add("LOCAL_STREAM_BIT", command::LOCAL_STREAM_BIT)
    }
}
