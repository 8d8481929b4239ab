//! Incoming streams: sorting them, and reading objects of data streams into tracks as bytes arrive.
//!
//! A data stream whose alias the agent has not bound yet is *parked*: it is not read any further, so
//! that QUIC's flow control holds the sender back instead of a buffer of ours, and it is stopped
//! after a while. An error costs what `DataError::scope` says: the session, the track or the stream.

use crate::conn::{Binding, Conn, Ctx, Mode};
use crate::control;
use crate::event::{ClosedBy, Event};
use crate::moqt::{
    DataError, DataLimits, ErrorScope, ObjectHeader, ResetReason, SubgroupHeader, SubgroupItem,
    SubgroupReader, UniStreamKind, UniStreamSorter,
};
use crate::relay::Relay;
use crate::reroute::Reroute;
use crate::silence;
use crate::track::{Conflict, End, ObjectKey, ObjectMeta};
use bytes::Bytes;
use noq_proto::{Dir, StreamId};
use std::time::{Duration, Instant};

/// Bytes read from one data stream at a time.
const READ_BYTES: usize = 256 << 10;

/// What an incoming stream is, as far as it is known.
pub(crate) enum Inbound {
    /// HTTP/3 has it, or will say whose it is.
    Http3,
    /// A WebTransport stream that came before its session was accepted.
    Early { first: Bytes },
    /// Its MoQT type is not complete.
    Sorting {
        sorter: UniStreamSorter,
        deadline: Instant,
    },
    /// A control or request stream.
    Control,
    /// Objects.
    Data(Box<Ingest>),
    /// Objects of an alias that is not bound; not read any further.
    Parked {
        ingest: Box<Ingest>,
        deadline: Instant,
    },
    /// Read and thrown away.
    Discarded,
}

impl Inbound {
    /// When to give up waiting for what is missing.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Inbound::Sorting { deadline, .. } | Inbound::Parked { deadline, .. } => Some(*deadline),
            Inbound::Data(ingest) => ingest.header_deadline(),
            _ => None,
        }
    }
}

/// One data stream that is being read.
pub(crate) struct Ingest {
    reader: SubgroupReader,
    header: Option<SubgroupHeader>,
    binding: Option<Binding>,
    subgroup: Option<u64>,
    last: Option<u64>,
    current: Option<Current>,
    /// Of that object, what is not written yet.
    pieces: Vec<Bytes>,
    deadline: Instant,
    /// The end of the stream was read.
    is_whole: bool,
}

/// The object that is being read.
struct Current {
    key: ObjectKey,
    meta: ObjectMeta,
    offset: u64,
}

/// Why reading a stream stopped for good.
enum Failure {
    Data(DataError),
    Malformed(Conflict),
}

/// How reading went.
enum Progress {
    /// All that was there was taken.
    Taken,
    /// The alias is not bound.
    Unbound,
}

impl Ingest {
    fn new(conn: &Conn, ctx: &Ctx, now: Instant) -> Ingest {
        let object_bytes_max = ctx.limits.object_bytes_max;
        let limits = DataLimits {
            object_bytes_max,
            ..DataLimits::default()
        };
        Ingest {
            reader: SubgroupReader::new(conn.draft, limits),
            header: None,
            binding: None,
            subgroup: None,
            last: None,
            current: None,
            pieces: Vec::new(),
            deadline: now + header_timeout(ctx),
            is_whole: false,
        }
    }

    fn header_deadline(&self) -> Option<Instant> {
        self.header.is_none().then_some(self.deadline)
    }

    fn poll(
        &mut self,
        conn: &Conn,
        relay: &mut Relay,
        ctx: &mut Ctx,
        now: Instant,
    ) -> Result<Progress, Failure> {
        if self.header.is_some() && !self.bind(conn) {
            return Ok(Progress::Unbound);
        }
        loop {
            let item = self.reader.poll();
            if !matches!(item, Ok(Some(SubgroupItem::Payload(_)))) {
                self.write(relay, ctx, now)?;
            }
            let Some(item) = item.map_err(Failure::Data)? else {
                return Ok(Progress::Taken);
            };
            match item {
                SubgroupItem::Header(header) => {
                    self.subgroup = header.subgroup;
                    self.header = Some(header);
                    if !self.bind(conn) {
                        return Ok(Progress::Unbound);
                    }
                }
                SubgroupItem::Object(object) => {
                    self.report_delivery(conn, ctx, object.id);
                    self.begin(ctx, object);
                }
                SubgroupItem::Payload(bytes) => self.pieces.push(bytes),
            }
        }
    }

