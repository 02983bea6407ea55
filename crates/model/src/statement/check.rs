//! Each record against the ones before it.

use super::charge::{Sums, work_out};
use super::fault::{Problem, Wrong, same};
use super::keys::chain_of;
use super::record::{
    ChargeRecord, Closing, ClosingRecord, Credit, CreditBearer, Head, ReceiptRecord, Record, Seen, Side, SignedRecord,
};
use crate::billing::Terms;
use crate::identity::{PublicKey, Sha256Digest, Statement};
use crate::ids::LeaseId;
use crate::market_keys::KeyChain;
use crate::metering::Receipt;
use crate::units::{Micros, Seconds, Timestamp};
use serde::Serialize;
use serde_json::Value;

type Checked = Result<(), Wrong>;

/// The last instant of the year 9999.
const LAST_INSTANT: Timestamp = Timestamp(253_402_300_799_999_999);

/// What of the records so far the next one is judged by.
#[derive(Debug, Default)]
pub(super) struct Checker {
    known: Option<PublicKey>,
    keys: Option<KeyChain>,
    pub head: Option<Head>,
    lease: Option<Lease>,
    newest: Option<LeaseId>,
    pub sums: Sums,
    pub digests: Vec<Sha256Digest>,
    done: bool,
}

/// The lease that is being read.
#[derive(Debug)]
struct Lease {
    terms: Terms,
    host: PublicKey,
    seen: Option<Seen>,
    receipts: u64,
    newest: Option<(Receipt, Sha256Digest)>,
    charge: Option<ChargeRecord>,
    credits: u64,
    credited: i128,
    credited_by_lender: i128,
}

impl Checker {
    pub fn new(known: Option<PublicKey>) -> Self {
        Self { known, ..Self::default() }
    }

    /// Whether the closing was read, and holds.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// How many receipts of the lease were read, this one included: for the fault's place.
    pub fn receipt_number(&self) -> u64 {
        self.lease.as_ref().map_or(0, |lease| lease.receipts) + 1
    }

    /// Judges the next record, and takes it in.
    pub fn check(&mut self, record: &Record) -> Checked {
        self.is_due(record)?;
        match record {
            Record::Head(head) => self.head(head),
            Record::Terms(terms) => self.terms(terms),
            Record::Seen(seen) => self.seen(seen),
            Record::Receipt(receipt) => self.receipt(receipt),
            Record::Charge(charge) => self.charge(charge),
            Record::Credit(credit) => self.credit(credit),
            Record::Closing(closing) => self.closing(closing),
        }
    }

    fn is_due(&self, record: &Record) -> Checked {
        let (due, words): (&[&str], &str) = match &self.lease {
            _ if self.done => (&[], "the end"),
            _ if self.head.is_none() => (&["head"], "head"),
            None => (&["terms", "closing"], "terms or closing"),
            Some(Lease { seen: None, .. }) => (&["seen"], "seen"),
            Some(Lease { charge: None, .. }) => (&["receipt", "charge"], "receipt or charge"),
            Some(_) => (&["terms", "credit", "closing"], "terms, credit or closing"),
        };
        if !due.contains(&record.word()) {
            return Err(Wrong::new(Problem::Order).expected(words).found(record.word()));
        }
        match (&self.lease, record) {
            (_, Record::Terms(terms)) => match self.newest {
                Some(newest) if terms.lease <= newest => Err(Wrong::new(Problem::Order)
                    .field("lease")
                    .expected(format!("after {newest}"))
                    .found(terms.lease)),
                _ => Ok(()),
            },
            (Some(lease), record) => record.lease().map_or(Ok(()), |of| same(Problem::Lease, lease.terms.lease, of)),
            (None, _) => Ok(()),
        }
    }

    fn head(&mut self, head: &Head) -> Checked {
        self.keys = Some(chain_of(head, self.known)?);
        for (field, at) in [("from", head.from), ("until", head.until), ("made_at", head.made_at)] {
            instant(field, Some(at))?;
        }
        plausible("until", head.from <= head.until)?;
        if !head.hosts.is_sorted_by(|a, b| a.host < b.host) {
            return Err(Wrong::new(Problem::Order).field("hosts"));
        }
        self.head = Some(head.clone());
        Ok(())
    }

    fn known_head(&self) -> Result<&Head, Wrong> {
        self.head.as_ref().ok_or(Wrong::new(Problem::Order))
    }

