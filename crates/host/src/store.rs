//! What the host knows for certain: one SQLite file in its state directory, and its keys beside it.
//!
//! Every write is durable when the call returns (WAL, synchronous=FULL). The schema repeats the
//! rules: generations only rise, an allocation never changes, a held partition is frozen, a
//! receipt follows the one before. Nothing starts that is not written here first, so a write
//! that fails stops nothing but the next start.

mod allocations;
mod division;
mod identity;
mod kept;
mod keys;
mod market_keys;
mod own;
mod receipts;
mod runs;

pub use allocations::{Gone, Place};
pub use identity::Identity;
pub use keys::{Keys, OwnAuthority};
pub use own::{Own, Stand, Start, Wish};
pub use receipts::NewReceipt;
pub use runs::{Run, Stage};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Version of the schema: a newer one is not opened.
const SCHEMA: i64 = 4;
/// Each brings the schema whose number is its place plus 1 to the next one.
const MIGRATIONS: [&str; SCHEMA as usize - 1] =
    [include_str!("store/schema_2.sql"), include_str!("store/schema_3.sql"), include_str!("store/schema_4.sql")];
/// So many compiled statements are kept.
const STATEMENTS: usize = 64;
/// What is tried by whoever opens one.
const OPEN: &str = "open the host's store";
/// Longest path of a state directory: its sockets must fit into 107 bytes.
const LONGEST_PATH_BYTES: usize = 80;

