//! Objects that a local publisher makes enter the track as if an upstream had sent them.
//!
//! The object that ends a group ends every subgroup of it: a publisher of layers need not know which object
//! of a layer is its last.

use crate::command::{NewObject, TrackId};
use crate::conn::Ctx;
use crate::event::Event;
use crate::moqt::object_status;
use crate::relay::Relay;
use crate::track::{End, ObjectKey, ObjectMeta};
use bytes::{Bytes, BytesMut};
use std::time::Instant;

pub(crate) fn publish(
    relay: &mut Relay,
    ctx: &mut Ctx,
    now: Instant,
    track: TrackId,
    object: NewObject,
) {
    let Some(entry) = relay.tracks.get(&track) else {
        return;
    };
    let last = entry.track.subgroup(object.group, object.subgroup);
    let last = last
        .and_then(|s| s.objects.last_key_value())
        .map(|(id, _)| *id);
    let key = ObjectKey {
        group: object.group,
        subgroup: object.subgroup,
        object: object.object,
    };
    let body = joined(object.properties.clone(), &object.payload);
    let meta = ObjectMeta {
        prev: last.filter(|id| *id < object.object),
        first_object: last.is_none(),
        priority: object.priority,
        status: object.status,
        props_len: object.properties.len() as u64,
        body_len: body.len() as u64,
        budget_ms: ctx.hop.budget_ms,
    };
    if let Err(conflict) = relay.write(ctx, now, track, key, &meta, (0, &mut [body])) {
        let reason = conflict.0;
        ctx.emit(Event::TrackMalformed {
            session: 0,
            alias: 0,
            track,
            reason,
        });
        return;
    }
    if object.end_of_subgroup {
        let end = End::Finished {
            last: Some(object.object),
        };
        relay.end_subgroup(
            track,
            (object.group, object.subgroup),
            end,
            object.end_of_group,
        );
    }
    if object.end_of_group || object.status == object_status::END_OF_GROUP {
        end_layers(relay, track, object.group);
    }
}

/// Finish what is open of a group at the last object that each subgroup has.
fn end_layers(relay: &mut Relay, track: TrackId, group: u64) {
    let Some(entry) = relay.tracks.get(&track) else {
        return;
    };
    let open: Vec<(u64, Option<u64>)> = entry.track.open_subgroups(group).collect();
    for (subgroup, last) in open {
        relay.end_subgroup(track, (group, subgroup), End::Finished { last }, false);
    }
}

fn joined(properties: Bytes, payload: &Bytes) -> Bytes {
    if properties.is_empty() {
        return payload.clone();
    }
    let mut body = BytesMut::with_capacity(properties.len() + payload.len());
    body.extend_from_slice(&properties);
    body.extend_from_slice(payload);
    body.freeze()
}
