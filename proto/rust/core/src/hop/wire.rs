//! The datagrams of a hop, version 1 (ALPN `farcast-hop/1`): bytes to values and back, nothing else.
//!
//! Integers marked `(i)` are RFC 9000 §16 variable-length integers. One QUIC datagram carries one
//! of these; a field that is not drawn to the end of the datagram must end there.
//!
//! ```text
//! data datagram {
//!   type (8),                 0x01 chunk, 0x02 subgroup end, 0x03 subgroup reset, 0x04 forward,
//!                             0x05 supply; + 0x20 if repaired
//!   sequence number (i),      new for every datagram, repairs included; heartbeats count too
//!   [distance (i)],           if repaired: sequence number - that of the frame's first datagram (>= 1)
//!   track alias (i),
//!   [group (i), subgroup (i)],   not in a forward or a supply
//!   chunk:  object (i), flags (8), [object - previous - 1 (i)], priority (8), status (i),
//!           budget ms (16), properties length (i), body length (i), offset (i), body (..)
//!              flags: 0x01 previous object is given, 0x02 first object of the subgroup
//!   end:    flags (8), [last object (i)]
//!              flags: 0x01 last object is given, 0x02 end of group
//!   reset:  code (i)
//!   forward:  turn (i), flags (8), [group (i), object (i)]
//!              flags: 0x01 send (else stop), 0x02 a first location is given
//!   supply:   turn (i), flags (8), nodes (8), node (64) ...
//!              flags: 0x01 the track comes
//! }
//!
//! repair symbol {             only to a peer that offers coded repair (NODE option)
//!   type (8) = 0x06,
//!   sequence number (i),
//!   frames (8),               2 to 16: the round
//!   symbols (8), index (8),   of how many it is which (from 0)
//!   budget ms (16),           the least of those of the frames
//!   distance (i),             sequence number - the lowest of the frames' first datagrams (>= 1)
//!   { distance to the one before - 1 (i) } ...   the others, upwards
//!   shard (..)                an even number of bytes
//! }
//!
//! shard {                     what a symbol is made of, and gives back
//!   length (16), type (8), the fields of a data datagram from the track alias on, without the budget,
//!   zeros up to the size of the symbol
//! }
//!
//! acknowledgement {
//!   type (8) = 0x10,
//!   largest (i),              largest sequence number received
//!   delay us (i),             how long ago it came
//!   further ranges (i),
//!   length - 1 of the range that ends with `largest` (i),
//!   { sequence numbers missing - 1 (i), length - 1 (i) } ...      downwards, as in RFC 9000 §19.3
//! }
//!
//! heartbeat {
//!   type (8) = 0x11,
//!   flags (8),                0x01 expect me (and answer) every 40 ms: media flows, or may any time;
//!                             0x02 echo
//!   sequence number (i),      from the same row as those of data
//!   time us (i),              the sender's own clock
//!   interval us (i),          the next one follows within this time
//!   gap us (i),               at 40 ms: one numbered datagram in this time on average, and those of one moment
//!                             stand for 40 ms at most; 0 for as you like
//!   [time us (i), held us (i)]   if echo: the last time heard from the receiver, and how long ago
//! }
//! ```
//!
//! The first datagram of a frame has no distance: a frame is known by the sequence number it was
//! first sent with, so that a repair that was not needed is recognised, and a later repair symbol
//! has something to name its sources by.

use super::error::{FrameError, HopError};
use super::frame::{Chunk, DATAGRAM_BYTES_MAX, Frame, Supply, WAY_NODES_MAX};
use super::policy::{ROUND_CHUNKS_MAX, ROUND_SYMBOLS_MAX};
use crate::location::Location;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Ranges in one acknowledgement.
pub(super) const ACK_RANGES_MAX: usize = 64;

