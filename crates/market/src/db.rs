//! The resource database. SQL only, no rules: what may be done is decided by the engine, and
//! repeated by the schema's own constraints.

pub mod backup;
pub mod create;
pub mod month;
pub mod query;
pub mod sqlite;

pub(crate) mod books;
mod keys;
mod lock;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod wal;
mod write;

pub use create::{FirstMember, create};
pub use query::Reader;
pub use sqlite::Sqlite;

/// Name of the database within a market's directory.
pub const FILE: &str = "market.db";

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite said so.
    #[error("{attempt}")]
    Sqlite {
        /// What was tried.
        attempt: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file system said so.
    #[error("{attempt}")]
    Io {
        /// What was tried.
        attempt: String,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// There is one already.
    #[error("{0} exists already: a market is made in an empty place")]
    Exists(String),
    /// There is none.
    #[error("there is no market in {0}: make one with `sublet market init`")]
    Missing(String),
    /// Nothing is written over.
    #[error("{0} exists already: name a new file")]
    Taken(String),
    /// Another market serves it.
    #[error("another market (process {0}) serves this database: stop it first")]
    InUse(String),
    /// Made by a newer version.
    #[error("the database has schema {found}, made by a newer version: this one knows {known}")]
    Newer {
        /// What it has.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// A value that can't be.
    #[error("table {table}, {column}: {problem}")]
    Unreadable {
        /// In which table.
        table: &'static str,
        /// In which column.
        column: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// Gives what was tried to an error.
trait Attempt<T> {
    fn attempt(self, what: impl Into<String>) -> Result<T, DbError>;
}

impl<T> Attempt<T> for rusqlite::Result<T> {
    fn attempt(self, what: impl Into<String>) -> Result<T, DbError> {
        self.map_err(|source| DbError::Sqlite { attempt: what.into(), source })
    }
}

impl<T> Attempt<T> for std::io::Result<T> {
    fn attempt(self, what: impl Into<String>) -> Result<T, DbError> {
        self.map_err(|source| DbError::Io { attempt: what.into(), source })
    }
}
