//! A congestion controller made for media.
//!
//! **Problem.** The common controllers take loss for congestion. A last mile that loses 1 % over 90 ms
//! leaves CUBIC under 1 Mbit/s (Mathis' law), however wide it is, and a viewer of a film freezes; on a
//! wide and deep queue the same controllers fill it, and everything comes half a second late.
//!
//! **What it goes by.**
//!
//! - *Delay.* The least round trip of a round against the least of the last half to whole minute: what
//!   even the quickest packet waited is a standing queue. Jitter, delayed acknowledgements and the bursts
//!   of a key frame leave the minimum of a round alone.
//! - *Delivery rate.* What was acknowledged in a round over its length; the greatest of the last rounds.
//!   Where a queue stands that is what the bottleneck gives us, so that one round trip tells the new rate
//!   after a change (`media`).
//! - *Loss that tracks the rate* (`policer`). A policer or a tiny buffer drops without delaying. Loss that
//!   lasts is judged by what a film's varying traffic shows, and put to a test only where the rate limits;
//!   loss that stays belongs to the path and is not answered, however bursty, up to
//!   [`MediaConfig::loss_max_permille`].
//! - *Whether it can be ours.* While as much comes through as is sent, a queue of ours grows by a tenth of the time at
//!   most, so that it can be watched for a round: one that goes by itself, faster than the rate would let it, is the path's
//!   and widens the bound. What comes through is counted with what windows of loss took, unless the queue is deep.
//! - *Who limits.* Where the application sends less than the rate, delay that comes and goes is the path's
//!   (`wander`), and only a deep queue counts.
//!
//! **What it does.**
//!
//! - *Start:* slow start, paced, until a queue shows or more is not delivered (`startup`).
//! - *Up:* some packets a round (so that flows that share become equal), more after a calm while; only
//!   when the rate is what limits. *Down:* to what is delivered, low enough to drain what stands; then back
//!   to nine tenths of it.
//! - *Back:* up to a rate that was held not long ago a quarter more a round trip; steps down that come soon after each
//!   other take that memory away (`good`).
//! - *Not ours:* a round trip that steps down do not shorten and that stays level is a longer path: it
//!   becomes the base. If it goes up and down without us, someone else fills the queue (CUBIC);
//!   yielding would be giving up. The flow then competes as TCP does: additive increase, and 70 % upon
//!   loss while the queue is high (RFC 9438 §4.3), until the queue empties again.
//! - *Window:* rate × (round trip + [`MediaConfig::outage`]). Lost packets count as in flight until they
//!   are declared lost, so a window of one round trip would stop the flow in an outage and keep it
//!   stopped. The pacer is what limits; nothing is sent in bursts.
//!
//! **Rejected.** BBRv3 answers 2 % of loss by 30 % less (its `LOSS_THRESH`), on our paths all the
//! time. GCC and NADA want receiver timestamps, which QUIC acknowledgements do not carry. A table of the
//! packets in flight (BBR's rate samples) would be per-viewer memory; sums per round suffice.

mod config;
mod good;
mod media;
mod policer;
mod recent;
mod round;
mod shift;
mod startup;
mod steps;
mod wander;

pub use config::{CongestionConfig, ControllerKind, MediaConfig};
pub use media::{MediaController, MediaFigures};

use crate::hop::HoldController;
use noq_proto::congestion::{Bbr3, Controller, Cubic, NewReno};
use noq_proto::{Connection, PathId};
use round::bytes_in;
use std::time::Duration;

/// Least bytes that QUIC may hold where the controller knows no rate.
const UNPACED_WINDOW_MIN: u64 = 64 << 10;

/// Name of a connection's controller and what it has measured.
pub fn figures(quic: &Connection) -> (&'static str, MediaFigures) {
    let Some(state) = quic.congestion_state(PathId::ZERO) else {
        return ("", MediaFigures::default());
    };
    let metrics = state.metrics();
    let rtt_us = quic
        .rtt(PathId::ZERO)
        .unwrap_or_default()
        .as_micros()
        .max(1);
    let per_rtt = u128::from(metrics.congestion_window) * 1_000_000 / rtt_us;
    let usable = metrics.pacing_rate.map_or(per_rtt, u128::from);
    let measured = MediaFigures {
        usable: u64::try_from(usable).unwrap_or(u64::MAX),
        delivered: metrics.bandwidth_estimate.unwrap_or(0) / 8,
        pacing: metrics.pacing_rate.unwrap_or(0),
        ..MediaFigures::default()
    };
    let state = state.clone_box().into_any();
    if let Some(media) = state.downcast_ref::<MediaController>() {
        return (ControllerKind::Media.name(), media.figures());
    }
    let kind = match () {
        () if state.is::<HoldController>() => return ("hold", measured),
        () if state.is::<Cubic>() => ControllerKind::Cubic,
        () if state.is::<NewReno>() => ControllerKind::NewReno,
        () if state.is::<Bbr3>() => ControllerKind::Bbr3,
        () => return ("", measured),
    };
    (kind.name(), measured)
}

/// Bytes that QUIC may hold of media, those under way included: what is under way at the controller's rate,
/// half a round trip more for what waits to be sent again, and what leaves in `queue`. What QUIC has taken
/// cannot be shed any more.
pub fn send_window(controller: &dyn Controller, rtt: Duration, queue: Duration) -> u64 {
    let metrics = controller.metrics();
    match metrics.pacing_rate {
        Some(rate) => bytes_in(rate, rtt.saturating_add(rtt / 2).saturating_add(queue)),
        None => (2 * metrics.congestion_window).max(UNPACED_WINDOW_MIN),
    }
}
