//! Capsules on the CONNECT stream (RFC 9297 §3, draft-ietf-webtrans-http3 §6).
//!
//! ```text
//! CLOSE_WEBTRANSPORT_SESSION  0x2843 | length | error code: 4 bytes | reason: UTF-8, at most 1024 bytes
//! DRAIN_WEBTRANSPORT_SESSION  0x78ae | 0
//! ```
//!
//! All others, flow control included (we announce none), are skipped whatever their length.

use super::CLOSE_REASON_BYTES_MAX;
use super::frame;
use super::settings::put;
use crate::byte_queue::ByteQueue;
use crate::varint::VarIntKind;
use bytes::Bytes;

const CLOSE: u64 = 0x2843;
const DRAIN: u64 = 0x78ae;
const ERROR_CODE_BYTES: usize = 4;
const CLOSE_BYTES_MAX: u64 = (ERROR_CODE_BYTES + CLOSE_REASON_BYTES_MAX) as u64;

/// A capsule that means something to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Capsule {
    Close { code: u32, reason: String },
    Drain,
}

/// A capsule that contradicts its definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Clone, Copy, Debug)]
enum State {
    Type,
    Length { kind: u64 },
    Close { length: u64 },
    Skip { missing: u64 },
}

/// Reads capsules from the payloads of DATA frames, wherever these are cut.
#[derive(Debug)]
pub(super) struct CapsuleReader {
    input: ByteQueue,
    state: State,
}

impl CapsuleReader {
    pub(super) fn new() -> Self {
        CapsuleReader {
            input: ByteQueue::new(),
            state: State::Type,
        }
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> usize {
        self.input.len()
    }

    pub(super) fn poll(&mut self) -> Result<Option<Capsule>, Malformed> {
        loop {
            match self.state {
                State::Type => match self.input.take_varint(VarIntKind::Quic) {
                    Some(kind) => self.state = State::Length { kind },
                    None => return Ok(None),
                },
                State::Length { kind } => match self.input.take_varint(VarIntKind::Quic) {
                    Some(length) => {
                        self.state = state_after(kind, length)?;
                        if kind == DRAIN {
                            return Ok(Some(Capsule::Drain));
                        }
                    }
                    None => return Ok(None),
                },
                State::Close { length } => {
                    let Some(payload) = self.input.take_exact(length as usize) else {
                        return Ok(None);
                    };
                    self.state = State::Type;
                    return decode_close(&payload).map(Some);
                }
                State::Skip { missing } => match self.input.skip(missing) {
                    0 => self.state = State::Type,
                    missing => {
                        self.state = State::Skip { missing };
                        return Ok(None);
                    }
                },
            }
        }
    }
}

fn state_after(kind: u64, length: u64) -> Result<State, Malformed> {
    match kind {
        CLOSE if (ERROR_CODE_BYTES as u64..=CLOSE_BYTES_MAX).contains(&length) => {
            Ok(State::Close { length })
        }
        CLOSE => Err(Malformed),
        DRAIN if length != 0 => Err(Malformed),
        _ => Ok(State::Skip { missing: length }),
    }
}

fn decode_close(payload: &[u8]) -> Result<Capsule, Malformed> {
    let (code, reason) = payload.split_first_chunk().ok_or(Malformed)?;
    Ok(Capsule::Close {
        code: u32::from_be_bytes(*code),
        reason: std::str::from_utf8(reason)
            .map_err(|_| Malformed)?
            .to_owned(),
    })
}

/// A DATA frame with a CLOSE capsule; an over-long reason is cut.
pub(super) fn encode_close(code: u32, reason: &str) -> Bytes {
    let reason = cut_at_char(reason, CLOSE_REASON_BYTES_MAX);
    let mut capsule = Vec::new();
    put(CLOSE, &mut capsule);
    put((ERROR_CODE_BYTES + reason.len()) as u64, &mut capsule);
    capsule.extend_from_slice(&code.to_be_bytes());
    capsule.extend_from_slice(reason.as_bytes());
    let mut out = Vec::new();
    put(frame::DATA, &mut out);
    put(capsule.len() as u64, &mut out);
    out.extend_from_slice(&capsule);
    out.into()
}

fn cut_at_char(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn capsules(chunks: impl IntoIterator<Item = Bytes>) -> Result<Vec<Capsule>, Malformed> {
        let mut reader = CapsuleReader::new();
        let mut capsules = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(capsule) = reader.poll()? {
                capsules.push(capsule);
            }
            assert!(reader.buffered_bytes() <= CLOSE_BYTES_MAX as usize);
        }
        Ok(capsules)
    }