    fn terms(&mut self, record: &SignedRecord) -> Checked {
        let head = self.known_head()?;
        let keys = self.keys.as_ref().ok_or(Wrong::new(Problem::Order))?;
        // A key that was given up signed terms of its own time.
        let named = if keys.has(record.key) { record.key } else { head.market };
        let terms: Terms = signed(&record.payload, record.key, &record.signature, named)?;
        if keys.signer_at(terms.granted_at) != record.key {
            return Err(Wrong::new(Problem::Key).field("granted_at").found(terms.granted_at.0));
        }
        same(Problem::Lease, record.lease, terms.lease)?;
        match head.side {
            Side::Client => same(Problem::Account, head.account, terms.client)?,
            Side::Lender => same(Problem::Account, head.account, terms.lender)?,
            Side::Operator => {}
        }
        let host = head.hosts.binary_search_by_key(&terms.host, |h| h.host);
        let host = host.map(|at| head.hosts[at].key).map_err(|_| Wrong::new(Problem::Host).found(terms.host))?;
        plausible("prices", terms.prices.is_plausible())?;
        plausible("resources", terms.resources.is_plausible())?;
        instant("granted_at", Some(terms.granted_at))?;
        instant("until", terms.until)?;
        plausible("fee_permille", terms.fee_permille <= 1000)?;
        self.newest = Some(terms.lease);
        self.lease = Some(Lease {
            terms,
            host,
            seen: None,
            receipts: 0,
            newest: None,
            charge: None,
            credits: 0,
            credited: 0,
            credited_by_lender: 0,
        });
        Ok(())
    }

    fn seen(&mut self, seen: &Seen) -> Checked {
        for (field, at) in [
            ("fetched_at", seen.fetched_at),
            ("booted_at", seen.booted_at),
            ("ready_at", seen.ready_at),
            ("contact_at", seen.contact_at),
            ("stopped_at", Some(seen.stopped_at)),
            ("ended_at", seen.ended_at),
        ] {
            instant(field, at)?;
        }
        plausible("term_seconds", (Seconds(1)..=Seconds::MAX).contains(&seen.term_seconds))?;
        plausible("paid_seconds", (Seconds::ZERO..=Seconds::MAX).contains(&seen.paid_seconds))?;
        plausible("held", seen.held.is_none_or(|held| held >= Micros::ZERO))?;
        instant("settled_at", Some(seen.settled_at))?;
        let head = self.known_head()?;
        if !(head.from..head.until).contains(&seen.settled_at) {
            return Err(Wrong::new(Problem::Period).field("settled_at").found(seen.settled_at.0));
        }
        if let Some(lease) = &mut self.lease {
            lease.seen = Some(seen.clone());
        }
        Ok(())
    }

    fn receipt(&mut self, record: &ReceiptRecord) -> Checked {
        let Some(lease) = &mut self.lease else { return Err(Wrong::new(Problem::Order)) };
        let receipt: Receipt = signed(&record.payload, record.key, &record.signature, lease.host)?;
        same(Problem::Lease, lease.terms.lease, receipt.lease)?;
        same(Problem::Lease, lease.terms.generation, receipt.generation).map_err(|w| w.field("generation"))?;
        instant("received_at", Some(record.received_at))?;
        plausible("seconds", (Seconds::ZERO..=Seconds::MAX).contains(&receipt.seconds))?;
        follows(lease.newest.as_ref(), &receipt)?;
        let settled_at = lease.seen.as_ref().map_or(Timestamp(0), |seen| seen.settled_at);
        if record.received_at > settled_at {
            let late = Wrong::new(Problem::Late).field("received_at");
            return Err(late.expected(format!("at most {}", settled_at.0)).found(record.received_at.0));
        }
        lease.newest = Some((receipt, digest_of::<Receipt>(&record.payload)));
        lease.receipts += 1;
        Ok(())
    }

    fn charge(&mut self, charge: &ChargeRecord) -> Checked {
        let Some(lease) = &mut self.lease else { return Err(Wrong::new(Problem::Order)) };
        let Some(seen) = &lease.seen else { return Err(Wrong::new(Problem::Order)) };
        let receipted = lease.newest.as_ref().map(|(receipt, _)| receipt.seconds);
        let expected = work_out(&lease.terms, seen, lease.receipts, receipted);
        if expected != *charge {
            return differs("", &json(&expected), &json(charge));
        }
        self.sums.charge(charge);
        lease.charge = Some(expected);
        Ok(())
    }

    fn credit(&mut self, credit: &Credit) -> Checked {
        let Some(lease) = &mut self.lease else { return Err(Wrong::new(Problem::Order)) };
        let Some(charge) = &lease.charge else { return Err(Wrong::new(Problem::Order)) };
        same(Problem::Arithmetic, lease.credits + 1, credit.number).map_err(|w| w.field("number"))?;
        instant("at", Some(credit.at))?;
        plausible("micros", credit.micros > Micros::ZERO)?;
        let micros = i128::from(credit.micros.0);
        let most = |of: Micros, sum: i128| {
            let over = Wrong::new(Problem::Arithmetic).field("micros");
            if sum <= i128::from(of.0) { Ok(()) } else { Err(over.expected(format!("at most {}", of.0)).found(sum)) }
        };
        most(charge.charged, lease.credited + micros)?;
        if credit.borne_by == CreditBearer::Lender {
            most(charge.earned, lease.credited_by_lender + micros)?;
            lease.credited_by_lender += micros;
        }
        lease.credited += micros;
        lease.credits += 1;
        self.sums.credit(credit);
        Ok(())
    }