    fn bind(&mut self, conn: &Conn) -> bool {
        let alias = self.header.map(|header| header.alias);
        self.binding = alias.and_then(|alias| conn.bindings.get(&alias).copied());
        self.binding.is_some()
    }

    /// A client with several sessions wants to know which of them delivers.
    fn report_delivery(&self, conn: &Conn, ctx: &mut Ctx, object: u64) {
        if let (None, Some(header)) = (self.last, self.header)
            && silence::is_watched(conn, ctx.limits.silence_ms)
        {
            ctx.emit(Event::UpstreamDelivers {
                session: conn.session,
                alias: header.alias,
                group: header.group,
                object,
            });
        }
    }

    fn begin(&mut self, ctx: &Ctx, object: ObjectHeader) {
        let (Some(header), Some(binding)) = (self.header, self.binding) else {
            return;
        };
        let subgroup = *self.subgroup.get_or_insert(object.id);
        let meta = ObjectMeta {
            prev: self.last,
            first_object: header.first_object || (self.last.is_none() && object.id == 0),
            priority: header.priority.unwrap_or(binding.default_priority),
            status: object.status,
            props_len: object.properties.len() as u64,
            body_len: object.properties.len() as u64 + object.payload_len,
            budget_ms: ctx.hop.budget_ms,
        };
        let key = ObjectKey {
            group: header.group,
            subgroup,
            object: object.id,
        };
        self.last = Some(object.id);
        self.current = Some(Current {
            key,
            meta,
            offset: 0,
        });
        self.pieces.push(object.properties);
    }

    /// What came of the current object.
    fn write(&mut self, relay: &mut Relay, ctx: &mut Ctx, now: Instant) -> Result<(), Failure> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let (Some(current), Some(binding)) = (&mut self.current, self.binding) else {
            self.pieces.clear();
            return Ok(());
        };
        let offset = current.offset;
        current.offset += self.pieces.iter().map(|p| p.len() as u64).sum::<u64>();
        let (key, meta) = (current.key, &current.meta);
        let pieces = (offset, &mut self.pieces[..]);
        let written = relay.ingest(ctx, now, binding, key, meta, pieces);
        self.pieces.clear();
        written.map_err(Failure::Malformed)
    }

    fn end(&self, relay: &mut Relay, end: End) {
        let (Some(header), Some(binding)) = (self.header, self.binding) else {
            return;
        };
        let subgroup = self.subgroup.unwrap_or(0);
        relay.end_subgroup(
            binding.track,
            (header.group, subgroup),
            end,
            header.end_of_group,
        );
    }
}

/// Take up the streams that the peer opened.
pub(crate) fn accept_streams(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, now: Instant) {
    for dir in [Dir::Bi, Dir::Uni] {
        while let Some(id) = conn.quic.streams().accept(dir) {
            match conn.mode {
                Mode::WebTransport(_) => {
                    conn.inbound.insert(id, Inbound::Http3);
                    on_readable(conn, relay, ctx, now, id);
                }
                _ => begin_stream(conn, relay, ctx, now, id, Bytes::new()),
            }
        }
    }
}

/// A stream of MoQT, or of a control session, begins, with bytes of it that were read already.
pub(crate) fn begin_stream(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    id: StreamId,
    first: Bytes,
) {
    if id.dir() == Dir::Bi {
        control::accept_bidi(conn, id);
        if control::deliver(conn, ctx, id, first) {
            conn.inbound.insert(id, Inbound::Control);
        }
        return;
    }
    if matches!(conn.mode, Mode::Control) {
        ctx.totals.streams_rejected += 1;
        return conn.stop_stream(id, u64::from(ResetReason::Cancelled.code(conn.draft)));
    }
    let sorter = UniStreamSorter::new(conn.draft);
    let deadline = now + header_timeout(ctx);
    conn.inbound
        .insert(id, Inbound::Sorting { sorter, deadline });
    sort(conn, relay, ctx, now, id, first);
}

/// Bytes, or the end, are to be read on a stream.
pub(crate) fn on_readable(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    id: StreamId,
) {
    match conn.inbound.get(&id) {
        Some(Inbound::Http3) => crate::session::feed_http3(conn, relay, ctx, now, id),
        Some(Inbound::Sorting { .. }) => sort(conn, relay, ctx, now, id, Bytes::new()),
        Some(Inbound::Control) | None => {
            if !control::deliver(conn, ctx, id, Bytes::new()) {
                conn.inbound.remove(&id);
            }
        }
        Some(Inbound::Data(_)) => read_data(conn, relay, ctx, now, id),
        Some(Inbound::Discarded) => discard(conn, id),
        Some(Inbound::Parked { .. } | Inbound::Early { .. }) => {}
    }
}

