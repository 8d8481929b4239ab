//! The datapath of one shard: connections, sessions, tracks and the forwarding table, without I/O.
//!
//! A shell (UDP threads, or the simulator's kernel) feeds datagrams and time, executes the agent's
//! commands, and carries out what the `poll_*` methods give back:
//! `handle_*` and `execute` first, then `poll_transmit` until `None`, then `poll_event` until `None`,
//! then sleep until `poll_timeout` or the next datagram.

use crate::command::Command;
use crate::config::DatapathConfig;
use crate::event::Event;
use crate::stats::Snapshot;
use bytes::BytesMut;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// One or several datagrams of equal size to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// ECN codepoint bits (0 to 3) of the IP header.
    pub ecn: u8,
    /// Bytes written to the buffer.
    pub size: usize,
    /// Size of every datagram but the last, if there are several.
    pub segment_size: Option<usize>,
    /// Local address to send from, if it matters.
    pub src_ip: Option<IpAddr>,
}

/// The engine.
pub struct Datapath {
    _private: (),
}

impl Datapath {
    /// `epoch` is the moment that all `*_us` values of events count from.
    pub fn new(config: DatapathConfig, epoch: Instant) -> Datapath {
        let _ = (config, epoch);
        unimplemented!()
    }

    /// A UDP datagram arrived. `ecn`: the two bits of its IP header.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: u8,
        data: BytesMut,
    ) {
        let _ = (now, remote, local_ip, ecn, data);
        unimplemented!()
    }

    /// The time given by `poll_timeout` has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        unimplemented!()
    }

    /// Carry out one command of the agent.
    pub fn execute(&mut self, now: Instant, command: Command) {
        let _ = (now, command);
        unimplemented!()
    }

    /// The next datagrams to send, appended to `buf` (which the caller clears), at most
    /// `max_datagrams` of them.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let _ = (now, max_datagrams, buf);
        unimplemented!()
    }

    /// The next event for the agent.
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// When `handle_timeout` wants to be called next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        unimplemented!()
    }

    /// All counters at one moment.
    pub fn snapshot(&mut self, now: Instant) -> Snapshot {
        let _ = now;
        unimplemented!()
    }
}
