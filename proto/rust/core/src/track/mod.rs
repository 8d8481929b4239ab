//! One track as an edge holds it: groups, subgroups and objects, growing byte by byte, bounded.
//!
//! The store is shared by all downstreams of the track. It keeps no record of who read what: every
//! downstream has cursors of its own, and the store only says what is there and in which order a
//! viewer may get it. The order comes from `prev`, the id of the object before an object in its
//! subgroup: a stream knows it from its own order, a chunk of a hop carries it. So a viewer gets
//! in-order prefixes although chunks arrive in any order, and gaps in object ids stay legal.

pub(crate) mod body;
mod resume;

use crate::command::CacheLimits;
use crate::location::{LargestCell, Location};
use body::Body;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an object, and a subgroup, counts for in the byte account beside its body: without it a peer
/// that sends empty ones would be held for free.
const OBJECT_COST_BYTES: u64 = 256;
const SUBGROUP_COST_BYTES: u64 = 256;
/// Subgroups of one group; more make the track malformed.
pub(crate) const SUBGROUPS_MAX: usize = 4_096;

/// Where an object belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) group: u64,
    pub(crate) subgroup: u64,
    pub(crate) object: u64,
}

/// What an object's header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectMeta {
    pub(crate) prev: Option<u64>,
    pub(crate) first_object: bool,
    pub(crate) priority: u8,
    pub(crate) status: u64,
    pub(crate) props_len: u64,
    pub(crate) body_len: u64,
    /// Milliseconds that are left to the object on its way.
    pub(crate) budget_ms: u16,
}

/// How a subgroup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All its objects up to this one were sent; `None`: it has none.
    Finished { last: Option<u64> },
    /// It ended before its last object.
    Reset { code: u32 },
}

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) prev: Option<u64>,
    pub(crate) status: u64,
    pub(crate) props_len: u64,
    pub(crate) budget_ms: u16,
    pub(crate) body: Body,
    pub(crate) first_at: Instant,
    pub(crate) complete_at: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Subgroup {
    pub(crate) priority: u8,
    pub(crate) first_object: bool,
    pub(crate) end_of_group: bool,
    pub(crate) objects: BTreeMap<u64, Object>,
    pub(crate) end: Option<End>,
    /// Objects up to here were dropped from the front of a group that outgrew the cache.
    pub(crate) dropped_to: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) subgroups: BTreeMap<u64, Subgroup>,
    last_write: Instant,
    bytes: u64,
}

/// An upstream sent what contradicts what is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict(pub(crate) String);

/// What a write changed.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) new_bytes: u64,
    pub(crate) chunks: Vec<u64>,
    pub(crate) completed: bool,
    pub(crate) opened_group: bool,
}

#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) groups: BTreeMap<u64, Group>,
    cache: CacheLimits,
    largest: Arc<LargestCell>,
    largest_known: Option<Location>,
    bytes: u64,
    /// Groups below this one are gone and do not come back.
    evicted_below: u64,
}

