//! The records of a statement, member for member in the order in which they are written.

use crate::billing::Bound;
use crate::identity::{PublicKey, Sha256Digest, Statement};
use crate::ids::{AccountId, HostId, LeaseId};
use crate::lease::EndReason;
use crate::market_keys::KeyRecord;
use crate::units::{Micros, Seconds, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One line of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// Whose, from when to when, by whom.
    Head(Head),
    /// What was agreed on a lease.
    Terms(SignedRecord),
    /// What the market saw of it.
    Seen(Seen),
    /// What its host says that it used.
    Receipt(ReceiptRecord),
    /// What follows.
    Charge(ChargeRecord),
    /// What was given back of it.
    Credit(Credit),
    /// Sums, and the digest of every line.
    Closing(ClosingRecord),
}

impl Record {
    /// The word in its first member.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Head(_) => "head",
            Self::Terms(_) => "terms",
            Self::Seen(_) => "seen",
            Self::Receipt(_) => "receipt",
            Self::Charge(_) => "charge",
            Self::Credit(_) => "credit",
            Self::Closing(_) => "closing",
        }
    }

    /// Which lease it is about.
    pub fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Head(_) | Self::Closing(_) => None,
            Self::Terms(terms) => Some(terms.lease),
            Self::Seen(seen) => Some(seen.lease),
            Self::Receipt(receipt) => Some(receipt.lease),
            Self::Charge(charge) => Some(charge.lease),
            Self::Credit(credit) => Some(credit.lease),
        }
    }
}

/// From which side money is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What the account pays.
    Client,
    /// What it earns.
    Lender,
    /// What the operator keeps.
    Operator,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Lender => "lender",
            Self::Operator => "operator",
        })
    }
}

/// Whose statement it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// For which account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// From which side.
    pub side: Side,
    /// Name of the currency.
    pub currency: String,
    /// Leases settled from here on …
    pub from: Timestamp,
    /// … to before here.
    pub until: Timestamp,
    /// When it was written.
    pub made_at: Timestamp,
    /// The key of the market: signs the closing, and terms.
    pub market: PublicKey,
    /// How it came to be the market's, from its first key on. The keys before signed terms, up to when
    /// they were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyRecord>,
    /// The hosts whose receipts are in it, by id.
    pub hosts: Vec<HostKey>,
}

/// A host, and the key that signs its receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostKey {
    /// Its id.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
}

/// Terms, exactly as they were signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRecord {
    /// On which lease.
    pub lease: LeaseId,
    /// The signed text.
    pub payload: String,
    /// Who signed.
    pub key: PublicKey,
    /// Ed25519, base 64.
    pub signature: String,
}

/// What the market itself saw of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Which.
    pub lease: LeaseId,
    /// The name its client gave it.
    pub name: String,
    /// What booted.
    pub image: String,
    /// The image was whole on the host.
    pub fetched_at: Option<Timestamp>,
    /// The machine was started.
    pub booted_at: Option<Timestamp>,
    /// The guest answered.
    pub ready_at: Option<Timestamp>,
    /// The client authenticated for the first time.
    pub contact_at: Option<Timestamp>,
    /// It was decided or learned that it stops.
    pub stopped_at: Timestamp,
    /// The host said gone and wiped.
    pub ended_at: Option<Timestamp>,
    /// The longest it may run.
    pub term_seconds: Seconds,
    /// What was paid for.
    pub paid_seconds: Seconds,
    /// What was held for it; none in a market without holds.
    pub held: Option<Micros>,
    /// Why it ended.
    pub reason: EndReason,
    /// When it was settled: later receipts are not billed.
    pub settled_at: Timestamp,
}

/// A receipt, exactly as the host signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRecord {
    /// Of which lease.
    pub lease: LeaseId,
    /// When the market heard it.
    pub received_at: Timestamp,
    /// The signed text.
    pub payload: String,
    /// Who signed.
    pub key: PublicKey,
    /// Ed25519, base 64.
    pub signature: String,
}

/// What a lease comes to, with its arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargeRecord {
    /// Which lease.
    pub lease: LeaseId,
    /// On how many receipts it rests.
    pub receipts: u64,
    /// What the last of them says.
    pub receipted_seconds: Seconds,
    /// What is billed.
    pub billed_seconds: Seconds,
    /// What decided that.
    pub because: Bound,
    /// Spans with one allocation each.
    pub segments: Vec<Segment>,
    /// All parts, rounded to micros once, a half to the even one.
    pub metered: Micros,
    /// Once, if it ran.
    pub setup: Micros,
    /// Set-up and metered.
    pub total: Micros,
    /// Of the total, what was held for it.
    pub charged: Micros,
    /// What the operator keeps.
    pub fee: Micros,
    /// What the lender gets.
    pub earned: Micros,
}

/// A span in which a partition had one allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Counted from ready.
    pub from_second: Seconds,
    /// Counted from ready.
    pub until_second: Seconds,
    /// What is charged by the hour.
    pub lines: Vec<Line>,
}

/// Price times amount times seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// `flat`, `cpu`, `memory` or `disk`.
    pub what: String,
    /// Micros for an hour of one (of a core, of a GiB).
    pub price: i64,
    /// 1, millicores, MiB, GiB.
    pub amount: i64,
    /// How long.
    pub seconds: Seconds,
    /// In parts of a micro, a whole number that may be longer than 64 bits.
    pub parts: String,
}

/// Who gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditBearer {
    /// Out of its earnings.
    Lender,
    /// Out of the fees.
    Operator,
}

/// A correction: nothing that was written changes, this follows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credit {
    /// Of which lease.
    pub lease: LeaseId,
    /// Counts the credits of a lease from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// How much goes back to the client.
    pub micros: Micros,
    /// Who gives it.
    pub borne_by: CreditBearer,
    /// Why, in words.
    pub note: String,
}

/// The closing, as the market signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosingRecord {
    /// The signed text.
    pub payload: String,
    /// Who signed.
    pub key: PublicKey,
    /// Ed25519, base 64.
    pub signature: String,
}

/// What the market signs of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closing {
    /// As in the head.
    pub account: AccountId,
    /// As in the head.
    pub side: Side,
    /// As in the head.
    pub from: Timestamp,
    /// As in the head.
    pub until: Timestamp,
    /// How many.
    pub leases: u64,
    /// Sum of what clients paid.
    pub charged: Micros,
    /// Sum of what they got back.
    pub credited: Micros,
    /// Sum of what the operator kept.
    pub fees: Micros,
    /// Sum of what lenders got, less the credits that they bore.
    pub earned: Micros,
    /// What it comes to for this side.
    pub amount: Micros,
    /// Digest of every line before, in order.
    pub lines: Vec<Sha256Digest>,
}

impl Statement for Closing {
    const KIND: &'static str = "sublet statement 1";
}
