//! What comes next: a heap of times, its contents apart, so that sifting moves 24 bytes an entry.

use crate::kernel::HostId;
use bytes::BytesMut;
use farcast_core::command::Command;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

/// What is due at one time at one host.
pub(crate) enum Due {
    /// A datagram arrives.
    Datagram(Datagram),
    /// A command was scheduled; for the datapath with this number, which may be gone.
    Command {
        incarnation: u32,
        command: Box<Command>,
    },
    /// The engine wants to be woken.
    Timer,
    /// A pause ends.
    Resume,
}

/// A datagram under way.
pub(crate) struct Datagram {
    pub(crate) source: SocketAddr,
    pub(crate) ecn: u8,
    /// How often the destination had moved when it was sent.
    pub(crate) moves: u32,
    pub(crate) data: BytesMut,
}

/// Entries in order of time, those of one time in order of pushing.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slots: Vec<Option<(HostId, Due)>>,
    free: Vec<u32>,
    sequence: u64,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn next_us(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_us, ..))| *at_us)
    }

    /// The caller keeps the number of entries below 2³².
    pub(crate) fn push(&mut self, at_us: u64, host: HostId, due: Due) {
        let content = Some((host, due));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = content;
                slot
            }
            None => {
                self.slots.push(content);
                (self.slots.len() - 1) as u32
            }
        };
        self.sequence += 1;
        self.heap.push(Reverse((at_us, self.sequence, slot)));
    }

    /// The first entry, if it is of that time.
    pub(crate) fn pop_at(&mut self, at_us: u64) -> Option<(HostId, Due)> {
        if self.next_us() != Some(at_us) {
            return None;
        }
        let Reverse((_, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        self.slots[slot as usize].take()
    }
}
