//! Numbers that follow from a seed.

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Streams of neighbouring seeds would be one stream, a step apart: begin somewhere else.
        let begin = Self(seed).bits();
        Self(begin.rotate_left(32) ^ 0x5eed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = high.wrapping_sub(low) as u64;
        if span == u64::MAX { self.bits() as i64 } else { low.wrapping_add((self.bits() % (span + 1)) as i64) }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.between(0, end as i64 - 1) as usize
    }

    /// In so many of a hundred cases.
    pub fn percent(&mut self, share: i64) -> bool {
        self.between(1, 100) <= share
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub fn id<T: From<uuid::Uuid>>(&mut self) -> T {
        uuid::Uuid::from_u128((u128::from(self.bits()) << 64) | u128::from(self.bits())).into()
    }
}
