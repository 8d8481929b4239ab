//! Reaching back: somebody below wants what lies before the place where this edge began with a track.
//!
//! An edge that was asked for a track by a viewer who had nothing of it begins with the running group. Another
//! viewer comes from an edge that is gone, and lacks the end of the group before. It would get that from any edge
//! that had the track all along, and never from this one; where all edges that it tries began just now, it would
//! have lost a second of the film that lies in the cache one edge further up. So the upstream is told anew to
//! send, from that place on, by the word that a switch uses (forward.rs); what is here already falls to the byte
//! intervals. An edge in the middle that has no more itself hands the wish on.
//!
//! What was evicted here is not asked for again, for it is as old above. Each wish reaches further back than the
//! last, and an upstream hears [`REACHES_MAX`] at most, whoever asks how often.

use crate::command::TrackId;
use crate::datapath::Datapath;
use crate::location::Location;
use crate::moves::{forward, link};

/// Times that one upstream is asked for older groups.
pub(crate) const REACHES_MAX: u32 = 8;

/// How far back the active upstream was asked to go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach {
    to: Option<Location>,
    count: u32,
}

impl Reach {
    /// Whether a place is further back than any before, and may be asked for; then it has been.
    pub(crate) fn extend(&mut self, start: Location) -> bool {
        if self.to.is_some_and(|to| to <= start) || self.count >= REACHES_MAX {
            return false;
        }
        self.to = Some(start);
        self.count += 1;
        true
    }
}

/// Have the active upstream send from a place on, if it is a hop's and this was not asked of it.
pub(crate) fn reach_back(
    datapath: &mut Datapath,
    now: std::time::Instant,
    track: TrackId,
    start: Location,
) {
    let Some(entry) = datapath.relay.tracks.get_mut(&track) else {
        return;
    };
    if !entry.track.may_lack(start) {
        return;
    }
    let Some(active) = entry.upstreams.active else {
        return;
    };
    if link(datapath, active.session).is_none() {
        return;
    }
    let entry = datapath.relay.tracks.get_mut(&track);
    if entry.is_some_and(|entry| entry.upstreams.reach.extend(start)) {
        forward(datapath, now, active, true, Some(start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_asked_for_each_older_place_once_and_a_bounded_number_of_times() {
        let mut reach = Reach::default();
        assert!(reach.extend(Location::new(50, 3)));
        assert!(!reach.extend(Location::new(50, 3)));
        assert!(!reach.extend(Location::new(51, 0)));
        let more = (0..50).rev().filter(|g| reach.extend(Location::new(*g, 0)));
        assert_eq!(more.count() as u32, REACHES_MAX - 1);
    }
}
