//! The market's real database, whose next commit can be made to go wrong.

use sublet_market::db::{DbError, Sqlite};
use sublet_market::engine::change::Change;
use sublet_market::engine::commit::{Commit, CommitError, Recalled};
use sublet_market::engine::state::Tables;
use sublet_model::ids::MemberId;
use sublet_model::units::Timestamp;

/// How a commit goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upset {
    /// Nothing is written; later it may work.
    Busy,
    /// The power goes before anything is written.
    CutBefore,
    /// The power goes after it is written and before anybody hears of it.
    CutAfter,
    /// Somebody edited by hand just before.
    Edited,
}

/// SQLite in memory, with upsets. It outlives the market that writes to it, as a disk does.
#[derive(Debug)]
pub struct Database {
    sqlite: Sqlite,
    /// What the next commit meets.
    pub next: Option<Upset>,
    /// What was written and nobody heard of.
    pub unheard: Vec<Change>,
    edited: bool,
}

impl Database {
    /// An empty one.
    pub fn empty() -> Result<Self, DbError> {
        Ok(Self { sqlite: Sqlite::in_memory()?, next: None, unheard: Vec::new(), edited: false })
    }

    /// The highest market time that is recorded.
    pub fn market_time(&self) -> Result<Timestamp, DbError> {
        self.sqlite.market_time()
    }

    /// What does not hold in the books, as they are written.
    pub fn wrong_in_the_books(&self) -> Result<Vec<String>, DbError> {
        Ok(self.sqlite.audit_ledger()?.problems)
    }

    /// Every row, as a market that starts now would read it.
    pub fn rows(&mut self) -> Result<Tables, CommitError> {
        self.sqlite.load()
    }
}

impl Commit for Database {
    fn commit(&mut self, at: Timestamp, changes: &[&Change]) -> Result<(), CommitError> {
        match self.next.take() {
            None => self.sqlite.commit(at, changes),
            Some(Upset::Busy) => Err(CommitError::Busy("the simulation has it busy".into())),
            Some(Upset::CutBefore) => Err(CommitError::Fatal("the power went before the commit".into())),
            Some(Upset::CutAfter) => {
                self.sqlite.commit(at, changes)?;
                self.unheard = changes.iter().map(|change| (*change).clone()).collect();
                Err(CommitError::Fatal("the power went after the commit".into()))
            }
            Some(Upset::Edited) => {
                self.edited = true;
                Err(CommitError::Edited)
            }
        }
    }

    fn recall(&mut self, member: MemberId, key: &str) -> Result<Option<Recalled>, CommitError> {
        self.sqlite.recall(member, key)
    }

    fn edited(&mut self) -> Result<bool, CommitError> {
        Ok(self.edited || self.sqlite.edited()?)
    }

    fn load(&mut self) -> Result<Tables, CommitError> {
        self.edited = false;
        self.sqlite.load()
    }
}
