//! What a viewer that cannot keep up loses: layers first, then its own oldest groups.
//!
//! A viewer in the dark is told apart from a slow one: nothing of what it is sent is acknowledged. What QUIC holds
//! for it then would be sent again, all of it and in order, in front of what is on when the signal is back. So once
//! it has been unheard for as long as a picture may be late, every group that begins gives up those before it,
//! those included that QUIC has taken whole; and so does the first that begins right after the dark.

use super::layers::{self, Waits};
use super::{Downstream, Out, reset_code};
use crate::conn::{Conn, Ctx};
use crate::moqt::ResetReason;
use crate::send_room;
use crate::track::{Subgroup, Track};
use bytes::Bytes;
use noq_proto::{PathId, StreamId};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Streams of groups that were handed over whole which are remembered: sound may have a group a frame.
const HANDED_MAX: usize = 64;

/// What is known of a viewer's hearing.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// The newest group.
    newest: Option<u64>,
    /// Acknowledgements that had come when a group first began without a further one, and when that was.
    unheard: Option<(u64, Instant)>,
    /// The last end of the dark after which a group has begun.
    back_at: Option<Instant>,
    /// Streams that QUIC has taken whole, with their groups, oldest first.
    handed: VecDeque<(u64, StreamId)>,
}

impl Downstream {
    /// QUIC has taken all of a group's stream.
    pub(super) fn note_handed(&mut self, group: u64, stream: StreamId) {
        if self.hearing.handed.len() >= HANDED_MAX {
            self.hearing.handed.pop_front();
        }
        self.hearing.handed.push_back((group, stream));
    }

    /// A group is there; if it is a new one and the viewer is in the dark, it is all that the viewer will want.
    pub(super) fn note_group(&mut self, ctx: &mut Ctx, now: Instant, conn: &mut Conn, group: u64) {
        if self.hearing.newest.is_some_and(|newest| group <= newest) {
            return;
        }
        self.hearing.newest = Some(group);
        let most = Duration::from_millis(u64::from(self.limits.unheard_ms_max));
        let acks = send_room::acks(&mut conn.quic);
        let since = match self.hearing.unheard {
            Some((before, since)) if before == acks => since,
            _ => {
                self.hearing.unheard = Some((acks, now));
                let back_at = conn.send_room.just_back(now, most);
                if back_at.is_some() && back_at != self.hearing.back_at {
                    self.hearing.back_at = back_at;
                    self.give_up_before(ctx, conn, group);
                }
                return;
            }
        };
        let rtt = conn.quic.rtt(PathId::ZERO).unwrap_or_default();
        if now.saturating_duration_since(since) >= most.max(2 * rtt) {
            self.give_up_before(ctx, conn, group);
            conn.send_room.hold(&mut conn.quic);
        }
    }

    fn give_up_before(&mut self, ctx: &mut Ctx, conn: &mut Conn, group: u64) {
        let open: Vec<_> = self.open.range(..(group, 0)).map(|(key, _)| *key).collect();
        for key in open {
            self.drop_subgroup(ctx, conn, key);
        }
        let code = reset_code(conn, ResetReason::DeliveryTimeout);
        let (old, rest) = self
            .hearing
            .handed
            .drain(..)
            .partition(|(handed, _)| *handed < group);
        self.hearing.handed = rest;
        let old: VecDeque<(u64, StreamId)> = old;
        for (_, id) in old {
            conn.reset_stream(id, code);
        }
    }

    /// Reset what lags beyond the limits, oldest groups first; returns whether anything is still
    /// blocked.
    pub(crate) fn shed_lag(
        &mut self,
        ctx: &mut Ctx,
        now: Instant,
        conn: &mut Conn,
        track: &Track,
    ) -> bool {
        self.shed_layers(ctx, now, conn, track);
        let newest = self.open.keys().next_back().map(|(group, _)| *group);
        let life = Duration::from_millis(u64::from(self.limits.queue_ms_max));
        let mut waiting = self.waiting_bytes(track);
        ctx.totals.queue_bytes_peak = ctx.totals.queue_bytes_peak.max(waiting);
        for key in self.open.keys().copied().collect::<Vec<_>>() {
            let Some(out) = self.open.get(&key) else {
                continue;
            };
            let Some(source) = track.subgroup(key.0, key.1) else {
                continue;
            };
            let since = out.waits_since(source, self.from(key.0));
            let life = life + out.head_start.unwrap_or_default();
            let late = since.is_some_and(|at| now.saturating_duration_since(at) > life);
            let is_old = newest.is_some_and(|newest| key.0 < newest);
            let too_much = waiting > self.limits.queue_bytes_max && is_old;
            if out.is_blocked && (late || too_much) {
                waiting = waiting.saturating_sub(out.waiting_bytes(source, self.from(key.0)));
                self.drop_subgroup(ctx, conn, key);
            }
        }
        self.has_blocked()
    }

