//! The forwarding table: which track goes to which downstreams, and the fan-out of what came in.
//!
//! Ingest only writes into tracks and notes what changed (`Touch`). After all connections that had
//! input were driven, `fan_out` looks at each changed subgroup once per downstream, so that several
//! packets of one batch cost one pass.

use crate::command::{DownstreamId, TrackId};
use crate::conn::{Binding, Conn, Ctx};
use crate::conns::Conns;
use crate::downstream::{Downstream, Kind, Replay};
use crate::event::Event;
use crate::hop::frame::VALUE_MAX;
use crate::moqt::ResetReason;
use crate::reroute::Reroute;
use crate::track::{Conflict, End, ObjectKey, ObjectMeta, Track};
use crate::upstreams::Upstreams;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// When all tracks together hold too much, one part in this many goes at once: finding the oldest
/// groups means looking at all.
const EVICT_SHARE: u64 = 8;

/// Something changed in a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Touch {
    /// A chunk became whole: hops send it.
    Chunk {
        track: TrackId,
        key: ObjectKey,
        index: u64,
    },
    /// A subgroup ended: hops say so.
    Ended {
        track: TrackId,
        group: u64,
        subgroup: u64,
    },
    /// Groups below this one left.
    Evicted { track: TrackId, below: u64 },
    /// The track started over without this downstream.
    Orphaned { track: TrackId, id: DownstreamId },
}

impl Touch {
    fn track(&self) -> TrackId {
        match *self {
            Touch::Chunk { track, .. }
            | Touch::Ended { track, .. }
            | Touch::Evicted { track, .. }
            | Touch::Orphaned { track, .. } => track,
        }
    }
}

pub(crate) struct Entry {
    pub(crate) track: Track,
    pub(crate) downstreams: BTreeSet<DownstreamId>,
    pub(crate) upstreams: Upstreams,
    /// How many of the downstreams are hops.
    hops: usize,
    /// How many are viewers.
    viewers: usize,
    restart_undecided: bool,
}

#[derive(Default)]
pub(crate) struct Relay {
    pub(crate) tracks: BTreeMap<TrackId, Entry>,
    pub(crate) downstreams: BTreeMap<DownstreamId, Downstream>,
    touches: Vec<Touch>,
    /// Subgroups with something new; some of them more than once.
    grown: Vec<(TrackId, u64, u64)>,
    /// Objects with something new for viewers; some of them more than once.
    fresh: Vec<(TrackId, ObjectKey)>,
    /// Connections of hops whose engines were given something in this turn.
    hops: Vec<usize>,
    /// What all tracks hold together.
    bytes: u64,
}

impl Relay {
    pub(crate) fn add_track(&mut self, id: TrackId, track: Track) {
        let entry = Entry {
            track,
            downstreams: BTreeSet::new(),
            upstreams: Upstreams::default(),
            hops: 0,
            viewers: 0,
            restart_undecided: false,
        };
        self.tracks.entry(id).or_insert(entry);
    }

    pub(crate) fn remove_track(&mut self, id: TrackId) -> Option<Entry> {
        let gone = self.tracks.remove(&id)?;
        self.bytes -= gone.track.bytes();
        Some(gone)
    }

    /// What all tracks hold together.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of an object came from an upstream, in pieces that follow one another, which are taken out; a new
    /// upstream may make the track start over.
    pub(crate) fn ingest(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        binding: Binding,
        key: ObjectKey,
        meta: &ObjectMeta,
        (offset, pieces): (u64, &mut [Bytes]),
    ) -> Result<(), Conflict> {
        if binding.restart_allowed && self.starts_over(binding.track, key, meta, (offset, pieces)) {
            self.restart(ctx, binding.track);
        }
        let len = total_bytes(pieces);
        let new_bytes = self.write(ctx, now, binding.track, key, meta, (offset, pieces))?;
        self.note_arrival(ctx, now, binding, key, meta, (new_bytes, len));
        Ok(())
    }

