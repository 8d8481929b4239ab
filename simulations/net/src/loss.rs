//! How a link loses datagrams.
//!
//! Every model here is one that measurements of real paths were fitted to. What they differ in is
//! what a repair meets when it comes a little later:
//!
//! - **Independent**: a copy has the chances of the original. Right for few paths; the null model.
//! - **Gilbert** (the simple case of Gilbert–Elliott): in the bad state everything is lost, in the
//!   good state nothing. With loss share π and mean burst L the chance to leave the bad state is
//!   r = 1/L and to enter it p = π·r / (1 − π), so that after n steps the correlation is
//!   (1 − p − r)^n. Steps are packets, or time: on a radio link or in a full router queue bursts last
//!   milliseconds however few packets meet them. In time the chain is sampled exactly: after τ the
//!   chance to be in the bad state is π + (s − π)·e^(−τ/c) with 1/c = 1/B + 1/G, B = burst and
//!   G = B·(1 − π)/π.
//! - **Two-level Markov** (Ellis, Pezaros, Kypraios, Perkins, Computer Networks 70, 2014): residential
//!   lines alternate between an uncongested and a congested state, each with a Gilbert chain of its own; one
//!   Gilbert chain fits neither.
//! - **Windows**: short stretches of time with heavy loss, as Akamai measured on cellular paths (70 ms
//!   that lose a third, every half second).
//! - **Diurnal**: one share in busy hours, one in quiet ones.
//!
//! Time is the moment at which the datagram leaves the queue, in the link's own clock.

use crate::link_config::{LinkError, check_share};
use crate::rng::Rng;
use std::sync::Arc;

/// Most windows that one [`Loss::Windows`] may have.
pub const WINDOWS_MAX: usize = 100_000;
/// Most losses that may be in series.
pub const SERIES_MAX: usize = 16;

/// A stretch of time in which datagrams are lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWindow {
    /// Its beginning, microseconds of the link's clock (of each repetition).
    pub start_us: u64,
    /// Its length.
    pub length_us: u64,
    /// Share lost inside it, 0 to 1.
    pub share: f64,
}

/// Losses of one state of [`Loss::TwoLevel`]: a Gilbert chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GilbertChain {
    /// Share lost in the long run, 0 to below 1.
    pub loss: f64,
    /// Mean length of a burst in packets; `None` for independent losses.
    pub burst: Option<f64>,
}

/// How a link loses datagrams.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Loss {
    /// Nothing is lost on the wire.
    #[default]
    None,
    /// Each datagram is lost on its own account.
    Random {
        /// Share lost, 0 to 1.
        p: f64,
    },
    /// Losses come in bursts of packets (Gilbert model).
    GilbertElliott {
        /// Share lost in the long run, 0 to below 1.
        loss: f64,
        /// Mean length of a burst in packets, at least 1 and at least `loss / (1 - loss)`.
        burst: f64,
    },
    /// Losses come in stretches of time (Gilbert model in continuous time).
    GilbertElliottTime {
        /// Share of the time in which everything is lost, 0 to below 1.
        loss: f64,
        /// Mean length of such a stretch, microseconds.
        burst_us: u64,
    },
    /// Two states that alternate by packets, each with losses of its own (Ellis et al. 2014).
    TwoLevel {
        /// Losses in the good state.
        good: GilbertChain,
        /// Losses in the bad state.
        bad: GilbertChain,
        /// Chance per packet to go from the good to the bad state.
        good_to_bad: f64,
        /// Chance per packet to go back.
        bad_to_good: f64,
    },
    /// Losses in known stretches of time, in order and apart from each other.
    Windows {
        /// The stretches.
        windows: Arc<[LossWindow]>,
        /// They come again after this long; 0 for never.
        repeat_us: u64,
    },
    /// One share in busy hours, another in quiet ones.
    Diurnal {
        /// Share lost in quiet hours.
        low: f64,
        /// Share lost in busy hours.
        high: f64,
        /// Length of a day.
        period_us: u64,
        /// Share of the day that is busy.
        high_share: f64,
        /// When the first busy hours begin.
        phase_us: u64,
    },
    /// Losses in series: what one lets through meets the next.
    AnyOf(Arc<[Loss]>),
}

