//! The bytes of one object, as they come in: from a stream in order, from a hop in any order, from
//! two upstreams twice.

use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of an object's body in one chunk of a hop; every chunk but an object's last has this size.
pub const CHUNK_BODY_BYTES: u64 = crate::hop::CHUNK_BODY_BYTES as u64;

/// Mean size of the pieces of a whole object below which it is put together.
const PIECE_BYTES_MIN: u64 = 512;
/// Pieces up to this size are copied by QUIC into segments of its own, for every viewer again; larger ones are
/// shared. What one packet brings is below it.
const COPIED_PIECE_BYTES_MAX: usize = 1_452;
/// Pieces for which room is made at once.
const RESERVED_PIECES_MAX: u64 = 16;

/// The body of an object: its properties, then its payload.
#[derive(Debug, Default)]
pub(crate) struct Body {
    len: u64,
    /// Segments of the contiguous prefix with their end offsets.
    prefix: Vec<(u64, Bytes)>,
    /// Segments of the prefix that stay as they are.
    gathered: usize,
    /// Bytes beyond the prefix by start offset, disjoint.
    ahead: BTreeMap<u64, Bytes>,
    /// Chunks below this index were announced.
    announced_below: u64,
    /// Announced chunks beyond.
    announced_ahead: BTreeSet<u64>,
}

/// What an insertion added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Added {
    /// Bytes not held before.
    pub(crate) bytes: u64,
    /// Indices of chunks that became whole.
    pub(crate) chunks: Vec<u64>,
}

