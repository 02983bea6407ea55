//! The answer, found by looking at everything. Written apart from the market's own code, so that
//! equal answers mean something.

use crate::data::{Audience, Host, Market, Partition};
use crate::query::{LIMIT, Query};
use sublet_model::host::Tier;
use uuid::Uuid;

/// One match: which partition, and its price for the whole term in micros.
pub type Answer = (Uuid, i64);

/// Price for an hour, if it fits apart from its price.
fn hourly(host: &Host, partition: &Partition, query: &Query) -> Option<i64> {
    let reach = partition.reach?;
    let seconds = query.hours * 3600;
    let fits = host.arch == query.arch
        && query.regions & (1 << host.region) != 0
        && query.nets & (1 << host.net) != 0
        && host.flags & query.flags == query.flags
        && host.threads >= query.vcpus
        && host.oses & (1 << query.os) != 0
        && (host.terms.0..=host.terms.1).contains(&seconds)
        && host.confined
        && matches!(host.audience, Audience::Everyone | Audience::With)
        && (host.tier == Tier::Kvm || (query.emulated && host.to_strangers))
        && query.needs.cpu.max(partition.min.cpu) <= reach.cpu
        && query.needs.memory.max(partition.min.memory) <= reach.memory
        && query.needs.memory.max(partition.min.memory).0 <= query.memory_at_most
        && query.needs.disk.max(partition.min.disk) <= reach.disk;
    let gets = query.needs.max(partition.min);
    let [_, flat, core, memory, disk] = host.prices;
    fits.then(|| flat + core * gets.cpu.0 / 1000 + memory * gets.memory.0 / 1024 + disk * gets.disk.0)
}

/// The hourly prices of all that fits, whatever it costs.
pub fn hourly_of_fitting(market: &Market, query: &Query) -> Vec<i64> {
    market.partitions.iter().filter_map(|p| hourly(market.host_of(p), p, query)).collect()
}

/// The best matches: cheapest first, then listed longest, then by id.
pub fn answer(market: &Market, query: &Query) -> Vec<Answer> {
    let mut found: Vec<(i64, i64, Uuid)> = market
        .partitions
        .iter()
        .filter_map(|p| {
            let host = market.host_of(p);
            let hourly = hourly(host, p, query).filter(|price| *price <= query.price_at_most)?;
            Some((host.prices[0] + hourly * query.hours, p.listed_at, p.id))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().take(LIMIT).map(|(total, _, id)| (id, total)).collect()
}
