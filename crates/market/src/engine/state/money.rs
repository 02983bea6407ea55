//! Money in memory: the books, who may spend how much, what is disputed, what people were told.

use super::State;
use super::apply::{self, put};
use crate::engine::change::Change;
use crate::engine::rows::*;
use std::sync::Arc;
use sublet_model::ids::{AccountId, DisputeId, HostId, LeaseId};
use sublet_model::ledger::{Book, Cause, Ledger, Transfer};
use sublet_model::units::{Micros, Seconds, Timestamp};

/// A deposit or a refund, as its reference finds it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Referred {
    /// Number of the transfer.
    pub number: u64,
    /// Whose money.
    pub account: AccountId,
    /// How much.
    pub micros: Micros,
}

/// Which way money crosses the border of the market, and what proves it outside.
pub type Reference = (&'static str, String);

/// How something was before a change.
#[derive(Debug)]
pub(super) enum Before {
    Transfer(sublet_model::ledger::Undo, Option<Reference>),
    Credit((LeaseId, u64)),
    Dispute(DisputeId, Option<DisputeRow>),
    Alert(u64),
    AlertsPruned(Vec<AlertRow>),
    Fee(u16),
}

/// The reference of a deposit or a refund, and what it stands for.
pub fn referred(transfer: &Transfer) -> Option<(Reference, Referred)> {
    let (Cause::Deposit { account, reference } | Cause::Refund { account, reference }) = &transfer.cause else {
        return None;
    };
    let micros = transfer.postings.iter().map(|p| p.micros).max().unwrap_or(Micros::ZERO);
    let referred = Referred { number: transfer.number, account: *account, micros };
    Some(((transfer.cause.word(), reference.clone()), referred))
}

impl State {
    pub(super) fn apply_to_money(&mut self, change: &Change) -> apply::Before {
        use Change as C;
        let before = match change {
            C::Transfer { transfer, .. } => {
                let undo = self.tables.ledger.write(transfer);
                let reference = referred(transfer).map(|(reference, referred)| {
                    self.tables.references.insert(reference.clone(), referred);
                    reference
                });
                self.touch_paid(transfer);
                Before::Transfer(undo, reference)
            }
            C::Credit(row) => {
                self.tables.credits.insert((row.lease, row.number), row.clone());
                self.touch(row.lease);
                Before::Credit((row.lease, row.number))
            }
            C::Dispute(row) => {
                self.touch(row.lease);
                Before::Dispute(row.id, self.put_dispute(row.id, Some(row.clone())))
            }
            C::DisputeResolved { dispute, resolved } => {
                let Some(mut row) = self.tables.disputes.get(dispute).cloned() else { return apply::Before::Same };
                row.resolved = Some(resolved.clone());
                self.touch(row.lease);
                Before::Dispute(*dispute, self.put_dispute(*dispute, Some(row)))
            }
            C::Alert(row) => {
                self.put_alert(row.clone());
                Before::Alert(row.seq)
            }
            C::AlertsPruned { seqs } => {
                Before::AlertsPruned(seqs.iter().filter_map(|seq| self.take_alert(*seq)).collect())
            }
            C::Purse { account, purse } => return self.edit_account(*account, |row| row.purse = *purse),
            C::Fee { permille } => Before::Fee(std::mem::replace(&mut self.tables.settings.fee_permille, *permille)),
            _ => return apply::Before::Same,
        };
        apply::Before::Money(Box::new(before))
    }

    pub(super) fn put_back(&mut self, before: Before) {
        match before {
            Before::Transfer(undo, reference) => {
                self.tables.ledger.take_back(undo);
                if let Some(reference) = reference {
                    self.tables.references.remove(&reference);
                }
            }
            Before::Credit(key) => drop(self.tables.credits.remove(&key)),
            Before::Dispute(id, row) => drop(self.put_dispute(id, row)),
            Before::Alert(seq) => drop(self.take_alert(seq)),
            Before::AlertsPruned(rows) => rows.into_iter().for_each(|row| self.put_alert(row)),
            Before::Fee(permille) => self.tables.settings.fee_permille = permille,
        }
    }

    fn put_dispute(&mut self, id: DisputeId, row: Option<DisputeRow>) -> Option<DisputeRow> {
        match row.as_ref().is_some_and(|row| row.resolved.is_none()) {
            true => drop(self.index.open_disputes.insert(id)),
            false => drop(self.index.open_disputes.remove(&id)),
        }
        put(&mut self.tables.disputes, id, row)
    }

    fn put_alert(&mut self, row: AlertRow) {
        self.index.add_alert(&row);
        row.lease.into_iter().for_each(|lease| self.touch(lease));
        self.tables.alerts.insert(row.seq, row);
    }

    fn take_alert(&mut self, seq: u64) -> Option<AlertRow> {
        let row = self.tables.alerts.remove(&seq)?;
        self.index.remove_alert(&row);
        row.lease.into_iter().for_each(|lease| self.touch(lease));
        Some(row)
    }

    /// A lease whose money moved looks otherwise.
    fn touch_paid(&mut self, transfer: &Transfer) {
        if let Some(lease) = transfer.cause.lease() {
            self.touch(lease);
        }
    }
}

/// Money, as it stands.
impl State {
    /// The books.
    pub fn ledger(&self) -> &Ledger {
        &self.tables.ledger
    }

    /// What the operator decided.
    pub fn settings(&self) -> Settings {
        self.tables.settings
    }

    /// How much is in a book; what is beyond 64 bits is not counted.
    pub fn balance(&self, book: Book) -> Micros {
        narrow(self.ledger().balance(book))
    }

    /// What an account owes.
    pub fn owed(&self, account: AccountId) -> Micros {
        narrow(self.ledger().owed(account))
    }

    /// What an account has set aside for its leases.
    pub fn set_aside(&self, account: AccountId) -> Micros {
        narrow(self.ledger().set_aside(account))
    }

    /// What was charged to an account in the month of this moment.
    pub fn spent(&self, account: AccountId, at: Timestamp) -> Micros {
        narrow(self.index.spent.get(&(account, at.month())).copied().unwrap_or(0))
    }

    /// How much more an account can set aside now, for whatever lease.
    pub fn purse(&self, account: AccountId, now: Timestamp) -> Micros {
        let on_account = self.account(account).is_some_and(|row| row.purse.on_account);
        self.purse_from(if on_account { Book::Owed(account) } else { Book::Available(account) }, account, now)
    }

    /// How much more can be set aside for a lease: it is paid from one book all its life, however its
    /// account pays by now.
    pub fn purse_for(&self, lease: &Lease, now: Timestamp) -> Micros {
        let payer = self.ledger().lease(lease.id).map(|of| of.payer);
        payer.map_or_else(|| self.purse(lease.account, now), |payer| self.purse_from(payer, lease.account, now))
    }

    fn purse_from(&self, payer: Book, account: AccountId, now: Timestamp) -> Micros {
        let Some(purse) = self.account(account).map(|row| row.purse) else { return Micros::ZERO };
        let has = match payer {
            // Nobody owes more than can be counted.
            Book::Owed(_) if purse.on_account => MOST_OWED - self.owed(account),
            // What was begun afterwards can't go on so, once its account doesn't.
            Book::Owed(_) => Micros::ZERO,
            book => self.balance(book),
        };
        let within = |limit: Micros| limit - self.spent(account, now) - self.set_aside(account);
        purse.month_limit.map_or(has, |limit| has.min(within(limit))).max(Micros::ZERO)
    }

    /// What was ever held for a lease; none if nothing was, as for one that is free.
    pub fn held_for(&self, lease: LeaseId) -> Option<Micros> {
        self.ledger().lease(lease).map(|of| narrow(of.held))
    }

    /// A deposit or a refund, by what proves it outside.
    pub fn referred(&self, kind: &'static str, reference: &str) -> Option<Referred> {
        self.tables.references.get(&(kind, reference.to_owned())).copied()
    }

    /// The credit notes of a lease, oldest first.
    pub fn credits(&self, lease: LeaseId) -> impl DoubleEndedIterator<Item = &CreditRow> {
        self.tables.credits.range((lease, 0)..=(lease, u64::MAX)).map(|(_, row)| row)
    }

    /// A dispute.
    pub fn dispute(&self, id: DisputeId) -> Option<&DisputeRow> {
        self.tables.disputes.get(&id)
    }

    /// Every dispute, oldest first.
    pub fn disputes(&self) -> impl DoubleEndedIterator<Item = &DisputeRow> {
        self.tables.disputes.values()
    }

    /// Those that are not resolved.
    pub fn open_disputes(&self) -> impl Iterator<Item = &DisputeRow> {
        self.index.open_disputes.iter().filter_map(|id| self.dispute(*id))
    }

    /// Whether what a lease earns is kept back: it is disputed, or its host told two stories.
    pub fn is_withheld(&self, lease: LeaseId, host: HostId) -> bool {
        let told = |row: &DisputeRow| self.lease(row.lease).is_some_and(|l| l.host == host);
        self.open_disputes().any(|row| row.lease == lease || (row.reason == FORK && told(row)))
    }

    /// What accounts were told, oldest first.
    pub fn alerts(&self) -> impl DoubleEndedIterator<Item = &AlertRow> {
        self.tables.alerts.values()
    }

    /// What an account was told, newest first.
    pub fn alerts_of(&self, account: AccountId) -> impl Iterator<Item = &AlertRow> {
        let own = self.index.account_alerts.range((account, 0)..=(account, u64::MAX)).rev();
        own.filter_map(|(_, seq)| self.tables.alerts.get(seq))
    }

    /// What was told about a lease.
    pub fn alerts_about(&self, lease: LeaseId) -> impl Iterator<Item = &AlertRow> {
        let kinds = [AlertKind::FundsLow, AlertKind::OutOfFunds].into_iter();
        let of = move |kind| (lease, kind, Seconds(i64::MIN))..=(lease, kind, Seconds(i64::MAX));
        kinds.flat_map(move |kind| self.index.told.range(of(kind))).filter_map(|(_, seq)| self.tables.alerts.get(seq))
    }

    /// What may be forgotten of what accounts were told, the oldest first: but for the newest `kept` of each account,
    /// and for what still counts, for it would be told again.
    pub fn stale_alerts(&self, kept: usize) -> Vec<u64> {
        let (mut stale, mut of, mut newer) = (Vec::new(), None, 0);
        for (account, seq) in self.index.account_alerts.iter().rev() {
            if of.replace(*account) != Some(*account) {
                newer = 0;
            }
            newer += 1;
            let counts = || self.tables.alerts.get(seq).is_some_and(|row| self.still_counts(row));
            if newer > kept && !counts() {
                stale.push(*seq);
            }
        }
        stale.sort_unstable();
        stale
    }

    /// Whether a lease runs and is paid as far as its client was told.
    fn still_counts(&self, row: &AlertRow) -> bool {
        let lease = row.lease.and_then(|lease| self.lease(lease));
        lease.is_some_and(|lease| lease.state.is_wanted() && lease.paid_seconds == row.paid)
    }

    /// Number of the next alert.
    pub fn next_alert(&self) -> u64 {
        self.tables.alerts.last_key_value().map_or(1, |(seq, _)| seq + 1)
    }

    /// What the client of a lease was told of this kind while it was paid so far.
    pub fn told(&self, lease: LeaseId, kind: AlertKind, paid: Seconds) -> Option<&AlertRow> {
        self.tables.alerts.get(self.index.told.get(&(lease, kind, paid))?)
    }

    /// Leases for which more may have to be held by `now`.
    pub fn funding_by(&self, now: Timestamp) -> Vec<Arc<Lease>> {
        self.due(&self.index.funding, now)
    }
}

/// The most that an account may owe.
const MOST_OWED: Micros = Micros(i64::MAX / 4);

/// Why the market itself opens a dispute.
pub const FORK: &str = "fork";

fn narrow(micros: i128) -> Micros {
    Micros(micros.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_64_bits_is_the_most_there_is() {
        let (most, least) = (i128::from(i64::MAX), i128::from(i64::MIN));
        let seen = [most + 1, most, 0, least, least - 1].map(|micros| narrow(micros).0);
        assert_eq!(seen, [i64::MAX, i64::MAX, 0, i64::MIN, i64::MIN]);
    }
}
