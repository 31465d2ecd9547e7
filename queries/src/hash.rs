//! A hasher for keys that are integers already (trace ids, dictionary codes): one multiplication per word instead of a keyed
//! hash. The maps are bounded, so crafted ids can slow a sender's own rows down but not grow anything.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map over integer-like keys.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Odd, with bits spread evenly (2^64 divided by the golden ratio).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hasher.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mix(u64);

// === impl Mix ===

impl Mix {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        // The map takes its bucket from the low bits, which a product mixes least.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    fn write_i32(&mut self, value: i32) {
        self.word(u64::from(value.cast_unsigned()));
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_i64(&mut self, value: i64) {
        self.word(value.cast_unsigned());
    }

    fn write_u128(&mut self, value: u128) {
        let [a, b, c, d, e, f, g, h, rest @ ..] = value.to_le_bytes();
        self.word(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        self.word(u64::from_le_bytes(rest));
    }
}
