//! What a client has open.

use std::fs::{File, ReadDir};
use std::path::PathBuf;

/// Most files and folders open at a time, as in OpenSSH.
pub const MAX_OPEN: usize = 100;

/// An open file or folder.
#[derive(Debug)]
pub enum Open {
    /// A file.
    File(File),
    /// A folder that is being listed, what of it was not told yet, and whether `.` and `..` are to come.
    Folder { path: PathBuf, entries: ReadDir, dots: bool },
}

/// Open files by number. A number closed and given again means the new one, as a descriptor does.
#[derive(Debug, Default)]
pub struct Handles(Vec<Option<Open>>);

impl Handles {
    /// Keeps one more; `None` when there are too many.
    pub fn insert(&mut self, open: Open) -> Option<u32> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free >= MAX_OPEN {
            return None;
        }
        if free == self.0.len() {
            self.0.push(None);
        }
        self.0[free] = Some(open);
        Some(free as u32)
    }

    /// One of them.
    pub fn get(&mut self, handle: u32) -> Option<&mut Open> {
        self.0.get_mut(handle as usize)?.as_mut()
    }

    /// Closes one.
    pub fn remove(&mut self, handle: u32) -> Option<Open> {
        self.0.get_mut(handle as usize)?.take()
    }
}
