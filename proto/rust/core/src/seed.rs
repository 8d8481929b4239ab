//! Reproducible stand-ins for everything that QUIC draws at random, for the simulator.
//!
//! Same seed, same sizes and times of every datagram. The contents still differ: TLS draws its own
//! randoms. Never used with real sockets: connection ids become predictable.

use noq_proto::crypto::{CryptoError, HandshakeTokenKey, HmacKey};
use noq_proto::{ConnectionId, ConnectionIdGenerator, EndpointConfig, RandomConnectionIdGenerator};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The number by which other edges know this one; without a seed drawn like a connection id.
pub(crate) fn node_number(seed: Option<u64>) -> u64 {
    if let Some(seed) = seed {
        return SplitMix(seed ^ 0x0ed6e).next_u64();
    }
    let drawn = RandomConnectionIdGenerator::new(8).generate_cid();
    drawn
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// An endpoint configuration whose every random choice follows from `seed`.
pub(crate) fn endpoint_config(seed: u64) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(SeededKey(seed)));
    let mut bytes = [0u8; 32];
    let mut random = SplitMix(seed ^ 0x5eed);
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&random.next_u64().to_le_bytes());
    }
    config.rng_seed(Some(bytes));
    config.cid_generator(Arc::new(move || {
        Box::new(SeededCids(SplitMix(seed ^ 0xc1d)))
    }));
    config
}

/// Draws the destination ids of a client's first packets.
pub(crate) fn initial_cids(seed: u64) -> Arc<dyn Fn() -> ConnectionId + Send + Sync> {
    let random = Mutex::new(SplitMix(seed ^ 0x1c1d));
    Arc::new(move || {
        let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
        ConnectionId::new(&random.next_u64().to_le_bytes())
    })
}

struct SeededCids(SplitMix);

impl ConnectionIdGenerator for SeededCids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.next_u64().to_le_bytes())
    }
    fn cid_len(&self) -> usize {
        8
    }
    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Keys stateless resets and address tokens; no security, only the right shape.
pub(crate) struct SeededKey(pub(crate) u64);

impl HmacKey for SeededKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        let mut state = SplitMix(self.0);
        for &byte in data {
            state.0 ^= u64::from(byte);
            state.next_u64();
        }
        for part in signature.chunks_mut(8) {
            let word = state.next_u64().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }
    fn signature_len(&self) -> usize {
        32
    }
    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut expected = [0u8; 32];
        self.sign(data, &mut expected);
        if expected == signature {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

impl HandshakeTokenKey for SeededKey {
    fn seal(&self, _nonce: u128, data: &mut Vec<u8>) -> Result<(), CryptoError> {
        let mut tag = [0u8; 16];
        self.sign(data, &mut tag);
        data.extend_from_slice(&tag);
        Ok(())
    }
    fn open<'a>(&self, _nonce: u128, data: &'a mut [u8]) -> Result<&'a [u8], CryptoError> {
        let (text, tag) = data.split_last_chunk::<16>().ok_or(CryptoError)?;
        let mut expected = [0u8; 16];
        self.sign(text, &mut expected);
        if expected == *tag {
            Ok(text)
        } else {
            Err(CryptoError)
        }
    }
}

/// Wall-clock time of address tokens in a simulation: it stands still.
pub(crate) struct FixedTime;

impl noq_proto::TimeSource for FixedTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }
}
