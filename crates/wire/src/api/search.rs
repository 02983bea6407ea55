//! Bodies of searching: what is needed, what fits, why not, and what would.

use serde::{Deserialize, Serialize};
use sublet_model::billing::PriceList;
use sublet_model::book::{Looked, Unfit};
use sublet_model::host::Tier;
use sublet_model::ids::PartitionId;
use sublet_model::requirements::{self, Assumed, Requirements};
use sublet_model::resources::Resources;
use sublet_model::units::{Micros, MicrosPerHour, Seconds, Timestamp};
use utoipa::ToSchema;

/// Searches.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// What is needed: an object, or a text such as `cpu>=4 os=debian`.
    #[serde(default)]
    #[schema(value_type = requirements::Described)]
    pub requirements: Requirements,
    /// How many matches at most; 20 if absent, 200 at most.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Whether to say how they were found.
    #[serde(default)]
    pub plan: bool,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SearchAnswer {
    /// Best first; empty if nothing fits.
    pub matches: Vec<MatchView>,
    /// What was asked, in the text form as it is printed.
    #[serde(default)]
    pub asked: String,
    /// Defaults that were filled in.
    pub assumed: Vec<Assumed>,
    /// If nothing fits: how many partitions each reason left out. Empty where very many are lent:
    /// ask for what is nearest.
    pub unfit: Vec<UnfitCount>,
    /// How they were found, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Looked>,
}

/// Asks what is near, where nothing fits.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NearestRequest {
    /// What is needed: an object, or a text such as `cpu>=4 os=debian`.
    #[serde(default)]
    #[schema(value_type = requirements::Described)]
    pub requirements: Requirements,
}

/// What is near.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NearestAnswer {
    /// What was asked, in the text form as it is printed.
    pub asked: String,
    /// Partitions that are lent.
    pub lent: usize,
    /// Of those, how many fit as it is.
    pub fitting: usize,
    /// How many partitions each clause alone leaves out, the most first.
    pub alone: Vec<UnfitCount>,
    /// When the first of those that would fit if they were free is given back, at the latest. None
    /// where nobody can say.
    pub free_at: Option<Timestamp>,
    /// The smallest single changes with which something fits now.
    pub changes: Vec<NearestChange>,
}

/// A change of one property.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NearestChange {
    /// As it was asked, or assumed: `memory>=64GiB`.
    pub from: String,
    /// With which it fits: `memory>=48GiB`; empty: leave it out.
    pub to: String,
    /// All that was asked with this change, in the text form: ask for this.
    pub requirements: String,
}

/// How many partitions one reason left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnfitCount {
    /// The reason.
    pub reason: Unfit,
    /// The property of the text form that it came from, such as `memory` or `label.rack`; for what
    /// the lender's side asks, its name, such as `audience`.
    #[serde(default)]
    pub clause: String,
    /// The reason in words.
    pub words: String,
    /// How many partitions.
    pub partitions: usize,
}

impl UnfitCount {
    /// A count for the one who asked for this.
    pub fn new(reason: Unfit, asked: &Requirements, partitions: usize) -> Self {
        Self { reason, clause: reason.clause(asked), words: reason.explanation(asked), partitions }
    }
}

/// A partition that fits.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MatchView {
    /// Which one.
    pub partition: PartitionId,
    /// Its name.
    pub partition_name: String,
    /// Name of its host.
    pub host: String,
    /// How far a stranger may be trusted there.
    pub tier: Tier,
    /// Architecture and processor.
    pub cpu_model: String,
    /// What it would have.
    pub resources: Resources,
    /// Hardware threads the guest would see.
    pub vcpus: u16,
    /// The image that would boot.
    pub image: String,
    /// Price for an hour of it.
    pub hourly: MicrosPerHour,
    /// Price for the whole term.
    pub total: Micros,
    /// The term it is for.
    pub term: Seconds,
    /// When the offer closes; none: never.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// The price list.
    pub prices: PriceList,
    /// Permille of the host's last 100 leases that did not end by its own fault.
    pub reliability_permille: u16,
}
