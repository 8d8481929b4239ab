//! A path that became longer, told from a queue within a round trip or two.
//!
//! A detour (a cable cut, a handover, a change of route) adds delay between two packets and keeps it. A queue
//! cannot do that: it grows while more comes in than goes out, by at most the time that passes, and is level only
//! where the two are equal; after an outage it falls as fast. So delay that jumped and then stayed where it was, for
//! a round trip in which the rate was left alone, is the path's own, and becomes the base. Anything that moves
//! meanwhile is a queue and is handled as one, a tenth of a second late at most. If the verdict is wrong, and the
//! queue of somebody else stood so still, nothing is lost: the base falls as soon as a packet is quicker.
//!
//! Rejected: to drain for a moment and look. It costs the film half its rate for a round trip, every time, and on a
//! shared bottleneck one flow's drain shows little.

use std::time::{Duration, Instant};

/// Least round trips are taken of stretches of at least this length and so many packets.
const STRETCH: Duration = Duration::from_millis(50);
const STRETCH_PACKETS: u32 = 3;
/// Less than that between two stretches is no jump.
const JUMP: Duration = Duration::from_millis(40);
/// Round trips that vary less than this, or than the path's delay does by itself, are level.
pub(super) const LEVEL: Duration = Duration::from_millis(10);
/// Level for so many stretches, and for a round trip, it is the path's own; a key frame's own queue may stand on
/// top for a moment, but above the level for so many in a row it is a queue.
const LEVEL_STRETCHES: u32 = 3;
const ABOVE_STRETCHES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing jumps.
    Calm,
    /// Delay has jumped, and has been level since.
    Jumped { seen: Seen },
    /// It moves: a queue.
    Moves,
}

/// What followed a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    since: Instant,
    least: Duration,
    /// Stretches whose least was that, and those in a row whose was more.
    level: u32,
    above: u32,
}

impl Seen {
    fn new(since: Instant, rtt: Duration) -> Seen {
        Seen {
            since,
            least: rtt,
            level: 1,
            above: 0,
        }
    }
}

/// What tells jumps of one path's delay from queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift {
    state: State,
    /// The running stretch.
    since: Instant,
    packets: u32,
    least: Option<Duration>,
    /// The least round trip of the one before.
    last: Option<Duration>,
    /// The same, before the jump.
    before: Duration,
}

impl Shift {
    pub(super) fn new(now: Instant) -> Shift {
        Shift {
            state: State::Calm,
            since: now,
            packets: 0,
            least: None,
            last: None,
            before: Duration::ZERO,
        }
    }

    /// Delay jumped, and nobody knows yet what it is.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Jumped { .. })
    }

    /// A packet was acknowledged. The new base, if the path is found to be longer; `wander`: what its delay
    /// does by itself.
    pub(super) fn note(
        &mut self,
        now: Instant,
        rtt: Duration,
        wander: Duration,
    ) -> Option<Duration> {
        let is_over =
            self.packets >= STRETCH_PACKETS && now.saturating_duration_since(self.since) >= STRETCH;
        let ended = if is_over { self.least.take() } else { None };
        let found = ended.and_then(|least| self.end_stretch(least, LEVEL.max(wander)));
        if ended.is_some() {
            (self.since, self.packets) = (now, 0);
        }
        self.packets += 1;
        self.least = Some(self.least.map_or(rtt, |least| least.min(rtt)));
        found
    }

    fn end_stretch(&mut self, rtt: Duration, level: Duration) -> Option<Duration> {
        let last = self.last.replace(rtt).unwrap_or(rtt);
        let jumped = State::Jumped {
            seen: Seen::new(self.since, rtt),
        };
        self.state = match self.state {
            State::Calm if rtt >= last + JUMP.max(level * 2) => {
                self.before = last;
                jumped
            }
            State::Moves if rtt.abs_diff(last) > level => State::Moves,
            State::Calm | State::Moves => State::Calm,
            State::Jumped { mut seen } => {
                if rtt <= self.before + level {
                    self.state = State::Calm;
                    return None;
                }
                if rtt + level < seen.least {
                    // It falls, as after an outage: what it comes to may be a path.
                    seen = Seen::new(self.since, rtt);
                } else if rtt > seen.least + level {
                    seen.above += 1;
                } else {
                    (seen.above, seen.level) = (0, seen.level + 1);
                    seen.least = seen.least.min(rtt);
                }
                let took = self.since.saturating_duration_since(seen.since);
                if seen.above >= ABOVE_STRETCHES && rtt.abs_diff(last) > level {
                    State::Moves
                } else if seen.above >= ABOVE_STRETCHES {
                    // The other way became longer too, a moment later.
                    State::Jumped {
                        seen: Seen::new(self.since, rtt),
                    }
                } else if seen.level >= LEVEL_STRETCHES && took >= rtt {
                    self.state = State::Calm;
                    return Some(seen.least);
                } else {
                    State::Jumped { seen }
                }
            }
        };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A packet every 10 ms with what a function of the time says; the first base found, and when.
    fn first_found(rtt_ms: impl Fn(u32) -> u32, ms: u32) -> Option<(u32, Duration)> {
        #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
        let epoch = Instant::now();
        let mut shift = Shift::new(epoch);
        (0..ms).step_by(10).find_map(|at| {
            let found = shift.note(epoch + at * MS, rtt_ms(at) * MS, Duration::ZERO);
            found.map(|base| (at, base))
        })
    }

    #[test]
    fn a_longer_path_is_found_within_two_of_its_round_trips() {
        let wobble = |at: u32| at / 10 % 3;
        let detour = |at| wobble(at) + if at < 1_000 { 60 } else { 295 };
        let (at, base) = first_found(detour, 3_000).expect("it is found");
        assert!(at <= 1_000 + 2 * 295, "{at}");
        assert_eq!(base, 295 * MS);
    }

    #[test]
    fn a_queue_that_grows_is_none_however_fast() {
        for slope in [4, 2, 1] {
            let queue = |at: u32| 60 + at.saturating_sub(1_000) / slope;
            assert_eq!(first_found(queue, 3_000), None);
        }
    }

    #[test]
    fn packets_that_an_outage_held_are_none() {
        let outage = |at: u32| match at {
            1_000..1_300 => 60 + 1_300 - at,
            _ => 60,
        };
        assert_eq!(first_found(outage, 3_000), None);
    }
}
