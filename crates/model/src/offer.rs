//! Lending conditions. Immutable: a change makes a new version, and leases keep the old one.

mod window;
mod windows;

pub use windows::{ClockTime, Day, Opening, Window, Windows};

use crate::billing::PriceList;
use crate::ids::{AccountId, OfferId};
use crate::units::{Micros, MicrosPerHour, Seconds, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Who may rent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Every account of the market.
    #[default]
    Everyone,
    /// Only the owner's own account.
    Own,
    /// These accounts, and the owner's own.
    Accounts(Vec<AccountId>),
}

/// On what conditions partitions are lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// What is asked.
    pub prices: PriceList,
    /// The shortest term.
    pub shortest_term_seconds: Seconds,
    /// The longest term.
    pub longest_term_seconds: Seconds,
    /// Notice before the owner takes it back; none: never within the term.
    pub reclaim_notice_seconds: Option<Seconds>,
    /// What is given back to whoever is evicted: taken back at once, without a notice that was
    /// promised. At most what the lease earned.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub eviction_credit: Micros,
    /// Who may rent.
    pub audience: Audience,
    /// Names of the images that may boot; empty: any of the catalogue.
    #[serde(default)]
    pub images: Vec<String>,
    /// Whether the owner lends emulated partitions to strangers, knowing what that means.
    pub emulated_to_strangers: bool,
    /// Such as `region=eu`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it is open: the whole term must fit. None: at all times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
}

fn is_nothing(micros: &Micros) -> bool {
    *micros == Micros::ZERO
}

impl Conditions {
    /// Terms from a minute to a week, to everyone, for nothing.
    pub fn free() -> Self {
        Self {
            prices: PriceList::default(),
            shortest_term_seconds: Seconds(60),
            longest_term_seconds: Seconds(7 * 86_400),
            reclaim_notice_seconds: None,
            eviction_credit: Micros::ZERO,
            audience: Audience::Everyone,
            images: Vec::new(),
            emulated_to_strangers: false,
            labels: BTreeMap::new(),
            windows: None,
        }
    }

    /// Whether it is open now, and until when.
    pub fn opening(&self, now: Timestamp) -> Opening {
        self.windows.as_ref().map_or(Opening::Always, |windows| windows.at(now))
    }

    /// Checks every amount and every list.
    pub fn check(&self) -> Result<(), String> {
        if !self.prices.is_plausible() {
            return Err("a price is below zero or above a million an hour".into());
        }
        let terms = Seconds(1)..=Seconds::MAX;
        if !terms.contains(&self.shortest_term_seconds) || !terms.contains(&self.longest_term_seconds) {
            return Err("a term must be from a second to ten years".into());
        }
        if self.shortest_term_seconds > self.longest_term_seconds {
            return Err("the shortest term is longer than the longest".into());
        }
        if self.reclaim_notice_seconds.is_some_and(|n| !(Seconds::ZERO..=Seconds::MAX).contains(&n)) {
            return Err("the notice must be from nothing to ten years".into());
        }
        if !(0..=MicrosPerHour::MAX.0).contains(&self.eviction_credit.0) {
            return Err("the credit of who is evicted must be from nothing to a million".into());
        }
        let many = match &self.audience {
            Audience::Accounts(accounts) => accounts.len() > 1000,
            _ => false,
        };
        let label =
            |t: &str| (1..=63).contains(&t.len()) && t.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if many || self.images.len() > 100 || self.labels.len() > 32 {
            return Err("too many accounts, images or labels".into());
        }
        if self.labels.iter().any(|(k, v)| !label(k) || !label(v)) || self.images.iter().any(|i| i.len() > 200) {
            return Err("labels are 1 to 63 letters, digits and ._- on either side of =".into());
        }
        self.windows.as_ref().map_or(Ok(()), Windows::check)
    }
}

/// One version of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// Rises with every change.
    pub version: u32,
    /// Who lends.
    pub account: AccountId,
    /// On what conditions.
    pub conditions: Conditions,
}
