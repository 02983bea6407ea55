//! The plain way to find: look at every listing. What an index finds must equal what this finds.

use super::admit::{Listing, Match, Unfit, admit};
use crate::ids::AccountId;
use crate::image::ImageManifest;
use crate::requirements::Resolved;

/// The partitions that fit, best first: cheapest in all, then most reliable, then listed longest.
pub fn find(
    listings: &[Listing<'_>],
    needs: &Resolved,
    client: AccountId,
    images: &[&ImageManifest],
) -> Result<Vec<Match>, Vec<(Unfit, usize)>> {
    let mut found = Vec::new();
    let mut unfit = std::collections::BTreeMap::new();
    for listing in listings {
        match admit(listing, needs, client, images) {
            Ok(hit) => found.push((hit.total, std::cmp::Reverse(listing.reliability_permille), listing.listed_at, hit)),
            Err(why) => *unfit.entry(why).or_insert(0) += 1,
        }
    }
    if found.is_empty() {
        return Err(unfit.into_iter().collect());
    }
    found.sort_by_key(|(total, reliability, listed, hit)| (*total, *reliability, *listed, hit.partition));
    Ok(found.into_iter().map(|(.., hit)| hit).collect())
}
