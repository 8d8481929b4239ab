//! The sans-IO datapath of Farcast.
//!
//! No socket, no clock, no thread, no random source: everything comes in as an argument, so that the
//! deployed edge and the simulator run the very same code. Start at [`datapath::Datapath`].
#![forbid(unsafe_code)]

pub mod byte_queue;
pub mod command;
pub mod config;
pub mod congestion;
mod conn;
mod conns;
mod control;
pub mod datapath;
mod downstream;
pub mod event;
mod execute;
mod forward;
pub mod hop;
mod hop_link;
mod ingest;
pub mod location;
pub mod moqt;
mod moves;
pub mod object_trace;
mod pair;
pub mod payload;
mod publish;
mod quic;
mod reach;
mod relay;
mod reroute;
mod second_path;
pub mod second_policy;
pub mod seed;
mod send_room;
mod session;
mod silence;
pub mod stats;
mod supply;
pub mod tls;
mod track;
mod upstreams;
pub mod varint;
mod windowed_min;
pub mod wt;