impl Track {
    pub(crate) fn new(cache: CacheLimits, largest: Arc<LargestCell>) -> Track {
        Track {
            groups: BTreeMap::new(),
            cache,
            largest,
            largest_known: None,
            bytes: 0,
            evicted_below: 0,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn subgroup(&self, group: u64, subgroup: u64) -> Option<&Subgroup> {
        self.groups.get(&group)?.subgroups.get(&subgroup)
    }

    /// Subgroups of a group that have not ended, each with its newest object.
    pub(crate) fn open_subgroups(&self, group: u64) -> impl Iterator<Item = (u64, Option<u64>)> {
        let held = self.groups.get(&group).into_iter();
        let open = |(id, subgroup): (&u64, &Subgroup)| {
            let last = subgroup.objects.last_key_value().map(|(object, _)| *object);
            subgroup.end.is_none().then_some((*id, last))
        };
        held.flat_map(|group| &group.subgroups).filter_map(open)
    }

    pub(crate) fn held(&self, key: ObjectKey) -> Option<&Object> {
        self.subgroup(key.group, key.subgroup)?
            .objects
            .get(&key.object)
    }

    /// Viewers are about to read what came of an object.
    pub(crate) fn gather(&mut self, key: ObjectKey) {
        let group = self.groups.get_mut(&key.group);
        let subgroup = group.and_then(|group| group.subgroups.get_mut(&key.subgroup));
        if let Some(object) = subgroup.and_then(|held| held.objects.get_mut(&key.object)) {
            object.body.gather();
        }
    }

    /// Whether something at or beyond this place was seen already.
    pub(crate) fn has_reached(&self, key: ObjectKey) -> bool {
        self.largest_known
            .is_some_and(|l| l >= Location::new(key.group, key.object))
    }

    /// Forget everything, as for a new track.
    pub(crate) fn restart(&mut self) {
        self.groups.clear();
        self.bytes = 0;
        self.evicted_below = 0;
        self.largest_known = None;
        self.largest.set(None);
    }

    /// Begin a subgroup, or learn more of one that exists.
    pub(crate) fn open_subgroup(
        &mut self,
        now: Instant,
        group: u64,
        subgroup: u64,
        priority: u8,
        first_object: bool,
    ) -> Option<&mut Subgroup> {
        if group < self.evicted_below {
            return None;
        }
        let held = self.groups.entry(group).or_insert_with(|| Group::new(now));
        held.last_write = now;
        if !held.subgroups.contains_key(&subgroup) {
            held.bytes += SUBGROUP_COST_BYTES;
            self.bytes += SUBGROUP_COST_BYTES;
        }
        let opened = held.subgroups.entry(subgroup).or_default();
        opened.first_object |= first_object;
        opened.priority = priority;
        Some(opened)
    }

    /// Add bytes of an object's body: pieces that follow one another. They are taken out.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        key: ObjectKey,
        meta: &ObjectMeta,
        (offset, pieces): (u64, &mut [Bytes]),
    ) -> Result<Written, Conflict> {
        if key.group < self.evicted_below {
            return Ok(Written::default());
        }
        let (mut cost, mut opened_group) = (0, false);
        let group = self.groups.entry(key.group).or_insert_with(|| {
            opened_group = true;
            Group::new(now)
        });
        if !group.has_room_for(key.subgroup) {
            return Err(Conflict(format!(
                "group {} has more than {SUBGROUPS_MAX} subgroups",
                key.group
            )));
        }
        group.last_write = now;
        let subgroup = group.subgroups.entry(key.subgroup).or_insert_with(|| {
            cost += SUBGROUP_COST_BYTES;
            Subgroup::default()
        });
        subgroup.priority = meta.priority;
        subgroup.first_object |= meta.first_object;
        if subgroup
            .dropped_to
            .is_some_and(|dropped| key.object <= dropped)
        {
            return Ok(Written::default());
        }
        let object = subgroup.objects.entry(key.object).or_insert_with(|| {
            cost += OBJECT_COST_BYTES;
            Object::new(now, meta)
        });
        if !object.agrees(meta) {
            return Err(Conflict(format!(
                "object {} of group {} came twice with different headers",
                key.object, key.group
            )));
        }
        // A sender that joined late knows no predecessor; a better informed one fills it in.
        object.prev = object.prev.or(meta.prev);
        let added = object.body.insert_all(offset, pieces);
        let completed = object.complete_at.is_none() && object.body.is_complete();
        if completed {
            object.complete_at = Some(now);
        }
        group.bytes += added.bytes + cost;
        self.bytes += added.bytes + cost;
        self.note_largest(key);
        Ok(Written {
            new_bytes: added.bytes,
            chunks: added.chunks,
            completed,
            opened_group,
        })
    }

    /// Whether objects from a place on may be held further up and not here: it is before all that is held, and
    /// nothing was held and has gone.
    pub(crate) fn may_lack(&self, start: Location) -> bool {
        let first = self.groups.first_key_value().map(|(id, group)| {
            let subgroups = group.subgroups.values();
            let objects = subgroups.filter_map(|s| s.objects.first_key_value());
            let object = objects.map(|(object, _)| *object).min();
            Location::new(*id, object.unwrap_or(0))
        });
        let has_dropped = |group: &Group| group.subgroups.values().any(|s| s.dropped_to.is_some());
        let is_whole = self.evicted_below == 0 && !self.groups.values().any(has_dropped);
        is_whole && first.is_none_or(|first| start < first)
    }

    pub(crate) fn outgrew_cache(&self) -> bool {
        self.bytes > self.cache.cache_bytes_max
    }

    /// Note that a subgroup is over.
    pub(crate) fn end_subgroup(&mut self, group: u64, subgroup: u64, end: End, end_of_group: bool) {
        let held = self
            .groups
            .get_mut(&group)
            .and_then(|g| g.subgroups.get_mut(&subgroup));
        let Some(subgroup) = held else { return };
        subgroup.end_of_group |= end_of_group;
        // A finished subgroup stays finished: a late reset changes nothing.
        if !matches!(subgroup.end, Some(End::Finished { .. })) {
            subgroup.end = Some(end);
        }
    }

    /// Groups that must go, oldest first, given the limits; they are removed.
    pub(crate) fn evict(&mut self, now: Instant) -> Vec<u64> {
        let mut evicted = Vec::new();
        while let Some((_, group)) = self.groups.first_key_value() {
            let is_running = self.groups.len() == 1;
            let too_many = self.groups.len() > self.cache.cache_groups_max as usize;
            let too_big = self.bytes > self.cache.cache_bytes_max;
            let life = Duration::from_millis(u64::from(self.cache.cache_ms_max));
            let too_old = now.saturating_duration_since(group.last_write) > life;
            if is_running || !(too_many || too_big || too_old) {
                break;
            }
            evicted.extend(self.evict_oldest());
        }
        self.trim_running_group(self.cache.cache_bytes_max);
        evicted
    }

    /// Remove the oldest group, unless it is the running one.
    pub(crate) fn evict_oldest(&mut self) -> Option<u64> {
        if self.groups.len() < 2 {
            return None;
        }
        let (oldest, group) = self.groups.pop_first()?;
        self.bytes -= group.bytes;
        self.evicted_below = oldest + 1;
        Some(oldest)
    }

    /// When each group but the running one was written to last.
    pub(crate) fn idle_groups(&self) -> impl Iterator<Item = Instant> + '_ {
        self.groups
            .values()
            .rev()
            .skip(1)
            .map(|group| group.last_write)
    }

