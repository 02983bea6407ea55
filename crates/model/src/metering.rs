//! Receipts: what a host says a lease used, cumulative, signed, each naming the one before.

use crate::identity::{Sha256Digest, Statement};
use crate::ids::LeaseId;
use crate::units::Seconds;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Usage of one lease up to one moment. A later receipt replaces what an earlier one said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Whose use.
    pub lease: LeaseId,
    /// The partition's generation at the grant.
    pub generation: u64,
    /// Counts a lease's receipts from 1, without a gap.
    pub seq: u64,
    /// Whole seconds from ready to the moment of this receipt, by a clock that does not count sleep.
    pub seconds: Seconds,
    /// Processor time that the partition really used, in milliseconds. For information, not billed.
    #[serde(default)]
    pub cpu_used_ms: i64,
    /// Whether the meter has stopped for good.
    pub last: bool,
    /// The digest of the receipt before; none for the first.
    pub previous: Option<Sha256Digest>,
}

impl Statement for Receipt {
    const KIND: &'static str = "sublet receipt 1";
}

/// Why a receipt does not follow from the one before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Another lease or generation.
    #[error("the receipt is for another lease or generation")]
    OtherLease,
    /// Something between is missing.
    #[error("receipt {got} came when {wanted} was due; send the ones between")]
    Gap {
        /// The number due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// Two different receipts claim the same place.
    #[error("the receipt does not name the one before it: the chain forks")]
    Fork,
    /// Use can't shrink.
    #[error("usage went from {before} to {after} seconds: a meter can't run backwards")]
    Backwards {
        /// Receipted before.
        before: i64,
        /// Receipted now.
        after: i64,
    },
    /// After the last one nothing can follow.
    #[error("a receipt came after the last one")]
    AfterLast,
}

/// The end of a chain of receipts: all that is needed to judge the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEnd {
    /// Number of the newest receipt.
    pub seq: u64,
    /// Its digest.
    pub digest: Sha256Digest,
    /// What it says was used.
    pub seconds: Seconds,
    /// Whether it was the last.
    pub last: bool,
}

/// What a receipt means for the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake {
    /// It is the next one.
    Next,
    /// It was taken in before.
    Known,
}

/// Judges the next receipt of a lease.
pub fn judge(
    lease: LeaseId,
    generation: u64,
    end: Option<&ChainEnd>,
    receipt: &Receipt,
    digest: Sha256Digest,
) -> Result<Intake, ReceiptError> {
    if receipt.lease != lease || receipt.generation != generation {
        return Err(ReceiptError::OtherLease);
    }
    let wanted = end.map_or(1, |e| e.seq + 1);
    if let Some(end) = end {
        if receipt.seq == end.seq {
            return if digest == end.digest { Ok(Intake::Known) } else { Err(ReceiptError::Fork) };
        }
        if receipt.seq < end.seq {
            // Older ones were taken in; whether this is a copy can't be told from the end alone,
            // and it can't change a bill, which counts the newest only.
            return Ok(Intake::Known);
        }
        if end.last {
            return Err(ReceiptError::AfterLast);
        }
    }
    if receipt.seq != wanted {
        return Err(ReceiptError::Gap { wanted, got: receipt.seq });
    }
    if receipt.previous != end.map(|e| e.digest) {
        return Err(ReceiptError::Fork);
    }
    let before = end.map_or(Seconds::ZERO, |e| e.seconds);
    if receipt.seconds < before {
        return Err(ReceiptError::Backwards { before: before.0, after: receipt.seconds.0 });
    }
    Ok(Intake::Next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn lease() -> LeaseId {
        LeaseId::from(Uuid::from_u128(1))
    }

    fn receipt(seq: u64, seconds: i64, previous: Option<Sha256Digest>) -> Receipt {
        Receipt { lease: lease(), generation: 3, seq, seconds: Seconds(seconds), cpu_used_ms: 0, last: false, previous }
    }

    #[test]
    fn a_chain_accepts_only_its_next_link() {
        let d = Sha256Digest::of(b"one");
        let e = Sha256Digest::of(b"two");
        let end = ChainEnd { seq: 1, digest: d, seconds: Seconds(10), last: false };
        let check = |end: Option<&ChainEnd>, r: Receipt, digest| judge(lease(), 3, end, &r, digest);

        assert_eq!(check(None, receipt(1, 0, None), d), Ok(Intake::Next));
        assert_eq!(check(Some(&end), receipt(2, 10, Some(d)), e), Ok(Intake::Next));
        assert_eq!(check(Some(&end), receipt(1, 10, None), d), Ok(Intake::Known));
        assert_eq!(check(Some(&end), receipt(1, 99, None), e), Err(ReceiptError::Fork));
        assert_eq!(check(None, receipt(2, 0, None), d), Err(ReceiptError::Gap { wanted: 1, got: 2 }));
        assert_eq!(check(Some(&end), receipt(4, 20, Some(d)), e), Err(ReceiptError::Gap { wanted: 2, got: 4 }));
        assert_eq!(check(Some(&end), receipt(2, 20, Some(e)), e), Err(ReceiptError::Fork));
        assert_eq!(check(Some(&end), receipt(2, 9, Some(d)), e), Err(ReceiptError::Backwards { before: 10, after: 9 }));
        let later = ChainEnd { seq: 3, ..end.clone() };
        assert_eq!(check(Some(&later), receipt(2, 10, Some(d)), e), Ok(Intake::Known), "taken in long ago");
        let done = ChainEnd { last: true, ..end };
        assert_eq!(check(Some(&done), receipt(2, 20, Some(d)), e), Err(ReceiptError::AfterLast));
        let other = Receipt { generation: 2, ..receipt(1, 0, None) };
        assert_eq!(check(None, other, d), Err(ReceiptError::OtherLease));
    }
}