/// Throw away what is there.
fn discard(conn: &mut Conn, id: StreamId) {
    loop {
        let read = control::read(conn, id, READ_BYTES);
        if read.fin || read.reset.is_some() {
            conn.inbound.remove(&id);
        }
        if !read.more {
            return;
        }
    }
}

/// Find out what a unidirectional stream is for.
fn sort(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    id: StreamId,
    first: Bytes,
) {
    let read = control::read(conn, id, SORT_BYTES);
    let Some(Inbound::Sorting { sorter, .. }) = conn.inbound.get_mut(&id) else {
        return;
    };
    let mut fed = Ok(None);
    let mut bytes = std::iter::once(first)
        .chain(read.data)
        .filter(|b| !b.is_empty());
    for chunk in bytes.by_ref() {
        fed = sorter.feed(chunk);
        if !matches!(fed, Ok(None)) {
            break;
        }
    }
    let rest: Vec<Bytes> = bytes.collect();
    match fed {
        Ok(Some(sorted)) => {
            let chunks = std::iter::once(sorted.bytes).chain(rest).collect();
            sorted_as(conn, relay, ctx, now, (id, sorted.kind), chunks, read.fin);
            if read.more {
                // Nothing else may ever arrive: the rest is here already.
                on_readable(conn, relay, ctx, now, id);
            }
        }
        Ok(None) if read.fin || read.reset.is_some() => {
            conn.inbound.remove(&id);
        }
        Ok(None) => {}
        Err(error) => fail(conn, relay, ctx, now, id, None, Failure::Data(error)),
    }
}

fn sorted_as(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    (id, kind): (StreamId, UniStreamKind),
    chunks: Vec<Bytes>,
    fin: bool,
) {
    match kind {
        UniStreamKind::Control => {
            control::accept_control_uni(conn, id);
            conn.inbound.insert(id, Inbound::Control);
            let first = chunks.concat().into();
            if fin {
                control::deliver_last(conn, ctx, id, first);
            } else if !control::deliver(conn, ctx, id, first) {
                conn.inbound.remove(&id);
            }
        }
        UniStreamKind::Subgroup => {
            let mut ingest = Box::new(Ingest::new(conn, ctx, now));
            chunks
                .into_iter()
                .for_each(|chunk| ingest.reader.feed(chunk));
            advance(conn, relay, ctx, now, id, ingest, fin);
        }
        UniStreamKind::Padding => {
            if !fin {
                conn.inbound.insert(id, Inbound::Discarded);
                discard(conn, id);
            }
        }
        // Nothing was ever asked for by FETCH.
        UniStreamKind::Fetch => {
            ctx.totals.streams_rejected += 1;
            conn.inbound.remove(&id);
            conn.stop_stream(id, u64::from(ResetReason::Cancelled.code(conn.draft)));
        }
    }
}

fn read_data(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, now: Instant, id: StreamId) {
    loop {
        // It is put back in its place by `advance`, or taken out.
        let Some(place @ Inbound::Data(_)) = conn.inbound.get_mut(&id) else {
            return;
        };
        let Inbound::Data(mut ingest) = std::mem::replace(place, Inbound::Discarded) else {
            return;
        };
        let read = control::read_into(conn, id, READ_BYTES, |bytes| ingest.reader.feed(bytes));
        if let Some(code) = read.reset {
            let code = conn.application_code(code) as u32;
            ingest.end(relay, End::Reset { code });
            conn.inbound.remove(&id);
            return;
        }
        advance(conn, relay, ctx, now, id, ingest, read.fin);
        if !read.more || !matches!(conn.inbound.get(&id), Some(Inbound::Data(_))) {
            return;
        }
    }
}

/// Work on what a data stream brought, and keep it in the state that follows.
fn advance(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    id: StreamId,
    mut ingest: Box<Ingest>,
    fin: bool,
) {
    ingest.is_whole |= fin;
    match ingest.poll(conn, relay, ctx, now) {
        Ok(Progress::Unbound) => {
            let deadline = now + header_timeout(ctx);
            ingest.deadline = deadline;
            conn.inbound
                .insert(id, Inbound::Parked { ingest, deadline });
        }
        Ok(Progress::Taken) if ingest.is_whole => match ingest.reader.finish() {
            Ok(()) => {
                let last = ingest.last;
                ingest.end(relay, End::Finished { last });
                conn.inbound.remove(&id);
            }
            Err(error) => fail(
                conn,
                relay,
                ctx,
                now,
                id,
                Some(&ingest),
                Failure::Data(error),
            ),
        },
        Ok(Progress::Taken) => {
            conn.inbound.insert(id, Inbound::Data(ingest));
        }
        Err(failure) => fail(conn, relay, ctx, now, id, Some(&ingest), failure),
    }
}