    fn one(wire: &'static [u8]) -> Result<Vec<Capsule>, Malformed> {
        capsules([Bytes::from_static(wire)])
    }

    #[test]
    fn known_capsules_are_read_and_unknown_ones_skipped() {
        let wire = b"\x3f\x03abc\x80\x00\x78\xae\x00\x17\x00\x68\x43\x07\x00\x00\x01\x02bye";
        let close = Capsule::Close {
            code: 0x102,
            reason: "bye".to_owned(),
        };
        assert_eq!(one(wire), Ok(vec![Capsule::Drain, close.clone()]));
        let bytewise = wire.iter().map(|byte| Bytes::copy_from_slice(&[*byte]));
        assert_eq!(capsules(bytewise), Ok(vec![Capsule::Drain, close]));
    }

    #[test]
    fn an_unknown_capsule_may_be_of_any_length() {
        let start = Bytes::from_static(b"\x3f\xc0\x00\x00\x00\x00\x10\x00\x00");
        let zeros = std::iter::repeat_n(Bytes::from(vec![0; 1 << 16]), 16);
        let end = [Bytes::from_static(b"\x80\x00\x78\xae\x00")];
        let all = [start].into_iter().chain(zeros).chain(end);
        assert_eq!(capsules(all), Ok(vec![Capsule::Drain]));
    }

    #[test]
    fn capsules_that_contradict_their_definition_are_malformed() {
        assert_eq!(one(b"\x68\x43\x03\x00\x00\x00"), Err(Malformed));
        assert_eq!(one(b"\x68\x43\x44\x05"), Err(Malformed));
        assert_eq!(one(b"\x68\x43\x05\x00\x00\x00\x00\xff"), Err(Malformed));
        assert_eq!(one(b"\x80\x00\x78\xae\x01"), Err(Malformed));
    }

    #[test]
    fn other_implementations_read_our_close() {
        let wire = encode_close(7, "enough");
        assert_eq!(wire[..2], [0, wire.len() as u8 - 2]);
        let theirs = web_transport_proto::Capsule::decode(&mut &wire[2..]).unwrap();
        let expected = web_transport_proto::Capsule::CloseWebTransportSession {
            code: 7,
            reason: "enough".to_owned(),
        };
        assert_eq!(theirs, expected);
    }

    proptest! {
        #[test]
        fn any_reason_survives_up_to_the_limit(code: u32, reason in "\\PC{0,1200}") {
            let wire = encode_close(code, &reason);
            let mut frames = super::frame::FrameReader::default();
            frames.push(wire);
            let start = frames.start().unwrap().unwrap();
            let payload = frames.take_whole(start.length).unwrap();
            prop_assert!(frames.is_between_frames());
            let read = capsules([payload]).unwrap();
            match &read[..] {
                [Capsule::Close { code: c, reason: r }] => {
                    prop_assert_eq!(*c, code);
                    prop_assert!(reason.starts_with(r.as_str()));
                    prop_assert!(r.len() == reason.len() || r.len() > CLOSE_REASON_BYTES_MAX - 4);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn garbage_never_panics(chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let _ = capsules(chunks.into_iter().map(Bytes::from));
        }
    }
}
