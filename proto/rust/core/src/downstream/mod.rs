//! One downstream: a viewer's subscription, a hop's, or a local sink, as cursors over a shared track.
//!
//! No payload is queued per viewer. A downstream keeps, per open subgroup, which object it is in and
//! how far; bytes go from the shared store into QUIC only when QUIC takes them. What a slow viewer
//! costs is therefore its cursors and what QUIC holds, and "its queue" is what lies between its
//! cursor and the end of the track. When the first waiting byte is older than `queue_ms_max`, or more
//! than `queue_bytes_max` wait, the subgroup's stream is reset and the viewer goes on with newer
//! groups; well before that it gives up layers ([`layers`]). A late joiner may lag by as much more as it joined late. A hop has no cursors at all: chunks go out as they become whole, in any order.

mod hop;
mod lag;
mod layers;
mod sink;

pub(crate) use self::hop::Replay;
use self::lag::Hearing;
use self::layers::Layers;
use crate::command::{DownstreamId, Draft, GroupOrder, QueueLimits, SessionId, TrackId};
use crate::conn::{Conn, Ctx, OutKey};
use crate::forward::ReplayBudget;
use crate::location::Location;
use crate::moqt::{
    DataError, ObjectHeader, ResetReason, SubgroupHeader, encode_object_header,
    encode_subgroup_header,
};
use crate::track::{End, Object, Subgroup, Track};
use bytes::{Bytes, BytesMut};
use noq_proto::{Dir, StreamId, WriteError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Bytes taken from the store per write; bounds what waits outside QUIC and the store.
const FILL_BYTES: usize = 64 << 10;
/// Groups of a track that streams' priorities tell apart; where their numbers begin again, one group goes before
/// the one in front of it.
const GROUP_PLACES: u64 = 1 << 14;
/// How often a blocked downstream's lag is looked at.
pub(crate) const LAG_CHECK: Duration = Duration::from_millis(100);

/// Where objects of a downstream go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// MoQT streams of a session on this connection.
    Viewer { conn: usize },
    /// Chunks of a hop on this connection.
    Hop { conn: usize },
    /// The local application.
    Sink,
}

/// One open subgroup of a downstream.
#[derive(Debug, Default)]
struct Out {
    stream: Option<StreamId>,
    /// The last object that was taken whole.
    last: Option<u64>,
    /// The object that is being taken, and the next offset in its body.
    current: Option<(u64, u64)>,
    /// Taken from the store, not accepted by QUIC yet.
    pending: VecDeque<Bytes>,
    is_blocked: bool,
    is_unwritable: bool,
    /// How old the first byte was when this downstream came to it: a late joiner is as far behind as
    /// it joined late, and keeps the group if it gets no further behind than that.
    head_start: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) id: DownstreamId,
    pub(crate) kind: Kind,
    pub(crate) session: SessionId,
    pub(crate) alias: u64,
    pub(crate) track: TrackId,
    pub(crate) start: Location,
    pub(crate) end_group: Option<u64>,
    pub(crate) subscriber_priority: u8,
    pub(crate) group_order: GroupOrder,
    pub(crate) forward: bool,
    pub(crate) limits: QueueLimits,
    pub(crate) finishing: bool,
    /// Until then, one that is finishing while it is paused may still be asked for the end of its track.
    pub(crate) finish_at: Option<Instant>,
    /// Of the last word of a hop's peer to forward it, or to stop.
    pub(crate) turn: u64,
    pub(crate) replays: ReplayBudget,
    /// A hop was offered everything from its start on.
    pub(crate) is_whole: bool,
    open: BTreeMap<(u64, u64), Out>,
    /// Subgroups that are over for this downstream while the track still has them.
    done: BTreeSet<(u64, u64)>,
    layers: Layers,
    hearing: Hearing,
    pub(crate) streams_opened: u64,
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) groups_dropped: u64,
}

/// What a pump came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pumped {
    /// Everything that the track has was taken.
    Idle,
    /// QUIC takes no more for now.
    Blocked,
    /// The subgroup is over for this downstream.
    Done,
}

impl Downstream {
    pub(crate) fn new(
        id: DownstreamId,
        kind: Kind,
        session: SessionId,
        alias: u64,
        track: TrackId,
        start: Location,
    ) -> Downstream {
        Downstream {
            id,
            kind,
            session,
            alias,
            track,
            start,
            end_group: None,
            subscriber_priority: 128,
            group_order: GroupOrder::Ascending,
            forward: true,
            limits: QueueLimits::default(),
            finishing: false,
            finish_at: None,
            turn: 0,
            replays: ReplayBudget::default(),
            is_whole: true,
            open: BTreeMap::new(),
            done: BTreeSet::new(),
            layers: Layers::default(),
            hearing: Hearing::default(),
            streams_opened: 0,
            objects: 0,
            bytes: 0,
            groups_dropped: 0,
        }
    }

