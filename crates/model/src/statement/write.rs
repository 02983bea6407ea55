//! Writing a statement, lease by lease: what is kept meanwhile is a digest a line.

use super::charge::{Sums, work_out};
use super::record::{ChargeRecord, ClosingRecord, Credit, Head, ReceiptRecord, Record, Seen, SignedRecord};
use crate::billing::Terms;
use crate::identity::{IdentityError, SecretKey, Sha256Digest, Signed};
use crate::metering::Receipt;
use crate::units::{Seconds, Timestamp};

/// The first line.
pub(super) const FIRST: &str = r#"{"sublet":"statement 1","records":["#;
/// The last line.
pub(super) const LAST: &str = "]}";

/// All that is known of a lease that was settled.
#[derive(Debug, Clone)]
pub struct Life {
    /// What was agreed.
    pub terms: Signed<Terms>,
    /// What the market saw.
    pub seen: Seen,
    /// The receipts that the bill rests on, from the first, with when they came.
    pub receipts: Vec<(Timestamp, Signed<Receipt>)>,
    /// What was given back since, from the first.
    pub credits: Vec<Credit>,
}

/// Why a statement can't be written.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Something signed can't be read.
    #[error("failed to read what was signed")]
    Signed(#[from] IdentityError),
    /// Something can't be put into words.
    #[error("failed to write a record")]
    Record(#[from] serde_json::Error),
    /// More money than there can be.
    #[error("the sums of this statement are beyond 64 bits: ask for a shorter period")]
    TooMuch,
}

/// Writes a statement.
#[derive(Debug)]
pub struct Writer {
    head: Head,
    out: String,
    lines: Vec<Sha256Digest>,
    sums: Sums,
}

impl Writer {
    /// Begins.
    pub fn new(head: Head) -> Result<Self, StatementError> {
        let mut writer =
            Self { head: head.clone(), out: format!("{FIRST}\n"), lines: Vec::new(), sums: Sums::default() };
        writer.put(&Record::Head(head))?;
        Ok(writer)
    }

    /// Writes a lease. They have to come in order of their ids. Answers the charge.
    pub fn lease(&mut self, life: Life) -> Result<ChargeRecord, StatementError> {
        let terms = life.terms.read()?;
        let charge = work_out(&terms, &life.seen, life.receipts.len() as u64, life.receipted()?);
        let lease = terms.lease;
        let Signed { payload, key, signature, .. } = life.terms;
        self.put(&Record::Terms(SignedRecord { lease, payload, key, signature }))?;
        self.put(&Record::Seen(life.seen))?;
        for (received_at, Signed { payload, key, signature, .. }) in life.receipts {
            self.put(&Record::Receipt(ReceiptRecord { lease, received_at, payload, key, signature }))?;
        }
        self.sums.charge(&charge);
        self.put(&Record::Charge(charge.clone()))?;
        for credit in life.credits {
            self.sums.credit(&credit);
            self.put(&Record::Credit(credit))?;
        }
        Ok(charge)
    }

    /// Takes what is written so far, so that a long statement need not be held whole.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// Signs, and takes what is left.
    pub fn finish(mut self, key: &SecretKey) -> Result<String, StatementError> {
        let lines = std::mem::take(&mut self.lines);
        let closing = self.sums.closing(&self.head, lines).ok_or(StatementError::TooMuch)?;
        let Signed { payload, key, signature, .. } = Signed::sign(&closing, key)?;
        self.out += &serde_json::to_string(&Record::Closing(ClosingRecord { payload, key, signature }))?;
        self.out += &format!("\n{LAST}\n");
        Ok(self.out)
    }

    fn put(&mut self, record: &Record) -> Result<(), StatementError> {
        let text = serde_json::to_string(record)?;
        self.lines.push(Sha256Digest::of(text.as_bytes()));
        self.out += &text;
        self.out += ",\n";
        Ok(())
    }
}

impl Life {
    /// How long the last receipt says that it ran.
    pub fn receipted(&self) -> Result<Option<Seconds>, IdentityError> {
        Ok(self.receipts.last().map(|(_, signed)| signed.read()).transpose()?.map(|r| r.seconds))
    }
}
