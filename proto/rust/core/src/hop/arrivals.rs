//! What arrived of the numbered datagrams of the peer, and what did not: loss of the receive direction.
//!
//! Every datagram with data or a heartbeat has the next number of one row, so a number that is missing
//! was lost, or has been overtaken. It may still come for [`HopConfig::reorder_ms`] after a later one
//! did; then it is *judged*, and what comes of it afterwards changes nothing. Numbers are judged in
//! order, which makes runs of lost ones exact: a run is a row of missing numbers between two that came.
//!
//! Loss is kept four ways: counters since the start (telemetry), of the last second (bounds), of the last ten
//! (whether it lasts), and of the last ten and thirty without outages (how closely packets must follow one another
//! that silence means something).
//!
//! **How closely.** A peer that sends every 40 ms is silent for 200 ms after five lost packets, which on
//! a link that loses runs of three on average happens several times a minute. Silence is to be taken for
//! death, so the packets within it must be so many that chance does not lose them all: with the share
//! `p` of packets that begin a run of losses and the share `q` that continue one, a row of `n` is lost
//! with probability `p q^(n-1)`. The receiver, who alone knows `p` and `q`, asks its peer for `n` packets
//! in each silence time ([`Arrivals::wanted_gap`]); the peer fills up with heartbeats what its media does not
//! bring, so that a clean link or a full one pays nothing. Its acknowledgements have no number and do not count:
//! they lie between numbers, so that rows of numbers look shorter than rows of packets are. (Where media ends, and
//! acknowledgements with it, rows become those of packets, and what was learnt falls short until it is learnt anew.)
//!
//! The exponent makes much of an error in `q`. Ten seconds of a link that loses a tenth give it with a standard
//! deviation of 4.5 %, which makes the mean probability ten times what it should be; of a link that loses less they
//! know next to nothing. Half a minute makes it twice. The larger of what both want is asked for: more as soon as a
//! link becomes worse, less half a minute after it has become better. What lasted a silence time was an outage and
//! tells nothing of chance. (By the same rule nor does what an idle hop loses of its one heartbeat a second; a flow
//! that begins there begins with close packets anyhow.) Rejected: a longer silence time on such links (it is needed
//! most there), several copies of each heartbeat at once (a run takes them all), a bound of confidence on ten
//! seconds (at 95 % a fifth more heartbeats for ever, where the larger of two is a twentieth).
//!
//! Where runs are so rare that half a minute may have none (one packet lost in a thousand, and little or no media),
//! a run of five is still a false alarm: a standby is called silent for a moment, a thin flow moves. To remember
//! longer would ask for two hundred heartbeats a second of every hop that stands by on the open Internet.
//!
//! Source: E. N. Gilbert, "Capacity of a burst-noise channel", 1960 (the model with two states).

use super::config::{HopConfig, ms};
use crate::stats::BURST_BUCKETS;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Numbers that wait for their judgement at most: beyond it the lowest are judged at once.
const UNJUDGED_MAX: u64 = 8_192;
/// A number so far ahead of the last is no loss but nonsense: counting starts over there.
const JUMP_MAX: u64 = 1 << 16;
/// Numbers that came within this time are judged together.
const GRAIN: Duration = Duration::from_millis(10);
/// Numbers judged within ten seconds without which their loss says nothing.
const LASTING_MIN: u64 = 200;
/// Probability per packet that a silence of chance begins there: with 300 packets a second once in a year.
const CHANCE: f64 = 1e-10;

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// Numbers that were judged.
    pub due: u64,
    /// Those of them that never came.
    pub lost: u64,
    /// Runs of lost ones.
    pub bursts: [u64; BURST_BUCKETS],
}

