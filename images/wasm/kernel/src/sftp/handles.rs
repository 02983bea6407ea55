//! What a client has open.

use crate::files::{File, Folder};
use alloc::rc::Rc;
use alloc::vec::Vec;

/// Most files and folders open at a time, as in OpenSSH.
pub const MAX_OPEN: usize = 100;

/// An open file or folder.
pub enum Open {
    /// A file; whether it may be written, and whether only at its end.
    File {
        /// Which.
        file: Rc<File>,
        /// It may be written.
        writes: bool,
        /// At its end, whatever is said.
        append: bool,
    },
    /// A folder that is being listed: how many entries were told; `.` and `..` come first.
    Folder {
        /// Which.
        folder: Rc<Folder>,
        /// How many of its entries were told.
        told: usize,
        /// The dots are to come.
        dots: bool,
    },
}

/// Open files by number. A number closed and given again means the new one, as a descriptor does.
#[derive(Default)]
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
