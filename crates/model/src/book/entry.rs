//! What the market tells the book of one computer.

use crate::host::Inventory;
use crate::ids::{HostId, PartitionId};
use crate::offer::Offer;
use crate::resources::Resources;
use crate::units::Timestamp;
use std::sync::Arc;

/// A computer that lends.
#[derive(Debug, Clone, Copy)]
pub struct Lending<'a> {
    /// Which one.
    pub host: HostId,
    /// Its name.
    pub name: &'a str,
    /// What it has.
    pub inventory: &'a Arc<Inventory>,
    /// Of its last 100 leases, how many of a thousand did not end by its own fault.
    pub reliability_permille: u16,
}

/// A partition of it that is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// Which one.
    pub partition: PartitionId,
    /// On what conditions.
    pub offer: Arc<Offer>,
    /// The most it could become, if nobody held it.
    pub reach: Resources,
    /// Whether nobody holds it, and its host is heard of.
    pub free: bool,
    /// Its min: what is allocated even if less was asked.
    pub least: Resources,
    /// When it was listed.
    pub listed_at: Timestamp,
    /// Until when nobody is to have it all the same.
    pub closed_until: Option<Timestamp>,
}
