//! The two variable-length integers of the wire: QUIC's own (RFC 9000 §16), which draft 16 and HTTP/3
//! use, and MoQT's vi64 (draft-18 §1.4.1), which has the full 64 bits.
//!
//! ```text
//! RFC 9000   00vvvvvv | 01…  2 bytes | 10…  4 bytes | 11…  8 bytes        up to 2^62 - 1
//! vi64       0vvvvvvv | 10…  2 bytes | 110… 3 bytes | … | 11111111 9 bytes  up to 2^64 - 1
//! ```
//!
//! Neither encoding has an invalid form, so decoding either succeeds or wants more bytes. Longer forms
//! than necessary are accepted, and never written.

use crate::command::Draft;
use bytes::BufMut;
use std::fmt;

/// Bytes of the longest encoding of either kind.
pub const VARINT_BYTES_MAX: usize = 9;

/// Which of the two encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarIntKind {
    /// RFC 9000 §16.
    Quic,
    /// draft-18 §1.4.1.
    Vi64,
}

/// The value has no encoding of the kind asked for: only QUIC's kind has a bound below `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange(
    /// The value.
    pub u64,
);

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} does not fit a 62-bit variable-length integer",
            self.0
        )
    }
}

impl std::error::Error for OutOfRange {}

impl VarIntKind {
    /// The kind that a draft's messages use.
    pub const fn of(draft: Draft) -> VarIntKind {
        match draft {
            Draft::D16 => VarIntKind::Quic,
            Draft::D18 => VarIntKind::Vi64,
        }
    }

    /// The largest value with an encoding.
    pub const fn value_max(self) -> u64 {
        match self {
            VarIntKind::Quic => (1 << 62) - 1,
            VarIntKind::Vi64 => u64::MAX,
        }
    }

    /// The integer at the start of `bytes` and how many bytes it takes; `None` if there are too few.
    pub fn decode(self, bytes: &[u8]) -> Option<(u64, usize)> {
        let first = *bytes.first()?;
        let length = self.length_from(first);
        let rest = bytes.get(1..length)?;
        let head = self.first_value_bits(first);
        let value = rest.iter().fold(head, |v, byte| v << 8 | u64::from(*byte));
        Some((value, length))
    }

    /// Bytes of the shortest encoding.
    pub fn len(self, value: u64) -> Result<usize, OutOfRange> {
        let bits = 64 - value.leading_zeros() as usize;
        match self {
            VarIntKind::Quic => match bits {
                0..=6 => Ok(1),
                7..=14 => Ok(2),
                15..=30 => Ok(4),
                31..=62 => Ok(8),
                _ => Err(OutOfRange(value)),
            },
            VarIntKind::Vi64 => Ok(bits.div_ceil(7).clamp(1, VARINT_BYTES_MAX)),
        }
    }

    /// Append the shortest encoding; nothing is written on an error.
    pub fn encode(self, value: u64, out: &mut impl BufMut) -> Result<(), OutOfRange> {
        let length = self.len(value)?;
        let mut bytes = [0; VARINT_BYTES_MAX];
        bytes[1..].copy_from_slice(&value.to_be_bytes());
        let encoded = &mut bytes[VARINT_BYTES_MAX - length..];
        encoded[0] |= self.length_marker(length);
        out.put_slice(encoded);
        Ok(())
    }

    fn length_from(self, first: u8) -> usize {
        match self {
            VarIntKind::Quic => 1 << (first >> 6),
            VarIntKind::Vi64 => first.leading_ones() as usize + 1,
        }
    }

    fn first_value_bits(self, first: u8) -> u64 {
        let mask = match self {
            VarIntKind::Quic => 0x3f,
            VarIntKind::Vi64 => 0x7f_u8.checked_shr(first.leading_ones()).unwrap_or(0),
        };
        u64::from(first & mask)
    }

