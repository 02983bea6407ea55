//! Money as it is shown.

use crate::engine::rows::{AlertRow, DisputeRow};
use crate::engine::state::State;
use sublet_model::ids::AccountId;
use sublet_model::ledger::Book;
use sublet_model::units::{Micros, Timestamp};
use sublet_wire::api::{AlertView, BalanceView, DisputeView};

/// How an account stands.
pub fn balance(state: &State, account: AccountId, currency: &str, now: Timestamp) -> Option<BalanceView> {
    let row = state.account(account)?;
    let withheld: Micros = state
        .leases_lent_by(account)
        .filter(|lease| state.held_for(lease.id).is_some())
        .map(|lease| state.balance(Book::Withheld(lease.id)))
        .sum();
    let is_open = row.purse.on_account && row.purse.month_limit.is_none();
    Some(BalanceView {
        account,
        name: row.name.clone(),
        currency: currency.into(),
        available: state.balance(Book::Available(account)),
        owed: state.owed(account),
        held: state.set_aside(account),
        withheld,
        on_account: row.purse.on_account,
        month_limit: row.purse.month_limit,
        spent_this_month: state.spent(account, now),
        spendable: (!is_open).then(|| state.purse(account, now)),
    })
}

/// What somebody was told.
pub fn alert(row: &AlertRow) -> AlertView {
    AlertView {
        seq: row.seq,
        at: row.at,
        account: row.account,
        lease: row.lease,
        kind: row.kind.word().into(),
        paid: row.paid,
        words: row.words.clone(),
    }
}

/// A dispute; none if its lease is not there.
pub fn dispute(state: &State, row: &DisputeRow) -> Option<DisputeView> {
    let lease = state.lease(row.lease)?;
    let resolved = row.resolved.as_ref();
    Some(DisputeView {
        id: row.id,
        lease: row.lease,
        lease_name: lease.name.clone(),
        client: lease.account,
        lender: lease.terms().lender,
        line: row.line,
        reason: row.reason.clone(),
        words: row.words.clone(),
        opened_by: row.opened_by.clone(),
        opened_at: row.opened_at,
        charged: state.charge(row.lease).map(|charge| charge.charge.total),
        withheld: state.balance(Book::Withheld(row.lease)),
        resolved_at: resolved.map(|r| r.at),
        credited: resolved.map(|r| r.credited),
        note: resolved.map(|r| r.note.clone()),
    })
}
