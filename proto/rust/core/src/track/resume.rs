//! From where on another upstream is to send: the lowest place at which something is missing.
//!
//! What is missing is never known for certain: ids may have gaps, and of a group or subgroup whose every
//! datagram was lost nothing is known. So the answer is the lowest place where something *may* be
//! missing, in groups that are still alive; too low costs duplicates, too high costs objects. Alive is
//! the last group, and what was written to within [`ALIVE`]: what an older group lacks has been given
//! up by then, and to fetch it again would delay what is new.
//!
//! - A subgroup of a group that has no other is a chain (`prev`): it tells its gaps exactly.
//! - Where a group has several subgroups, an id that none has may belong to one of which nothing came.
//! - A group id that is not held between two that are may be a lost group (one of a single packet, with
//!   sound).
//! - A subgroup that was reset was given up further up; nobody has the rest.

use super::{End, Group, Subgroup, Track};
use crate::location::Location;
use std::time::{Duration, Instant};

/// How long after its last byte a group that is not the last one counts as alive.
const ALIVE: Duration = Duration::from_secs(3);

impl Track {
    /// Where another upstream is to go on; `None` if nothing is held.
    pub(crate) fn resume_location(&self, now: Instant) -> Option<Location> {
        let (&last_id, last) = self.groups.last_key_value()?;
        let alive = self
            .groups
            .iter()
            .rev()
            .enumerate()
            .take_while(|(back, (_, group))| {
                *back == 0 || now.saturating_duration_since(group.last_write) <= ALIVE
            });
        let first_alive = alive.map(|(_, (id, _))| *id).last().unwrap_or(last_id);
        let older = self.groups.range(..first_alive).next_back();
        let mut before = older.map(|(id, _)| *id);
        for (&id, group) in self.groups.range(first_alive..) {
            if let Some(before) = before.filter(|before| before + 1 < id) {
                return Some(Location::new(before + 1, 0));
            }
            if let Some(object) = group.first_missing() {
                return Some(Location::new(id, object));
            }
            before = Some(id);
        }
        Some(match last.is_closed() {
            true => Location::new(last_id.saturating_add(1), 0),
            false => Location::new(last_id, last.next_object()),
        })
    }
}

impl Group {
    /// The lowest object that may be missing, beside those after the last one held.
    fn first_missing(&self) -> Option<u64> {
        let chains = self.subgroups.values().filter_map(Subgroup::first_missing);
        let chain = chains.min();
        if self.subgroups.len() < 2 {
            return chain;
        }
        let unseen = self.first_unseen();
        let open_end = (!self.is_closed()).then(|| self.next_object());
        [chain, unseen, open_end].into_iter().flatten().min()
    }

    /// The lowest id between two held ones that no subgroup has.
    fn first_unseen(&self) -> Option<u64> {
        let objects = self.subgroups.values().flat_map(|s| s.objects.keys());
        let mut ids: Vec<u64> = objects.copied().collect();
        ids.sort_unstable();
        let pair = ids.windows(2).find(|pair| pair[0] + 1 < pair[1])?;
        Some(pair[0] + 1)
    }

    /// The last object of the group is known and its subgroup is over.
    fn is_closed(&self) -> bool {
        let ends = |s: &Subgroup| s.end_of_group && matches!(s.end, Some(End::Finished { .. }));
        self.subgroups.values().any(ends)
    }

    fn next_object(&self) -> u64 {
        let last = |s: &Subgroup| s.objects.last_key_value().map(|(id, _)| id + 1);
        let next = self.subgroups.values().filter_map(last).max();
        next.unwrap_or(0)
    }
}

impl Subgroup {
    /// The lowest object that may be missing; `None` if the subgroup is over and whole.
    fn first_missing(&self) -> Option<u64> {
        if matches!(self.end, Some(End::Reset { .. })) {
            return None;
        }
        let mut last = self.dropped_to;
        for (&id, object) in &self.objects {
            let follows = match (last, object.prev) {
                (None, prev) => prev.is_none(),
                (Some(last), Some(prev)) => prev <= last,
                (Some(last), None) => id == last + 1,
            };
            if !follows {
                return Some(last.map_or(0, |last| last + 1));
            }
            if !object.body.is_complete() {
                return Some(id);
            }
            last = Some(id);
        }
        let next = last.map_or(0, |last| last + 1);
        match self.end {
            Some(End::Finished { last: Some(end) }) => (next <= end).then_some(next),
            Some(_) => None,
            None => Some(next),
        }
    }
}

#[cfg(test)]
mod tests;