/// The numbers of one direction.
#[derive(Debug)]
pub(super) struct Arrivals {
    silent: Duration,
    gap_bounds: (Duration, Duration),
    reorder: Duration,
    /// What came and is not judged: first number of a range to its last.
    seen: BTreeMap<u64, u64>,
    /// Everything below is judged.
    judged: u64,
    /// Missing numbers right below `judged`.
    run: u64,
    /// Above every number that came.
    next: u64,
    /// At this time, everything below this number is to be judged.
    horizon: VecDeque<(Instant, u64)>,
    total: Loss,
    second: Recent,
    ten_seconds: Recent,
    /// Of ten seconds and of half a minute, without outages.
    chance: [Recent; 2],
    /// When the last number came.
    arrived_at: Option<Instant>,
    /// The first number that came after the last outage.
    outage_end: Option<u64>,
}

impl Arrivals {
    pub(super) fn new(config: &HopConfig) -> Arrivals {
        Arrivals {
            silent: ms(config.silent_ms),
            gap_bounds: (ms(config.heartbeat_gap_ms), ms(config.heartbeat_ms)),
            reorder: ms(config.reorder_ms),
            seen: BTreeMap::new(),
            judged: 0,
            run: 0,
            next: 0,
            horizon: VecDeque::new(),
            total: Loss::default(),
            second: Recent::new(Duration::from_millis(100)),
            ten_seconds: Recent::new(Duration::from_secs(1)),
            chance: [1, 3].map(|width_s| Recent::new(Duration::from_secs(width_s))),
            arrived_at: None,
            outage_end: None,
        }
    }

    /// The datagram with this number came.
    pub(super) fn handle_number(&mut self, now: Instant, number: u64) {
        self.judge(now);
        if number < self.judged {
            return;
        }
        if number.saturating_sub(self.next) > JUMP_MAX {
            self.start_over(now, number);
        }
        self.insert(number);
        let before = self.arrived_at.replace(now).unwrap_or(now);
        if number < self.next {
            return;
        }
        if now.saturating_duration_since(before) >= self.silent {
            self.outage_end = Some(number);
        }
        self.next = number + 1;
        match self.horizon.back_mut() {
            Some((at, below)) if *at > now + self.reorder => *below = self.next,
            _ => self
                .horizon
                .push_back((now + self.reorder + GRAIN, self.next)),
        }
        self.judge_below(now, self.next.saturating_sub(UNJUDGED_MAX));
    }

    /// Judges what cannot come any more.
    pub(super) fn judge(&mut self, now: Instant) {
        while let Some(&(at, below)) = self.horizon.front()
            && at <= now
        {
            self.horizon.pop_front();
            self.judge_below(now, below);
        }
    }

    /// Counters up to what is judged.
    pub(super) fn total(&self) -> Loss {
        self.total
    }

    /// Numbers judged within the last second, and those that never came.
    pub(super) fn last_second(&self, now: Instant) -> (u64, u64) {
        let sum = self.second.sum(now);
        (sum.due, sum.lost)
    }

    /// Share of the numbers judged within ten seconds that never came, millionths; 0 if they are too few to
    /// say.
    pub(super) fn lasting_loss_ppm(&self, now: Instant) -> u32 {
        let Counts { due, lost, .. } = self.ten_seconds.sum(now);
        if due < LASTING_MIN {
            return 0;
        }
        u32::try_from(lost * 1_000_000 / due).unwrap_or(u32::MAX)
    }

    /// How closely the peer's packets must follow one another; `None`: the heartbeats are enough.
    pub(super) fn wanted_gap(&self, now: Instant) -> Option<Duration> {
        let wanted = self.chance.iter().map(|recent| recent.sum(now));
        let packets = wanted.filter_map(Counts::packets_wanted).reduce(f64::max)?;
        let gap = self.silent.div_f64(packets.clamp(1.0, 1e6));
        let (least, most) = self.gap_bounds;
        (gap < most).then(|| gap.max(least))
    }

    fn insert(&mut self, number: u64) {
        let below = self.seen.range(..=number).next_back();
        let first = match below.map(|(first, last)| (*first, *last)) {
            Some((_, last)) if number <= last => return,
            Some((first, last)) if number == last + 1 => first,
            _ => number,
        };
        let last = self.seen.remove(&(number + 1)).unwrap_or(number);
        self.seen.insert(first, last);
    }

