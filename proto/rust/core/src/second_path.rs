//! A second path at the same time: two upstreams of a track send, and each byte is taken from whoever brings it
//! first.
//!
//! Where a hop loses much and repair takes a round trip that a viewer notices, or where its queue grows, one path
//! cannot hold what was promised, however much it repairs. Then the standby (upstreams.rs) is told to send too. It
//! is told so over the hop as in a move (moves.rs), from the lowest place where something is missing, so from
//! its first byte on the two together lack only what both lose. If the active one dies, the second is the active
//! one already when that is noticed: there is no pause.
//!
//! Who takes one is a table (second_policy.rs) that the agent pushes; acted on it is here, because the agent may be
//! busy, and what is measured of the hop is known here first. Every [`LOOK_EVERY`] the hop's condition is looked
//! up, if there is any reason: tracks of little rate come first, then the others by priority, as far as the limits
//! go. A second path is given up when its row has said *off* for so long; if by then it was the one that brought
//! most, the track moves to it instead, for it is the better one.
//!
//! Rejected: striping (each byte over one path, the path by estimated delay: it saves the bytes, and doubles the
//! chance that a frame lacks one, which is what this is for); two subscriptions that the agent asks for when it is
//! needed (a round trip and an interpreter later); QUIC multipath (its scheduler fills one path after the other,
//! and the second hop leads over another edge anyhow).

use crate::command::{SessionId, TrackId};
use crate::conn::{Conn, Ctx, HopLink};
use crate::datapath::Datapath;
use crate::event::{Event, SwitchCause};
use crate::hop::Window;
use crate::moves::{begin_move, can_feed, forward, link, resume_location, upstreams};
use crate::pair::{Place, Second};
use crate::reroute::Reroute;
use crate::second_policy::{HopCondition, SecondPathPolicy, Stance};
use crate::track::End;
use crate::upstreams::Source;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a hop's condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often its tracks are where nothing is the matter with the hop itself: some may be late all the same.
const WEIGH_EVERY_CALM: Duration = Duration::from_millis(200);
/// How long the upstream before a planned move sends beside the new one.
const OVERLAP: Duration = Duration::from_secs(1);
/// A second path that there is may be beyond the limits by one part in this many: rates move.
const SLACK_SHARE: u64 = 4;

/// Whether a hop's condition is a reason for second paths, or for giving some up, looked at now and then.
pub(crate) fn check(conn: &mut Conn, ctx: &mut Ctx, now: Instant) {
    let session = conn.session;
    let Some(link) = conn.hop() else { return };
    let has_none = link.second_paths.is_none() && !link.is_paired;
    if has_none || link.look_at.is_some_and(|at| now < at) {
        return;
    }
    link.look_at = Some(now + LOOK_EVERY);
    let condition = condition(link, now);
    let policy = link.second_paths.as_deref();
    let (small, large) = policy.map_or_else(Default::default, |p| p.stances(condition));
    let is_urgent = link.is_paired || small.max(large) == Stance::On;
    if is_urgent || link.weigh_at.is_none_or(|at| at <= now) {
        link.weigh_at = Some(now + WEIGH_EVERY_CALM);
        ctx.reroutes.push_back(Reroute::Weigh { session });
    }
}

/// What is measured of a hop in the direction of the media to here. Loss counts as soon as it shows in several
/// places, in fewer if they are close together, and else when it lasts.
fn condition(link: &mut HopLink, now: Instant) -> HopCondition {
    let policy = link.second_paths.as_deref();
    let runs_min = policy.map_or(1, |policy| policy.limits().runs_min.max(1));
    let windows = [
        (Window::HalfSecond, runs_min),
        (Window::Tenth, runs_min.max(3) - 1),
    ];
    let sudden = windows.map(|(window, runs_min)| {
        let shown = link.hop.shown_loss(now, window);
        let share = shown.lost * 1_000_000 / shown.due.max(1);
        if shown.runs >= runs_min { share } else { 0 }
    });
    let sudden = sudden.into_iter().max().unwrap_or(0);
    HopCondition {
        loss_ppm: u32::try_from(sudden)
            .map_or(u32::MAX, |ppm| ppm.max(link.hop.lasting_loss_ppm(now))),
        rtt_us: link.hop.rtt().as_micros() as u64,
        rise_us: link.hop.rtt_rise().as_micros() as u64,
    }
}

