//! Why a world could not do what was asked.

use crate::kernel::{ENTRIES_MAX, HostId, STEPS_PER_INSTANT_MAX};
use crate::link_config::LinkError;
use farcast_core::tls::TlsError;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

/// Why a world could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorldError {
    /// No host has this number.
    NoHost(HostId),
    /// There is no link from the first host to the second.
    NoLink(HostId, HostId),
    /// The link exists already.
    DuplicateLink(HostId, HostId),
    /// Another host has the address.
    DuplicateAddress(SocketAddr),
    /// The link's configuration is refused.
    Link(LinkError),
    /// The host's TLS settings are refused.
    Tls(TlsError),
    /// More than [`STEPS_PER_INSTANT_MAX`] steps without the clock moving on.
    Standstill {
        /// The instant.
        now_us: u64,
        /// The host that took the last step.
        host: HostId,
    },
    /// More than [`ENTRIES_MAX`] datagrams, timers and scheduled commands under way.
    TooMuchUnderWay {
        /// The instant.
        now_us: u64,
    },
}

impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorldError::NoHost(host) => write!(f, "world has no host {host}"),
            WorldError::NoLink(from, to) => write!(f, "world has no link from {from} to {to}"),
            WorldError::DuplicateLink(from, to) => {
                write!(f, "world already has a link from {from} to {to}")
            }
            WorldError::DuplicateAddress(address) => {
                write!(f, "world already has a host at {address}")
            }
            WorldError::Link(error) => error.fmt(f),
            WorldError::Tls(error) => error.fmt(f),
            WorldError::Standstill { now_us, host } => write!(
                f,
                "world stands still at {now_us} us: over {STEPS_PER_INSTANT_MAX} steps, the last by host {host}"
            ),
            WorldError::TooMuchUnderWay { now_us } => write!(
                f,
                "over {ENTRIES_MAX} datagrams, timers and scheduled commands under way at {now_us} us"
            ),
        }
    }
}

impl Error for WorldError {}

impl From<LinkError> for WorldError {
    fn from(error: LinkError) -> Self {
        WorldError::Link(error)
    }
}