impl Loss {
    /// Refuse what no link can be; the error names the field.
    pub fn validate(&self) -> Result<(), LinkError> {
        match self {
            Loss::None => Ok(()),
            Loss::Random { p } => check_share("loss.p", *p),
            Loss::GilbertElliott { loss, burst } => check_chain(*loss, Some(*burst)),
            Loss::GilbertElliottTime { loss, burst_us } => {
                check_chain(*loss, None)?;
                check_positive("loss.burst_us", *burst_us)
            }
            Loss::TwoLevel {
                good,
                bad,
                good_to_bad,
                bad_to_good,
            } => {
                check_chain(good.loss, good.burst)?;
                check_chain(bad.loss, bad.burst)?;
                check_share("loss.good_to_bad", *good_to_bad)?;
                check_share("loss.bad_to_good", *bad_to_good)?;
                if good_to_bad + bad_to_good > 0.0 {
                    return Ok(());
                }
                let rule = "must be above 0 where loss.good_to_bad is 0 too";
                Err(LinkError::new("loss.bad_to_good", bad_to_good, rule))
            }
            Loss::Windows { windows, repeat_us } => check_windows(windows, *repeat_us),
            Loss::Diurnal {
                low,
                high,
                period_us,
                high_share,
                ..
            } => {
                check_share("loss.low", *low)?;
                check_share("loss.high", *high)?;
                check_share("loss.high_share", *high_share)?;
                check_positive("loss.period_us", *period_us)
            }
            Loss::AnyOf(parts) => check_series(parts),
        }
    }
}

fn check_positive(field: &'static str, value: u64) -> Result<(), LinkError> {
    match value {
        0 => Err(LinkError::new(field, 0, "must be above 0")),
        _ => Ok(()),
    }
}

fn check_chain(loss: f64, burst: Option<f64>) -> Result<(), LinkError> {
    if !(0.0..1.0).contains(&loss) {
        let rule = "must be from 0 to below 1";
        return Err(LinkError::new("loss.loss", loss, rule));
    }
    let Some(burst) = burst else { return Ok(()) };
    if !(burst >= 1.0 && burst.is_finite()) {
        let rule = "must be at least 1 packet";
        return Err(LinkError::new("loss.burst", burst, rule));
    }
    if burst < loss / (1.0 - loss) {
        let rule = "is too short for this loss: must be at least loss / (1 - loss)";
        return Err(LinkError::new("loss.burst", burst, rule));
    }
    Ok(())
}

fn check_windows(windows: &[LossWindow], repeat_us: u64) -> Result<(), LinkError> {
    let refuse = |value: u64, rule| Err(LinkError::new("loss.windows", value, rule));
    if windows.len() > WINDOWS_MAX {
        return refuse(windows.len() as u64, "must be at most 100000 windows");
    }
    let mut free_us = 0;
    for window in windows {
        check_share("loss.windows", window.share)?;
        if window.start_us < free_us {
            let rule = "must be in order: this one begins before the end of the one before";
            return refuse(window.start_us, rule);
        }
        let Some(end_us) = window.start_us.checked_add(window.length_us) else {
            return refuse(window.length_us, "is too long");
        };
        free_us = end_us;
    }
    if repeat_us > 0 && free_us > repeat_us {
        return refuse(free_us, "must end within loss.repeat_us");
    }
    Ok(())
}

fn check_series(parts: &[Loss]) -> Result<(), LinkError> {
    if parts.len() > SERIES_MAX {
        let rule = "must be at most 16 losses in series";
        return Err(LinkError::new("loss.any_of", parts.len(), rule));
    }
    for part in parts {
        if matches!(part, Loss::AnyOf(_)) {
            let rule = "must not hold another any_of: put its parts into the one list";
            return Err(LinkError::new("loss.any_of", "any_of", rule));
        }
        part.validate()?;
    }
    Ok(())
}

/// Where a link's losses stand.
#[derive(Clone, Debug)]
pub(crate) struct LossState {
    loss: Loss,
    /// The Gilbert chain is in its bad state; for [`Loss::TwoLevel`] the one of its good state.
    burst_running: bool,
    /// [`Loss::TwoLevel`]: the outer state is the bad one.
    is_bad: bool,
    /// [`Loss::TwoLevel`]: the Gilbert chain of the bad state is in its own bad state.
    bad_burst_running: bool,
    last_us: u64,
    parts: Vec<LossState>,
}

