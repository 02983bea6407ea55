//! What the engine is asked to do, and what it answers. Ids, secrets' hashes and signatures are
//! made before a command reaches the engine: it has no randomness of its own.

use serde::{Deserialize, Serialize};
use sublet_model::access::Certification;
use sublet_model::account::Role;
use sublet_model::billing::Terms;
use sublet_model::host::Inventory;
use sublet_model::identity::{PublicKey, Sha256Digest, Signed};
use sublet_model::ids::{AccountId, DisputeId, HostId, LeaseId, MemberId, PartitionId, TokenId};
use sublet_model::image::ImageManifest;
use sublet_model::requirements::{Assumed, Requirements};
use sublet_model::resources::Resources;
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds, Timestamp};
use sublet_wire::api::{PurseChange, UnfitCount};
use sublet_wire::problem::Kind;
use sublet_wire::sync::{SyncAnswer, SyncMessage};

/// Who asks. Made by the one authorization point from a token; the engine checks roles and
/// ownership against its own state again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The member.
    pub member: MemberId,
    /// For which account it acts.
    pub account: AccountId,
    /// What it may do, as far as its token goes.
    pub roles: Vec<Role>,
}

/// Makes a request repeatable: the same key and body have one effect and one answer (I10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// Whose key it is.
    pub member: MemberId,
    /// The key as it was sent.
    pub key: String,
    /// Digest of method, path and body.
    pub body: Sha256Digest,
}

/// One thing to do.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "commands are moved once, into a queue")]
#[allow(missing_docs, reason = "fields are named after what they set; each command says who may give it")]
pub enum Command {
    /// Makes an account (operator).
    CreateAccount { actor: Actor, id: AccountId, name: String },
    /// Bars an account from new leases and listings, or restores it (operator).
    SuspendAccount { actor: Actor, id: AccountId, suspended: bool },
    /// Makes a member (operator).
    CreateMember { actor: Actor, id: MemberId, account: AccountId, name: String, roles: Vec<Role> },
    /// Makes a token (its own member, or the operator).
    CreateToken {
        actor: Actor,
        id: TokenId,
        member: MemberId,
        name: String,
        hash: Sha256Digest,
        roles: Vec<Role>,
        expires_at: Timestamp,
    },
    /// Revokes a token (its own member, or the operator).
    RevokeToken { actor: Actor, id: TokenId },
    /// Makes a token with which computers join (lender).
    CreateJoinToken { actor: Actor, id: TokenId, hash: Sha256Digest, uses: u32, expires_at: Timestamp },
    /// A computer joins with such a token; uses it up in the same commit.
    JoinHost {
        token: Sha256Digest,
        id: HostId,
        name: String,
        key: PublicKey,
        ssh_host_key: String,
        inventory: Inventory,
    },
    /// A host proved its key: its sessions rise by one. Refused unless the last one is named.
    OpenSession { host: HostId, last_session: u64 },
    /// What a host sees, MAC and number already checked.
    Sync { host: HostId, session: u64, request: Box<SyncMessage> },
    /// Lets a host open a session without naming the last one: a rolled-back disk (operator, owner).
    ResetSession { actor: Actor, host: HostId },
    /// Bars a host from new grants, or restores it (operator, owner).
    SuspendHost { actor: Actor, host: HostId, suspended: bool },
    /// Gives up a host for good: its leases end, its partition ids are retired (operator).
    ForgetHost { actor: Actor, host: HostId },
    /// Puts an image into the catalogue; its signature is already checked (operator).
    RegisterImage { actor: Actor, manifest: Signed<ImageManifest>, depot: String },
    /// Bars an image from new leases, or restores it (operator).
    SuspendImage { actor: Actor, reference: String, suspended: bool },
    /// Rents the best partitions that fit (client).
    Rent(Box<Rent>),
    /// Says what renting would do, and does none of it (client).
    Preview(Box<Rent>),
    /// Whoever waited for a request that stands has gone, unless it was asked for since; it may come
    /// back.
    Away { once: Idempotency, turn: u64 },
    /// Gives a lease back (its account, the operator).
    Release { actor: Actor, lease: LeaseId },
    /// Lengthens a lease (its account).
    Extend { actor: Actor, lease: LeaseId, by: Seconds },
    /// Takes money in for an account (operator). The same reference again is the same deposit.
    Deposit { actor: Actor, account: AccountId, micros: Micros, reference: String },
    /// Pays money out to an account (operator). The same reference again is the same refund.
    Refund { actor: Actor, account: AccountId, micros: Micros, reference: String },
    /// Says how an account pays (operator). What is absent stays as it is.
    SetPurse { actor: Actor, account: AccountId, change: PurseChange },
    /// Says what the operator keeps of charges, from the next grant on (operator).
    SetFee { actor: Actor, permille: u16 },
    /// Says that a charge is wrong (client).
    OpenDispute { actor: Actor, id: DisputeId, lease: LeaseId, line: Option<u32>, reason: String, words: String },
    /// Says what comes of it (operator).
    ResolveDispute { actor: Actor, id: DisputeId, credit: Micros, borne_by: CreditBearer, note: String },
    /// Changes the allocation of an idle partition (its owner, the operator).
    Alter { actor: Actor, partition: PartitionId, resources: Resources },
    /// Time passed: silence, expiry, paid ends, settlement.
    Tick,
}

