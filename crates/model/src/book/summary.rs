//! What is known of many partitions at once: the best of every column, each for itself. Nothing
//! among them can be better than that.

use super::class::Signature;
use super::price::{Amounts, Prices};

/// The best of every column over the partitions that can be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    /// How many can be had now.
    pub free: u32,
    /// The most that any could become, in each dimension.
    pub reach: Amounts,
    /// The least that any has at the least.
    pub least: Amounts,
    /// The lowest of each price.
    pub prices: Prices,
    /// Of a thousand leases, how few failed.
    pub unreliable: u16,
    /// The most hardware threads.
    pub threads: u16,
    /// The fastest.
    pub speed: u32,
    /// The shortest term of any, in seconds.
    pub shortest: u32,
    /// The longest term of any, in seconds.
    pub longest: u32,
    /// When the first was listed.
    pub listed: i64,
    /// All that any of them is, those too that can't be had now.
    pub signature: Signature,
}

impl Summary {
    /// Of nothing.
    pub const NOTHING: Self = Self {
        free: 0,
        reach: [0; 3],
        least: [u32::MAX; 3],
        prices: [u32::MAX; 5],
        unreliable: u16::MAX,
        threads: 0,
        speed: 0,
        shortest: u32::MAX,
        longest: 0,
        listed: i64::MAX,
        signature: Signature::NONE,
    };

    /// Of both together.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            free: self.free + other.free,
            reach: pairwise(self.reach, other.reach, u32::max),
            least: pairwise(self.least, other.least, u32::min),
            prices: pairwise(self.prices, other.prices, u32::min),
            unreliable: self.unreliable.min(other.unreliable),
            threads: self.threads.max(other.threads),
            speed: self.speed.max(other.speed),
            shortest: self.shortest.min(other.shortest),
            longest: self.longest.max(other.longest),
            listed: self.listed.min(other.listed),
            signature: self.signature.or(&other.signature),
        }
    }
}

fn pairwise<const N: usize>(a: [u32; N], b: [u32; N], of: impl Fn(u32, u32) -> u32) -> [u32; N] {
    std::array::from_fn(|i| of(a[i], b[i]))
}
