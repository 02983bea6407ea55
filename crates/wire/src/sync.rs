//! The host's side of the market: *everything seen* goes up, *everything wanted* comes down.
//!
//! Level-triggered: each message may be lost, repeated or late, and the next one says it all again,
//! but for what the other side is known to have: see [`Told`].

use crate::path::RelayOffer;
use serde::{Deserialize, Serialize};
use sublet_model::host::Inventory;
use sublet_model::identity::{PublicKey, Sha256Digest, Signed};
use sublet_model::ids::{AccountId, HostId, LeaseId, PartitionId};
use sublet_model::image::ImageManifest;
use sublet_model::market_keys::KeyRecord;
use sublet_model::metering::Receipt;
use sublet_model::offer::Conditions;
use sublet_model::partition::{Allocation, Phase, Profile};
use sublet_model::resources::Resources;
use sublet_model::units::{Seconds, Timestamp};
use sublet_model::{billing::Terms, lease::EndReason};
use utoipa::ToSchema;

mod kept;
mod told;

pub use kept::{FIRST_EPOCH, KeptLife, MOST_LIVES, Renter};
pub use told::Told;

/// The version of this protocol. A market serves hosts of its own and of the previous version.
pub const PROTOCOL: u32 = 1;
/// The most partitions that one host may have.
pub const MOST_PARTITIONS: usize = 512;
/// The most receipts in one sync; the rest follow in the next.
pub const MOST_RECEIPTS: usize = 1000;
/// How long the market holds a sync open when there is no news.
pub const HOLD: std::time::Duration = std::time::Duration::from_secs(5);

/// A computer asks to become a host. Authorised by a join token in the `Authorization` header.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// A short name, one of a kind in the market.
    pub name: String,
    /// Made on the host; its secret half never leaves it. Signs sessions and receipts.
    pub key: PublicKey,
    /// The SSH host key that clients will pin, in OpenSSH's form.
    pub ssh_host_key: String,
    /// What the computer has.
    pub inventory: Inventory,
}

/// The computer is a host now. It lends nothing yet.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JoinAnswer {
    /// Its id.
    pub host: HostId,
    /// Who owns it.
    pub account: AccountId,
    /// The key with which this market signs terms: pinned by the host.
    pub market_key: PublicKey,
    /// The market's SSH certificate authority, in OpenSSH's form.
    pub ssh_ca: String,
    /// How both came to be the market's, from its first ones on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyRecord>,
}

/// Something fresh to sign, so that an old proof opens no session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Challenge {
    /// Good for a minute, once.
    pub nonce: String,
}

/// Opens a session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// The nonce of the challenge.
    pub nonce: String,
    /// The host's signature over [`session_proof`].
    pub signature: String,
    /// The newest session that this host knows it had, from its own disk; 0 for none. A copy of
    /// the key, or of an older disk, does not know it: so a second agent shows.
    pub last_session: u64,
    /// Version of the protocol.
    pub protocol: u32,
    /// The newest epoch of the market that this host knows; none from hosts that know of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// What a host signs to open a session.
pub fn session_proof(host: HostId, nonce: &str) -> Vec<u8> {
    format!("sublet session 1\n{host}\n{nonce}").into_bytes()
}

/// A session is open: a newer one of the same host ends it.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionAnswer {
    /// Rises with every session of a host.
    pub session: u64,
    /// Key of the MAC over each sync of this session; base 64, 32 bytes.
    pub mac_key: String,
    /// The market's clock.
    pub market_time: Timestamp,
    /// Rises when the market is restored from a backup: what it was told in an older one, it may
    /// have forgotten.
    #[serde(default = "kept::first_epoch")]
    pub epoch: u64,
}

impl std::fmt::Debug for SessionAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionAnswer {{ session: {}, mac_key: not shown }}", self.session)
    }
}

/// Names of the headers that prove a sync: session, number within it, and MAC.
pub mod header {
    /// The session's number.
    pub const SESSION: &str = "sublet-session";
    /// Rises with each sync of a session (a sync that was given up leaves a gap); never repeated.
    pub const SEQ: &str = "sublet-seq";
    /// Hexadecimal HMAC-SHA-256 over session, seq and body.
    pub const MAC: &str = "sublet-mac";
}

/// How the owner divided the computer and what is lent. The owner's word, said on the owner's
/// machine; the market can't change it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Division {
    /// Rises with every change.
    pub revision: u64,
    /// What the owner keeps.
    pub keep: Resources,
    /// On what conditions the lendable ones are lent; none before the first `lend`.
    pub conditions: Option<Conditions>,
    /// The partitions.
    pub partitions: Vec<Declared>,
}

/// One partition of a division.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Made on the host.
    pub id: PartitionId,
    /// One of a kind on the host.
    pub name: String,
    /// Between which bounds it may be shaped.
    pub profile: Profile,
    /// Whether it is lent.
    pub lendable: bool,
    /// Whether the owner wants it back now, from whoever has it: names the generation that goes.
    #[serde(default)]
    pub taken_back: Option<u64>,
}

