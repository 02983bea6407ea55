//! What the engine needs of a database.

use super::change::Change;
use super::command::Outcome;
use super::state::Tables;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::MemberId;
use sublet_model::units::Timestamp;

/// Why a commit did not happen, or why nobody knows whether it did.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The database refused a change: one of its rules says otherwise. Nothing was written.
    #[error("the database refuses it: {0}")]
    Constraint(String),
    /// Busy, or out of room. Nothing was written; later it may work.
    #[error("the database can't take it now: {0}")]
    Busy(String),
    /// The database was edited by hand since it was read. Nothing was written.
    #[error("the database was changed by somebody else")]
    Edited,
    /// Nobody knows whether it was written: the process must end, and a restart finds out.
    #[error("the database failed: {0}")]
    Fatal(String),
}

/// A request that was done before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// Digest of its body.
    pub body: Sha256Digest,
    /// What came of it.
    pub outcome: Outcome,
}

/// A database, as the engine uses it.
pub trait Commit {
    /// Stores the changes that are not ephemeral in one transaction, durably, or none of them.
    fn commit(&mut self, at: Timestamp, changes: &[&Change]) -> Result<(), CommitError>;

    /// What came of a request that was done before.
    fn recall(&mut self, member: MemberId, key: &str) -> Result<Option<Recalled>, CommitError>;

    /// Whether somebody else wrote to the database since it was last read or written here.
    fn edited(&mut self) -> Result<bool, CommitError>;

    /// Every row.
    fn load(&mut self) -> Result<Tables, CommitError>;
}