const TYPE_CHUNK: u8 = 0x01;
const TYPE_END: u8 = 0x02;
const TYPE_RESET: u8 = 0x03;
const TYPE_FORWARD: u8 = 0x04;
const TYPE_SUPPLY: u8 = 0x05;
const TYPE_SYMBOL: u8 = 0x06;
const TYPE_ACK: u8 = 0x10;
const TYPE_HEARTBEAT: u8 = 0x11;
const REPAIRED: u8 = 0x20;

const CHUNK_HAS_PREV: u8 = 0x01;
const CHUNK_FIRST_OBJECT: u8 = 0x02;
const END_HAS_LAST: u8 = 0x01;
const END_OF_GROUP: u8 = 0x02;
const FORWARD_ON: u8 = 0x01;
const FORWARD_HAS_START: u8 = 0x02;
const SUPPLY_FED: u8 = 0x01;
const HEARTBEAT_MEDIA: u8 = 0x01;
const HEARTBEAT_ECHO: u8 = 0x02;

/// A decoded datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    Data(Data),
    Symbol(Symbol),
    Ack(Ack),
    Heartbeat(Heartbeat),
}

/// A frame under a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub seq: u64,
    /// Sequence number of the frame's first datagram; `seq` itself unless this is a repair.
    pub id: u64,
    pub frame: Frame,
}

/// A repair symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    pub seq: u64,
    /// First sequence numbers of the frames it is made of, upwards, 2 to [`ROUND_CHUNKS_MAX`].
    pub ids: Vec<u64>,
    /// Symbols of the round, at most [`ROUND_SYMBOLS_MAX`], and which of them this is.
    pub parities: u8,
    pub index: u8,
    pub budget_ms: u16,
    pub shard: Bytes,
}

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub delay_us: u64,
    /// First and last sequence number of each range, highest range first, never empty.
    pub ranges: Vec<(u64, u64)>,
}

/// A heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heartbeat {
    pub seq: u64,
    /// The short interval is kept, and expected.
    pub media: bool,
    pub time_us: u64,
    pub interval_us: u64,
    /// How closely the receiver's packets are to follow one another; 0: as it likes.
    pub gap_us: u64,
    pub echo: Option<Echo>,
}

/// What a heartbeat returns of the peer's last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echo {
    pub time_us: u64,
    pub hold_us: u64,
}

/// Serialises a checked frame with what is left of its budget; `id` is at most `seq`.
pub(super) fn encode_data(seq: u64, id: u64, frame: &Frame, budget_ms: u16) -> Bytes {
    let body_len = if let Frame::Chunk(chunk) = frame {
        chunk.body.len()
    } else {
        0
    };
    let mut buf = BytesMut::with_capacity(body_len + 80);
    let kind = kind_of(frame);
    buf.put_u8(if id == seq { kind } else { kind | REPAIRED });
    put_varint(&mut buf, seq);
    if id != seq {
        put_varint(&mut buf, seq - id);
    }
    put_fields(&mut buf, frame, Some(budget_ms));
    debug_assert!(buf.len() <= DATAGRAM_BYTES_MAX);
    buf.freeze()
}

fn kind_of(frame: &Frame) -> u8 {
    match frame {
        Frame::Chunk(_) => TYPE_CHUNK,
        Frame::SubgroupEnd { .. } => TYPE_END,
        Frame::SubgroupReset { .. } => TYPE_RESET,
        Frame::Forward { .. } => TYPE_FORWARD,
        Frame::Supply { .. } => TYPE_SUPPLY,
    }
}

