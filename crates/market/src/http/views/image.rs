//! Images and offers.

use crate::engine::rows::{Image, OfferRow};
use crate::engine::state::State;
use sublet_wire::api::{ImageView, OfferView};

/// An image of the catalogue.
pub fn image(row: &Image) -> ImageView {
    ImageView {
        reference: row.manifest.reference(),
        manifest: row.manifest.clone(),
        digest: row.digest.to_string(),
        key: row.signed.key,
        depot: row.depot.clone(),
        suspended: row.suspended,
    }
}

/// The newest version of an offer.
pub fn offer(state: &State, row: &OfferRow) -> OfferView {
    let offer = &row.offer;
    let listed = state.partitions().filter(|p| p.lendable && p.offer == Some(offer.id)).count();
    OfferView {
        id: offer.id,
        version: offer.version,
        account: offer.account,
        conditions: offer.conditions.clone(),
        partitions: listed,
    }
}