    fn length_marker(self, length: usize) -> u8 {
        match self {
            VarIntKind::Quic => (length.ilog2() as u8) << 6,
            VarIntKind::Vi64 => !(0xff_u8.checked_shr(length as u32 - 1).unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [VarIntKind; 2] = [VarIntKind::Quic, VarIntKind::Vi64];

    fn encoded(kind: VarIntKind, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        kind.encode(value, &mut out).unwrap();
        out
    }

    #[test]
    fn examples_of_draft_18_section_1_4_1_decode() {
        let examples: [(&[u8], u64); 8] = [
            (&[0x25], 37),
            (&[0x80, 0x25], 37),
            (&[0xbb, 0xbd], 15_293),
            (&[0xed, 0x7f, 0x3e, 0x7d], 226_442_877),
            (&[0xfa, 0xa1, 0xa0, 0xe4, 0x03, 0xd8], 2_893_212_287_960),
            (
                &[0xfc, 0x89, 0x98, 0xab, 0xc6, 0x6b, 0xc0],
                151_288_809_941_952,
            ),
            (
                &[0xfe, 0xfa, 0x31, 0x8f, 0xa8, 0xe3, 0xca, 0x11],
                70_423_237_261_249_041,
            ),
            (&[0xff; 9], u64::MAX),
        ];
        for (bytes, value) in examples {
            assert_eq!(VarIntKind::Vi64.decode(bytes), Some((value, bytes.len())));
            if bytes != [0x80, 0x25] {
                assert_eq!(encoded(VarIntKind::Vi64, value), bytes);
            }
        }
    }

    #[test]
    fn examples_of_rfc_9000_appendix_a_decode() {
        let examples: [(&[u8], u64); 5] = [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(VarIntKind::Quic.decode(bytes), Some((value, bytes.len())));
        }
        assert_eq!(encoded(VarIntKind::Quic, 37), [0x25]);
    }

    #[test]
    fn lengths_change_where_the_tables_say() {
        for bits in [7, 14, 21, 28, 35, 42, 49, 56] {
            let last = (1u64 << bits) - 1;
            assert_eq!(VarIntKind::Vi64.len(last), Ok(bits / 7));
            assert_eq!(VarIntKind::Vi64.len(last + 1), Ok(bits / 7 + 1));
        }
        for (last, length) in [(63, 1), (16_383, 2), (1_073_741_823, 4)] {
            assert_eq!(VarIntKind::Quic.len(last), Ok(length));
            assert_eq!(VarIntKind::Quic.len(last + 1), Ok(length * 2));
        }
    }

    #[test]
    fn sixty_two_bits_bound_the_kind_of_quic() {
        let max = VarIntKind::Quic.value_max();
        assert_eq!(encoded(VarIntKind::Quic, max), [0xff; 8]);
        let mut out = Vec::new();
        assert_eq!(
            VarIntKind::Quic.encode(max + 1, &mut out),
            Err(OutOfRange(max + 1))
        );
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn values_survive_a_round_trip_and_want_every_byte(raw: u64, shift in 0u32..64) {
            for kind in KINDS {
                let value = (raw >> shift).min(kind.value_max());
                let bytes = encoded(kind, value);
                prop_assert_eq!(kind.len(value), Ok(bytes.len()));
                prop_assert_eq!(kind.decode(&bytes), Some((value, bytes.len())));
                for cut in 0..bytes.len() {
                    prop_assert_eq!(kind.decode(&bytes[..cut]), None);
                }
            }
        }

        #[test]
        fn any_bytes_decode_or_want_more(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            for kind in KINDS {
                if let Some((value, length)) = kind.decode(&bytes) {
                    prop_assert!(value <= kind.value_max() && length <= bytes.len());
                    prop_assert!(kind.len(value).unwrap() <= length);
                } else {
                    prop_assert!(bytes.len() < VARINT_BYTES_MAX);
                }
            }
        }
    }
}
