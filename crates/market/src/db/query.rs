//! What is read from the database alone, for it is not kept in memory: the audit log and old
//! receipts. On a connection of its own that can't write.

use super::read::{Cells, all};
use super::{Attempt, DbError, FILE};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;
use sublet_model::identity::Signed;
use sublet_model::ids::LeaseId;
use sublet_model::metering::Receipt;
use sublet_model::units::Timestamp;
use sublet_wire::api::AuditEntry;

/// Reads. It blocks: use it where that is allowed.
#[derive(Debug, Clone)]
pub struct Reader {
    records: Arc<Mutex<Connection>>,
    /// For what takes long: it keeps nobody waiting, and only one at a time.
    slow: Arc<Mutex<Connection>>,
}

/// A receipt as it was taken in.
#[derive(Debug, Clone)]
pub struct StoredReceipt {
    /// As the host signed it.
    pub receipt: Signed<Receipt>,
    /// When the market heard it.
    pub received_at: Timestamp,
}

impl Reader {
    /// Opens the database of the market in `dir` for reading.
    pub fn open(dir: &Path) -> Result<Self, DbError> {
        let (records, slow) = (Self::connect(dir)?, Self::connect(dir)?);
        Ok(Self { records: Arc::new(Mutex::new(records)), slow: Arc::new(Mutex::new(slow)) })
    }

    fn connect(dir: &Path) -> Result<Connection, DbError> {
        let path = dir.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).attempt(format!("open {}", path.display()))?;
        connection.busy_timeout(Duration::from_secs(2)).attempt("set up the connection")?;
        Ok(connection)
    }

    pub(super) fn with<R>(&self, ask: impl FnOnce(&Connection) -> R) -> R {
        // It only reads: a panic elsewhere has left nothing half-done.
        ask(&self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks something that takes long; none while another such question is being answered.
    pub(super) fn slowly<R>(&self, ask: impl FnOnce(&Connection) -> R) -> Option<R> {
        match self.slow.try_lock() {
            Ok(free) => Some(ask(&free)),
            Err(TryLockError::Poisoned(free)) => Some(ask(&free.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The audit log, newest first: what is older than `before`, at most `limit` lines.
    pub fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, DbError> {
        // Numbers only: nothing that a person typed gets into the statement.
        let before = before.unwrap_or(i64::MAX);
        let sql = format!("select * from audit where seq < {before} order by seq desc limit {limit}");
        self.with(|db| all(db, "audit", &sql, entry))
    }

    /// What the audit log says of a lease, oldest first.
    pub fn audit_about(&self, lease: LeaseId) -> Result<Vec<AuditEntry>, DbError> {
        let sql = format!("select * from audit where object = '{lease}' order by seq limit 1000");
        self.with(|db| all(db, "audit", &sql, entry))
    }

    /// The receipts of a lease, oldest first.
    pub fn receipts(&self, lease: LeaseId) -> Result<Vec<StoredReceipt>, DbError> {
        let sql = format!(
            "select payload, signature, received_at, h.key as key from receipts
             join leases on leases.id = receipts.lease join hosts as h on h.id = leases.host
             where receipts.lease = '{lease}' order by seq"
        );
        self.with(|db| all(db, "receipts", &sql, receipt))
    }
}

fn entry(c: &Cells<'_>) -> Result<AuditEntry, DbError> {
    Ok(AuditEntry {
        seq: c.get("seq")?,
        at: c.at("at")?,
        actor: c.get("actor")?,
        action: c.get("action")?,
        object: c.get("object")?,
        detail: c.get("detail")?,
    })
}

fn receipt(c: &Cells<'_>) -> Result<StoredReceipt, DbError> {
    let receipt = c.signed("payload", "key", "signature")?;
    Ok(StoredReceipt { receipt, received_at: c.at("received_at")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Sqlite;
    use crate::db::tests::made;

    #[test]
    fn an_audit_of_the_books_keeps_nobody_waiting_but_another() {
        let dir = made();
        let _market = Sqlite::open(dir.path()).unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        assert!(reader.audit_ledger().unwrap().unwrap().holds);
        let within =
            reader.slowly(|_| (reader.audit(None, 1).unwrap().len(), reader.audit_ledger().unwrap().is_none()));
        assert_eq!(within, Some((1, true)));
    }
}
