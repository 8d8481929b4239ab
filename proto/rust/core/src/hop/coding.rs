//! Repair symbols over the chunks that were lost in one round, and their use.
//!
//! The sender makes `r` symbols of the `k` lost chunks (Reed-Solomon: any `k` of the `k + r` suffice). A shard is the
//! frame without what changes on its way (sequence numbers, budget), behind its length, padded to the longest
//! of the round. The receiver keeps the shards of recent repaired frames, for only they can be sources of a round
//! (their originals were lost), and the symbols of rounds that it cannot solve yet. Both are bounded;
//! what is forgotten too early is repaired by the next round.

use super::frame::Frame;
use super::wire::{Symbol, decode_shard, encode_shard};
use bytes::{BufMut, Bytes, BytesMut};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use std::collections::{BTreeMap, VecDeque};

/// Symbols of a round, or `None` if they cannot be made.
pub(super) fn encode(frames: &[&Frame], parities: usize) -> Option<Vec<Bytes>> {
    let shards: Vec<Bytes> = frames.iter().map(|frame| encode_shard(frame)).collect();
    let size = shards.iter().map(Bytes::len).max()?.next_multiple_of(2);
    let mut encoder = ReedSolomonEncoder::new(shards.len(), parities, size).ok()?;
    for shard in shards {
        encoder.add_original_shard(padded(&shard, size)).ok()?;
    }
    let result = encoder.encode().ok()?;
    Some(result.recovery_iter().map(Bytes::copy_from_slice).collect())
}

fn padded(shard: &[u8], size: usize) -> BytesMut {
    let mut padded = BytesMut::with_capacity(size);
    padded.put_slice(shard);
    padded.resize(size, 0);
    padded
}

/// A round as the receiver knows it.
#[derive(Debug)]
struct Round {
    parities: u8,
    shard_bytes: usize,
    budget_ms: u16,
    symbols: BTreeMap<u8, Bytes>,
}

/// What the receiver keeps to solve rounds.
#[derive(Debug)]
pub(super) struct Decoder {
    bytes_max: usize,
    bytes: usize,
    /// Shards of repaired frames by their first sequence number, and in order of arrival.
    shards: BTreeMap<u64, Bytes>,
    shard_order: VecDeque<u64>,
    /// Rounds that are not solved, by the frames they cover, and in order of arrival.
    rounds: BTreeMap<Vec<u64>, Round>,
    round_order: VecDeque<Vec<u64>>,
}

/// Rounds kept at most.
const ROUNDS_MAX: usize = 256;

impl Decoder {
    /// `bytes_max` bounds what is kept of shards and symbols.
    pub(super) fn new(bytes_max: usize) -> Decoder {
        Decoder {
            bytes_max,
            bytes: 0,
            shards: BTreeMap::new(),
            shard_order: VecDeque::new(),
            rounds: BTreeMap::new(),
            round_order: VecDeque::new(),
        }
    }

    /// A frame came that may be a source of a round. Gives what it solved.
    pub(super) fn handle_frame(&mut self, id: u64, frame: &Frame) -> Vec<(u64, Frame)> {
        if !self.keep(id, encode_shard(frame)) {
            return Vec::new();
        }
        let of_it: Vec<Vec<u64>> = self
            .rounds
            .keys()
            .filter(|ids| ids.binary_search(&id).is_ok())
            .cloned()
            .collect();
        of_it.iter().flat_map(|ids| self.solve(ids)).collect()
    }

    /// A symbol came. Gives what it solved: frames with their first sequence numbers.
    pub(super) fn handle_symbol(&mut self, symbol: Symbol) -> Vec<(u64, Frame)> {
        if symbol.ids.iter().all(|id| self.shards.contains_key(id)) {
            return Vec::new();
        }
        let Symbol { ids, shard, .. } = symbol;
        if !self.rounds.contains_key(&ids) {
            self.round_order.push_back(ids.clone());
            self.rounds.insert(
                ids.clone(),
                Round {
                    parities: symbol.parities,
                    shard_bytes: shard.len(),
                    budget_ms: symbol.budget_ms,
                    symbols: BTreeMap::new(),
                },
            );
        }
        let Some(round) = self.rounds.get_mut(&ids) else {
            return Vec::new();
        };
        if round.shard_bytes == shard.len() && round.parities == symbol.parities {
            round.budget_ms = symbol.budget_ms;
            let added = shard.len();
            if round.symbols.insert(symbol.index, shard).is_none() {
                self.bytes += added;
            }
        }
        let solved = self.solve(&ids);
        self.forget();
        solved
    }

    fn keep(&mut self, id: u64, shard: Bytes) -> bool {
        if self.shards.contains_key(&id) {
            return false;
        }
        self.bytes += shard.len();
        self.shards.insert(id, shard);
        self.shard_order.push_back(id);
        self.forget();
        true
    }

    fn forget(&mut self) {
        while self.round_order.len() > ROUNDS_MAX {
            let Some(ids) = self.round_order.pop_front() else {
                break;
            };
            self.drop_round(&ids);
        }
        while self.bytes > self.bytes_max {
            if let Some(id) = self.shard_order.pop_front() {
                self.bytes -= self.shards.remove(&id).map_or(0, |shard| shard.len());
            } else if let Some(ids) = self.round_order.pop_front() {
                self.drop_round(&ids);
            } else {
                return;
            }
        }
    }

    fn drop_round(&mut self, ids: &[u64]) {
        if let Some(round) = self.rounds.remove(ids) {
            self.bytes -= round.symbols.values().map(Bytes::len).sum::<usize>();
        }
    }

    fn solve(&mut self, ids: &[u64]) -> Vec<(u64, Frame)> {
        let Some(round) = self.rounds.get(ids) else {
            return Vec::new();
        };
        let have = ids.iter().filter(|id| self.shards.contains_key(id)).count();
        if have + round.symbols.len() < ids.len() {
            return Vec::new();
        }
        let restored = if have < ids.len() {
            self.restore(ids, round).unwrap_or_default()
        } else {
            Vec::new()
        };
        let budget_ms = round.budget_ms;
        self.drop_round(ids);
        self.round_order.retain(|other| other != ids);
        let mut frames = Vec::new();
        for (id, shard) in restored {
            if let Ok(frame) = decode_shard(shard.clone(), budget_ms) {
                self.keep(id, shard);
                frames.push((id, frame));
            }
        }
        frames
    }

    fn restore(&self, ids: &[u64], round: &Round) -> Option<Vec<(u64, Bytes)>> {
        let (k, size) = (ids.len(), round.shard_bytes);
        let mut decoder = ReedSolomonDecoder::new(k, usize::from(round.parities), size).ok()?;
        for (at, id) in ids.iter().enumerate() {
            if let Some(shard) = self.shards.get(id) {
                if shard.len() > size {
                    return None;
                }
                decoder.add_original_shard(at, padded(shard, size)).ok()?;
            }
        }
        for (index, symbol) in &round.symbols {
            decoder
                .add_recovery_shard(usize::from(*index), symbol)
                .ok()?;
        }
        let result = decoder.decode().ok()?;
        let restored = result.restored_original_iter();
        Some(
            restored
                .map(|(at, shard)| (ids[at], Bytes::copy_from_slice(shard)))
                .collect(),
        )
    }
}
