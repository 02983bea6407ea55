//! Bodies of the client API.

mod event;
mod lease;
mod money;
mod search;

pub use event::*;
pub use lease::*;
pub use money::*;
pub use search::*;

use serde::{Deserialize, Serialize};
use sublet_model::access::Certification;
use sublet_model::account::Role;
use sublet_model::billing::{Charge, PriceList};
use sublet_model::host::Inventory;
use sublet_model::identity::{PublicKey, Signed};
use sublet_model::ids::{AccountId, HostId, LeaseId, MemberId, OfferId, PartitionId, TokenId};
use sublet_model::image::ImageManifest;
use sublet_model::lease::EndReason;
use sublet_model::market_keys::{BadLink, KeyChain, KeyRecord};
use sublet_model::offer::Conditions;
use sublet_model::partition::{Allocation, Phase, Profile};
use sublet_model::resources::Resources;
use sublet_model::units::{Micros, Seconds, Timestamp};
use utoipa::ToSchema;

/// The header that makes a POST safe to repeat.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Opaque; ask with `?cursor=` for the next page. None: this was the last.
    pub next: Option<String>,
}

/// Who asks, and whom.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The account that the token acts for.
    pub account: AccountId,
    /// Its name.
    pub account_name: String,
    /// The member that the token belongs to.
    pub member: MemberId,
    /// Its name.
    pub member_name: String,
    /// What the member may do.
    pub roles: Vec<Role>,
    /// Name of the market's currency.
    pub currency: String,
    /// The key with which the market signs terms.
    pub market_key: PublicKey,
    /// How it came to be that, from the market's first key on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyRecord>,
    /// The market's version.
    pub version: String,
}

impl WhoAmI {
    /// The keys that the market had, each taken with the one before.
    pub fn chain(&self) -> Result<KeyChain, BadLink> {
        KeyChain::told(&self.keys, self.market_key)
    }
}

/// Makes an account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// One of a kind in the market.
    pub name: String,
}

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// Whether it is barred from new leases and new listings.
    pub suspended: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Suspends or restores something.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    /// Whether it is to be suspended.
    pub suspended: bool,
}

/// Makes a member of an account, with a first token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// Name or id of the account.
    pub account: String,
    /// One of a kind in the account.
    pub name: String,
    /// What the member may do.
    pub roles: Vec<Role>,
}

/// A member.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its id.
    pub id: MemberId,
    /// For which account it acts.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
}

/// Makes an API token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For which member; the asking one if absent.
    #[serde(default)]
    pub member: Option<MemberId>,
    /// For people.
    pub name: String,
    /// After how long it expires; 30 days if absent.
    #[serde(default)]
    pub expires_in: Option<Seconds>,
    /// Only these of the member's roles; all if absent.
    #[serde(default)]
    pub roles: Option<Vec<Role>>,
}

/// A token as it is shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenSecret {
    /// Its id, by which it is revoked.
    pub id: TokenId,
    /// The secret; stored hashed, never shown again.
    pub secret: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenSecret {{ id: {}, secret: not shown }}", self.id)
    }
}

/// Makes a token with which computers join as hosts of the asking account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// For how many computers; 1 if absent.
    #[serde(default)]
    pub uses: Option<u32>,
    /// After how long it expires; a day if absent.
    #[serde(default)]
    pub expires_in: Option<Seconds>,
}

/// One line of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Rises.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who: a member, a host or the market itself.
    pub actor: String,
    /// What, such as `host.join`.
    pub action: String,
    /// To what.
    pub object: String,
    /// In words.
    pub detail: String,
}

/// Puts an image into the market's catalogue.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewImage {
    /// Its manifest, signed by the depot.
    pub manifest: Signed<ImageManifest>,
    /// Base address of the depot, such as `http://127.0.0.1:7402`.
    pub depot: String,
}

/// An image of the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// `debian-12@12.11-1`.
    pub reference: String,
    /// What it is.
    pub manifest: ImageManifest,
    /// Digest of the signed manifest.
    pub digest: String,
    /// Who signed.
    pub key: PublicKey,
    /// Where its blobs are.
    pub depot: String,
    /// Whether it is barred from new leases.
    pub suspended: bool,
}

/// A host as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HostView {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Who owns it.
    pub account: AccountId,
    /// `online`, `suspect` (15 s without a word: no new grants), `silent` (60 s) or `suspended`.
    pub status: String,
    /// When it was heard last.
    pub heard_at: Option<Timestamp>,
    /// What it has.
    pub inventory: Inventory,
    /// What the owner keeps.
    pub keep: Resources,
    /// How it is divided.
    pub partitions: Vec<PartitionView>,
}

/// A partition as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PartitionView {
    /// Its id.
    pub id: PartitionId,
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: HostId,
    /// Name of its host.
    pub host_name: String,
    /// Whether it is lent.
    pub lendable: bool,
    /// On which conditions.
    pub offer: Option<OfferId>,
    /// Its bounds.
    pub profile: Profile,
    /// What it has.
    pub allocation: Allocation,
    /// Whether a lease freezes the allocation.
    pub locked: bool,
    /// Which lease; shown to its client, the owner and the operator.
    pub lease: Option<LeaseId>,
    /// Where it stands on its host, as far as was heard.
    pub phase: Option<Phase>,
    /// The most it could become now; none while it is held.
    pub reach: Option<Resources>,
    /// How a client gets in.
    pub access: Option<Certification>,
}

/// Asks for another allocation of an idle partition. Refused while a lease holds it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Alter {
    /// What it is to have.
    pub resources: Resources,
}

/// A statement: every lease with its arithmetic.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Statement {
    /// For whom.
    pub account: AccountId,
    /// `client` (what it pays) or `lender` (what it earns).
    pub side: String,
    /// Name of the currency.
    pub currency: String,
    /// Newest first.
    pub lines: Vec<StatementLine>,
    /// Sum of the settled lines: what is to pay, what was earned after fees, or the fees themselves;
    /// less what was given back.
    pub total: Micros,
}

/// One lease of a statement.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatementLine {
    /// Which lease.
    pub lease: LeaseId,
    /// Its name.
    pub name: String,
    /// Name of the host.
    pub host: String,
    /// The image.
    pub image: String,
    /// What the partition had.
    pub resources: Resources,
    /// What was asked for it.
    pub prices: PriceList,
    /// What happened when.
    pub timeline: Timeline,
    /// Number of the newest receipt.
    pub receipts: u64,
    /// Why it ended; none while it runs.
    pub reason: Option<EndReason>,
    /// The bill so far, or the final one.
    pub charge: Charge,
    /// What of it the operator keeps; the rest is the lender's.
    #[serde(default)]
    pub fee: Micros,
    /// What was given back of it since.
    #[serde(default)]
    pub credited: Micros,
    /// What of that the lender bears; the rest is the operator's.
    #[serde(default)]
    pub credited_by_lender: Micros,
    /// What is kept back from the lender while it is disputed.
    #[serde(default)]
    pub withheld: Micros,
    /// Whether it is final.
    pub settled: bool,
    /// The sum in words: `37 s at 0.021600/h + set-up 0.0001 = 0.000322`.
    pub arithmetic: String,
}

/// An offer as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OfferView {
    /// Its id.
    pub id: OfferId,
    /// Its newest version.
    pub version: u32,
    /// Who lends.
    pub account: AccountId,
    /// On what conditions.
    pub conditions: Conditions,
    /// How many partitions it lists.
    pub partitions: usize,
}

/// Whether the market works.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The market's version.
    pub version: String,
}
