//! Which of two matches comes first.

use super::admit::{Listing, Match};
use crate::ids::PartitionId;
use crate::requirements::{OrderBy, OrderKey, Requirements};

/// Where a match stands among others: the lesser comes first. No two partitions are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// What was asked for first; then price in all, reliability, age.
    keys: Keys,
    partition: PartitionId,
}

/// Where a partition stands, as far as its values tell: those that are equal stand by their ids,
/// which few need to be asked for.
pub(super) type Keys = [i64; Requirements::MOST_ORDER_KEYS + LAST.len()];

/// What decides between those that are equal in all that was asked for.
const LAST: [OrderBy; 3] = [OrderBy::Total, OrderBy::Reliability, OrderBy::Age];

/// The keys of these values, the lesser the better; what is reversed comes reversed.
pub(super) fn keys(order: &[OrderKey], value: impl Fn(OrderBy, bool) -> i64) -> Keys {
    let mut keys = [0; Requirements::MOST_ORDER_KEYS + LAST.len()];
    let asked = order.iter().take(Requirements::MOST_ORDER_KEYS).map(|key| value(key.by, key.reversed));
    // What decides stands in front, whoever compares reads no further.
    let all = asked.chain(LAST.map(|by| value(by, false)));
    keys.iter_mut().zip(all).for_each(|(key, value)| *key = value);
    keys
}

impl Rank {
    /// The rank of a match under the order asked for.
    pub fn of(hit: &Match, listing: &Listing<'_>, asked: &Requirements) -> Self {
        let value = |by, reversed: bool| {
            let value = value(by, hit, listing);
            if reversed { value.saturating_neg() } else { value }
        };
        Self { keys: keys(&asked.order, value), partition: hit.partition }
    }
}

/// The lesser the better.
fn value(by: OrderBy, hit: &Match, listing: &Listing<'_>) -> i64 {
    match by {
        OrderBy::Total => hit.total.0,
        OrderBy::Price => hit.hourly.0,
        OrderBy::Reliability => -i64::from(listing.reliability_permille),
        OrderBy::Age => listing.listed_at.0,
        OrderBy::Cpu => -hit.resources.cpu.0,
        OrderBy::Memory => -hit.resources.memory.0,
        OrderBy::Disk => -hit.resources.disk.0,
        OrderBy::Speed => -i64::from(listing.inventory.speed),
    }
}
