//! A network in memory: links that delay, queue, lose and jitter datagrams, and a kernel that runs
//! whole datapaths over them on a virtual clock.
//!
//! [`link::Link`] is also what the UDP shaper of `farcast-io` puts real datagrams through, so that the
//! same link can be tried in virtual and in real time.
#![forbid(unsafe_code)]

mod delay;
pub mod engine;
pub mod error;
pub mod host;
pub mod kernel;
pub mod link;
pub mod link_config;
pub mod loss;
mod queue;
mod rate;
pub mod record;
pub mod rng;
mod trace;

pub use engine::Engine;
pub use error::WorldError;
pub use kernel::{HostId, World, WorldStats};
pub use link::{Link, LinkStats, Verdict};
pub use link_config::{LinkConfig, LinkError, RateEntry};
pub use loss::{GilbertChain, Loss, LossWindow};
