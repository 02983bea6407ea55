//! Receipts: signature, chain, then the database. What does not follow is never stored.

use super::Intake;
use crate::engine::change::Change;
use crate::engine::money::disputes;
use std::collections::BTreeMap;
use sublet_model::identity::{Sha256Digest, Signed};
use sublet_model::ids::LeaseId;
use sublet_model::metering::{ChainEnd, Intake as Judged, Receipt, ReceiptError, judge};
use sublet_model::units::Seconds;

impl Intake<'_, '_> {
    /// Takes receipts in. Answers the newest one that is stored, for each lease that sent any.
    pub(super) fn receipts(&mut self, receipts: &[Signed<Receipt>]) -> BTreeMap<LeaseId, u64> {
        let mut acknowledged = BTreeMap::new();
        for signed in receipts {
            if let Some(lease) = self.receipt(signed) {
                let newest = self.draft.lease(lease).and_then(|l| l.chain.as_ref()).map(|end| end.seq);
                acknowledged.extend(newest.map(|seq| (lease, seq)));
            }
        }
        acknowledged
    }

    /// Takes one in. Answers whose it is, if that is known.
    fn receipt(&mut self, signed: &Signed<Receipt>) -> Option<LeaseId> {
        let host = self.host;
        let key = self.draft.host(host)?.key;
        if signed.payload.len() > 4096 {
            self.flag("receipt.refused", host, "a receipt is longer than any of ours".into());
            return None;
        }
        let receipt = match signed.verify_plain(&key) {
            Ok(receipt) => receipt,
            Err(error) => {
                let object = Sha256Digest::of(signed.payload.as_bytes());
                self.flag("receipt.refused", object, format!("a receipt is not to be believed: {error}"));
                return None;
            }
        };
        let Some(lease) = self.draft.lease(receipt.lease).filter(|l| l.host == host).cloned() else {
            let warning = format!("a receipt is for lease {}, which is not on this host", receipt.lease);
            self.flag("receipt.refused", receipt.lease, warning);
            return None;
        };
        let digest = signed.digest();
        match judge(lease.id, lease.generation, lease.chain.as_ref(), &receipt, digest) {
            Ok(Judged::Known) => {}
            Ok(Judged::Next) if !(Seconds::ZERO..=Seconds::MAX).contains(&receipt.seconds) => {
                let warning = format!(
                    "receipt {} of lease {}: no lease runs for {} seconds",
                    receipt.seq, lease.id, receipt.seconds.0
                );
                self.flag("receipt.refused", lease.id, warning);
            }
            Ok(Judged::Next) => self.store(&receipt, signed, digest),
            Err(error) => self.refuse_receipt(&receipt, digest, &error),
        }
        Some(lease.id)
    }

    fn store(&mut self, receipt: &Receipt, signed: &Signed<Receipt>, digest: Sha256Digest) {
        self.draft.put(Change::Receipt {
            lease: receipt.lease,
            receipt: signed.clone(),
            end: ChainEnd { seq: receipt.seq, digest, seconds: receipt.seconds, last: receipt.last },
            cpu_used_ms: receipt.cpu_used_ms,
            at: self.draft.now,
        });
    }

    fn refuse_receipt(&mut self, receipt: &Receipt, digest: Sha256Digest, error: &ReceiptError) {
        let (host, lease) = (self.host, receipt.lease);
        let warning = format!("receipt {} of lease {lease}: {error}", receipt.seq);
        if matches!(error, ReceiptError::Fork) {
            // Two receipts for one place: somebody rewrites the past. Nothing new until it is explained.
            disputes::open_for_fork(self.draft, lease, digest, &warning);
            self.flag("receipt.fork", lease, warning);
            if self.draft.host(host).is_some_and(|h| !h.suspended) {
                self.draft.put(Change::HostSuspended { host, suspended: true });
                self.draft.audit("market", "host.suspend", host, format!("its receipts of lease {lease} fork"));
            }
        } else {
            self.flag("receipt.refused", format!("{lease}.{}", receipt.seq), warning);
        }
    }
}