/// The fields of a frame from its alias on; a chunk's budget only if it is given.
fn put_fields(buf: &mut BytesMut, frame: &Frame, budget_ms: Option<u16>) {
    if !frame.is_word() {
        let key = frame.key();
        put_varint(buf, key.alias);
        put_varint(buf, key.group);
        put_varint(buf, key.subgroup);
    }
    match frame {
        Frame::Chunk(chunk) => put_chunk(buf, chunk, budget_ms),
        Frame::Forward {
            alias,
            turn,
            on,
            start,
        } => {
            put_varint(buf, *alias);
            put_varint(buf, *turn);
            buf.put_u8(flag(*on, FORWARD_ON) | flag(start.is_some(), FORWARD_HAS_START));
            if let Some(start) = start {
                put_varint(buf, start.group);
                put_varint(buf, start.object);
            }
        }
        Frame::Supply {
            alias,
            turn,
            supply,
        } => {
            put_varint(buf, *alias);
            put_varint(buf, *turn);
            buf.put_u8(flag(supply.fed, SUPPLY_FED));
            buf.put_u8(supply.way.len() as u8);
            supply.way.iter().for_each(|node| buf.put_u64(*node));
        }
        Frame::SubgroupEnd {
            last, end_of_group, ..
        } => {
            buf.put_u8(flag(last.is_some(), END_HAS_LAST) | flag(*end_of_group, END_OF_GROUP));
            last.iter().for_each(|last| put_varint(buf, *last));
        }
        Frame::SubgroupReset { code, .. } => put_varint(buf, u64::from(*code)),
    }
}

/// The shard of a frame: what is the same in all datagrams that bring it, behind its length.
pub(super) fn encode_shard(frame: &Frame) -> Bytes {
    let mut buf = BytesMut::with_capacity(DATAGRAM_BYTES_MAX);
    buf.put_u16(0);
    buf.put_u8(kind_of(frame));
    put_fields(&mut buf, frame, None);
    let len = (buf.len() - 2) as u16;
    buf[..2].copy_from_slice(&len.to_be_bytes());
    buf.freeze()
}

/// The frame of a shard.
///
/// # Errors
/// As of [`decode`]: the peer made symbols of nonsense.
pub(super) fn decode_shard(shard: Bytes, budget_ms: u16) -> Result<Frame, HopError> {
    let mut reader = Reader(shard);
    let len = usize::from(reader.u16()?);
    if reader.0.len() < len {
        return Err(HopError::Truncated);
    }
    reader.0.truncate(len);
    let kind = reader.u8()?;
    let frame = if kind == TYPE_CHUNK {
        decode_chunk(&mut reader, Some(budget_ms))?
    } else {
        decode_fields(kind, &mut reader)?
    };
    if !reader.0.is_empty() {
        return Err(HopError::Malformed("trailing bytes"));
    }
    check(&frame)?;
    Ok(frame)
}

/// Serialises a repair symbol; `None` if it is too large for a hop.
pub(super) fn encode_symbol(symbol: &Symbol) -> Option<Bytes> {
    let mut buf = BytesMut::with_capacity(symbol.shard.len() + 64);
    buf.put_u8(TYPE_SYMBOL);
    put_varint(&mut buf, symbol.seq);
    buf.put_u8(symbol.ids.len() as u8);
    buf.put_u8(symbol.parities);
    buf.put_u8(symbol.index);
    buf.put_u16(symbol.budget_ms);
    put_varint(&mut buf, symbol.seq.checked_sub(*symbol.ids.first()?)?);
    for pair in symbol.ids.windows(2) {
        put_varint(&mut buf, pair[1].checked_sub(pair[0] + 1)?);
    }
    buf.put_slice(&symbol.shard);
    (buf.len() <= DATAGRAM_BYTES_MAX).then(|| buf.freeze())
}

fn decode_symbol(reader: &mut Reader) -> Result<Symbol, HopError> {
    let seq = reader.varint()?;
    let (frames, parities, index) = (reader.u8()?, reader.u8()?, reader.u8()?);
    if !(2..=ROUND_CHUNKS_MAX).contains(&usize::from(frames)) {
        return Err(HopError::Malformed("frames of a repair symbol"));
    }
    if parities > ROUND_SYMBOLS_MAX || index >= parities {
        return Err(HopError::Malformed("index of a repair symbol"));
    }
    let budget_ms = reader.u16()?;
    let mut ids = vec![reader.repaired(seq)?];
    for _ in 1..frames {
        let id = ids[ids.len() - 1] + reader.varint()? + 1;
        if id >= seq {
            return Err(HopError::Malformed("repair symbol of what was not sent"));
        }
        ids.push(id);
    }
    let shard = reader.rest();
    if shard.is_empty() || !shard.len().is_multiple_of(2) {
        return Err(HopError::Malformed("size of a repair symbol"));
    }
    Ok(Symbol {
        seq,
        ids,
        parities,
        index,
        budget_ms,
        shard,
    })
}

