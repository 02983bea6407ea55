//! The nouns of the market as the database has them: one struct a table. What is only heard and
//! never stored stands in `live.rs`.

use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::billing::{Charge, Observation, Terms};
use sublet_model::host::Inventory;
use sublet_model::identity::{IdentityError, PublicKey, Sha256Digest, Signed};
use sublet_model::ids::{AccountId, HostId, LeaseId, MemberId, OfferId, PartitionId, TokenId};
use sublet_model::image::ImageManifest;
use sublet_model::lease::LeaseState;
use sublet_model::metering::ChainEnd;
use sublet_model::offer::Offer;
use sublet_model::partition::Partition;
use sublet_model::resources::Resources;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::api::Timeline;

mod money;

pub use money::{AlertKind, AlertRow, Budget, CreditRow, DisputeRow, Purse, Resolved, Settings};

/// Holds money, and owns hosts, offers and leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// One of a kind in the market.
    pub name: String,
    /// Barred from new leases and new listings.
    pub suspended: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// How it pays.
    #[serde(default = "Purse::on_account")]
    pub purse: Purse,
}

/// A person, or a program, acting for an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// For which account it acts.
    pub account: AccountId,
    /// One of a kind in the account.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An API token. The secret is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id, by which it is revoked.
    pub id: TokenId,
    /// Whose it is.
    pub member: MemberId,
    /// For people.
    pub name: String,
    /// SHA-256 of the secret.
    pub hash: Sha256Digest,
    /// Which of the member's roles it carries.
    pub roles: Vec<Role>,
    /// From when on it opens nothing.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Token {
    /// Whether it opens anything now.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

/// A token with which computers join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: TokenId,
    /// Whose hosts they become.
    pub account: AccountId,
    /// Who made it.
    pub member: MemberId,
    /// SHA-256 of the secret.
    pub hash: Sha256Digest,
    /// For how many computers.
    pub uses: u32,
    /// How many have joined with it.
    pub used: u32,
    /// From when on nobody joins with it.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A lender's computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// One of a kind among the hosts that are not forgotten.
    pub name: String,
    /// Who owns it.
    pub account: AccountId,
    /// Signs its sessions and receipts.
    pub key: PublicKey,
    /// What clients pin, in OpenSSH's form.
    pub ssh_host_key: String,
    /// What it has, as last measured.
    pub inventory: Arc<Inventory>,
    /// What its owner keeps.
    pub keep: Resources,
    /// The newest division taken in; 0 before the first.
    pub division_revision: u64,
    /// The conditions on which it lends: id and newest version.
    pub offer: Option<(OfferId, u32)>,
    /// Where clients dial; empty before the first sync.
    pub dial: String,
    /// The newest session.
    pub session: u64,
    /// The newest session in which a sync came: what lies between was opened, but the host may
    /// never have learned of it.
    pub used_session: u64,
    /// Whether sessions may be opened without naming the last one, until one of them is used.
    pub session_reset: bool,
    /// Barred from new grants.
    pub suspended: bool,
    /// When the operator forgot it.
    pub forgotten_at: Option<Timestamp>,
    /// Rises with every change of what the host should have.
    pub plan_version: u64,
    /// With which token it joined.
    pub joined_with: TokenId,
    /// When it joined.
    pub joined_at: Timestamp,
}

impl Host {
    /// What may be divided: all there is, less what the owner keeps.
    pub fn lendable(&self) -> Resources {
        self.inventory.resources() - self.keep
    }
}

/// One version of lending conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRow {
    /// The offer. The book shares it.
    pub offer: Arc<Offer>,
    /// Since when.
    pub created_at: Timestamp,
}

/// That the owner wants a partition back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// The generation that goes.
    pub generation: u64,
    /// When the market heard it: notice counts from here.
    pub at: Timestamp,
}

