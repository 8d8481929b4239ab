//! Does the rate cause the loss? Both kinds look alike from outside, but not when the rate varies.
//!
//! Loss that lasts over several windows is suspected. If what was sent varied by itself, as a film does, that
//! tells: a policer drops what exceeds its rate and nothing else, so loss in windows with little traffic
//! belongs to the path, and is acquitted. Where the rate limited and nothing varied, or where only much traffic
//! lost, it is put to a test: a little less than was delivered is sent. A policer then drops nothing, while
//! random loss stays what it was. The rate stays capped if loss fell to a third; the cap rises by itself while
//! nothing is lost. Loss found innocent is not tried again before it grew by half, and ever more rarely.

use super::round::{Round, scale};
use std::time::{Duration, Instant};

/// Share of a round in the usual loss, and what a single loss may add to it.
const USUAL_SHARE: u64 = 16;
const USUAL_SLACK_PERMILLE: u64 = 5;
/// Loss that is worth a test, in thousandths.
const SUSPECT_PERMILLE: u64 = 20;
/// A window has at least this many packets, and lasts at least so long.
const WINDOW_PACKETS_MIN: u64 = 60;
const WINDOW_MIN: Duration = Duration::from_millis(400);
/// Windows that are looked at together, and how many of them must have lost.
const WINDOWS: usize = 8;
const WINDOWS_LOSSY_MIN: usize = 6;
/// What is sent in a window with little traffic, as a share of the mean.
const LITTLE: (u64, u64) = (85, 100);
/// Bytes that windows with little traffic should have lost, if they lost like the others, for their loss to
/// tell: eight packets.
const TELLING_BYTES: u64 = 9_600;
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
    /// Loss is watched.
    Watching,
    /// The rate is held just below what was delivered.
    Testing { since: Instant, settled: bool },
    /// The path takes no more than the cap.
    Capped { since: Instant },
}

/// What went and came in a stretch of time, bytes and bytes/s.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    acked: u64,
    lost: u64,
    sent_rate: u64,
    /// The rate, and not the application, was what limited.
    is_limited: bool,
}

impl Window {
    fn total(&self) -> u64 {
        self.acked.saturating_add(self.lost)
    }

    fn permille(&self) -> u64 {
        scale(self.lost, 1_000, self.total().max(1))
    }
}

/// What windows of different traffic say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// Little traffic loses as much traffic does.
    OfPath,
    /// Only much traffic loses.
    OfRate,
    None,
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
    /// Loss of rounds without a queue, in thousandths, times [`USUAL_SHARE`].
    usual: u64,
    retry_at: Option<Instant>,
    retry: Duration,
    window_since: Option<Instant>,
    acked: u64,
    lost: u64,
    packets: u64,
    rounds: u32,
    rounds_limited: u32,
    /// The last windows, the newest first, while loss is watched.
    windows: [Window; WINDOWS],
}

impl Policer {
    pub(super) fn new(loss_max_permille: u32) -> Policer {
        Policer {
            loss_max_permille: u64::from(loss_max_permille),
            state: State::Watching,
            cap: None,
            before_permille: 0,
            innocent_permille: 0,
            usual: 0,
            retry_at: None,
            retry: RETRY,
            window_since: None,
            acked: 0,
            lost: 0,
            packets: 0,
            rounds: 0,
            rounds_limited: 0,
            windows: [Window::default(); WINDOWS],
        }
    }

    /// The rate that must not be exceeded, bytes/s.
    pub(super) fn cap(&self) -> Option<u64> {
        self.cap
    }

    /// Whether a test has found that the rate causes the loss.
    pub(super) fn is_found(&self) -> bool {
        matches!(self.state, State::Capped { .. })
    }

    /// Whether a round lost more than belongs to the path as far as that is known.
    pub(super) fn is_unusual(&self, permille: u64) -> bool {
        permille > 2 * self.usual_permille() + USUAL_SLACK_PERMILLE
    }