fn put_chunk(buf: &mut BytesMut, chunk: &Chunk, budget_ms: Option<u16>) {
    put_varint(buf, chunk.object);
    buf.put_u8(
        flag(chunk.prev.is_some(), CHUNK_HAS_PREV) | flag(chunk.first_object, CHUNK_FIRST_OBJECT),
    );
    if let Some(prev) = chunk.prev {
        put_varint(buf, chunk.object - prev - 1);
    }
    buf.put_u8(chunk.priority);
    put_varint(buf, chunk.status);
    budget_ms.iter().for_each(|ms| buf.put_u16(*ms));
    put_varint(buf, u64::from(chunk.props_len));
    put_varint(buf, chunk.body_len);
    put_varint(buf, chunk.offset);
    buf.put_slice(&chunk.body);
}

/// Serialises an acknowledgement of at least one and at most [`ACK_RANGES_MAX`] ranges.
pub(super) fn encode_ack(ack: &Ack) -> Bytes {
    let mut buf = BytesMut::with_capacity(32 + 4 * ack.ranges.len());
    buf.put_u8(TYPE_ACK);
    let mut ranges = ack.ranges.iter();
    let Some(&(first, last)) = ranges.next() else {
        return Bytes::new();
    };
    put_varint(&mut buf, last);
    put_varint(&mut buf, ack.delay_us);
    put_varint(&mut buf, ack.ranges.len() as u64 - 1);
    put_varint(&mut buf, last - first);
    let mut above = first;
    for &(first, last) in ranges {
        put_varint(&mut buf, above - last - 2);
        put_varint(&mut buf, last - first);
        above = first;
    }
    buf.freeze()
}

/// Serialises a heartbeat.
pub(super) fn encode_heartbeat(heartbeat: &Heartbeat) -> Bytes {
    let mut buf = BytesMut::with_capacity(50);
    buf.put_u8(TYPE_HEARTBEAT);
    buf.put_u8(
        flag(heartbeat.media, HEARTBEAT_MEDIA) | flag(heartbeat.echo.is_some(), HEARTBEAT_ECHO),
    );
    put_varint(&mut buf, heartbeat.seq);
    put_varint(&mut buf, heartbeat.time_us);
    put_varint(&mut buf, heartbeat.interval_us);
    put_varint(&mut buf, heartbeat.gap_us);
    if let Some(echo) = heartbeat.echo {
        put_varint(&mut buf, echo.time_us);
        put_varint(&mut buf, echo.hold_us);
    }
    buf.freeze()
}

/// Parses one datagram; the body of a chunk shares its memory.
///
/// # Errors
/// `Truncated`, `Malformed` or `UnknownType`: the peer is at fault.
pub(super) fn decode(data: Bytes) -> Result<Datagram, HopError> {
    let mut reader = Reader(data);
    let kind = reader.u8()?;
    let datagram = match kind {
        TYPE_SYMBOL => Datagram::Symbol(decode_symbol(&mut reader)?),
        TYPE_ACK => Datagram::Ack(decode_ack(&mut reader)?),
        TYPE_HEARTBEAT => Datagram::Heartbeat(decode_heartbeat(&mut reader)?),
        _ => Datagram::Data(decode_data(kind, &mut reader)?),
    };
    if reader.0.is_empty() {
        Ok(datagram)
    } else {
        Err(HopError::Malformed("trailing bytes"))
    }
}