    fn note_arrival(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        binding: Binding,
        key: ObjectKey,
        meta: &ObjectMeta,
        (new_bytes, len): (u64, u64),
    ) {
        let (track, source) = (binding.track, binding.source);
        let Some(entry) = self.tracks.get_mut(&track) else {
            return;
        };
        let arrival = entry.upstreams.handle_arrival(now, source, key, new_bytes);
        entry.upstreams.priority = meta.priority;
        if entry.upstreams.active == Some(source)
            && entry.upstreams.lateness.add(now, meta.budget_ms)
        {
            let session = source.session;
            ctx.reroutes.push_back(Reroute::Weigh { session });
        }
        if arrival.by_second {
            ctx.totals.second_path_bytes_in += len;
            ctx.totals.second_path_new_bytes_in += new_bytes;
        }
        if arrival.delivered {
            ctx.reroutes.push_back(Reroute::Delivered { track });
        }
        if let Some(before) = arrival.resumed {
            ctx.emit(Event::UpstreamResumed {
                track,
                session: source.session,
                alias: source.alias,
                gap_us: now.saturating_duration_since(before).as_micros() as u64,
            });
        }
    }

    /// A new upstream of a track: its first object decides whether it goes on or starts over.
    pub(crate) fn expect_restart(&mut self, track: TrackId) {
        if let Some(entry) = self.tracks.get_mut(&track) {
            entry.restart_undecided = true;
        }
    }

    fn starts_over(
        &mut self,
        track: TrackId,
        key: ObjectKey,
        meta: &ObjectMeta,
        (offset, pieces): (u64, &[Bytes]),
    ) -> bool {
        let Some(entry) = self.tracks.get_mut(&track) else {
            return false;
        };
        let is_first = std::mem::take(&mut entry.restart_undecided);
        match entry.track.held(key) {
            // Sound has objects of one size for hours; only what is in them tells another film. Later
            // pieces do not decide: what came before them would be lost.
            Some(object) => {
                let first = pieces.iter().find(|piece| !piece.is_empty());
                let differs = |piece: &Bytes| !object.body.begins_like(piece);
                !object.agrees(meta) || (offset == 0 && first.is_some_and(differs))
            }
            // In a group that is held it only fills a hole: chunks of a hop come in any order.
            None => {
                is_first
                    && entry.track.has_reached(key)
                    && !entry.track.groups.contains_key(&key.group)
            }
        }
    }

    fn restart(&mut self, ctx: &mut Ctx, track: TrackId) {
        let Some(entry) = self.tracks.get_mut(&track) else {
            return;
        };
        self.bytes -= entry.track.bytes();
        entry.track.restart();
        self.grown.retain(|(grown, ..)| *grown != track);
        self.touches.retain(|touch| touch.track() != track);
        let downstreams: Vec<DownstreamId> =
            std::mem::take(&mut entry.downstreams).into_iter().collect();
        (entry.hops, entry.viewers) = (0, 0);
        self.touches
            .extend(downstreams.iter().map(|&id| Touch::Orphaned { track, id }));
        ctx.emit(Event::TrackRestarted { track, downstreams });
    }

