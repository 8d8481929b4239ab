//! HTTP/3 frames (RFC 9114 §7) on a stream that is read in pieces.

use super::codes::{H3Error, h3};
use crate::byte_queue::ByteQueue;
use crate::varint::VarIntKind;
use bytes::Bytes;

pub(super) const DATA: u64 = 0x0;
pub(super) const HEADERS: u64 = 0x1;
pub(super) const CANCEL_PUSH: u64 = 0x3;
pub(super) const SETTINGS: u64 = 0x4;
pub(super) const PUSH_PROMISE: u64 = 0x5;
pub(super) const GOAWAY: u64 = 0x7;
pub(super) const MAX_PUSH_ID: u64 = 0xd;
/// Not a frame: its "length" is a session id, and it is only allowed at the start of a stream.
pub(super) const WEBTRANSPORT_STREAM: u64 = 0x41;

/// The start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameStart {
    pub(super) kind: u64,
    pub(super) length: u64,
}

/// Cuts a stream into frame starts and payloads.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    input: ByteQueue,
    kind: Option<u64>,
}

impl FrameReader {
    /// A stream of which the first frame's type has been read already.
    pub(super) fn after_kind(kind: u64) -> Self {
        FrameReader {
            input: ByteQueue::new(),
            kind: Some(kind),
        }
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    /// Whether the stream may end here, if no payload is being read.
    pub(super) fn is_between_frames(&self) -> bool {
        self.kind.is_none() && self.input.is_empty()
    }

    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> usize {
        self.input.len()
    }

    /// The next frame's type and length; its payload has to be taken before the next call. Types that
    /// HTTP/2 had are errors (RFC 9114 §7.2.8).
    pub(super) fn start(&mut self) -> Result<Option<FrameStart>, H3Error> {
        let kind = match self.kind {
            Some(kind) => kind,
            None => match self.input.take_varint(VarIntKind::Quic) {
                Some(kind) => kind,
                None => return Ok(None),
            },
        };
        if matches!(kind, 0x2 | 0x6 | 0x8 | 0x9) {
            return Err(H3Error::new(h3::FRAME_UNEXPECTED, "frame type of HTTP/2"));
        }
        self.kind = Some(kind);
        let Some(length) = self.input.take_varint(VarIntKind::Quic) else {
            return Ok(None);
        };
        self.kind = None;
        Ok(Some(FrameStart { kind, length }))
    }

    /// A payload in one piece; the caller has checked its length.
    pub(super) fn take_whole(&mut self, length: u64) -> Option<Bytes> {
        self.input.take_exact(length as usize)
    }

    /// A piece of a payload.
    pub(super) fn take_some(&mut self, length_max: u64) -> Option<Bytes> {
        self.input.take_some(length_max)
    }

    /// Throw payload away; how much of it is still to come.
    pub(super) fn skip(&mut self, length: u64) -> u64 {
        self.input.skip(length)
    }
}
