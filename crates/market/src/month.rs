//! The end of a month: the bill of every lease that was settled in it, made anew from what was
//! agreed, receipted and seen, held against the one that was made then, and added up for each account.
//!
//! Leases are streamed, by as many readers as there are processors: what is kept is a sum an account.
//! Receipts were verified when they were taken in; whoever doubts that takes the signed document of an
//! account, which has all of them, and verifies it.

use crate::db::DbError;
use crate::db::month::{Months, Settled};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use sublet_model::ids::{AccountId, LeaseId};
use sublet_model::lease::EndReason;
use sublet_model::statement::{ChargeRecord, Seen, work_out};
use sublet_model::units::{Micros, Seconds, Timestamp};

/// Why a month can't be closed.
#[derive(Debug, thiserror::Error)]
pub enum MonthError {
    /// The rows can't be read.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The lines can't be written.
    #[error("failed to write the lines of a month")]
    Write(#[from] io::Error),
    /// A bill that does not follow: made by another rule, or by somebody's hand.
    #[error("lease {lease} was billed {billed} for {billed_seconds}, and {follows} for {follows_seconds} follow")]
    Differs {
        /// Which lease.
        lease: LeaseId,
        /// What was billed.
        billed: Micros,
        /// For how long.
        billed_seconds: Seconds,
        /// What follows.
        follows: Micros,
        /// For how long.
        follows_seconds: Seconds,
    },
}

/// What an account comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Leases that it rented.
    pub rented: u64,
    /// What they cost.
    pub paid: i128,
    /// Leases by which it lent.
    pub lent: u64,
    /// What they earned, without the operator's part.
    pub earned: i128,
}

/// What a month comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Month {
    /// By account.
    pub accounts: BTreeMap<AccountId, Sums>,
    /// How many leases.
    pub leases: u64,
    /// What they were billed.
    pub charged: i128,
    /// What the operator keeps of it.
    pub fees: i128,
}

impl Month {
    fn add(&mut self, lease: &Settled, charge: &ChargeRecord) {
        let client = self.accounts.entry(lease.client).or_default();
        (client.rented, client.paid) = (client.rented + 1, client.paid + i128::from(charge.charged.0));
        let lender = self.accounts.entry(lease.lender).or_default();
        (lender.lent, lender.earned) = (lender.lent + 1, lender.earned + i128::from(charge.earned.0));
        self.leases += 1;
        self.charged += i128::from(charge.charged.0);
        self.fees += i128::from(charge.fee.0);
    }

    fn merge(&mut self, other: Self) {
        for (account, more) in other.accounts {
            let sums = self.accounts.entry(account).or_default();
            (sums.rented, sums.paid) = (sums.rented + more.rented, sums.paid + more.paid);
            (sums.lent, sums.earned) = (sums.lent + more.lent, sums.earned + more.earned);
        }
        self.leases += other.leases;
        self.charged += other.charged;
        self.fees += other.fees;
    }
}

/// The columns of a line.
pub const COLUMNS: &str =
    "lease,client,lender,settled_at,receipts,receipted_s,billed_s,because,metered,setup,charged,fee,earned\n";

/// Makes the bills of the market in `dir` that were settled from `from` to before `until` anew, each a line
/// of CSV in one of `outs`: there are as many readers as outs, and lines are in order of lease ids.
pub fn close<W: Write + Send>(
    dir: &Path,
    (from, until): (Timestamp, Timestamp),
    outs: &mut [W],
) -> Result<Month, MonthError> {
    let borders = Months::open(dir)?.parts(outs.len())?;
    let parts = borders.windows(2).zip(outs);
    let closed = std::thread::scope(|scope| {
        let readers: Vec<_> = parts
            .map(|(borders, out)| scope.spawn(move || part(dir, (from, until), (&borders[0], &borders[1]), out)))
            .collect();
        let joined = readers.into_iter().map(|reader| reader.join());
        joined.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Result<Vec<_>, _>>()
    })?;
    let mut month = Month::default();
    closed.into_iter().for_each(|part| month.merge(part));
    Ok(month)
}

fn part(
    dir: &Path,
    period: (Timestamp, Timestamp),
    borders: (&str, &str),
    out: &mut impl Write,
) -> Result<Month, MonthError> {
    let mut month = Month::default();
    let mut line = String::new();
    Months::open(dir)?.settled(period, borders, |lease| {
        let charge = work_out(&lease.terms, &seen(&lease), lease.receipts, lease.receipted);
        if (charge.total, charge.billed_seconds) != (lease.total, lease.billed_seconds) {
            return Err(MonthError::Differs {
                lease: lease.lease,
                billed: lease.total,
                billed_seconds: lease.billed_seconds,
                follows: charge.total,
                follows_seconds: charge.billed_seconds,
            });
        }
        line.clear();
        write_line(&mut line, &lease, &charge);
        out.write_all(line.as_bytes())?;
        month.add(&lease, &charge);
        Ok(())
    })?;
    out.flush()?;
    Ok(month)
}

/// What the market saw, as far as a bill rests on it.
fn seen(lease: &Settled) -> Seen {
    Seen {
        lease: lease.lease,
        name: String::new(),
        image: String::new(),
        fetched_at: None,
        booted_at: None,
        ready_at: lease.ready_at,
        contact_at: None,
        stopped_at: lease.stopped_at.unwrap_or(lease.settled_at),
        ended_at: None,
        term_seconds: lease.term_seconds,
        paid_seconds: lease.paid_seconds,
        held: None,
        reason: EndReason::Released,
        settled_at: lease.settled_at,
    }
}

fn write_line(line: &mut String, lease: &Settled, charge: &ChargeRecord) {
    // To a string nothing fails.
    let _ = writeln!(
        line,
        "{},{},{},{},{},{},{},{},{},{},{},{},{}",
        lease.lease,
        lease.client,
        lease.lender,
        lease.settled_at.0,
        charge.receipts,
        charge.receipted_seconds.0,
        charge.billed_seconds.0,
        charge.because.word(),
        charge.metered.0,
        charge.setup.0,
        charge.charged.0,
        charge.fee.0,
        charge.earned.0,
    );
}