fn decode_data(kind: u8, reader: &mut Reader) -> Result<Data, HopError> {
    if !(TYPE_CHUNK..=TYPE_SUPPLY).contains(&(kind & !REPAIRED)) {
        return Err(HopError::UnknownType(kind));
    }
    let seq = reader.varint()?;
    let id = if kind & REPAIRED != 0 {
        reader.repaired(seq)?
    } else {
        seq
    };
    let frame = decode_fields(kind & !REPAIRED, reader)?;
    check(&frame)?;
    Ok(Data { seq, id, frame })
}

fn decode_fields(kind: u8, reader: &mut Reader) -> Result<Frame, HopError> {
    match kind {
        TYPE_CHUNK => decode_chunk(reader, None),
        TYPE_END => decode_end(reader),
        TYPE_RESET => decode_reset(reader),
        TYPE_FORWARD => decode_forward(reader),
        TYPE_SUPPLY => decode_supply(reader),
        _ => Err(HopError::UnknownType(kind)),
    }
}

fn check(frame: &Frame) -> Result<(), HopError> {
    frame.check().map_err(|error| match error {
        FrameError::ValueTooLarge(what) | FrameError::Inconsistent(what) => {
            HopError::Malformed(what)
        }
    })
}

fn decode_chunk(reader: &mut Reader, budget_ms: Option<u16>) -> Result<Frame, HopError> {
    let (alias, group, subgroup) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let object = reader.varint()?;
    let flags = reader.flags(CHUNK_HAS_PREV | CHUNK_FIRST_OBJECT)?;
    let prev = if flags & CHUNK_HAS_PREV != 0 {
        Some(reader.previous(object)?)
    } else {
        None
    };
    Ok(Frame::Chunk(Chunk {
        alias,
        group,
        subgroup,
        object,
        prev,
        first_object: flags & CHUNK_FIRST_OBJECT != 0,
        priority: reader.u8()?,
        status: reader.varint()?,
        budget_ms: match budget_ms {
            Some(budget_ms) => budget_ms,
            None => reader.u16()?,
        },
        props_len: reader.varint32("properties length")?,
        body_len: reader.varint()?,
        offset: reader.varint()?,
        body: reader.rest(),
    }))
}

fn decode_end(reader: &mut Reader) -> Result<Frame, HopError> {
    let (alias, group, subgroup) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let flags = reader.flags(END_HAS_LAST | END_OF_GROUP)?;
    let last = if flags & END_HAS_LAST != 0 {
        Some(reader.varint()?)
    } else {
        None
    };
    let end_of_group = flags & END_OF_GROUP != 0;
    Ok(Frame::SubgroupEnd {
        alias,
        group,
        subgroup,
        last,
        end_of_group,
    })
}

fn decode_reset(reader: &mut Reader) -> Result<Frame, HopError> {
    let (alias, group, subgroup) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let code = reader.varint32("reset code")?;
    Ok(Frame::SubgroupReset {
        alias,
        group,
        subgroup,
        code,
    })
}

fn decode_forward(reader: &mut Reader) -> Result<Frame, HopError> {
    let (alias, turn) = (reader.varint()?, reader.varint()?);
    let flags = reader.flags(FORWARD_ON | FORWARD_HAS_START)?;
    let start = if flags & FORWARD_HAS_START != 0 {
        Some(Location::new(reader.varint()?, reader.varint()?))
    } else {
        None
    };
    Ok(Frame::Forward {
        alias,
        turn,
        on: flags & FORWARD_ON != 0,
        start,
    })
}

fn decode_supply(reader: &mut Reader) -> Result<Frame, HopError> {
    let (alias, turn) = (reader.varint()?, reader.varint()?);
    let fed = reader.flags(SUPPLY_FED)? != 0;
    let nodes = usize::from(reader.u8()?);
    if nodes > WAY_NODES_MAX {
        return Err(HopError::Malformed("way"));
    }
    let way = (0..nodes).map(|_| reader.u64());
    let way = way.collect::<Result<Vec<u64>, HopError>>()?;
    Ok(Frame::Supply {
        alias,
        turn,
        supply: Supply { fed, way },
    })
}

