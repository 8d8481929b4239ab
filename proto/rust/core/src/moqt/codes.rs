//! Error codes that the data plane sends.

use crate::command::Draft;

/// Session termination codes (draft-16 §13.4.1, draft-18 §15.10.1; the same in both).
pub mod session_error {
    /// No error.
    pub const NO_ERROR: u32 = 0x0;
    /// Our own fault.
    pub const INTERNAL_ERROR: u32 = 0x1;
    /// The peer did what the draft forbids.
    pub const PROTOCOL_VIOLATION: u32 = 0x3;
    /// The peer did not answer a GOAWAY in time.
    pub const GOAWAY_TIMEOUT: u32 = 0x10;
    /// The peer did not answer a control message in time.
    pub const CONTROL_MESSAGE_TIMEOUT: u32 = 0x11;
    /// The peer left a data stream or object header unfinished for too long.
    pub const DATA_STREAM_TIMEOUT: u32 = 0x12;
    /// No common version.
    pub const VERSION_NEGOTIATION_FAILED: u32 = 0x15;
}

/// Why a stream is reset or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// Our own fault.
    Internal,
    /// The subscription ended, or the data is not wanted.
    Cancelled,
    /// It came too late to be of use.
    DeliveryTimeout,
    /// The session is closing.
    SessionClosed,
    /// A GOAWAY was sent or received.
    GoingAway,
    /// The subscriber cannot keep up.
    TooFarBehind,
    /// It goes beyond a limit of ours.
    ExcessiveLoad,
    /// The track contradicts itself.
    MalformedTrack,
}

impl ResetReason {
    /// The code on the wire (draft-16 §13.4.4, draft-18 §15.10.4). Draft 16 has fewer, and gets the
    /// nearest that it has.
    pub const fn code(self, draft: Draft) -> u32 {
        match (self, draft) {
            (ResetReason::Internal, _) | (ResetReason::ExcessiveLoad, Draft::D16) => 0x0,
            (ResetReason::Cancelled, _) | (ResetReason::GoingAway, Draft::D16) => 0x1,
            (ResetReason::DeliveryTimeout, _) | (ResetReason::TooFarBehind, Draft::D16) => 0x2,
            (ResetReason::SessionClosed, _) => 0x3,
            (ResetReason::GoingAway, Draft::D18) => 0x4,
            (ResetReason::TooFarBehind, Draft::D18) => 0x5,
            (ResetReason::ExcessiveLoad, Draft::D18) => 0x9,
            (ResetReason::MalformedTrack, _) => 0x12,
        }
    }
}
