//! The books as they stand, and what may be added to them.

use super::{Book, Cause, LedgerError, Posting, Transfer, fee};
use crate::ids::{AccountId, LeaseId};
use crate::units::{Micros, Timestamp};
use std::collections::BTreeMap;

/// The books: balances, and what of each lease has to be known to judge the next transfer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    newest: u64,
    balances: BTreeMap<Book, i128>,
    leases: BTreeMap<LeaseId, Account>,
}

/// What the books know of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    client: AccountId,
    lender: Option<AccountId>,
    charged: i128,
    credited: i128,
    credits: u64,
}

impl Ledger {
    /// The books after all of these, from nothing: the audit. The number of the first one that can't be.
    pub fn audit<'a>(transfers: impl IntoIterator<Item = &'a Transfer>) -> Result<Self, (u64, LedgerError)> {
        let mut ledger = Self::default();
        for transfer in transfers {
            ledger.apply(transfer).map_err(|error| (transfer.number, error))?;
        }
        Ok(ledger)
    }

    /// How much is in a book.
    pub fn balance(&self, book: Book) -> i128 {
        self.balances.get(&book).copied().unwrap_or(0)
    }

    /// Every book that ever had something, with what is in it.
    pub fn balances(&self) -> impl Iterator<Item = (Book, i128)> {
        self.balances.iter().map(|(book, balance)| (*book, *balance))
    }

    /// Number of the newest transfer.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Writes a transfer into the books, or changes nothing.
    pub fn apply(&mut self, transfer: &Transfer) -> Result<(), LedgerError> {
        self.judge(transfer)?;
        self.newest = transfer.number;
        for Posting { book, micros } in &transfer.postings {
            *self.balances.entry(*book).or_default() += i128::from(micros.0);
        }
        self.note(transfer);
        Ok(())
    }

    /// Whether a transfer may be written.
    pub fn judge(&self, transfer: &Transfer) -> Result<(), LedgerError> {
        let wanted = self.newest + 1;
        if transfer.number != wanted {
            return Err(LedgerError::Number { wanted, got: transfer.number });
        }
        let sum: i128 = transfer.postings.iter().map(|p| i128::from(p.micros.0)).sum();
        if sum != 0 {
            return Err(LedgerError::Unbalanced(sum));
        }
        let sources: Vec<&Posting> = transfer.postings.iter().filter(|p| p.micros < Micros::ZERO).collect();
        let [source] = sources.as_slice() else { return Err(LedgerError::Sources(sources.len())) };
        self.judge_shape(transfer, source)?;
        let (has, asked) = (self.balance(source.book), -i128::from(source.micros.0));
        if source.book != Book::Outside && has < asked {
            return Err(LedgerError::Short { book: source.book, has, asked });
        }
        self.judge_credit(&transfer.cause, asked)
    }

    /// Whether it goes from and to the books that its cause names, each once.
    fn judge_shape(&self, transfer: &Transfer, source: &Posting) -> Result<(), LedgerError> {
        let (from, to) = self.shape(&transfer.cause)?;
        let mut seen = vec![source.book];
        for posting in &transfer.postings {
            let may =
                if posting.micros < Micros::ZERO { from.contains(&posting.book) } else { to.contains(&posting.book) };
            let again = posting != source && seen.contains(&posting.book);
            if !may || again || posting.micros == Micros::ZERO {
                return Err(LedgerError::Shape(posting.book, posting.micros));
            }
            seen.push(posting.book);
        }
        Ok(())
    }

    /// From which of these, to which of these.
    fn shape(&self, cause: &Cause) -> Result<(Vec<Book>, Vec<Book>), LedgerError> {
        Ok(match cause {
            Cause::Deposit { account, .. } => (vec![Book::Outside], vec![Book::Available(*account)]),
            Cause::Refund { account, .. } => (vec![Book::Available(*account)], vec![Book::Outside]),
            Cause::Hold { lease, client } => {
                if self.leases.get(lease).is_some_and(|known| known.client != *client) {
                    return Err(LedgerError::OtherParty(*lease, *client));
                }
                (vec![Book::Available(*client)], vec![Book::Held(*lease)])
            }
            Cause::Charge { lease, lender, .. } => {
                if self.known(*lease)?.lender.is_some_and(|known| known != *lender) {
                    return Err(LedgerError::OtherParty(*lease, *lender));
                }
                (vec![Book::Held(*lease)], vec![Book::Available(*lender), Book::Withheld(*lease), Book::Fees])
            }
            Cause::Void { lease } => (vec![Book::Held(*lease)], vec![self.client(*lease)?]),
            Cause::PayOut { lease } => (vec![Book::Withheld(*lease)], vec![self.lender(*lease)?]),
            Cause::GiveBack { lease } => (vec![Book::Withheld(*lease)], vec![self.client(*lease)?]),
            Cause::Credit { lease, .. } => (vec![self.lender(*lease)?, Book::Fees], vec![self.client(*lease)?]),
        })
    }

    /// What goes back to a client is never more than it paid.
    fn judge_credit(&self, cause: &Cause, asked: i128) -> Result<(), LedgerError> {
        let lease = match cause {
            Cause::GiveBack { lease } | Cause::Credit { lease, .. } => *lease,
            _ => return Ok(()),
        };
        let of = self.known(lease)?;
        match cause {
            Cause::Credit { number, .. } if *number != of.credits + 1 => {
                Err(LedgerError::CreditNumber { lease, wanted: of.credits + 1, got: *number })
            }
            _ if of.credited + asked > of.charged => {
                Err(LedgerError::OverCredited { lease, charged: of.charged, credited: of.credited, asked })
            }
            _ => Ok(()),
        }
    }

    /// Keeps what the next transfer of the lease is judged by.
    fn note(&mut self, transfer: &Transfer) {
        let moved: i128 = transfer.postings.iter().map(|p| i128::from(p.micros.0.max(0))).sum();
        match &transfer.cause {
            Cause::Hold { lease, client } => {
                let new = Account { client: *client, lender: None, charged: 0, credited: 0, credits: 0 };
                self.leases.entry(*lease).or_insert(new);
            }
            Cause::Charge { lease, lender, .. } => self.edit(*lease, |of| {
                of.lender = Some(*lender);
                of.charged += moved;
            }),
            Cause::GiveBack { lease } => self.edit(*lease, |of| of.credited += moved),
            Cause::Credit { lease, number } => self.edit(*lease, |of| {
                of.credited += moved;
                of.credits = *number;
            }),
            Cause::Deposit { .. } | Cause::Refund { .. } | Cause::Void { .. } | Cause::PayOut { .. } => {}
        }
    }

    fn edit(&mut self, lease: LeaseId, change: impl FnOnce(&mut Account)) {
        if let Some(of) = self.leases.get_mut(&lease) {
            change(of);
        }
    }

    fn known(&self, lease: LeaseId) -> Result<&Account, LedgerError> {
        self.leases.get(&lease).ok_or(LedgerError::Unknown(lease))
    }

    fn client(&self, lease: LeaseId) -> Result<Book, LedgerError> {
        Ok(Book::Available(self.known(lease)?.client))
    }

    fn lender(&self, lease: LeaseId) -> Result<Book, LedgerError> {
        self.known(lease)?.lender.map(Book::Available).ok_or(LedgerError::Unknown(lease))
    }

    /// A transfer from one book to others, with the next number; what is zero is left out.
    pub fn next(&self, at: Timestamp, cause: Cause, from: Book, to: &[(Book, Micros)]) -> Transfer {
        let sum: Micros = to.iter().map(|(_, micros)| *micros).sum();
        let source = Posting { book: from, micros: Micros::ZERO - sum };
        let sinks = to.iter().map(|(book, micros)| Posting { book: *book, micros: *micros });
        let postings = std::iter::once(source).chain(sinks).filter(|p| p.micros != Micros::ZERO).collect();
        Transfer { number: self.newest + 1, at, cause, postings }
    }

    /// The end of a lease: of `total` as much as was held goes to lender and operator, the rest of
    /// the hold back to the client. With `withhold` the lender's part is kept back.
    pub fn settle(&self, bill: &Bill, at: Timestamp) -> Result<Vec<Transfer>, LedgerError> {
        let client = self.client(bill.lease)?;
        let held = Micros(i64::try_from(self.balance(Book::Held(bill.lease))).unwrap_or(i64::MAX));
        let charged = bill.total.max(Micros::ZERO).min(held);
        let fee = fee(charged, bill.fee_permille);
        let lender = if bill.withhold { Book::Withheld(bill.lease) } else { Book::Available(bill.lender) };
        let cause = Cause::Charge { lease: bill.lease, lender: bill.lender, receipt: bill.receipt };
        let from = Book::Held(bill.lease);
        let charge = self.next(at, cause, from, &[(lender, charged - fee), (Book::Fees, fee)]);
        let void = self.next(at, Cause::Void { lease: bill.lease }, from, &[(client, held - charged)]);
        let mut transfers: Vec<Transfer> = [charge, void].into_iter().filter(|t| !t.postings.is_empty()).collect();
        for (transfer, number) in transfers.iter_mut().zip(self.newest + 1..) {
            transfer.number = number;
        }
        Ok(transfers)
    }
}

/// What a lease comes to at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// Which lease.
    pub lease: LeaseId,
    /// Who earns.
    pub lender: AccountId,
    /// By its terms and receipts, whatever was held.
    pub total: Micros,
    /// How many thousandths the operator keeps.
    pub fee_permille: u16,
    /// Number of the receipt it rests on.
    pub receipt: u64,
    /// Whether the lender's part is kept back.
    pub withhold: bool,
}
