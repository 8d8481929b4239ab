//! Object properties (draft 16: extension headers) between the drafts.
//!
//! Both drafts write a sequence of key-value pairs, each type as the difference from the one before
//! (draft-16 §1.4.2, draft-18 §1.4.3): even types carry one integer, odd ones a length and bytes. Only
//! the integers differ. A pair nested in Immutable Properties (0xB) is bytes to us and stays as it is:
//! the drafts forbid to touch it, so a receiver of the other draft cannot read those.

use super::DataError;
use crate::command::Draft;
use crate::varint::VarIntKind;
use bytes::{BufMut, Bytes, BytesMut};

/// Longest value of one property (draft-16 §1.4.2, draft-18 §1.4.3).
pub const PROPERTY_VALUE_BYTES_MAX: u64 = 0xFFFF;

/// The properties of an object in the form of another draft; checked even where the drafts are the
/// same, so that what is stored can always be written.
///
/// Errors: what is not a sequence of pairs, and values of draft 18 beyond 62 bits on the way to
/// draft 16.
pub fn convert_properties(from: Draft, to: Draft, properties: &Bytes) -> Result<Bytes, DataError> {
    let mut pairs = Pairs::new(VarIntKind::of(from), properties);
    if from == to {
        while pairs.next_pair()?.is_some() {}
        return Ok(properties.clone());
    }
    let kind = VarIntKind::of(to);
    let mut out = BytesMut::with_capacity(properties.len() + 8);
    while let Some((delta, value)) = pairs.next_pair()? {
        kind.encode(delta, &mut out)?;
        match value {
            Value::Integer(integer) => kind.encode(integer, &mut out)?,
            Value::Bytes(bytes) => {
                kind.encode(bytes.len() as u64, &mut out)?;
                out.put_slice(bytes);
            }
        }
    }
    Ok(out.freeze())
}

enum Value<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

struct Pairs<'a> {
    kind: VarIntKind,
    rest: &'a [u8],
    last_type: u64,
}

impl<'a> Pairs<'a> {
    fn new(kind: VarIntKind, rest: &'a [u8]) -> Self {
        Pairs {
            kind,
            rest,
            last_type: 0,
        }
    }

    /// The difference of the next type and its value; `None` at the end.
    fn next_pair(&mut self) -> Result<Option<(u64, Value<'a>)>, DataError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let delta = self.integer()?;
        let property_type = self.last_type.checked_add(delta);
        self.last_type = property_type.ok_or(DataError::PropertyTypeOverflow)?;
        let integer = self.integer()?;
        if self.last_type.is_multiple_of(2) {
            return Ok(Some((delta, Value::Integer(integer))));
        }
        Ok(Some((delta, Value::Bytes(self.bytes(integer)?))))
    }

    fn integer(&mut self) -> Result<u64, DataError> {
        let decoded = self.kind.decode(self.rest);
        let (value, length) = decoded.ok_or(DataError::PropertiesMalformed)?;
        self.rest = &self.rest[length..];
        Ok(value)
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], DataError> {
        if length > PROPERTY_VALUE_BYTES_MAX {
            return Err(DataError::PropertyValueTooLong(length));
        }
        let split = self.rest.split_at_checked(length as usize);
        let (bytes, rest) = split.ok_or(DataError::PropertiesMalformed)?;
        self.rest = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D16: Draft = Draft::D16;
    const D18: Draft = Draft::D18;

    /// The pairs of the example in draft-18 §11.6 (the length there, 21, belongs to a longer text).
    const EXAMPLE_16: &[u8] = b"\x04\xc0\x00\x00\x00\x82\x58\x5d\xd3\x40\x49\x0etraceID:123456";
    const EXAMPLE_18: &[u8] = b"\x04\xf0\x82\x58\x5d\xd3\x49\x0etraceID:123456";

    #[test]
    fn the_drafts_example_converts_both_ways() {
        let (in_16, in_18) = (
            Bytes::from_static(EXAMPLE_16),
            Bytes::from_static(EXAMPLE_18),
        );
        assert_eq!(convert_properties(D16, D18, &in_16).unwrap(), in_18);
        assert_eq!(convert_properties(D18, D16, &in_18).unwrap(), in_16);
    }

    #[test]
    fn the_same_draft_gets_the_same_bytes_without_a_copy() {
        let properties = Bytes::from_static(EXAMPLE_16);
        let same = convert_properties(D16, D16, &properties).unwrap();
        assert_eq!(same.as_ptr(), properties.as_ptr());
    }

    #[test]
    fn broken_pairs_are_a_malformed_track() {
        for broken in [&b"\x02"[..], b"\x02\x40", b"\x01\x05abcd", b"\x40"] {
            for to in [D16, D18] {
                let result = convert_properties(D16, to, &Bytes::from_static(broken));
                assert_eq!(result, Err(DataError::PropertiesMalformed));
            }
        }
    }

    #[test]
    fn types_and_lengths_beyond_the_drafts_are_violations() {
        let overflow = [&[0xff; 9][..], &[0x00], &[0x02], &[0x00]].concat();
        let result = convert_properties(D18, D18, &Bytes::from(overflow));
        assert_eq!(result, Err(DataError::PropertyTypeOverflow));
        let long = Bytes::from_static(b"\x01\x80\x01\x00\x00");
        let result = convert_properties(D16, D16, &long);
        assert_eq!(result, Err(DataError::PropertyValueTooLong(0x1_0000)));
    }

    #[test]
    fn a_64_bit_value_has_no_form_in_draft_16() {
        let wide = Bytes::from([&[0x02][..], &[0xff; 9]].concat());
        assert_eq!(convert_properties(D18, D18, &wide).unwrap(), wide);
        let result = convert_properties(D18, D16, &wide);
        assert_eq!(result, Err(DataError::Unrepresentable(u64::MAX)));
    }

    #[derive(Clone, Debug)]
    struct Pair(u64, u64, Vec<u8>);

    fn pairs() -> impl Strategy<Value = Vec<Pair>> {
        let pair = (
            0u64..1 << 40,
            0u64..1 << 62,
            proptest::collection::vec(any::<u8>(), 0..300),
        );
        proptest::collection::vec(pair.prop_map(|(d, v, b)| Pair(d, v, b)), 0..6)
    }

    fn encode_pairs(kind: VarIntKind, pairs: &[Pair]) -> Bytes {
        let (mut out, mut last) = (BytesMut::new(), 0);
        for Pair(delta, integer, bytes) in pairs {
            kind.encode(*delta, &mut out).unwrap();
            last += delta;
            if last % 2 == 0 {
                kind.encode(*integer, &mut out).unwrap();
            } else {
                kind.encode(bytes.len() as u64, &mut out).unwrap();
                out.put_slice(bytes);
            }
        }
        out.freeze()
    }

    proptest! {
        #[test]
        fn any_pairs_convert_to_their_own_encoding_in_the_other_draft(pairs in pairs()) {
            let in_16 = encode_pairs(VarIntKind::Quic, &pairs);
            let in_18 = encode_pairs(VarIntKind::Vi64, &pairs);
            prop_assert_eq!(convert_properties(D16, D18, &in_16), Ok(in_18.clone()));
            prop_assert_eq!(convert_properties(D18, D16, &in_18), Ok(in_16));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            for (from, to) in [(D16, D18), (D18, D16), (D16, D16), (D18, D18)] {
                let _ = convert_properties(from, to, &bytes);
            }
        }
    }
}