/// A track whose active upstream is on the hop.
struct Weighed {
    track: TrackId,
    active: Source,
    second: Option<Source>,
    stance: Stance,
    is_small: bool,
    priority: u8,
    bps: u64,
}

/// What one look at a hop goes by.
struct Look {
    now: Instant,
    policy: Arc<SecondPathPolicy>,
    loss_ppm: u32,
    /// Media that each hop brings as a second path, bit/s: counted over all tracks when it is first asked for.
    taken_bps: Option<BTreeMap<SessionId, u64>>,
}

impl Look {
    fn taken_over(&mut self, datapath: &mut Datapath, session: SessionId) -> u64 {
        let now = self.now;
        let taken = self.taken_bps.get_or_insert_with(|| {
            let mut taken = BTreeMap::new();
            for entry in datapath.relay.tracks.values_mut() {
                if let Some(second) = entry.upstreams.second {
                    *taken.entry(second.source.session).or_default() +=
                        entry.upstreams.rate.bps(now);
                }
            }
            taken
        });
        taken.get(&session).copied().unwrap_or(0)
    }

    fn note_begun(&mut self, session: SessionId, bps: u64) {
        if let Some(taken) = &mut self.taken_bps {
            *taken.entry(session).or_default() += bps;
        }
    }

    fn note_ended(&mut self, session: SessionId, bps: u64) {
        if let Some(bps_taken) = self.taken_bps.as_mut().and_then(|t| t.get_mut(&session)) {
            *bps_taken = bps_taken.saturating_sub(bps);
        }
    }
}

/// Take and give up second paths of the tracks that a hop brings.
pub(crate) fn weigh(datapath: &mut Datapath, now: Instant, session: SessionId) {
    let Some(link) = link(datapath, session) else {
        return;
    };
    let policy = link.second_paths.clone().unwrap_or_default();
    let condition = condition(link, now);
    let mut tracks = tracks_of(datapath, now, session, (&policy, condition));
    tracks.sort_by_key(|t| (!t.is_small, t.priority, t.second.is_none(), t.bps, t.track));
    let limits = *policy.limits();
    let mut look = Look {
        now,
        policy,
        loss_ppm: condition.loss_ppm,
        taken_bps: None,
    };
    let all_bps: u64 = tracks.iter().map(|t| t.bps).sum();
    let share_bps = all_bps.saturating_mul(limits.percent_max.into()) / 100;
    let (mut count, mut taken_bps) = (0, 0);
    for weighed in &tracks {
        let slack = if weighed.second.is_some() {
            share_bps / SLACK_SHARE
        } else {
            0
        };
        let fits = count < limits.tracks_max && taken_bps + weighed.bps <= share_bps + slack;
        if keep_or_take(datapath, &mut look, weighed, fits) {
            count += 1;
            taken_bps += weighed.bps;
        }
    }
    if let Some(link) = self::link(datapath, session) {
        link.is_paired = count > 0;
    }
}

fn tracks_of(
    datapath: &mut Datapath,
    now: Instant,
    session: SessionId,
    (policy, of_hop): (&SecondPathPolicy, HopCondition),
) -> Vec<Weighed> {
    let Some((_, conn)) = datapath.conns.of_session(session) else {
        return Vec::new();
    };
    let bound: Vec<_> = conn
        .bindings
        .values()
        .map(|b| (b.track, b.source))
        .collect();
    let weighed = |(track, active): (TrackId, Source)| {
        let upstreams = upstreams(datapath, track).filter(|u| u.active == Some(active))?;
        let bps = upstreams.rate.bps(now);
        let is_small = bps <= policy.limits().small_bps_max;
        let late_us = u64::from(upstreams.lateness.rise_ms(now)) * 1_000;
        let (small, large) = policy.stances(HopCondition {
            rise_us: of_hop.rise_us.max(late_us),
            ..of_hop
        });
        Some(Weighed {
            track,
            active,
            second: upstreams.second.map(|second| second.source),
            stance: if is_small { small } else { large },
            is_small,
            priority: upstreams.priority,
            bps,
        })
    };
    bound.into_iter().filter_map(weighed).collect()
}

