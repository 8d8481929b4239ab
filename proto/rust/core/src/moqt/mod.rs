//! MoQT data streams and datagrams of drafts 16 and 18.
//!
//! The wire differs little between the two drafts: the integers ([`crate::varint`]), one bit of the
//! subgroup header, padding, and where control messages travel. So there is one codec with the draft
//! as an argument, and the rest of the datapath knows nothing of drafts:
//!
//! * a new unidirectional stream goes through [`UniStreamSorter`] until its type is known;
//! * a subgroup stream goes through a [`SubgroupReader`], which gives a header, object headers and the
//!   pieces of payload as they arrive, so that a relay can forward the first byte of an object before
//!   its last one is there;
//! * [`encode_subgroup_header`] and [`encode_object_header`] write the same for another session;
//! * object properties cross this boundary in one form only, that of draft 16 (*stored form*): readers
//!   convert to it, writers from it ([`convert_properties`]).
//!
//! What a peer gets wrong is a [`DataError`], which says how much of the session it costs.

mod codes;
mod datagram;
mod error;
mod properties;
mod subgroup_reader;
#[cfg(test)]
mod subgroup_tests;
mod subgroup_writer;
mod uni_stream;

pub use codes::{ResetReason, session_error};
pub use datagram::{Datagram, ObjectDatagram, decode_datagram};
pub use error::{DataError, ErrorScope};
pub use properties::{PROPERTY_VALUE_BYTES_MAX, convert_properties};
pub use subgroup_reader::{DataLimits, ObjectHeader, SubgroupItem, SubgroupReader};
pub use subgroup_writer::{encode_object_header, encode_subgroup_header};
pub use uni_stream::{Sorted, UniStreamKind, UniStreamSorter};

/// The fixed part of a subgroup stream (draft-16 §10.4.2, draft-18 §11.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubgroupHeader {
    /// The publisher's number for the track in this session.
    pub alias: u64,
    /// Group id.
    pub group: u64,
    /// Subgroup id; `None`: the id of the stream's first object.
    pub subgroup: Option<u64>,
    /// Publisher priority, 0 first; `None`: the track's default.
    pub priority: Option<u8>,
    /// This subgroup holds the last object of the group: a FIN ends the group too.
    pub end_of_group: bool,
    /// The stream's first object is the first that was ever published in the subgroup. Draft 18 only:
    /// always false when read from draft 16, and not written there.
    pub first_object: bool,
    /// Every object of the stream has a properties field, be it empty.
    pub has_properties: bool,
}

/// Object statuses (draft-16 §10.2.1.1, draft-18 §11.2.1.1); no other value is valid.
pub mod object_status {
    /// An ordinary object, payload possibly empty.
    pub const NORMAL: u64 = 0x0;
    /// No object at or above this id exists in the group.
    pub const END_OF_GROUP: u64 = 0x3;
    /// No object at or above this location exists in the track.
    pub const END_OF_TRACK: u64 = 0x4;
}

/// Bits of the subgroup header's type.
mod subgroup_type {
    pub(super) const PROPERTIES: u64 = 0x01;
    pub(super) const ID_MODE: u64 = 0x06;
    pub(super) const ID_ZERO: u64 = 0x00;
    pub(super) const ID_FIRST_OBJECT: u64 = 0x02;
    pub(super) const ID_PRESENT: u64 = 0x04;
    pub(super) const END_OF_GROUP: u64 = 0x08;
    pub(super) const SUBGROUP: u64 = 0x10;
    pub(super) const DEFAULT_PRIORITY: u64 = 0x20;
    /// Draft 18 only.
    pub(super) const FIRST_OBJECT: u64 = 0x40;
}