/// An alias was bound: go on with the streams that waited for it.
pub(crate) fn unpark(conn: &mut Conn, relay: &mut Relay, ctx: &mut Ctx, now: Instant, alias: u64) {
    let waits = |inbound: &Inbound| match inbound {
        Inbound::Parked { ingest, .. } => ingest.header.is_some_and(|h| h.alias == alias),
        _ => false,
    };
    let ids: Vec<StreamId> = conn
        .inbound
        .iter()
        .filter(|(_, inbound)| waits(inbound))
        .map(|(id, _)| *id)
        .collect();
    for id in ids {
        let Some(Inbound::Parked { ingest, .. }) = conn.inbound.remove(&id) else {
            continue;
        };
        advance(conn, relay, ctx, now, id, ingest, false);
        on_readable(conn, relay, ctx, now, id);
    }
    crate::hop_link::deliver_unbound(conn, relay, ctx, now, alias);
}

/// An alias is not wanted any more: stop its streams.
pub(crate) fn unbind(conn: &mut Conn, ctx: &mut Ctx, now: Instant, alias: u64) {
    if let Some(binding) = conn.unbind(now, alias) {
        let (track, source) = (binding.track, binding.source);
        ctx.reroutes.push_back(Reroute::Gone { track, source });
    }
    crate::hop_link::retire(conn, alias);
    let code = u64::from(ResetReason::Cancelled.code(conn.draft));
    stop_where(conn, code, |inbound| match inbound {
        Inbound::Data(ingest) | Inbound::Parked { ingest, .. } => {
            ingest.header.is_some_and(|h| h.alias == alias)
        }
        _ => false,
    });
}

/// Stop streams whose header or binding did not come in time.
pub(crate) fn expire_parked(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    let code = u64::from(ResetReason::DeliveryTimeout.code(conn.draft));
    let stopped = stop_where(conn, code, |inbound| {
        inbound.deadline().is_some_and(|at| at <= now)
    });
    ctx.totals.streams_rejected += stopped;
}

fn stop_where(conn: &mut Conn, code: u64, mut which: impl FnMut(&Inbound) -> bool) -> u64 {
    let ids: Vec<StreamId> = conn
        .inbound
        .iter()
        .filter(|(_, inbound)| which(inbound))
        .map(|(id, _)| *id)
        .collect();
    for id in &ids {
        conn.inbound.remove(id);
        conn.stop_stream(*id, code);
    }
    ids.len() as u64
}

fn fail(
    conn: &mut Conn,
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    id: StreamId,
    ingest: Option<&Ingest>,
    failure: Failure,
) {
    ctx.totals.protocol_errors += 1;
    conn.inbound.remove(&id);
    let malformed = ErrorScope::Track(ResetReason::MalformedTrack);
    let (scope, reason) = match failure {
        Failure::Data(error) => (error.scope(), error.to_string()),
        Failure::Malformed(Conflict(reason)) => (malformed, reason),
    };
    let draft = conn.draft;
    match scope {
        ErrorScope::Session(code) => conn.close(ctx, now, ClosedBy::Local, code, &reason),
        ErrorScope::Stream(why) => {
            ctx.totals.streams_rejected += 1;
            let code = why.code(draft);
            conn.stop_stream(id, u64::from(code));
            // Nothing more of the subgroup comes: who waits for it is to know.
            if let Some(ingest) = ingest {
                ingest.end(relay, End::Reset { code });
            }
        }
        ErrorScope::Track(why) => {
            conn.stop_stream(id, u64::from(why.code(draft)));
            let found = ingest.and_then(|i| i.header.zip(i.binding));
            if let Some((header, binding)) = found {
                let (session, alias, track) = (conn.session, header.alias, binding.track);
                unbind(conn, ctx, now, alias);
                ctx.emit(Event::TrackMalformed {
                    session,
                    alias,
                    track,
                    reason,
                });
            }
        }
    }
}

fn header_timeout(ctx: &Ctx) -> Duration {
    Duration::from_millis(u64::from(ctx.limits.stream_header_timeout_ms))
}

/// Enough for any stream type; what comes beyond is read by what the stream turns out to be.
const SORT_BYTES: usize = 4 << 10;
