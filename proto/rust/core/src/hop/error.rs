//! What can be wrong with a datagram (the peer's fault) or with a frame to be sent (the caller's).

use std::fmt;

/// The peer broke the hop protocol. The datagram was counted and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HopError {
    /// The datagram ends inside a field.
    Truncated,
    /// A field holds what it must not; says which.
    Malformed(&'static str),
    /// A datagram type that this version does not have.
    UnknownType(u8),
    /// A sequence number was acknowledged that was never sent.
    AckOfUnsent {
        /// What the peer claims to have received.
        largest: u64,
        /// The lowest number not used yet.
        next: u64,
    },
    /// A heartbeat echoes a time that has not come, or was held longer than it is old.
    EchoOfUnsent,
}

impl HopError {
    /// The code to close the connection with, if the caller closes it: PROTOCOL_VIOLATION
    /// (draft-18, "Session Termination").
    pub fn close_code(self) -> u32 {
        0x3
    }
}

impl fmt::Display for HopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HopError::Truncated => write!(f, "hop datagram ends inside a field"),
            HopError::Malformed(what) => write!(f, "malformed hop datagram: {what}"),
            HopError::UnknownType(kind) => write!(f, "unknown hop datagram type {kind:#04x}"),
            HopError::AckOfUnsent { largest, next } => {
                write!(
                    f,
                    "peer acknowledged {largest}, but {next} was not sent yet"
                )
            }
            HopError::EchoOfUnsent => write!(f, "peer echoed a heartbeat that was not sent"),
        }
    }
}

impl std::error::Error for HopError {}

/// The caller's frame cannot be sent over a hop. Nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A value is beyond what a hop can carry (2^62 - 1; 2^30 - 1 for lengths and offsets).
    ValueTooLarge(&'static str),
    /// The fields contradict each other; says how.
    Inconsistent(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::ValueTooLarge(what) => write!(f, "{what} is too large for a hop"),
            FrameError::Inconsistent(what) => write!(f, "inconsistent frame: {what}"),
        }
    }
}

impl std::error::Error for FrameError {}