    /// Write bytes of an object and note what changed; how many were new. Ids are bounded by what draft
    /// 16 and hops can carry.
    pub(crate) fn write(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        track: TrackId,
        key: ObjectKey,
        meta: &ObjectMeta,
        (offset, pieces): (u64, &mut [Bytes]),
    ) -> Result<u64, Conflict> {
        let Some(entry) = self.tracks.get_mut(&track) else {
            return Ok(0);
        };
        let largest_id = key.group.max(key.subgroup).max(key.object);
        if largest_id > VALUE_MAX {
            return Err(Conflict(format!("id {largest_id} is beyond 2^62 - 1")));
        }
        let len = total_bytes(pieces);
        let before = entry.track.bytes();
        let written = entry.track.write(now, key, meta, (offset, pieces));
        self.bytes = self.bytes - before + entry.track.bytes();
        let written = written?;
        let before = entry.track.bytes();
        ctx.totals.object_bytes_in += written.new_bytes;
        ctx.totals.duplicate_bytes_in += len - written.new_bytes;
        ctx.totals.objects_in += u64::from(written.completed);
        if written.completed {
            note_complete(ctx, now, track, key, &entry.track);
        }
        if entry.hops > 0 {
            let chunks = written.chunks.into_iter();
            self.touches
                .extend(chunks.map(|index| Touch::Chunk { track, key, index }));
        }
        if entry.viewers > 0 && self.fresh.last() != Some(&(track, key)) {
            self.fresh.push((track, key));
        }
        let grown = (track, key.group, key.subgroup);
        if self.grown.last() != Some(&grown) {
            self.grown.push(grown);
        }
        if written.opened_group || entry.track.outgrew_cache() {
            let gone = entry.track.evict(now);
            let below = gone.into_iter().next_back().map(|group| group + 1);
            self.touches
                .extend(below.map(|below| Touch::Evicted { track, below }));
        }
        self.bytes = self.bytes - before + entry.track.bytes();
        let bytes_max = ctx.limits.cache_total_bytes_max;
        if self.bytes > bytes_max {
            self.evict_over_all(bytes_max - bytes_max / EVICT_SHARE);
            self.trim(track, bytes_max);
        }
        ctx.totals.cache_bytes_peak = ctx.totals.cache_bytes_peak.max(self.bytes);
        Ok(written.new_bytes)
    }

    /// Evict groups of any track, but none that runs, those first that were written to longest ago.
    fn evict_over_all(&mut self, bytes_wanted: u64) {
        let idle = |(id, entry): (&TrackId, &Entry)| {
            let id = *id;
            let at: Vec<Instant> = entry.track.idle_groups().collect();
            at.into_iter().map(move |at| (at, id))
        };
        let mut oldest: Vec<(Instant, TrackId)> = self.tracks.iter().flat_map(idle).collect();
        oldest.sort_unstable();
        for (_, track) in oldest {
            if self.bytes <= bytes_wanted {
                return;
            }
            let Some(entry) = self.tracks.get_mut(&track) else {
                continue;
            };
            let before = entry.track.bytes();
            let below = entry.track.evict_oldest().map(|group| group + 1);
            self.bytes = self.bytes - before + entry.track.bytes();
            self.touches
                .extend(below.map(|below| Touch::Evicted { track, below }));
        }
    }

    /// Only running groups are left, and together they are too much: this one loses its front.
    fn trim(&mut self, track: TrackId, bytes_max: u64) {
        let excess = self.bytes.saturating_sub(bytes_max);
        if let Some(entry) = self.tracks.get_mut(&track).filter(|_| excess > 0) {
            let before = entry.track.bytes();
            entry
                .track
                .trim_running_group(before.saturating_sub(excess));
            self.bytes = self.bytes - before + entry.track.bytes();
        }
    }

    pub(crate) fn end_subgroup(
        &mut self,
        track: TrackId,
        (group, subgroup): (u64, u64),
        end: End,
        end_of_group: bool,
    ) {
        let Some(entry) = self.tracks.get_mut(&track) else {
            return;
        };
        entry.track.end_subgroup(group, subgroup, end, end_of_group);
        self.touches.push(Touch::Ended {
            track,
            group,
            subgroup,
        });
        self.grown.push((track, group, subgroup));
    }

    /// The end of a subgroup came over a hop, perhaps before anything else of it.
    pub(crate) fn end_subgroup_early(
        &mut self,
        now: Instant,
        binding: Binding,
        (group, subgroup): (u64, u64),
        end: End,
        end_of_group: bool,
    ) {
        let Some(entry) = self.tracks.get_mut(&binding.track) else {
            return;
        };
        if !entry.track.has_room_for(group, subgroup) {
            return;
        }
        let before = entry.track.bytes();
        if entry.track.subgroup(group, subgroup).is_none() {
            let priority = binding.default_priority;
            entry
                .track
                .open_subgroup(now, group, subgroup, priority, false);
            let gone = entry.track.evict(now);
            let below = gone.into_iter().next_back().map(|group| group + 1);
            let track = binding.track;
            self.touches
                .extend(below.map(|below| Touch::Evicted { track, below }));
        }
        self.bytes = self.bytes - before + entry.track.bytes();
        self.end_subgroup(binding.track, (group, subgroup), end, end_of_group);
    }

