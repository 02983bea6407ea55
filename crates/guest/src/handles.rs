//! What a client of file transfer has open, by number.

use alloc::vec::Vec;

/// Most files and folders open at a time, as in OpenSSH.
pub const MAX_OPEN: usize = 100;

/// What is open, by number. A number closed and given again means the new one, as a descriptor does.
#[derive(Debug)]
pub struct Handles<T>(Vec<Option<T>>);

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Handles<T> {
    /// Keeps one more; `None` when there are too many.
    pub fn insert(&mut self, open: T) -> Option<u32> {
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
    pub fn get(&mut self, handle: u32) -> Option<&mut T> {
        self.0.get_mut(handle as usize)?.as_mut()
    }

    /// Closes one.
    pub fn remove(&mut self, handle: u32) -> Option<T> {
        self.0.get_mut(handle as usize)?.take()
    }
}
