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
    /// Of the clients that have something set aside: the sum of it.
    set_aside: BTreeMap<AccountId, i128>,
}

/// What the books know of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Who rents.
    pub client: AccountId,
    /// Where its money comes from and goes back to: what the client has, or, for one that pays
    /// afterwards, what it owes.
    pub payer: Book,
    /// Who earns; none before the charge.
    pub lender: Option<AccountId>,
    /// All that was ever set aside.
    pub held: i128,
    /// Paid out of that.
    pub charged: i128,
    /// Given back of it.
    pub credited: i128,
    /// How often.
    pub credits: u64,
}

/// What a transfer found when it was written: takes it back.
#[derive(Debug)]
pub struct Undo {
    newest: u64,
    balances: Vec<(Book, Option<i128>)>,
    lease: Option<(LeaseId, Option<Account>)>,
    set_aside: Option<(AccountId, i128)>,
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

    /// Every book that has something, with what is in it.
    pub fn balances(&self) -> impl Iterator<Item = (Book, i128)> {
        self.balances.iter().map(|(book, balance)| (*book, *balance))
    }

    /// Number of the newest transfer.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// What the books know of a lease for which something was held.
    pub fn lease(&self, lease: LeaseId) -> Option<&Account> {
        self.leases.get(&lease)
    }

    /// How much a client has set aside for all of its leases together.
    pub fn set_aside(&self, client: AccountId) -> i128 {
        self.set_aside.get(&client).copied().unwrap_or(0)
    }

