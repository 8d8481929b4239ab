//! Reading a subgroup stream, field by field as the bytes come (draft-16 §10.4.2, draft-18 §11.4.2).
//!
//! ```text
//! SUBGROUP_HEADER  type | alias | group | [subgroup] | [priority: 1 byte]
//! object           id delta | [properties length | properties] | payload length
//!                  | [status, if the payload is empty] | payload
//! ```
//!
//! The reader holds no payload: pieces of it leave as they arrive. What it holds is at most one
//! incomplete field, and the longest is bounded by [`DataLimits::properties_bytes_max`].

use super::uni_stream::is_subgroup_type;
use super::{DataError, SubgroupHeader, convert_properties, object_status, subgroup_type};
use crate::byte_queue::ByteQueue;
use crate::command::Draft;
use crate::varint::VarIntKind;
use bytes::Bytes;

/// What a peer may ask us to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataLimits {
    /// Properties of one object, as on the wire, bytes.
    pub properties_bytes_max: u64,
    /// One object, properties included, bytes.
    pub object_bytes_max: u64,
}

impl Default for DataLimits {
    fn default() -> Self {
        DataLimits {
            properties_bytes_max: 16 << 10,
            object_bytes_max: 16 << 20,
        }
    }
}

/// What comes before an object's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHeader {
    /// Object id.
    pub id: u64,
    /// Properties in stored form (draft 16); empty if there are none.
    pub properties: Bytes,
    /// Bytes of payload that follow.
    pub payload_len: u64,
    /// See [`object_status`].
    pub status: u64,
}

/// The next thing on a subgroup stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubgroupItem {
    /// Comes once, first.
    Header(SubgroupHeader),
    /// An object begins.
    Object(ObjectHeader),
    /// The next piece of the object's payload, never empty; the pieces add up to its `payload_len`.
    Payload(Bytes),
}

/// Reads one subgroup stream.
#[derive(Debug)]
pub struct SubgroupReader {
    draft: Draft,
    limits: DataLimits,
    input: ByteQueue,
    field: Field,
    header: SubgroupHeader,
    subgroup_present: bool,
    priority_present: bool,
    last_id: Option<u64>,
    object: ObjectHeader,
    properties_wire_len: u64,
    group_or_track_ended: bool,
}

/// The field that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Type,
    Alias,
    Group,
    Subgroup,
    Priority,
    ObjectId,
    PropertiesLength,
    Properties,
    PayloadLength,
    Status,
    Payload { missing: u64 },
    Failed(DataError),
}

/// Whether parsing a field gave something.
enum Step {
    Item(SubgroupItem),
    Onward,
    Starved,
}

impl SubgroupReader {
    /// For a stream of a session of this draft, from its very first byte.
    pub fn new(draft: Draft, limits: DataLimits) -> Self {
        SubgroupReader {
            draft,
            limits,
            input: ByteQueue::new(),
            field: Field::Type,
            header: SubgroupHeader {
                alias: 0,
                group: 0,
                subgroup: Some(0),
                priority: None,
                end_of_group: false,
                first_object: false,
                has_properties: false,
            },
            subgroup_present: false,
            priority_present: false,
            last_id: None,
            object: EMPTY_OBJECT,
            properties_wire_len: 0,
            group_or_track_ended: false,
        }
    }

    /// Bytes held; bounded by the limits once [`Self::poll`] has answered `None`.
    pub fn buffered_bytes(&self) -> usize {
        self.input.len()
    }

