//! Does the rate cause the loss? Found out by a test, since both look alike from outside.
//!
//! Loss that lasts is suspected. The test sends a little less than was delivered: a policer then drops
//! nothing, while random loss stays what it was. The rate stays capped if loss fell to a third; the cap
//! rises by itself while nothing is lost. Loss found innocent is not tested again before it grew by
//! half, and ever more rarely.

use super::round::{Round, scale};
use std::time::{Duration, Instant};

/// Loss that is worth a test, in thousandths.
const SUSPECT_PERMILLE: u64 = 20;
/// A window of judgement has at least this many packets and bytes lost of which several bursts.
const WINDOW_PACKETS_MIN: u64 = 100;
const WINDOW_MIN: Duration = Duration::from_millis(400);
/// Packets that should be lost in a test if the rate does not matter; a burst counts several.
const TEST_LOST_MIN: u64 = 12;
/// A test is over at the latest after this long.
const TEST_MAX: Duration = Duration::from_millis(2_500);
/// Below what was delivered by a twentieth: enough for a policer's bucket to fill.
const TEST_RATE: (u64, u64) = (95, 100);
/// Time to the next test of innocent loss, doubled each time.
const RETRY: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(320);
/// How long a cap stands before it rises, and by how much a window.
const CAP_HOLD: Duration = Duration::from_secs(3);
const CAP_UP: (u64, u64) = (102, 100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Loss is watched; how many windows in a row were suspect.
    Watching { suspect: u32 },
    /// The rate is held just below what was delivered.
    Testing { since: Instant, settled: bool },
    /// The path takes no more than the cap.
    Capped { since: Instant },
}

/// What finds out.
#[derive(Clone, Debug)]
pub(super) struct Policer {
    loss_max_permille: u64,
    state: State,
    cap: Option<u64>,
    /// Loss before the test, and loss that was found innocent, in thousandths.
    before_permille: u64,
    innocent_permille: u64,
    retry_at: Option<Instant>,
    retry: Duration,
    window_since: Option<Instant>,
    acked: u64,
    lost: u64,
    packets: u64,
}

impl Policer {
    pub(super) fn new(loss_max_permille: u32) -> Policer {
        Policer {
            loss_max_permille: u64::from(loss_max_permille),
            state: State::Watching { suspect: 0 },
            cap: None,
            before_permille: 0,
            innocent_permille: 0,
            retry_at: None,
            retry: RETRY,
            window_since: None,
            acked: 0,
            lost: 0,
            packets: 0,
        }
    }

    /// The rate that must not be exceeded, bytes/s.
    pub(super) fn cap(&self) -> Option<u64> {
        self.cap
    }

    /// A round ended; `has_queue` if delay explains its losses.
    pub(super) fn end_round(&mut self, now: Instant, round: &Round, has_queue: bool) {
        if has_queue && matches!(self.state, State::Watching { .. }) {
            return self.clear();
        }
        if let State::Testing { since, settled } = self.state
            && !settled
        {
            // What was sent before the test is still coming back.
            if round.start >= since {
                self.state = State::Testing {
                    since: now,
                    settled: true,
                };
                self.clear();
            }
            return;
        }
        let since = *self.window_since.get_or_insert(round.start);
        self.acked = self.acked.saturating_add(round.acked);
        self.lost = self.lost.saturating_add(round.lost);
        self.packets += round.packets;
        let took = now.saturating_duration_since(since);
        if took >= WINDOW_MIN && self.packets >= self.packets_min(took) {
            self.judge(now, took);
            self.clear();
        }
    }

    fn packets_min(&self, took: Duration) -> u64 {
        match self.state {
            State::Testing { .. } if took < TEST_MAX => {
                (TEST_LOST_MIN * 1_000 / self.before_permille.max(1)).max(WINDOW_PACKETS_MIN)
            }
            State::Testing { .. } => 0,
            _ => WINDOW_PACKETS_MIN,
        }
    }

    fn clear(&mut self) {
        self.window_since = None;
        (self.acked, self.lost, self.packets) = (0, 0, 0);
    }

    fn judge(&mut self, now: Instant, took: Duration) {
        let total = self.acked.saturating_add(self.lost).max(1);
        let permille = scale(self.lost, 1_000, total);
        let delivered = super::round::per_second(self.acked, took);
        match self.state {
            State::Watching { suspect } => self.watch(now, suspect, permille, delivered),
            State::Testing { .. } => self.conclude(now, permille),
            State::Capped { since } => self.hold(now, since, permille, delivered),
        }
    }

    fn watch(&mut self, now: Instant, suspect: u32, permille: u64, delivered: u64) {
        let is_known = permille <= self.innocent_permille + self.innocent_permille / 2 + 20;
        let waits = self.retry_at.is_some_and(|at| now < at) && is_known;
        if permille < SUSPECT_PERMILLE || (waits && permille <= self.loss_max_permille) {
            self.state = State::Watching { suspect: 0 };
            return;
        }
        if suspect == 0 {
            self.before_permille = permille;
            self.state = State::Watching { suspect: 1 };
            return;
        }
        self.before_permille = (self.before_permille + permille) / 2;
        self.cap = Some(scale(delivered, TEST_RATE.0, TEST_RATE.1));
        self.state = State::Testing {
            since: now,
            settled: false,
        };
    }

    fn conclude(&mut self, now: Instant, permille: u64) {
        let is_cause = permille < self.before_permille / 3;
        if is_cause || permille > self.loss_max_permille {
            self.state = State::Capped { since: now };
        } else {
            self.acquit(now, permille);
        }
    }

    fn acquit(&mut self, now: Instant, permille: u64) {
        self.innocent_permille = permille.max(self.before_permille);
        self.retry_at = now.checked_add(self.retry);
        self.retry = (self.retry * 2).min(RETRY_MAX);
        self.cap = None;
        self.state = State::Watching { suspect: 0 };
    }

    fn hold(&mut self, now: Instant, since: Instant, permille: u64, delivered: u64) {
        let Some(cap) = self.cap else { return };
        if permille > self.loss_max_permille {
            self.cap = Some(cap.min(scale(delivered, TEST_RATE.0, TEST_RATE.1)));
            self.state = State::Capped { since: now };
        } else if permille >= SUSPECT_PERMILLE.max(self.before_permille / 2) {
            // At or below the cap, and yet lost: it was chance that the test was clean.
            let rose = now.saturating_duration_since(since) > CAP_HOLD;
            if rose {
                self.cap = Some(scale(delivered.min(cap), TEST_RATE.0, TEST_RATE.1));
                self.state = State::Capped { since: now };
            } else {
                self.acquit(now, permille);
            }
        } else if now.saturating_duration_since(since) > CAP_HOLD {
            self.rise(now, cap, permille, delivered);
        }
    }

    fn rise(&mut self, now: Instant, cap: u64, permille: u64, delivered: u64) {
        if permille >= SUSPECT_PERMILLE / 2 {
            self.cap = Some(scale(cap, TEST_RATE.0, TEST_RATE.1));
            self.state = State::Capped { since: now };
        } else if delivered > cap / 2 {
            self.cap = Some(scale(cap, CAP_UP.0, CAP_UP.1));
        }
    }
}
