//! When the bytes of objects came, for the timeline of one object over all hops. Off unless asked for.

use crate::command::TrackId;
use crate::track::ObjectKey;

/// Objects that wait to be taken.
pub const TRACED_OBJECTS_MAX: usize = 65_536;

/// An object that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedObject {
    /// Microseconds since the datapath's epoch at which its first byte was there.
    pub first_us: u64,
    /// The same for its last byte.
    pub last_us: u64,
    /// The track it belongs to, as the agent numbers it.
    pub track: TrackId,
    /// Group id.
    pub group: u64,
    /// Object id.
    pub object: u64,
    /// Subgroup id.
    pub subgroup: u64,
}

/// Objects in the order of their last bytes.
#[derive(Debug, Default)]
pub(crate) struct ObjectTrace {
    objects: Vec<TracedObject>,
    dropped: u64,
}

impl ObjectTrace {
    pub(crate) fn add(&mut self, track: TrackId, key: ObjectKey, first_us: u64, last_us: u64) {
        if self.objects.len() >= TRACED_OBJECTS_MAX {
            self.dropped += 1;
            return;
        }
        self.objects.push(TracedObject {
            first_us,
            last_us,
            track,
            group: key.group,
            object: key.object,
            subgroup: key.subgroup,
        });
    }

    /// What was noted since the last call, and how many found no room.
    pub(crate) fn take(&mut self) -> (Vec<TracedObject>, u64) {
        let dropped = std::mem::take(&mut self.dropped);
        (std::mem::take(&mut self.objects), dropped)
    }
}
