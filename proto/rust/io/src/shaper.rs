//! A UDP proxy that makes loopback behave like a long bad path: no root, no kernel configuration.

use farcast_net::link::{LinkConfig, LinkStats};
use std::io;
use std::net::SocketAddr;

/// Counters of a [`UdpShaper`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShaperStats {
    /// Client to target.
    pub forward: LinkStats,
    /// Target to client.
    pub backward: LinkStats,
    /// Clients known now.
    pub clients: usize,
    /// Datagrams of clients beyond the limit.
    pub datagrams_refused: u64,
    /// Datagrams that could not be sent on, or found too much under way.
    pub datagrams_dropped: u64,
}

/// A running proxy. Dropping it closes it.
pub struct UdpShaper {
    local_addr: SocketAddr,
}

impl UdpShaper {
    /// Bind `listen` and pass datagrams to and from `target`, through one link each way that all
    /// clients share. A busy port is an error of kind `AddrInUse`, a link that cannot be one of kind
    /// `InvalidInput`.
    pub fn start(
        listen: SocketAddr,
        target: SocketAddr,
        forward: LinkConfig,
        backward: LinkConfig,
        seed: u64,
    ) -> io::Result<UdpShaper> {
        let _ = (listen, target, forward, backward, seed);
        unimplemented!()
    }

    /// The bound address: where clients send to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Counters.
    pub fn stats(&self) -> ShaperStats {
        unimplemented!()
    }

    /// Stop; datagrams under way are lost. Idempotent.
    pub fn close(&mut self) {
        unimplemented!()
    }
}
