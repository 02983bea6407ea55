//! SQLite as the engine's database: one connection that writes, in WAL mode, synchronous=FULL.

use super::keys::Keys;
use super::lock::Lock;
use super::{Attempt, DbError, FILE, read, wal, write};
use crate::engine::change::Change;
use crate::engine::command::Outcome;
use crate::engine::commit::{Commit, CommitError, Recalled};
use crate::engine::state::Tables;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sublet_model::ids::MemberId;
use sublet_model::market_keys::KeyChain;
use sublet_model::units::{Seconds, Timestamp};

/// The schema that this program makes and understands.
pub(super) const SCHEMA: u32 = 5;
pub(super) const SCHEMA_SQL: &str = include_str!("schema.sql");
/// Each brings the schema whose number is its place plus 1 to the next one.
pub(super) const MIGRATIONS: [&str; SCHEMA as usize - 1] = [
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
    include_str!("migrations/4.sql"),
    include_str!("migrations/5.sql"),
];
/// How many pages of the write-ahead log are moved into the database at once: pages that are written
/// again and again are moved once. It must fit into what [`wal::grow`] made.
const CHECKPOINT_PAGES: u32 = 4000;
/// How much of the database is kept in memory, in KiB.
const CACHE_KIB: u32 = 64 << 10;
/// How long a commit waits for somebody who edits by hand.
const PATIENCE: Duration = Duration::from_secs(2);

/// The open database of a market. Only one can be open at a time.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    /// What `pragma data_version` said last: another number means that somebody else wrote.
    data_version: i64,
    /// Of the keys of requests that were done; none before all was read.
    keys: Option<Keys>,
    path: PathBuf,
    _lock: Option<Lock>,
}

impl Sqlite {
    /// Opens the database of the market in `dir`, for this process alone.
    pub fn open(dir: &Path) -> Result<Self, DbError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Err(DbError::Missing(dir.display().to_string()));
        }
        let lock = Lock::take(&dir.join(format!("{FILE}.lock")))?;
        // Secrets are not in it, but what everybody rents is: nobody else's to read.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).attempt("keep the database private")?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).attempt(format!("open {}", path.display()))?;
        let mut db = Self::on(connection, path.clone(), Some(lock))?;
        db.migrate()?;
        db.touch()?;
        wal::grow(&path);
        Ok(db)
    }

    /// A database that is gone when it is dropped: for tests and simulations.
    pub fn in_memory() -> Result<Self, DbError> {
        let connection = Connection::open_in_memory().attempt("open a database in memory")?;
        connection.execute_batch(SCHEMA_SQL).attempt("make the tables")?;
        super::create::describe(&connection, Timestamp(0), "TST")?;
        Self::on(connection, PathBuf::new(), None)
    }

    fn on(connection: Connection, path: PathBuf, lock: Option<Lock>) -> Result<Self, DbError> {
        prepare(&connection)?;
        connection.set_prepared_statement_cache_capacity(128);
        let mut db = Self { connection, data_version: 0, keys: None, path, _lock: lock };
        db.data_version = db.version_now().attempt("ask for the database's version")?;
        Ok(db)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The highest market time that is recorded: with the last event, or by itself; see
    /// [`write::changes`].
    pub fn market_time(&self) -> Result<Timestamp, DbError> {
        let alone = self.meta("market_time")?.and_then(|t| t.parse().ok()).unwrap_or(0);
        let sql = "select at from events order by seq desc limit 1";
        let event = self.connection.query_row(sql, [], |row| row.get(0)).optional().attempt("read the last event")?;
        Ok(Timestamp(event.unwrap_or(0).max(alone)))
    }

    /// The name of the market's currency.
    pub fn currency(&self) -> Result<String, DbError> {
        Ok(self.meta("currency")?.unwrap_or_default())
    }

    /// Keeps how far ahead leases are paid at the least; where nothing is said, the usual time.
    pub fn set_chunk(&self, chunk: Seconds) -> Result<(), DbError> {
        let sql =
            "insert into meta values ('chunk_seconds', ?1) on conflict (name) do update set value = excluded.value";
        self.connection.execute(sql, [chunk.0.to_string()]).map(drop).attempt("keep how far ahead leases are paid")
    }

    /// Writes the changes of the market's keys into the audit log, each once.
    pub fn audit_keys(&self, chain: &KeyChain) -> Result<(), DbError> {
        let sql = "insert into audit (at, actor, action, object, detail) \
                   select ?1, 'market', 'market.keys.rotate', ?2, ?3 \
                   where not exists (select 1 from audit where object = ?2 and action = 'market.keys.rotate')";
        chain.changes().iter().try_for_each(|change| {
            let said = format!(
                "change {} of the market's keys: {} follows {}; certificates of the SSH authority before are accepted until {}",
                change.number, change.new, change.old, change.ssh_until
            );
            let row = (change.at.0, change.new.to_string(), said);
            self.connection.execute(sql, row).map(drop).attempt("write the change of keys into the audit log")
        })
    }

    /// Whether the audit log has a change of keys that this chain has not.
    pub fn knows_more_keys(&self, chain: &KeyChain) -> Result<bool, DbError> {
        let attempt = "look for changes of keys in the audit log";
        let sql = "select object from audit where action = 'market.keys.rotate'";
        let mut query = self.connection.prepare(sql).attempt(attempt)?;
        let rows = query.query_map([], |row| row.get::<_, String>(0)).attempt(attempt)?;
        let known: Vec<String> = rows.collect::<Result<_, _>>().attempt(attempt)?;
        Ok(known.iter().any(|key| chain.keys().all(|own| own.to_string() != *key)))
    }

    fn meta(&self, name: &str) -> Result<Option<String>, DbError> {
        let sql = "select value from meta where name = ?1";
        self.connection.query_row(sql, [name], |row| row.get(0)).optional().attempt(format!("read meta.{name}"))
    }

    fn version_now(&self) -> rusqlite::Result<i64> {
        self.connection.prepare_cached("pragma data_version")?.query_row([], |row| row.get(0))
    }

    /// Brings an older schema up to this one, step by step, each in its own transaction.
    fn migrate(&mut self) -> Result<(), DbError> {
        let found = self.meta("schema")?.and_then(|v| v.parse::<u32>().ok()).unwrap_or(0);
        if found > SCHEMA {
            return Err(DbError::Newer { found, known: SCHEMA });
        }
        for from in found.max(1)..SCHEMA {
            tracing::warn!("bringing the database from schema {from} to {}: this may take minutes", from + 1);
            self.migrate_from(from).attempt(format!("bring the database from schema {from} to {}", from + 1))?;
        }
        if found < SCHEMA {
            // Tables made anew leave holes; rows strewn over them cost more than the new layout saves.
            let packed = self.connection.execute_batch("vacuum; pragma wal_checkpoint(truncate)");
            if let Err(error) = packed {
                tracing::warn!("packing the database failed, so it is larger and slower than it could be: {error}");
            }
        }
        Ok(())
    }

    fn migrate_from(&mut self, from: u32) -> rusqlite::Result<()> {
        // A table that is made anew is away for a moment, and rows refer to it: what refers to nothing is looked
        // for at the end. Within a transaction this can't be set.
        self.connection.pragma_update(None, "foreign_keys", false)?;
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change.execute_batch(MIGRATIONS[from as usize - 1])?;
        change.execute("update meta set value = ?1 where name = 'schema'", [(from + 1).to_string()])?;
        let lost =
            change.query_row("select \"table\" from pragma_foreign_key_check", [], |row| row.get::<_, String>(0));
        if let Some(table) = lost.optional()? {
            let said = format!("a row of the table {table} refers to nothing");
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY),
                Some(said),
            ));
        }
        change.commit()?;
        self.connection.pragma_update(None, "foreign_keys", true)
    }

    /// Writes once, so that the log is there to be grown.
    fn touch(&self) -> Result<(), DbError> {
        let sql = "insert into meta values ('opened_at', ?1) on conflict (name) do update set value = excluded.value";
        let now = jiff::Timestamp::now().as_microsecond().to_string();
        self.connection.execute(sql, [now]).map(drop).attempt("write to the database")
    }

    /// A number that SQL counts.
    #[cfg(test)]
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.connection.query_row(sql, [], |row| row.get(0)).expect("a test's own SQL")
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// What every connection that writes is set to.
fn prepare(connection: &Connection) -> Result<(), DbError> {
    let set = || {
        connection.busy_timeout(PATIENCE)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        connection.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; pragma cell_size_check = on;",
        )?;
        connection.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
    };
    set().attempt("set up the connection")
}