    /// Whether a group may have this subgroup.
    pub(crate) fn has_room_for(&self, group: u64, subgroup: u64) -> bool {
        let held = self.groups.get(&group);
        held.is_none_or(|held| held.has_room_for(subgroup))
    }

    /// A single group that outgrew the cache loses its oldest whole objects; nobody can join it at
    /// its start any more, those who are in it go on. The newest object stays.
    pub(crate) fn trim_running_group(&mut self, bytes_max: u64) {
        let Some(mut entry) = self.groups.last_entry() else {
            return;
        };
        let group = entry.get_mut();
        let newest = group.subgroups.keys().next_back().copied();
        for (id, subgroup) in &mut group.subgroups {
            let keep = usize::from(Some(*id) == newest);
            while self.bytes > bytes_max && subgroup.objects.len() > keep {
                let Some((id, object)) = subgroup.objects.pop_first() else {
                    break;
                };
                subgroup.dropped_to = Some(id);
                let freed = object.body.held() + OBJECT_COST_BYTES;
                self.bytes -= freed;
                group.bytes -= freed;
            }
        }
    }

    fn note_largest(&mut self, key: ObjectKey) {
        let location = Location::new(key.group, key.object);
        if self.largest_known.is_none_or(|largest| location > largest) {
            self.largest_known = Some(location);
            self.largest.set(Some(location));
        }
    }
}

impl Group {
    fn new(now: Instant) -> Group {
        Group {
            subgroups: BTreeMap::new(),
            last_write: now,
            bytes: 0,
        }
    }

    fn has_room_for(&self, subgroup: u64) -> bool {
        self.subgroups.len() < SUBGROUPS_MAX || self.subgroups.contains_key(&subgroup)
    }
}

impl Object {
    fn new(now: Instant, meta: &ObjectMeta) -> Object {
        Object {
            prev: meta.prev,
            status: meta.status,
            props_len: meta.props_len,
            budget_ms: meta.budget_ms,
            body: Body::new(meta.body_len),
            first_at: now,
            complete_at: None,
        }
    }

    /// Whether a header says the same of this object.
    pub(crate) fn agrees(&self, meta: &ObjectMeta) -> bool {
        self.status == meta.status
            && self.props_len == meta.props_len
            && self.body.len() == meta.body_len
    }
}

impl Subgroup {
    /// The object that a reader that has `last` gets next, once it is there: the one that follows in
    /// the subgroup (nothing fits between consecutive ids), or the first from `from` on for a reader
    /// that has none.
    pub(crate) fn next_after(&self, last: Option<u64>, from: u64) -> Option<(u64, &Object)> {
        let start = last.map_or(from, |last| last + 1);
        let (&id, object) = self.objects.range(start..).next()?;
        let follows = match (last, object.prev) {
            (Some(last), prev) => prev == Some(last) || id == last + 1,
            (None, Some(prev)) => prev < from,
            (None, None) => true,
        };
        follows.then_some((id, object))
    }

    /// Whether a reader that has `last` has everything.
    pub(crate) fn is_finished_at(&self, last: Option<u64>, from: u64) -> bool {
        match self.end {
            Some(End::Finished { last: None }) => true,
            Some(End::Finished { last: Some(end) }) => {
                last.is_some_and(|l| l >= end) || (last.is_none() && from > end)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
