//! The first bytes of a stream: which of HTTP/3 or WebTransport it belongs to.

use crate::byte_queue::ByteQueue;
use crate::varint::VarIntKind;
use bytes::Bytes;

/// What a stream starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// WebTransport's signal and the session id after it.
    Session(u64),
    /// Any other first integer: a stream type, or the type of the first frame.
    Other(u64),
}

/// Reads the start of one stream; holds at most two integers.
#[derive(Debug)]
pub(super) struct PrefixReader {
    signal: u64,
    input: ByteQueue,
    signal_seen: bool,
}

impl PrefixReader {
    /// `signal`: the first integer of WebTransport streams of this direction.
    pub(super) fn new(signal: u64) -> Self {
        PrefixReader {
            signal,
            input: ByteQueue::new(),
            signal_seen: false,
        }
    }

    /// The prefix and what follows it, once it is complete.
    pub(super) fn feed(&mut self, chunk: Bytes) -> Option<(Prefix, Bytes)> {
        self.input.push(chunk);
        if !self.signal_seen {
            let first = self.input.take_varint(VarIntKind::Quic)?;
            if first != self.signal {
                return Some((Prefix::Other(first), self.rest()));
            }
            self.signal_seen = true;
        }
        let session = self.input.take_varint(VarIntKind::Quic)?;
        Some((Prefix::Session(session), self.rest()))
    }

    /// Integers are taken as soon as they are whole, so what is left is inside the last chunk.
    fn rest(&mut self) -> Bytes {
        self.input.take_some(u64::MAX).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_at_any_split() {
        let cases: [(&[u8], Prefix); 3] = [
            (b"\x40\x54\x04rest", Prefix::Session(4)),
            (b"\x40\x54\x80\x00\x01\x00rest", Prefix::Session(256)),
            (b"\x00rest", Prefix::Other(0)),
        ];
        for (wire, expected) in cases {
            for cut in 0..wire.len() {
                let mut reader = PrefixReader::new(0x54);
                let (head, tail) = wire.split_at(cut);
                let early = reader.feed(Bytes::copy_from_slice(head));
                let (prefix, mut rest) = match early {
                    Some((prefix, rest)) => (prefix, [&rest[..], tail].concat()),
                    None => {
                        let (prefix, rest) = reader.feed(Bytes::copy_from_slice(tail)).unwrap();
                        (prefix, rest.to_vec())
                    }
                };
                assert_eq!((prefix, rest.split_off(0)), (expected, b"rest".to_vec()));
            }
        }
    }
}
