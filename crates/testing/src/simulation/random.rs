//! Chance that can be had again: the same seed, the same numbers, on every computer.

/// A stream of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x05ee_d0f5_u64.rotate_left(32))
    }

    /// A stream of its own, so that what one part draws does not move what another one does.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 to `n` - 1; 0 where there is nothing to choose from.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low).unsigned_abs() + 1) as i64
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }

    /// An id.
    pub fn id<T: From<uuid::Uuid>>(&mut self) -> T {
        T::from(uuid::Uuid::from_u64_pair(self.next(), self.next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream_and_another_seed_another_one() {
        let stream = |seed| std::array::from_fn::<u64, 8, _>(|_| 0).map(|_| seed).map(|s| Random::new(s).next());
        assert_eq!(stream(1), stream(1));
        assert_ne!(stream(1), stream(2));
        let mut random = Random::new(7);
        assert!((0..1000).all(|_| (-3..=5).contains(&random.between(-3, 5))));
        assert_eq!(random.below(0), 0);
        assert!(!random.chance(0) && random.chance(1000));
    }
}
