//! What a flow has to send: as much as goes, or a film in frames.
//!
//! On the wire every stream begins with the number of its flow. A film has a stream a group, as a relay
//! sends it; each frame has its length and the time of its capture in front. A film that cannot be sent is
//! not queued for ever: when its oldest frame is too old, the rest of the group is given up, as an edge does
//! for a viewer.

use bytes::{BufMut, Bytes, BytesMut};
use noq_proto::{Connection, Dir, StreamId};
use std::collections::VecDeque;

pub const FRAME_US: u64 = 33_333;
const FRAMES_A_GROUP: u64 = 60;
/// A key frame is so many times as large as another one.
const KEY_RATIO: u64 = 8;
/// The oldest frame that still waits; beyond it the rest of its group is given up.
const AGE_US_MAX: u64 = 400_000;
/// An encoder aims at this share of what its controller allows, and at no less than so many bits/s.
const ENCODER_SHARE: (u64, u64) = (85, 100);
const ENCODER_BPS_MIN: u64 = 150_000;
/// A film's flow goes on for so long after its last frame.
const RUN_OUT_US: u64 = 2_000_000;
const BULK_BYTES: usize = 64 << 10;
/// Bytes before each frame: length and capture time.
pub const FRAME_HEADER_BYTES: usize = 12;
/// Bytes before each stream: the flow, and whether frames follow.
pub const STREAM_HEADER_BYTES: usize = 2;

/// What kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// As much as goes.
    Bulk,
    /// Frames at a fixed rate.
    Film { bps: u64 },
    /// Frames at what the controller allows, at most at a rate.
    Encoder { bps_max: u64 },
}

/// A part of a frame that waits.
struct Piece {
    captured_us: u64,
    begins_stream: bool,
    data: Bytes,
}

/// Traffic of one flow.
pub struct Source {
    kind: Kind,
    flow: u8,
    stream: Option<StreamId>,
    /// Captured, and not taken by QUIC.
    pending: VecDeque<Piece>,
    next_frame_us: u64,
    last_frame_us: u64,
    number: u64,
    /// Frames until the next key frame are not sent.
    is_skipping: bool,
    zeros: Bytes,
    pub frames: u64,
    pub skipped: u64,
}

impl Source {
    pub fn new(kind: Kind, flow: u8) -> Source {
        Source {
            kind,
            flow,
            stream: None,
            pending: VecDeque::new(),
            next_frame_us: 0,
            last_frame_us: 0,
            number: 0,
            is_skipping: false,
            zeros: Bytes::from(vec![0; 1 << 20]),
            frames: 0,
            skipped: 0,
        }
    }

    /// The connection stands: there are frames from now on. A film ends before its flow does, so that the last
    /// frames have time to arrive.
    pub fn begin(&mut self, now_us: u64, end_us: u64) {
        self.next_frame_us = now_us;
        self.last_frame_us = match self.kind {
            Kind::Film { .. } => end_us.saturating_sub(RUN_OUT_US),
            _ => end_us,
        };
    }

    /// When it has more by itself.
    pub fn next_us(&self) -> Option<u64> {
        let has_more = self.kind != Kind::Bulk && self.next_frame_us <= self.last_frame_us;
        has_more.then_some(self.next_frame_us)
    }

    /// Whether what QUIC holds is to be kept short.
    pub fn is_film(&self) -> bool {
        self.kind != Kind::Bulk
    }

    /// Give QUIC what there is, and what it takes. `allowed_bps`: what the controller allows.
    pub fn supply(&mut self, now_us: u64, quic: &mut Connection, allowed_bps: u64) {
        if self.kind == Kind::Bulk {
            return self.supply_bulk(quic);
        }
        while self.next_frame_us <= now_us.min(self.last_frame_us) {
            self.capture(allowed_bps);
        }
        self.give_up_old(now_us, quic);
        self.flush(quic);
    }

