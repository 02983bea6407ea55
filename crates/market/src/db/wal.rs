//! Grows the write-ahead log once: a commit into room that is already on the disk needs one
//! small write, into a file that grows also its new length.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// How large: more than SQLite lets it grow before it begins again from the front.
const BYTES: u64 = 20 << 20;

/// Fills the log with zeros from its end on. SQLite reads it up to the first page without a valid
/// checksum, so what follows means nothing to it. Failing costs speed only.
pub(super) fn grow(database: &Path) {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let grown = OpenOptions::new().write(true).open(&name).and_then(|mut file| {
        let mut at = file.seek(SeekFrom::End(0))?;
        let zeros = [0u8; 1 << 16];
        while at < BYTES {
            file.write_all(&zeros)?;
            at += zeros.len() as u64;
        }
        file.sync_all()
    });
    if let Err(error) = grown {
        tracing::warn!("growing the write-ahead log failed, so commits will be slower: {error}");
    }
}
