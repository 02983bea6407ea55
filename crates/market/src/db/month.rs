//! Settled leases of a period, streamed: what a bill follows from, and the bill that was made.

use super::read::{Cells, each};
use super::{Attempt, DbError, FILE};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use sublet_model::billing::Terms;
use sublet_model::ids::{AccountId, LeaseId};
use sublet_model::units::{Micros, Seconds, Timestamp};

/// A settled lease.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Which.
    pub lease: LeaseId,
    /// Who pays.
    pub client: AccountId,
    /// Who earns.
    pub lender: AccountId,
    /// What was agreed.
    pub terms: Terms,
    /// When the guest was ready.
    pub ready_at: Option<Timestamp>,
    /// When it was decided or learned that it stops.
    pub stopped_at: Option<Timestamp>,
    /// The longest it may run.
    pub term_seconds: Seconds,
    /// What was paid for.
    pub paid_seconds: Seconds,
    /// How many receipts the bill rests on.
    pub receipts: u64,
    /// What the last of them says.
    pub receipted: Option<Seconds>,
    /// What was billed.
    pub billed_seconds: Seconds,
    /// What it came to.
    pub total: Micros,
    /// When.
    pub settled_at: Timestamp,
}

/// Reads the settled leases of the market in `dir`.
#[derive(Debug)]
pub struct Months(Connection);

impl Months {
    /// Opens it for reading; a market may serve it meanwhile.
    pub fn open(dir: &Path) -> Result<Self, DbError> {
        let path = dir.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).attempt(format!("open {}", path.display()))?;
        Ok(Self(db))
    }

    /// Lease ids that divide all settled leases into about as many parts, the first and the last among them.
    pub fn parts(&self, parts: usize) -> Result<Vec<String>, DbError> {
        let attempt = "divide the settled leases";
        let count: i64 = self.0.query_row("select count(*) from charges", [], |row| row.get(0)).attempt(attempt)?;
        let mut borders = vec![String::new()];
        for part in 1..parts.max(1) as i64 {
            let sql = "select lease from charges order by lease limit 1 offset ?1";
            let border = self.0.query_row(sql, [count * part / parts as i64], |row| row.get(0));
            if count > 0 {
                borders.push(border.attempt(attempt)?);
            }
        }
        // After every id: they begin with a small letter.
        borders.push("~".into());
        borders.dedup();
        Ok(borders)
    }

    /// Hands over each lease settled from `from` to before `until` whose id is from `first` to before `last`,
    /// in order of their ids. Ends with the first error of `take`.
    pub fn settled<E: From<DbError>>(
        &self,
        (from, until): (Timestamp, Timestamp),
        (first, last): (&str, &str),
        mut take: impl FnMut(Settled) -> Result<(), E>,
    ) -> Result<(), E> {
        debug_assert!(
            [first, last].iter().all(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_~".contains(&b)))
        );
        let (from, until) = (from.0, until.0);
        let sql = format!(
            "select c.lease, c.client, c.lender, c.receipt_seq, c.billed_seconds, c.total_micros, c.settled_at,
                    l.terms, l.ready_at, l.stopped_at, l.term_seconds, l.paid_seconds,
                    (select seconds from receipts r where r.lease = c.lease and r.seq = c.receipt_seq) as receipted
             from charges c join leases l on l.id = c.lease
             where c.lease >= '{first}' and c.lease < '{last}' and c.settled_at >= {from} and c.settled_at < {until}
             order by c.lease"
        );
        let mut failed = None;
        let read = each(&self.0, "charges", &sql, settled, |row| {
            if failed.is_none() {
                failed = take(row).err();
            }
        });
        failed.map_or(read.map_err(E::from), Err)
    }
}

fn settled(c: &Cells<'_>) -> Result<Settled, DbError> {
    let receipted: Option<i64> = c.get("receipted")?;
    Ok(Settled {
        lease: c.parse("lease")?,
        client: c.parse("client")?,
        lender: c.parse("lender")?,
        terms: c.json("terms")?,
        ready_at: c.at_option("ready_at")?,
        stopped_at: c.at_option("stopped_at")?,
        term_seconds: Seconds(c.get("term_seconds")?),
        paid_seconds: Seconds(c.get("paid_seconds")?),
        receipts: c.get::<i64>("receipt_seq")?.unsigned_abs(),
        receipted: receipted.map(Seconds),
        billed_seconds: Seconds(c.get("billed_seconds")?),
        total: Micros(c.get("total_micros")?),
        settled_at: c.at("settled_at")?,
    })
}
