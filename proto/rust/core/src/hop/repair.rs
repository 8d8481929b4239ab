//! Carries out the policy: rounds of repairs for what was lost, each datagram at its time.
//!
//! A loss is a frame that the peer has not got and that no datagram in flight or planned may still bring. Its
//! first copy leaves at once, or a step after the one before in its round. A coded round stays open for
//! `collect_us`: what is lost meanwhile joins it, for many chunks share symbols better than few; then its symbols
//! are made and planned behind the copies. Small frames are copied, never coded. Words about a whole track wait
//! for no loss: their copies are planned as they leave. So is one copy of a chunk that somebody stands and waits for
//! (a parent has died, the next one sends from its cache), unless the link is known to lose next to nothing: a loss
//! would have the viewers stand for one more round trip.

use super::coding::encode;
use super::config::ms;
use super::frame::{Chunk, Frame};
use super::policy::{HopPolicy, PolicyRow, ROUND_CHUNKS_MAX};
use super::store::{FrameNo, FrameStore};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bodies up to this many bytes are small: sound, and marks without a body.
const SMALL_BYTES: usize = 320;

/// The first copies of a round leave within this share of its span, or so many do not come in time: its symbols
/// have the rest.
const COPIES_SHARE: u32 = 4;

/// A word about a whole track is sent again so long after the first time, unless it is acknowledged by then: a
/// viewer waits for it, and one that is lost would cost a round trip more. Apart, for losses come in runs.
const WORD_COPIES_MS: [u64; 2] = [10, 30];

/// Where less than this is lost, what somebody waits for leaves once.
const AWAITED_LOSS_PPM_MIN: u32 = 1_000;

/// What was measured of the link, to choose a row by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub loss_ppm: u32,
    pub burst_milli: u32,
    pub rtt_us: u64,
}

/// A repair symbol that is to be sent.
#[derive(Clone, Debug)]
pub(super) struct CodedSymbol {
    pub members: Arc<[FrameNo]>,
    /// Their first sequence numbers, upwards.
    pub ids: Arc<[u64]>,
    pub parities: u8,
    pub index: u8,
    pub shard: Bytes,
}

#[derive(Debug)]
enum Planned {
    /// The first of a round: nothing else brings the frame.
    Copy(FrameNo),
    Spare(Spare),
}

/// What is sent in case that copies are lost.
#[derive(Clone, Debug)]
pub(super) enum Spare {
    Copy(FrameNo),
    Symbol(CodedSymbol),
}

/// A coded round that losses may still join.
#[derive(Debug)]
struct Round {
    members: Vec<FrameNo>,
    closes_at: Instant,
    ends_at: Instant,
    next_slot: Instant,
    disposable: bool,
    row: PolicyRow,
}

impl Round {
    /// When its further datagrams leave, if it closes now: evenly, the last as it ends.
    fn slots(&self, now: Instant, further: usize) -> impl Fn(usize) -> Instant + use<> {
        let spacing = spaced(self.row.spacing_us, 1);
        let first = self.next_slot.max(now);
        let left = self.ends_at.saturating_duration_since(first);
        let step = (left / further.saturating_sub(1).max(1) as u32).min(spacing);
        move |at| first + step * at as u32
    }
}

/// What is planned.
#[derive(Debug)]
pub(super) struct Repairs {
    policy: HopPolicy,
    planned_max: usize,
    planned: BTreeMap<(Instant, u64), Planned>,
    planned_no: u64,
    /// Of essential chunks and of disposable ones; of each, those that must do, and those after which another fits: a
    /// chunk for which there is none must not share the few datagrams of one for which there is.
    open: [Option<Round>; 4],
    /// Those whose time has come.
    ready: VecDeque<Spare>,
}

impl Repairs {
    pub(super) fn new(policy: HopPolicy, planned_max: usize) -> Repairs {
        Repairs {
            policy,
            planned_max,
            planned: BTreeMap::new(),
            planned_no: 0,
            open: [None, None, None, None],
            ready: VecDeque::new(),
        }
    }

    pub(super) fn set_policy(&mut self, policy: HopPolicy) {
        self.policy = policy;
    }

    /// Plans the copies of a word that has left for the first time.
    pub(super) fn copy_word(&mut self, now: Instant, no: FrameNo, store: &mut FrameStore) {
        for after in WORD_COPIES_MS {
            self.plan(now + ms(after), Planned::Spare(Spare::Copy(no)), store);
        }
    }