impl LossState {
    /// The state before the first packet, so that the first packet too is lost with the loss share.
    pub(crate) fn new(loss: Loss, rng: &mut Rng) -> LossState {
        let mut state = LossState {
            loss: Loss::None,
            burst_running: false,
            is_bad: false,
            bad_burst_running: false,
            last_us: 0,
            parts: Vec::new(),
        };
        match &loss {
            Loss::GilbertElliott { loss, .. } | Loss::GilbertElliottTime { loss, .. } => {
                state.burst_running = rng.unit() < *loss;
            }
            Loss::TwoLevel {
                good,
                bad,
                good_to_bad,
                bad_to_good,
            } => {
                state.is_bad = rng.unit() * (good_to_bad + bad_to_good) < *good_to_bad;
                state.burst_running = rng.unit() < good.loss;
                state.bad_burst_running = rng.unit() < bad.loss;
            }
            Loss::AnyOf(parts) => {
                let parts = parts.iter().cloned();
                state.parts = parts.map(|part| LossState::new(part, rng)).collect();
            }
            _ => {}
        }
        state.loss = loss;
        state
    }

    /// What it follows.
    pub(crate) fn loss(&self) -> &Loss {
        &self.loss
    }

    /// Whether the datagram that is put on the wire at `at_us` is lost. Times do not run backwards.
    pub(crate) fn is_lost(&mut self, at_us: u64, rng: &mut Rng) -> bool {
        match &self.loss {
            Loss::None => false,
            Loss::Random { p } => rng.unit() < *p,
            Loss::GilbertElliott { loss, burst } => {
                step_chain(&mut self.burst_running, *loss, *burst, rng)
            }
            Loss::GilbertElliottTime { loss, burst_us } => {
                let elapsed_us = at_us.saturating_sub(self.last_us) as f64;
                self.last_us = at_us;
                // 1/c = 1/B + π / (B (1 − π)) = 1 / (B (1 − π))
                let kept = (-elapsed_us / (*burst_us as f64 * (1.0 - loss))).exp();
                let state = f64::from(u8::from(self.burst_running));
                self.burst_running = rng.unit() < loss + (state - loss) * kept;
                self.burst_running
            }
            Loss::TwoLevel {
                good,
                bad,
                good_to_bad,
                bad_to_good,
            } => {
                let leave = if self.is_bad {
                    bad_to_good
                } else {
                    good_to_bad
                };
                self.is_bad ^= rng.unit() < *leave;
                let (chain, running) = if self.is_bad {
                    (bad, &mut self.bad_burst_running)
                } else {
                    (good, &mut self.burst_running)
                };
                match chain.burst {
                    Some(burst) => step_chain(running, chain.loss, burst, rng),
                    None => rng.unit() < chain.loss,
                }
            }
            Loss::Windows { windows, repeat_us } => {
                let share = window_share(windows, *repeat_us, at_us);
                share > 0.0 && rng.unit() < share
            }
            Loss::Diurnal {
                low,
                high,
                period_us,
                high_share,
                phase_us,
            } => {
                let since_us = (at_us + period_us - phase_us % period_us) % period_us;
                let is_busy = (since_us as f64) < high_share * *period_us as f64;
                rng.unit() < if is_busy { *high } else { *low }
            }
            Loss::AnyOf(_) => self.parts.iter_mut().any(|part| part.is_lost(at_us, rng)),
        }
    }
}

fn step_chain(running: &mut bool, loss: f64, burst: f64, rng: &mut Rng) -> bool {
    let leave = 1.0 / burst;
    let enter = loss * leave / (1.0 - loss);
    let x = rng.unit();
    *running = if *running { x >= leave } else { x < enter };
    *running
}

fn window_share(windows: &[LossWindow], repeat_us: u64, at_us: u64) -> f64 {
    let at_us = if repeat_us > 0 {
        at_us % repeat_us
    } else {
        at_us
    };
    let begun = windows.partition_point(|window| window.start_us <= at_us);
    let window = begun.checked_sub(1).map(|last| windows[last]);
    window.map_or(0.0, |window| {
        if at_us - window.start_us < window.length_us {
            window.share
        } else {
            0.0
        }
    })
}
