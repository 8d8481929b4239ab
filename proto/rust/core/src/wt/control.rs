//! The peer's control stream (RFC 9114 §6.2.1).

use super::SETTINGS_BYTES_MAX;
use super::codes::{H3Error, h3};
use super::frame::{self, FrameReader, FrameStart};
use super::settings::PeerSettings;
use crate::varint::VarIntKind;
use bytes::Bytes;

pub(super) const STREAM_TYPE: u64 = 0x00;
/// A GOAWAY holds one integer.
const GOAWAY_BYTES_MAX: u64 = 8;

/// What a control stream tells.
#[derive(Debug)]
pub(super) enum ControlItem {
    /// Comes once, first.
    Settings(PeerSettings),
    /// The peer takes no more requests.
    GoAway,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Between,
    Settings { length: u64 },
    GoAway { length: u64 },
    Skip { missing: u64 },
}

/// Reads a control stream after its type.
#[derive(Debug)]
pub(super) struct ControlReader {
    frames: FrameReader,
    state: State,
    settings_seen: bool,
    /// Only clients may send MAX_PUSH_ID.
    from_client: bool,
}

impl ControlReader {
    pub(super) fn new(from_client: bool) -> Self {
        ControlReader {
            frames: FrameReader::default(),
            state: State::Between,
            settings_seen: false,
            from_client,
        }
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.frames.push(chunk);
    }

    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> usize {
        self.frames.buffered_bytes()
    }

    pub(super) fn poll(&mut self) -> Result<Option<ControlItem>, H3Error> {
        loop {
            match self.state {
                State::Between => match self.frames.start()? {
                    Some(start) => self.state = self.on_start(start)?,
                    None => return Ok(None),
                },
                State::Settings { length } => {
                    let Some(payload) = self.frames.take_whole(length) else {
                        return Ok(None);
                    };
                    self.state = State::Between;
                    return Ok(Some(ControlItem::Settings(PeerSettings::decode(&payload)?)));
                }
                State::GoAway { length } => {
                    let Some(payload) = self.frames.take_whole(length) else {
                        return Ok(None);
                    };
                    self.state = State::Between;
                    check_goaway(&payload)?;
                    return Ok(Some(ControlItem::GoAway));
                }
                State::Skip { missing } => match self.frames.skip(missing) {
                    0 => self.state = State::Between,
                    missing => {
                        self.state = State::Skip { missing };
                        return Ok(None);
                    }
                },
            }
        }
    }

    fn on_start(&mut self, start: FrameStart) -> Result<State, H3Error> {
        if !self.settings_seen {
            return self.on_first(start);
        }
        match start.kind {
            frame::GOAWAY if start.length <= GOAWAY_BYTES_MAX => Ok(State::GoAway {
                length: start.length,
            }),
            frame::GOAWAY => Err(H3Error::new(h3::FRAME_ERROR, "GOAWAY too long")),
            frame::MAX_PUSH_ID if !self.from_client => Err(H3Error::new(
                h3::FRAME_UNEXPECTED,
                "MAX_PUSH_ID from a server",
            )),
            frame::DATA
            | frame::HEADERS
            | frame::SETTINGS
            | frame::PUSH_PROMISE
            | frame::WEBTRANSPORT_STREAM => Err(H3Error::new(
                h3::FRAME_UNEXPECTED,
                "frame does not belong on a control stream",
            )),
            _ => Ok(State::Skip {
                missing: start.length,
            }),
        }
    }

    fn on_first(&mut self, start: FrameStart) -> Result<State, H3Error> {
        if start.kind != frame::SETTINGS {
            return Err(H3Error::new(
                h3::MISSING_SETTINGS,
                "control stream without SETTINGS",
            ));
        }
        if start.length > SETTINGS_BYTES_MAX {
            return Err(H3Error::new(h3::EXCESSIVE_LOAD, "SETTINGS too long"));
        }
        self.settings_seen = true;
        Ok(State::Settings {
            length: start.length,
        })
    }
}

fn check_goaway(payload: &[u8]) -> Result<(), H3Error> {
    match VarIntKind::Quic.decode(payload) {
        Some((_, length)) if length == payload.len() => Ok(()),
        _ => Err(H3Error::new(h3::FRAME_ERROR, "GOAWAY is not one integer")),
    }
}