    /// Whether objects of a group can pass the filter at all.
    pub(crate) fn wants_group(&self, group: u64) -> bool {
        self.forward && group >= self.start.group && self.end_group.is_none_or(|end| group <= end)
    }

    /// Whether an object passes the filter.
    pub(crate) fn wants(&self, group: u64, object: u64) -> bool {
        self.wants_group(group) && Location::new(group, object) >= self.start
    }

    /// First object id of a group that passes the filter.
    fn from(&self, group: u64) -> u64 {
        if group == self.start.group {
            self.start.object
        } else {
            0
        }
    }

    /// Layers that are withheld from a viewer that cannot take them.
    pub(crate) fn layers_given_up(&self) -> u64 {
        self.layers.given_up()
    }

    pub(crate) fn has_blocked(&self) -> bool {
        self.open.values().any(|out| out.is_blocked)
    }

    /// Blocked subgroups, in the order in which they are to be served.
    pub(crate) fn blocked(&self) -> Vec<(u64, u64)> {
        let mut keys: Vec<_> = self
            .open
            .iter()
            .filter(|(_, out)| out.is_blocked)
            .map(|(key, _)| *key)
            .collect();
        if self.group_order == GroupOrder::Descending {
            keys.reverse();
        }
        keys
    }

    /// Send what the track has of one subgroup.
    pub(crate) fn pump(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        conn: &mut Conn,
        track: &Track,
        group: u64,
        subgroup: u64,
    ) {
        let key = (group, subgroup);
        if !conn.is_open() || !self.wants_group(group) || self.done.contains(&key) {
            return;
        }
        let Some(source) = track.subgroup(group, subgroup) else {
            return;
        };
        if !self.open.contains_key(&key) && self.withholds(ctx, now, key) {
            return;
        }
        self.note_group(ctx, now, conn, group);
        if subgroup > 0 {
            // What QUIC holds is tightened at each look, or it would hide for seconds that a link shrank.
            conn.lag_check_at = conn.lag_check_at.or(Some(now + LAG_CHECK));
        }
        // In its place meanwhile is an empty one, which nobody looks at.
        let mut out = std::mem::take(self.open.entry(key).or_default());
        if out.head_start.is_none()
            && let Some((_, first)) = source.next_after(None, self.from(group))
        {
            out.head_start = Some(now.saturating_duration_since(first.first_at));
        }
        let may_begin = out.stream.is_some() || !self.finishing;
        let is_urgent = conn
            .send_room
            .open(&mut conn.quic, self.subscriber_priority);
        let pumped = if may_begin {
            self.pump_out(ctx, conn, source, key, &mut out)
        } else {
            Pumped::Done
        };
        conn.send_room.close(&mut conn.quic, is_urgent);
        match pumped {
            Pumped::Done => {
                self.open.remove(&key);
                if let Some(id) = out.stream {
                    conn.outbound.remove(&id);
                    self.note_handed(group, id);
                }
                self.done.insert(key);
            }
            Pumped::Blocked => {
                conn.send_room.note_blocked(self.subscriber_priority);
                conn.lag_check_at = conn.lag_check_at.or(Some(now + LAG_CHECK));
            }
            Pumped::Idle => {}
        }
        if let Some(place) = self.open.get_mut(&key).filter(|_| pumped != Pumped::Done) {
            out.is_blocked = pumped == Pumped::Blocked;
            *place = out;
        }
    }

    fn pump_out(
        &mut self,
        ctx: &mut Ctx,
        conn: &mut Conn,
        source: &Subgroup,
        key: (u64, u64),
        out: &mut Out,
    ) -> Pumped {
        let from = self.from(key.0);
        if self.lost_its_place(source, out, from) {
            return self.abandon(ctx, conn, out);
        }
        loop {
            match flush(conn, out) {
                Flushed::All => {}
                Flushed::Blocked => return Pumped::Blocked,
                Flushed::Stopped => return Pumped::Done,
            }
            if !self.fill(ctx, conn, source, key, out) {
                break;
            }
        }
        if conn.starved && out.stream.is_none() && source.next_after(out.last, from).is_some() {
            return Pumped::Blocked;
        }
        self.conclude(conn, source, from, out)
    }

