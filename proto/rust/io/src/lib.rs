//! Sockets and threads around the datapath: the only crate of Farcast with `unsafe` code and the only
//! Rust one that reads a clock.
//!
//! [`runtime::Runtime`] runs one datapath on one UDP socket in a thread of its own;
//! [`shaper::UdpShaper`] is a proxy that makes loopback behave like a bad long path.

mod address;
mod clock;
mod cmsg;
mod queue;
mod receive;
pub mod runtime;
mod send;
pub mod shaper;
mod shell;
mod socket;
mod sys;
mod thread;

pub use runtime::{CommandQueueFull, IoStats, Runtime, RuntimeOptions};
pub use shaper::{ShaperStats, UdpShaper};
