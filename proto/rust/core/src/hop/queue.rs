//! The order in which frames leave: by priority, then the oldest track head, then group and arrival.
//!
//! Inside a track lower groups go first. Group numbers of different tracks say nothing about each
//! other, so between tracks of one priority the one whose next frame has waited longest goes first.

use super::store::FrameNo;
use std::collections::{BTreeMap, BTreeSet};

/// Sorts before every priority: resets, which are small and free the receiver of work.
pub(super) const RANK_RESET: u16 = 0;

/// Where a frame stands in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// [`RANK_RESET`], or priority + 1.
    pub rank: u16,
    pub alias: u64,
    pub group: u64,
    pub no: FrameNo,
}

/// A queue of frames.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// Frames of one track at one rank, as (group, number).
    flows: BTreeMap<(u16, u64), BTreeSet<(u64, FrameNo)>>,
    /// The next frame of every flow, as (rank, number, alias).
    heads: BTreeSet<(u16, FrameNo, u64)>,
}

impl SendQueue {
    pub(super) fn insert(&mut self, slot: Slot) {
        let flow = self.flows.entry((slot.rank, slot.alias)).or_default();
        let before = flow.first().copied();
        flow.insert((slot.group, slot.no));
        let after = flow.first().copied();
        self.move_head(slot, before, after);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(flow) = self.flows.get_mut(&(slot.rank, slot.alias)) else {
            return;
        };
        let before = flow.first().copied();
        flow.remove(&(slot.group, slot.no));
        let after = flow.first().copied();
        if after.is_none() {
            self.flows.remove(&(slot.rank, slot.alias));
        }
        self.move_head(slot, before, after);
    }

    fn move_head(
        &mut self,
        slot: Slot,
        before: Option<(u64, FrameNo)>,
        after: Option<(u64, FrameNo)>,
    ) {
        if before == after {
            return;
        }
        if let Some((_, no)) = before {
            self.heads.remove(&(slot.rank, no, slot.alias));
        }
        if let Some((_, no)) = after {
            self.heads.insert((slot.rank, no, slot.alias));
        }
    }

    /// The frame to send next.
    pub(super) fn first(&self) -> Option<FrameNo> {
        self.heads.first().map(|(_, no, _)| *no)
    }

    /// The frame to give up first: of the lowest priority the oldest.
    pub(super) fn victim(&self) -> Option<FrameNo> {
        let (lowest, _, _) = self.heads.last()?;
        self.heads
            .range((*lowest, 0, 0)..)
            .next()
            .map(|(_, no, _)| *no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(rank: u16, alias: u64, group: u64, no: FrameNo) -> Slot {
        Slot {
            rank,
            alias,
            group,
            no,
        }
    }

    fn drain(queue: &mut SendQueue, slots: &[Slot]) -> Vec<FrameNo> {
        let mut order = Vec::new();
        while let Some(no) = queue.first() {
            order.push(no);
            let slot = slots.iter().find(|slot| slot.no == no).copied();
            queue.remove(slot.unwrap());
        }
        order
    }

    #[test]
    fn lower_priority_numbers_go_first_then_lower_groups_then_first_in() {
        let slots = [
            slot(9, 1, 5, 1),
            slot(9, 1, 4, 2),
            slot(9, 1, 4, 3),
            slot(3, 1, 9, 4),
            slot(0, 2, 1, 5),
        ];
        let mut queue = SendQueue::default();
        slots.iter().for_each(|slot| queue.insert(*slot));
        assert_eq!(drain(&mut queue, &slots), [5, 4, 2, 3, 1]);
    }

    #[test]
    fn a_track_with_small_group_numbers_does_not_starve_one_with_large_ones() {
        let slots = [
            slot(9, 1, 1_000_000, 1),
            slot(9, 2, 0, 2),
            slot(9, 1, 1_000_000, 3),
        ];
        let mut queue = SendQueue::default();
        slots.iter().for_each(|slot| queue.insert(*slot));
        assert_eq!(drain(&mut queue, &slots), [1, 2, 3]);
    }

    #[test]
    fn the_victim_is_the_oldest_of_the_lowest_priority() {
        let mut queue = SendQueue::default();
        for slot in [
            slot(1, 1, 0, 1),
            slot(9, 1, 5, 2),
            slot(9, 1, 4, 3),
            slot(9, 2, 7, 4),
        ] {
            queue.insert(slot);
        }
        assert_eq!(queue.victim(), Some(3));
        queue.remove(slot(9, 1, 4, 3));
        assert_eq!(queue.victim(), Some(2));
    }
}