/// What a host says in a sync. What it left out is as the newest sync of the session that was
/// answered said: so a host that is idle says little.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncMessage {
    /// The host's wall clock, for the market to warn when it is off.
    pub wall_clock: Timestamp,
    /// What the computer has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// How clients reach the host: see [`crate::path::Reach`].
    pub dial: String,
    /// How the owner divided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Option<Division>,
    /// Every partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Vec<Observed>>,
    /// Receipts that were not acknowledged yet, oldest first.
    pub receipts: Vec<Signed<Receipt>>,
    /// The plan that the host knows; the market holds the call while that is the newest.
    pub plan_version: u64,
    /// Lives that the market was not told of in this epoch, older generations first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lives: Vec<KeptLife>,
    /// Whether there are lives or receipts yet that it was not told of in this epoch.
    #[serde(default, skip_serializing_if = "kept::is_false")]
    pub catching_up: bool,
    /// The newest change of the market's keys that the host knows; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Sha256Digest>,
}

impl From<SyncRequest> for SyncMessage {
    fn from(whole: SyncRequest) -> Self {
        Self {
            wall_clock: whole.wall_clock,
            inventory: Some(whole.inventory),
            dial: whole.dial,
            division: Some(whole.division),
            observed: Some(whole.observed),
            receipts: whole.receipts,
            plan_version: whole.plan_version,
            lives: whole.lives,
            catching_up: whole.catching_up,
            keys: whole.keys,
        }
    }
}

/// Everything that a host sees.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// The host's wall clock, for the market to warn when it is off.
    pub wall_clock: Timestamp,
    /// What the computer has now.
    pub inventory: Inventory,
    /// How clients reach the host: see [`crate::path::Reach`].
    pub dial: String,
    /// How the owner divided it.
    pub division: Division,
    /// Every partition.
    pub observed: Vec<Observed>,
    /// Receipts that were not acknowledged yet, oldest first.
    pub receipts: Vec<Signed<Receipt>>,
    /// The plan that the host knows; the market holds the call while that is the newest.
    pub plan_version: u64,
    /// Lives that the market was not told of in this epoch, older generations first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lives: Vec<KeptLife>,
    /// Whether there are lives or receipts yet that it was not told of in this epoch: until then
    /// nothing is lent here, and the host follows no plan.
    #[serde(default, skip_serializing_if = "kept::is_false")]
    pub catching_up: bool,
    /// The newest change of the market's keys that the host knows; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Sha256Digest>,
}

/// One partition as its host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Which one.
    pub partition: PartitionId,
    /// What was durably applied last: generation, revision, amounts.
    pub applied: Allocation,
    /// The lease of that generation, while there is one.
    pub lease: Option<LeaseId>,
    /// Where the generation stands.
    pub phase: Phase,
    /// Whole seconds metered so far; for progress, receipts are what counts.
    pub seconds: Seconds,
    /// Whether a client has authenticated since ready.
    pub first_contact: bool,
    /// More words on a failure, for the client.
    pub detail: Option<String>,
    /// How the machine was started: `warm: …`, or `cold: …` and why; none before it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
}

/// Everything that a host should have.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SyncAnswer {
    /// Names this plan.
    pub plan_version: u64,
    /// Every partition of the host; none where the host knows this plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Vec<Wanted>>,
    /// The newest receipt that is durably taken in, for each lease that sent one.
    pub acknowledged: Vec<Acknowledged>,
    /// The newest division that is durably taken in.
    pub division_revision: u64,
    /// Why the division that was sent is refused, in words for the owner.
    pub division_refused: Option<String>,
    /// Words for the owner: a clock that is off, a receipt that was refused.
    pub warnings: Vec<String>,
    /// The keys that may sign client certificates now, in OpenSSH's form: for hosts that know of no
    /// changes of keys. Others go by `keys`, which are signed.
    pub ssh_ca: Vec<String>,
    /// Every change of the market's keys; none where the host knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<KeyRecord>>,
    /// The market's relay, if it has one: clients may be waiting there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayOffer>,
    /// The market's clock.
    pub market_time: Timestamp,
    /// The lives that were told with this sync: they need not be told again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<LeaseId>,
}

/// Up to where receipts are durably taken in: they need not be sent again, unless a new epoch begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acknowledged {
    /// Of which lease.
    pub lease: LeaseId,
    /// Up to which number.
    pub seq: u64,
}

/// One partition as the market wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wanted {
    /// Which one.
    pub partition: PartitionId,
    /// What it is to have. A lower generation than the host has applied is refused by the host.
    pub allocation: Allocation,
    /// What is to run in it; none: stop what runs, wipe, say gone.
    pub run: Option<Run>,
    /// The generation whose *gone* is durably known: the host need not say it again.
    pub gone: Option<u64>,
}

/// What is to run in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// For which lease.
    pub lease: LeaseId,
    /// The name of the lease, which becomes the hostname.
    pub hostname: String,
    /// What was agreed; the host checks its own part of it.
    pub terms: Signed<Terms>,
    /// What boots.
    pub image: Signed<ImageManifest>,
    /// Where its blobs are.
    pub depot: String,
    /// The longest it may run, counted from ready.
    pub term_seconds: Seconds,
    /// What is paid for so far, counted from ready: there the host stops it by itself.
    pub paid_seconds: Seconds,
    /// Whether the lease ends with its first job.
    pub one_shot: bool,
    /// How long a one-shot lease goes on after its client vanished.
    pub release_after_disconnect: Seconds,
    /// For a market that has to be told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renter: Option<Renter>,
}

/// Why a host ended a generation by itself, as far as a lease is concerned.
pub fn ended_by_host(phase: &Phase) -> Option<EndReason> {
    match phase {
        Phase::Stopping { reason } => Some(*reason),
        Phase::Gone { reason } => *reason,
        _ => None,
    }
}
