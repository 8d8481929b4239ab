//! A downstream whose chunks go over a hop to the next edge: as they come, and out of the cache.

use super::Downstream;
use crate::conn::{Conn, Ctx};
use crate::hop::{Chunk, Frame};
use crate::location::Location;
use crate::track::body::CHUNK_BODY_BYTES;
use crate::track::{End, ObjectKey, Track};
use std::time::Instant;

/// What of the cache a hop's downstream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// All it wants: it begins.
    Whole,
    /// All it wants: it had the track elsewhere and misses it now.
    Awaited,
    /// What lies before a place: from there on it was sent everything.
    Before(Location),
}

impl Replay {
    fn has(self, group: u64, object: u64) -> bool {
        !matches!(self, Replay::Before(end) if end <= Location::new(group, object))
    }
}

impl Downstream {
    /// Send what the cache holds from the start on, or a part of it.
    pub(crate) fn replay_to_hop(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        conn: &mut Conn,
        track: &Track,
        replay: Replay,
    ) {
        for (&group, held) in track.groups.range(self.start.group..) {
            for (&subgroup, source) in &held.subgroups {
                for (&object, held) in &source.objects {
                    if !replay.has(group, object) {
                        break;
                    }
                    let key = ObjectKey {
                        group,
                        subgroup,
                        object,
                    };
                    for index in held.body.chunks() {
                        if let Some(frame) = self.chunk_frame(now, track, key, index) {
                            self.send(ctx, now, conn, frame, replay == Replay::Awaited);
                        }
                    }
                }
                // What was reset was not given up here: the peer may have dropped the note of it.
                let is_reset = matches!(source.end, Some(End::Reset { .. }));
                if is_reset || replay.has(group, u64::MAX) {
                    self.send_end(ctx, now, conn, track, (group, subgroup));
                }
            }
        }
    }

    /// Whether the hop's engine was given a chunk that became whole.
    pub(crate) fn send_chunk(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        conn: &mut Conn,
        track: &Track,
        (key, index): (ObjectKey, u64),
    ) -> bool {
        let frame = self.chunk_frame(now, track, key, index);
        frame
            .map(|frame| self.send(ctx, now, conn, frame, false))
            .is_some()
    }

    /// Whether the hop's engine was told that a subgroup ended.
    pub(crate) fn send_end(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        conn: &mut Conn,
        track: &Track,
        (group, subgroup): (u64, u64),
    ) -> bool {
        let frame = self.end_frame(track, group, subgroup);
        frame
            .map(|frame| self.send(ctx, now, conn, frame, false))
            .is_some()
    }

    fn send(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        conn: &mut Conn,
        frame: Frame,
        is_awaited: bool,
    ) {
        if !conn.is_open() {
            return;
        }
        if let Frame::Chunk(chunk) = &frame {
            let bytes = chunk.body.len() as u64;
            let objects = u64::from(chunk.offset + bytes == chunk.body_len);
            self.bytes += bytes;
            self.objects += objects;
            ctx.totals.object_bytes_out += bytes;
            ctx.totals.objects_out += objects;
        }
        if let Some(link) = conn.hop() {
            // Everything in a track came in by a reader or a hop that bounds its values to what a hop
            // carries; what did not (a local publisher's own ids) is not sendable by design.
            let _ = if is_awaited {
                link.hop.send_awaited(now, frame)
            } else {
                link.hop.send(now, frame)
            };
        }
    }

    fn chunk_frame(
        &self,
        now: Instant,
        track: &Track,
        key: ObjectKey,
        index: u64,
    ) -> Option<Frame> {
        if !self.wants(key.group, key.object) {
            return None;
        }
        let source = track.subgroup(key.group, key.subgroup)?;
        let object = source.objects.get(&key.object)?;
        let residence = now.saturating_duration_since(object.first_at).as_millis();
        Some(Frame::Chunk(Chunk {
            alias: self.alias,
            group: key.group,
            subgroup: key.subgroup,
            object: key.object,
            prev: object.prev,
            first_object: source.first_object,
            priority: source.priority,
            status: object.status,
            budget_ms: object
                .budget_ms
                .saturating_sub(residence.min(u128::from(u16::MAX)) as u16),
            props_len: object.props_len as u32,
            body_len: object.body.len(),
            offset: index * CHUNK_BODY_BYTES,
            body: object.body.chunk(index),
        }))
    }

    fn end_frame(&self, track: &Track, group: u64, subgroup: u64) -> Option<Frame> {
        if !self.wants_group(group) {
            return None;
        }
        let source = track.subgroup(group, subgroup)?;
        let alias = self.alias;
        match source.end? {
            End::Finished { last } => {
                let end_of_group = source.end_of_group;
                Some(Frame::SubgroupEnd {
                    alias,
                    group,
                    subgroup,
                    last,
                    end_of_group,
                })
            }
            End::Reset { code } => Some(Frame::SubgroupReset {
                alias,
                group,
                subgroup,
                code,
            }),
        }
    }
}
