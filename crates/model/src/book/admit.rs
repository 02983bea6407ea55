//! The one rule of fit: whether a partition, as it could become, meets requirements; and if not, why.

use crate::billing::PriceList;
use crate::host::{Inventory, Tier};
use crate::ids::{AccountId, PartitionId};
use crate::image::ImageManifest;
use crate::offer::{Audience, Offer};
use crate::requirements::Resolved;
use crate::resources::{Dimension, Resources};
use crate::units::{Micros, MicrosPerHour, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One partition that is lent out to whoever fits, as the book sees it.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    /// Which partition.
    pub partition: PartitionId,
    /// Name of its host.
    pub host_name: &'a str,
    /// Its host.
    pub inventory: &'a Inventory,
    /// On what conditions.
    pub offer: &'a Offer,
    /// The most it could become now; none while a lease holds it or its host is not heard of.
    pub reach: Option<Resources>,
    /// Its min: what is allocated even if less was asked.
    pub least: Resources,
    /// Of the host's last 100 leases, how many of a thousand did not end by its own fault.
    pub reliability_permille: u16,
    /// When it was listed.
    pub listed_at: Timestamp,
}

/// A partition that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Which partition.
    pub partition: PartitionId,
    /// What it would have.
    pub resources: Resources,
    /// What it would cost for an hour.
    pub hourly: MicrosPerHour,
    /// What it would cost for the whole term.
    pub total: Micros,
    /// Position in the catalogue of the image that would boot.
    pub image: usize,
}

/// Why a partition does not fit: the first clause that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// In use, or its host is not heard of.
    Busy,
    /// Too small in this dimension, whatever is altered.
    TooSmall(Dimension),
    /// The host has too few hardware threads.
    Vcpus,
    /// Emulated, and not both sides opted in.
    Emulated,
    /// Unconfined: its owner's own account only.
    Unconfined,
    /// Not lent to this account.
    Audience,
    /// The term is too short or too long.
    Term,
    /// No image that was asked for is allowed there and fits.
    Image,
    /// Another architecture.
    Arch,
    /// A label is missing.
    Labels,
    /// Another host was asked for.
    Host,
    /// Too dear.
    Price,
}

impl Unfit {
    /// In words, for the person who searched.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Busy => "in use, or its host is not heard of at the moment",
            Self::TooSmall(Dimension::Cpu) => "can't become that large in cpu",
            Self::TooSmall(Dimension::Memory) => "can't become that large in memory",
            Self::TooSmall(Dimension::Disk) => "can't become that large in disk",
            Self::Vcpus => "the host has fewer hardware threads than the vcpus asked",
            Self::Emulated => "emulated, which is left out unless both sides opt in (ask with --emulated)",
            Self::Unconfined => "runs unconfined, so it is lent only to its owner's own account",
            Self::Audience => "not lent to this account",
            Self::Term => "the term is shorter or longer than the offer allows",
            Self::Image => "no image that was asked for is allowed there and fits into it",
            Self::Arch => "another architecture",
            Self::Labels => "a label that was asked for is missing",
            Self::Host => "on another host than the one asked for",
            Self::Price => "dearer than the ceiling",
        }
    }
}

/// The one function that says whether a partition fits: it finds, and it admits at the grant.
pub fn admit(
    listing: &Listing<'_>,
    needs: &Resolved,
    client: AccountId,
    images: &[&ImageManifest],
) -> Result<Match, Unfit> {
    let conditions = &listing.offer.conditions;
    let own = listing.offer.account == client;
    let asked = &needs.asked;
    let refuse_unless = |ok: bool, why: Unfit| if ok { Ok(()) } else { Err(why) };

    refuse_unless(asked.host.as_ref().is_none_or(|h| h == listing.host_name), Unfit::Host)?;
    refuse_unless(asked.arch.as_ref().is_none_or(|a| *a == listing.inventory.arch), Unfit::Arch)?;
    refuse_unless(
        match &conditions.audience {
            Audience::Everyone => true,
            Audience::Own => own,
            Audience::Accounts(accounts) => own || accounts.contains(&client),
        },
        Unfit::Audience,
    )?;
    refuse_unless(own || listing.inventory.confined, Unfit::Unconfined)?;
    let emulated = listing.inventory.tier == Tier::Emulated;
    refuse_unless(!emulated || (needs.emulated && (own || conditions.emulated_to_strangers)), Unfit::Emulated)?;
    let terms = conditions.shortest_term_seconds..=conditions.longest_term_seconds;
    refuse_unless(terms.contains(&needs.term), Unfit::Term)?;
    refuse_unless(asked.labels.iter().all(|(k, v)| conditions.labels.get(k) == Some(v)), Unfit::Labels)?;
    refuse_unless(needs.vcpus <= listing.inventory.threads, Unfit::Vcpus)?;

    let reach = listing.reach.ok_or(Unfit::Busy)?;
    let resources = needs.resources.max(listing.least);
    if let Some(dimension) = resources.exceeds(reach) {
        return Err(Unfit::TooSmall(dimension));
    }
    let image = newest_image(listing, needs, images).ok_or(Unfit::Image)?;
    let (hourly, total) = price(&conditions.prices, resources, needs);
    refuse_unless(asked.price_at_most.is_none_or(|most| hourly <= most), Unfit::Price)?;
    refuse_unless(asked.total_at_most.is_none_or(|most| total <= most), Unfit::Price)?;
    Ok(Match { partition: listing.partition, resources, hourly, total, image })
}

fn price(prices: &PriceList, resources: Resources, needs: &Resolved) -> (MicrosPerHour, Micros) {
    (prices.hourly(resources), prices.total(resources, needs.term))
}

fn newest_image(listing: &Listing<'_>, needs: &Resolved, images: &[&ImageManifest]) -> Option<usize> {
    let allowed = &listing.offer.conditions.images;
    let fits = |image: &ImageManifest| {
        needs.accepts_image(image)
            && image.arch == listing.inventory.arch
            && (allowed.is_empty() || allowed.iter().any(|a| image.answers(None, Some(a))))
    };
    let fitting = images.iter().enumerate().filter(|(_, image)| fits(image));
    fitting.max_by_key(|(_, image)| (image.created_at, image.reference())).map(|(at, _)| at)
}
