//! The verdict on a statement: it holds, or which record is the first that does not.

use super::record::Side;
use crate::identity::PublicKey;
use crate::ids::{AccountId, LeaseId};
use crate::units::{Micros, Timestamp};
use serde::Serialize;
use std::fmt;

/// What verifying found. As JSON, `tools/verify` writes the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Verdict {
    /// Everything follows from what was signed.
    Holds(Holds),
    /// Something does not.
    Fails(Fault),
}

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// Always true.
    pub holds: bool,
    /// For whom.
    pub account: AccountId,
    /// From which side.
    pub side: Side,
    /// Name of the currency.
    pub currency: String,
    /// Leases settled from here on …
    pub from: Timestamp,
    /// … to before here.
    pub until: Timestamp,
    /// Under which key of a market it holds.
    pub market: PublicKey,
    /// How many records it has.
    pub records: usize,
    /// How many leases.
    pub leases: u64,
    /// What clients paid.
    pub charged: Micros,
    /// What they got back.
    pub credited: Micros,
    /// What the operator kept.
    pub fees: Micros,
    /// What lenders got.
    pub earned: Micros,
    /// What it comes to for this side.
    pub amount: Micros,
}

/// What is wrong with a record, in the order in which it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// It can't be read, or is not written as it has to be.
    Malformed,
    /// What stands around the records.
    Frame,
    /// Another record is due here.
    Order,
    /// Signed by another key.
    Key,
    /// The signature does not hold.
    Signature,
    /// It is about another lease.
    Lease,
    /// It is about another account.
    Account,
    /// Of a host that the head does not name.
    Host,
    /// Outside of what any market accepts.
    Implausible,
    /// A receipt is missing, or there twice.
    Seq,
    /// It does not name the receipt before.
    Previous,
    /// Use shrinks.
    Backwards,
    /// It follows the last one.
    AfterLast,
    /// It came after the lease was settled.
    Late,
    /// Settled outside of the statement's time.
    Period,
    /// It is not what follows from the records before.
    Arithmetic,
    /// It is not the line that the market signed for.
    Digest,
}

impl Problem {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Malformed => "can't be read: it is not written as a statement has to be",
            Self::Frame => "does not begin or end as it has to",
            Self::Order => "is not the record that is due here",
            Self::Key => "was signed by another key",
            Self::Signature => "is not the text that was signed: its signature does not hold",
            Self::Lease => "is about another lease",
            Self::Account => "is about another account",
            Self::Host => "is of a host whose key the statement does not name",
            Self::Implausible => "is outside of what a market accepts",
            Self::Seq => "is not the next receipt: one is missing, or there twice",
            Self::Previous => "does not name the one before it: the chain forks",
            Self::Backwards => "says less than the receipt before: a meter can't run backwards",
            Self::AfterLast => "follows the last receipt",
            Self::Late => "came after the lease was settled, and can't be billed",
            Self::Period => "was settled outside of the time of this statement",
            Self::Arithmetic => "is not what follows from the records before it",
            Self::Digest => "was changed after the market signed the statement",
        }
    }
}

/// The first record that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Always false.
    pub holds: bool,
    /// Which line of the document, from 1.
    pub line: usize,
    /// What kind of record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<&'static str>,
    /// About which lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// Which of its receipts, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
    /// With which member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        match (self.record, self.receipt) {
            (Some(_), Some(number)) => write!(f, ", receipt {number}")?,
            (Some(record), None) => write!(f, ", {record}")?,
            (None, _) => {}
        }
        if let Some(lease) = self.lease {
            write!(f, " of {lease}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ", {field}")?;
        }
        write!(f, " {}", self.problem.words())
    }
}

/// What a check says of a record, before it is known where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub problem: Problem,
    pub field: Option<String>,
    pub expected: Option<String>,
    pub found: Option<String>,
}

impl Wrong {
    pub fn new(problem: Problem) -> Self {
        Self { problem, field: None, expected: None, found: None }
    }

    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    pub fn expected(self, expected: impl fmt::Display) -> Self {
        Self { expected: Some(expected.to_string()), ..self }
    }

    pub fn found(self, found: impl fmt::Display) -> Self {
        Self { found: Some(found.to_string()), ..self }
    }

    pub fn at(self, line: usize) -> Fault {
        let Self { problem, field, expected, found } = self;
        Fault { holds: false, line, record: None, lease: None, receipt: None, problem, field, expected, found }
    }
}

/// `problem`, unless they are equal.
pub(super) fn same<T: PartialEq + fmt::Display>(problem: Problem, expected: T, found: T) -> Result<(), Wrong> {
    if expected == found { Ok(()) } else { Err(Wrong::new(problem).expected(expected).found(found)) }
}
