//! What is lent, as the book sees it: from here both searching and granting look.

use super::rows::{Host, Image, PartitionRow};
use super::state::State;
use sublet_model::book::Listing;
use sublet_model::image::ImageManifest;
use sublet_model::partition::alter;
use sublet_model::units::Timestamp;

/// Every partition that is lent, held ones too: they count as busy.
pub fn listings(state: &State, now: Timestamp) -> Vec<Listing<'_>> {
    let lending = |host: &&Host| !host.suspended && state.account(host.account).is_some_and(|a| !a.suspended);
    state.hosts().filter(lending).flat_map(|host| of_host(state, host, now)).collect()
}

fn of_host<'a>(state: &'a State, host: &'a Host, now: Timestamp) -> Vec<Listing<'a>> {
    let is_lent = |p: &&PartitionRow| p.lendable && !p.leaving && p.unlisted_until.is_none_or(|until| until <= now);
    let (slots, lendable) = (state.slots(host.id), host.lendable());
    let fresh = state.live(host.id).is_some_and(|live| live.is_fresh(now));
    let listing = |p: &'a PartitionRow| {
        let offer = state.newest_offer(p.offer?)?;
        Some(Listing {
            partition: p.id,
            host_name: &host.name,
            inventory: &host.inventory,
            offer: &offer.offer,
            reach: if fresh { alter::reach(lendable, &slots, p.id) } else { None },
            least: p.profile.min,
            reliability_permille: state.reliability_permille(host.id),
            listed_at: p.listed_at.unwrap_or(p.declared_at),
        })
    };
    state.partitions_of(host.id).filter(is_lent).filter_map(listing).collect()
}

/// The images that may boot in new leases, with their manifests in the same order.
pub fn images(state: &State) -> (Vec<&Image>, Vec<&ImageManifest>) {
    state.images().filter(|image| !image.suspended).map(|image| (image, &image.manifest)).unzip()
}
