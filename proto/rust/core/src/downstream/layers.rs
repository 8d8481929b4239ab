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

use std::time::{Duration, Instant};

/// How long a viewer has to keep up before it gets a layer back.
pub(crate) const UP_AFTER: Duration = Duration::from_secs(2);
/// The longest such time, after layers that had to go again.
pub(crate) const UP_AFTER_MAX: Duration = Duration::from_secs(64);
/// A layer that goes within this time of coming back came back too early.
pub(crate) const TRIAL: Duration = Duration::from_secs(10);

/// The layers of one viewer's track.
#[derive(Debug)]
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

    /// The first waiting byte has waited so long: whether a layer is given up for it.
    pub(crate) fn waited(&mut self, now: Instant, wait: Duration, layer_ms_max: u32) -> bool {
        if wait <= Duration::from_millis(u64::from(layer_ms_max)) {
            return false;
        }
        self.behind_at = Some(now);
        let forwarded = self.limit.unwrap_or(self.highest);
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
        assert!(layers.waited(t, ms(201), LIMIT_MS));
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
            assert!(layers.waited(t, ms(500), LIMIT_MS));
            assert!(!layers.begins(t + expected - ms(1), 1));
            t += expected;
            assert!(layers.begins(t, 1));
            t += ms(300);
            expected = (expected * 2).min(UP_AFTER_MAX);
        }
        assert_eq!(layers.up_after, UP_AFTER_MAX);
        assert!(layers.waited(t + TRIAL, ms(500), LIMIT_MS));
        assert_eq!(layers.up_after, UP_AFTER);
    }

    #[test]
    fn a_track_without_layers_has_nothing_to_give_up() {
        let (t, mut layers) = (epoch(), Layers::default());
        layers.begins(t, 0);
        assert!(!layers.waited(t, ms(5_000), LIMIT_MS));
        assert!(!layers.withholds(0) && layers.given_up() == 0);
    }

    proptest! {
        /// Whatever a link does: the base is never withheld, layers go from the highest down, and within
        /// any minute a viewer that is behind half the time sees a bounded number of changes.
        #[test]
        fn the_base_stays_and_noise_does_not_make_it_swing(
            waits in proptest::collection::vec(0u64..1_000, 1..3_000),
            top in 1u64..4,
        ) {
            let (start, mut layers, mut ups) = (epoch(), Layers::default(), 0u32);
            for (step, wait) in waits.iter().enumerate() {
                let now = start + ms(100) * step as u32;
                for subgroup in 0..=top {
                    ups += u32::from(layers.begins(now, subgroup));
                }
                let before = layers.given_up();
                let went = layers.waited(now, ms(*wait), LIMIT_MS);
                prop_assert_eq!(layers.given_up(), before + u64::from(went));
                prop_assert!(*wait > u64::from(LIMIT_MS) || !went);
                prop_assert!(!layers.withholds(0));
                let withheld: Vec<bool> = (0..=top).map(|s| layers.withholds(s)).collect();
                prop_assert!(withheld.is_sorted(), "a lower layer went before a higher one");
            }
            let seconds = waits.len() as u32 / 10 + 1;
            prop_assert!(ups <= seconds / UP_AFTER.as_secs() as u32);
        }
    }
}