/// Whether the track has a second path from now on.
fn keep_or_take(datapath: &mut Datapath, look: &mut Look, weighed: &Weighed, fits: bool) -> bool {
    let (track, now) = (weighed.track, look.now);
    if weighed.second.is_none() {
        let to = if fits && weighed.stance == Stance::On {
            choose(datapath, look, weighed)
        } else {
            None
        };
        if let Some(to) = to {
            begin(datapath, now, track, to);
            look.note_begun(to.session, weighed.bps);
        }
        return to.is_some();
    }
    let Some(second) = upstreams(datapath, track).and_then(|u| u.second.as_mut()) else {
        return false;
    };
    if weighed.stance != Stance::Off {
        second.wanted_at = now;
    }
    let second = *second;
    if !fits {
        end(datapath, now, track);
        look.note_ended(second.source.session, weighed.bps);
        return false;
    }
    if now.saturating_duration_since(second.wanted_at) < look.policy.clear() {
        return true;
    }
    if second.brought > second.beaten && !second.is_overlap {
        // The one that is to be given up is the other one.
        begin_move(
            datapath,
            now,
            track,
            (second.source, false),
            SwitchCause::Delay,
        );
    } else {
        end(datapath, now, track);
        look.note_ended(second.source.session, weighed.bps);
    }
    false
}

/// The standby that is to send too: one that can feed, whose hop loses less; rather one that has the track by
/// another edge, and then in the order of the agent.
fn choose(datapath: &mut Datapath, look: &mut Look, weighed: &Weighed) -> Option<Source> {
    let (now, bps_max) = (look.now, look.policy.limits().bps_max);
    let upstreams = upstreams(datapath, weighed.track)?;
    if upstreams.moving.is_some() || upstreams.failed.is_some() {
        return None;
    }
    let mut standbys: Vec<Source> = upstreams.standbys().collect();
    standbys.sort_by_key(|standby| upstreams.leads_through(*standby, weighed.active));
    standbys.into_iter().find(|standby| {
        let is_better = link(datapath, standby.session)
            .is_some_and(|link| condition(link, now).loss_ppm <= look.loss_ppm);
        is_better
            && standby.session != weighed.active.session
            && can_feed(datapath, weighed.track, *standby)
            && look.taken_over(datapath, standby.session) + weighed.bps <= bps_max
    })
}

/// Both send from now on.
fn begin(datapath: &mut Datapath, now: Instant, track: TrackId, to: Source) {
    let start = resume_location(datapath, now, track);
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    upstreams.second = Some(Second {
        source: to,
        wanted_at: now,
        is_overlap: false,
        brought: 0,
        beaten: 0,
    });
    forward(datapath, now, to, true, start);
    report(datapath, track, to, true);
}

/// After a planned move the one before goes on for a moment beside the new one: what that can carry shows only when
/// it has to. False: it is not to go on, or cannot.
pub(crate) fn overlap(
    datapath: &mut Datapath,
    now: Instant,
    track: TrackId,
    before: Source,
) -> bool {
    let Some(upstreams) = upstreams(datapath, track) else {
        return false;
    };
    let is_free = upstreams.second.is_none() && upstreams.has_standby(before);
    let Some(active) = upstreams.active.filter(|_| is_free) else {
        return false;
    };
    let policy = link(datapath, active.session).and_then(|link| link.second_paths.clone());
    let Some(policy) = policy.filter(|policy| policy.is_in_use()) else {
        return false;
    };
    if !can_feed(datapath, track, before) {
        return false;
    }
    let Some(upstreams) = self::upstreams(datapath, track) else {
        return false;
    };
    upstreams.second = Some(Second {
        source: before,
        // Given up as if it had been unwanted for so long already.
        wanted_at: now - policy.clear().saturating_sub(OVERLAP),
        is_overlap: true,
        brought: 0,
        beaten: 0,
    });
    report(datapath, track, before, true);
    watch(datapath, track);
    true
}

