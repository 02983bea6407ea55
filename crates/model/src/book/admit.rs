//! The one rule of fit: whether a partition, as it could become, meets requirements; and if not,
//! every clause that it breaks.
//!
//! The rule is a list of clauses in a fixed order. Admitting stops at the first that is broken;
//! explaining walks them all. There is no second rule anywhere.

use super::unfit::{Broken, Unfit};
use crate::host::{Inventory, Tier};
use crate::ids::{AccountId, PartitionId};
use crate::image::ImageManifest;
use crate::offer::{Audience, Offer, Opening};
use crate::requirements::{Choice, Requirements, Resolved};
use crate::resources::Resources;
use crate::units::{Micros, MicrosPerHour, Timestamp};
use std::cell::OnceCell;

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
    /// How many hardware threads the guest would see.
    pub vcpus: u16,
    /// What it would cost for an hour.
    pub hourly: MicrosPerHour,
    /// What it would cost for the whole term.
    pub total: Micros,
    /// Position in the catalogue of the image that would boot.
    pub image: usize,
    /// When the offer closes; none: never.
    pub until: Option<Timestamp>,
}

/// The one function that says whether a partition fits: it finds, and it admits at the grant.
/// If it does not fit, the first clause that it breaks.
pub fn admit(
    listing: &Listing<'_>,
    needs: &Resolved,
    client: AccountId,
    images: &[&ImageManifest],
    now: Timestamp,
) -> Result<Match, Unfit> {
    let case = Case::new(listing, needs, client, images, now);
    // The clauses let nothing through that has no image; were it otherwise, nothing would boot.
    case.fits().ok_or_else(|| case.broken().next().unwrap_or(Unfit::Boots))
}

/// The same where nobody asks why: the clauses are looked at in another order, the cheapest first.
pub fn fit(
    listing: &Listing<'_>,
    needs: &Resolved,
    client: AccountId,
    images: &[&ImageManifest],
    now: Timestamp,
) -> Option<Match> {
    // Half of a market is in use: nothing of those needs to be computed.
    listing.reach?;
    Case::new(listing, needs, client, images, now).fits()
}

/// Every clause that a partition breaks; none if it fits. While it is busy, nobody can say whether
/// it is large enough: then it breaks no clause of size.
pub fn broken(
    listing: &Listing<'_>,
    needs: &Resolved,
    client: AccountId,
    images: &[&ImageManifest],
    now: Timestamp,
) -> Broken {
    Case::new(listing, needs, client, images, now).broken().collect()
}

/// One listing before one client's needs.
pub(super) struct Case<'a> {
    listing: &'a Listing<'a>,
    needs: &'a Resolved,
    client: AccountId,
    images: &'a [&'a ImageManifest],
    now: Timestamp,
    allocated: Resources,
    vcpus: u16,
    /// The image that would boot, once it was looked for.
    image: OnceCell<Option<usize>>,
}

