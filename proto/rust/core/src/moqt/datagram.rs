//! Objects in datagrams (draft-16 §10.3.1, draft-18 §11.3.1).

use super::{DataError, convert_properties, object_status};
use crate::command::Draft;
use crate::varint::VarIntKind;
use bytes::{Buf, Bytes};

const PROPERTIES: u64 = 0x01;
const END_OF_GROUP: u64 = 0x02;
const ZERO_OBJECT_ID: u64 = 0x04;
const DEFAULT_PRIORITY: u64 = 0x08;
const STATUS: u64 = 0x20;
const VALID_BITS: u64 = 0x2F;
const PADDING: u64 = 0x132B_3E29;

/// What a datagram carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// One object.
    Object(ObjectDatagram),
    /// Nothing (draft 18 only).
    Padding,
}

/// An object that came in a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectDatagram {
    /// The publisher's number for the track in this session.
    pub alias: u64,
    /// Group id.
    pub group: u64,
    /// Object id.
    pub object: u64,
    /// Publisher priority; `None`: the track's default.
    pub priority: Option<u8>,
    /// No larger object id exists in the group.
    pub end_of_group: bool,
    /// See [`object_status`].
    pub status: u64,
    /// Properties in stored form (draft 16).
    pub properties: Bytes,
    /// Payload; empty unless the status is normal.
    pub payload: Bytes,
}

/// Decode one datagram. Its size bounds everything in it.
pub fn decode_datagram(draft: Draft, mut bytes: Bytes) -> Result<Datagram, DataError> {
    let kind = VarIntKind::of(draft);
    let datagram_type = take_varint(kind, &mut bytes)?;
    if datagram_type == PADDING && draft == Draft::D18 {
        return Ok(Datagram::Padding);
    }
    if datagram_type & !VALID_BITS != 0
        || datagram_type & (STATUS | END_OF_GROUP) == STATUS | END_OF_GROUP
    {
        return Err(DataError::UnknownDatagramType(datagram_type));
    }
    let has = |bit: u64| datagram_type & bit != 0;
    let alias = take_varint(kind, &mut bytes)?;
    let group = take_varint(kind, &mut bytes)?;
    let object = match has(ZERO_OBJECT_ID) {
        true => 0,
        false => take_varint(kind, &mut bytes)?,
    };
    let priority = match has(DEFAULT_PRIORITY) {
        true => None,
        false => Some(bytes.try_get_u8().map_err(|_| DataError::Truncated)?),
    };
    let properties = match has(PROPERTIES) {
        true => take_properties(draft, &mut bytes)?,
        false => Bytes::new(),
    };
    let status = match has(STATUS) {
        true => take_status(kind, &mut bytes, has(PROPERTIES))?,
        false => object_status::NORMAL,
    };
    Ok(Datagram::Object(ObjectDatagram {
        alias,
        group,
        object,
        priority,
        end_of_group: has(END_OF_GROUP),
        status,
        properties,
        payload: if has(STATUS) { Bytes::new() } else { bytes },
    }))
}

fn take_varint(kind: VarIntKind, bytes: &mut Bytes) -> Result<u64, DataError> {
    let (value, length) = kind.decode(bytes).ok_or(DataError::Truncated)?;
    bytes.advance(length);
    Ok(value)
}

fn take_properties(draft: Draft, bytes: &mut Bytes) -> Result<Bytes, DataError> {
    let length = take_varint(VarIntKind::of(draft), bytes)?;
    if length == 0 {
        return Err(DataError::EmptyDatagramProperties);
    }
    if length > bytes.len() as u64 {
        return Err(DataError::Truncated);
    }
    convert_properties(draft, Draft::D16, &bytes.split_to(length as usize))
}

fn take_status(
    kind: VarIntKind,
    bytes: &mut Bytes,
    has_properties: bool,
) -> Result<u64, DataError> {
    let status = take_varint(kind, bytes)?;
    match status {
        object_status::NORMAL => Ok(status),
        object_status::END_OF_GROUP | object_status::END_OF_TRACK if has_properties => {
            Err(DataError::PropertiesOnStatus(status))
        }
        object_status::END_OF_GROUP | object_status::END_OF_TRACK => Ok(status),
        _ => Err(DataError::UnknownStatus(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Draft; 2] = [Draft::D16, Draft::D18];

    fn decode(draft: Draft, bytes: &'static [u8]) -> Result<Datagram, DataError> {
        decode_datagram(draft, Bytes::from_static(bytes))
    }

    fn object(draft: Draft, bytes: &'static [u8]) -> ObjectDatagram {
        match decode(draft, bytes).unwrap() {
            Datagram::Object(object) => object,
            Datagram::Padding => panic!("padding"),
        }
    }

    #[test]
    fn fields_are_present_as_the_type_says() {
        for draft in BOTH {
            let full = object(draft, b"\x03\x02\x05\x07\x80\x02\x04\x09payload");
            assert_eq!((full.alias, full.group, full.object), (2, 5, 7));
            assert_eq!((full.priority, full.end_of_group), (Some(0x80), true));
            assert_eq!(
                (&full.properties[..], &full.payload[..]),
                (&b"\x04\x09"[..], &b"payload"[..])
            );
            let short = object(draft, b"\x0c\x02\x05pay");
            assert_eq!((short.object, short.priority), (0, None));
            assert_eq!(
                (&short.payload[..], short.end_of_group),
                (&b"pay"[..], false)
            );
            let status = object(draft, b"\x28\x02\x05\x07\x03");
            assert_eq!((status.status, status.payload.len()), (3, 0));
        }
    }

    #[test]
    fn invalid_types_and_contents_are_refused() {
        for draft in BOTH {
            for t in [0x10u8, 0x22, 0x23, 0x26, 0x2a, 0x2f, 0x30] {
                let bytes = Bytes::from(vec![t, 1, 1, 1, 1, 1, 1]);
                let result = decode_datagram(draft, bytes);
                assert_eq!(result, Err(DataError::UnknownDatagramType(t.into())));
            }
            assert_eq!(
                decode(draft, b"\x0d\x02\x05\x00"),
                Err(DataError::EmptyDatagramProperties)
            );
            assert_eq!(
                decode(draft, b"\x2c\x02\x05\x01"),
                Err(DataError::UnknownStatus(1))
            );
            let with_properties = decode(draft, b"\x2d\x02\x05\x02\x04\x09\x03");
            assert_eq!(with_properties, Err(DataError::PropertiesOnStatus(3)));
            assert_eq!(
                decode(draft, b"\x0d\x02\x05\x09ab"),
                Err(DataError::Truncated)
            );
        }
    }

    #[test]
    fn padding_exists_in_draft_18_only() {
        let padding = b"\xf0\x13\x2b\x3e\x29\x00\x00";
        assert_eq!(decode(Draft::D18, padding), Ok(Datagram::Padding));
        let padding = b"\x93\x2b\x3e\x29\x00\x00";
        assert_eq!(
            decode(Draft::D16, padding),
            Err(DataError::UnknownDatagramType(PADDING))
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for draft in BOTH {
                let _ = decode_datagram(draft, Bytes::from(bytes.clone()));
            }
        }
    }
}
