//! I4, by simple means of its own: the money that was committed, transfer by transfer.

use super::check::{Checked, cost, ensure};
use std::collections::{BTreeMap, BTreeSet};
use sublet_market::engine::rows::ChargeRow;
use sublet_model::ids::LeaseId;
use sublet_model::ledger::{Book, Cause, Transfer};
use sublet_model::resources::Resources;
use sublet_model::units::{Micros, Seconds};

/// Every book, and what is to be held and posted for each lease.
#[derive(Debug, Default)]
pub struct Books {
    newest: u64,
    balances: BTreeMap<Book, i128>,
    leases: BTreeMap<LeaseId, Account>,
    /// What has to be looked at once the batch is taken in.
    touched: BTreeSet<LeaseId>,
}

#[derive(Debug)]
struct Account {
    agreed: Resources,
    paid: Seconds,
    held: i128,
    posted: i128,
    /// The bill, once there is one.
    total: Option<Micros>,
}

impl Books {
    /// A lease begins, paid so far.
    pub fn granted(&mut self, lease: LeaseId, agreed: Resources, paid: Seconds) {
        self.leases.insert(lease, Account { agreed, paid, held: 0, posted: 0, total: None });
        self.touched.insert(lease);
    }

    /// It is paid for longer.
    pub fn paid(&mut self, lease: LeaseId, paid: Seconds) {
        if let Some(of) = self.leases.get_mut(&lease) {
            of.paid = paid;
        }
        self.touched.insert(lease);
    }

    /// It is billed.
    pub fn billed(&mut self, row: &ChargeRow) {
        if let Some(of) = self.leases.get_mut(&row.lease) {
            of.total = Some(row.charge.total);
        }
        self.touched.insert(row.lease);
    }

    /// Money moved: numbered without a gap, together nothing, and nobody below zero.
    pub fn moved(&mut self, transfer: &Transfer, after: &[Micros]) -> Checked {
        let number = transfer.number;
        ensure(number == self.newest + 1, || format!("I4: transfer {number} follows {}", self.newest))?;
        self.newest = number;
        let sum: i128 = transfer.postings.iter().map(|p| i128::from(p.micros.0)).sum();
        ensure(sum == 0, || format!("I4: transfer {number} sums to {sum}"))?;
        for (posting, after) in transfer.postings.iter().zip(after) {
            let balance = self.balances.entry(posting.book).or_default();
            *balance += i128::from(posting.micros.0);
            let (book, has) = (posting.book, *balance);
            let may_be = match book {
                Book::Outside => true,
                Book::Owed(_) => has <= 0,
                _ => has >= 0,
            };
            ensure(may_be, || format!("I4: {book} has {has}"))?;
            ensure(has == i128::from(after.0), || format!("I4: {book} has {has}, and is said to have {after}"))?;
        }
        self.debts_first(transfer)?;
        let amount: i128 = transfer.postings.iter().map(|p| i128::from(p.micros.0.max(0))).sum();
        let Some(lease) = transfer.cause.lease() else { return Ok(()) };
        self.touched.insert(lease);
        let Some(of) = self.leases.get_mut(&lease) else {
            return ensure(false, || format!("I4: transfer {number} is for {lease}, which was never granted"));
        };
        match transfer.cause {
            Cause::Hold { .. } => of.held += amount,
            Cause::Charge { .. } => of.posted += amount,
            _ => {}
        }
        let (held, posted) = (of.held, of.posted);
        ensure(posted <= held, || format!("I4: {posted} are posted for {lease}, and {held} were held"))
    }

    /// While somebody owes, nothing comes in for it to spend, and nothing is paid out to it.
    fn debts_first(&self, transfer: &Transfer) -> Checked {
        let (Cause::Deposit { account, .. } | Cause::Refund { account, .. }) = transfer.cause else { return Ok(()) };
        let owes = self.balances.get(&Book::Owed(account)).is_some_and(|owed| *owed < 0);
        let own = transfer.postings.iter().any(|p| p.book == Book::Available(account));
        ensure(!(owes && own), || format!("I4: transfer {} is past what {account} owes", transfer.number))
    }

    /// After a batch: what a host was promised is held; what was billed is posted, and the rest went back.
    pub fn hold(&mut self) -> Checked {
        let all: i128 = self.balances.values().sum();
        ensure(all == 0, || format!("I4: all books together have {all}"))?;
        for lease in std::mem::take(&mut self.touched) {
            let Some(of) = self.leases.get(&lease) else { continue };
            let least = cost(of.agreed, of.paid);
            ensure(of.held >= least, || format!("I4: {lease} is paid for {}, but {} are held", of.paid, of.held))?;
            if let Some(total) = of.total {
                let left = self.balances.get(&Book::Held(lease)).copied().unwrap_or(0);
                ensure(of.posted == i128::from(total.0) && left == 0, || {
                    format!("I4: {lease} is billed {total}, {} are posted and {left} still held", of.posted)
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::ids::AccountId;
    use sublet_model::ledger::Posting;
    use sublet_model::units::Timestamp;
    use uuid::Uuid;

    fn deposit(number: u64, taken: i64, given: i64) -> Transfer {
        let account = AccountId::from(Uuid::from_u128(1));
        let cause = Cause::Deposit { account, reference: "r".into() };
        let posting = |book, micros| Posting { book, micros: Micros(micros) };
        let postings = vec![posting(Book::Outside, taken), posting(Book::Available(account), given)];
        Transfer { number, at: Timestamp(0), cause, postings }
    }

    #[test]
    fn what_does_not_balance_is_found() {
        let after = [Micros(-5), Micros(5)];
        assert!(Books::default().moved(&deposit(1, -5, 5), &after).is_ok());
        assert!(Books::default().moved(&deposit(2, -5, 5), &after).is_err(), "a gap");
        assert!(Books::default().moved(&deposit(1, -5, 6), &after).is_err(), "out of nothing");
        assert!(Books::default().moved(&deposit(1, 5, -5), &[Micros(5), Micros(-5)]).is_err(), "below zero");
        assert!(Books::default().moved(&deposit(1, -5, 5), &[Micros(-5), Micros(6)]).is_err(), "said otherwise");
        let mut owing = Books::default();
        owing.balances.insert(Book::Owed(AccountId::from(Uuid::from_u128(1))), -1);
        assert!(owing.moved(&deposit(1, -5, 5), &after).is_err(), "debts first");
    }

    #[test]
    fn a_lease_that_runs_unpaid_is_found() {
        let (mut books, lease) = (Books::default(), LeaseId::from(Uuid::from_u128(2)));
        books.granted(lease, Resources::default(), Seconds(60));
        assert!(books.hold().is_err(), "nothing is held");
    }
}
