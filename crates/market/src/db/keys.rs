//! Which idempotency keys were used, as far as a few bytes a key can tell: a request with a new key
//! is not looked for in a table of millions.

use super::{Attempt, DbError};
use crate::engine::change::Change;
use rusqlite::Connection;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Digests of keys with whose they are. Two keys may share one: then the table is asked in vain.
#[derive(Debug, Default)]
pub(super) struct Keys {
    used: HashSet<u64>,
    hasher: RandomState,
}

impl Keys {
    /// All that the database has.
    pub fn of(db: &Connection) -> Result<Self, DbError> {
        let attempt = "read the keys of the table idempotency";
        let mut statement = db.prepare("select member, key from idempotency").attempt(attempt)?;
        let mut rows = statement.query([]).attempt(attempt)?;
        let mut keys = Self::default();
        while let Some(row) = rows.next().attempt(attempt)? {
            let text = |column| row.get_ref(column).and_then(|cell| cell.as_str().map_err(Into::into));
            keys.add(text(0).attempt(attempt)?, text(1).attempt(attempt)?);
        }
        Ok(keys)
    }

    /// Adds those of requests that were done.
    pub fn add_done(&mut self, changes: &[&Change]) {
        for change in changes {
            if let Change::Done { member, key, .. } = change {
                self.add(&member.to_string(), key);
            }
        }
    }

    fn add(&mut self, member: &str, key: &str) {
        self.used.insert(self.hasher.hash_one((member, key)));
    }

    /// Whether it may have been used: no means no.
    pub fn may_have(&self, member: &str, key: &str) -> bool {
        self.used.contains(&self.hasher.hash_one((member, key)))
    }
}