    /// Every such lease.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, &Account)> {
        self.leases.iter().map(|(id, of)| (*id, of))
    }

    /// Writes a transfer into the books, or changes nothing.
    pub fn apply(&mut self, transfer: &Transfer) -> Result<(), LedgerError> {
        self.judge(transfer)?;
        let _ = self.write(transfer);
        Ok(())
    }

    /// Writes a transfer that was judged before.
    #[must_use = "what may still be refused by a database needs its undo"]
    pub fn write(&mut self, transfer: &Transfer) -> Undo {
        let newest = std::mem::replace(&mut self.newest, transfer.number);
        let mut balances = Vec::with_capacity(transfer.postings.len());
        for Posting { book, micros } in &transfer.postings {
            let before = self.balances.get(book).copied();
            balances.push((*book, before));
            self.set(*book, Some(before.unwrap_or(0) + i128::from(micros.0)));
        }
        let lease = transfer.cause.lease().map(|id| (id, self.leases.get(&id).cloned()));
        self.note(transfer);
        let set_aside = self.note_set_aside(transfer);
        Undo { newest, balances, lease, set_aside }
    }

    /// Takes the newest transfer back.
    pub fn take_back(&mut self, undo: Undo) {
        self.newest = undo.newest;
        for (book, before) in undo.balances.into_iter().rev() {
            self.set(book, before);
        }
        match undo.lease {
            Some((id, Some(before))) => drop(self.leases.insert(id, before)),
            Some((id, None)) => drop(self.leases.remove(&id)),
            None => {}
        }
        if let Some((client, before)) = undo.set_aside {
            self.put_set_aside(client, before);
        }
    }

    /// Follows what a client has set aside; answers what it was.
    fn note_set_aside(&mut self, transfer: &Transfer) -> Option<(AccountId, i128)> {
        let (book, micros) = transfer.postings.iter().find_map(|p| match p.book {
            Book::Held(lease) => Some((lease, i128::from(p.micros.0))),
            _ => None,
        })?;
        let client = self.leases.get(&book)?.client;
        let before = self.set_aside(client);
        self.put_set_aside(client, before + micros);
        Some((client, before))
    }

    fn put_set_aside(&mut self, client: AccountId, micros: i128) {
        match micros {
            0 => drop(self.set_aside.remove(&client)),
            some => drop(self.set_aside.insert(client, some)),
        }
    }

    /// Empty books are not kept: there are two for every lease.
    fn set(&mut self, book: Book, balance: Option<i128>) {
        match balance.filter(|balance| *balance != 0) {
            Some(balance) => drop(self.balances.insert(book, balance)),
            None => drop(self.balances.remove(&book)),
        }
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
        if !source.book.may_be_below_zero() && has < asked {
            return Err(LedgerError::Short { book: source.book, has, asked });
        }
        self.judge_debt(transfer)?;
        self.judge_credit(&transfer.cause, asked)
    }

    /// What an account owes is paid before anything is its own again, and before anything is paid out to it; and
    /// no more than that is paid of it.
    fn judge_debt(&self, transfer: &Transfer) -> Result<(), LedgerError> {
        let debtor = match &transfer.cause {
            Cause::Deposit { account, .. } | Cause::Refund { account, .. } => Some(*account),
            Cause::Void { lease } | Cause::Credit { lease, .. } => match self.payer(*lease)? {
                Book::Owed(account) => Some(account),
                _ => None,
            },
            _ => None,
        };
        let Some(account) = debtor else { return Ok(()) };
        let into = |book| transfer.postings.iter().filter(|p| p.book == book).map(|p| i128::from(p.micros.0)).sum();
        let (micros, asked): (i128, i128) = (self.owed(account), into(Book::Owed(account)));
        match () {
            () if asked > micros => Err(LedgerError::Overpaid { account, micros, asked }),
            () if asked < micros && into(Book::Available(account)) != 0i128 => {
                Err(LedgerError::Owes { account, micros })
            }
            () => Ok(()),
        }
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
            Cause::Deposit { account, .. } => (vec![Book::Outside], back_to(Book::Owed(*account))),
            Cause::Refund { account, .. } => (vec![Book::Available(*account)], vec![Book::Outside]),
            Cause::Hold { lease, client } => {
                let known = self.leases.get(lease);
                if known.is_some_and(|known| known.client != *client) {
                    return Err(LedgerError::OtherParty(*lease, *client));
                }
                let payers = || vec![Book::Available(*client), Book::Owed(*client)];
                (known.map_or_else(payers, |known| vec![known.payer]), vec![Book::Held(*lease)])
            }
            Cause::Charge { lease, lender, .. } => {
                if self.known(*lease)?.lender.is_some_and(|known| known != *lender) {
                    return Err(LedgerError::OtherParty(*lease, *lender));
                }
                (vec![Book::Held(*lease)], vec![Book::Available(*lender), Book::Withheld(*lease), Book::Fees])
            }
            Cause::Void { lease } => (vec![Book::Held(*lease)], back_to(self.payer(*lease)?)),
            Cause::Withhold { lease } => (vec![self.lender(*lease)?], vec![Book::Withheld(*lease)]),
            Cause::PayOut { lease } => (vec![Book::Withheld(*lease)], vec![self.lender(*lease)?]),
            Cause::Credit { lease, .. } => {
                let from = vec![self.lender(*lease)?, Book::Withheld(*lease), Book::Fees];
                (from, back_to(self.payer(*lease)?))
            }
        })
    }

    /// What goes back to a client is never more than it paid.
    fn judge_credit(&self, cause: &Cause, asked: i128) -> Result<(), LedgerError> {
        let Cause::Credit { lease, number } = *cause else { return Ok(()) };
        let of = self.known(lease)?;
        match () {
            () if number != of.credits + 1 => {
                Err(LedgerError::CreditNumber { lease, wanted: of.credits + 1, got: number })
            }
            () if of.credited + asked > of.charged => {
                Err(LedgerError::OverCredited { lease, charged: of.charged, credited: of.credited, asked })
            }
            () => Ok(()),
        }
    }

    /// Keeps what the next transfer of the lease is judged by.
    fn note(&mut self, transfer: &Transfer) {
        let moved: i128 = transfer.postings.iter().map(|p| i128::from(p.micros.0.max(0))).sum();
        match &transfer.cause {
            Cause::Hold { lease, client } => {
                let source = transfer.postings.iter().find(|p| p.micros < Micros::ZERO);
                let payer = source.map_or(Book::Available(*client), |p| p.book);
                let (lender, charged, credited, credits) = (None, 0, 0, 0);
                let new = Account { client: *client, payer, lender, held: 0, charged, credited, credits };
                self.leases.entry(*lease).or_insert(new).held += moved;
            }
            Cause::Charge { lease, lender, .. } => self.edit(*lease, |of| {
                of.lender = Some(*lender);
                of.charged += moved;
            }),
            Cause::Credit { lease, number } => self.edit(*lease, |of| {
                of.credited += moved;
                of.credits = *number;
            }),
            Cause::Deposit { .. }
            | Cause::Refund { .. }
            | Cause::Void { .. }
            | Cause::Withhold { .. }
            | Cause::PayOut { .. } => {}
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

    fn payer(&self, lease: LeaseId) -> Result<Book, LedgerError> {
        Ok(self.known(lease)?.payer)
    }

    fn lender(&self, lease: LeaseId) -> Result<Book, LedgerError> {
        self.known(lease)?.lender.map(Book::Available).ok_or(LedgerError::Unknown(lease))
    }

    /// How much an account owes.
    pub fn owed(&self, account: AccountId) -> i128 {
        -self.balance(Book::Owed(account))
    }

    /// Where money goes that comes back to a payer, or in for an account: who owes pays that first.
    pub fn back(&self, payer: Book, micros: Micros) -> Vec<(Book, Micros)> {
        let Book::Owed(account) = payer else { return vec![(payer, micros)] };
        let owed = micros.min(Micros(i64::try_from(self.owed(account)).unwrap_or(i64::MAX)));
        vec![(payer, owed), (Book::Available(account), micros - owed)]
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
        let payer = self.payer(bill.lease)?;
        let held = Micros(i64::try_from(self.balance(Book::Held(bill.lease))).unwrap_or(i64::MAX));
        let charged = bill.total.max(Micros::ZERO).min(held);
        let fee = fee(charged, bill.fee_permille);
        let lender = if bill.withhold { Book::Withheld(bill.lease) } else { Book::Available(bill.lender) };
        let cause = Cause::Charge { lease: bill.lease, lender: bill.lender, receipt: bill.receipt };
        let from = Book::Held(bill.lease);
        let charge = self.next(at, cause, from, &[(lender, charged - fee), (Book::Fees, fee)]);
        let void = self.next(at, Cause::Void { lease: bill.lease }, from, &self.back(payer, held - charged));
        let mut transfers: Vec<Transfer> = [charge, void].into_iter().filter(|t| !t.postings.is_empty()).collect();
        for (transfer, number) in transfers.iter_mut().zip(self.newest + 1..) {
            transfer.number = number;
        }
        Ok(transfers)
    }
}

/// To which books goes what comes back to this one.
fn back_to(payer: Book) -> Vec<Book> {
    match payer {
        Book::Owed(account) => vec![payer, Book::Available(account)],
        _ => vec![payer],
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
