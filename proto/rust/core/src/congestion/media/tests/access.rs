//! The controller over one access in virtual time: a rate that moves, a finite queue, delay that wanders by itself
//! and windows in which packets are lost, as of a mobile network (Akamai's "poor", about).

use super::{Controller, MS, MediaController, PACKET, controller, epoch};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Delay of one direction above its least: sixteen quantiles of a lognormal, median 7.5 ms, sigma 1.1.
const WANDER_MS: [u32; 16] = [1, 2, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 18, 23, 32, 59];
/// What the rate is in a second, in thousandths of the nominal one.
const FADING: [u64; 16] = [
    300, 340, 500, 760, 830, 880, 920, 960, 1_000, 1_030, 1_060, 1_080, 1_100, 1_150, 1_250, 1_500,
];
const REDRAW_MS: u32 = 500;
const LOSS_WINDOW_MS: u32 = 70;

/// A path; what it does is the same for the same seed.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub(super) seed: u64,
    /// Bytes/s.
    pub(super) rate: u64,
    pub(super) fades: bool,
    pub(super) wanders: bool,
    /// A third of windows lose so much, in thousandths.
    pub(super) window_loss_permille: u64,
    pub(super) rtt_ms: u32,
    pub(super) queue_ms_max: u32,
}

/// What came of it.
pub(super) struct Outcome {
    /// Share of what the access could have carried and did not lose by itself.
    pub(super) used: f64,
    /// Of the queue that we made.
    pub(super) queue_p95_ms: u64,
}

impl Access {
    fn draw(&self, kind: u64, number: u32) -> u64 {
        // splitmix64.
        let mut z = (self.seed << 40) ^ (kind << 32) ^ u64::from(number);
        z = (z.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn rate_at(&self, ms: u32) -> u64 {
        let index = self.draw(1, ms / 1_000) % 16;
        let permille = if self.fades {
            FADING[index as usize]
        } else {
            1_000
        };
        self.rate * permille / 1_000
    }

    fn wander_us(&self, way: u64, ms: u32) -> u64 {
        if !self.wanders {
            return 0;
        }
        let at = |number| u64::from(WANDER_MS[(self.draw(way, number) % 16) as usize]) * 1_000;
        let (number, into) = (ms / REDRAW_MS, u64::from(ms % REDRAW_MS));
        let redraw = u64::from(REDRAW_MS);
        (at(number) * (redraw - into) + at(number + 1) * into) / redraw
    }

    fn loses(&self, ms: u32, packet: u32) -> bool {
        self.draw(4, ms / LOSS_WINDOW_MS).is_multiple_of(3)
            && self.draw(5, packet) % 1_000 < self.window_loss_permille
    }

    /// A sender that always has something, for so long.
    pub(super) fn run(&self, seconds: u32) -> Outcome {
        let start = epoch() + 10_000 * MS;
        let mut run = Run {
            access: *self,
            start,
            controller: controller(start),
            under_way: VecDeque::new(),
            credit: 0,
            free_us: 0,
            last_us: 0,
            number: 0,
            acked: 0,
        };
        let mut able = 0u64;
        let mut queues = Vec::new();
        for ms in 0..seconds * 1_000 {
            able += self.rate_at(ms) / 1_000;
            run.receive(ms);
            run.send(ms);
            if ms > 5_000 {
                queues.push(run.free_us.saturating_sub(u64::from(ms) * 1_000) / 1_000);
            }
        }
        queues.sort_unstable();
        let kept = 1_000 - self.window_loss_permille / 3;
        Outcome {
            used: run.acked as f64 / (able * kept / 1_000) as f64,
            queue_p95_ms: queues[queues.len() * 95 / 100],
        }
    }
}

/// A packet that was sent; without a time of its acknowledgement it is lost.
struct Packet {
    sent_us: u64,
    acked_us: Option<u64>,
}

struct Run {
    access: Access,
    start: Instant,
    controller: MediaController,
    under_way: VecDeque<Packet>,
    credit: u64,
    /// When the bottleneck has put on the wire what it holds, and when the last acknowledgement comes.
    free_us: u64,
    last_us: u64,
    number: u32,
    acked: u64,
}

impl Run {
    /// When the oldest packet's fate is known: three packets after a lost one tell, or a probe.
    fn oldest_due_us(&self) -> Option<u64> {
        let oldest = self.under_way.front()?;
        let after = || self.under_way.iter().filter_map(|packet| packet.acked_us);
        let told = oldest.acked_us.or_else(|| after().nth(2));
        Some(told.unwrap_or(oldest.sent_us + 1_000_000))
    }

    fn receive(&mut self, ms: u32) {
        let now = self.start + ms * MS;
        while self
            .oldest_due_us()
            .is_some_and(|us| us <= u64::from(ms) * 1_000)
        {
            let Some(packet) = self.under_way.pop_front() else {
                return;
            };
            if packet.acked_us.is_none() {
                self.controller.on_packet_lost(PACKET as u16, 0, now);
                continue;
            }
            let sent = self.start + Duration::from_micros(packet.sent_us);
            let srtt = self.controller.srtt.unwrap_or(now - sent);
            self.controller.srtt = Some((srtt * 7 + (now - sent)) / 8);
            self.controller.acked(now, sent, PACKET, false);
            self.acked += PACKET;
        }
    }

    fn send(&mut self, ms: u32) {
        self.credit = (self.credit + self.controller.rate() / 1_000).min(10 * PACKET);
        let in_flight = self.under_way.len() as u64 * PACKET;
        while self.credit >= PACKET && in_flight < self.controller.window() {
            self.credit -= PACKET;
            self.number += 1;
            let sent_us = u64::from(ms) * 1_000;
            let acked_us = self.pass(ms, sent_us);
            self.under_way.push_back(Packet { sent_us, acked_us });
        }
    }

    /// Through queue and windows of loss; when its acknowledgement comes.
    fn pass(&mut self, ms: u32, now_us: u64) -> Option<u64> {
        let access = self.access;
        if self.free_us.saturating_sub(now_us) > u64::from(access.queue_ms_max) * 1_000 {
            return None;
        }
        self.free_us = self.free_us.max(now_us) + PACKET * 1_000_000 / access.rate_at(ms);
        if access.loses(ms, self.number) {
            return None;
        }
        let back_us = u64::from(access.rtt_ms) * 1_000 + access.wander_us(2, ms);
        self.last_us = self
            .last_us
            .max(self.free_us + back_us + access.wander_us(3, ms));
        Some(self.last_us)
    }
}
