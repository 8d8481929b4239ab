//! Control and request streams: bytes between the agent and the peer, in order, with a bound.

use crate::command::{Draft, LOCAL_STREAM_BIT, StreamKey};
use crate::conn::{Conn, Ctx, Mode};
use crate::event::{ClosedBy, Event, StreamKind};
use bytes::{Bytes, BytesMut};
use noq_proto::{Connection, Dir, ReadError, ReadableError, StreamId, WriteError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// Control streams go before any media inside QUIC.
pub(crate) const CONTROL_PRIORITY: i32 = i32::MAX;
/// MoQT session error: the peer does not read its control streams.
const EXCESSIVE_LOAD: u32 = 0x9;

/// Reset code of a stream that the peer stopped (draft-18 §3.3.2, CANCELLED).
const STOPPED: u64 = 0x1;

/// One control or request stream that we can write to.
#[derive(Debug)]
struct Outgoing {
    id: StreamId,
    pending: VecDeque<Bytes>,
    fin: bool,
}

/// A stream that the agent opened while the peer had no credit left.
#[derive(Debug)]
struct Unopened {
    key: StreamKey,
    bidi: bool,
    pending: VecDeque<Bytes>,
    fin: bool,
}

/// A stream as the agent knows it.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: StreamKey,
    kind: StreamKind,
    /// The peer's side goes on.
    is_read: bool,
}

/// All control and request streams of a session.
#[derive(Debug, Default)]
pub(crate) struct ControlStreams {
    outgoing: BTreeMap<StreamKey, Outgoing>,
    unopened: VecDeque<Unopened>,
    /// Streams we opened or that the peer opened towards the agent, until both sides are over.
    keys: BTreeMap<StreamId, Known>,
    /// HTTP/3's own streams.
    raw: BTreeMap<StreamId, Outgoing>,
    pending_bytes: usize,
    /// Streams left unread while the agent is behind.
    held: BTreeSet<StreamId>,
    /// Draft 16: the session's bidirectional control stream exists.
    has_control: bool,
}

impl ControlStreams {
    pub(crate) fn key_of(&self, id: StreamId) -> Option<StreamKey> {
        self.keys.get(&id).map(|known| known.key)
    }

    /// Streams that are not over yet.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Nothing more comes from the peer on a stream.
    fn end_reading(&mut self, id: StreamId) {
        let Some(known) = self.keys.get_mut(&id) else {
            return;
        };
        known.is_read = false;
        if !self.outgoing.contains_key(&known.key) {
            self.keys.remove(&id);
        }
    }

    /// What the next bidirectional stream of this session is for.
    fn bidi_kind(&mut self, draft: Draft, is_hop: bool) -> StreamKind {
        let is_control = draft == Draft::D16 && !is_hop && !self.has_control;
        self.has_control |= is_control;
        if is_control {
            StreamKind::Control
        } else {
            StreamKind::Request
        }
    }

    fn forget(&mut self, key: StreamKey) -> Option<Outgoing> {
        let gone = self.outgoing.remove(&key)?;
        self.pending_bytes -= waiting_bytes(&gone.pending);
        if self.keys.get(&gone.id).is_some_and(|known| !known.is_read) {
            self.keys.remove(&gone.id);
        }
        Some(gone)
    }
}

/// The agent opens a stream.
pub(crate) fn open(conn: &mut Conn, key: StreamKey, bidi: bool) {
    if !conn.is_open() || key & LOCAL_STREAM_BIT == 0 {
        return;
    }
    conn.control.unopened.push_back(Unopened {
        key,
        bidi,
        pending: VecDeque::new(),
        fin: false,
    });
    open_waiting(conn);
}