/// Which of our cases an error of SQLite is, before the commit itself.
fn sort(error: rusqlite::Error) -> CommitError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        // Without a code it is none of SQLite's: a value that no column can hold.
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) | None => {
            CommitError::Constraint(text)
        }
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly,
        ) => CommitError::Busy(text),
        _ => CommitError::Fatal(text),
    }
}

impl Commit for Sqlite {
    fn commit(&mut self, at: Timestamp, changes: &[&Change]) -> Result<(), CommitError> {
        let known = self.data_version;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sort)?;
        // Within the transaction nobody else can write: what is read now holds until the end.
        let version: i64 = transaction
            .prepare_cached("pragma data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(sort)?;
        if version != known {
            return Err(CommitError::Edited);
        }
        // Dropped on an error, the transaction rolls back.
        write::changes(&transaction, at, changes).map_err(sort)?;
        // A deferred rule, or no room: SQLite keeps the transaction open, and it is rolled back.
        transaction.prepare_cached("commit").and_then(|mut commit| commit.execute([])).map_err(sort)?;
        if let Some(keys) = &mut self.keys {
            keys.add_done(changes);
        }
        Ok(())
    }

    fn recall(&mut self, member: MemberId, key: &str) -> Result<Option<Recalled>, CommitError> {
        // Nearly every key is a new one. What somebody added by hand is read before anything is committed.
        if self.keys.as_ref().is_some_and(|keys| !keys.may_have(&member.to_string(), key)) {
            return Ok(None);
        }
        let sql = "select body, outcome from idempotency where member = ?1 and key = ?2";
        let row: Option<(String, String)> = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut find| {
                find.query_row((member.to_string(), key), |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(sort)?;
        let Some((body, outcome)) = row else { return Ok(None) };
        let unreadable = |e: String| CommitError::Fatal(format!("table idempotency, key {key:?}: {e}"));
        let outcome: Outcome = serde_json::from_str(&outcome).map_err(|e| unreadable(e.to_string()))?;
        Ok(Some(Recalled { body: body.parse().map_err(|e| unreadable(format!("{e}")))?, outcome }))
    }

    fn edited(&mut self) -> Result<bool, CommitError> {
        Ok(self.version_now().map_err(sort)? != self.data_version)
    }

    fn load(&mut self) -> Result<Tables, CommitError> {
        // Read in one transaction: all of it is from the same moment.
        let transaction = self.connection.transaction().map_err(sort)?;
        let tables = read::tables(&transaction).map_err(|e| CommitError::Fatal(chain(&e)))?;
        let keys = Keys::of(&transaction).map_err(|e| CommitError::Fatal(chain(&e)))?;
        drop(transaction);
        self.keys = Some(keys);
        self.data_version = self.version_now().map_err(sort)?;
        Ok(tables)
    }
}

/// An error with its sources, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