impl<'a> Case<'a> {
    pub fn new(
        listing: &'a Listing<'a>,
        needs: &'a Resolved,
        client: AccountId,
        images: &'a [&'a ImageManifest],
        now: Timestamp,
    ) -> Self {
        let allocated = needs.allocated(listing.least);
        let vcpus = needs.seen_vcpus(allocated);
        Self { listing, needs, client, images, now, allocated, vcpus, image: OnceCell::new() }
    }

    fn fits(&self) -> Option<Match> {
        self.fits_where(&self.needs.ready.clauses)
    }

    /// The same where all other clauses are known to hold: only `rest` is looked at.
    pub fn fits_rest(&self, rest: &[Unfit]) -> Option<Match> {
        let found = self.fits_where(rest);
        debug_assert_eq!(found, self.fits(), "what was known does not hold");
        found
    }

    /// Whether it breaks any of these clauses.
    pub fn breaks(&self, clauses: &[Unfit]) -> bool {
        !clauses.iter().all(|clause| self.holds(*clause))
    }

    /// The place of the first of these clauses that it breaks, and whether it breaks another.
    pub fn first_broken(&self, clauses: &[Unfit]) -> Option<(usize, bool)> {
        let mut broken = (0..clauses.len()).filter(|at| !self.holds(clauses[*at]));
        broken.next().map(|first| (first, broken.next().is_some()))
    }

    fn fits_where(&self, clauses: &[Unfit]) -> Option<Match> {
        if self.breaks(clauses) {
            return None;
        }
        let conditions = &self.listing.offer.conditions;
        let until = match conditions.opening(self.now) {
            Opening::Open { until } => Some(until),
            Opening::Always | Opening::Closed { .. } => None,
        };
        Some(Match {
            partition: self.listing.partition,
            resources: self.allocated,
            vcpus: self.vcpus,
            hourly: conditions.prices.hourly(self.allocated),
            total: conditions.prices.total(self.allocated, self.needs.term),
            image: self.image()?,
            until,
        })
    }

    /// The clauses that are broken, in the fixed order, found one by one.
    fn broken(&self) -> impl Iterator<Item = Unfit> {
        Unfit::all(&self.needs.asked).filter(|clause| !self.holds(*clause))
    }

    fn holds(&self, clause: Unfit) -> bool {
        let (listing, needs, asked) = (self.listing, self.needs, &self.needs.asked);
        let (inventory, conditions) = (listing.inventory, &listing.offer.conditions);
        let open = |choice: &Option<Choice>, word: &str| Choice::open_to(choice.as_ref(), word);
        match clause {
            Unfit::Host => open(&asked.host, listing.host_name),
            Unfit::Arch => needs.ready.arch.as_ref().is_none_or(|words| words.accept(|word| word == inventory.arch)),
            Unfit::Audience => match &conditions.audience {
                Audience::Everyone => true,
                Audience::Own => self.own(),
                Audience::Accounts(accounts) => self.own() || accounts.contains(&self.client),
            },
            Unfit::Unconfined => self.own() || inventory.confined,
            Unfit::Emulated => inventory.tier != Tier::Emulated || needs.emulated,
            Unfit::EmulatedToStrangers => {
                inventory.tier != Tier::Emulated || self.own() || conditions.emulated_to_strangers
            }
            Unfit::Tier => asked.tier.is_none_or(|tier| tier == inventory.tier),
            Unfit::Term => (conditions.shortest_term_seconds..=conditions.longest_term_seconds).contains(&needs.term),
            Unfit::Window => self.open_for_the_term(),
            Unfit::Label(at) => needs.ready.labels.get(usize::from(at)).is_none_or(|(key, words)| {
                let value = conditions.labels.get(key);
                words.accept(|word| value.is_some_and(|value| value == word))
            }),
            Unfit::Trait(at) => {
                let asked = needs.ready.traits.get(usize::from(at));
                asked.is_none_or(|(name, wanted)| has(inventory, name) == *wanted)
            }
            Unfit::CpuModel => needs.accepts_cpu_model(&inventory.cpu_model),
            Unfit::Speed => asked.speed_at_least.is_none_or(|least| inventory.speed >= least),
            Unfit::Reliability => {
                asked.reliability_permille_at_least.is_none_or(|least| listing.reliability_permille >= least)
            }
            Unfit::Vcpus => needs.vcpus <= inventory.threads,
            Unfit::TooManyVcpus => self.vcpus <= needs.vcpus_at_most,
            Unfit::Busy => listing.reach.is_some(),
            Unfit::TooSmall(dimension) => {
                listing.reach.is_none_or(|reach| self.allocated.get(dimension) <= reach.get(dimension))
            }
            Unfit::TooLarge(dimension) => self.allocated.get(dimension) <= needs.at_most.get(dimension),
            Unfit::Os => asked.os.is_none() || self.bootable().any(|(_, image)| needs.accepts_os(image)),
            Unfit::Image => asked.image.is_none() || self.bootable().any(|(_, image)| needs.accepts_image(image)),
            Unfit::Boots => self.image().is_some() || !self.holds(Unfit::Os) || !self.holds(Unfit::Image),
            Unfit::Price => asked.price_at_most.is_none_or(|most| conditions.prices.hourly(self.allocated) <= most),
            Unfit::Total => {
                asked.total_at_most.is_none_or(|most| conditions.prices.total(self.allocated, needs.term) <= most)
            }
        }
    }

    fn own(&self) -> bool {
        self.listing.offer.account == self.client
    }

    fn open_for_the_term(&self) -> bool {
        match self.listing.offer.conditions.opening(self.now) {
            Opening::Always => true,
            Opening::Open { until } => self.now.after(self.needs.term) <= until,
            Opening::Closed { .. } => false,
        }
    }

    /// The images that the offer allows on this computer, whatever was asked, with their positions.
    fn bootable(&self) -> impl Iterator<Item = (usize, &'a ImageManifest)> {
        let allowed = &self.listing.offer.conditions.images;
        let arch = &self.listing.inventory.arch;
        let images = self.images.iter().copied().enumerate();
        images.filter(move |(_, image)| {
            image.arch == *arch && (allowed.is_empty() || allowed.iter().any(|a| image.answers(None, Some(a))))
        })
    }

    /// The newest image that was asked for, is allowed and comes up in what would be allocated.
    fn image(&self) -> Option<usize> {
        *self.image.get_or_init(|| self.newest_image())
    }

    fn newest_image(&self) -> Option<usize> {
        let fits = |image: &ImageManifest| {
            self.needs.accepts_os(image)
                && self.needs.accepts_image(image)
                && self.allocated.memory >= image.minimum_memory
                && self.vcpus >= image.minimum_vcpus
        };
        let fitting = self.bootable().filter(|(_, image)| fits(image));
        let newer = |a: &ImageManifest, b: &ImageManifest| {
            a.created_at.cmp(&b.created_at).then_with(|| a.reference().cmp(&b.reference()))
        };
        fitting.max_by(|(_, a), (_, b)| newer(a, b)).map(|(at, _)| at)
    }
}

/// Whether a computer has a trait.
fn has(inventory: &Inventory, name: &str) -> bool {
    match name {
        Requirements::CONFINED => inventory.confined,
        flag => inventory.cpu_flags.iter().any(|f| f == flag),
    }
}

#[cfg(test)]
mod tests;
