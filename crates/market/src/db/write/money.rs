//! Money as rows: the postings of a transfer come first, and its own row closes them.

use super::{Done, run, text};
use crate::engine::change::Change;
use crate::engine::rows::{Account, AlertRow, Budget, CreditRow, DisputeRow};
use rusqlite::{Connection, params};
use sublet_model::ids::{AccountId, LeaseId};
use sublet_model::ledger::{Cause, Transfer};
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds};

pub(super) fn of_money(db: &Connection, change: &Change) -> Done {
    use Change as C;
    match change {
        C::Transfer { transfer, after } => moved(db, transfer, after),
        C::Credit(row) => credit(db, row),
        C::Dispute(row) => dispute(db, row),
        C::DisputeResolved { dispute, resolved } => run(
            db,
            "update disputes set resolved_by = ?2, resolved_at = ?3, credited_micros = ?4, note = ?5 where id = ?1",
            params![text(dispute), resolved.by, resolved.at.0, resolved.credited.0, resolved.note],
        ),
        C::Alert(row) => alert(db, row),
        C::AlertsPruned { seqs } => seqs.iter().try_for_each(|seq| run(db, "delete from alerts where seq = ?1", [seq])),
        C::Purse { account, purse } => run(
            db,
            "update accounts set on_account = ?2, month_limit_micros = ?3 where id = ?1",
            params![text(account), purse.on_account, purse.month_limit.map(|limit| limit.0)],
        ),
        C::Fee { permille } => {
            run(db, "update meta set value = ?1 where name = 'fee_permille'", [permille.to_string()])
        }
        _ => Ok(()),
    }
}

pub(super) fn account(db: &Connection, a: &Account) -> Done {
    run(
        db,
        "insert into accounts (id, name, suspended, created_at, on_account, month_limit_micros)
         values (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            text(a.id),
            a.name,
            a.suspended,
            a.created_at.0,
            a.purse.on_account,
            a.purse.month_limit.map(|limit| limit.0)
        ],
    )
}

/// Only where somebody said so: most leases have none.
pub(super) fn budget(db: &Connection, lease: LeaseId, budget: Budget) -> Done {
    if budget == Budget::default() {
        return Ok(());
    }
    let Budget { most, outage_allowance: Seconds(allowance) } = budget;
    run(
        db,
        "insert into budgets (lease, most_micros, outage_allowance_seconds) values (?1, ?2, ?3)",
        params![text(lease), most.map(|most| most.0), allowance],
    )
}

fn moved(db: &Connection, transfer: &Transfer, after: &[Micros]) -> Done {
    for (posting, after) in transfer.postings.iter().zip(after) {
        run(
            db,
            "insert into postings (transfer, book, micros, balance) values (?1, ?2, ?3, ?4)",
            params![transfer.number, text(posting.book), posting.micros.0, after.0],
        )?;
    }
    let (account, reference, ordinal) = named(&transfer.cause);
    let (account, lease) = (account.map(text), transfer.cause.lease().map(text));
    run(
        db,
        "insert into transfers (number, at, cause, account, lease, reference, ordinal)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![transfer.number, transfer.at.0, transfer.cause.word(), account, lease, reference, ordinal],
    )
}

/// Whom a cause names beside its lease, by what it is proved outside, and which one it is.
fn named(cause: &Cause) -> (Option<AccountId>, Option<&str>, Option<u64>) {
    match cause {
        Cause::Deposit { account, reference } | Cause::Refund { account, reference } => {
            (Some(*account), Some(reference), None)
        }
        Cause::Hold { client, .. } => (Some(*client), None, None),
        Cause::Charge { lender, receipt, .. } => (Some(*lender), None, Some(*receipt)),
        Cause::Credit { number, .. } => (None, None, Some(*number)),
        Cause::Void { .. } | Cause::Withhold { .. } | Cause::PayOut { .. } => (None, None, None),
    }
}

fn credit(db: &Connection, row: &CreditRow) -> Done {
    let bearer = match row.borne_by {
        CreditBearer::Lender => "lender",
        CreditBearer::Operator => "operator",
    };
    run(
        db,
        "insert into credits (lease, number, at, micros, borne_by, note) values (?1, ?2, ?3, ?4, ?5, ?6)",
        params![text(row.lease), row.number, row.at.0, row.micros.0, bearer, row.note],
    )
}

fn dispute(db: &Connection, row: &DisputeRow) -> Done {
    run(
        db,
        "insert into disputes (id, lease, line, reason, words, opened_by, opened_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![text(row.id), text(row.lease), row.line, row.reason, row.words, row.opened_by, row.opened_at.0],
    )
}

fn alert(db: &Connection, row: &AlertRow) -> Done {
    run(
        db,
        "insert into alerts (seq, at, account, lease, kind, paid_seconds, words) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![row.seq, row.at.0, text(row.account), row.lease.map(text), row.kind.word(), row.paid.0, row.words],
    )
}
