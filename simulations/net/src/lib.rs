//! A network in memory: links that delay, queue, lose and jitter datagrams, and a kernel that runs
//! whole datapaths over them on a virtual clock.
//!
//! [`link::Link`] is also what the UDP shaper of `farcast-io` puts real datagrams through, so that the
//! same link can be tried in virtual and in real time.
#![forbid(unsafe_code)]

pub mod engine;
pub mod kernel;
pub mod link;
pub mod rng;
mod trace;

pub use engine::Engine;
pub use kernel::{HostId, World, WorldError, WorldStats};
pub use link::{Link, LinkConfig, LinkError, LinkStats, Loss, Verdict};
