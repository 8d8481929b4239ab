//! A downstream whose objects go to the local application, whole and one by one.

use super::Downstream;
use crate::conn::Ctx;
use crate::event::{Event, SinkObject};
use crate::payload::Payload;
use crate::track::{End, Track};

impl Downstream {
    /// Hand whole objects of one subgroup to the local application.
    pub(crate) fn pump_sink(&mut self, ctx: &mut Ctx, track: &Track, group: u64, subgroup: u64) {
        let key = (group, subgroup);
        if !self.wants_group(group) || self.done.contains(&key) {
            return;
        }
        let Some(source) = track.subgroup(group, subgroup) else {
            return;
        };
        let from = self.from(group);
        let mut last = self.open.entry(key).or_default().last;
        while let Some((id, object)) = source.next_after(last, from) {
            let Some(complete_at) = object.complete_at else {
                break;
            };
            let (first_byte_us, complete_us) =
                (ctx.micros(object.first_at), ctx.micros(complete_at));
            let mut pieces = Vec::with_capacity(object.body.pieces());
            object.body.read(0, usize::MAX, &mut pieces);
            let mut payload = Payload::new(pieces);
            let properties = payload.take_front(object.props_len as usize);
            self.objects += 1;
            self.bytes += object.body.len();
            last = Some(id);
            ctx.emit(Event::Object(SinkObject {
                downstream: self.id,
                group,
                subgroup,
                object: id,
                priority: source.priority,
                status: object.status,
                properties,
                payload,
                first_byte_us,
                complete_us,
            }));
        }
        self.open.entry(key).or_default().last = last;
        let finished = source.is_finished_at(last, from);
        let reset = matches!(source.end, Some(End::Reset { .. }));
        if finished || reset {
            self.open.remove(&key);
            self.done.insert(key);
            ctx.emit(Event::SinkSubgroupEnded {
                downstream: self.id,
                group,
                subgroup,
                end_of_group: source.end_of_group,
                reset: !finished,
            });
        }
    }

    /// Groups left the track before they ended: a sink that follows them is to know.
    pub(crate) fn evicted_from_sink(&mut self, ctx: &mut Ctx, below: u64) {
        let keep = self.open.split_off(&(below, 0));
        let gone = std::mem::replace(&mut self.open, keep);
        self.done = self.done.split_off(&(below, 0));
        for (group, subgroup) in gone.into_keys() {
            ctx.emit(Event::SinkSubgroupEnded {
                downstream: self.id,
                group,
                subgroup,
                end_of_group: false,
                reset: true,
            });
        }
    }
}
