//! Money in the tables: how an account pays, what a lease may cost, what was given back, what is
//! disputed, and what people were told.

use serde::{Deserialize, Serialize};
use sublet_model::ids::{AccountId, DisputeId, LeaseId};
use sublet_model::ledger::chunks::CHUNK;
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds, Timestamp};
use sublet_wire::api::PurseChange;

/// How an account pays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// Afterwards, by its statements; else from what was deposited and earned.
    pub on_account: bool,
    /// The most that it may spend in a month, by UTC; what is held counts as spent.
    pub month_limit: Option<Micros>,
}

impl Purse {
    /// Pays afterwards, without a limit: as before there was a ledger.
    pub fn on_account() -> Self {
        Self { on_account: true, month_limit: None }
    }
}

/// The change that makes any other purse this one.
impl From<Purse> for PurseChange {
    fn from(Purse { on_account, month_limit }: Purse) -> Self {
        Self { on_account: Some(on_account), month_limit, no_month_limit: month_limit.is_none() }
    }
}

/// What a lease may cost, and for how long the market may be out of reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Never more than this, lengthened or not.
    pub most: Option<Micros>,
    /// Held beyond one chunk.
    pub outage_allowance: Seconds,
}

/// What the market's operator decided, in the table `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many thousandths of a charge the operator keeps, of leases granted from now on.
    pub fee_permille: u16,
    /// Leases granted before have no holds, and their charges are not posted.
    pub ledger_since: Timestamp,
    /// The shortest time that is always paid ahead.
    pub chunk: Seconds,
}

impl Default for Settings {
    fn default() -> Self {
        Self { fee_permille: 0, ledger_since: Timestamp::default(), chunk: CHUNK }
    }
}

/// A credit note: what was given back of a charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditRow {
    /// Of which lease.
    pub lease: LeaseId,
    /// Counts the credits of a lease from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// How much.
    pub micros: Micros,
    /// By whom.
    pub borne_by: CreditBearer,
    /// Why.
    pub note: String,
}

/// Somebody's word that a charge is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeRow {
    /// Its id.
    pub id: DisputeId,
    /// About which lease.
    pub lease: LeaseId,
    /// Of the statement, where one was named.
    pub line: Option<u32>,
    /// A word, such as `unreachable`.
    pub reason: String,
    /// More of them.
    pub words: String,
    /// A member, or the market.
    pub opened_by: String,
    /// When.
    pub opened_at: Timestamp,
    /// What came of it; none while it is open.
    pub resolved: Option<Resolved>,
}

/// How a dispute ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Which member of the operator.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Given back to the client; may be nothing.
    pub credited: Micros,
    /// Why.
    pub note: String,
}

/// What an account was told without asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRow {
    /// Rises.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Whom.
    pub account: AccountId,
    /// About which lease.
    pub lease: Option<LeaseId>,
    /// Its kind, such as `funds_low`.
    pub kind: AlertKind,
    /// How far the lease was paid then.
    pub paid: Seconds,
    /// What happened, and what to do.
    pub words: String,
}

/// What people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A lease runs, and what is left does not pay for the next chunk.
    FundsLow,
    /// A lease ended for want of money.
    OutOfFunds,
}

impl AlertKind {
    /// The word used in the API and the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::FundsLow => "funds_low",
            Self::OutOfFunds => "out_of_funds",
        }
    }
}
