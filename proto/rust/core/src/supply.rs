//! What an edge tells the edges below of its own supply with a track: whether it comes, and by which way.
//!
//! A hop that is heard is no proof that a track comes over it: its peer may have lost the track itself, or
//! be fed, over some other edges, by the very one that asks. Neither shows on the hop, and neither can be
//! told from a publisher who pauses. So every edge tells its own supply to all edges below, those that it
//! feeds and those that only stand by for it, whenever it changes: the numbers of the edges that the track
//! comes through (a path vector, as in RFC 4271), or that it does not come. Words travel as fast as media.
//!
//! - Who reads its own number in an upstream's way would be fed by itself: that upstream is none, and
//!   whoever is caught so in a circle leaves it or says that nothing comes.
//! - Who lost its upstream and has no other says so. Its children take their own standbys at once, and it
//!   is nobody's standby until it is fed again; what it says is the latest, so it is believed at once too.
//! - Nobody becomes fed by an order: whom the agent makes the active upstream, or a move leads to, may have
//!   said that it brings nothing, and then so says this edge.
//! - Who lost an upstream goes first to a standby whose way does not lead through the lost one.
//!
//! Numbers mean nothing but themselves: each datapath draws its own. An upstream that has said nothing
//! counts as fed. Only hops are spoken of: that a publisher at this edge is gone changes nothing for
//! anybody, there is no other way to it.
//!
//! Rejected: to wait for the first byte after a move (a pausing publisher looks the same, and each edge
//! waits for the one before it); to tell it by control messages (they need both agents awake).

use crate::command::{DownstreamId, TrackId};
use crate::datapath::Datapath;
use crate::downstream::Kind;
use crate::event::Event;
use crate::hop::{Supply, WAY_NODES_MAX};
use crate::upstreams::Upstreams;
use std::time::Instant;

/// Something about the upstreams of a track may have changed: tell it, if it has.
pub(crate) fn tell(datapath: &mut Datapath, now: Instant, track: TrackId) {
    let node = datapath.ctx.node;
    let Some(entry) = datapath.relay.tracks.get_mut(&track) else {
        return;
    };
    let upstreams = &mut entry.upstreams;
    let starved = upstreams.is_starved();
    if std::mem::replace(&mut upstreams.was_starved, starved) != starved {
        datapath.ctx.emit(Event::TrackStarved { track, starved });
    }
    let supply = supply(upstreams, node);
    if supply.is_none() || upstreams.told == supply {
        return;
    }
    upstreams.told = supply;
    for id in entry.downstreams.clone() {
        introduce(datapath, now, id);
    }
}

/// Tell a downstream how its track comes, if it is an edge's.
pub(crate) fn introduce(datapath: &mut Datapath, now: Instant, id: DownstreamId) {
    let relay = &datapath.relay;
    let Some(downstream) = relay.downstreams.get(&id) else {
        return;
    };
    let Kind::Hop { conn: index } = downstream.kind else {
        return;
    };
    let alias = downstream.alias;
    let entry = relay.tracks.get(&downstream.track);
    let told = entry.and_then(|entry| entry.upstreams.told.clone());
    let conn = datapath.conns.get(index).filter(|conn| conn.is_open());
    let (Some(supply), Some(conn)) = (told, conn) else {
        return;
    };
    if let Some(link) = conn.hop() {
        // Our aliases fit a hop, and no way is longer than one may be.
        let _ = link.hop.supply(now, alias, supply);
        crate::hop_link::flush(conn, now);
        datapath.conns.wake(index);
    }
}

/// How a track comes to this edge; `None` where there is nothing to say.
fn supply(upstreams: &Upstreams, node: u64) -> Option<Supply> {
    if upstreams.is_starved() {
        // By its number the edges below know which standbys have the track through here.
        return Some(Supply {
            fed: false,
            way: vec![node],
        });
    }
    let active = upstreams.active?;
    let above = upstreams.supply_of(active);
    let mut way = above.map_or_else(Vec::new, |supply| supply.way.clone());
    way.push(node);
    // Nobody is fed from so far away: agents refuse as long a way.
    let fed = way.len() <= WAY_NODES_MAX;
    way.truncate(WAY_NODES_MAX);
    Some(Supply { fed, way })
}
