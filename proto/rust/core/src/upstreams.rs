//! Where a track comes from: one active upstream, and others that stand by in their order.
//!
//! This is the table that the agent keeps current and the datapath acts on (reroute.rs). A standby has a
//! subscription at the peer that is paused; a word over the hop makes the peer send. Whatever comes of a
//! bound upstream is taken, active or not: late repairs are as good as any bytes, and what came before
//! falls to the byte intervals. Only what ends a subgroup before its time is believed of the active
//! one alone.

use crate::command::SessionId;
use crate::event::SwitchCause;
use crate::hop::Supply;
use crate::location::Location;
use crate::pair::{GivenUp, Lateness, Rate, Second};
use crate::reach::Reach;
use crate::track::ObjectKey;
use std::collections::BTreeMap;
use std::time::Instant;

/// Standbys of one track at most; beyond it those of the last rank are not taken.
pub(crate) const STANDBYS_MAX: usize = 16;

/// A track's name at one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pub(crate) session: SessionId,
    pub(crate) alias: u64,
}

/// A move for which both upstreams send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) to: Source,
    /// What was asked for from there; its first byte completes the move.
    pub(crate) start: Option<Location>,
    pub(crate) cause: SwitchCause,
    /// That byte came.
    pub(crate) delivered: bool,
    /// Only in case the active one turns out to be silent.
    pub(crate) tentative: bool,
}

/// The active upstream failed and no standby could step in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) from: Source,
    pub(crate) cause: SwitchCause,
    /// When it was heard last.
    pub(crate) since: Instant,
    /// When that was noticed.
    pub(crate) noticed: Instant,
}

/// The upstreams of one track.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    pub(crate) active: Option<Source>,
    /// With their ranks, in order.
    standbys: Vec<(u32, Source)>,
    pub(crate) moving: Option<Move>,
    /// One of the standbys that sends beside the active one.
    pub(crate) second: Option<Second>,
    /// What one of the two has given up.
    pub(crate) given_up: GivenUp,
    /// Of new bytes.
    pub(crate) rate: Rate,
    /// Of what the active one brings.
    pub(crate) lateness: Lateness,
    /// Publisher priority of what came last.
    pub(crate) priority: u8,
    pub(crate) failed: Option<Failed>,
    /// No further move for loss or delay before.
    pub(crate) hold_until: Option<Instant>,
    /// No standby is asked for a mere doubt before.
    pub(crate) trust_until: Option<Instant>,
    /// Its first new byte is to be reported.
    resuming: Option<Source>,
    /// When the last new byte came.
    fresh_at: Option<Instant>,
    /// The active one, or the last, is an edge's.
    pub(crate) by_hop: bool,
    /// What upstreams said of their own supply last, with the turn of that.
    supplies: BTreeMap<Source, (u64, Supply)>,
    /// What was told downstream.
    pub(crate) told: Option<Supply>,
    /// The agent was told that nothing can come.
    pub(crate) was_starved: bool,
    /// How far back the active one was asked to go.
    pub(crate) reach: Reach,
}

/// What a piece of an object means for the upstreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// A move is complete.
    pub(crate) delivered: bool,
    /// The upstream after a switch brought its first new byte; the last one before came then.
    pub(crate) resumed: Option<Instant>,
    /// The second path brought it.
    pub(crate) by_second: bool,
}