/// Open what waited for stream credit.
pub(crate) fn open_waiting(conn: &mut Conn) {
    while let Some(next) = conn.control.unopened.front() {
        let dir = if next.bidi { Dir::Bi } else { Dir::Uni };
        let Some(id) = conn.quic.streams().open(dir) else {
            return;
        };
        let Some(waiting) = conn.control.unopened.pop_front() else {
            return;
        };
        // The stream was opened just now, so it exists.
        let _ = conn.quic.send_stream(id).set_priority(CONTROL_PRIORITY);
        let kind = if waiting.bidi {
            conn.control
                .bidi_kind(conn.draft, matches!(conn.mode, Mode::Hop(_)))
        } else {
            StreamKind::Control
        };
        let mut pending = waiting.pending;
        if let Mode::WebTransport(wt) = &conn.mode {
            let prefix = if waiting.bidi {
                wt.bidi_prefix()
            } else {
                wt.uni_prefix()
            };
            let prefix = prefix.unwrap_or_default();
            conn.control.pending_bytes += prefix.len();
            pending.push_front(prefix);
        }
        let known = Known {
            key: waiting.key,
            kind,
            is_read: waiting.bidi,
        };
        conn.control.keys.insert(id, known);
        conn.control.outgoing.insert(
            waiting.key,
            Outgoing {
                id,
                pending,
                fin: waiting.fin,
            },
        );
        flush(conn, waiting.key);
    }
}

/// The agent writes; more than the bound unread by the peer ends the session.
pub(crate) fn write(
    conn: &mut Conn,
    ctx: &mut Ctx,
    now: Instant,
    key: StreamKey,
    data: Bytes,
    fin: bool,
) {
    if !conn.is_open() {
        return;
    }
    let control = &mut conn.control;
    let waiting = control.unopened.iter_mut().find(|stream| stream.key == key);
    let (pending, ends) = match (control.outgoing.get_mut(&key), waiting) {
        (Some(stream), _) => (&mut stream.pending, &mut stream.fin),
        (None, Some(stream)) => (&mut stream.pending, &mut stream.fin),
        (None, None) => return,
    };
    *ends |= fin;
    if !data.is_empty() {
        control.pending_bytes += data.len();
        pending.push_back(data);
    }
    flush(conn, key);
    let pending_bytes_max = match conn.mode {
        Mode::Control => ctx.limits.control_session_pending_bytes_max,
        _ => ctx.limits.control_pending_bytes_max,
    };
    if conn.control.pending_bytes > pending_bytes_max {
        let reason = "the peer does not read its control streams";
        conn.close(ctx, now, ClosedBy::Local, EXCESSIVE_LOAD, reason);
    }
}

/// HTTP/3 writes on a stream of its own.
pub(crate) fn write_raw(conn: &mut Conn, id: StreamId, data: Bytes, fin: bool) {
    let new = || Outgoing {
        id,
        pending: VecDeque::new(),
        fin: false,
    };
    let stream = conn.control.raw.entry(id).or_insert_with(new);
    stream.fin |= fin;
    conn.control.pending_bytes += data.len();
    stream.pending.push_back(data);
    flush_raw(conn, id);
}

fn flush_raw(conn: &mut Conn, id: StreamId) {
    let Some(stream) = conn.control.raw.get_mut(&id) else {
        return;
    };
    let is_open = conn.send_room.open_for_control(&mut conn.quic);
    let pushed = push(&mut conn.quic, stream, &mut conn.control.pending_bytes);
    conn.send_room.close(&mut conn.quic, is_open);
    if pushed == Pushed::Over
        && let Some(gone) = conn.control.raw.remove(&id)
    {
        conn.control.pending_bytes -= waiting_bytes(&gone.pending);
    }
}

/// Hand pending bytes to QUIC as far as it takes them.
fn flush(conn: &mut Conn, key: StreamKey) {
    let Some(stream) = conn.control.outgoing.get_mut(&key) else {
        return;
    };
    let is_open = conn.send_room.open_for_control(&mut conn.quic);
    let pushed = push(&mut conn.quic, stream, &mut conn.control.pending_bytes);
    conn.send_room.close(&mut conn.quic, is_open);
    if pushed == Pushed::Over {
        conn.control.forget(key);
    }
}

#[derive(PartialEq, Eq)]
enum Pushed {
    Waits,
    Over,
}

