//! An object's payload as it came: in pieces, each a slice of a received packet.
//!
//! Nobody joins them in vain: who forwards needs no whole payload, and who hands it to an application
//! copies it once, into the application's own memory.

use bytes::{Bytes, BytesMut};

/// Bytes in pieces, in order. Equal to what has the same bytes, however it is cut.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Payload {
    /// From pieces in order.
    pub fn new(pieces: Vec<Bytes>) -> Payload {
        let len = pieces.iter().map(Bytes::len).sum();
        Payload { pieces, len }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Copy it into memory of its length.
    pub fn copy_to(&self, out: &mut [u8]) {
        let mut rest = out;
        for piece in &self.pieces {
            let (head, tail) = rest.split_at_mut(piece.len().min(rest.len()));
            head.copy_from_slice(&piece[..head.len()]);
            rest = tail;
        }
    }

    /// In one piece: shared if it is one, else copied.
    pub fn to_bytes(&self) -> Bytes {
        join(&self.pieces, self.len)
    }

    /// The first `count` bytes in one piece; they are no part of it any more.
    pub(crate) fn take_front(&mut self, count: usize) -> Bytes {
        let (mut taken, mut missing) = (Vec::new(), count.min(self.len));
        self.len -= missing;
        let mut used = 0;
        for piece in &mut self.pieces {
            if missing == 0 {
                break;
            }
            let part = piece.split_to(missing.min(piece.len()));
            missing -= part.len();
            used += usize::from(piece.is_empty());
            taken.push(part);
        }
        self.pieces.drain(..used);
        let len = taken.iter().map(Bytes::len).sum();
        join(&taken, len)
    }
}

fn join(pieces: &[Bytes], len: usize) -> Bytes {
    if let [piece] = pieces {
        return piece.clone();
    }
    let mut whole = BytesMut::with_capacity(len);
    pieces
        .iter()
        .for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Payload {
        Payload::new(vec![bytes])
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Payload {
    fn eq(&self, other: &T) -> bool {
        let mut rest = other.as_ref();
        rest.len() == self.len
            && self.pieces.iter().all(|piece| {
                let (head, tail) = rest.split_at(piece.len());
                rest = tail;
                piece == head
            })
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        *self == other.to_bytes()
    }
}

impl Eq for Payload {}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(pieces: &[&'static [u8]]) -> Payload {
        Payload::new(
            pieces
                .iter()
                .map(|piece| Bytes::from_static(piece))
                .collect(),
        )
    }

    #[test]
    fn it_equals_its_bytes_however_it_is_cut() {
        let cut = payload(&[b"ab", b"", b"cde"]);
        assert_eq!(cut, "abcde");
        assert_eq!(cut, payload(&[b"abcde"]));
        assert_ne!(cut, "abcdx");
        assert_ne!(cut, "abcdef");
        assert_ne!(cut, "abcd");
        let mut out = [0; 5];
        cut.copy_to(&mut out);
        assert_eq!(&out, b"abcde");
    }

    #[test]
    fn what_is_taken_from_its_front_is_no_part_of_it_any_more() {
        let mut cut = payload(&[b"ab", b"cde"]);
        assert_eq!(cut.take_front(0), "");
        assert_eq!(cut.take_front(3), "abc");
        assert_eq!((cut.len(), cut.to_bytes()), (2, Bytes::from_static(b"de")));
        assert_eq!(cut.take_front(9), "de");
        assert!(cut.is_empty() && cut.pieces().is_empty());
    }
}
