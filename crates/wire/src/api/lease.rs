//! Leases: renting, getting in, what is shown of them.

use crate::path::RelayPass;
use serde::{Deserialize, Serialize};
use sublet_model::billing::Terms;
use sublet_model::identity::{PublicKey, Signed};
use sublet_model::ids::{AccountId, HostId, LeaseId, PartitionId};
use sublet_model::lease::LeaseState;
use sublet_model::partition::Phase;
use sublet_model::requirements::{self, Assumed, Requirements};
use sublet_model::resources::Resources;
use sublet_model::units::{Micros, MicrosPerHour, Seconds, Timestamp};
use utoipa::ToSchema;

/// Rents.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RentRequest {
    /// One of a kind among the account's running leases; made up if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// What is needed: an object, or a text such as `cpu>=4 os=debian`.
    #[serde(default)]
    #[schema(value_type = requirements::Described)]
    pub requirements: Requirements,
    /// Made on the client; a certificate for it comes with the answer. OpenSSH's form.
    pub ssh_public_key: String,
    /// Whether the lease ends with its first job.
    #[serde(default)]
    pub one_shot: bool,
    /// How long a one-shot lease goes on after its client vanished; 2 minutes if absent.
    #[serde(default)]
    pub release_after_disconnect: Option<Seconds>,
    /// If nothing fits: for how long the request stands until something does. While the answer is
    /// `Standing`, repeat the request with the same idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<Seconds>,
    /// For how long the market may be out of reach without the lease ending: so much more is held
    /// ahead, beyond a quarter of an hour; at most a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_allowance_seconds: Option<Seconds>,
    /// Only say what would be granted: the answer is a `WouldGrant`, and nothing is taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What comes of asking to rent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RentAnswer {
    /// It is granted (status 201).
    Granted(Box<Granted>),
    /// Nothing fits yet; the request stands (status 202).
    Standing(Standing),
    /// What a dry run found (status 200).
    Would(WouldGrant),
}

/// A request that nothing fits yet. Repeat it with the same idempotency key to go on waiting: who
/// stops asking is passed over, and forgotten after a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// Since when it stands.
    pub standing_since: Timestamp,
    /// Until when at the latest; then it is refused.
    pub standing_until: Timestamp,
    /// How many requests came earlier and stand, too.
    pub ahead: usize,
}

/// What would be granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WouldGrant {
    /// One for each partition asked for.
    pub would: Vec<WouldLease>,
    /// Price for an hour of them all.
    pub hourly: MicrosPerHour,
    /// Price of them all for the whole term.
    pub total: Micros,
    /// Defaults that were filled in.
    pub assumed: Vec<Assumed>,
}

/// One lease that would be granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WouldLease {
    /// What it would be called; absent where its name would be made up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In which partition.
    pub partition: PartitionId,
    /// Name of the partition.
    pub partition_name: String,
    /// Name of its host.
    pub host: String,
    /// What would boot.
    pub image: String,
    /// What it would have.
    pub resources: Resources,
    /// Hardware threads the guest would see.
    pub vcpus: u16,
    /// Price for an hour.
    pub hourly: MicrosPerHour,
    /// Price for the whole term.
    pub total: Micros,
    /// The term.
    pub term: Seconds,
    /// Every partition whose allocation would change: those that shrink, then the leased one.
    pub altered: Vec<AlteredView>,
}

/// A partition's allocation before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlteredView {
    /// Which one.
    pub partition: PartitionId,
    /// Its name.
    pub partition_name: String,
    /// What it has.
    pub from: Resources,
    /// What it would have.
    pub to: Resources,
}

/// A lease and how to get in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantedLease {
    /// The lease.
    pub lease: LeaseView,
    /// How to get in.
    pub access: Access,
}

/// A lease that was just granted, and how to get in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Granted {
    /// The lease; the first one where several were asked for.
    pub lease: LeaseView,
    /// How to get in.
    pub access: Access,
    /// The others, where several were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<GrantedLease>,
    /// Defaults that were filled in.
    pub assumed: Vec<Assumed>,
}

/// How to get in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Access {
    /// Name to log in with: the lease's id.
    pub user: String,
    /// How the host is reached: over QUIC, through the market's relay, by plain TCP. See the guide.
    pub dial: String,
    /// The host's identity key, to which QUIC is dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PublicKey>,
    /// The market's relay, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayPass>,
    /// The host's SSH host key, to be pinned.
    pub host_key: String,
    /// An SSH user certificate for the key that was sent, in OpenSSH's form.
    pub certificate: String,
    /// When the certificate expires; ask again before, while the lease lives.
    pub expires_at: Timestamp,
}

/// Asks for a fresh certificate.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRequest {
    /// The key to certify; the one of the grant if absent.
    #[serde(default)]
    pub ssh_public_key: Option<String>,
}

/// Extends a lease.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// By how much.
    pub by: Seconds,
}

/// A lease as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// Its id.
    pub id: LeaseId,
    /// Its name.
    pub name: String,
    /// Who rents.
    pub client: AccountId,
    /// Where it stands.
    pub state: LeaseState,
    /// Why it ended or ends, in words with what to do next.
    pub explanation: Option<String>,
    /// More words from the host on a failure.
    pub detail: Option<String>,
    /// Which partition.
    pub partition: PartitionId,
    /// Name of the partition.
    pub partition_name: String,
    /// Which host.
    pub host: HostId,
    /// Name of the host.
    pub host_name: String,
    /// The fence.
    pub generation: u64,
    /// What the partition has, frozen.
    pub resources: Resources,
    /// Hardware threads the guest sees.
    pub vcpus: u16,
    /// The image.
    pub image: String,
    /// Price for an hour.
    pub hourly: MicrosPerHour,
    /// The longest it may run, counted from ready.
    pub term: Seconds,
    /// For how much of that money is held: it stops there unless more can be held.
    pub paid: Seconds,
    /// What was held for it so far; none where it is free.
    pub held: Option<Micros>,
    /// Money ends before the term does: what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funds_warning: Option<String>,
    /// Metered so far, as last heard.
    pub seconds: Seconds,
    /// What that comes to.
    pub cost_so_far: Micros,
    /// When it ends at the latest, as far as is known.
    pub ends_at: Option<Timestamp>,
    /// Whether it ends with its first job.
    pub one_shot: bool,
    /// Where the partition stands on its host, as far as was heard.
    pub phase: Option<Phase>,
    /// What happened when.
    pub timeline: Timeline,
    /// What was agreed, signed.
    pub terms: Signed<Terms>,
    /// Rises with every change of this view; ask with `?after=` to wait for the next.
    pub version: u64,
}

/// What happened when, as the market saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Timeline {
    /// The right was given.
    pub granted_at: Option<Timestamp>,
    /// The image is whole and verified on the host.
    pub fetched_at: Option<Timestamp>,
    /// The machine was started.
    pub booted_at: Option<Timestamp>,
    /// How: `warm`, from a template, or `cold`, booted, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The guest answered: the meter runs.
    pub ready_at: Option<Timestamp>,
    /// The client authenticated for the first time.
    pub contact_at: Option<Timestamp>,
    /// It was decided or learned that the lease stops.
    pub stopped_at: Option<Timestamp>,
    /// The host said gone and wiped.
    pub ended_at: Option<Timestamp>,
}
