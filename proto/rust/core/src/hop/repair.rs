//! What to send for what was lost: the seam where other ways of repair fit in.
//!
//! The sender reports each batch of losses to the policy once and carries out its plan. A loss is a
//! frame that the peer has not got and that no datagram in flight may still bring. Plain ARQ answers
//! each with one more copy, at once. Spaced copies, repair symbols coded over a batch, and a second
//! path are further policies with further kinds of [`Repair`].

use super::store::FrameNo;
use std::fmt;

/// One step of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// Send the frame again, as soon as there is room.
    Copy(FrameNo),
}

/// Plans repairs.
pub(super) trait RepairPolicy: fmt::Debug + Send {
    /// Frames that were lost together, in the order they were sent.
    fn plan(&mut self, lost: &[FrameNo]) -> Vec<Repair>;
}

/// One copy of each.
#[derive(Debug)]
pub(super) struct PlainArq;

impl RepairPolicy for PlainArq {
    fn plan(&mut self, lost: &[FrameNo]) -> Vec<Repair> {
        lost.iter().map(|no| Repair::Copy(*no)).collect()
    }
}