    /// Plans the copy of a chunk that somebody waits for and that has left for the first time.
    pub(super) fn copy_awaited(
        &mut self,
        now: Instant,
        no: FrameNo,
        measured: Measured,
        store: &mut FrameStore,
    ) {
        let Some(owed) = store.get(no) else { return };
        let Frame::Chunk(chunk) = &owed.frame else {
            return;
        };
        if measured.loss_ppm < AWAITED_LOSS_PPM_MIN {
            return;
        }
        let row = *self.row(measured, 0, false);
        if self.copies(&row, chunk) > 1 && self.planned.len() < self.planned_max {
            let at = now + spaced(row.spacing_us, 1);
            self.plan(at, Planned::Spare(Spare::Copy(no)), store);
        }
    }

    fn row(&self, measured: Measured, left_ms: u16, again: bool) -> &PolicyRow {
        let Measured {
            loss_ppm,
            burst_milli,
            rtt_us,
        } = measured;
        self.policy
            .row(loss_ppm, burst_milli, rtt_us, left_ms, again)
    }

    /// How many datagrams a round of one chunk has.
    fn copies(&self, row: &PolicyRow, chunk: &Chunk) -> u8 {
        if chunk.body.len() <= SMALL_BYTES {
            row.small_copies
        } else if self.policy.is_disposable(chunk.priority) {
            row.disposable[0]
        } else {
            row.essential[0]
        }
    }

    /// Plans a frame's next round; `together`: how many losses became known at once; `again`: a round has not
    /// brought it.
    pub(super) fn handle_lost(
        &mut self,
        now: Instant,
        no: FrameNo,
        together: usize,
        measured: Measured,
        again: bool,
        store: &mut FrameStore,
    ) {
        let Some(owed) = store.get(no) else { return };
        let (bytes, priority, budget_ms) = match &owed.frame {
            Frame::Chunk(Chunk {
                body,
                priority,
                budget_ms,
                ..
            }) => (body.len(), *priority, *budget_ms),
            _ => (0, 0, u16::MAX),
        };
        let spent = now.saturating_duration_since(owed.offered_at).as_millis();
        let spent = spent + u128::from(measured.rtt_us / 2_000);
        let left_ms = budget_ms.saturating_sub(u16::try_from(spent).unwrap_or(u16::MAX));
        let row = *self.row(measured, left_ms, again);
        let disposable = self.policy.is_disposable(priority);
        if bytes <= SMALL_BYTES {
            self.plan_copies(now, no, row.small_copies, &row, store);
        } else if row.coded {
            self.join_round(now, no, together, disposable, row, store);
        } else {
            let symbols = if disposable {
                row.disposable
            } else {
                row.essential
            };
            self.plan_copies(now, no, symbols[0], &row, store);
        }
    }

    fn plan_copies(
        &mut self,
        at: Instant,
        no: FrameNo,
        copies: u8,
        row: &PolicyRow,
        store: &mut FrameStore,
    ) {
        store.queue_repair(no);
        let even = row.span_us / u32::from(copies.saturating_sub(1).max(1));
        let us = if row.span_us == 0 {
            row.spacing_us
        } else {
            row.spacing_us.min(even)
        };
        for copy in 1..u32::from(copies) {
            self.plan(
                at + spaced(us, copy),
                Planned::Spare(Spare::Copy(no)),
                store,
            );
        }
    }

    fn join_round(
        &mut self,
        now: Instant,
        no: FrameNo,
        together: usize,
        disposable: bool,
        row: PolicyRow,
        store: &mut FrameStore,
    ) {
        let class = usize::from(disposable) + 2 * usize::from(row.rtt_us_max > 0);
        let round = self.open[class].get_or_insert_with(|| Round {
            members: Vec::new(),
            closes_at: now + spaced(row.collect_us, 1),
            ends_at: now + spaced(row.span_us, 1),
            next_slot: now,
            disposable,
            row,
        });
        round.ends_at = round.ends_at.min(now + spaced(row.span_us, 1));
        if round.row.again && !row.again {
            round.row = row;
        }
        let slot = round.next_slot.max(now);
        round.members.push(no);
        // Of many lost together each copy has less time.
        let known = round.members.len().max(together) as u32;
        let step = spaced(round.row.span_us, 1) / (COPIES_SHARE * known);
        round.next_slot = slot + step.min(spaced(round.row.spacing_us, 1));
        let is_full = round.members.len() == ROUND_CHUNKS_MAX;
        // Held until the round closes, or the loss of its only copy would begin a second one.
        store.plan(no);
        if slot <= now {
            store.queue_repair(no);
        } else {
            self.plan(slot, Planned::Copy(no), store);
        }
        if is_full {
            self.close(now, class, store);
        }
    }

    fn close(&mut self, now: Instant, class: usize, store: &mut FrameStore) {
        let Some(round) = self.open[class].take() else {
            return;
        };
        round.members.iter().for_each(|no| store.unplan(*no));
        self.plan_symbols(now, &round, store);
        // Its only copy may have been lost while it was held.
        round.members.iter().for_each(|no| store.rescue(*no));
    }

