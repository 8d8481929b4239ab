//! What a shell needs of a datapath. [`Datapath`] is the one implementation outside of tests; calls
//! are statically dispatched.

use bytes::BytesMut;
use farcast_core::command::Command;
use farcast_core::datapath::{Datapath, Transmit};
use farcast_core::event::Event;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Datagrams that a shell asks for in one [`Transmit`]: 40 of 1452 bytes stay below the 65,507 bytes
/// that one UDP send may carry. The same in the simulator and on sockets, because it bounds bursts.
pub const TRAIN_DATAGRAMS_MAX: usize = 40;

/// The methods of [`Datapath`] that a shell calls, in the order given there.
pub trait Engine {
    /// A UDP datagram arrived.
    fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: u8,
        data: BytesMut,
    );
    /// The time given by `poll_timeout` has come.
    fn handle_timeout(&mut self, now: Instant);
    /// Carry out one command of the agent.
    fn execute(&mut self, now: Instant, command: Command);
    /// Whether to leave control streams unread because the agent is behind with its events.
    fn hold_control(&mut self, _held: bool) {}
    /// The next datagrams to send, appended to `buf`.
    fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit>;
    /// The next event for the agent.
    fn poll_event(&mut self) -> Option<Event>;
    /// When `handle_timeout` wants to be called next.
    fn poll_timeout(&mut self) -> Option<Instant>;
}

impl Engine for Datapath {
    fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: u8,
        data: BytesMut,
    ) {
        Datapath::handle_datagram(self, now, remote, local_ip, ecn, data);
    }

    fn handle_timeout(&mut self, now: Instant) {
        Datapath::handle_timeout(self, now);
    }

    fn execute(&mut self, now: Instant, command: Command) {
        Datapath::execute(self, now, command);
    }

    fn hold_control(&mut self, held: bool) {
        Datapath::hold_control(self, held);
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        Datapath::poll_transmit(self, now, max_datagrams, buf)
    }

    fn poll_event(&mut self) -> Option<Event> {
        Datapath::poll_event(self)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        Datapath::poll_timeout(self)
    }
}