impl Body {
    pub(crate) fn new(len: u64) -> Body {
        Body {
            len,
            ..Body::default()
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// In how many pieces the prefix is held.
    pub(crate) fn pieces(&self) -> usize {
        self.prefix.len()
    }

    /// Bytes that can be read from the start on without a gap.
    pub(crate) fn ready(&self) -> u64 {
        self.prefix.last().map_or(0, |(end, _)| *end)
    }

    /// Bytes held, contiguous or not.
    pub(crate) fn held(&self) -> u64 {
        let ahead: usize = self.ahead.values().map(Bytes::len).sum();
        self.ready() + ahead as u64
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.ready() == self.len
    }

    /// Add pieces that follow one another, as `insert` does with each.
    pub(crate) fn insert_all(&mut self, offset: u64, pieces: &mut [Bytes]) -> Added {
        let (mut added, mut at) = (Added::default(), offset);
        for piece in pieces {
            let len = piece.len() as u64;
            let one = self.insert(at, std::mem::take(piece));
            at += len;
            added.bytes += one.bytes;
            if added.chunks.is_empty() {
                added.chunks = one.chunks;
            } else {
                added.chunks.extend(one.chunks);
            }
        }
        added
    }

    /// Add bytes at an offset; what is held already is ignored. The caller has checked that
    /// `offset + data.len() <= len`.
    pub(crate) fn insert(&mut self, offset: u64, data: Bytes) -> Added {
        let mut added = Added::default();
        if offset == self.ready() && self.ahead.is_empty() {
            self.append(data, &mut added);
            return added;
        }
        let mut placed = Vec::new();
        for (at, piece) in self.missing_pieces(offset, data) {
            placed.push(at);
            added.bytes += piece.len() as u64;
            self.place(at, piece);
        }
        if added.bytes > 0 || self.len == 0 {
            self.announce(&placed, &mut added.chunks);
        }
        self.coalesce_splinters();
        added
    }

    /// The next bytes, in order: how nearly all come.
    fn append(&mut self, data: Bytes, added: &mut Added) {
        if !data.is_empty() {
            added.bytes = data.len() as u64;
            self.push(data);
        }
        if added.bytes > 0 || self.len == 0 {
            self.announce(&[], &mut added.chunks);
        }
        self.coalesce_splinters();
    }

    /// Put the small pieces together that came since the last call, before viewers read them.
    pub(crate) fn gather(&mut self) {
        let end = self.ready();
        let fresh = self.prefix.get(self.gathered..).unwrap_or_default();
        let is_small = |(_, piece): &(u64, Bytes)| piece.len() <= COPIED_PIECE_BYTES_MAX;
        if fresh.len() > 1 && fresh.iter().all(is_small) {
            let fresh = self.prefix.drain(self.gathered..);
            let whole = join(fresh.map(|(_, piece)| piece).collect());
            self.prefix.push((end, whole));
        }
        self.gathered = self.prefix.len();
    }

    fn push(&mut self, piece: Bytes) {
        if self.prefix.is_empty() {
            let pieces = self.len.div_ceil(CHUNK_BODY_BYTES);
            self.prefix
                .reserve(pieces.min(RESERVED_PIECES_MAX) as usize);
        }
        self.prefix.push((self.ready() + piece.len() as u64, piece));
    }

    /// Append slices of the prefix from `offset` on, at most `bytes_max` bytes.
    pub(crate) fn read(
        &self,
        offset: u64,
        bytes_max: usize,
        out: &mut impl Extend<Bytes>,
    ) -> usize {
        let first = self.prefix.partition_point(|(end, _)| *end <= offset);
        let (mut at, mut taken) = (offset, 0);
        for (end, segment) in &self.prefix[first..] {
            if taken == bytes_max {
                break;
            }
            let start = *end - segment.len() as u64;
            let from = (at - start) as usize;
            let to = segment.len().min(from + (bytes_max - taken));
            out.extend([segment.slice(from..to)]);
            taken += to - from;
            at += (to - from) as u64;
        }
        taken
    }

    /// Whether the bytes held from the start on are those of `data`, as far as both reach.
    pub(crate) fn begins_like(&self, data: &[u8]) -> bool {
        let mut held = Vec::new();
        self.read(0, data.len(), &mut held);
        let mut rest = data;
        held.iter().all(|segment| {
            let (these, after) = rest.split_at(segment.len().min(rest.len()));
            rest = after;
            segment == these
        })
    }

    /// The bytes of one announced chunk: shared where one segment holds them, gathered where several.
    pub(crate) fn chunk(&self, index: u64) -> Bytes {
        let (start, end) = self.chunk_range(index);
        if start < self.ready() {
            let mut parts = Vec::new();
            self.read(start, (end - start) as usize, &mut parts);
            return join(parts);
        }
        let found = self.ahead.range(..=start).next_back();
        found.map_or_else(Bytes::new, |(at, data)| {
            let from = (start - at) as usize;
            data.slice(from..(from + (end - start) as usize).min(data.len()))
        })
    }

    /// Indices of all chunks that are whole.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.announced_below).chain(self.announced_ahead.iter().copied())
    }

    /// How many chunks the object has; an empty object has one.
    pub(crate) fn chunk_count(&self) -> u64 {
        self.len.div_ceil(CHUNK_BODY_BYTES).max(1)
    }

    fn chunk_range(&self, index: u64) -> (u64, u64) {
        let start = index * CHUNK_BODY_BYTES;
        (start, (start + CHUNK_BODY_BYTES).min(self.len))
    }

    fn missing_pieces(&self, offset: u64, data: Bytes) -> Vec<(u64, Bytes)> {
        let end = offset + data.len() as u64;
        let mut at = offset.max(self.ready());
        let mut pieces = Vec::new();
        let before = self
            .ahead
            .range(..at)
            .next_back()
            .map(|(start, held)| (*start, held.len()));
        if let Some((start, len)) = before {
            at = at.max(start + len as u64);
        }
        for (start, held) in self.ahead.range(at..end.max(at)) {
            if *start > at {
                pieces.push((at, *start));
            }
            at = at.max(*start + held.len() as u64);
        }
        if at < end {
            pieces.push((at, end));
        }
        let slice = |(from, to): (u64, u64)| {
            (
                from,
                data.slice((from - offset) as usize..(to - offset) as usize),
            )
        };
        pieces.into_iter().map(slice).collect()
    }

    fn place(&mut self, at: u64, piece: Bytes) {
        if at != self.ready() {
            self.ahead.insert(at, piece);
            return;
        }
        self.push(piece);
        while let Some(next) = self.ahead.remove(&self.ready()) {
            self.push(next);
        }
    }

    /// Note the chunks that became whole, in the prefix or in the pieces placed just now at `placed`.
    fn announce(&mut self, placed: &[u64], chunks: &mut Vec<u64>) {
        let ready = self.ready();
        let whole = if ready == self.len {
            self.chunk_count()
        } else {
            ready / CHUNK_BODY_BYTES
        };
        for index in self.announced_below..whole {
            if !self.announced_ahead.remove(&index) {
                chunks.push(index);
            }
        }
        self.announced_below = self.announced_below.max(whole);
        for start in placed {
            let Some(held) = self.ahead.get(start) else {
                continue;
            };
            let end = start + held.len() as u64;
            let mut index = start.div_ceil(CHUNK_BODY_BYTES);
            loop {
                let (from, to) = (index * CHUNK_BODY_BYTES, (index + 1) * CHUNK_BODY_BYTES);
                if from >= self.len || to.min(self.len) > end {
                    break;
                }
                if self.announced_ahead.insert(index) {
                    chunks.push(index);
                }
                index += 1;
            }
        }
    }

    /// A piece keeps the packet that it came in. Whole packets are kept as they are, which saves a copy
    /// of everything; a whole object out of splinters is put together.
    fn coalesce_splinters(&mut self) {
        let pieces = self.prefix.len() as u64;
        if pieces > 1 && self.is_complete() && self.len < pieces * PIECE_BYTES_MIN {
            let whole = join(self.prefix.drain(..).map(|(_, segment)| segment).collect());
            self.prefix.push((self.len, whole));
            self.gathered = 1;
        }
    }
}

fn join(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(len: usize) -> Bytes {
        (0..len)
            .map(|i| (i * 31 % 251) as u8)
            .collect::<Vec<u8>>()
            .into()
    }

    #[test]
    fn an_empty_body_is_complete_and_announces_its_only_chunk_once() {
        let mut body = Body::new(0);
        assert!(body.is_complete());
        assert_eq!(body.insert(0, Bytes::new()).chunks, vec![0]);
        assert_eq!(body.insert(0, Bytes::new()).chunks, Vec::<u64>::new());
    }

    #[test]
    fn a_body_begins_like_its_own_bytes_and_like_no_others() {
        let whole = pattern(3000);
        let mut body = Body::new(3000);
        assert!(body.begins_like(b"anything, for nothing is held"));
        body.insert(0, whole.slice(..100));
        body.insert(100, whole.slice(100..2000));
        assert!(body.begins_like(&whole));
        assert!(body.begins_like(&whole[..1500]));
        let mut other = whole.to_vec();
        other[1999] ^= 1;
        assert!(!body.begins_like(&other));
        assert!(body.begins_like(&other[..1999]));
    }

    #[test]
    fn what_came_in_packets_since_the_last_look_is_gathered_into_one_piece() {
        let whole = pattern(9_000);
        let mut body = Body::new(9_000);
        let insert = |body: &mut Body, from: usize, to: usize| {
            body.insert(from as u64, whole.slice(from..to));
        };
        insert(&mut body, 0, 1_200);
        insert(&mut body, 1_200, 2_400);
        body.gather();
        assert_eq!(body.pieces(), 1);
        insert(&mut body, 2_400, 3_600);
        body.gather();
        assert_eq!(
            body.pieces(),
            2,
            "one alone stays, and what was gathered is not copied again"
        );
        insert(&mut body, 3_600, 4_800);
        insert(&mut body, 4_800, 9_000);
        body.gather();
        assert_eq!(body.pieces(), 4, "a large piece is shared as it is");
        let mut out = Vec::new();
        assert_eq!(body.read(0, usize::MAX, &mut out), 9_000);
        assert_eq!(join(out), whole);
    }

    proptest! {
        #[test]
        fn any_order_of_overlapping_pieces_gives_the_bytes_once(
            len in 1usize..6000,
            cuts in proptest::collection::vec((0usize..6000, 1usize..3000), 0..40),
        ) {
            let whole = pattern(len);
            let mut body = Body::new(len as u64);
            let (mut new_bytes, mut chunks) = (0, Vec::new());
            let pieces = cuts.into_iter().map(|(at, n)| (at % len, n)).chain([(0, len)]);
            for (at, n) in pieces {
                let end = (at + n).min(len);
                let added = body.insert(at as u64, whole.slice(at..end));
                if n % 3 == 0 {
                    body.gather();
                }
                new_bytes += added.bytes;
                for index in &added.chunks {
                    let from = (*index * CHUNK_BODY_BYTES) as usize;
                    let to = (from + CHUNK_BODY_BYTES as usize).min(len);
                    prop_assert_eq!(body.chunk(*index), whole.slice(from..to));
                }
                chunks.extend(added.chunks);
            }
            prop_assert_eq!(new_bytes, len as u64);
            chunks.sort_unstable();
            prop_assert_eq!(chunks, (0..body.chunk_count()).collect::<Vec<_>>());
            let mut out = Vec::new();
            prop_assert_eq!(body.read(0, usize::MAX, &mut out), len);
            prop_assert_eq!(join(out), whole);
        }
    }
}
