//! The frames a sender still owes its peer, with the accounts of their bytes.

use super::frame::{Frame, SubgroupKey};
use super::queue::{RANK_RESET, SendQueue, Slot};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Numbers frames in the order they were offered; never used twice.
pub(super) type FrameNo = u64;

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Never sent, waiting.
    Fresh,
    /// Sent, waiting for its fate.
    Sent,
    /// Sent, waiting to be sent again.
    Repair,
}

/// A frame that is owed.
#[derive(Debug)]
pub(super) struct Owed {
    pub frame: Frame,
    pub offered_at: Instant,
    /// Sequence number of its first datagram.
    pub id: Option<u64>,
    /// Datagrams of it whose fate is not known.
    pub copies_out: u32,
    /// Datagrams that are to be sent with it, at a later time.
    planned: u32,
    /// A round of repairs was begun for it.
    repaired: bool,
    /// Repair symbols were made of it.
    pub coded: bool,
    /// Somebody stands and waits for it.
    pub is_awaited: bool,
    stage: Stage,
    rank: u16,
    cost_bytes: u64,
}

impl Owed {
    fn slot(&self, no: FrameNo) -> Slot {
        let SubgroupKey { alias, group, .. } = self.frame.key();
        Slot {
            rank: self.rank,
            alias,
            group,
            no,
        }
    }

    /// Resets, and words about a whole track, are never shed.
    pub(super) fn is_reset(&self) -> bool {
        self.rank == RANK_RESET
    }
}

/// All frames that are owed.
#[derive(Debug, Default)]
pub(super) struct FrameStore {
    owed: BTreeMap<FrameNo, Owed>,
    by_subgroup: BTreeSet<(SubgroupKey, FrameNo)>,
    fresh: SendQueue,
    repairs: SendQueue,
    /// Fresh frames that may be given up for their age, oldest first.
    waiting: BTreeSet<FrameNo>,
    next_no: FrameNo,
    /// Bytes never sent.
    pub queue_bytes: u64,
    /// Bytes sent and not acknowledged.
    pub unacked_bytes: u64,
    /// Frames with a datagram whose fate is not known.
    pub outstanding: usize,
}

impl FrameStore {
    /// Whether the frame still has to be delivered.
    pub(super) fn owes(&self, no: FrameNo) -> bool {
        self.owed.contains_key(&no)
    }

    /// Whether any frame of a track still has to be delivered.
    pub(super) fn owes_track(&self, alias: u64) -> bool {
        let first = SubgroupKey {
            alias,
            group: 0,
            subgroup: 0,
        };
        let next = self.by_subgroup.range((first, 0)..).next();
        next.is_some_and(|(key, _)| key.alias == alias)
    }

    /// When the first was offered of all frames of a track that are owed.
    pub(super) fn oldest_of_track(&self, alias: u64) -> Option<Instant> {
        let key = |open| SubgroupKey {
            alias,
            group: open,
            subgroup: open,
        };
        let numbers = self.range(key(0), key(u64::MAX)).into_iter();
        numbers
            .min()
            .and_then(|no| Some(self.owed.get(&no)?.offered_at))
    }

    /// The frame offered first of all that are owed.
    pub(super) fn oldest(&self) -> Option<(FrameNo, &Owed)> {
        self.owed.first_key_value().map(|(no, owed)| (*no, owed))
    }

    /// The frame, no reset, that waits longest to be sent for the first time.
    pub(super) fn oldest_waiting(&self) -> Option<(FrameNo, &Owed)> {
        let no = *self.waiting.first()?;
        self.owed.get(&no).map(|owed| (no, owed))
    }

    /// The frame to give up first when too much waits.
    pub(super) fn victim(&self) -> Option<FrameNo> {
        self.fresh.victim()
    }

    /// Frames of one subgroup, in the order they were offered.
    pub(super) fn of_subgroup(&self, key: SubgroupKey) -> Vec<FrameNo> {
        self.range(key, key)
    }

    /// Frames of all subgroups from `first` to `last`.
    pub(super) fn range(&self, first: SubgroupKey, last: SubgroupKey) -> Vec<FrameNo> {
        self.by_subgroup
            .range((first, 0)..=(last, FrameNo::MAX))
            .map(|(_, no)| *no)
            .collect()
    }

    /// Takes a frame to be sent.
    pub(super) fn insert(&mut self, now: Instant, frame: Frame, is_awaited: bool) {
        let no = self.next_no;
        self.next_no += 1;
        let rank = self.rank(&frame);
        let cost_bytes = frame.cost_bytes();
        self.by_subgroup.insert((frame.key(), no));
        let owed = Owed {
            frame,
            offered_at: now,
            id: None,
            copies_out: 0,
            planned: 0,
            repaired: false,
            coded: false,
            is_awaited,
            stage: Stage::Fresh,
            rank,
            cost_bytes,
        };
        self.fresh.insert(owed.slot(no));
        if !owed.is_reset() {
            self.waiting.insert(no);
        }
        self.queue_bytes += cost_bytes;
        self.owed.insert(no, owed);
    }