    fn supply_bulk(&mut self, quic: &mut Connection) {
        let id = match self.stream {
            Some(id) => id,
            None => {
                let Some(id) = quic.streams().open(Dir::Uni) else {
                    return;
                };
                let _ = quic.send_stream(id).write(&[self.flow, 0]);
                *self.stream.insert(id)
            }
        };
        loop {
            let mut chunk = [self.zeros.slice(..BULK_BYTES)];
            if quic
                .send_stream(id)
                .write_chunks(&mut &mut chunk[..])
                .is_err()
            {
                return;
            }
        }
    }

    fn capture(&mut self, allowed_bps: u64) {
        let at_us = self.next_frame_us;
        let position = self.number % FRAMES_A_GROUP;
        let bytes = self.frame_bytes(position, allowed_bps).max(100);
        self.next_frame_us += FRAME_US;
        self.number += 1;
        self.frames += 1;
        self.is_skipping &= position != 0;
        if self.is_skipping {
            self.skipped += 1;
            return;
        }
        let mut header = BytesMut::with_capacity(STREAM_HEADER_BYTES + FRAME_HEADER_BYTES);
        if position == 0 {
            header.put_slice(&[self.flow, 1]);
        }
        header.put_u32(bytes as u32);
        header.put_u64(at_us);
        let payload = self
            .zeros
            .slice(..bytes.min(self.zeros.len() as u64) as usize);
        let pieces = [(header.freeze(), position == 0), (payload, false)];
        self.pending
            .extend(pieces.map(|(data, begins_stream)| Piece {
                captured_us: at_us,
                begins_stream,
                data,
            }));
    }

    fn frame_bytes(&self, position: u64, allowed_bps: u64) -> u64 {
        match self.kind {
            Kind::Bulk => 0,
            Kind::Film { bps } => {
                let other =
                    bps * FRAMES_A_GROUP * FRAME_US / 8_000_000 / (FRAMES_A_GROUP - 1 + KEY_RATIO);
                if position == 0 {
                    other * KEY_RATIO
                } else {
                    other
                }
            }
            Kind::Encoder { bps_max } => {
                let share = allowed_bps.saturating_mul(ENCODER_SHARE.0) / ENCODER_SHARE.1;
                share.clamp(ENCODER_BPS_MIN, bps_max.max(ENCODER_BPS_MIN)) * FRAME_US / 8_000_000
            }
        }
    }

    fn give_up_old(&mut self, now_us: u64, quic: &mut Connection) {
        let oldest = self.pending.front().map(|piece| piece.captured_us);
        if oldest.is_some_and(|at_us| now_us.saturating_sub(at_us) > AGE_US_MAX) {
            self.give_up(quic);
            self.is_skipping = true;
        }
    }

    fn give_up(&mut self, quic: &mut Connection) {
        let mut times: Vec<u64> = self.pending.drain(..).map(|p| p.captured_us).collect();
        times.dedup();
        self.skipped += times.len() as u64;
        if let Some(id) = self.stream.take() {
            let _ = quic.send_stream(id).reset(0u32.into());
        }
    }

    fn flush(&mut self, quic: &mut Connection) {
        while let Some(piece) = self.pending.front_mut() {
            if std::mem::take(&mut piece.begins_stream)
                && let Some(id) = self.stream.take()
            {
                let _ = quic.send_stream(id).finish();
            }
            let id = match self.stream {
                Some(id) => id,
                None => match quic.streams().open(Dir::Uni) {
                    Some(id) => *self.stream.insert(id),
                    None => return,
                },
            };
            let mut chunks = [std::mem::take(&mut piece.data)];
            let mut left = &mut chunks[..];
            let is_whole = quic.send_stream(id).write_chunks(&mut left).is_ok() && left.is_empty();
            if !is_whole {
                let [rest] = chunks;
                piece.data = rest;
                return;
            }
            self.pending.pop_front();
        }
    }
}
