//! What a decision does to the market. `State` changes only by these, the database takes the same
//! ones as rows, and a follower keeps up by reading them.

use super::command::Outcome;
use super::rows::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use sublet_model::access::Certification;
use sublet_model::host::Inventory;
use sublet_model::identity::{Sha256Digest, Signed};
use sublet_model::ids::{AccountId, DisputeId, HostId, LeaseId, MemberId, OfferId, PartitionId, TokenId};
use sublet_model::lease::LeaseState;
use sublet_model::ledger::Transfer;
use sublet_model::metering::{ChainEnd, Receipt};
use sublet_model::partition::{Allocation, Profile};
use sublet_model::resources::Resources;
use sublet_model::units::{Micros, Seconds, Timestamp};
use sublet_wire::api::Timeline;
use sublet_wire::sync::Observed;

/// Version of the form in which changes are stored. Rises when a stored change would be misread.
pub const VERSION: u32 = 1;

/// One change. The ephemeral ones are applied and published, but never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields are named after the columns they set")]
#[allow(clippy::large_enum_variant, reason = "changes are few in a batch and never moved about")]
pub enum Change {
    /// An account was made.
    Account(Account),
    /// An account was barred or restored.
    AccountSuspended { account: AccountId, suspended: bool },
    /// A member was made.
    Member(Member),
    /// A token was made.
    Token(Token),
    /// A token was revoked.
    TokenRevoked { token: TokenId, at: Timestamp },
    /// A join token was made.
    JoinToken(JoinToken),
    /// A computer joined with it.
    JoinTokenUsed { token: TokenId },
    /// A computer joined.
    Host(Host),
    /// A host measured itself anew.
    HostMeasured { host: HostId, inventory: Arc<Inventory> },
    /// A host is reached elsewhere.
    HostDialed { host: HostId, dial: String },
    /// The owner divided it anew.
    HostDivided { host: HostId, revision: u64, keep: Resources, offer: Option<(OfferId, u32)> },
    /// A session was opened.
    HostSession { host: HostId, session: u64 },
    /// The first sync of a session came; a reset is used up by it.
    HostSessionUsed { host: HostId, session: u64 },
    /// The next session need not name the last one.
    HostSessionReset { host: HostId },
    /// A host was barred from new grants, or restored.
    HostSuspended { host: HostId, suspended: bool },
    /// The operator gave a host up.
    HostForgotten { host: HostId, at: Timestamp },
    /// What a host should have changed.
    Plan { host: HostId, version: u64 },
    /// A new version of lending conditions.
    Offer(OfferRow),
    /// A partition was declared for the first time, with its first allocation.
    Partition(PartitionRow),
    /// The owner declared it otherwise. The allocation is not touched.
    PartitionDeclared {
        partition: PartitionId,
        name: String,
        profile: Profile,
        lendable: bool,
        offer: Option<OfferId>,
        listed_at: Option<Timestamp>,
        leaving: bool,
    },
    /// The owner wants it back, or does no longer.
    PartitionTakenBack { partition: PartitionId, taken_back: Option<TakenBack> },
    /// How clients get in.
    PartitionAccess { partition: PartitionId, access: Option<Certification> },
    /// Boots failed, or one went well.
    PartitionBoots { partition: PartitionId, failed_boots: u32, unlisted_until: Option<Timestamp> },
    /// It is gone for good.
    PartitionRetired { partition: PartitionId, at: Timestamp },
    /// A partition has this from now on.
    Allocation { partition: PartitionId, allocation: Allocation, at: Timestamp },
    /// An image was registered.
    Image(Image),
    /// An image is found elsewhere.
    ImageMoved { digest: Sha256Digest, depot: String },
    /// An image was barred or restored.
    ImageSuspended { digest: Sha256Digest, suspended: bool },
    /// A lease was granted.
    Lease(Arc<Lease>),
    /// A lease moved on, or something happened on its way.
    LeaseMoved { lease: LeaseId, state: LeaseState, timeline: Timeline, detail: Option<String> },
    /// A lease was lengthened.
    LeaseExtended { lease: LeaseId, term_seconds: Seconds, paid_seconds: Seconds },
    /// A receipt was taken in.
    Receipt { lease: LeaseId, receipt: Signed<Receipt>, end: ChainEnd, cpu_used_ms: i64, at: Timestamp },
    /// A lease was settled.
    Charge(ChargeRow),
    /// Money moved; with what was in each book then, in the order of the postings.
    Transfer { transfer: Transfer, after: Vec<Micros> },
    /// A credit note.
    Credit(CreditRow),
    /// Somebody says that a charge is wrong.
    Dispute(DisputeRow),
    /// What came of that.
    DisputeResolved { dispute: DisputeId, resolved: Resolved },
    /// Somebody was told something.
    Alert(AlertRow),
    /// What was told long ago goes.
    AlertsPruned { seqs: Vec<u64> },
    /// An account pays otherwise.
    Purse { account: AccountId, purse: Purse },
    /// What the operator keeps of charges, from the next grant on.
    Fee { permille: u16 },
    /// A request was done, and how, so that repeating it does nothing. Not part of `State`.
    Done { member: MemberId, key: String, body: Sha256Digest, outcome: Outcome, forever: bool, at: Timestamp },
    /// Requests that were done before this moment may be forgotten, but for those that are kept.
    DonePruned { before: Timestamp },
    /// Somebody did something. Not part of `State`.
    Audit { actor: String, action: String, object: String, detail: String, at: Timestamp },

    /// Ephemeral: the market started.
    Started { at: Timestamp },
    /// Ephemeral: a host was heard.
    Heard { host: HostId, at: Timestamp, clock_off: Seconds },
    /// Ephemeral: a host began or ended telling what the market has forgotten.
    CatchingUp { host: HostId, catching_up: bool },
    /// Ephemeral: a host knows the market's keys up to this change.
    KeysKnown { host: HostId, newest: Option<Sha256Digest> },
    /// Ephemeral: what it saw differs from before.
    Seen { host: HostId, observed: Arc<Vec<Observed>> },
    /// Ephemeral: a host was declared silent.
    Silenced { host: HostId },
    /// Ephemeral: this was written into the audit log once.
    Flagged { host: HostId, what: String },
}

impl Change {
    /// Whether it is applied and published, but never stored.
    pub fn is_ephemeral(&self) -> bool {
        matches!(
            self,
            Self::Started { .. }
                | Self::Heard { .. }
                | Self::CatchingUp { .. }
                | Self::KeysKnown { .. }
                | Self::Seen { .. }
                | Self::Silenced { .. }
                | Self::Flagged { .. }
        )
    }

    /// Whether a follower needs it: what is not part of `State` stands in its own table only.
    pub fn is_event(&self) -> bool {
        !self.is_ephemeral() && !matches!(self, Self::Done { .. } | Self::DonePruned { .. } | Self::Audit { .. })
    }
}
