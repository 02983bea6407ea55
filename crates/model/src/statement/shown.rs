//! A statement as people read it: what its records say, lease by lease.

use super::record::{ChargeRecord, Closing, Credit, Head, Record, Seen};
use crate::billing::Terms;
use crate::identity::PublicKey;
use crate::units::Micros;

/// What is shown of a statement. Takes its records in, in order, as they are verified.
#[derive(Debug, Default)]
pub struct Shown {
    pub(super) head: Option<Head>,
    pub(super) leases: Vec<LeaseShown>,
    pub(super) closing: Option<Closing>,
    terms: Option<(Terms, PublicKey)>,
    seen: Option<Seen>,
}

#[derive(Debug)]
pub(super) struct LeaseShown {
    pub terms: Terms,
    /// The key of the market under which they stand.
    pub signed_by: PublicKey,
    pub seen: Seen,
    pub charge: ChargeRecord,
    pub credits: Vec<Credit>,
}

impl LeaseShown {
    pub fn credited(&self) -> Micros {
        self.credits.iter().map(|credit| credit.micros).sum()
    }

    /// Name of its host.
    pub fn host<'a>(&self, head: Option<&'a Head>) -> &'a str {
        let hosts = head.map_or(&[][..], |head| &head.hosts);
        hosts.iter().find(|h| h.host == self.terms.host).map_or("", |h| &h.name)
    }
}

impl Shown {
    /// Takes the next record in.
    pub fn take(&mut self, record: &Record) {
        match record {
            Record::Head(head) => self.head = Some(head.clone()),
            Record::Terms(record) => {
                self.terms = serde_json::from_str(&record.payload).ok().map(|terms| (terms, record.key));
            }
            Record::Seen(seen) => self.seen = Some(seen.clone()),
            Record::Receipt(_) => {}
            Record::Charge(charge) => {
                if let (Some((terms, signed_by)), Some(seen)) = (self.terms.take(), self.seen.take()) {
                    let (charge, credits) = (charge.clone(), Vec::new());
                    self.leases.push(LeaseShown { terms, signed_by, seen, charge, credits });
                }
            }
            Record::Credit(credit) => {
                if let Some(lease) = self.leases.last_mut() {
                    lease.credits.push(credit.clone());
                }
            }
            Record::Closing(closing) => self.closing = serde_json::from_str(&closing.payload).ok(),
        }
    }
}