/// Why something could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system is full.
    #[error("failed to {attempt}: no room is left on the disk; nothing starts until some is made")]
    Full {
        /// What was to be written.
        attempt: &'static str,
    },
    /// The disk gives errors.
    #[error("failed to {attempt}: the disk gives errors; nothing starts until it is sound: {source}")]
    Broken {
        /// What was to be read or written.
        attempt: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A rule of the store forbids it.
    #[error("refused to {attempt}: {rule}")]
    Refused {
        /// What was to be written.
        attempt: &'static str,
        /// Which rule.
        rule: String,
    },
    /// Anything else that the database says.
    #[error("failed to {attempt}: {source}")]
    Database {
        /// What was to be read or written.
        attempt: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Something in it can't be read.
    #[error("failed to {attempt}: {problem}; was the file edited by hand?")]
    Unreadable {
        /// What was to be read.
        attempt: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A file or directory beside it.
    #[error("failed to {attempt} {path}: {source}")]
    File {
        /// What was tried.
        attempt: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The directory can't serve.
    #[error("{path} can't be a state directory: {problem}")]
    Unfit {
        /// Which directory.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
}

impl StoreError {
    fn of(attempt: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { attempt },
            Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt) => Self::Broken { attempt, source },
            Some(ErrorCode::ConstraintViolation) => {
                let rule = match &source {
                    rusqlite::Error::SqliteFailure(_, Some(words)) => words.clone(),
                    other => other.to_string(),
                };
                Self::Refused { attempt, rule }
            }
            _ => Self::Database { attempt, source },
        }
    }

    /// Whether the store itself said no, rather than the disk.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// The store. Cheap to clone; calls block for as long as the disk takes.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    state: Arc<PathBuf>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.state.display())
    }
}

/// Held while an agent runs on a state directory.
#[derive(Debug)]
pub struct AgentLock(#[allow(dead_code, reason = "held, not read")] File);

/// A directory that only its owner enters.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    let failed = |source| StoreError::File { attempt: "make", path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}

impl Store {
    /// Opens the store in `state`, which is made if need be.
    pub fn open(state: &Path) -> Result<Self> {
        let unfit = |problem: String| StoreError::Unfit { path: state.to_owned(), problem };
        private_dir(state)?;
        let state = state.canonicalize().map_err(|e| unfit(e.to_string()))?;
        if state.as_os_str().len() > LONGEST_PATH_BYTES {
            let problem = format!("its path is longer than {LONGEST_PATH_BYTES} bytes, too long for sockets below it");
            return Err(unfit(problem));
        }
        for below in ["keys", "cache", "run"] {
            private_dir(&state.join(below))?;
        }
        let connection = Self::connect(&state.join("host.sqlite"))?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), state: Arc::new(state) })
    }

    fn connect(path: &Path) -> Result<Connection> {
        // Made by us first, for SQLite would let others read it.
        let options = File::options().create(true).append(true).mode(0o600).to_owned();
        options.open(path).map_err(|source| StoreError::File { attempt: "open", path: path.to_owned(), source })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(StoreError::of(OPEN))?;
        Self::set_up(connection, path)
    }

    /// A store that is gone when it is dropped: for simulations.
    pub fn in_memory() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(StoreError::of(OPEN))?;
        let state = PathBuf::from("memory");
        Ok(Self { connection: Arc::new(Mutex::new(Self::set_up(connection, &state)?)), state: Arc::new(state) })
    }

    /// Writes all that is in it, as of this moment, into a new state directory: for simulations of
    /// disks that were copied.
    pub fn copy_to(&self, state: &Path) -> Result<Self> {
        private_dir(state)?;
        let copy = state.join("host.sqlite");
        self.lock().execute("vacuum into ?1", [copy.to_string_lossy()]).map_err(StoreError::of("copy the store"))?;
        Self::open(state)
    }

    fn set_up(mut connection: Connection, path: &Path) -> Result<Connection> {
        let failed = StoreError::of(OPEN);
        connection.busy_timeout(Duration::from_secs(5)).map_err(&failed)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(&failed)?;
        connection.pragma_update(None, "synchronous", "full").map_err(&failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(&failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // A statement is not compiled anew because another number is bound to it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(&failed)?;
        let migrate = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate);
        let migrate = migrate.map_err(&failed)?;
        let version: i64 = migrate.query_row("pragma user_version", [], |row| row.get(0)).map_err(&failed)?;
        match version {
            0 => {
                migrate.execute_batch(include_str!("store/schema.sql")).map_err(&failed)?;
                migrate.pragma_update(None, "user_version", SCHEMA).map_err(&failed)?;
            }
            1..SCHEMA => {
                let steps = MIGRATIONS.iter().skip(usize::try_from(version - 1).unwrap_or(0));
                steps.into_iter().try_for_each(|step| migrate.execute_batch(step)).map_err(&failed)?;
                migrate.pragma_update(None, "user_version", SCHEMA).map_err(&failed)?;
            }
            SCHEMA => {}
            newer => {
                let problem = format!("its store has version {newer}, this program knows {SCHEMA}: use a newer one");
                return Err(StoreError::Unfit { path: path.to_owned(), problem });
            }
        }
        migrate.commit().map_err(&failed)?;
        Ok(connection)
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Makes this process the one agent of the directory.
    pub fn lock_for_agent(&self) -> Result<AgentLock> {
        let path = self.state.join("agent.lock");
        let failed = |source| StoreError::File { attempt: "lock", path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(AgentLock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Unfit {
                path: self.state.to_path_buf(),
                problem: "another agent runs on it; stop that one first".into(),
            }),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Whether an agent runs on the directory now.
    pub fn has_agent(&self) -> bool {
        self.lock_for_agent().is_err()
    }

    /// Changes whenever another process wrote to the store: the owner's commands do.
    pub fn foreign_writes(&self) -> Result<i64> {
        let failed = StoreError::of("look for changes");
        self.lock().query_row("pragma data_version", [], |row| row.get(0)).map_err(failed)
    }

    /// Has every write fail, as on a disk that takes none: for tests and simulations.
    pub fn forbid_writes(&self, forbidden: bool) {
        self.lock().pragma_update(None, "query_only", forbidden).expect("a setting of the connection");
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in between has rolled its transaction back: the connection is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One durable change, all of it or nothing.
    fn write<T>(&self, attempt: &'static str, work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>) -> Result<T> {
        let failed = StoreError::of(attempt);
        let mut connection = self.lock();
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(behavior).map_err(&failed)?;
        let outcome = work(&transaction)?;
        transaction.commit().map_err(&failed)?;
        Ok(outcome)
    }
}

/// Changes rows. What changes them is compiled once a connection.
fn change(t: &rusqlite::Transaction<'_>, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
    t.prepare_cached(sql)?.execute(values)
}

/// Reads a row, if it is there.
fn one<T>(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
    read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    connection.prepare_cached(sql)?.query_row(values, read).optional()
}

/// Reads a text of the store as what it stands for.
fn parse<T>(attempt: &'static str, text: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| StoreError::Unreadable { attempt, problem: e.to_string() })
}

fn from_json<T: serde::de::DeserializeOwned>(attempt: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| StoreError::Unreadable { attempt, problem: e.to_string() })
}

fn to_json<T: serde::Serialize>(attempt: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Unreadable { attempt, problem: e.to_string() })
}

#[cfg(test)]
mod tests;
