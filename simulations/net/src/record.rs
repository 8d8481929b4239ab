//! Objects of local sinks, kept instead of becoming events: a simulated viewer then costs Python nothing.

use farcast_core::command::DownstreamId;
use farcast_core::event::{Event, SinkObject};
use farcast_core::object_trace::TracedObject;

/// Bytes of one record.
pub const RECORD_BYTES: usize = 40;
/// Bytes of one object of an object trace.
pub const OBJECT_TRACE_BYTES: usize = 40;
/// Records that wait to be taken, per host.
pub const RECORDS_MAX: usize = 1_000_000;

/// Which sinks of a host are recorded, and what they got.
#[derive(Default)]
pub(crate) struct Recorder {
    sinks: Vec<DownstreamId>,
    records: Vec<u8>,
}

/// What became of an event.
pub(crate) enum Recorded {
    /// It is for the agent.
    No(Event),
    /// It is kept, or was to be left out.
    Yes,
    /// There was no room.
    Dropped,
}

impl Recorder {
    pub(crate) fn add(&mut self, sink: DownstreamId) {
        if let Err(place) = self.sinks.binary_search(&sink) {
            self.sinks.insert(place, sink);
        }
    }

    /// A new engine has other sinks.
    pub(crate) fn forget_sinks(&mut self) {
        self.sinks.clear();
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.records)
    }

    pub(crate) fn handle(&mut self, event: Event) -> Recorded {
        let (Event::Object(SinkObject { downstream, .. })
        | Event::SinkSubgroupEnded { downstream, .. }) = event
        else {
            return Recorded::No(event);
        };
        if self.sinks.binary_search(&downstream).is_err() {
            return Recorded::No(event);
        }
        let Event::Object(object) = event else {
            return Recorded::Yes;
        };
        if self.records.len() >= RECORDS_MAX * RECORD_BYTES {
            return Recorded::Dropped;
        }
        self.push(&object);
        Recorded::Yes
    }

    /// Numbers beyond 32 bits are cut to the largest one.
    fn push(&mut self, object: &SinkObject) {
        let out = &mut self.records;
        out.extend_from_slice(&object.complete_us.to_le_bytes());
        out.extend_from_slice(&object.first_byte_us.to_le_bytes());
        push_u32(out, object.downstream);
        out.extend_from_slice(&object.group.to_le_bytes());
        push_u32(out, object.object);
        push_u32(out, object.subgroup);
        push_u32(out, object.payload.len() as u64);
    }
}

/// Objects of a datapath's trace as bytes.
pub(crate) fn object_trace(objects: &[TracedObject]) -> Vec<u8> {
    let mut out = Vec::with_capacity(objects.len() * OBJECT_TRACE_BYTES);
    for object in objects {
        for word in [object.first_us, object.last_us, object.track, object.group] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        push_u32(&mut out, object.object);
        push_u32(&mut out, object.subgroup);
    }
    out
}

fn push_u32(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
}
