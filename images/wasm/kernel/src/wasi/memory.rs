//! A module's memory, as calls see it: every place in it is the module's to choose, so every one is
//! checked.

use super::{Stop, errno};
use alloc::vec::Vec;

/// More pieces than that are no single read or write.
const MOST_PIECES: u32 = 1024;

/// A module's memory.
pub struct Memory<'a>(pub &'a mut [u8]);

impl Memory<'_> {
    /// A part of it.
    pub fn slice(&mut self, at: u32, bytes: u32) -> Result<&mut [u8], Stop> {
        let (at, bytes) = (at as usize, bytes as usize);
        at.checked_add(bytes).and_then(|end| self.0.get_mut(at..end)).ok_or(Stop::Errno(errno::FAULT))
    }

    /// Four bytes of it.
    pub fn u32(&mut self, at: u32) -> Result<u32, Stop> {
        self.slice(at, 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Eight bytes of it.
    pub fn u64(&mut self, at: u32) -> Result<u64, Stop> {
        let mut eight = [0; 8];
        eight.copy_from_slice(self.slice(at, 8)?);
        Ok(u64::from_le_bytes(eight))
    }

    /// Puts bytes there.
    pub fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Stop> {
        let count = u32::try_from(bytes.len()).map_err(|_| Stop::Errno(errno::FAULT))?;
        self.slice(at, count)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Puts a number there.
    pub fn put_u32(&mut self, at: u32, value: u32) -> Result<(), Stop> {
        self.put(at, &value.to_le_bytes())
    }

    /// Puts a number there.
    pub fn put_u64(&mut self, at: u32, value: u64) -> Result<(), Stop> {
        self.put(at, &value.to_le_bytes())
    }

    /// The pieces of a read or write: where each is and how long. All of them are in the memory.
    pub fn pieces(&mut self, at: u32, count: u32) -> Result<Vec<(u32, u32)>, Stop> {
        if count > MOST_PIECES {
            return Err(Stop::Errno(errno::INVAL));
        }
        let mut pieces = Vec::new();
        for index in 0..count {
            let entry = at.checked_add(8 * index).ok_or(Stop::Errno(errno::FAULT))?;
            let piece = (self.u32(entry)?, self.u32(entry.saturating_add(4))?);
            self.slice(piece.0, piece.1)?;
            pieces.push(piece);
        }
        Ok(pieces)
    }
}