    /// Take the next bytes from the store; false if there are none.
    fn fill(
        &mut self,
        ctx: &mut Ctx,
        conn: &mut Conn,
        source: &Subgroup,
        key: (u64, u64),
        out: &mut Out,
    ) -> bool {
        let mut chunks = std::mem::take(&mut out.pending);
        let mut taken = 0;
        while taken < FILL_BYTES {
            if out.current.is_none() && !self.begin_object(conn, source, key, out, &mut chunks) {
                break;
            }
            let Some((id, offset)) = out.current else {
                break;
            };
            let Some(object) = source.objects.get(&id) else {
                break;
            };
            let read = object.body.read(offset, FILL_BYTES - taken, &mut chunks);
            taken += read;
            self.bytes += read as u64;
            ctx.totals.object_bytes_out += read as u64;
            if offset + (read as u64) < object.body.len() {
                out.current = Some((id, offset + read as u64));
                break;
            }
            out.current = None;
            out.last = Some(id);
            self.objects += 1;
            ctx.totals.objects_out += 1;
        }
        out.pending = chunks;
        !out.pending.is_empty()
    }

    /// Begin the next object if enough of it is there for its header; opens the stream if need be.
    fn begin_object(
        &mut self,
        conn: &mut Conn,
        source: &Subgroup,
        key: (u64, u64),
        out: &mut Out,
        chunks: &mut VecDeque<Bytes>,
    ) -> bool {
        let from = self.from(key.0);
        let Some((id, object)) = source.next_after(out.last, from) else {
            return false;
        };
        if object.body.ready() < object.props_len
            || (object.body.ready() == 0 && object.body.len() > 0)
        {
            return false;
        }
        if out.stream.is_none() && !self.open_stream(conn, source, key, id, out, chunks) {
            return false;
        }
        let Ok(header) = object_header(conn.draft, out.last, id, object) else {
            // A value that this viewer's draft cannot write: the subgroup ends here for it.
            out.is_unwritable = true;
            return false;
        };
        chunks.push_back(header);
        out.current = Some((id, object.props_len));
        true
    }

    fn open_stream(
        &mut self,
        conn: &mut Conn,
        source: &Subgroup,
        (group, subgroup): (u64, u64),
        first: u64,
        out: &mut Out,
        chunks: &mut VecDeque<Bytes>,
    ) -> bool {
        let Some(id) = conn.quic.streams().open(Dir::Uni) else {
            conn.starved = true;
            return false;
        };
        let priority = self.stream_priority(source.priority, group);
        // The stream was opened just now, so it exists.
        let _ = conn.quic.send_stream(id).set_priority(priority);
        let mut header = BytesMut::new();
        if let crate::conn::Mode::WebTransport(wt) = &conn.mode {
            header.extend_from_slice(&wt.uni_prefix().unwrap_or_default());
        }
        let is_first = source
            .objects
            .first_key_value()
            .is_some_and(|(id, _)| *id == first);
        let fields = SubgroupHeader {
            alias: self.alias,
            group,
            subgroup: Some(subgroup),
            priority: Some(source.priority),
            end_of_group: source.end_of_group,
            first_object: source.first_object && source.dropped_to.is_none() && is_first,
            has_properties: true,
        };
        if encode_subgroup_header(conn.draft, &fields, &mut header).is_err() {
            out.is_unwritable = true;
            return false;
        }
        chunks.push_back(header.freeze());
        conn.outbound.insert(
            id,
            OutKey {
                downstream: self.id,
                group,
                subgroup,
            },
        );
        out.stream = Some(id);
        self.streams_opened += 1;
        true
    }

    /// QUIC's priority of a subgroup's stream, the greatest first: the subscriber's and the publisher's, then the
    /// order of groups, or QUIC would send a group and the one after it by turns.
    fn stream_priority(&self, publisher_priority: u8, group: u64) -> i32 {
        let urgency = i32::from(self.subscriber_priority) * 256 + i32::from(publisher_priority);
        let place = (group % GROUP_PLACES) as i32;
        let place = match self.group_order {
            GroupOrder::Ascending => place,
            GroupOrder::Descending => GROUP_PLACES as i32 - 1 - place,
        };
        -(urgency * GROUP_PLACES as i32 + place)
    }

    /// The front of the group was dropped from the store before this downstream had read it.
    fn lost_its_place(&self, source: &Subgroup, out: &Out, from: u64) -> bool {
        let Some(dropped) = source.dropped_to else {
            return false;
        };
        match (out.current, out.last) {
            (Some((id, _)), _) => id <= dropped,
            (None, Some(last)) => last < dropped,
            (None, None) => from <= dropped,
        }
    }

    fn abandon(&mut self, ctx: &mut Ctx, conn: &mut Conn, out: &mut Out) -> Pumped {
        if let Some(id) = out.stream {
            conn.reset_stream(id, reset_code(conn, ResetReason::DeliveryTimeout));
        }
        self.groups_dropped += 1;
        ctx.totals.groups_dropped_evicted += 1;
        Pumped::Done
    }

