//! Writing a subgroup stream: the counterpart of [`super::SubgroupReader`].

use super::{DataError, ObjectHeader, SubgroupHeader, convert_properties, subgroup_type};
use crate::command::Draft;
use crate::varint::VarIntKind;
use bytes::BufMut;

/// Append the header of a subgroup stream. [`SubgroupHeader::first_object`] is left out in draft 16.
///
/// Error: an id beyond what the draft can write; `out` may then hold a part and is to be thrown away.
pub fn encode_subgroup_header(
    draft: Draft,
    header: &SubgroupHeader,
    out: &mut impl BufMut,
) -> Result<(), DataError> {
    let kind = VarIntKind::of(draft);
    kind.encode(stream_type(draft, header), out)?;
    kind.encode(header.alias, out)?;
    kind.encode(header.group, out)?;
    if let Some(subgroup) = header.subgroup.filter(|id| *id != 0) {
        kind.encode(subgroup, out)?;
    }
    if let Some(priority) = header.priority {
        out.put_u8(priority);
    }
    Ok(())
}

/// Append everything of an object up to its payload.
///
/// `last_id` is the object before it on the same stream, and must be smaller than `object.id`.
/// `has_properties` is that of the stream's header; without it the object's properties are not
/// written. `object.properties` is in stored form (draft 16).
///
/// Error: a value that the draft cannot write, or an id that does not rise; `out` may then hold a part.
pub fn encode_object_header(
    draft: Draft,
    last_id: Option<u64>,
    object: &ObjectHeader,
    has_properties: bool,
    out: &mut impl BufMut,
) -> Result<(), DataError> {
    let kind = VarIntKind::of(draft);
    kind.encode(id_delta(last_id, object.id)?, out)?;
    if has_properties {
        let properties = convert_properties(Draft::D16, draft, &object.properties)?;
        kind.encode(properties.len() as u64, out)?;
        out.put_slice(&properties);
    }
    kind.encode(object.payload_len, out)?;
    if object.payload_len == 0 {
        kind.encode(object.status, out)?;
    }
    Ok(())
}

fn stream_type(draft: Draft, header: &SubgroupHeader) -> u64 {
    let bit = |set: bool, bit: u64| if set { bit } else { 0 };
    let id_mode = match header.subgroup {
        None => subgroup_type::ID_FIRST_OBJECT,
        Some(0) => subgroup_type::ID_ZERO,
        Some(_) => subgroup_type::ID_PRESENT,
    };
    subgroup_type::SUBGROUP
        | id_mode
        | bit(header.has_properties, subgroup_type::PROPERTIES)
        | bit(header.end_of_group, subgroup_type::END_OF_GROUP)
        | bit(header.priority.is_none(), subgroup_type::DEFAULT_PRIORITY)
        | bit(
            header.first_object && draft == Draft::D18,
            subgroup_type::FIRST_OBJECT,
        )
}

fn id_delta(last_id: Option<u64>, id: u64) -> Result<u64, DataError> {
    match last_id {
        None => Ok(id),
        Some(last) => id
            .checked_sub(last)
            .and_then(|step| step.checked_sub(1))
            .ok_or(DataError::Unrepresentable(id)),
    }
}
