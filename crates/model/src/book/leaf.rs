//! Up to 64 partitions side by side, one array a column: a test of one column over all of them is
//! a few instructions.

use super::class::Signature;
use super::price::{Amounts, Prices};
use super::summary::Summary;

/// How many partitions stand side by side.
pub(super) const ROOM: usize = 64;

/// One partition, as columns have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Its number in the book.
    pub number: u32,
    /// The number of what it has in common with others.
    pub class: u32,
    /// The number of the account that lends it.
    pub lender: u32,
    /// Whether it can be had now.
    pub free: bool,
    /// The most it could become, if nobody held it.
    pub reach: Amounts,
    /// What it has at the least.
    pub least: Amounts,
    /// What is asked for it.
    pub prices: Prices,
    /// Of a thousand leases of its host, how many failed.
    pub unreliable: u16,
    /// Hardware threads of its host.
    pub threads: u16,
    /// Speed of its host.
    pub speed: u32,
    /// The shortest term, in seconds.
    pub shortest: u32,
    /// The longest term, in seconds.
    pub longest: u32,
    /// When it was listed.
    pub listed: i64,
}

/// What a search asks of columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    /// At least so much.
    pub need: Amounts,
    /// More than this must not be allocated.
    pub at_most: Amounts,
    /// At least so many hardware threads.
    pub threads: u16,
    /// At least so fast.
    pub speed: u32,
    /// At most so many failures of a thousand.
    pub unreliable: u16,
    /// The shortest term must not be above this, in seconds.
    pub shortest: u32,
    /// The longest term must not be below this, in seconds.
    pub longest: u32,
}

/// The partitions.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    len: usize,
    /// A bit for each that can be had now.
    pub free: u64,
    pub number: [u32; ROOM],
    pub class: [u32; ROOM],
    pub lender: [u32; ROOM],
    pub reach: [[u32; ROOM]; 3],
    pub least: [[u32; ROOM]; 3],
    pub prices: [[u32; ROOM]; 5],
    pub unreliable: [u16; ROOM],
    pub threads: [u16; ROOM],
    pub speed: [u32; ROOM],
    pub shortest: [u32; ROOM],
    pub longest: [u32; ROOM],
    pub listed: [i64; ROOM],
}

impl Leaf {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            len: 0,
            free: 0,
            number: [0; ROOM],
            class: [0; ROOM],
            lender: [0; ROOM],
            reach: [[0; ROOM]; 3],
            least: [[0; ROOM]; 3],
            prices: [[0; ROOM]; 5],
            unreliable: [0; ROOM],
            threads: [0; ROOM],
            speed: [0; ROOM],
            shortest: [0; ROOM],
            longest: [0; ROOM],
            listed: [0; ROOM],
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it can be had now.
    pub fn is_free(&self, at: usize) -> bool {
        self.free >> at & 1 == 1
    }

    /// What a partition has at the least.
    pub fn least(&self, at: usize) -> Amounts {
        self.least.map(|column| column[at])
    }

    /// The most it could become.
    pub fn reach(&self, at: usize) -> Amounts {
        self.reach.map(|column| column[at])
    }

    /// What is asked for it.
    pub fn prices(&self, at: usize) -> Prices {
        self.prices.map(|column| column[at])
    }

    /// One of them.
    pub fn row(&self, at: usize) -> Row {
        Row {
            number: self.number[at],
            class: self.class[at],
            lender: self.lender[at],
            free: self.is_free(at),
            reach: self.reach(at),
            least: self.least(at),
            prices: self.prices(at),
            unreliable: self.unreliable[at],
            threads: self.threads[at],
            speed: self.speed[at],
            shortest: self.shortest[at],
            longest: self.longest[at],
            listed: self.listed[at],
        }
    }

    /// Puts one in a place that is taken already, or in the next.
    pub fn set(&mut self, at: usize, row: &Row) {
        self.len = self.len.max(at + 1);
        self.free = self.free & !(1 << at) | u64::from(row.free) << at;
        (self.number[at], self.class[at], self.lender[at]) = (row.number, row.class, row.lender);
        (0..3).for_each(|d| (self.reach[d][at], self.least[d][at]) = (row.reach[d], row.least[d]));
        (0..5).for_each(|p| self.prices[p][at] = row.prices[p]);
        (self.unreliable[at], self.threads[at], self.speed[at]) = (row.unreliable, row.threads, row.speed);
        (self.shortest[at], self.longest[at], self.listed[at]) = (row.shortest, row.longest, row.listed);
    }

    /// Takes one out; the last one comes into its place, and its number is the answer.
    pub fn swap_remove(&mut self, at: usize) -> Option<u32> {
        let last = self.len - 1;
        let moved = self.row(last);
        self.free &= !(1 << last);
        if at != last {
            self.set(at, &moved);
        }
        self.len = last;
        (at != last).then_some(moved.number)
    }

    /// The best of each column over those that can be had now.
    pub fn summary(&self, signature: impl Fn(u32) -> Signature) -> Summary {
        let mut all = Summary { free: self.free.count_ones(), ..Summary::NOTHING };
        let mut last_class = None;
        // Busy ones too: then it also says of which clauses none of them keeps any.
        for class in &self.class[..self.len] {
            if last_class.replace(*class) != Some(*class) {
                all.signature = all.signature.or(&signature(*class));
            }
        }
        for at in bits(self.free) {
            for d in 0..3 {
                all.reach[d] = all.reach[d].max(self.reach[d][at]);
                all.least[d] = all.least[d].min(self.least[d][at]);
            }
            (0..5).for_each(|p| all.prices[p] = all.prices[p].min(self.prices[p][at]));
            all.unreliable = all.unreliable.min(self.unreliable[at]);
            all.threads = all.threads.max(self.threads[at]);
            all.speed = all.speed.max(self.speed[at]);
            all.shortest = all.shortest.min(self.shortest[at]);
            all.longest = all.longest.max(self.longest[at]);
            all.listed = all.listed.min(self.listed[at]);
        }
        all
    }

    /// A bit for each that can be had now and passes in every column.
    pub fn fitting(&self, floor: &Floor) -> u64 {
        let fits = |at: usize| {
            (self.reach[0][at] >= floor.need[0])
                & (self.reach[1][at] >= floor.need[1])
                & (self.reach[2][at] >= floor.need[2])
                & (self.reach[0][at] >= self.least[0][at])
                & (self.reach[1][at] >= self.least[1][at])
                & (self.reach[2][at] >= self.least[2][at])
                & (self.least[0][at] <= floor.at_most[0])
                & (self.least[1][at] <= floor.at_most[1])
                & (self.least[2][at] <= floor.at_most[2])
                & (self.speed[at] >= floor.speed)
                & (self.shortest[at] <= floor.shortest)
                & (self.longest[at] >= floor.longest)
                & (self.threads[at] >= floor.threads)
                & (self.unreliable[at] <= floor.unreliable)
        };
        lanes(fits) & self.free
    }
}

/// A bit for each place of which this is so.
pub(super) fn lanes(is_so: impl Fn(usize) -> bool) -> u64 {
    let mut so = [0u8; ROOM];
    so.iter_mut().enumerate().for_each(|(at, so)| *so = u8::from(is_so(at)));
    packed(&so)
}

/// The places of the bits that are set.
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(at)
    })
}

/// One bit of each byte, which is 0 or 1.
fn packed(bytes: &[u8; ROOM]) -> u64 {
    let (eights, _) = bytes.as_chunks::<8>();
    let byte = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    eights.iter().enumerate().fold(0, |all, (n, eight)| all | byte(eight) << (8 * n))
}

#[cfg(test)]
mod tests;