    /// Everything that is there was taken: finish or reset the stream if the subgroup is over.
    fn conclude(&self, conn: &mut Conn, source: &Subgroup, from: u64, out: &mut Out) -> Pumped {
        if out.current.is_none() && source.is_finished_at(out.last, from) {
            if let Some(id) = out.stream {
                // A stream that the peer stopped meanwhile needs no end.
                let _ = conn.quic.send_stream(id).finish();
            }
            return Pumped::Done;
        }
        let unwritable = out
            .is_unwritable
            .then_some(ResetReason::Internal.code(conn.draft));
        let reset = match source.end {
            Some(End::Reset { code }) => Some(code),
            _ => None,
        };
        if let Some(code) = unwritable.or(reset) {
            if let Some(id) = out.stream {
                conn.reset_stream(id, u64::from(code));
            }
            return Pumped::Done;
        }
        Pumped::Idle
    }

    /// The peer asked to stop a stream.
    pub(crate) fn stopped(&mut self, conn: &mut Conn, group: u64, subgroup: u64) {
        if let Some(id) = self
            .open
            .remove(&(group, subgroup))
            .and_then(|out| out.stream)
        {
            conn.outbound.remove(&id);
            conn.reset_stream(id, reset_code(conn, ResetReason::Cancelled));
        }
        self.done.insert((group, subgroup));
        // If that was the last, a finishing downstream is to be reported.
        conn.writable |= self.finishing;
    }

    /// Reset what the filter, which has changed, no longer lets pass.
    pub(crate) fn drop_unwanted(&mut self, conn: &mut Conn) {
        let (first, last) = (self.start.group, self.end_group.unwrap_or(u64::MAX));
        let unwanted = |key: &&(u64, u64)| key.0 < first || key.0 > last;
        let keys: Vec<_> = self.open.keys().filter(unwanted).copied().collect();
        for (group, subgroup) in keys {
            self.stopped(conn, group, subgroup);
            // A later filter may let it pass again.
            self.done.remove(&(group, subgroup));
        }
    }

    /// Groups left the track.
    pub(crate) fn evicted(&mut self, ctx: &mut Ctx, conn: &mut Conn, below: u64) {
        let keep = self.open.split_off(&(below, 0));
        let gone = std::mem::replace(&mut self.open, keep);
        self.done = self.done.split_off(&(below, 0));
        for id in gone.into_values().filter_map(|out| out.stream) {
            conn.outbound.remove(&id);
            conn.reset_stream(id, reset_code(conn, ResetReason::DeliveryTimeout));
            self.groups_dropped += 1;
            ctx.totals.groups_dropped_evicted += 1;
        }
        conn.writable |= self.finishing;
    }

    /// End everything that is open.
    pub(crate) fn reset_all(&mut self, conn: &mut Conn, code: u64) {
        for id in std::mem::take(&mut self.open)
            .into_values()
            .filter_map(|out| out.stream)
        {
            conn.outbound.remove(&id);
            conn.reset_stream(id, code);
        }
    }

    /// Whether a finishing downstream has nothing left to send.
    pub(crate) fn is_drained(&self) -> bool {
        self.open
            .values()
            .all(|out| out.stream.is_none() || !out.is_blocked)
    }
}

fn reset_code(conn: &Conn, reason: ResetReason) -> u64 {
    u64::from(reason.code(conn.draft))
}

/// An object's header as it goes on the stream, properties included.
fn object_header(
    draft: Draft,
    last: Option<u64>,
    id: u64,
    object: &Object,
) -> Result<Bytes, DataError> {
    let properties = match object.props_len as usize {
        0 => Bytes::new(),
        len => {
            let mut properties = Vec::new();
            object.body.read(0, len, &mut properties);
            properties.concat().into()
        }
    };
    let fields = ObjectHeader {
        id,
        properties,
        payload_len: object.body.len() - object.props_len,
        status: object.status,
    };
    let mut header = BytesMut::new();
    encode_object_header(draft, last, &fields, true, &mut header)?;
    Ok(header.freeze())
}

enum Flushed {
    All,
    Blocked,
    Stopped,
}

/// Give pending bytes to QUIC.
fn flush(conn: &mut Conn, out: &mut Out) -> Flushed {
    let Some(id) = out.stream else {
        return Flushed::All;
    };
    while !out.pending.is_empty() {
        let chunks = out.pending.make_contiguous();
        let count = chunks.len();
        let mut rest: &mut [Bytes] = chunks;
        match conn.quic.send_stream(id).write_chunks(&mut rest) {
            Ok(_) => {
                let written = count - rest.len();
                out.pending.drain(..written);
            }
            Err(WriteError::Blocked) => return Flushed::Blocked,
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Flushed::Stopped,
        }
    }
    Flushed::All
}