    /// An upstream cannot bring the rest of a subgroup. A standby that gave something up does not speak for the
    /// active one; where two send, both have to.
    pub(crate) fn give_up(&mut self, now: Instant, binding: Binding, place: (u64, u64), code: u32) {
        let Some(entry) = self.tracks.get_mut(&binding.track) else {
            return;
        };
        let over = match entry.upstreams.second {
            Some(second) if second.source == binding.source || !binding.is_standby => entry
                .upstreams
                .given_up
                .give_up(binding.source, place, code),
            _ => (!binding.is_standby).then_some((place, code)),
        };
        if let Some((place, code)) = over {
            self.end_subgroup_early(now, binding, place, End::Reset { code }, false);
        }
    }

    /// Register a downstream; `replay` follows. False if there is no such track, or the id is in use.
    pub(crate) fn add_downstream(&mut self, downstream: Downstream) -> bool {
        if self.downstreams.contains_key(&downstream.id) {
            return false;
        }
        let Some(entry) = self.tracks.get_mut(&downstream.track) else {
            return false;
        };
        entry.downstreams.insert(downstream.id);
        entry.hops += usize::from(matches!(downstream.kind, Kind::Hop { .. }));
        entry.viewers += usize::from(matches!(downstream.kind, Kind::Viewer { .. }));
        self.downstreams.insert(downstream.id, downstream);
        true
    }

    pub(crate) fn remove_downstream(&mut self, id: DownstreamId) -> Option<Downstream> {
        let gone = self.downstreams.remove(&id)?;
        if let Some(entry) = self.tracks.get_mut(&gone.track) {
            let was_listed = entry.downstreams.remove(&id);
            entry.hops -= usize::from(was_listed && matches!(gone.kind, Kind::Hop { .. }));
            entry.viewers -= usize::from(was_listed && matches!(gone.kind, Kind::Viewer { .. }));
        }
        Some(gone)
    }

    /// Send a downstream what the cache holds for it.
    pub(crate) fn replay(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        conns: &mut Conns,
        id: DownstreamId,
        replay: Replay,
    ) {
        let Some(downstream) = self.downstreams.get_mut(&id) else {
            return;
        };
        let Some(entry) = self.tracks.get(&downstream.track) else {
            return;
        };
        let first = downstream.start.group;
        match downstream.kind {
            Kind::Hop { conn: index } => {
                if let Some(conn) = conns.get(index) {
                    downstream.replay_to_hop(ctx, now, conn, &entry.track, replay);
                    crate::hop_link::flush(conn, now);
                }
                conns.mark_dirty(index);
            }
            Kind::Viewer { .. } | Kind::Sink => {
                for (&group, held) in entry.track.groups.range(first..) {
                    for &subgroup in held.subgroups.keys() {
                        pump(ctx, now, conns, downstream, &entry.track, (group, subgroup));
                    }
                }
            }
        }
    }