    fn usual_permille(&self) -> u64 {
        self.usual / USUAL_SHARE
    }

    /// Loss while nothing queues, which is the path's own.
    fn note_usual(&mut self, permille: u64) {
        self.usual = self.usual - self.usual / USUAL_SHARE + permille.min(1_000);
    }

    /// A round ended; `has_queue` if delay explains its losses.
    pub(super) fn end_round(&mut self, now: Instant, round: &Round, has_queue: bool) {
        if !has_queue {
            self.note_usual(round.loss_permille());
        }
        if has_queue && self.state == State::Watching {
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
        self.packets = self.packets.saturating_add(round.packets);
        self.rounds += 1;
        self.rounds_limited += u32::from(round.is_limited());
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
        (self.rounds, self.rounds_limited) = (0, 0);
    }

    fn judge(&mut self, now: Instant, took: Duration) {
        let window = Window {
            acked: self.acked,
            lost: self.lost,
            sent_rate: super::round::per_second(self.acked.saturating_add(self.lost), took),
            is_limited: self.rounds_limited * 2 > self.rounds,
        };
        let delivered = super::round::per_second(self.acked, took);
        match self.state {
            State::Watching => self.watch(now, window),
            State::Testing { .. } => self.conclude(now, window.permille()),
            State::Capped { since } => self.hold(now, since, window.permille(), delivered),
        }
    }

    fn watch(&mut self, now: Instant, window: Window) {
        self.windows.rotate_right(1);
        self.windows[0] = window;
        let lossy = |window: &&Window| window.permille() >= SUSPECT_PERMILLE;
        if self.windows.iter().filter(lossy).count() < WINDOWS_LOSSY_MIN {
            return;
        }
        let permille = sum(self.windows.iter()).permille();
        let is_known = permille <= self.innocent_permille + self.innocent_permille / 2 + 20;
        let waits = self.retry_at.is_some_and(|at| now < at) && is_known;
        if waits && permille <= self.loss_max_permille {
            return;
        }
        let limited = self.windows.iter().filter(|window| window.is_limited);
        let is_limited = limited.count() > WINDOWS / 2;
        match self.evidence() {
            Evidence::OfPath if permille <= self.loss_max_permille => self.acquit(now, permille),
            Evidence::None if !is_limited => {}
            _ => self.begin_test(now, permille),
        }
    }

    fn evidence(&self) -> Evidence {
        let mean = self
            .windows
            .iter()
            .map(|w| w.sent_rate / WINDOWS as u64)
            .sum();
        let bound = scale(mean, LITTLE.0, LITTLE.1);
        let little = sum(self.windows.iter().filter(|w| w.sent_rate < bound));
        let much = sum(self.windows.iter().filter(|w| w.sent_rate >= mean));
        if scale(little.total(), much.permille(), 1_000) < TELLING_BYTES {
            return Evidence::None;
        }
        match little.permille() {
            permille if permille * 2 >= much.permille() => Evidence::OfPath,
            permille if permille * 5 < much.permille() => Evidence::OfRate,
            _ => Evidence::None,
        }
    }

    fn begin_test(&mut self, now: Instant, permille: u64) {
        self.before_permille = permille;
        let acked = sum(self.windows.iter()).acked;
        let total = sum(self.windows.iter()).total().max(1);
        let sent = self
            .windows
            .iter()
            .map(|w| w.sent_rate / WINDOWS as u64)
            .sum();
        let delivered = scale(sent, acked, total);
        self.cap = Some(scale(delivered, TEST_RATE.0, TEST_RATE.1));
        self.windows = [Window::default(); WINDOWS];
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
        self.state = State::Watching;
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

fn sum<'a>(windows: impl Iterator<Item = &'a Window>) -> Window {
    windows.fold(Window::default(), |sum, window| Window {
        acked: sum.acked.saturating_add(window.acked),
        lost: sum.lost.saturating_add(window.lost),
        ..sum
    })
}

#[cfg(test)]
mod tests;
