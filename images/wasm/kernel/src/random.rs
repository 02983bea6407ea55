//! Random bytes. There are none before the host gave a seed: copies of one machine would draw the same.

use alloc::string::String;
use core::fmt::Write;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A generator that is mixed anew with whatever the host gives.
#[derive(Default)]
pub struct Random(Option<ChaCha20Rng>);

impl Random {
    /// Mixes fresh randomness in: what was there is not forgotten for it.
    pub fn add(&mut self, entropy: &[u8]) {
        for piece in entropy.chunks(32) {
            let mut seed = [0; 32];
            self.fill(&mut seed);
            seed.iter_mut().zip(piece).for_each(|(byte, fresh)| *byte ^= fresh);
            self.0 = Some(ChaCha20Rng::from_seed(seed));
        }
    }

    /// Random bytes; false, and none, before there was a seed.
    pub fn fill(&mut self, bytes: &mut [u8]) -> bool {
        self.0.as_mut().map(|random| random.fill_bytes(bytes)).is_some()
    }

    /// A random UUID of version 4, as a boot is called.
    pub fn uuid(&mut self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = String::new();
        for (at, byte) in bytes.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            let _ = write!(text, "{dash}{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(entropy: &[&[u8]]) -> [u8; 16] {
        let (mut random, mut bytes) = (Random::default(), [0; 16]);
        entropy.iter().for_each(|fresh| random.add(fresh));
        assert!(random.fill(&mut bytes));
        bytes
    }

    #[test]
    fn every_byte_of_the_seed_counts_and_nothing_comes_without_one() {
        assert!(!Random::default().fill(&mut [0; 4]));
        let base = [7; 64];
        for at in [0, 31, 32, 63] {
            let mut other = base;
            other[at] ^= 1;
            assert_ne!(drawn(&[&base]), drawn(&[&other]), "byte {at}");
        }
        assert_eq!(drawn(&[&base]), drawn(&[&base]));
        assert_ne!(drawn(&[&base, &[0; 64]]), drawn(&[&[1; 64], &[0; 64]]), "what was there still counts");
    }

    #[test]
    fn a_boot_has_a_uuid() {
        let mut random = Random::default();
        random.add(&[1; 64]);
        let [first, second] = [random.uuid(), random.uuid()];
        assert_ne!(first, second);
        let parts: Vec<usize> = first.split('-').map(str::len).collect();
        assert_eq!((parts, &first[14..15]), (vec![8, 4, 4, 4, 12], "4"));
    }
}
