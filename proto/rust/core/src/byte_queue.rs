//! Bytes of one stream on their way into an incremental parser.
//!
//! A parser takes fields; a field that has not arrived whole yet answers `None` and is asked for again
//! after the next [`ByteQueue::push`]. Whole fields inside one chunk are handed out as slices of it.
//! What is left of an incomplete field is copied out of its chunk, because a chunk keeps the whole
//! receive buffer alive that it was cut from: a peer that sends a field byte by byte would otherwise
//! hold one buffer per byte.

use crate::varint::{VARINT_BYTES_MAX, VarIntKind};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// Received bytes that no field has taken yet.
#[derive(Debug, Default)]
pub struct ByteQueue {
    /// The beginning of a field whose rest is still missing; comes before `chunks`.
    carry: BytesMut,
    chunks: VecDeque<Bytes>,
}

impl ByteQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing at all, not even the beginning of a field.
    pub fn is_empty(&self) -> bool {
        self.carry.is_empty() && self.chunks.is_empty()
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.carry.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// Append what the stream gave next.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// One byte.
    pub fn take_u8(&mut self) -> Option<u8> {
        self.take_some(1).map(|bytes| bytes[0])
    }

    /// One variable-length integer.
    pub fn take_varint(&mut self, kind: VarIntKind) -> Option<u64> {
        if self.carry.is_empty()
            && let Some(front) = self.chunks.front_mut()
            && let Some((value, length)) = kind.decode(front)
        {
            front.advance(length);
            self.drop_empty_front();
            return Some(value);
        }
        for wanted in 1..=VARINT_BYTES_MAX {
            if !self.gather(wanted) {
                return None;
            }
            if let Some((value, length)) = kind.decode(&self.carry) {
                self.carry.advance(length);
                return Some(value);
            }
        }
        None
    }

    /// Exactly `length` bytes in one piece. The caller has checked `length` against a limit: up to
    /// that many bytes are copied and held here.
    pub fn take_exact(&mut self, length: usize) -> Option<Bytes> {
        if length == 0 {
            return Some(Bytes::new());
        }
        if self.carry.is_empty()
            && let Some(front) = self.chunks.front_mut()
            && front.len() >= length
        {
            let bytes = front.split_to(length);
            self.drop_empty_front();
            return Some(bytes);
        }
        if !self.gather(length) {
            return None;
        }
        let bytes = self.carry.split_to(length).freeze();
        self.release_carry();
        Some(bytes)
    }

    /// The next piece, at most `length_max` bytes of it, without copying.
    pub fn take_some(&mut self, length_max: u64) -> Option<Bytes> {
        let cut = |held: usize| usize::try_from(length_max).unwrap_or(usize::MAX).min(held);
        if !self.carry.is_empty() {
            let bytes = self.carry.split_to(cut(self.carry.len())).freeze();
            self.release_carry();
            return Some(bytes);
        }
        let front = self.chunks.front_mut()?;
        let bytes = front.split_to(cut(front.len()));
        self.drop_empty_front();
        Some(bytes)
    }

    /// Throw away up to `length` bytes; how many of them are still to come.
    pub fn skip(&mut self, mut length: u64) -> u64 {
        while length > 0 {
            match self.take_some(length) {
                Some(bytes) => length -= bytes.len() as u64,
                None => break,
            }
        }
        length
    }

    /// Move bytes from the chunks into `carry` until it has `wanted`; false if there are too few.
    fn gather(&mut self, wanted: usize) -> bool {
        while self.carry.len() < wanted {
            let missing = wanted - self.carry.len();
            let Some(front) = self.chunks.front_mut() else {
                return false;
            };
            let piece = front.split_to(missing.min(front.len()));
            self.carry.extend_from_slice(&piece);
            self.drop_empty_front();
        }
        true
    }

    fn drop_empty_front(&mut self) {
        if self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
    }

    /// Let go of the allocation that is shared with what was just handed out.
    fn release_carry(&mut self) {
        if self.carry.is_empty() {
            self.carry = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(chunks: &[&'static [u8]]) -> ByteQueue {
        let mut queue = ByteQueue::new();
        for chunk in chunks {
            queue.push(Bytes::from_static(chunk));
        }
        queue
    }

    #[test]
    fn a_field_inside_one_chunk_is_a_slice_of_it() {
        let chunk = Bytes::from_static(b"abcdef");
        let mut queue = ByteQueue::new();
        queue.push(chunk.clone());
        let field = queue.take_exact(4).unwrap();
        assert_eq!(field.as_ptr(), chunk.as_ptr());
        assert_eq!(queue.take_some(10).unwrap().as_ptr(), chunk[4..].as_ptr());
        assert!(queue.is_empty());
    }

    #[test]
    fn a_field_over_several_chunks_waits_for_its_last_byte() {
        let mut queue = queue(&[b"ab", b"c"]);
        assert_eq!(queue.take_exact(5), None);
        assert_eq!(queue.len(), 3);
        queue.push(Bytes::from_static(b"defg"));
        assert_eq!(queue.take_exact(5).unwrap(), "abcde");
        assert_eq!(queue.take_some(1).unwrap(), "f");
        assert_eq!(queue.take_u8(), Some(b'g'));
        assert_eq!(queue.take_u8(), None);
    }

    #[test]
    fn a_split_integer_is_put_together() {
        let mut queue = queue(&[&[0xed, 0x7f]]);
        assert_eq!(queue.take_varint(VarIntKind::Vi64), None);
        queue.push(Bytes::from_static(&[0x3e, 0x7d, 0x25]));
        assert_eq!(queue.take_varint(VarIntKind::Vi64), Some(226_442_877));
        assert_eq!(queue.take_varint(VarIntKind::Vi64), Some(37));
        assert!(queue.is_empty());
    }

    #[test]
    fn what_was_carried_over_comes_first() {
        let mut queue = queue(&[b"abc"]);
        assert_eq!(queue.take_exact(9), None);
        queue.push(Bytes::from_static(b"de"));
        assert_eq!(queue.take_some(2).unwrap(), "ab");
        assert_eq!(queue.skip(2), 0);
        assert_eq!(queue.skip(3), 2);
    }
}