    fn start_over(&mut self, now: Instant, number: u64) {
        self.judge_below(now, self.next);
        self.horizon.clear();
        self.end_run(now);
        self.judged = number;
        self.next = number;
    }

    fn judge_below(&mut self, now: Instant, limit: u64) {
        while self.judged < limit {
            let came = self.seen.first_key_value().map(|(a, b)| (*a, *b));
            let (first, last) = came.unwrap_or((u64::MAX, u64::MAX));
            let missing = first.min(limit) - self.judged;
            self.run += missing;
            self.count(now, missing, missing);
            self.judged += missing;
            if first >= limit {
                return;
            }
            self.end_run(now);
            self.seen.remove(&first);
            if last >= limit {
                self.seen.insert(limit, last);
            }
            let arrived = (last + 1).min(limit) - first;
            self.count(now, arrived, 0);
            self.count_chance(now, arrived, 0);
            self.judged += arrived;
        }
    }

    fn end_run(&mut self, now: Instant) {
        let run = std::mem::take(&mut self.run);
        if run == 0 {
            return;
        }
        // 1, 2, 3-4, 5-8, …: the number of bits of one less.
        let bucket = (u64::BITS - (run - 1).leading_zeros()) as usize;
        self.total.bursts[bucket.min(BURST_BUCKETS - 1)] += 1;
        if self.outage_end != Some(self.judged) {
            self.count_chance(now, run, run);
        }
    }

    fn count(&mut self, now: Instant, due: u64, lost: u64) {
        self.total.due += due;
        self.total.lost += lost;
        let counts = Counts {
            due,
            lost,
            ..Counts::default()
        };
        self.second.add(now, counts);
        self.ten_seconds.add(now, counts);
    }

    /// Numbers that came, or one run.
    fn count_chance(&mut self, now: Instant, due: u64, lost: u64) {
        let runs = u64::from(lost > 0);
        for recent in &mut self.chance {
            recent.add(now, Counts { due, lost, runs });
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub due: u64,
    pub lost: u64,
    pub runs: u64,
}

impl Counts {
    /// A row of how many is lost by chance no more often than [`CHANCE`]; `None`: nothing was.
    fn packets_wanted(self) -> Option<f64> {
        if self.runs == 0 {
            return None;
        }
        let (due, lost, runs) = (self.due as f64, self.lost as f64, self.runs as f64);
        // One more of each kind, so that a few losses do not look like certainty.
        let go_on = (lost - runs + 1.0) / (lost + 2.0);
        Some(1.0 + (CHANCE * due / runs).min(1.0).ln() / go_on.ln())
    }
}

/// Counts over ten slots of time.
#[derive(Debug)]
pub(super) struct Recent {
    width: Duration,
    /// Beginning of a slot, and what was counted in it.
    slots: VecDeque<(Instant, Counts)>,
}

/// Slots of one [`Recent`].
const SLOTS: u32 = 10;

impl Recent {
    pub(super) fn new(width: Duration) -> Recent {
        Recent {
            width,
            slots: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, now: Instant, counts: Counts) {
        let fits = |(began, _): &(Instant, Counts)| now < *began + self.width;
        if !self.slots.back().is_some_and(fits) {
            self.slots.push_back((now, Counts::default()));
        }
        while self.slots.len() > SLOTS as usize {
            self.slots.pop_front();
        }
        if let Some((_, slot)) = self.slots.back_mut() {
            slot.due += counts.due;
            slot.lost += counts.lost;
            slot.runs += counts.runs;
        }
    }

    pub(super) fn sum(&self, now: Instant) -> Counts {
        let mut sum = Counts::default();
        for (began, slot) in &self.slots {
            if now < *began + self.width * SLOTS {
                sum.due += slot.due;
                sum.lost += slot.lost;
                sum.runs += slot.runs;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests;
