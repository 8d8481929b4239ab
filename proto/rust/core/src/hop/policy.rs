//! What to spend on a loss: a table, computed off the hot path and pushed (`proto/recovery/policy.py`).
//!
//! A *round* is what is sent for chunks that were lost together: `k` chunks, each once more, and after them so
//! many further symbols that `symbols[k - 1]` datagrams leave in all. Where the row is *coded* and `k > 1`, the
//! further ones are Reed-Solomon symbols over all `k` (coding.rs), any `k` of the round bring everything; else
//! every chunk leaves `symbols[0]` times. Copies of one chunk are `spacing_us` apart, beyond the length of a burst, for a
//! copy that meets the burst that took the original is wasted; a coded round spreads over `span_us`, which the
//! budget must have to spare.
//!
//! Rows are tried in order; the first whose bounds hold for what is measured counts, or the last. Rows for a loss
//! so small that one copy meets the target spend nothing beyond it, and without losses nothing is
//! spent at all but on what somebody waits for (repair.rs). After a round that failed there are rows of their own:
//! so few rounds come that far that each may fail more often.
//!
//! Rejected: computing the mix here (the model changes more often than the datapath should, and operators want
//! to read it), and rows per frame size (the number of chunks lost says more).

use std::fmt;

/// Chunks in one coded round at most.
pub const ROUND_CHUNKS_MAX: usize = 16;
/// Datagrams of one round at most.
pub const ROUND_SYMBOLS_MAX: u8 = 64;
/// Rows of one table at most.
pub const POLICY_ROWS_MAX: usize = 1_024;
/// Longest spacing and longest wait for more losses, microseconds.
pub const POLICY_WAIT_US_MAX: u32 = 500_000;

/// Datagrams of a round by the number of chunks lost: entry `k - 1` for `k`.
pub type Symbols = [u8; ROUND_CHUNKS_MAX];

/// One row: where it applies, and what is sent then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// Applies up to this share lost, millionths.
    pub loss_ppm_max: u32,
    /// Applies up to this mean length of bursts, thousandths of a datagram; 0 for any.
    pub burst_milli_max: u32,
    /// Applies up to this round trip, microseconds, and another round fits after this one; 0 for any, and none may.
    pub rtt_us_max: u64,
    /// Applies to chunks whose time left is at least this, milliseconds; below it, further rows are tried.
    pub budget_ms_min: u16,
    /// Applies only to chunks that a round has not brought.
    pub again: bool,
    /// Between datagrams of one round, microseconds.
    pub spacing_us: u32,
    /// How long a coded round waits for more losses before its further symbols are made, microseconds.
    pub collect_us: u32,
    /// How long a coded round takes in all, from its first copy to its last symbol, if that many fit,
    /// microseconds.
    pub span_us: u32,
    /// Further symbols are coded over the chunks of the round.
    pub coded: bool,
    /// Of chunks that others depend on.
    pub essential: Symbols,
    /// Of chunks from [`HopPolicy::disposable_priority_min`] on.
    pub disposable: Symbols,
    /// Copies of what is small (audio, marks): never coded, for a copy costs next to nothing.
    pub small_copies: u8,
}

/// The table of one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopPolicy {
    rows: Vec<PolicyRow>,
    /// Chunks of this publisher priority or a greater one are disposable; 256: none.
    disposable_priority_min: u16,
}

/// A table that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Which row, 0 the first.
    pub row: usize,
    /// The field and its rule.
    pub rule: &'static str,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hop policy, row {}: {}", self.row, self.rule)
    }
}

impl std::error::Error for PolicyError {}

impl HopPolicy {
    /// # Errors
    /// Names the first row that cannot be.
    pub fn new(rows: Vec<PolicyRow>, disposable_priority_min: u16) -> Result<Self, PolicyError> {
        let refuse = |row, rule| Err(PolicyError { row, rule });
        if rows.is_empty() || rows.len() > POLICY_ROWS_MAX {
            return refuse(rows.len(), "there must be 1 to 1024 rows");
        }
        for (at, row) in rows.iter().enumerate() {
            let waits = [row.spacing_us, row.collect_us, row.span_us];
            if waits.iter().any(|wait| *wait > POLICY_WAIT_US_MAX) {
                return refuse(
                    at,
                    "spacing_us, collect_us and span_us must be at most 500000",
                );
            }
            if !(1..=ROUND_SYMBOLS_MAX).contains(&row.small_copies) {
                return refuse(at, "small_copies must be from 1 to 64");
            }
            for symbols in [&row.essential, &row.disposable] {
                let sound = |(k, n): (usize, &u8)| *n as usize > k && *n <= ROUND_SYMBOLS_MAX;
                if !symbols.iter().enumerate().all(sound) {
                    return refuse(at, "symbols for k chunks must be from k to 64");
                }
            }
        }
        Ok(HopPolicy {
            rows,
            disposable_priority_min,
        })
    }

    /// One copy, whatever is lost.
    pub fn plain_arq() -> HopPolicy {
        let row = copies_row(u32::MAX, 1);
        HopPolicy {
            rows: vec![PolicyRow {
                small_copies: 1,
                ..row
            }],
            disposable_priority_min: 256,
        }
    }

    /// The row for what was measured of the link; `again`: a round has not brought the chunk.
    pub fn row(
        &self,
        loss_ppm: u32,
        burst_milli: u32,
        rtt_us: u64,
        budget_ms: u16,
        again: bool,
    ) -> &PolicyRow {
        let fits = |row: &&PolicyRow| {
            loss_ppm <= row.loss_ppm_max
                && (row.burst_milli_max == 0 || burst_milli <= row.burst_milli_max)
                && (row.rtt_us_max == 0 || rtt_us <= row.rtt_us_max)
                && budget_ms >= row.budget_ms_min
                && (again || !row.again)
        };
        let found = self.rows.iter().find(fits);
        found.unwrap_or(&self.rows[self.rows.len() - 1])
    }

    /// Whether a chunk of this priority may be missed more often.
    pub fn is_disposable(&self, priority: u8) -> bool {
        u16::from(priority) >= self.disposable_priority_min
    }
}

impl Default for HopPolicy {
    /// Spaced copies only, which every version of the peer understands: so many that `p^m` times `p` is at most
    /// about 1e-4, for bursts of up to 12 ms.
    fn default() -> Self {
        let copies = [
            (10_000, 1),
            (25_000, 2),
            (70_000, 3),
            (130_000, 4),
            (u32::MAX, 5),
        ];
        HopPolicy {
            rows: copies
                .map(|(loss, copies)| copies_row(loss, copies))
                .to_vec(),
            disposable_priority_min: 256,
        }
    }
}

fn copies_row(loss_ppm_max: u32, copies: u8) -> PolicyRow {
    let mut symbols: Symbols = [0; ROUND_CHUNKS_MAX];
    for (k, n) in symbols.iter_mut().enumerate() {
        *n = copies.saturating_mul(k as u8 + 1).min(ROUND_SYMBOLS_MAX);
    }
    PolicyRow {
        loss_ppm_max,
        burst_milli_max: 0,
        rtt_us_max: 0,
        budget_ms_min: 0,
        again: false,
        spacing_us: 12_000,
        collect_us: 0,
        span_us: 0,
        coded: false,
        essential: symbols,
        disposable: symbols,
        small_copies: copies,
    }
}
