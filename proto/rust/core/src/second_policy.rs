//! Which tracks take a second path at the same time: a table, computed off the hot path and pushed
//! (`proto/recovery/second_path.py`), and its limits.
//!
//! Rows are tried in order; the first whose bounds hold for what is measured of the hop counts, or the last.
//! Each says what becomes of tracks of little rate (sound, catalogs) and of all others. *On* takes a second path
//! where there is one, *keep* neither takes nor gives up, *off* gives it up once it has lasted. The band between
//! on and off is the hysteresis, and it stands in the table where it can be read.

use std::fmt;
use std::time::Duration;

/// Rows of one table at most.
pub const SECOND_PATH_ROWS_MAX: usize = 256;

/// What a row wants of a class of tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stance {
    /// One path is enough.
    #[default]
    Off,
    /// Whoever has two keeps them.
    Keep,
    /// Two paths, if there are two.
    On,
}

/// One row: where it applies, and what is wanted then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondPathRow {
    /// Applies up to this share lost in the direction of the media, millionths.
    pub loss_ppm_max: u32,
    /// Applies up to this smoothed round trip, microseconds; 0 for any.
    pub rtt_us_max: u64,
    /// Applies while media comes at most this much later than it did within the last seconds, microseconds; 0
    /// for any.
    pub rise_us_max: u64,
    /// Tracks of at most [`SecondPathLimits::small_bps_max`].
    pub small: Stance,
    /// All others.
    pub large: Stance,
}

/// What the second paths may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondPathLimits {
    /// Rate up to which a track counts as small.
    pub small_bps_max: u64,
    /// Tracks of one hop that have a second path at most.
    pub tracks_max: u32,
    /// Share of a hop's media that is taken a second time at most.
    pub percent_max: u32,
    /// Media that one hop brings as a second path at most.
    pub bps_max: u64,
    /// How long a row has to say *off* without a break before a second path is given up.
    pub clear_ms: u64,
    /// Runs of lost datagrams within half a second without which such a short time says nothing.
    pub runs_min: u64,
}

impl Default for SecondPathLimits {
    fn default() -> Self {
        SecondPathLimits {
            small_bps_max: 256_000,
            tracks_max: 256,
            percent_max: 100,
            bps_max: 50_000_000,
            clear_ms: 10_000,
            runs_min: 3,
        }
    }
}

/// What was measured of a hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopCondition {
    /// Share lost, millionths.
    pub loss_ppm: u32,
    /// Smoothed round trip, microseconds.
    pub rtt_us: u64,
    /// How much of it is above the least of the last ten seconds, or how much later the track's chunks come than
    /// they did (the greater of the two), microseconds.
    pub rise_us: u64,
}

/// The table of one hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondPathPolicy {
    rows: Vec<SecondPathRow>,
    limits: SecondPathLimits,
}

/// A table that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondPathError {
    /// The field and its rule.
    pub rule: &'static str,
}

impl fmt::Display for SecondPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "second path policy: {}", self.rule)
    }
}

impl std::error::Error for SecondPathError {}

impl SecondPathPolicy {
    /// A table; without rows nothing takes a second path.
    ///
    /// # Errors
    /// Names the rule that is broken.
    pub fn new(
        rows: Vec<SecondPathRow>,
        limits: SecondPathLimits,
    ) -> Result<SecondPathPolicy, SecondPathError> {
        let refuse = |rule| Err(SecondPathError { rule });
        if rows.len() > SECOND_PATH_ROWS_MAX {
            return refuse("there must be at most 256 rows");
        }
        if limits.percent_max > 100 {
            return refuse("percent_max must be at most 100");
        }
        if !(100..=600_000).contains(&limits.clear_ms) {
            return refuse("clear_ms must be from 100 to 600000");
        }
        Ok(SecondPathPolicy { rows, limits })
    }

    /// Whether anything may take a second path.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.rows.is_empty()
    }

    /// What it may cost.
    pub fn limits(&self) -> &SecondPathLimits {
        &self.limits
    }

    /// What is wanted of small tracks and of all others.
    pub fn stances(&self, measured: HopCondition) -> (Stance, Stance) {
        let fits = |row: &&SecondPathRow| {
            measured.loss_ppm <= row.loss_ppm_max
                && (row.rtt_us_max == 0 || measured.rtt_us <= row.rtt_us_max)
                && (row.rise_us_max == 0 || measured.rise_us <= row.rise_us_max)
        };
        let found = self.rows.iter().find(fits).or(self.rows.last());
        found.map_or_else(Default::default, |row| (row.small, row.large))
    }

    pub(crate) fn clear(&self) -> Duration {
        Duration::from_millis(self.limits.clear_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(loss_ppm_max: u32, rtt_us_max: u64, rise_us_max: u64, large: Stance) -> SecondPathRow {
        SecondPathRow {
            loss_ppm_max,
            rtt_us_max,
            rise_us_max,
            small: Stance::On,
            large,
        }
    }

    #[test]
    fn the_first_row_whose_bounds_hold_counts_and_else_the_last() {
        let rows = vec![
            row(10_000, 120_000, 40_000, Stance::Off),
            row(30_000, 0, 40_000, Stance::Keep),
            row(1_000_000, 0, 0, Stance::On),
        ];
        let policy = SecondPathPolicy::new(rows, SecondPathLimits::default()).expect("a table");
        let large = |loss_ppm, rtt_us, rise_us| {
            let measured = HopCondition {
                loss_ppm,
                rtt_us,
                rise_us,
            };
            policy.stances(measured).1
        };
        assert_eq!(large(10_000, 120_000, 40_000), Stance::Off);
        assert_eq!(large(10_000, 120_001, 40_000), Stance::Keep);
        assert_eq!(large(10_001, 0, 0), Stance::Keep);
        assert_eq!(large(0, 0, 40_001), Stance::On);
        assert_eq!(large(2_000_000, 0, 0), Stance::On);
        let none = SecondPathPolicy::default();
        assert_eq!(
            none.stances(HopCondition::default()),
            (Stance::Off, Stance::Off)
        );
    }

    #[test]
    fn a_table_that_cannot_be_is_refused_with_its_rule() {
        let many = vec![row(0, 0, 0, Stance::Off); SECOND_PATH_ROWS_MAX + 1];
        assert!(SecondPathPolicy::new(many, SecondPathLimits::default()).is_err());
        for limits in [
            SecondPathLimits {
                percent_max: 101,
                ..SecondPathLimits::default()
            },
            SecondPathLimits {
                clear_ms: 99,
                ..SecondPathLimits::default()
            },
        ] {
            assert!(SecondPathPolicy::new(Vec::new(), limits).is_err());
        }
    }
}
