//! Where an object stands in its track.

use std::sync::{Mutex, PoisonError};

/// Group and object, ordered as MoQT orders them (draft-18 §1.4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Group id.
    pub group: u64,
    /// Object id inside the group.
    pub object: u64,
}

impl Location {
    /// A location from its two ids.
    pub fn new(group: u64, object: u64) -> Self {
        Location { group, object }
    }
}

/// The largest location of a track, shared between the datapath, which writes it when the first byte
/// of a larger object arrives, and the agent, which answers SUBSCRIBE with it.
#[derive(Debug, Default)]
pub struct LargestCell(Mutex<Option<Location>>);

impl LargestCell {
    /// The largest location so far, or `None` before the first object.
    pub fn get(&self) -> Option<Location> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replace it (also to forget it, when a track starts over).
    pub fn set(&self, location: Option<Location>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = location;
    }
}
