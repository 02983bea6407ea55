//! What moves money, and the shapes that it can have.

use super::Book;
use crate::billing::round_half_even;
use crate::ids::{AccountId, LeaseId};
use crate::units::{Micros, Timestamp};
use serde::{Deserialize, Serialize};

/// Why money moves. Each cause has one shape: from which book, to which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case", deny_unknown_fields)]
pub enum Cause {
    /// The operator took money in.
    Deposit {
        /// For whom.
        account: AccountId,
        /// Such as an order's number: what proves it outside.
        reference: String,
    },
    /// The operator paid money out.
    Refund {
        /// To whom.
        account: AccountId,
        /// What proves it outside.
        reference: String,
    },
    /// Set aside for a lease, before it is used: out of what the client has, or, where it pays
    /// afterwards, as its debt.
    Hold {
        /// Which.
        lease: LeaseId,
        /// Who pays.
        client: AccountId,
    },
    /// Used, and paid from what was held.
    Charge {
        /// Which lease.
        lease: LeaseId,
        /// Who earns.
        lender: AccountId,
        /// Number of the receipt it rests on.
        receipt: u64,
    },
    /// Held and not used: back to the client.
    Void {
        /// Which lease.
        lease: LeaseId,
    },
    /// Paid out already, and kept back after all: the client disputes the charge.
    Withhold {
        /// Which lease.
        lease: LeaseId,
    },
    /// What was withheld goes to the lender.
    PayOut {
        /// Which lease.
        lease: LeaseId,
    },
    /// A correction of a charge: from the lender, from what is withheld of it, or from the
    /// operator's fees.
    Credit {
        /// Which lease.
        lease: LeaseId,
        /// Counts the credits of a lease from 1.
        number: u64,
    },
}

impl Cause {
    /// The word used in the database and in lists.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deposit { .. } => "deposit",
            Self::Refund { .. } => "refund",
            Self::Hold { .. } => "hold",
            Self::Charge { .. } => "charge",
            Self::Void { .. } => "void",
            Self::Withhold { .. } => "withhold",
            Self::PayOut { .. } => "pay_out",
            Self::Credit { .. } => "credit",
        }
    }

    /// For which lease; none where money comes in or goes out.
    pub fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Deposit { .. } | Self::Refund { .. } => None,
            Self::Hold { lease, .. }
            | Self::Charge { lease, .. }
            | Self::Void { lease }
            | Self::Withhold { lease }
            | Self::PayOut { lease }
            | Self::Credit { lease, .. } => Some(*lease),
        }
    }
}

/// One side of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// Which book.
    pub book: Book,
    /// More in it, or, below zero, less.
    pub micros: Micros,
}

/// Money that moves, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Counts transfers from 1, without a gap.
    pub number: u64,
    /// When, by the market's clock.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// One below zero, the others above; together nothing.
    pub postings: Vec<Posting>,
}

/// Why money does not move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// One was left out or comes twice.
    #[error("transfer {got} came when {wanted} was due")]
    Number {
        /// The number due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// Money would appear or vanish.
    #[error("the postings sum to {0} micros, not to zero")]
    Unbalanced(i128),
    /// Not from one book to the ones that its cause names.
    #[error("a transfer of this cause can't post {1} to {0}")]
    Shape(Book, Micros),
    /// It takes nothing from anywhere, or from several books.
    #[error("a transfer takes from one book, and this one from {0}")]
    Sources(usize),
    /// More than there is.
    #[error("{book} has {has} micros, and {asked} are asked for: deposit more, or ask for less")]
    Short {
        /// Which book.
        book: Book,
        /// What it has.
        has: i128,
        /// What is asked for.
        asked: i128,
    },
    /// Debts come first.
    #[error("{account} owes {micros} micros, which is paid first")]
    Owes {
        /// Who.
        account: AccountId,
        /// How much.
        micros: i128,
    },
    /// Nobody is owed by a debtor's book.
    #[error("{asked} micros are more than the {micros} that {account} owes: the rest is for it to spend")]
    Overpaid {
        /// Who.
        account: AccountId,
        /// How much it owes.
        micros: i128,
        /// What was to be paid of it.
        asked: i128,
    },
    /// Nothing was ever held for that lease, or nothing charged.
    #[error("nothing was held or charged for {0}, so nothing of it can move")]
    Unknown(LeaseId),
    /// Another client or lender than at first.
    #[error("{0} has another client or lender than {1}")]
    OtherParty(LeaseId, AccountId),
    /// Credits are never more than the charge.
    #[error("of {lease} {charged} micros were charged and {credited} credited: {asked} more are too many")]
    OverCredited {
        /// Which lease.
        lease: LeaseId,
        /// Paid out of the hold so far.
        charged: i128,
        /// Given back of it so far.
        credited: i128,
        /// Asked for now.
        asked: i128,
    },
    /// Credits of a lease are counted.
    #[error("credit {got} of {lease} came when {wanted} was due")]
    CreditNumber {
        /// Which lease.
        lease: LeaseId,
        /// The number due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
}

/// What the operator keeps of a charge: so many thousandths, a half to the even micro.
pub fn fee(charged: Micros, permille: u16) -> Micros {
    Micros(round_half_even(i128::from(charged.0) * i128::from(permille.min(1000)), 1000))
}
