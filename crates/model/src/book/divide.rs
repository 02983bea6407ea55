//! How many partitions are divided in two, again and again, so that what ends up together is alike:
//! then the best of each column says much about all of them.

use super::class::{Classes, Signature};
use super::leaf::Row;

/// What tells two halves apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Those that have this fact are on the left.
    Fact { word: usize, bit: u32 },
    /// Those at or below this are on the left.
    AtMost(Column, i64),
}

/// A column by which partitions can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Price(usize),
    Reach(usize),
    Least(usize),
    Shortest,
    Longest,
    Unreliable,
    Threads,
    Speed,
    Listed,
    Number,
}

impl Column {
    fn of(self, row: &Row) -> i64 {
        match self {
            Self::Price(at) => i64::from(row.prices[at]),
            Self::Reach(at) => i64::from(row.reach[at]),
            Self::Least(at) => i64::from(row.least[at]),
            Self::Shortest => i64::from(row.shortest),
            Self::Longest => i64::from(row.longest),
            Self::Unreliable => i64::from(row.unreliable),
            Self::Threads => i64::from(row.threads),
            Self::Speed => i64::from(row.speed),
            Self::Listed => row.listed,
            Self::Number => i64::from(row.number),
        }
    }
}

impl Rule {
    /// On which side a partition belongs.
    pub fn is_left(self, row: &Row, classes: &Classes) -> bool {
        match self {
            Self::Fact { word, bit } => has(&classes.signature(row.class), word, bit),
            Self::AtMost(column, most) => column.of(row) <= most,
        }
    }
}

fn has(signature: &Signature, word: usize, bit: u32) -> bool {
    signature.0[word] >> bit & 1 == 1
}

/// How many are looked at to choose a rule.
const SAMPLE: usize = 64;
/// A request such as many are: what a difference in price is weighed with. Once, an hour, cores,
/// GiB of memory, GiB of disk.
const USUAL: [i64; 5] = [1, 1, 2, 4, 20];

/// Divides rows in two and says by which rule: the left ones come first, as many as is answered.
/// `left` is how many there should be, where it can be chosen. Both sides have at least one.
pub(super) fn divide(rows: &mut [Row], left: usize, classes: &Classes) -> (Rule, usize) {
    match best(rows, classes) {
        Best::Fact { word, bit } => {
            let mut at = 0;
            for i in 0..rows.len() {
                if has(&classes.signature(rows[i].class), word, bit) {
                    rows.swap(i, at);
                    at += 1;
                }
            }
            (Rule::Fact { word, bit }, at)
        }
        Best::Column(column) => {
            let (before, ..) = rows.select_nth_unstable_by_key(left, |row| column.of(row));
            let most = before.iter().map(|row| column.of(row)).max().unwrap_or(i64::MIN);
            (Rule::AtMost(column, most), left)
        }
    }
}

enum Best {
    Fact { word: usize, bit: u32 },
    Column(Column),
}

/// By what these differ most, as far as it matters to those who search.
fn best(rows: &[Row], classes: &Classes) -> Best {
    let step = rows.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<&Row> = rows.iter().step_by(step).collect();
    let (mut best, mut score) = (Best::Column(Column::Number), 0.0);
    let mut consider = |this: Best, worth: f64| {
        if worth > score {
            (best, score) = (this, worth);
        }
    };
    for (word, bit, worth) in facts(&sample, classes) {
        consider(Best::Fact { word, bit }, worth);
    }
    for (column, worth) in columns(&sample) {
        consider(Best::Column(column), worth);
    }
    best
}

/// Facts that some have and others don't; the nearer to half, the better.
fn facts(sample: &[&Row], classes: &Classes) -> Vec<(usize, u32, f64)> {
    let all: Vec<Signature> = sample.iter().map(|row| classes.signature(row.class)).collect();
    let some = all.iter().fold(Signature::NONE, |some, s| some.or(s));
    let mut found = Vec::new();
    for word in 0..4 {
        let every = all.iter().fold(u64::MAX, |every, s| every & s.0[word]);
        for bit in super::leaf::bits(some.0[word] & !every) {
            let bit = bit as u32;
            let share = all.iter().filter(|s| has(s, word, bit)).count() as f64 / all.len() as f64;
            found.push((word, bit, 0.35 * 4.0 * share * (1.0 - share)));
        }
    }
    found
}

/// Columns, each with how much it differs between the lower tenth and the upper one. Prices first:
/// every search is ordered by them, and what a part could cost at the least is known only as well
/// as its prices are alike. The weights were found by trying, on a million partitions.
fn columns(sample: &[&Row]) -> impl Iterator<Item = (Column, f64)> {
    let ends = |column: Column| {
        let mut all: Vec<i64> = sample.iter().map(|row| column.of(row)).collect();
        all.sort_unstable();
        let tenth = all.len() / 10;
        (all[tenth] as f64, all[all.len() - 1 - tenth] as f64, all[all.len() / 2] as f64)
    };
    let usual: f64 = (0..5).map(|p| ends(Column::Price(p)).2 * USUAL[p] as f64).sum::<f64>() + 1.0;
    let prices = (0..5).map(move |p| (Column::Price(p), USUAL[p] as f64 / usual));
    let sizes = (0..3).flat_map(|d| [(Column::Reach(d), 0.015), (Column::Least(d), 0.005)]);
    let others = [
        (Column::Shortest, 0.003),
        (Column::Longest, 0.003),
        (Column::Threads, 0.003),
        (Column::Speed, 0.005),
        (Column::Unreliable, 0.003),
    ];
    let all = prices.map(|(c, w)| (c, w, false)).chain(sizes.chain(others).map(|(c, w)| (c, w, true)));
    all.chain([(Column::Listed, 1e-18, false)]).map(move |(column, weight, by_doublings)| {
        let (low, high, _) = ends(column);
        let spread = if by_doublings { ((high + 1.0) / (low + 1.0)).log2() } else { high - low };
        (column, weight * spread)
    })
}

#[cfg(test)]
mod tests;
