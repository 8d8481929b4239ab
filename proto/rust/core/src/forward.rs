//! The other end of a switch: a hop's peer says that a track is to be sent to it, or no longer.
//!
//! The peer names the downstream by our alias. Nothing is asked of the agent: the subscription exists,
//! paused, and was authorised when it was made. Whatever the hop still owed of the alias is forgotten,
//! also that some subgroup was given up: the peer says anew from where on it wants everything, and the
//! cache has it or nobody has.
//!
//! Who is sent a track already and asks for what lies before (reach.rs) gets that and no more: all the rest has
//! left, or is owed. Sent again it would stand between live media and everybody else below.
//!
//! Words are in no order on the way, so each has a turn, and only the latest counts. Several that arrive
//! together are carried out once. A replay costs time for everything in the cache, so each downstream has
//! a budget of replays that no honest peer uses up; beyond it a word still begins and ends the flow, but
//! nothing out of the cache is sent, and who reaches back is not heard.

use crate::datapath::Datapath;
use crate::downstream::Replay;
use crate::location::Location;
use crate::reach::reach_back;
use std::time::{Duration, Instant};

/// Replays that a peer may ask for in one go, per downstream.
const REPLAYS_MAX: u32 = 32;
/// Time after which it may ask for one more.
const REPLAY_EVERY: Duration = Duration::from_millis(250);

/// The last word of the peer about one alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) turn: u64,
    pub(crate) on: bool,
    pub(crate) start: Option<Location>,
}

/// What a downstream has left of its replays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReplayBudget {
    used: u32,
    /// One replay less is used from then on.
    next_at: Option<Instant>,
}

impl ReplayBudget {
    fn take(&mut self, now: Instant) -> bool {
        while let Some(at) = self.next_at.filter(|at| *at <= now && self.used > 0) {
            self.used -= 1;
            self.next_at = (self.used > 0).then_some(at + REPLAY_EVERY);
        }
        if self.used >= REPLAYS_MAX {
            return false;
        }
        self.used += 1;
        self.next_at = self.next_at.or(Some(now + REPLAY_EVERY));
        true
    }
}

/// Carry out what the peer of one connection said.
pub(crate) fn carry_out(datapath: &mut Datapath, now: Instant, index: usize) {
    let Some(link) = datapath
        .conns
        .get(index)
        .filter(|c| c.is_open())
        .and_then(|c| c.hop())
    else {
        return;
    };
    if link.forwards.is_empty() {
        return;
    }
    // What came in a moment ago is in the cache: it would go from there and once more as news.
    if datapath.relay.has_work() {
        let (ctx, conns) = (&mut datapath.ctx, &mut datapath.conns);
        datapath.relay.fan_out(ctx, now, conns);
    }
    let Some(link) = datapath.conns.get(index).and_then(|conn| conn.hop()) else {
        return;
    };
    for (alias, word) in std::mem::take(&mut link.forwards) {
        apply(datapath, now, index, alias, word);
    }
}

fn apply(datapath: &mut Datapath, now: Instant, index: usize, alias: u64, word: Forward) {
    let Some(link) = datapath.conns.get(index).and_then(|conn| conn.hop()) else {
        return;
    };
    let Some(&id) = link.aliases.get(&alias) else {
        return;
    };
    let relay = &mut datapath.relay;
    let Some(downstream) = relay.downstreams.get_mut(&id) else {
        return;
    };
    if word.turn <= downstream.turn {
        return;
    }
    let replays = word.on && downstream.replays.take(now);
    let reaches = word.start.is_some_and(|start| start < downstream.start);
    let reaches = word.on && downstream.forward && reaches;
    let replay = if reaches && (!replays || downstream.is_whole && link.hop.is_flowing(now, alias))
    {
        Replay::Before(downstream.start)
    } else {
        link.hop.cancel(alias, None, None);
        downstream.is_whole = replays;
        Replay::Awaited
    };
    downstream.turn = word.turn;
    downstream.forward = word.on;
    if replays || word.on && !reaches {
        downstream.start = word.start.unwrap_or(downstream.start);
    }
    let entry = relay.tracks.get(&downstream.track);
    // A track that started over gives nothing to those who had the old one.
    let is_current = entry.is_some_and(|entry| entry.downstreams.contains(&id));
    if word.on && !replays {
        link.forwards_refused += 1;
    } else if word.on && is_current {
        let (track, start) = (downstream.track, downstream.start);
        relay.replay(&mut datapath.ctx, now, &mut datapath.conns, id, replay);
        reach_back(datapath, now, track, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
    fn replays_are_bounded_and_come_back_with_time() {
        let (mut budget, start) = (ReplayBudget::default(), Instant::now());
        for _ in 0..REPLAYS_MAX {
            assert!(budget.take(start));
        }
        assert!(!budget.take(start));
        assert!(!budget.take(start + REPLAY_EVERY - Duration::from_micros(1)));
        assert!(budget.take(start + REPLAY_EVERY));
        assert!(!budget.take(start + REPLAY_EVERY));
        let later = start + 1_000 * REPLAY_EVERY;
        assert_eq!(
            (0..100).filter(|_| budget.take(later)).count() as u32,
            REPLAYS_MAX
        );
    }
}
