//! The sending half: a bounded queue by priority, repair of what was lost, and giving up in time.
//!
//! A frame is offered once and then owed until it is acknowledged, cancelled by the caller, or given
//! up. It is given up with its whole subgroup, because a viewer gets in-order prefixes of subgroups and
//! what follows a hole is of no use; the receiver learns of it by a reliable reset. Three limits
//! give up: the queue is too long in bytes (the oldest group of the lowest priority goes), a frame
//! waited too long to be sent at all, or it stayed unacknowledged for its life.
//!
//! The timer ([`Sender::poll_timeout`]) that makes up for a lost tail is the probe timeout of RFC 9002
//! §6.2: when nothing was acknowledged for an RTT and its variation after the last datagram, the oldest
//! two frames in flight go out again. The acknowledgement of either shows what else was lost.

use super::config::{HopConfig, ms};
use super::error::{FrameError, HopError};
use super::frame::DATAGRAM_BYTES_MAX;
use super::frame::{Frame, SubgroupKey};
use super::inflight::{Carried, InFlight};
use super::policy::HopPolicy;
use super::repair::{CodedSymbol, Measured, Repairs, Spare};
use super::repair_budget::RepairBudget;
use super::rtt::Rtt;
use super::store::{FrameNo, FrameStore, Owed};
use super::wire::{Ack, Symbol, encode_data, encode_symbol};
use crate::stats::HopStats;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Reset code of a subgroup that waited too long or took too much room (draft-18, TOO_FAR_BEHIND).
pub const RESET_TOO_FAR_BEHIND: u32 = 0x5;
/// Reset code of a subgroup that could not be repaired in time (draft-18, DELIVERY_TIMEOUT).
pub const RESET_DELIVERY_TIMEOUT: u32 = 0x2;

/// Frames sent again when the probe timeout fires.
const PROBE_FRAMES: usize = 2;
/// Doublings of the probe timeout at most.
const BACKOFF_MAX: u32 = 10;

/// The sending half of a hop.
#[derive(Debug)]
pub(super) struct Sender {
    config: HopConfig,
    store: FrameStore,
    flight: InFlight,
    repairs: Repairs,
    repair_budget: RepairBudget,
    /// Repairs wait until then for the bound of their bytes.
    withheld_until: Option<Instant>,
    /// The pipe counts as full until then.
    full_until: Option<Instant>,
    /// Subgroups given up, whose later frames are refused; the newest last in `given_up_order`.
    given_up: BTreeSet<SubgroupKey>,
    given_up_order: VecDeque<SubgroupKey>,
    /// Subgroups given up that the caller has not been told of.
    news: VecDeque<SubgroupKey>,
    /// The last data datagram, or the last time the probe timeout fired.
    probe_from: Instant,
    backoff: u32,
}

impl Sender {
    pub(super) fn new(config: HopConfig, now: Instant) -> Sender {
        Sender {
            config,
            store: FrameStore::default(),
            flight: InFlight::new(config),
            repairs: Repairs::new(HopPolicy::default(), config.repairs_planned_max),
            repair_budget: RepairBudget::new(&config, now),
            withheld_until: None,
            full_until: None,
            given_up: BTreeSet::new(),
            given_up_order: VecDeque::new(),
            news: VecDeque::new(),
            probe_from: now,
            backoff: 0,
        }
    }

    pub(super) fn set_policy(&mut self, policy: HopPolicy) {
        self.repairs.set_policy(policy);
    }

    /// Lost share of the send direction in millionths, mean burst in thousandths.
    pub(super) fn measured_loss(&self, now: Instant) -> (u32, u32) {
        self.flight.meter.measured(now)
    }

    pub(super) fn queue_bytes(&self) -> u64 {
        self.store.queue_bytes
    }

    pub(super) fn unacked_bytes(&self) -> u64 {
        self.store.unacked_bytes
    }

