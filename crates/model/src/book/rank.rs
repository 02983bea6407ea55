//! Which of two matches comes first.

use super::admit::{Listing, Match};
use crate::ids::PartitionId;
use crate::requirements::{OrderBy, OrderKey, Requirements};

/// Where a match stands among others: the lesser comes first. No two partitions are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// What was asked for first, nothing where less was asked; then price in all, reliability, age.
    keys: Keys,
    partition: PartitionId,
}

/// Where a partition stands, as far as its values tell: those that are equal stand by their ids,
/// which few need to be asked for.
pub(super) type Keys = [i64; Requirements::MOST_ORDER_KEYS + 3];

/// The keys of these values, the lesser the better; what is reversed comes reversed.
pub(super) fn keys(order: &[OrderKey], value: impl Fn(OrderBy, bool) -> i64) -> Keys {
    let mut keys = [0; Requirements::MOST_ORDER_KEYS + 3];
    let asked = order.iter().take(Requirements::MOST_ORDER_KEYS).map(|key| value(key.by, key.reversed));
    keys.iter_mut().zip(asked).for_each(|(key, value)| *key = value);
    let last = [OrderBy::Total, OrderBy::Reliability, OrderBy::Age].map(|by| value(by, false));
    keys[Requirements::MOST_ORDER_KEYS..].copy_from_slice(&last);
    keys
}

impl Rank {
    /// The rank of a match under the order asked for.
    pub fn of(hit: &Match, listing: &Listing<'_>, asked: &Requirements) -> Self {
        let mut keys = [0; Requirements::MOST_ORDER_KEYS + 3];
        for (key, order) in keys.iter_mut().zip(asked.order.iter().take(Requirements::MOST_ORDER_KEYS)) {
            let value = value(order.by, hit, listing);
            *key = if order.reversed { value.saturating_neg() } else { value };
        }
        for (key, by) in
            keys[Requirements::MOST_ORDER_KEYS..].iter_mut().zip([OrderBy::Total, OrderBy::Reliability, OrderBy::Age])
        {
            *key = value(by, hit, listing);
        }
        Self { keys, partition: hit.partition }
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
