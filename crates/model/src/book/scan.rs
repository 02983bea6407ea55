//! The plain way to find: look at every listing. What an index finds must equal what this finds.

use super::admit::{Listing, Match, admit};
use super::rank::Rank;
use super::unfit::Unfit;
use crate::ids::AccountId;
use crate::image::ImageManifest;
use crate::requirements::Resolved;
use crate::units::Timestamp;

/// The partitions that fit, best first by the order asked for.
pub fn find(
    listings: &[Listing<'_>],
    needs: &Resolved,
    client: AccountId,
    images: &[&ImageManifest],
    now: Timestamp,
) -> Result<Vec<Match>, Vec<(Unfit, usize)>> {
    let mut found = Vec::new();
    let mut unfit = std::collections::BTreeMap::new();
    for listing in listings {
        match admit(listing, needs, client, images, now) {
            Ok(hit) => found.push((Rank::of(&hit, listing, &needs.asked), hit)),
            Err(why) => *unfit.entry(why).or_insert(0) += 1,
        }
    }
    if found.is_empty() {
        return Err(unfit.into_iter().collect());
    }
    found.sort_unstable_by_key(|(rank, _)| *rank);
    Ok(found.into_iter().map(|(_, hit)| hit).collect())
}
