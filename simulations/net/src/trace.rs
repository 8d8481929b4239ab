//! One number for everything that crossed a world's network: equal for equal runs.
//!
//! A hash of our own, because the standard library's promises nothing about other builds.

use crate::kernel::HostId;

/// FNV-1a, 64 bits, over words of 64 bits, least significant byte first.
pub(crate) struct TraceHash(u64);

impl TraceHash {
    /// Of nothing yet.
    pub(crate) fn new() -> Self {
        TraceHash(0xcbf2_9ce4_8422_2325)
    }

    /// The hash so far.
    pub(crate) fn value(&self) -> u64 {
        self.0
    }

    /// A datagram was sent; `to` is `None` where no host has the address.
    pub(crate) fn add(&mut self, now_us: u64, bytes: usize, from: HostId, to: Option<HostId>) {
        self.add_word(now_us);
        self.add_word(bytes as u64);
        self.add_word((from as u64) << 32 | to.map_or(0xffff_ffff, |to| to as u64));
    }

    fn add_word(&mut self, word: u64) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
