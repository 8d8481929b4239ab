//! The sans-IO datapath of Farcast.
//!
//! No socket, no clock, no thread, no random source: everything comes in as an argument, so that the
//! deployed edge and the simulator run the very same code. Start at [`datapath::Datapath`].
#![forbid(unsafe_code)]

pub mod command;
pub mod config;
pub mod datapath;
pub mod event;
pub mod hop;
pub mod location;
pub mod stats;
pub mod tls;