fn push(quic: &mut Connection, stream: &mut Outgoing, pending_bytes: &mut usize) -> Pushed {
    let mut quic = quic.send_stream(stream.id);
    while let Some(front) = stream.pending.front_mut() {
        if front.is_empty() {
            stream.pending.pop_front();
            continue;
        }
        let mut chunks = [front.clone()];
        match quic.write_chunks(&mut &mut chunks[..]) {
            Ok(written) => {
                *pending_bytes -= written;
                let _ = front.split_to(written);
            }
            Err(WriteError::Blocked) => return Pushed::Waits,
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Pushed::Over,
        }
    }
    if !stream.fin {
        return Pushed::Waits;
    }
    // Already finished or stopped: nothing more to say on it.
    let _ = quic.finish();
    Pushed::Over
}

/// QUIC has room again on a stream; false if the stream is not one of ours.
pub(crate) fn on_writable(conn: &mut Conn, id: StreamId) -> bool {
    if conn.control.raw.contains_key(&id) {
        flush_raw(conn, id);
        return true;
    }
    let Some(key) = conn.control.key_of(id) else {
        return false;
    };
    flush(conn, key);
    true
}

/// The agent gives up our side of a stream.
pub(crate) fn reset(conn: &mut Conn, key: StreamKey, code: u32) {
    if let Some(stream) = conn.control.forget(key) {
        conn.reset_stream(stream.id, u64::from(code));
    }
    let control = &mut conn.control;
    control.unopened.retain(|stream| {
        let stays = stream.key != key;
        if !stays {
            control.pending_bytes -= waiting_bytes(&stream.pending);
        }
        stays
    });
}

fn waiting_bytes(pending: &VecDeque<Bytes>) -> usize {
    pending.iter().map(Bytes::len).sum()
}

/// The peer wants no more of our side of a stream; its key, if it is one of these.
pub(crate) fn on_stopped(conn: &mut Conn, id: StreamId) -> Option<StreamKey> {
    let key = conn.control.key_of(id)?;
    if conn.control.forget(key).is_some() {
        conn.reset_stream(id, STOPPED);
    }
    Some(key)
}

/// The agent no longer wants the peer's side of a stream.
pub(crate) fn stop(conn: &mut Conn, key: StreamKey, code: u32) {
    let found = conn
        .control
        .keys
        .iter()
        .find(|(_, known)| known.key == key)
        .map(|(id, _)| *id);
    if let Some(id) = found {
        conn.stop_stream(id, u64::from(code));
        conn.inbound.remove(&id);
        conn.control.end_reading(id);
    }
}

/// The peer opened a bidirectional stream (its WebTransport prefix, if any, is read already).
pub(crate) fn accept_bidi(conn: &mut Conn, id: StreamId) -> StreamKind {
    let key = u64::from(id);
    let kind = conn
        .control
        .bidi_kind(conn.draft, matches!(conn.mode, Mode::Hop(_)));
    // The stream was accepted just now, so it exists.
    let _ = conn.quic.send_stream(id).set_priority(CONTROL_PRIORITY);
    let known = Known {
        key,
        kind,
        is_read: true,
    };
    conn.control.keys.insert(id, known);
    conn.control.outgoing.insert(
        key,
        Outgoing {
            id,
            pending: VecDeque::new(),
            fin: false,
        },
    );
    kind
}

/// The peer's unidirectional control stream.
pub(crate) fn accept_control_uni(conn: &mut Conn, id: StreamId) {
    let known = Known {
        key: u64::from(id),
        kind: StreamKind::Control,
        is_read: true,
    };
    conn.control.keys.insert(id, known);
}

/// What a read of a stream brought.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) data: Vec<Bytes>,
    pub(crate) fin: bool,
    pub(crate) reset: Option<noq_proto::VarInt>,
    /// More may be readable at once: the bound was reached.
    pub(crate) more: bool,
}

