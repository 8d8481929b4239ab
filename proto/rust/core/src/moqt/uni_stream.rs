//! What a peer's new unidirectional stream is for, from its first integer (draft-16 §10,
//! draft-18 §3.4).

use super::DataError;
use super::subgroup_type;
use crate::command::Draft;
use crate::varint::VarIntKind;
use bytes::{Bytes, BytesMut};

const FETCH_HEADER: u64 = 0x05;
const SETUP: u64 = 0x2F00;
const PADDING: u64 = 0x132B_3E28;

/// What a unidirectional stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniStreamKind {
    /// Control messages, beginning with SETUP (draft 18 only).
    Control,
    /// Objects of one subgroup: for a [`super::SubgroupReader`].
    Subgroup,
    /// Objects of a FETCH.
    Fetch,
    /// Nothing: to be read and thrown away (draft 18 only).
    Padding,
}

/// A stream whose type is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorted {
    /// What it carries.
    pub kind: UniStreamKind,
    /// Everything received so far, the type included.
    pub bytes: Bytes,
}

/// Finds out the type of one stream; holds at most the few bytes of an unfinished integer.
#[derive(Debug)]
pub struct UniStreamSorter {
    draft: Draft,
    carry: BytesMut,
}

impl UniStreamSorter {
    /// For a stream of a session of this draft.
    pub fn new(draft: Draft) -> Self {
        UniStreamSorter {
            draft,
            carry: BytesMut::new(),
        }
    }

    /// The stream's next bytes. `None`: the type is not complete, feed more. Not to be fed again once
    /// it has answered anything else.
    pub fn feed(&mut self, chunk: Bytes) -> Result<Option<Sorted>, DataError> {
        let bytes = if self.carry.is_empty() {
            chunk
        } else {
            self.carry.extend_from_slice(&chunk);
            self.carry.split().freeze()
        };
        let Some((stream_type, _)) = VarIntKind::of(self.draft).decode(&bytes) else {
            self.carry.extend_from_slice(&bytes);
            return Ok(None);
        };
        let kind = kind_of(self.draft, stream_type)?;
        Ok(Some(Sorted { kind, bytes }))
    }
}

fn kind_of(draft: Draft, stream_type: u64) -> Result<UniStreamKind, DataError> {
    match stream_type {
        FETCH_HEADER => Ok(UniStreamKind::Fetch),
        SETUP if draft == Draft::D18 => Ok(UniStreamKind::Control),
        PADDING if draft == Draft::D18 => Ok(UniStreamKind::Padding),
        _ if is_subgroup_type(draft, stream_type) => Ok(UniStreamKind::Subgroup),
        _ => Err(DataError::UnknownStreamType(stream_type)),
    }
}

/// Whether a stream type is one of the subgroup header's valid combinations of bits.
pub(super) fn is_subgroup_type(draft: Draft, stream_type: u64) -> bool {
    use subgroup_type::{
        DEFAULT_PRIORITY, END_OF_GROUP, FIRST_OBJECT, ID_MODE, PROPERTIES, SUBGROUP,
    };
    let common = PROPERTIES | ID_MODE | END_OF_GROUP | SUBGROUP | DEFAULT_PRIORITY;
    let allowed = match draft {
        Draft::D16 => common,
        Draft::D18 => common | FIRST_OBJECT,
    };
    stream_type & !allowed == 0 && stream_type & SUBGROUP != 0 && stream_type & ID_MODE != ID_MODE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(draft: Draft, stream_type: u64) -> Vec<u8> {
        let mut out = Vec::new();
        VarIntKind::of(draft).encode(stream_type, &mut out).unwrap();
        out
    }

    fn sort(draft: Draft, stream_type: u64) -> Result<UniStreamKind, DataError> {
        let bytes = Bytes::from(encoded(draft, stream_type));
        let sorted = UniStreamSorter::new(draft).feed(bytes)?.unwrap();
        Ok(sorted.kind)
    }

    #[test]
    fn subgroup_types_are_those_of_the_drafts_tables() {
        let valid_16: Vec<u64> = [0x10..=0x15, 0x18..=0x1D, 0x30..=0x35, 0x38..=0x3D]
            .into_iter()
            .flatten()
            .collect();
        for stream_type in 0..=0xff {
            let in_16 = valid_16.contains(&stream_type);
            let in_18 =
                in_16 || stream_type & 0x40 != 0 && valid_16.contains(&(stream_type & !0x40));
            assert_eq!(
                is_subgroup_type(Draft::D16, stream_type),
                in_16,
                "{stream_type:#x}"
            );
            assert_eq!(
                is_subgroup_type(Draft::D18, stream_type),
                in_18,
                "{stream_type:#x}"
            );
        }
    }

    #[test]
    fn control_and_padding_streams_exist_in_draft_18_only() {
        assert_eq!(sort(Draft::D18, SETUP), Ok(UniStreamKind::Control));
        assert_eq!(sort(Draft::D18, PADDING), Ok(UniStreamKind::Padding));
        assert_eq!(
            sort(Draft::D16, SETUP),
            Err(DataError::UnknownStreamType(SETUP))
        );
        assert_eq!(
            sort(Draft::D16, PADDING),
            Err(DataError::UnknownStreamType(PADDING))
        );
    }

    #[test]
    fn fetch_streams_exist_in_both_drafts_and_other_types_in_none() {
        for draft in [Draft::D16, Draft::D18] {
            assert_eq!(sort(draft, FETCH_HEADER), Ok(UniStreamKind::Fetch));
            for unknown in [0x00, 0x04, 0x06, 0x80, 0x2F01, 0x132B_3E29] {
                assert_eq!(
                    sort(draft, unknown),
                    Err(DataError::UnknownStreamType(unknown))
                );
            }
        }
    }

    #[test]
    fn a_type_that_arrives_byte_by_byte_is_kept_whole() {
        let mut wire = encoded(Draft::D18, SETUP);
        wire.extend_from_slice(b"rest");
        let mut sorter = UniStreamSorter::new(Draft::D18);
        assert_eq!(sorter.feed(Bytes::copy_from_slice(&wire[..1])), Ok(None));
        assert_eq!(sorter.feed(Bytes::new()), Ok(None));
        let sorted = sorter
            .feed(Bytes::copy_from_slice(&wire[1..]))
            .unwrap()
            .unwrap();
        assert_eq!(sorted.kind, UniStreamKind::Control);
        assert_eq!(sorted.bytes, wire);
    }
}
