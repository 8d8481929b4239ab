//! Which layers of a track a viewer is given: subgroup 0 is the base, every higher one a layer that the
//! lower ones do not need.
//!
//! A publisher that puts disposable pictures into subgroups of their own lets an edge thin a track for one
//! viewer without breaking its picture. What decides is how long the first waiting byte of the viewer has
//! waited: longer than `layer_ms_max` and the highest layer goes, at once; the next one goes if the wait is
//! as long at the next look. A layer comes back when the viewer has kept up for a while, and only in groups
//! of which none of it has been withheld: of each group a viewer gets a layer from its beginning or not at all.
//!
//! A link that carries the base but not the layer would make this swing for ever. So a layer that has to go
//! again soon after it came back waits twice as long the next time, up to `UP_AFTER_MAX`; one that stayed is
//! trusted again. The rate of the link is not asked: it is known too late behind a shrinking link, and not
//! at all while the viewer takes less than the link has; waiting shows both. Tracks whose groups have one
//! subgroup, such as sound, have nothing to give up here.
//!
//! A layer that has just come back is also how the congestion controller learns that the link carries more: its
//! rate rises only while something waits for it. So for as long as it takes to rise (`PROBE_ROUNDS`) the layer
//! itself may wait longer. What is below goes first and does not wait for it; if that does wait, the layer goes.

use std::time::{Duration, Instant};

/// How long a viewer has to keep up before it gets a layer back.
pub(crate) const UP_AFTER: Duration = Duration::from_secs(2);
/// The longest such time, after layers that had to go again.
pub(crate) const UP_AFTER_MAX: Duration = Duration::from_secs(64);
/// Round trips in which a controller doubles its rate, and the bounds of that time.
const PROBE_ROUNDS: u32 = 16;
const PROBE_MIN: Duration = Duration::from_millis(400);
const PROBE_MAX: Duration = Duration::from_secs(3);
/// A layer that goes within this time of coming back came back too early.
pub(crate) const TRIAL: Duration = Duration::from_secs(10);

/// How long the first waiting byte has waited: of the highest layer that is forwarded, and of all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) top: Duration,
    pub(crate) below: Duration,
}

/// How long a layer that has come back may wait more, so that the rate can follow.
pub(crate) fn probe_time(rtt: Duration) -> Duration {
    (rtt * PROBE_ROUNDS).clamp(PROBE_MIN, PROBE_MAX)
}

/// The layers of one viewer's track.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    /// The highest subgroup that is forwarded; `None` is all.
    limit: Option<u64>,
    /// The highest subgroup that the track has shown.
    highest: u64,
    /// When the viewer was last seen behind.
    behind_at: Option<Instant>,
    up_at: Option<Instant>,
    up_after: Duration,
}

impl Default for Layers {
    fn default() -> Self {
        Layers {
            limit: None,
            highest: 0,
            behind_at: None,
            up_at: None,
            up_after: UP_AFTER,
        }
    }
}

impl Layers {
    /// How many layers are withheld.
    pub(crate) fn given_up(&self) -> u64 {
        self.limit
            .map_or(0, |limit| self.highest.saturating_sub(limit))
    }

    /// The highest subgroup that is forwarded.
    pub(crate) fn top(&self) -> u64 {
        self.limit.unwrap_or(self.highest)
    }

    /// Whether a subgroup is withheld.
    pub(crate) fn withholds(&self, subgroup: u64) -> bool {
        self.limit.is_some_and(|limit| subgroup > limit)
    }

    /// A subgroup that this viewer has not begun is there; whether a layer comes back with it.
    pub(crate) fn begins(&mut self, now: Instant, subgroup: u64) -> bool {
        self.highest = self.highest.max(subgroup);
        let Some(limit) = self.limit else {
            return false;
        };
        let since = self.behind_at.max(self.up_at);
        let calm = since.is_none_or(|at| now.saturating_duration_since(at) >= self.up_after);
        if subgroup != limit + 1 || !calm {
            return false;
        }
        self.limit = (subgroup < self.highest).then_some(subgroup);
        self.up_at = Some(now);
        true
    }