/// Read one chunk, or the end if no bytes are left before it.
pub(crate) fn read_chunk(conn: &mut Conn, id: StreamId, bytes_max: usize) -> Read {
    let mut read = Read::default();
    let mut stream = conn.quic.recv_stream(id);
    let mut chunks = match stream.read(true) {
        Ok(chunks) => chunks,
        Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => return read,
    };
    match chunks.next(bytes_max) {
        Ok(Some(chunk)) => {
            read.data.push(chunk.bytes);
            read.more = true;
        }
        Ok(None) => read.fin = true,
        Err(ReadError::Blocked) => {}
        Err(ReadError::Reset(code)) => read.reset = Some(code),
    }
    // The connection is polled for transmits after every read anyway.
    let _ = chunks.finalize();
    read
}

/// Read what is there, at most `bytes_max`.
pub(crate) fn read(conn: &mut Conn, id: StreamId, bytes_max: usize) -> Read {
    let mut data = Vec::new();
    let read = read_into(conn, id, bytes_max, |bytes| data.push(bytes));
    Read { data, ..read }
}

/// Read what is there, at most `bytes_max`, into what takes it; `data` of what is given stays empty.
pub(crate) fn read_into(
    conn: &mut Conn,
    id: StreamId,
    bytes_max: usize,
    mut take: impl FnMut(Bytes),
) -> Read {
    let mut read = Read::default();
    let mut stream = conn.quic.recv_stream(id);
    let mut chunks = match stream.read(true) {
        Ok(chunks) => chunks,
        Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => return read,
    };
    let mut left = bytes_max;
    loop {
        if left == 0 {
            read.more = true;
            break;
        }
        match chunks.next(left) {
            Ok(Some(chunk)) => {
                left -= chunk.bytes.len();
                take(chunk.bytes);
            }
            Ok(None) => {
                read.fin = true;
                break;
            }
            Err(ReadError::Blocked) => break,
            Err(ReadError::Reset(code)) => {
                read.reset = Some(code);
                break;
            }
        }
    }
    // The connection is polled for transmits after every read anyway.
    let _ = chunks.finalize();
    read
}

/// Hand bytes of a control or request stream to the agent. `false`: the stream is over.
pub(crate) fn deliver(conn: &mut Conn, ctx: &mut Ctx, id: StreamId, first: Bytes) -> bool {
    let Some(&Known {
        key: stream, kind, ..
    }) = conn.control.keys.get(&id)
    else {
        return false;
    };
    if ctx.control_held && first.is_empty() {
        conn.control.held.insert(id);
        return true;
    }
    let session = conn.session;
    let mut first = Some(first).filter(|bytes| !bytes.is_empty());
    loop {
        let read = read(conn, id, ctx.limits.control_event_bytes_max);
        let data = concat(first.take().into_iter().chain(read.data));
        if !data.is_empty() || read.fin {
            ctx.emit(Event::StreamData {
                session,
                stream,
                kind,
                data,
                fin: read.fin,
            });
        }
        if let Some(code) = read.reset {
            let code = conn.application_code(code);
            ctx.emit(Event::StreamReset {
                session,
                stream,
                code,
            });
        }
        if read.fin || read.reset.is_some() {
            conn.control.end_reading(id);
            return false;
        }
        if !read.more {
            return true;
        }
    }
}

/// Read the streams that were left unread, if the agent has caught up.
pub(crate) fn resume(conn: &mut Conn, ctx: &mut Ctx) {
    if ctx.control_held || !conn.is_open() {
        return;
    }
    for id in std::mem::take(&mut conn.control.held) {
        if !deliver(conn, ctx, id, Bytes::new()) {
            conn.inbound.remove(&id);
        }
    }
}

/// A control stream that came whole and ended at once.
pub(crate) fn deliver_last(conn: &mut Conn, ctx: &mut Ctx, id: StreamId, data: Bytes) {
    let Some(&Known {
        key: stream, kind, ..
    }) = conn.control.keys.get(&id)
    else {
        return;
    };
    ctx.emit(Event::StreamData {
        session: conn.session,
        stream,
        kind,
        data,
        fin: true,
    });
    conn.control.end_reading(id);
}

fn concat(parts: impl Iterator<Item = Bytes>) -> Bytes {
    let mut parts: Vec<Bytes> = parts.collect();
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}