    /// The end of a subgroup goes with its chunks: the last one that is owed, if any is.
    fn rank(&self, frame: &Frame) -> u16 {
        match frame {
            Frame::Chunk(chunk) => u16::from(chunk.priority) + 1,
            Frame::SubgroupReset { .. } | Frame::Forward { .. } | Frame::Supply { .. } => {
                RANK_RESET
            }
            Frame::SubgroupEnd { .. } => {
                let key = frame.key();
                let mut before = self.by_subgroup.range((key, 0)..=(key, FrameNo::MAX));
                let last = before.next_back().and_then(|(_, no)| self.owed.get(no));
                last.map_or(RANK_RESET + 1, |owed| owed.rank)
            }
        }
    }

    /// Forgets a frame, wherever it is.
    pub(super) fn remove(&mut self, no: FrameNo) -> Option<Owed> {
        let owed = self.owed.remove(&no)?;
        self.by_subgroup.remove(&(owed.frame.key(), no));
        match owed.stage {
            Stage::Fresh => self.fresh.remove(owed.slot(no)),
            Stage::Repair => self.repairs.remove(owed.slot(no)),
            Stage::Sent => {}
        }
        self.waiting.remove(&no);
        if owed.stage == Stage::Fresh {
            self.queue_bytes -= owed.cost_bytes;
        } else {
            self.unacked_bytes -= owed.cost_bytes;
        }
        self.outstanding -= usize::from(owed.copies_out > 0);
        Some(owed)
    }

    /// The next frame to send again.
    pub(super) fn first_repair(&self) -> Option<FrameNo> {
        self.repairs.first()
    }

    /// The next frame to send for the first time.
    pub(super) fn first_fresh(&self) -> Option<FrameNo> {
        self.fresh.first()
    }

    /// A datagram with the frame is sent under `seq`. Gives the frame.
    pub(super) fn mark_sent(&mut self, no: FrameNo, seq: u64) -> Option<&Owed> {
        let owed = self.owed.get_mut(&no)?;
        let slot = owed.slot(no);
        if owed.stage == Stage::Fresh {
            self.fresh.remove(slot);
            self.waiting.remove(&no);
            self.queue_bytes -= owed.cost_bytes;
            self.unacked_bytes += owed.cost_bytes;
        } else {
            self.repairs.remove(slot);
        }
        owed.stage = Stage::Sent;
        owed.id.get_or_insert(seq);
        self.outstanding += usize::from(owed.copies_out == 0);
        owed.copies_out += 1;
        Some(owed)
    }

    /// A datagram with the frame was lost. Whether the frame is owed and no other one may still
    /// bring it.
    pub(super) fn mark_lost(&mut self, no: FrameNo) -> bool {
        let Some(owed) = self.owed.get_mut(&no).filter(|owed| owed.copies_out > 0) else {
            return false;
        };
        owed.copies_out -= 1;
        let last = owed.copies_out == 0;
        self.outstanding -= usize::from(last);
        last && owed.planned == 0 && owed.stage == Stage::Sent
    }

    /// A frame that is owed.
    pub(super) fn get(&self, no: FrameNo) -> Option<&Owed> {
        self.owed.get(&no)
    }

    /// A round of repairs begins for the frame. Whether there was one before.
    pub(super) fn begin_round(&mut self, no: FrameNo) -> bool {
        let owed = self.owed.get_mut(&no);
        owed.is_some_and(|owed| std::mem::replace(&mut owed.repaired, true))
    }

    /// A datagram that may bring the frame is to be sent later: until then nothing more is done about it.
    pub(super) fn plan(&mut self, no: FrameNo) {
        if let Some(owed) = self.owed.get_mut(&no) {
            owed.planned += 1;
        }
    }

    /// The time of a planned datagram has come.
    pub(super) fn unplan(&mut self, no: FrameNo) {
        if let Some(owed) = self.owed.get_mut(&no) {
            owed.planned = owed.planned.saturating_sub(1);
        }
    }

    /// Sends a frame again that nothing in flight or planned may bring any more.
    pub(super) fn rescue(&mut self, no: FrameNo) {
        let brought = |owed: &Owed| owed.copies_out > 0 || owed.planned > 0;
        if !self.owed.get(&no).is_none_or(brought) {
            self.queue_repair(no);
        }
    }

    /// A symbol made of the frame is sent.
    pub(super) fn mark_symbol_sent(&mut self, no: FrameNo) {
        if let Some(owed) = self.owed.get_mut(&no) {
            owed.coded = true;
            self.outstanding += usize::from(owed.copies_out == 0);
            owed.copies_out += 1;
        }
    }

    /// The frame is to be sent again. False if it is no longer owed, or waits already.
    pub(super) fn queue_repair(&mut self, no: FrameNo) -> bool {
        let Some(owed) = self
            .owed
            .get_mut(&no)
            .filter(|owed| owed.stage == Stage::Sent)
        else {
            return false;
        };
        owed.stage = Stage::Repair;
        self.repairs.insert(owed.slot(no));
        true
    }
}
