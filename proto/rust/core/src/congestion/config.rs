//! Settings of congestion control, every limit with a name and a default.

use super::MediaController;
use noq_proto::congestion::{
    Bbr3Config, Controller, ControllerFactory, CubicConfig, NewRenoConfig,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No rate leaves these bounds, whatever the configuration says, bytes/s.
const RATE_MIN: u64 = 1_000;
const RATE_MAX: u64 = 1 << 40;

/// Which controller a connection gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControllerKind {
    /// Ours, see [`crate::congestion`].
    #[default]
    Media,
    /// RFC 9438.
    Cubic,
    /// RFC 9002 §7.
    NewReno,
    /// draft-ietf-ccwg-bbr.
    Bbr3,
}

impl ControllerKind {
    /// All of them.
    pub const ALL: [ControllerKind; 4] = [
        ControllerKind::Media,
        ControllerKind::Cubic,
        ControllerKind::NewReno,
        ControllerKind::Bbr3,
    ];

    /// Its name in settings and figures.
    pub fn name(self) -> &'static str {
        match self {
            ControllerKind::Media => "media",
            ControllerKind::Cubic => "cubic",
            ControllerKind::NewReno => "newreno",
            ControllerKind::Bbr3 => "bbr3",
        }
    }

    /// The controller of that name.
    pub fn from_name(name: &str) -> Option<ControllerKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Congestion control of one datapath's public sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CongestionConfig {
    /// The controller.
    pub kind: ControllerKind,
    /// Limits of ours.
    pub media: MediaConfig,
}

impl CongestionConfig {
    /// What QUIC builds controllers from.
    pub fn factory(&self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self.kind {
            ControllerKind::Media => Arc::new(self.media),
            ControllerKind::Cubic => Arc::new(CubicConfig::default()),
            ControllerKind::NewReno => Arc::new(NewRenoConfig::default()),
            ControllerKind::Bbr3 => Arc::new(Bbr3Config::default()),
        }
    }
}

/// Limits of the media controller; also the factory that QUIC builds it from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaConfig {
    /// Rate at the start, bytes/s.
    pub rate_initial: u64,
    /// Lowest rate, bytes/s.
    pub rate_min: u64,
    /// Highest rate, bytes/s.
    pub rate_max: u64,
    /// Packets that may be under way before the first round trip is known.
    pub initial_packets: u32,
    /// Standing queue beyond which the rate goes down.
    pub queue_delay_max: Duration,
    /// Outage that the window rides out.
    pub outage: Duration,
    /// Lasting loss beyond which the rate goes down whatever the cause, in thousandths.
    pub loss_max_permille: u32,
    /// Whether the rate doubles a round at first.
    pub startup: bool,
}

impl Default for MediaConfig {
    /// 2 Mbit/s at the start, 64 kbit/s to 1 Gbit/s.
    fn default() -> Self {
        MediaConfig {
            rate_initial: 250_000,
            rate_min: 8_000,
            rate_max: 125_000_000,
            initial_packets: 24,
            queue_delay_max: Duration::from_millis(25),
            outage: Duration::from_millis(1_000),
            loss_max_permille: 250,
            startup: true,
        }
    }
}

impl MediaConfig {
    /// A rate within the limits, bytes/s.
    pub(crate) fn clamp(&self, rate: u64) -> u64 {
        let floor = self.rate_min.clamp(RATE_MIN, RATE_MAX);
        rate.clamp(floor, self.rate_max.clamp(floor, RATE_MAX))
    }
}

impl ControllerFactory for MediaConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(MediaController::new(*self, now, current_mtu))
    }
}
