//! One market a database: a lock on a file beside it, which goes with the process that holds it.

use super::{Attempt, DbError};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes the lock, or says which process has it.
    pub fn take(path: &Path) -> Result<Self, DbError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).attempt(format!("open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder).attempt("read who holds the lock")?;
            return Err(DbError::InUse(holder.trim().chars().take(20).collect()));
        }
        file.set_len(0).and_then(|()| file.rewind()).attempt("write who holds the lock")?;
        writeln!(file, "{}", std::process::id()).attempt("write who holds the lock")?;
        Ok(Self(file))
    }
}