    /// The stream's next bytes. Then call [`Self::poll`] until it answers `None`.
    pub fn feed(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    /// What the bytes so far make up; `None`: feed more. After an error only that error comes.
    pub fn poll(&mut self) -> Result<Option<SubgroupItem>, DataError> {
        loop {
            match self.step() {
                Ok(Step::Item(item)) => return Ok(Some(item)),
                Ok(Step::Onward) => {}
                Ok(Step::Starved) => return Ok(None),
                Err(error) => {
                    self.field = Field::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    /// The stream ended with a FIN and [`Self::poll`] has answered `None`: an error unless it ended
    /// between two objects.
    pub fn finish(&self) -> Result<(), DataError> {
        match self.field {
            Field::Failed(error) => Err(error),
            Field::ObjectId if self.input.is_empty() => Ok(()),
            _ => Err(DataError::Truncated),
        }
    }

    fn step(&mut self) -> Result<Step, DataError> {
        match self.field {
            Field::Type => self.with_varint(Self::on_type),
            Field::Alias => self.with_varint(Self::on_alias),
            Field::Group => self.with_varint(Self::on_group),
            Field::Subgroup => self.with_varint(Self::on_subgroup),
            Field::Priority => self.priority(),
            Field::ObjectId => self.with_varint(Self::on_object_id),
            Field::PropertiesLength => self.with_varint(Self::on_properties_length),
            Field::Properties => self.properties(),
            Field::PayloadLength => self.with_varint(Self::on_payload_length),
            Field::Status => self.with_varint(Self::on_status),
            Field::Payload { missing } => Ok(self.payload(missing)),
            Field::Failed(error) => Err(error),
        }
    }

    fn with_varint(
        &mut self,
        then: impl FnOnce(&mut Self, u64) -> Result<Step, DataError>,
    ) -> Result<Step, DataError> {
        match self.input.take_varint(VarIntKind::of(self.draft)) {
            Some(value) => then(self, value),
            None => Ok(Step::Starved),
        }
    }

    fn on_type(&mut self, stream_type: u64) -> Result<Step, DataError> {
        if !is_subgroup_type(self.draft, stream_type) {
            return Err(DataError::UnknownStreamType(stream_type));
        }
        let has = |bit: u64| stream_type & bit != 0;
        let id_mode = stream_type & subgroup_type::ID_MODE;
        self.header.subgroup = (id_mode != subgroup_type::ID_FIRST_OBJECT).then_some(0);
        self.header.end_of_group = has(subgroup_type::END_OF_GROUP);
        self.header.first_object = has(subgroup_type::FIRST_OBJECT);
        self.header.has_properties = has(subgroup_type::PROPERTIES);
        self.subgroup_present = id_mode == subgroup_type::ID_PRESENT;
        self.priority_present = !has(subgroup_type::DEFAULT_PRIORITY);
        Ok(self.onward(Field::Alias))
    }

    fn on_alias(&mut self, alias: u64) -> Result<Step, DataError> {
        self.header.alias = alias;
        Ok(self.onward(Field::Group))
    }

    fn on_group(&mut self, group: u64) -> Result<Step, DataError> {
        self.header.group = group;
        if self.subgroup_present {
            return Ok(self.onward(Field::Subgroup));
        }
        Ok(self.priority_or_header())
    }

    fn on_subgroup(&mut self, subgroup: u64) -> Result<Step, DataError> {
        self.header.subgroup = Some(subgroup);
        Ok(self.priority_or_header())
    }

    fn priority_or_header(&mut self) -> Step {
        if self.priority_present {
            return self.onward(Field::Priority);
        }
        self.field = Field::ObjectId;
        Step::Item(SubgroupItem::Header(self.header))
    }

    fn priority(&mut self) -> Result<Step, DataError> {
        let Some(priority) = self.input.take_u8() else {
            return Ok(Step::Starved);
        };
        self.header.priority = Some(priority);
        self.field = Field::ObjectId;
        Ok(Step::Item(SubgroupItem::Header(self.header)))
    }

    fn on_object_id(&mut self, delta: u64) -> Result<Step, DataError> {
        if self.group_or_track_ended {
            return Err(DataError::ObjectAfterEnd);
        }
        let id = match self.last_id {
            None => Some(delta),
            Some(last) => last.checked_add(1).and_then(|next| next.checked_add(delta)),
        };
        let id_max = VarIntKind::of(self.draft).value_max();
        let id = id
            .filter(|id| *id <= id_max)
            .ok_or(DataError::ObjectIdOverflow)?;
        self.last_id = Some(id);
        self.object = ObjectHeader { id, ..EMPTY_OBJECT };
        self.properties_wire_len = 0;
        Ok(self.onward(match self.header.has_properties {
            true => Field::PropertiesLength,
            false => Field::PayloadLength,
        }))
    }

    fn on_properties_length(&mut self, length: u64) -> Result<Step, DataError> {
        if length > self.limits.properties_bytes_max {
            return Err(DataError::PropertiesTooLarge(length));
        }
        self.properties_wire_len = length;
        Ok(self.onward(Field::Properties))
    }

    fn properties(&mut self) -> Result<Step, DataError> {
        let Some(wire) = self.input.take_exact(self.properties_wire_len as usize) else {
            return Ok(Step::Starved);
        };
        self.object.properties = convert_properties(self.draft, Draft::D16, &wire)?;
        Ok(self.onward(Field::PayloadLength))
    }

    fn on_payload_length(&mut self, length: u64) -> Result<Step, DataError> {
        let size = length.saturating_add(self.properties_wire_len);
        if size > self.limits.object_bytes_max {
            return Err(DataError::ObjectTooLarge(size));
        }
        if length == 0 {
            return Ok(self.onward(Field::Status));
        }
        self.object.payload_len = length;
        Ok(self.object_complete(Field::Payload { missing: length }))
    }

    fn on_status(&mut self, status: u64) -> Result<Step, DataError> {
        match status {
            object_status::NORMAL => {}
            object_status::END_OF_GROUP | object_status::END_OF_TRACK => {
                if !self.object.properties.is_empty() {
                    return Err(DataError::PropertiesOnStatus(status));
                }
                self.group_or_track_ended = true;
            }
            _ => return Err(DataError::UnknownStatus(status)),
        }
        self.object.status = status;
        Ok(self.object_complete(Field::ObjectId))
    }

    fn payload(&mut self, missing: u64) -> Step {
        let Some(piece) = self.input.take_some(missing) else {
            return Step::Starved;
        };
        self.field = match missing - piece.len() as u64 {
            0 => Field::ObjectId,
            missing => Field::Payload { missing },
        };
        Step::Item(SubgroupItem::Payload(piece))
    }

    fn object_complete(&mut self, next: Field) -> Step {
        self.field = next;
        Step::Item(SubgroupItem::Object(std::mem::replace(
            &mut self.object,
            EMPTY_OBJECT,
        )))
    }

    fn onward(&mut self, field: Field) -> Step {
        self.field = field;
        Step::Onward
    }
}

const EMPTY_OBJECT: ObjectHeader = ObjectHeader {
    id: 0,
    properties: Bytes::new(),
    payload_len: 0,
    status: object_status::NORMAL,
};