    /// The first waiting bytes have waited so long: whether a layer is given up for it. `probe`: see
    /// [`probe_time`].
    pub(crate) fn waited(
        &mut self,
        now: Instant,
        waits: Waits,
        layer_ms_max: u32,
        probe: Duration,
    ) -> bool {
        let most = Duration::from_millis(u64::from(layer_ms_max));
        let since_up = self.up_at.map(|at| now.saturating_duration_since(at));
        let is_probing = since_up.is_some_and(|since| since <= most + 2 * probe);
        let most_of_top = if is_probing { most + probe } else { most };
        if waits.below <= most && waits.top <= most_of_top {
            return false;
        }
        self.behind_at = Some(now);
        let forwarded = self.top();
        if forwarded == 0 {
            return false;
        }
        if let Some(at) = self.up_at.take() {
            let was_early = now.saturating_duration_since(at) < TRIAL;
            self.up_after = if was_early {
                (self.up_after * 2).min(UP_AFTER_MAX)
            } else {
                UP_AFTER
            };
        }
        self.limit = Some(forwarded - 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT_MS: u32 = 200;
    const PROBE: Duration = Duration::from_millis(400);

    /// The first byte of the highest layer has waited so long: whether the layer goes.
    fn top_waited(layers: &mut Layers, now: Instant, wait: Duration) -> bool {
        let waits = Waits {
            top: wait,
            below: Duration::ZERO,
        };
        layers.waited(now, waits, LIMIT_MS, PROBE)
    }

    /// So long have the subgroups below it waited.
    fn below_waited(layers: &mut Layers, now: Instant, wait: Duration) -> bool {
        let waits = Waits {
            top: Duration::ZERO,
            below: wait,
        };
        layers.waited(now, waits, LIMIT_MS, PROBE)
    }

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn epoch() -> Instant {
        #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
        Instant::now()
    }

    #[test]
    fn a_layer_goes_at_once_and_comes_back_after_the_calm() {
        let (t, mut layers) = (epoch(), Layers::default());
        layers.begins(t, 1);
        assert!(!top_waited(&mut layers, t, ms(200)));
        assert!(top_waited(&mut layers, t, ms(201)));
        assert!(layers.withholds(1) && !layers.withholds(0));
        assert!(!layers.begins(t + UP_AFTER - ms(1), 1));
        assert!(layers.begins(t + UP_AFTER, 1));
        assert!(!layers.withholds(1));
        assert_eq!(layers.given_up(), 0);
    }

    #[test]
    fn a_layer_that_goes_again_waits_twice_as_long_and_never_longer_than_the_most() {
        let (mut t, mut layers) = (epoch(), Layers::default());
        layers.begins(t, 1);
        let mut expected = UP_AFTER;
        for _ in 0..9 {
            assert!(below_waited(&mut layers, t, ms(500)));
            assert!(!layers.begins(t + expected - ms(1), 1));
            t += expected;
            assert!(layers.begins(t, 1));
            t += ms(300);
            expected = (expected * 2).min(UP_AFTER_MAX);
        }
        assert_eq!(layers.up_after, UP_AFTER_MAX);
        assert!(top_waited(&mut layers, t + TRIAL, ms(500)));
        assert_eq!(layers.up_after, UP_AFTER);
    }

    #[test]
    fn a_layer_that_has_just_come_back_may_wait_for_the_rate_to_follow_and_nothing_below_it_may() {
        let (t, mut layers) = (epoch(), Layers::default());
        layers.begins(t, 1);
        assert!(top_waited(&mut layers, t, ms(201)));
        let back = t + UP_AFTER;
        assert!(layers.begins(back, 1));
        assert!(!top_waited(&mut layers, back + ms(500), ms(500)));
        assert!(!top_waited(&mut layers, back + ms(600), ms(600)));
        let mut patient = layers.clone();
        assert!(top_waited(&mut patient, back + ms(601), ms(601)));
        let mut later = layers.clone();
        assert!(top_waited(&mut later, back + ms(1_001), ms(201)));
        assert!(below_waited(&mut layers, back + ms(500), ms(201)));
    }

    #[test]
    fn a_track_without_layers_has_nothing_to_give_up() {
        let (t, mut layers) = (epoch(), Layers::default());
        layers.begins(t, 0);
        assert!(!top_waited(&mut layers, t, ms(5_000)));
        assert!(!layers.withholds(0) && layers.given_up() == 0);
    }

    proptest! {
        /// Whatever a link does: the base is never withheld, layers go from the highest down, and within
        /// any minute a viewer that is behind half the time sees a bounded number of changes.
        #[test]
        fn the_base_stays_and_noise_does_not_make_it_swing(
            waits in proptest::collection::vec((0u64..1_000, 0u64..400), 1..3_000),
            top in 1u64..4,
        ) {
            let (start, mut layers, mut ups) = (epoch(), Layers::default(), 0u32);
            for (step, (top_wait, below_wait)) in waits.iter().enumerate() {
                let now = start + ms(100) * step as u32;
                for subgroup in 0..=top {
                    ups += u32::from(layers.begins(now, subgroup));
                }
                let before = layers.given_up();
                let waits = Waits { top: ms(*top_wait), below: ms(*below_wait) };
                let went = layers.waited(now, waits, LIMIT_MS, PROBE);
                prop_assert_eq!(layers.given_up(), before + u64::from(went));
                let least = (*top_wait).max(*below_wait);
                prop_assert!(least > u64::from(LIMIT_MS) || !went);
                prop_assert!(*below_wait <= u64::from(LIMIT_MS) || went || before == top);
                prop_assert!(!layers.withholds(0));
                let withheld: Vec<bool> = (0..=top).map(|s| layers.withholds(s)).collect();
                prop_assert!(withheld.is_sorted(), "a lower layer went before a higher one");
            }
            let seconds = waits.len() as u32 / 10 + 1;
            prop_assert!(ups <= seconds / UP_AFTER.as_secs() as u32);
        }
    }
}