/// What a client wants to rent.
#[derive(Debug, Clone)]
pub struct Rent {
    /// Who rents.
    pub actor: Actor,
    /// One for each partition that is wanted: all are granted, or none.
    pub ids: Vec<LeaseId>,
    /// What the lease is to be called; several get `-1`, `-2` … behind it. Made up if absent.
    pub name: Option<String>,
    /// What each partition must meet.
    pub requirements: Requirements,
    /// The client's key, in OpenSSH's form.
    pub ssh_public_key: String,
    /// Whether each lease ends with its first job.
    pub one_shot: bool,
    /// How long a one-shot lease goes on after its client vanished.
    pub release_after_disconnect: Seconds,
    /// If nothing fits, for how long the request stands until something does. It needs a key.
    pub wait: Option<Seconds>,
    /// For how long the market may be out of reach, beyond a chunk: so much more is held ahead.
    pub outage_allowance: Seconds,
}

/// What was done. Stored with the idempotency key, so that a repeated request gets it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done; nothing more to say.
    Done,
    /// Made an account.
    Account(AccountId),
    /// Made a member.
    Member(MemberId),
    /// Made a token.
    Token(TokenId),
    /// A computer joined, for this account.
    Joined {
        /// The host that it became.
        host: HostId,
        /// Who owns it.
        account: AccountId,
    },
    /// A session is open.
    Session(u64),
    /// An image is registered, under this reference.
    Image(String),
    /// A lease was granted, or several at once.
    Granted {
        /// The lease; the first one of several.
        lease: LeaseId,
        /// The others, in the order of their names.
        #[serde(default)]
        others: Vec<LeaseId>,
        /// Defaults that were filled in.
        assumed: Vec<Assumed>,
    },
    /// A lease changed, or was as asked already.
    Lease(LeaseId),
    /// A partition changed.
    Partition(PartitionId),
    /// Money moved, in the transfer of this number.
    Transfer(u64),
    /// A dispute was opened or resolved.
    Dispute(DisputeId),
}

/// What a sync is answered with.
#[derive(Debug, Clone)]
pub enum Reply {
    /// To any command but a sync.
    Outcome(Outcome),
    /// To a sync: everything wanted. The caller holds it while it is no news.
    Sync(Box<SyncAnswer>),
    /// To a preview: what would be granted. Nothing was.
    Preview(Box<Preview>),
    /// To a request that nothing fits and that waits: it stands. Ask again with the same key.
    Stands(Stands),
}

/// Where a request stands that nothing fits yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stands {
    /// The first lease that it will be granted: once there is such a lease, ask again.
    pub lease: LeaseId,
    /// How often it was asked for.
    pub turn: u64,
    /// How many came earlier.
    pub ahead: usize,
    /// Since when.
    pub since: Timestamp,
    /// Until when, at the latest.
    pub until: Timestamp,
}

/// What renting would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// One for each lease.
    pub grants: Vec<Foreseen>,
    /// Defaults that were filled in.
    pub assumed: Vec<Assumed>,
}

/// One lease that would be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// What it would be called; none where its name would be made up.
    pub name: Option<String>,
    /// The terms that would be agreed; the lease's id in them means nothing.
    pub terms: Terms,
    /// For how long.
    pub term: Seconds,
    /// Every partition whose allocation would change, before and after; the leased one last.
    pub altered: Vec<Altered>,
}

/// A partition before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Altered {
    /// Which one.
    pub partition: PartitionId,
    /// What it has.
    pub from: Resources,
    /// What it would have.
    pub to: Resources,
}

/// Why something was not done. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The kind of problem.
    pub kind: Kind,
    /// What is in the way.
    pub detail: String,
    /// What to do next.
    pub advice: Option<String>,
    /// Why partitions did not fit, where that is the problem.
    pub unfit: Vec<UnfitCount>,
}

/// How clients get into the partitions of a host, as the market composes it.
pub fn certification(ssh_ca: &str, host_key: &str, dial: &str) -> Certification {
    Certification {
        method: sublet_model::access::Method::SshCertificate,
        ca: ssh_ca.into(),
        host_key: host_key.into(),
        dial: dial.into(),
    }
}