impl Upstreams {
    /// Standbys in their order.
    pub(crate) fn standbys(&self) -> impl Iterator<Item = Source> + '_ {
        self.standbys.iter().map(|(_, source)| *source)
    }

    pub(crate) fn has_standby(&self, source: Source) -> bool {
        self.standbys().any(|standby| standby == source)
    }

    /// Take a standby, or give it another rank; false if there are too many before it.
    pub(crate) fn stand_by(&mut self, source: Source, rank: u32) -> bool {
        self.standbys.retain(|(_, standby)| *standby != source);
        let at = self.standbys.partition_point(|(other, _)| *other <= rank);
        if self.standbys.len() >= STANDBYS_MAX {
            return false;
        }
        self.standbys.insert(at, (rank, source));
        true
    }

    /// Take a standby after all others.
    pub(crate) fn stand_by_last(&mut self, source: Source) -> bool {
        let last = self.standbys.last();
        let rank = last.map_or(0, |(rank, _)| rank.saturating_add(1));
        self.stand_by(source, rank)
    }

    /// Whether a source sends beside the active one.
    pub(crate) fn is_second(&self, source: Source) -> bool {
        self.second.is_some_and(|second| second.source == source)
    }

    /// A source becomes the active one; whether it was a standby before does not matter.
    pub(crate) fn activate(&mut self, source: Source) -> Option<Source> {
        self.standbys.retain(|(_, standby)| *standby != source);
        self.failed = None;
        let before = self.active.replace(source);
        if before != Some(source) {
            self.reach = Reach::default();
            self.lateness = Lateness::default();
        }
        let standbys = &self.standbys;
        self.supplies.retain(|of, _| {
            *of == source || Some(*of) == before || standbys.iter().any(|(_, s)| s == of)
        });
        before.filter(|before| *before != source)
    }

    /// An upstream's word about its own supply; false if it is old, or not of an upstream of the track.
    pub(crate) fn hear(&mut self, source: Source, turn: u64, supply: Supply) -> bool {
        let is_ours = self.active == Some(source) || self.has_standby(source);
        let before = self.supplies.get(&source);
        if !is_ours || before.is_some_and(|(last, _)| *last >= turn) {
            return false;
        }
        self.supplies.insert(source, (turn, supply));
        true
    }

    pub(crate) fn supply_of(&self, source: Source) -> Option<&Supply> {
        self.supplies.get(&source).map(|(_, supply)| supply)
    }

    /// Whether a source could feed this edge, for all that it said.
    pub(crate) fn may_feed(&self, source: Source, node: u64) -> bool {
        let said = self.supply_of(source);
        said.is_none_or(|supply| supply.fed && !supply.way.contains(&node))
    }

    /// Whether a source has the track by the edge that another source is.
    pub(crate) fn leads_through(&self, source: Source, other: Source) -> bool {
        let edge = self.supply_of(other).and_then(|supply| supply.way.last());
        let way = self.supply_of(source).map(|supply| &supply.way);
        edge.zip(way).is_some_and(|(edge, way)| way.contains(edge))
    }

    /// No edge above can give the track now.
    pub(crate) fn is_starved(&self) -> bool {
        self.failed.is_some() && self.by_hop
    }

    /// A source is gone. Whether it was the active one.
    pub(crate) fn remove(&mut self, source: Source) -> bool {
        self.standbys.retain(|(_, standby)| *standby != source);
        if self.moving.is_some_and(|moving| moving.to == source) {
            self.moving = None;
        }
        let was_active = self.active == Some(source);
        if was_active {
            // What it said shows which standbys fall with it, until another one is active.
            self.active = None;
        } else {
            self.supplies.remove(&source);
        }
        was_active
    }

    /// The new upstream after a switch: its first new byte is to be reported.
    pub(crate) fn expect(&mut self, source: Source) {
        self.resuming = Some(source);
    }

    /// A piece of an object came from a source, so many bytes of it new.
    pub(crate) fn handle_arrival(
        &mut self,
        now: Instant,
        source: Source,
        key: ObjectKey,
        new_bytes: u64,
    ) -> Arrival {
        let mut arrival = Arrival::default();
        if let Some(moving) = &mut self.moving
            && moving.to == source
            && !moving.delivered
            && moving
                .start
                .is_none_or(|start| Location::new(key.group, key.object) >= start)
        {
            moving.delivered = true;
            arrival.delivered = true;
        }
        if let Some(second) = &mut self.second {
            arrival.by_second = second.source == source;
            let brought = if arrival.by_second {
                &mut second.brought
            } else {
                &mut second.beaten
            };
            *brought += new_bytes;
        }
        if new_bytes == 0 {
            return arrival;
        }
        self.rate.add(now, new_bytes);
        if self.resuming == Some(source) {
            self.resuming = None;
            arrival.resumed = Some(self.fresh_at.unwrap_or(now));
        }
        self.fresh_at = Some(now);
        arrival
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(session: SessionId) -> Source {
        Source { session, alias: 7 }
    }

    fn order(upstreams: &Upstreams) -> Vec<SessionId> {
        upstreams.standbys().map(|s| s.session).collect()
    }

    #[test]
    fn standbys_are_in_the_order_of_their_ranks_and_then_of_binding() {
        let mut upstreams = Upstreams::default();
        for (session, rank) in [(1, 5), (2, 0), (3, 5), (4, 2)] {
            assert!(upstreams.stand_by(source(session), rank));
        }
        assert_eq!(order(&upstreams), [2, 4, 1, 3]);
        upstreams.stand_by(source(2), 9);
        assert_eq!(order(&upstreams), [4, 1, 3, 2]);
        assert!(upstreams.stand_by_last(source(6)));
        assert_eq!(order(&upstreams), [4, 1, 3, 2, 6]);
        assert_eq!(upstreams.activate(source(1)), None);
        assert_eq!(upstreams.activate(source(4)), Some(source(1)));
        assert_eq!(order(&upstreams), [3, 2, 6]);
    }

    #[test]
    fn no_more_than_so_many_are_taken_and_the_last_rank_does_not_overflow() {
        let mut upstreams = Upstreams::default();
        assert!(upstreams.stand_by(source(0), u32::MAX));
        for session in 1..STANDBYS_MAX as u64 {
            assert!(upstreams.stand_by_last(source(session)));
        }
        assert!(!upstreams.stand_by(source(99), 0));
        assert!(upstreams.stand_by(source(3), 0));
        assert_eq!(order(&upstreams)[0], 3);
    }
}
