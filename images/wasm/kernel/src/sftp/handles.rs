//! What a client has open.

use crate::files::{File, Folder};
use alloc::rc::Rc;

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