    /// Bytes that the track has and this downstream has not taken, over its open subgroups.
    pub(crate) fn waiting_bytes(&self, track: &Track) -> u64 {
        let of = |(key, out): (&(u64, u64), &Out)| {
            let source = track.subgroup(key.0, key.1)?;
            Some(out.waiting_bytes(source, self.from(key.0)))
        };
        self.open.iter().filter_map(of).sum()
    }

    fn drop_subgroup(&mut self, ctx: &mut Ctx, conn: &mut Conn, key: (u64, u64)) {
        if self.end_stream(conn, key) {
            self.groups_dropped += 1;
            ctx.totals.groups_dropped_slow += 1;
        }
    }

    /// Reset what is open of a subgroup, for good; false if it is not open.
    fn end_stream(&mut self, conn: &mut Conn, key: (u64, u64)) -> bool {
        let Some(out) = self.open.remove(&key) else {
            return false;
        };
        if let Some(id) = out.stream {
            conn.outbound.remove(&id);
            conn.reset_stream(id, reset_code(conn, ResetReason::DeliveryTimeout));
        }
        self.done.insert(key);
        conn.writable |= self.finishing;
        true
    }

    /// Give up the highest layer if the viewer is too far behind; its open streams end.
    fn shed_layers(&mut self, ctx: &mut Ctx, now: Instant, conn: &mut Conn, track: &Track) {
        let waits = self.longest_waits(now, track);
        let probe = layers::probe_time(conn.quic.rtt(PathId::ZERO).unwrap_or_default());
        if !self
            .layers
            .waited(now, waits, self.limits.layer_ms_max, probe)
        {
            return;
        }
        ctx.totals.layer_switches_down += 1;
        let withheld = |key: &&(u64, u64)| self.layers.withholds(key.1);
        for key in self
            .open
            .keys()
            .filter(withheld)
            .copied()
            .collect::<Vec<_>>()
        {
            self.end_stream(conn, key);
            ctx.totals.layers_dropped += 1;
        }
    }

    /// How long the first waiting bytes have waited, beyond what the viewer joined late.
    fn longest_waits(&self, now: Instant, track: &Track) -> Waits {
        let mut waits = Waits::default();
        for (key, out) in self.open.iter().filter(|(_, out)| out.is_blocked) {
            let since = track
                .subgroup(key.0, key.1)
                .and_then(|source| out.waits_since(source, self.from(key.0)));
            let Some(since) = since else {
                continue;
            };
            let late = out.head_start.unwrap_or_default();
            let wait = now.saturating_duration_since(since).saturating_sub(late);
            let longest = if key.1 > 0 && key.1 == self.layers.top() {
                &mut waits.top
            } else {
                &mut waits.below
            };
            *longest = (*longest).max(wait);
        }
        waits
    }

    /// Whether a subgroup that is not open yet is withheld as a layer that the viewer cannot take.
    pub(super) fn withholds(&mut self, ctx: &mut Ctx, now: Instant, key: (u64, u64)) -> bool {
        if self.layers.begins(now, key.1) {
            ctx.totals.layer_switches_up += 1;
        }
        if !self.layers.withholds(key.1) {
            return false;
        }
        self.done.insert(key);
        ctx.totals.layers_dropped += 1;
        true
    }
}

impl Out {
    /// When the first byte that waits came to be held.
    fn waits_since(&self, source: &Subgroup, from: u64) -> Option<Instant> {
        let id = self.current.map(|(id, _)| id).or({
            if self.pending.is_empty() {
                None
            } else {
                self.last
            }
        });
        match id {
            Some(id) => source.objects.get(&id).map(|object| object.first_at),
            None => source
                .next_after(self.last, from)
                .map(|(_, object)| object.first_at),
        }
    }

    fn waiting_bytes(&self, source: &Subgroup, from: u64) -> u64 {
        let start = self.last.map_or(from, |last| last + 1);
        let ahead: u64 = source
            .objects
            .range(start..)
            .map(|(_, o)| o.body.ready())
            .sum();
        let taken = self.current.map_or(0, |(_, offset)| offset);
        let pending: usize = self.pending.iter().map(Bytes::len).sum();
        ahead.saturating_sub(taken) + pending as u64
    }
}