/// One path is enough: the second one stands by again.
pub(crate) fn end(datapath: &mut Datapath, now: Instant, track: TrackId) {
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    let Some(second) = upstreams.second.take() else {
        return;
    };
    let active = upstreams.active;
    let over = active.map(|active| upstreams.given_up.leave_to(active));
    let moves = upstreams
        .moving
        .is_some_and(|moving| moving.to == second.source);
    // A move to it was not asked for, since it sends: now it sends for the move.
    if !moves {
        forward(datapath, now, second.source, false, None);
    }
    report(datapath, track, second.source, false);
    give_up(datapath, track, over.unwrap_or_default());
}

/// The second path of a track is silent, or cannot feed it any more.
pub(crate) fn end_if(datapath: &mut Datapath, now: Instant, track: TrackId, source: Source) {
    if upstreams(datapath, track).is_some_and(|u| u.is_second(source)) {
        end(datapath, now, track);
    }
}

/// A track has another active upstream: if it was the second one, there is none any more. Whether that one sends
/// already all that is missing.
pub(crate) fn take_over(datapath: &mut Datapath, track: TrackId, to: Source) -> bool {
    let Some(upstreams) = upstreams(datapath, track) else {
        return false;
    };
    if !upstreams.is_second(to) {
        return false;
    }
    upstreams.second = None;
    // What it has given up it is to be asked for again: nobody else brings it.
    upstreams.given_up.leave_to(to).is_empty()
}

/// Look after a track that has two paths although its hop may be clean.
pub(crate) fn watch(datapath: &mut Datapath, track: TrackId) {
    let Some(upstreams) = upstreams(datapath, track) else {
        return;
    };
    let active = upstreams.active.filter(|_| upstreams.second.is_some());
    if let Some(link) = active.and_then(|active| link(datapath, active.session)) {
        link.is_paired = true;
    }
}

fn give_up(datapath: &mut Datapath, track: TrackId, over: Vec<(Place, u32)>) {
    for (place, code) in over {
        let end = End::Reset { code };
        datapath.relay.end_subgroup(track, place, end, false);
    }
}

fn report(datapath: &mut Datapath, track: TrackId, source: Source, on: bool) {
    let Source { session, alias } = source;
    datapath.ctx.emit(Event::SecondPath {
        track,
        session,
        alias,
        on,
    });
}

#[cfg(test)]
mod tests {
    use crate::command::CacheLimits;
    use crate::conn::Binding;
    use crate::pair::Second;
    use crate::relay::Relay;
    use crate::track::{End, Track};
    use crate::upstreams::Source;
    use std::time::Instant;

    const TRACK: u64 = 1;

    fn binding(session: u64, is_standby: bool) -> Binding {
        Binding {
            track: TRACK,
            default_priority: 128,
            restart_allowed: false,
            source: Source { session, alias: 7 },
            is_standby,
        }
    }

    fn end(relay: &Relay, (group, subgroup): (u64, u64)) -> Option<End> {
        relay.tracks[&TRACK].track.subgroup(group, subgroup)?.end
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
    fn where_two_send_a_subgroup_is_over_when_both_gave_it_up_and_no_other_standby_speaks() {
        let (mut relay, now) = (Relay::default(), Instant::now());
        relay.add_track(
            TRACK,
            Track::new(CacheLimits::default(), Default::default()),
        );
        let (active, second, other) = (binding(1, false), binding(2, true), binding(3, true));
        let over = Some(End::Reset { code: 2 });
        let upstreams = |relay: &mut Relay, is_paired: bool| {
            let entry = relay.tracks.get_mut(&TRACK).expect("a track");
            entry.upstreams.activate(active.source);
            entry.upstreams.second = is_paired.then_some(Second {
                source: second.source,
                wanted_at: now,
                is_overlap: false,
                brought: 0,
                beaten: 0,
            });
        };
        upstreams(&mut relay, false);
        relay.give_up(now, second, (0, 0), 2);
        assert_eq!(end(&relay, (0, 0)), None);
        relay.give_up(now, active, (0, 0), 2);
        assert_eq!(end(&relay, (0, 0)), over);
        upstreams(&mut relay, true);
        for pair in [[active, second], [second, active]] {
            let place = (pair[0].source.session, 0);
            relay.give_up(now, pair[0], place, 2);
            relay.give_up(now, pair[0], place, 2);
            relay.give_up(now, other, place, 2);
            assert_eq!(end(&relay, place), None);
            relay.give_up(now, pair[1], place, 2);
            assert_eq!(end(&relay, place), over);
        }
    }
}