    /// Takes a frame to be delivered.
    pub(super) fn send(
        &mut self,
        now: Instant,
        frame: Frame,
        is_awaited: bool,
        stats: &mut HopStats,
    ) -> Result<(), FrameError> {
        frame.check()?;
        let key = frame.key();
        if self.given_up.contains(&key) {
            stats.chunks_refused += 1;
            return Ok(());
        }
        if frame.is_word() || matches!(frame, Frame::SubgroupReset { .. }) {
            self.forget(key, key);
        }
        self.store.insert(now, frame, is_awaited);
        self.shed_excess(stats, now);
        Ok(())
    }

    pub(super) fn owes(&self, alias: u64) -> bool {
        self.store.owes_track(alias)
    }

    /// Whether nothing of a track was given up, nor will be soon.
    pub(super) fn is_flowing(&self, now: Instant, alias: u64) -> bool {
        let of_track = |key: &SubgroupKey| key.alias == alias;
        let oldest = self.store.oldest_of_track(alias);
        let limit = ms(self.config.queue_ms_max) / 2;
        let is_young = oldest.is_none_or(|at| now.saturating_duration_since(at) < limit);
        is_young && !self.given_up.iter().any(of_track)
    }

    /// Forgets all that is owed of some subgroups of a track, and that any of them was given up.
    pub(super) fn cancel(&mut self, alias: u64, group: Option<u64>, subgroup: Option<u64>) {
        let end = |given: Option<u64>, open: u64| given.unwrap_or(open);
        let key = |open| match group {
            None => SubgroupKey {
                alias,
                group: open,
                subgroup: open,
            },
            Some(group) => SubgroupKey {
                alias,
                group,
                subgroup: end(subgroup, open),
            },
        };
        let (first, last) = (key(0), key(u64::MAX));
        self.forget(first, last);
        let resumed: Vec<SubgroupKey> = self.given_up.range(first..=last).copied().collect();
        if !resumed.is_empty() {
            self.given_up_order
                .retain(|key| !(first..=last).contains(key));
            resumed.iter().for_each(|key| {
                self.given_up.remove(key);
            });
        }
    }

    fn forget(&mut self, first: SubgroupKey, last: SubgroupKey) {
        for no in self.store.range(first, last) {
            self.store.remove(no);
        }
    }

    /// The number of a heartbeat.
    pub(super) fn take_seq(&mut self) -> u64 {
        self.flight.take_seq()
    }

    /// An acknowledgement came. Gives when the latest datagram was sent of those that it names first.
    pub(super) fn handle_ack(
        &mut self,
        now: Instant,
        ack: &Ack,
        rtt: &mut Rtt,
        stats: &mut HopStats,
    ) -> Result<Option<Instant>, HopError> {
        let acked = self.flight.handle_ack(now, ack)?;
        stats.acks_received += 1;
        if let Some((elapsed, held)) = acked.rtt_sample {
            rtt.sample(now, elapsed, held);
        }
        if !acked.frames.is_empty() || !acked.symbols.is_empty() {
            self.backoff = 0;
        }
        for no in acked.frames {
            self.confirm(now, no, rtt, stats);
        }
        for no in acked.revived {
            let restored = self.confirm(now, no, rtt, stats);
            stats.losses_spurious += u64::from(!restored);
        }
        let members = acked.symbols.iter().flat_map(|members| members.iter());
        let stranded: Vec<FrameNo> = members
            .copied()
            .filter(|no| self.store.mark_lost(*no))
            .collect();
        self.plan_repairs(now, &stranded, rtt, stats);
        self.repair_lost(now, rtt, stats);
        Ok(acked.sent_at)
    }

    /// The peer has a frame. Whether it may owe it to repair symbols.
    fn confirm(&mut self, now: Instant, no: FrameNo, rtt: &Rtt, stats: &mut HopStats) -> bool {
        let Some(owed) = self.store.remove(no) else {
            return false;
        };
        if let Frame::Chunk(chunk) = &owed.frame {
            let taken = now.saturating_duration_since(owed.offered_at);
            let arrived = taken.saturating_sub(rtt.smoothed() / 2);
            stats.budget_misses += u64::from(arrived > ms(u64::from(chunk.budget_ms)));
        }
        owed.coded
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, rtt: &Rtt, stats: &mut HopStats) {
        if self.withheld_until.is_some_and(|at| at <= now) {
            self.withheld_until = None;
        }
        self.repair_lost(now, rtt, stats);
        self.repairs.handle_timeout(now, &mut self.store);
        self.expire(now, stats);
        self.shed_overdue(now, stats);
        if self.probe_at(rtt).is_some_and(|at| at <= now) {
            self.probe(now, rtt, stats);
        }
    }

