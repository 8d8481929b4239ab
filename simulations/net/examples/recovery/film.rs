//! The film and the sound that every way of repair carries, and how what came of them is judged.

use std::collections::BTreeMap;

/// A track: so many frames a group, one every so often.
#[derive(Clone, Copy, Debug)]
pub struct Track {
    pub id: u64,
    pub group: u64,
    pub every_us: u64,
    pub priority: u8,
    key_bytes: usize,
    other_bytes: usize,
}

/// 3 Mbit/s in 30 frames a second, a key frame every two seconds.
const VIDEO: Track = Track {
    id: 1,
    group: 60,
    every_us: 1_000_000 / 30,
    priority: 100,
    key_bytes: 60_000,
    other_bytes: 11_700,
};
/// 64 kbit/s in 50 frames a second.
pub const AUDIO: Track = Track {
    id: 2,
    group: 50,
    every_us: 20_000,
    priority: 10,
    key_bytes: 160,
    other_bytes: 160,
};
pub const TRACKS: [Track; 2] = [VIDEO, AUDIO];

impl Track {
    /// Bytes of a frame.
    pub fn bytes(&self, number: u64) -> usize {
        if number.is_multiple_of(self.group) {
            self.key_bytes
        } else {
            self.other_bytes
        }
    }

    /// Frames that are published in this time.
    pub fn frames(&self, length_us: u64) -> u64 {
        length_us.div_ceil(self.every_us)
    }
}

/// When each frame of a track was whole, by its number; microseconds of a clock that began with the first.
pub type Whole = BTreeMap<u64, u64>;

/// What became of a track.
#[derive(Debug)]
pub struct Judged {
    pub frames: u64,
    latencies_us: Vec<u64>,
    /// Later than the budget, or never.
    missed: u64,
    /// Missing at their deadline, or behind one of their group that was.
    frozen: u64,
}

impl Judged {
    /// Judges all frames of this time.
    pub fn new(track: &Track, whole: &Whole, length_us: u64, budget_us: u64) -> Judged {
        let frames = track.frames(length_us);
        let (mut latencies_us, mut missed, mut frozen) = (Vec::new(), 0, 0);
        let mut group_whole_us = 0;
        for number in 0..frames {
            let sent_us = number * track.every_us;
            let latency_us = whole.get(&number).map_or(u64::MAX, |at| at - sent_us);
            latencies_us.push(latency_us);
            missed += u64::from(latency_us > budget_us);
            if number.is_multiple_of(track.group) {
                group_whole_us = 0;
            }
            group_whole_us = group_whole_us.max(latency_us.saturating_add(sent_us));
            frozen += u64::from(group_whole_us > sent_us + budget_us);
        }
        latencies_us.sort_unstable();
        Judged {
            frames,
            latencies_us,
            missed,
            frozen,
        }
    }

    /// A quantile in JSON, milliseconds; `null` where so many never came.
    pub fn at_ms(&self, share: f64) -> String {
        let index = (self.latencies_us.len() as f64 * share) as usize;
        match self.latencies_us[index.min(self.latencies_us.len() - 1)] {
            u64::MAX => "null".to_owned(),
            us => (us / 1_000).to_string(),
        }
    }

    pub fn missed_share(&self) -> f64 {
        self.missed as f64 / self.frames.max(1) as f64
    }

    pub fn frozen_share(&self) -> f64 {
        self.frozen as f64 / self.frames.max(1) as f64
    }
}
