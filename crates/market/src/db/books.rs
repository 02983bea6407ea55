//! The books as they are written: what moved, and whether all of it holds.

use super::query::Reader;
use super::read::money::each_transfer;
use super::read::{all, each};
use super::{Attempt, DbError};
use rusqlite::Connection;
use std::collections::HashMap;
use sublet_model::ids::{AccountId, LeaseId};
use sublet_model::ledger::{Book, Ledger, Transfer};
use sublet_model::units::Micros;
use sublet_wire::api::LedgerAudit;

/// The most problems that are told.
const MOST_TOLD: usize = 20;

impl Reader {
    /// One transfer.
    pub fn transfer(&self, number: u64) -> Result<Option<Transfer>, DbError> {
        Ok(self.transfers(&format!("where t.number = {number}"))?.pop())
    }

    /// What moved for a lease, oldest first.
    pub fn transfers_for(&self, lease: LeaseId) -> Result<Vec<Transfer>, DbError> {
        self.transfers(&format!("where t.lease = '{lease}'"))
    }

    /// What moved in what an account has or owes, newest first: what is older than `before`.
    pub fn transfers_of(&self, account: AccountId, before: u64, most: usize) -> Result<Vec<Transfer>, DbError> {
        let of = |book| {
            format!(
                "select transfer from (select transfer from postings where book = '{book}:{account}'
                 and transfer < {before} order by transfer desc limit {most})"
            )
        };
        let own = format!("{} union {}", of("available"), of("owed"));
        let mut found = self.transfers(&format!("where t.number in ({own})"))?;
        found.reverse();
        found.truncate(most);
        Ok(found)
    }

    fn transfers(&self, which: &str) -> Result<Vec<Transfer>, DbError> {
        self.with(|db| {
            let mut found = Vec::new();
            each_transfer(db, which, |transfer| found.push(transfer))?;
            Ok(found)
        })
    }

    /// Goes through the books from the first transfer on. In one transaction: a market may write meanwhile.
    /// None while another audit runs.
    pub fn audit_ledger(&self) -> Result<Option<LedgerAudit>, DbError> {
        let found = self.slowly(|db| {
            let one = db.unchecked_transaction().attempt("begin to read")?;
            audit(&one)
        });
        found.transpose()
    }
}

impl super::Sqlite {
    /// The same over what this one writes.
    pub fn audit_ledger(&self) -> Result<LedgerAudit, DbError> {
        audit(self.connection())
    }
}

/// Whether every transfer can be, every balance is what the postings come to, nobody is below zero, and
/// what was posted for a lease is what it was charged and credited.
pub(crate) fn audit(db: &Connection) -> Result<LedgerAudit, DbError> {
    let mut problems = Vec::new();
    let ledger = replay(db, &mut problems)?;
    stored_balances(db, &mut problems)?;
    let charges = charged(db, &ledger, &mut problems)?;
    for (book, micros) in ledger.balances() {
        match book {
            Book::Owed(_) if micros > 0 => problems.push(format!("{book} is above zero: {micros}")),
            _ if micros < 0 && !book.may_be_below_zero() => problems.push(format!("{book} is below zero: {micros}")),
            _ => {}
        }
    }
    let sum: i128 = ledger.balances().map(|(_, micros)| micros).sum();
    if sum != 0 {
        problems.push(format!("all books together have {sum}, not nothing"));
    }
    problems.truncate(MOST_TOLD);
    let of = |is_meant: fn(&Book) -> bool| {
        let sum: i128 = ledger.balances().filter(|(book, _)| is_meant(book)).map(|(_, micros)| micros).sum();
        Micros(i64::try_from(sum).unwrap_or(i64::MAX))
    };
    Ok(LedgerAudit {
        holds: problems.is_empty(),
        problems,
        transfers: ledger.newest(),
        charges,
        available: of(|book| matches!(book, Book::Available(_))),
        owed: of(|book| matches!(book, Book::Owed(_))),
        held: of(|book| matches!(book, Book::Held(_))),
        withheld: of(|book| matches!(book, Book::Withheld(_))),
        fees: of(|book| matches!(book, Book::Fees)),
        outside: of(|book| matches!(book, Book::Outside)),
    })
}

/// The books anew, each transfer judged by those before it. What can't be is told and left out.
fn replay(db: &Connection, problems: &mut Vec<String>) -> Result<Ledger, DbError> {
    let mut ledger = Ledger::default();
    each_transfer(db, "", |transfer| {
        if let Err(error) = ledger.judge(&transfer)
            && problems.len() < MOST_TOLD
        {
            problems.push(format!("transfer {}: {error}", transfer.number));
        }
        let _ = ledger.write(&transfer);
    })?;
    let sql = "select transfer from postings where transfer not in (select number from transfers) limit 5";
    for stray in all(db, "postings", sql, |c| c.get::<u64>("transfer"))? {
        problems.push(format!("postings of a transfer {stray} that is not there"));
    }
    Ok(ledger)
}

/// What each posting says was in its book then.
fn stored_balances(db: &Connection, problems: &mut Vec<String>) -> Result<(), DbError> {
    let mut books: HashMap<String, i128> = HashMap::new();
    let sql = "select transfer, book, micros, balance from postings order by transfer, book";
    let read = |c: &super::read::Cells<'_>| {
        Ok((c.get::<u64>("transfer")?, c.get::<String>("book")?, c.get::<i64>("micros")?, c.get::<i64>("balance")?))
    };
    each(db, "postings", sql, read, |(transfer, book, micros, balance)| {
        let has = books.entry(book.clone()).or_default();
        *has += i128::from(micros);
        if *has != i128::from(balance) && problems.len() < MOST_TOLD {
            problems.push(format!("transfer {transfer}: {book} is said to have {balance} then, and has {has}"));
        }
    })
}

/// Compares charges and credit notes with what was posted for them; answers how many charges there are.
fn charged(db: &Connection, ledger: &Ledger, problems: &mut Vec<String>) -> Result<u64, DbError> {
    let since = "(select cast(value as integer) from meta where name = 'ledger_since')";
    let sql = format!(
        "select c.lease as lease, c.total_micros as total, l.granted_at < {since} as is_older,
         coalesce((select sum(micros) from credits where lease = c.lease), 0) as credited
         from charges as c join leases as l on l.id = c.lease"
    );
    let read = |c: &super::read::Cells<'_>| {
        let amounts: (i64, i64) = (c.get("total")?, c.get("credited")?);
        Ok((c.parse::<LeaseId>("lease")?, amounts, c.get::<bool>("is_older")?))
    };
    let (mut count, mut posted) = (0, 0);
    each(db, "charges", &sql, read, |(lease, (total, credited), is_older)| {
        count += 1;
        let of = ledger.lease(lease);
        posted += u64::from(of.is_some_and(|of| of.lender.is_some()));
        let (charged, given) = of.map_or((0, 0), |of| (of.charged, of.credited));
        let left = ledger.balance(Book::Held(lease));
        let told = match () {
            () if is_older && of.is_none() => return,
            () if charged != i128::from(total) => format!("{lease} was charged {total}, and {charged} are posted"),
            () if given != i128::from(credited) => format!("{lease} was credited {credited}, and {given} are posted"),
            () if left != 0 => format!("{lease} is billed, and {left} are still held for it"),
            () => return,
        };
        if problems.len() < MOST_TOLD {
            problems.push(told);
        }
    })?;
    let all_posted = ledger.leases().filter(|(_, of)| of.lender.is_some()).count();
    if all_posted as u64 != posted {
        problems.push(format!("{all_posted} leases were posted for, and {posted} of them were charged"));
    }
    Ok(count)
}