    pub(super) fn poll_timeout(&self, rtt: &Rtt) -> Option<Instant> {
        let life = self.store.oldest().map(|(_, owed)| self.dies_at(owed));
        let overdue = self
            .store
            .oldest_waiting()
            .map(|(_, owed)| self.overdue_at(owed));
        [
            self.flight.poll_timeout(),
            self.repairs.poll_timeout(),
            self.withheld_until,
            self.probe_at(rtt),
            life,
            overdue,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next data datagram.
    pub(super) fn poll_data(
        &mut self,
        now: Instant,
        rtt: &Rtt,
        stats: &mut HopStats,
    ) -> Option<Bytes> {
        if !self.has_room(now, rtt, stats) {
            return None;
        }
        if self.is_full(now, rtt) {
            stats.repairs_withheld += self.repairs.drop_spares(&mut self.store);
        }
        let data = self.poll_repair(now, rtt, stats);
        data.or_else(|| self.poll_fresh(now, rtt, stats))
    }

    /// Whether what is redundant would be taken from media: a queue stands on the way, or did a moment ago.
    fn is_full(&mut self, now: Instant, rtt: &Rtt) -> bool {
        if rtt.standing() >= ms(self.config.full_queue_ms) {
            self.full_until = Some(now + ms(self.config.full_hold_ms));
        }
        self.full_until.is_some_and(|until| now < until)
    }

    fn poll_fresh(&mut self, now: Instant, rtt: &Rtt, stats: &mut HopStats) -> Option<Bytes> {
        if self.store.unacked_bytes >= self.config.unacked_bytes_max {
            return None;
        }
        let no = self.store.first_fresh()?;
        let data = self.send_frame(now, no, rtt)?;
        self.copy_awaited(now, no, rtt);
        stats.chunks_sent += 1;
        stats.media_bytes += data.len() as u64;
        self.repair_budget.earn(data.len());
        Some(data)
    }

    /// What somebody stands and waits for is sent again before it is known to be lost.
    fn copy_awaited(&mut self, now: Instant, no: FrameNo, rtt: &Rtt) {
        let Some(owed) = self.store.get(no) else {
            return;
        };
        if owed.frame.is_word() {
            self.repairs.copy_word(now, no, &mut self.store);
        } else if owed.is_awaited {
            let measured = self.measured(now, rtt);
            self.repairs
                .copy_awaited(now, no, measured, &mut self.store);
        }
    }

    fn measured(&self, now: Instant, rtt: &Rtt) -> Measured {
        let (loss_ppm, burst_milli) = self.measured_loss(now);
        let rtt_us = u64::try_from(rtt.smoothed().as_micros()).unwrap_or(u64::MAX);
        Measured {
            loss_ppm,
            burst_milli,
            rtt_us,
        }
    }

    /// The next copy or symbol, if repairs are within their bound.
    fn poll_repair(&mut self, now: Instant, rtt: &Rtt, stats: &mut HopStats) -> Option<Bytes> {
        let copy = self.store.first_repair();
        if self.withheld_until.is_some() || (copy.is_none() && !self.repairs.has_spare()) {
            return None;
        }
        if !self.repair_budget.allows(now, DATAGRAM_BYTES_MAX) {
            self.withheld_until = Some(self.repair_budget.allowed_at(DATAGRAM_BYTES_MAX));
            let dropped = self.repairs.drop_spares(&mut self.store);
            stats.repairs_withheld += dropped.max(1);
            return None;
        }
        let spare = || self.repairs.take_spare(&mut self.store);
        let data = match copy.map(Spare::Copy).or_else(spare)? {
            Spare::Copy(no) => {
                stats.chunks_repaired += 1;
                self.send_frame(now, no, rtt)?
            }
            Spare::Symbol(symbol) => self.send_symbol(now, symbol, rtt, stats)?,
        };
        stats.repair_bytes += data.len() as u64;
        self.repair_budget.pay(data.len());
        Some(data)
    }

    fn send_frame(&mut self, now: Instant, no: FrameNo, rtt: &Rtt) -> Option<Bytes> {
        let seq = self.flight.record(now, Carried::Frame(no));
        let owed = self.store.mark_sent(no, seq)?;
        let id = owed.id.unwrap_or(seq);
        self.probe_from = now;
        Some(encode_data(seq, id, &owed.frame, budget_ms(now, owed, rtt)))
    }

    fn send_symbol(
        &mut self,
        now: Instant,
        symbol: CodedSymbol,
        rtt: &Rtt,
        stats: &mut HopStats,
    ) -> Option<Bytes> {
        let owed = symbol.members.iter().filter_map(|no| self.store.get(*no));
        let budget_ms = owed
            .map(|owed| budget_ms(now, owed, rtt))
            .min()
            .unwrap_or(0);
        let seq = self
            .flight
            .record(now, Carried::Symbol(symbol.members.clone()));
        for no in symbol.members.iter() {
            self.store.mark_symbol_sent(*no);
        }
        stats.symbols_sent += 1;
        self.probe_from = now;
        encode_symbol(&Symbol {
            seq,
            ids: symbol.ids.to_vec(),
            parities: symbol.parities,
            index: symbol.index,
            budget_ms,
            shard: symbol.shard,
        })
    }

    /// Whether one more datagram can be in flight. What nobody waits for makes room; else only an
    /// acknowledgement or the probe timeout does, or a silent peer would be sent the same for ever.
    fn has_room(&mut self, now: Instant, rtt: &Rtt, stats: &mut HopStats) -> bool {
        while self.flight.is_full() && !self.oldest_is_owed() {
            let lost = self.flight.evict();
            self.repair(now, lost, rtt, stats);
        }
        !self.flight.is_full()
    }

    fn oldest_is_owed(&self) -> bool {
        let oldest = self.flight.oldest();
        oldest.is_none_or(|carried| carried.frames().iter().any(|no| self.store.owes(*no)))
    }

    /// The next subgroup that was given up.
    pub(super) fn poll_given_up(&mut self) -> Option<SubgroupKey> {
        self.news.pop_front()
    }

    fn repair_lost(&mut self, now: Instant, rtt: &Rtt, stats: &mut HopStats) {
        let lost = self.flight.take_lost(now);
        self.repair(now, lost, rtt, stats);
    }

    fn repair(&mut self, now: Instant, lost: Vec<Carried>, rtt: &Rtt, stats: &mut HopStats) {
        let mut stranded = Vec::new();
        for carried in &lost {
            stats.chunks_lost += u64::from(matches!(carried, Carried::Frame(_)));
            let frames = carried.frames().iter().copied();
            stranded.extend(frames.filter(|no| self.store.mark_lost(*no)));
        }
        self.plan_repairs(now, &stranded, rtt, stats);
    }

    fn plan_repairs(&mut self, now: Instant, lost: &[FrameNo], rtt: &Rtt, stats: &mut HopStats) {
        if lost.is_empty() {
            return;
        }
        let measured = self.measured(now, rtt);
        let is_full = self.is_full(now, rtt);
        for no in lost {
            let again = self.store.begin_round(*no);
            stats.rounds_failed += u64::from(again);
            if is_full {
                self.store.queue_repair(*no);
                continue;
            }
            self.repairs
                .handle_lost(now, *no, lost.len(), measured, again, &mut self.store);
        }
    }

    fn dies_at(&self, owed: &Owed) -> Instant {
        owed.offered_at + ms(self.config.frame_life_ms_max)
    }

    fn overdue_at(&self, owed: &Owed) -> Instant {
        owed.offered_at + ms(self.config.queue_ms_max)
    }

    /// Gives up what could not be delivered in its life.
    fn expire(&mut self, now: Instant, stats: &mut HopStats) {
        while let Some((no, owed)) = self.store.oldest() {
            if self.dies_at(owed) > now {
                return;
            }
            if owed.frame.is_word() {
                self.renew(now, no);
                continue;
            }
            self.give_up(now, no, RESET_DELIVERY_TIMEOUT, stats);
        }
    }

    /// Who forwards a track must hear that it is to stop, and who gets one, that nothing comes any more, however
    /// long that takes.
    fn renew(&mut self, now: Instant, no: FrameNo) {
        if let Some(owed) = self.store.remove(no) {
            self.store.insert(now, owed.frame, owed.is_awaited);
        }
    }

    /// Gives up what waited too long to be sent at all.
    fn shed_overdue(&mut self, now: Instant, stats: &mut HopStats) {
        while let Some((no, owed)) = self.store.oldest_waiting() {
            if self.overdue_at(owed) > now {
                return;
            }
            self.give_up(now, no, RESET_TOO_FAR_BEHIND, stats);
        }
    }

    /// Gives up the oldest of the lowest priority until the rest fits.
    fn shed_excess(&mut self, stats: &mut HopStats, now: Instant) {
        while self.store.queue_bytes > self.config.queue_bytes_max {
            let Some(no) = self.store.victim() else {
                return;
            };
            self.give_up(now, no, RESET_TOO_FAR_BEHIND, stats);
        }
    }

    /// Gives up a frame and its subgroup; tells the receiver and the caller. A reset, and a word about a
    /// whole track, is only dropped.
    fn give_up(&mut self, now: Instant, no: FrameNo, code: u32, stats: &mut HopStats) {
        let Some(owed) = self.store.remove(no) else {
            return;
        };
        stats.chunks_given_up += 1;
        if owed.is_reset() {
            return;
        }
        let key = owed.frame.key();
        for no in self.store.of_subgroup(key) {
            self.store.remove(no);
            stats.chunks_given_up += 1;
        }
        let SubgroupKey {
            alias,
            group,
            subgroup,
        } = key;
        self.store.insert(
            now,
            Frame::SubgroupReset {
                alias,
                group,
                subgroup,
                code,
            },
            false,
        );
        stats.groups_shed += 1;
        self.remember_given_up(key);
    }

    fn remember_given_up(&mut self, key: SubgroupKey) {
        if self.given_up.insert(key) {
            self.given_up_order.push_back(key);
        }
        if self.given_up_order.len() > self.config.given_up_max
            && let Some(oldest) = self.given_up_order.pop_front()
        {
            self.given_up.remove(&oldest);
        }
        self.news.push_back(key);
        if self.news.len() > self.config.events_max {
            self.news.pop_front();
        }
    }

    /// When something must follow the last datagram, if any frame hangs on that.
    fn probe_at(&self, rtt: &Rtt) -> Option<Instant> {
        let floor = ms(self.config.probe_ms_min);
        let base = (rtt.timeout() + ms(self.config.ack_delay_ms_max)).max(floor);
        let wait = (base * (1 << self.backoff)).min(ms(self.config.probe_ms_max).max(base));
        (self.store.outstanding > 0).then(|| self.probe_from + wait)
    }

    fn probe(&mut self, now: Instant, rtt: &Rtt, stats: &mut HopStats) {
        self.probe_from = now;
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
        stats.probe_timeouts += 1;
        let mut queued = 0;
        if self.flight.is_full() {
            let lost = (0..PROBE_FRAMES)
                .flat_map(|_| self.flight.evict())
                .collect();
            self.repair(now, lost, rtt, stats);
        }
        for no in self.flight.frames() {
            queued += usize::from(self.store.queue_repair(no));
            if queued == PROBE_FRAMES {
                return;
            }
        }
    }
}

/// What is left of a frame's budget when it will arrive, reckoned with half the round trip.
fn budget_ms(now: Instant, owed: &Owed, rtt: &Rtt) -> u16 {
    let Frame::Chunk(chunk) = &owed.frame else {
        return 0;
    };
    let on_the_way = rtt.measured().unwrap_or(Duration::ZERO) / 2;
    let spent = now.saturating_duration_since(owed.offered_at) + on_the_way;
    let spent_ms = u16::try_from(spent.as_millis()).unwrap_or(u16::MAX);
    chunk.budget_ms.saturating_sub(spent_ms)
}
