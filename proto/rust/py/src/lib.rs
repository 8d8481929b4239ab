//! `farcast.proto._core`: the datapath as Python sees it. Conversions only; every decision is made in
//! the crates below or in Python above. `proto/_core.pyi` documents what is here.
#![forbid(unsafe_code)]

mod command;
mod config;
mod error;
mod event;
mod largest;
mod link;
mod loss;
mod policy;
mod record;
mod runtime;
mod second_policy;
mod shaper;
mod snapshot;
mod tls;
mod words;
mod world;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::command::Command;
    #[pymodule_export]
    use crate::config::{CacheLimits, CongestionLimits, DatapathConfig, QueueLimits};
    #[pymodule_export]
    use crate::error::CoreError;
    #[pymodule_export]
    use crate::event::Event;
    #[pymodule_export]
    use crate::largest::LargestCell;
    #[pymodule_export]
    use crate::link::LinkConfig;
    #[pymodule_export]
    use crate::loss::Loss;
    #[pymodule_export]
    use crate::policy::Policy;
    #[pymodule_export]
    use crate::runtime::Runtime;
    #[pymodule_export]
    use crate::second_policy::SecondPaths;
    #[pymodule_export]
    use crate::shaper::UdpShaper;
    #[pymodule_export]
    use crate::tls::{ClientTls, ServerTls};
    #[pymodule_export]
    use crate::world::World;
    #[pymodule_export]
    const CORE_VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const LOCAL_STREAM_BIT: u64 = farcast_core::command::LOCAL_STREAM_BIT;
}
