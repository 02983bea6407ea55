//! How the market looks into its book: from here both searching and granting look.

use super::rows::Image;
use super::state::State;
use sublet_model::book::{Found, Listing, Nearest, Search, Unfit, admit};
use sublet_model::ids::HostId;
use sublet_model::image::ImageManifest;
use sublet_model::units::Timestamp;

/// Up to how many partitions lent it is counted, without being asked, why each does not fit.
const FEW: usize = 2000;

/// The best partitions that fit.
pub fn find<'a>(state: &'a State, search: &Search<'_>, limit: usize) -> Found<'a> {
    state.book().find(search, limit, |host| is_heard(state, host, search.now))
}

/// What is near, where nothing fits.
pub fn nearest(state: &State, search: &Search<'_>) -> Nearest {
    state.book().nearest(search, &|host| is_heard(state, host, search.now))
}

/// Where nothing fits: for each clause, how many partitions break it first. Empty where many are
/// lent, for it takes a look at each.
pub fn unfit(state: &State, search: &Search<'_>) -> Vec<(Unfit, usize)> {
    if state.book().len() > FEW {
        return Vec::new();
    }
    let mut counts = std::collections::BTreeMap::new();
    state.book().each(search.now, |host, listing| {
        let reach = listing.reach.filter(|_| is_heard(state, host, search.now));
        let listing = Listing { reach, ..*listing };
        if let Err(why) = admit(&listing, search.needs, search.client, search.images, search.now) {
            *counts.entry(why).or_insert(0) += 1;
        }
    });
    counts.into_iter().collect()
}

/// Whether a host was heard so lately that something may be granted on it.
fn is_heard(state: &State, host: HostId, now: Timestamp) -> bool {
    state.live(host).is_some_and(|live| live.is_fresh(now))
}

/// The images that may boot in new leases, with their manifests in the same order.
pub fn images(state: &State) -> (Vec<&Image>, Vec<&ImageManifest>) {
    state.images().filter(|image| !image.suspended).map(|image| (image, &image.manifest)).unzip()
}
