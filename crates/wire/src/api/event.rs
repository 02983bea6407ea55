//! What happens in a market, as it is told to whoever listens.

use serde::{Deserialize, Serialize};
use sublet_model::ids::LeaseId;
use sublet_model::units::Timestamp;
use utoipa::ToSchema;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When, by the market's clock.
    pub at: Timestamp,
    /// `granted`, `ready`, `extended`, `silent`, `heard`, `ends_soon`, `stopped`, `lost`, `ended`, `billed`,
    /// `disputed`, `resolved`, `credited`, or an alert's kind: `funds_low`, `out_of_funds`.
    pub what: String,
    /// About which lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// What its client calls it; the lender is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All of it.
    pub words: String,
}

/// The word of an event that says: some may have been missed, look anew.
pub const RESET: &str = "reset";