    fn closing(&mut self, record: &ClosingRecord) -> Checked {
        let head = self.known_head()?;
        let closing: Closing = signed(&record.payload, record.key, &record.signature, head.market)?;
        let wrong = |field: &'static str| move |w: Wrong| w.field(field);
        let problem = Problem::Arithmetic;
        same(problem, head.account, closing.account).map_err(wrong("account"))?;
        same(problem, head.side, closing.side).map_err(wrong("side"))?;
        let sums = &self.sums;
        for (field, expected, found) in [
            ("from", i128::from(head.from.0), i128::from(closing.from.0)),
            ("until", i128::from(head.until.0), i128::from(closing.until.0)),
            ("leases", i128::from(sums.leases), i128::from(closing.leases)),
            ("charged", sums.charged, i128::from(closing.charged.0)),
            ("credited", sums.credited, i128::from(closing.credited.0)),
            ("fees", sums.fees, i128::from(closing.fees.0)),
            ("earned", sums.earned, i128::from(closing.earned.0)),
            ("amount", sums.amount(head.side), i128::from(closing.amount.0)),
        ] {
            same(problem, expected, found).map_err(wrong(field))?;
        }
        same(problem, self.digests.len(), closing.lines.len()).map_err(wrong("lines.length"))?;
        self.done = true;
        Ok(())
    }
}

/// Whether a receipt follows the one before.
fn follows(newest: Option<&(Receipt, Sha256Digest)>, receipt: &Receipt) -> Checked {
    same(Problem::Seq, newest.map_or(1, |(r, _)| r.seq.saturating_add(1)), receipt.seq)?;
    let words = |digest: Option<Sha256Digest>| digest.map_or("none".to_string(), |d| d.to_string());
    same(Problem::Previous, words(newest.map(|(_, digest)| *digest)), words(receipt.previous))?;
    let Some((before, _)) = newest else { return Ok(()) };
    if receipt.seconds < before.seconds {
        let less = Wrong::new(Problem::Backwards).field("seconds");
        return Err(less.expected(format!("at least {}", before.seconds.0)).found(receipt.seconds.0));
    }
    if before.last { Err(Wrong::new(Problem::AfterLast)) } else { Ok(()) }
}

/// What was signed, if that key signed it and it is written as it has to be.
pub(super) fn signed<T: Statement>(payload: &str, by: PublicKey, signature: &str, key: PublicKey) -> Result<T, Wrong> {
    same(Problem::Key, key, by)?;
    let text = format!("{}\n{payload}", T::KIND);
    key.verify_bytes(text.as_bytes(), signature).map_err(|_| Wrong::new(Problem::Signature))?;
    canonical(payload).ok_or(Wrong::new(Problem::Malformed).field("payload"))
}

fn digest_of<T: Statement>(payload: &str) -> Sha256Digest {
    Sha256Digest::of(format!("{}\n{payload}", T::KIND).as_bytes())
}

/// Reads a text that can be written in one way only.
pub(super) fn canonical<T: Serialize + serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    let value: T = serde_json::from_str(text).ok()?;
    (serde_json::to_string(&value).ok()? == text).then_some(value)
}

/// The digests of a closing that holds under its own key.
pub(super) fn pinned(record: &ClosingRecord) -> Option<Vec<Sha256Digest>> {
    signed::<Closing>(&record.payload, record.key, &record.signature, record.key).ok().map(|closing| closing.lines)
}

pub(super) fn instant(field: &str, at: Option<Timestamp>) -> Checked {
    plausible(field, at.is_none_or(|at| (Timestamp(0)..=LAST_INSTANT).contains(&at)))
}

pub(super) fn plausible(field: &str, is: bool) -> Checked {
    if is { Ok(()) } else { Err(Wrong::new(Problem::Implausible).field(field)) }
}

fn json(charge: &ChargeRecord) -> Value {
    serde_json::to_value(charge).unwrap_or_default()
}

/// The first member, in alphabetical order, in which both differ.
fn differs(path: &str, expected: &Value, found: &Value) -> Checked {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().try_for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            differs(&path, value, found.get(name).unwrap_or(&Value::Null))
        }),
        (Value::Array(expected), Value::Array(found)) => {
            let length = |w: Wrong| w.field(format!("{path}.length"));
            same(Problem::Arithmetic, expected.len(), found.len()).map_err(length)?;
            let mut pairs = expected.iter().zip(found).enumerate();
            pairs.try_for_each(|(at, (expected, found))| differs(&format!("{path}[{at}]"), expected, found))
        }
        _ => same(Problem::Arithmetic, scalar(expected), scalar(found)).map_err(|w| w.field(path)),
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
