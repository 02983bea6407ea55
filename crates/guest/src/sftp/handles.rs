//! What a client has open.

use std::fs::{File, ReadDir};
use std::path::PathBuf;

/// An open file or folder.
#[derive(Debug)]
pub enum Open {
    /// A file.
    File(File),
    /// A folder that is being listed, what of it was not told yet, and whether `.` and `..` are to come.
    Folder { path: PathBuf, entries: ReadDir, dots: bool },
}