    /// Carry everything that changed since the last call to the downstreams.
    pub(crate) fn fan_out(&mut self, ctx: &mut Ctx, now: Instant, conns: &mut Conns) {
        for (track, key) in self.fresh.drain(..) {
            if let Some(entry) = self.tracks.get_mut(&track) {
                entry.track.gather(key);
            }
        }
        let mut grown = std::mem::take(&mut self.grown);
        grown.sort_unstable();
        grown.dedup();
        for (track, group, subgroup) in grown.drain(..) {
            let Some(entry) = self.tracks.get(&track) else {
                continue;
            };
            for id in &entry.downstreams {
                let Some(downstream) = self.downstreams.get_mut(id) else {
                    continue;
                };
                if !matches!(downstream.kind, Kind::Hop { .. }) {
                    pump(ctx, now, conns, downstream, &entry.track, (group, subgroup));
                }
            }
        }
        let mut touches = std::mem::take(&mut self.touches);
        for touch in touches.drain(..) {
            self.touch(ctx, now, conns, touch);
        }
        // Nothing grows while it is carried on: the same memory serves the next time.
        (self.grown, self.touches) = (grown, touches);
        for index in self.hops.drain(..) {
            if let Some(conn) = conns.get(index) {
                crate::hop_link::flush(conn, now);
            }
            conns.mark_dirty(index);
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.grown.is_empty() || !self.touches.is_empty()
    }

    fn touch(&mut self, ctx: &mut Ctx, now: Instant, conns: &mut Conns, touch: Touch) {
        if let Touch::Orphaned { id, .. } = touch {
            let Some(downstream) = self.downstreams.get_mut(&id) else {
                return;
            };
            if let Kind::Viewer { conn: index } = downstream.kind {
                if let Some(conn) = conns.get(index) {
                    downstream.reset_all(conn, u64::from(ResetReason::Cancelled.code(conn.draft)));
                }
                conns.mark_dirty(index);
            }
            return;
        }
        let Some(entry) = self.tracks.get(&touch.track()) else {
            return;
        };
        for id in &entry.downstreams {
            let Some(downstream) = self.downstreams.get_mut(id) else {
                continue;
            };
            match (downstream.kind, touch) {
                (Kind::Viewer { conn: index }, Touch::Evicted { below, .. }) => {
                    if let Some(conn) = conns.get(index) {
                        downstream.evicted(ctx, conn, below);
                    }
                    conns.wake(index);
                }
                (Kind::Sink, Touch::Evicted { below, .. }) => {
                    downstream.evicted_from_sink(ctx, below);
                }
                (Kind::Hop { conn: index }, _) => {
                    let given = conns.get(index).is_some_and(|conn| {
                        touch_hop(ctx, now, conn, downstream, &entry.track, touch)
                    });
                    if given && self.hops.last() != Some(&index) {
                        self.hops.push(index);
                    }
                }
                (Kind::Viewer { .. } | Kind::Sink, _) => {}
            }
        }
    }
}

fn total_bytes(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

fn note_complete(ctx: &mut Ctx, now: Instant, id: TrackId, key: ObjectKey, track: &Track) {
    if ctx.object_trace.is_none() {
        return;
    }
    let first_at = track.held(key).map_or(now, |object| object.first_at);
    let (first_us, last_us) = (ctx.micros(first_at), ctx.micros(now));
    if let Some(trace) = &mut ctx.object_trace {
        trace.add(id, key, first_us, last_us);
    }
}

/// Whether the hop's engine was given something to send.
fn touch_hop(
    ctx: &mut Ctx,
    now: Instant,
    conn: &mut Conn,
    downstream: &mut Downstream,
    track: &Track,
    touch: Touch,
) -> bool {
    match touch {
        Touch::Chunk { key, index, .. } => {
            downstream.send_chunk(ctx, now, conn, track, (key, index))
        }
        Touch::Ended {
            group, subgroup, ..
        } => downstream.send_end(ctx, now, conn, track, (group, subgroup)),
        Touch::Evicted { .. } | Touch::Orphaned { .. } => false,
    }
}

/// Send one subgroup of a track to a viewer or a sink.
pub(crate) fn pump(
    ctx: &mut Ctx,
    now: Instant,
    conns: &mut Conns,
    downstream: &mut Downstream,
    track: &Track,
    (group, subgroup): (u64, u64),
) {
    match downstream.kind {
        Kind::Viewer { conn: index } => {
            if let Some(conn) = conns.get(index) {
                downstream.pump(ctx, now, conn, track, group, subgroup);
            }
            conns.mark_dirty(index);
        }
        Kind::Sink => downstream.pump_sink(ctx, track, group, subgroup),
        Kind::Hop { .. } => {}
    }
}
