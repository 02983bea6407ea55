//! Money: deposits, balances, disputes, what accounts are told, and the story of a lease.

use serde::{Deserialize, Serialize};
use sublet_model::ids::{AccountId, DisputeId, LeaseId};
use sublet_model::ledger::Transfer;
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds, Timestamp};
use utoipa::ToSchema;

/// Money that comes in for an account, or goes out to it. The reference makes it safe to repeat: the
/// same one with the same amount is the same movement, whoever sends it and however often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMovement {
    /// How much; more than nothing.
    pub micros: Micros,
    /// What proves it outside, such as an order's number or a payment provider's id: one of a kind
    /// among deposits, and among refunds.
    pub reference: String,
}

/// Money that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransferView {
    /// Counts the market's transfers from 1, without a gap.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// `deposit`, `refund`, `hold`, `charge`, `void`, `withhold`, `pay_out` or `credit`.
    pub cause: String,
    /// For which lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// What proves a deposit or refund outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// From which book, to which: together nothing.
    pub postings: Vec<PostingView>,
}

/// One side of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostingView {
    /// `available:acct_…`, `held:lease_…`, `withheld:lease_…`, `fees` or `outside`.
    pub book: String,
    /// More in it, or, below zero, less.
    pub micros: Micros,
}

impl From<&Transfer> for TransferView {
    fn from(transfer: &Transfer) -> Self {
        use sublet_model::ledger::Cause;
        let reference = match &transfer.cause {
            Cause::Deposit { reference, .. } | Cause::Refund { reference, .. } => Some(reference.clone()),
            _ => None,
        };
        let postings = transfer.postings.iter();
        Self {
            number: transfer.number,
            at: transfer.at,
            cause: transfer.cause.word().into(),
            lease: transfer.cause.lease(),
            reference,
            postings: postings.map(|p| PostingView { book: p.book.to_string(), micros: p.micros }).collect(),
        }
    }
}

/// How an account stands. Every amount is a sum of the ledger's postings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BalanceView {
    /// Which account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// Name of the currency.
    pub currency: String,
    /// What it can spend, or have paid out.
    pub available: Micros,
    /// What it owes: charged to it, or held for its leases, before it was paid. What comes in pays that first.
    pub owed: Micros,
    /// Set aside for its leases, not used yet.
    pub held: Micros,
    /// Earned, and kept back while it is disputed.
    pub withheld: Micros,
    /// Whether it pays afterwards, by its statements.
    pub on_account: bool,
    /// The most that it may spend in a month, by UTC; none: no limit.
    pub month_limit: Option<Micros>,
    /// What was charged to it this month.
    pub spent_this_month: Micros,
    /// How much more it can set aside now; none: as much as it likes.
    pub spendable: Option<Micros>,
}

/// Says how an account pays. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PurseChange {
    /// Afterwards, by its statements (true), or from what was deposited and earned (false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_account: Option<bool>,
    /// The most that it may spend in a month, by UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month_limit: Option<Micros>,
    /// Lifts that limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_month_limit: bool,
}

/// What the operator keeps of charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    /// So many thousandths, of leases granted from now on.
    pub permille: u16,
}

/// Says that a charge is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDispute {
    /// Id of the lease, or its name among one's own.
    pub lease: String,
    /// Line of the statement, where one is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// A word, such as `unreachable`.
    pub reason: String,
    /// More of them.
    #[serde(default)]
    pub words: String,
}

/// A dispute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DisputeView {
    /// Its id.
    pub id: DisputeId,
    /// About which lease.
    pub lease: LeaseId,
    /// Name of the lease.
    pub lease_name: String,
    /// Who pays for it.
    pub client: AccountId,
    /// Who earns by it.
    pub lender: AccountId,
    /// Line of the statement, where one was named.
    pub line: Option<u32>,
    /// A word.
    pub reason: String,
    /// More of them.
    pub words: String,
    /// A member, or `market`.
    pub opened_by: String,
    /// When.
    pub opened_at: Timestamp,
    /// What was charged; none before the lease is billed.
    pub charged: Option<Micros>,
    /// What is kept back of it.
    pub withheld: Micros,
    /// When it was resolved; none while it is open.
    pub resolved_at: Option<Timestamp>,
    /// What was given back.
    pub credited: Option<Micros>,
    /// Why so much.
    pub note: Option<String>,
}

/// Resolves a dispute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// What is given back to the client; may be nothing.
    pub credit: Micros,
    /// Why: it stands in the statement.
    pub note: String,
    /// By whom it is borne; by the lender if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub borne_by: Option<CreditBearer>,
}

/// What an account was told without asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertView {
    /// Rises.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Whom.
    pub account: AccountId,
    /// About which lease.
    pub lease: Option<LeaseId>,
    /// `funds_low` (a lease will stop) or `out_of_funds` (it did).
    pub kind: String,
    /// How far the lease was paid then.
    pub paid: Seconds,
    /// What happened, and what to do.
    pub words: String,
}

/// The books, gone through from the first transfer on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerAudit {
    /// Whether all of it holds.
    pub holds: bool,
    /// What does not; empty if all does.
    pub problems: Vec<String>,
    /// How many transfers there are.
    pub transfers: u64,
    /// How many charges were compared with what was posted for them.
    pub charges: u64,
    /// Of all accounts.
    pub available: Micros,
    /// By all accounts that pay afterwards, as a debt.
    pub owed: Micros,
    /// Of all leases.
    pub held: Micros,
    /// Of all leases.
    pub withheld: Micros,
    /// What the operator keeps.
    pub fees: Micros,
    /// Brought in and not taken out again, as a debt: with the others it is nothing.
    pub outside: Micros,
}

/// The whole story of a lease, from what is stored, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Story {
    /// Which lease.
    pub lease: LeaseId,
    /// Its name.
    pub name: String,
    /// What happened.
    pub events: Vec<StoryEvent>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoryEvent {
    /// When, by the market's clock.
    pub at: Timestamp,
    /// A word: what is told about.
    pub what: String,
    /// All of it.
    pub words: String,
}