fn decode_ack(reader: &mut Reader) -> Result<Ack, HopError> {
    let below_zero = HopError::Malformed("acknowledged range below zero");
    let mut last = reader.varint()?;
    let delay_us = reader.varint()?;
    let further = reader.varint()?;
    if further >= ACK_RANGES_MAX as u64 {
        return Err(HopError::Malformed("too many acknowledged ranges"));
    }
    let mut ranges = Vec::with_capacity(further as usize + 1);
    for left in (0..=further).rev() {
        let first = last.checked_sub(reader.varint()?).ok_or(below_zero)?;
        ranges.push((first, last));
        if left > 0 {
            let down = reader.varint()? + 2;
            last = first.checked_sub(down).ok_or(below_zero)?;
        }
    }
    Ok(Ack { delay_us, ranges })
}

fn decode_heartbeat(reader: &mut Reader) -> Result<Heartbeat, HopError> {
    let flags = reader.flags(HEARTBEAT_MEDIA | HEARTBEAT_ECHO)?;
    let (seq, time_us) = (reader.varint()?, reader.varint()?);
    let (interval_us, gap_us) = (reader.varint()?, reader.varint()?);
    let echo = if flags & HEARTBEAT_ECHO != 0 {
        Some(Echo {
            time_us: reader.varint()?,
            hold_us: reader.varint()?,
        })
    } else {
        None
    };
    Ok(Heartbeat {
        seq,
        media: flags & HEARTBEAT_MEDIA != 0,
        time_us,
        interval_us,
        gap_us,
        echo,
    })
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// Appends an RFC 9000 §16 integer of at most 2^62 - 1, in its shortest form.
fn put_varint(buf: &mut BytesMut, value: u64) {
    match value {
        0..0x40 => buf.put_u8(value as u8),
        0x40..0x4000 => buf.put_u16(0x4000 | value as u16),
        0x4000..0x4000_0000 => buf.put_u32(0x8000_0000 | value as u32),
        _ => buf.put_u64(0xc000_0000_0000_0000 | value),
    }
}

/// Takes fields off the front of a datagram.
struct Reader(Bytes);

impl Reader {
    fn u8(&mut self) -> Result<u8, HopError> {
        self.0.try_get_u8().map_err(|_| HopError::Truncated)
    }

    fn u16(&mut self) -> Result<u16, HopError> {
        self.0.try_get_u16().map_err(|_| HopError::Truncated)
    }

    fn u64(&mut self) -> Result<u64, HopError> {
        self.0.try_get_u64().map_err(|_| HopError::Truncated)
    }

    fn varint(&mut self) -> Result<u64, HopError> {
        let first = self.0.first().copied().ok_or(HopError::Truncated)?;
        let len = 1usize << (first >> 6);
        if self.0.len() < len {
            return Err(HopError::Truncated);
        }
        let value = self.0.get_uint(len);
        Ok(value & (u64::MAX >> (66 - 8 * len)))
    }

    fn varint32(&mut self, what: &'static str) -> Result<u32, HopError> {
        u32::try_from(self.varint()?).map_err(|_| HopError::Malformed(what))
    }

    fn flags(&mut self, known: u8) -> Result<u8, HopError> {
        let flags = self.u8()?;
        if flags & !known == 0 {
            Ok(flags)
        } else {
            Err(HopError::Malformed("unknown flags"))
        }
    }

    /// The first sequence number of a frame that is repaired under `seq`.
    fn repaired(&mut self, seq: u64) -> Result<u64, HopError> {
        let distance = self.varint()?;
        let id = seq.checked_sub(distance).filter(|id| *id != seq);
        id.ok_or(HopError::Malformed("repair of itself or of nothing"))
    }

    /// The object before `object`, given as their distance less one.
    fn previous(&mut self, object: u64) -> Result<u64, HopError> {
        let distance = self.varint()? + 1;
        object
            .checked_sub(distance)
            .ok_or(HopError::Malformed("previous object below zero"))
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }
}