/// A partition, its newest allocation, and what the market keeps about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRow {
    /// The partition.
    pub partition: Partition,
    /// Since when it is lent.
    pub listed_at: Option<Timestamp>,
    /// Until when the market does not lend it, after boots that failed in a row.
    pub unlisted_until: Option<Timestamp>,
    /// That the owner wants it back.
    pub taken_back: Option<TakenBack>,
    /// The owner no longer declares it: it retires as soon as nobody holds it.
    pub leaving: bool,
    /// When it went for good; its id never comes back.
    pub retired_at: Option<Timestamp>,
    /// When it was declared first.
    pub declared_at: Timestamp,
}

impl Deref for PartitionRow {
    type Target = Partition;
    fn deref(&self) -> &Partition {
        &self.partition
    }
}

/// An image of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What it is.
    pub manifest: ImageManifest,
    /// The same, as it was signed.
    pub signed: Signed<ImageManifest>,
    /// Digest of the signed manifest: what leases name.
    pub digest: Sha256Digest,
    /// Where its blobs are.
    pub depot: String,
    /// Barred from new leases.
    pub suspended: bool,
    /// When it was registered.
    pub registered_at: Timestamp,
}

/// What was agreed at a grant, read and as signed. Never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Signed<Terms>", into = "Signed<Terms>")]
pub struct Agreed {
    /// The terms.
    pub terms: Terms,
    /// The same, as the market signed them.
    pub signed: Signed<Terms>,
}

impl TryFrom<Signed<Terms>> for Agreed {
    type Error = IdentityError;
    fn try_from(signed: Signed<Terms>) -> Result<Self, IdentityError> {
        Ok(Self { terms: signed.read()?, signed })
    }
}

impl From<Agreed> for Signed<Terms> {
    fn from(agreed: Agreed) -> Self {
        agreed.signed
    }
}

/// The right to use a partition for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// One of a kind among its account's slot-holding leases.
    pub name: String,
    /// Who rents.
    pub account: AccountId,
    /// Which member rented.
    pub member: MemberId,
    /// Which host.
    pub host: HostId,
    /// Which partition.
    pub partition: PartitionId,
    /// The fence.
    pub generation: u64,
    /// Where it stands.
    pub state: LeaseState,
    /// What was agreed.
    pub agreed: Arc<Agreed>,
    /// `debian-12@12.11-1`.
    pub image: String,
    /// The longest it may run, counted from ready.
    pub term_seconds: Seconds,
    /// What is paid for, counted from ready.
    pub paid_seconds: Seconds,
    /// Whether it ends with its first job.
    pub one_shot: bool,
    /// How long a one-shot lease goes on after its client vanished.
    pub release_after_disconnect: Seconds,
    /// The client's key, in OpenSSH's form.
    pub ssh_public_key: String,
    /// What happened when.
    pub timeline: Timeline,
    /// More words from the host on a failure.
    pub detail: Option<String>,
    /// The end of its chain of receipts.
    pub chain: Option<ChainEnd>,
    /// What it may cost.
    #[serde(default)]
    pub budget: Budget,
}

impl Lease {
    /// The terms.
    pub fn terms(&self) -> &Terms {
        &self.agreed.terms
    }

    /// What the market saw of it, for the bill. A lease that still runs is seen up to `now`.
    pub fn observation(&self, now: Timestamp) -> Observation {
        Observation {
            granted_at: self.terms().granted_at,
            ready_at: self.timeline.ready_at,
            stopped_at: self.timeline.stopped_at.unwrap_or(now),
            // Nothing is used beyond what is paid for, so nothing is billed there.
            term_seconds: self.term_seconds.min(self.paid_seconds),
        }
    }

    /// When it ends at the latest, once it is ready.
    pub fn ends_at(&self) -> Option<Timestamp> {
        let term = self.timeline.ready_at.map(|ready| ready.after(self.term_seconds));
        // Where the offer closes, booting is the client's own time.
        term.map(|end| self.terms().until.map_or(end, |until| end.min(until)))
    }
}

/// The final bill of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeRow {
    /// Which lease.
    pub lease: LeaseId,
    /// Who pays.
    pub client: AccountId,
    /// Who earns.
    pub lender: AccountId,
    /// The bill.
    pub charge: Charge,
    /// Number of the receipt it rests on; 0 for none.
    pub receipt_seq: u64,
    /// When it was made.
    pub settled_at: Timestamp,
}
