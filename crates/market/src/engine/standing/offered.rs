//! What one host lends now, as the rule of fit sees it.

use crate::engine::rows::{Host, PartitionRow};
use crate::engine::state::State;
use sublet_model::book::Listing;
use sublet_model::ids::HostId;
use sublet_model::partition::alter;
use sublet_model::units::Timestamp;

#[cfg(test)]
mod tests;

/// The partitions of a host that are lent; none if nothing may be granted on it.
pub(super) fn on_host(state: &State, host: HostId, now: Timestamp) -> Vec<Listing<'_>> {
    state.host(host).filter(|host| lends(state, host, now)).map(|host| of_host(state, host, now)).unwrap_or_default()
}

fn lends(state: &State, host: &Host, now: Timestamp) -> bool {
    let open = host.forgotten_at.is_none() && !host.suspended;
    let fresh = state.live(host.id).is_some_and(|live| live.is_fresh(now));
    open && fresh && state.account(host.account).is_some_and(|account| !account.suspended)
}

fn of_host<'a>(state: &'a State, host: &'a Host, now: Timestamp) -> Vec<Listing<'a>> {
    let is_lent = |p: &&PartitionRow| p.lendable && !p.leaving && p.unlisted_until.is_none_or(|until| until <= now);
    let (slots, lendable) = (state.slots(host.id), host.lendable());
    let listing = |p: &'a PartitionRow| {
        let offer = state.newest_offer(p.offer?)?;
        Some(Listing {
            partition: p.id,
            host_name: &host.name,
            inventory: &host.inventory,
            offer: &offer.offer,
            reach: alter::reach(lendable, &slots, p.id),
            least: p.profile.min,
            reliability_permille: state.reliability_permille(host.id),
            listed_at: p.listed_at.unwrap_or(p.declared_at),
        })
    };
    state.partitions_of(host.id).filter(is_lent).filter_map(listing).collect()
}