    /// Makes the symbols of a round.
    fn plan_symbols(&mut self, now: Instant, round: &Round, store: &mut FrameStore) {
        let mut members: Vec<(u64, FrameNo)> = round
            .members
            .iter()
            .filter_map(|no| Some((store.get(*no)?.id?, *no)))
            .collect();
        members.sort_unstable();
        members.dedup();
        let symbols = if round.disposable {
            round.row.disposable
        } else {
            round.row.essential
        };
        let chunks = members.len();
        let Some(&count) = chunks.checked_sub(1).and_then(|at| symbols.get(at)) else {
            return;
        };
        let further = count.saturating_sub(chunks as u8);
        let coded = if chunks > 1 {
            make(&members, further, store)
        } else {
            Vec::new()
        };
        let slot = round.slots(now, usize::from(further));
        if !coded.is_empty() || further == 0 {
            for (at, symbol) in coded.into_iter().enumerate() {
                self.plan(slot(at), Planned::Spare(Spare::Symbol(symbol)), store);
            }
            return;
        }
        let copies = usize::from(symbols[0].saturating_sub(1));
        for (at, (_, no)) in (0..copies).flat_map(|_| &members).enumerate() {
            self.plan(slot(at), Planned::Spare(Spare::Copy(*no)), store);
        }
    }

    fn plan(&mut self, at: Instant, planned: Planned, store: &mut FrameStore) {
        if self.planned.len() >= self.planned_max {
            if let Planned::Copy(no) | Planned::Spare(Spare::Copy(no)) = planned {
                store.queue_repair(no);
            }
            return;
        }
        planned.frames().iter().for_each(|no| store.plan(*no));
        self.planned_no += 1;
        self.planned.insert((at, self.planned_no), planned);
    }

    /// Moves what is due to where it leaves from.
    pub(super) fn handle_timeout(&mut self, now: Instant, store: &mut FrameStore) {
        for class in 0..self.open.len() {
            if self.open[class]
                .as_ref()
                .is_some_and(|round| round.closes_at <= now)
            {
                self.close(now, class, store);
            }
        }
        while let Some(entry) = self.planned.first_entry() {
            if entry.key().0 > now {
                return;
            }
            match entry.remove() {
                Planned::Copy(no) => {
                    store.unplan(no);
                    store.queue_repair(no);
                }
                Planned::Spare(spare) => self.ready.push_back(spare),
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let closes = self.open.iter().flatten().map(|round| round.closes_at);
        let planned = self.planned.first_key_value().map(|((at, _), _)| *at);
        closes.chain(planned).min()
    }

    /// Whether something redundant may leave.
    pub(super) fn has_spare(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next redundant one that still helps: its frames have one less planned.
    pub(super) fn take_spare(&mut self, store: &mut FrameStore) -> Option<Spare> {
        loop {
            let spare = self.ready.pop_front()?;
            spare.frames().iter().for_each(|no| store.unplan(*no));
            if spare.frames().iter().any(|no| store.owes(*no)) {
                return Some(spare);
            }
        }
    }

    /// Drops what is redundant and ready; what only that could have brought is copied.
    pub(super) fn drop_spares(&mut self, store: &mut FrameStore) -> u64 {
        let mut dropped = 0;
        while let Some(spare) = self.take_spare(store) {
            dropped += 1;
            spare.frames().iter().for_each(|no| store.rescue(*no));
        }
        dropped
    }
}

impl Spare {
    fn frames(&self) -> &[FrameNo] {
        match self {
            Spare::Copy(no) => std::slice::from_ref(no),
            Spare::Symbol(symbol) => &symbol.members,
        }
    }
}

impl Planned {
    fn frames(&self) -> &[FrameNo] {
        match self {
            Planned::Copy(no) => std::slice::from_ref(no),
            Planned::Spare(spare) => spare.frames(),
        }
    }
}

fn spaced(us: u32, times: u32) -> Duration {
    Duration::from_micros(u64::from(us) * u64::from(times))
}

/// Symbols over frames given with their first sequence numbers; none if they cannot be coded together.
fn make(members: &[(u64, FrameNo)], parities: u8, store: &FrameStore) -> Vec<CodedSymbol> {
    let frames = members.iter().filter_map(|(_, no)| store.get(*no));
    let frames: Vec<&Frame> = frames.map(|owed| &owed.frame).collect();
    let shards = encode(&frames, usize::from(parities)).unwrap_or_default();
    let ids: Arc<[u64]> = members.iter().map(|(id, _)| *id).collect();
    let members: Arc<[FrameNo]> = members.iter().map(|(_, no)| *no).collect();
    let symbol = |(index, shard)| CodedSymbol {
        members: members.clone(),
        ids: ids.clone(),
        parities,
        index: index as u8,
        shard,
    };
    shards.into_iter().enumerate().map(symbol).collect()
}
