//! Rows of money. The books are what all transfers come to, one after the other.

use super::{Cells, all, each};
use crate::db::DbError;
use crate::engine::rows::*;
use crate::engine::state::{Reference, Referred, Tables, referred};
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use sublet_model::ids::LeaseId;
use sublet_model::ledger::{Cause, Ledger, Posting, Transfer};
use sublet_model::units::{Micros, Seconds, Timestamp};

/// Puts all that is money into these tables.
pub(super) fn fill(db: &Connection, tables: &mut Tables) -> Result<(), DbError> {
    (tables.ledger, tables.references) = books(db)?;
    let credits = all(db, "credits", "select * from credits", credit)?;
    tables.credits = credits.into_iter().map(|row| ((row.lease, row.number), row)).collect();
    let disputes = all(db, "disputes", "select * from disputes", dispute)?;
    tables.disputes = disputes.into_iter().map(|row| (row.id, row)).collect();
    let alerts = all(db, "alerts", "select * from alerts", alert)?;
    tables.alerts = alerts.into_iter().map(|row| (row.seq, row)).collect();
    tables.settings = settings(db)?;
    Ok(())
}

fn books(db: &Connection) -> Result<(Ledger, BTreeMap<Reference, Referred>), DbError> {
    let (mut ledger, mut references) = (Ledger::default(), BTreeMap::new());
    each_transfer(db, "", |transfer| {
        references.extend(referred(&transfer));
        // Not judged again: the audit does that, when it is asked to.
        let _ = ledger.write(&transfer);
    })?;
    Ok((ledger, references))
}

/// Every transfer that `which` (a condition, or nothing) lets through, in order.
pub(in crate::db) fn each_transfer(
    db: &Connection,
    which: &str,
    mut take: impl FnMut(Transfer),
) -> Result<(), DbError> {
    let sql = format!(
        "select t.number as number, t.at as at, t.cause as cause, t.account as account, t.lease as lease,
         t.reference as reference, t.ordinal as ordinal, p.book as book, p.micros as micros
         from transfers as t join postings as p on p.transfer = t.number {which} order by t.number, p.book"
    );
    let mut open: Option<Transfer> = None;
    each(db, "transfers", &sql, side, |(number, (at, cause), posting)| match &mut open {
        Some(transfer) if transfer.number == number => transfer.postings.push(posting),
        _ => {
            let next = Transfer { number, at, cause, postings: vec![posting] };
            open.replace(next).into_iter().for_each(&mut take);
        }
    })?;
    open.into_iter().for_each(take);
    Ok(())
}

fn side(c: &Cells<'_>) -> Result<(u64, (Timestamp, Cause), Posting), DbError> {
    let posting = Posting { book: c.parse("book")?, micros: Micros(c.get("micros")?) };
    Ok((c.get("number")?, (c.at("at")?, cause(c)?), posting))
}

fn cause(c: &Cells<'_>) -> Result<Cause, DbError> {
    let reference = || c.get::<Option<String>>("reference").map(Option::unwrap_or_default);
    Ok(match c.some_text("cause")? {
        "deposit" => Cause::Deposit { account: c.parse("account")?, reference: reference()? },
        "refund" => Cause::Refund { account: c.parse("account")?, reference: reference()? },
        "hold" => Cause::Hold { lease: c.parse("lease")?, client: c.parse("account")? },
        "charge" => Cause::Charge { lease: c.parse("lease")?, lender: c.parse("account")?, receipt: c.get("ordinal")? },
        "void" => Cause::Void { lease: c.parse("lease")? },
        "withhold" => Cause::Withhold { lease: c.parse("lease")? },
        "pay_out" => Cause::PayOut { lease: c.parse("lease")? },
        "credit" => Cause::Credit { lease: c.parse("lease")?, number: c.get("ordinal")? },
        other => return Err(c.wrong("cause", format!("{other:?} is no cause"))),
    })
}

pub(super) fn purse(c: &Cells<'_>) -> Result<Purse, DbError> {
    let month_limit = c.get::<Option<i64>>("month_limit_micros")?.map(Micros);
    Ok(Purse { on_account: c.get("on_account")?, month_limit })
}

pub(super) fn budgets(db: &Connection) -> Result<HashMap<LeaseId, Budget>, DbError> {
    let budget = |c: &Cells<'_>| {
        let most = c.get::<Option<i64>>("most_micros")?.map(Micros);
        let outage_allowance = Seconds(c.get("outage_allowance_seconds")?);
        Ok((c.parse("lease")?, Budget { most, outage_allowance }))
    };
    Ok(all(db, "budgets", "select * from budgets", budget)?.into_iter().collect())
}

fn credit(c: &Cells<'_>) -> Result<CreditRow, DbError> {
    let borne_by = c.word("borne_by")?.ok_or_else(|| c.wrong("borne_by", "is missing"))?;
    Ok(CreditRow {
        lease: c.parse("lease")?,
        number: c.get("number")?,
        at: c.at("at")?,
        micros: Micros(c.get("micros")?),
        borne_by,
        note: c.get("note")?,
    })
}

fn dispute(c: &Cells<'_>) -> Result<DisputeRow, DbError> {
    let resolved = c.at_option("resolved_at")?.map(|at| {
        let by = c.get::<Option<String>>("resolved_by")?.unwrap_or_default();
        let credited = Micros(c.get::<Option<i64>>("credited_micros")?.unwrap_or(0));
        Ok(Resolved { by, at, credited, note: c.get::<Option<String>>("note")?.unwrap_or_default() })
    });
    Ok(DisputeRow {
        id: c.parse("id")?,
        lease: c.parse("lease")?,
        line: c.get("line")?,
        reason: c.get("reason")?,
        words: c.get("words")?,
        opened_by: c.get("opened_by")?,
        opened_at: c.at("opened_at")?,
        resolved: resolved.transpose()?,
    })
}

fn alert(c: &Cells<'_>) -> Result<AlertRow, DbError> {
    Ok(AlertRow {
        seq: c.get("seq")?,
        at: c.at("at")?,
        account: c.parse("account")?,
        lease: c.parse_option("lease")?,
        kind: c.word("kind")?.ok_or_else(|| c.wrong("kind", "is missing"))?,
        paid: Seconds(c.get("paid_seconds")?),
        words: c.get("words")?,
    })
}

fn settings(db: &Connection) -> Result<Settings, DbError> {
    let sql = "select name, value from meta where name in ('fee_permille', 'ledger_since', 'chunk_seconds')";
    let rows: Vec<(String, String)> = all(db, "meta", sql, |c| Ok((c.get("name")?, c.get("value")?)))?;
    let mut settings = Settings::default();
    for (name, value) in rows {
        let wrong = || DbError::Unreadable { table: "meta", column: "value", problem: format!("{name} is {value:?}") };
        match name.as_str() {
            "chunk_seconds" => settings.chunk = Seconds(value.parse().map_err(|_| wrong())?),
            "fee_permille" => settings.fee_permille = value.parse().map_err(|_| wrong())?,
            _ => settings.ledger_since = Timestamp(value.parse().map_err(|_| wrong())?),
        }
    }
    Ok(settings)
}
