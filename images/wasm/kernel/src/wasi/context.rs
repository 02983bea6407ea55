//! What belongs to one module that runs.

use super::{Stop, errno};
use crate::files::{File, Folder};
use crate::job::Streams;
use crate::program::Given;
use crate::world::World;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use wasmi::{Memory, ResourceLimiter};
use wasmi_core::LimiterError;

/// Most files that are open at a time.
const MOST_OPEN: usize = 256;
/// What an element of a table takes.
const ELEMENT_BYTES: usize = 16;

/// Something open.
#[derive(Clone)]
pub enum Open {
    /// Standard input.
    Input,
    /// Standard output (0) or error (1).
    Output(usize),
    /// A file, and where the next read or write begins.
    File {
        /// Which.
        file: Rc<File>,
        /// Where.
        at: u64,
        /// Writes go to its end.
        append: bool,
        /// Whether it may be written.
        writes: bool,
    },
    /// A folder.
    Folder {
        /// Which.
        folder: Rc<Folder>,
        /// It was open from the start.
        given: bool,
    },
}

/// What belongs to one module that runs.
pub struct Context {
    /// What it was started with.
    pub given: Given,
    /// Its input and output.
    pub streams: Rc<RefCell<Streams>>,
    /// What all jobs share.
    pub world: Rc<World>,
    /// Its memory, if it has one that others may see.
    pub memory: Option<Memory>,
    /// Bytes that the present call has moved.
    pub moved: u64,
    /// When the present wait began.
    pub waits_since: Option<u64>,
    open: Vec<Option<Open>>,
}

impl Context {
    /// Of a module that was not started yet: three streams, and the root folder.
    pub fn new(given: Given, streams: Rc<RefCell<Streams>>, world: Rc<World>) -> Self {
        let root = Rc::clone(&world.files.borrow().root);
        let root = Open::Folder { folder: root, given: true };
        let open = vec![Some(Open::Input), Some(Open::Output(0)), Some(Open::Output(1)), Some(root)];
        Self { given, streams, world, memory: None, moved: 0, waits_since: None, open }
    }

    /// What it was called by.
    pub fn name(&self) -> &[u8] {
        self.given.words.first().map_or(b"", Vec::as_slice)
    }

    /// What a number stands for.
    pub fn get(&mut self, number: u32) -> Result<&mut Open, Stop> {
        self.open.get_mut(number as usize).and_then(Option::as_mut).ok_or(Stop::Errno(errno::BADF))
    }

    /// The folder that a number stands for.
    pub fn folder(&mut self, number: u32) -> Result<Rc<Folder>, Stop> {
        match self.get(number)? {
            Open::Folder { folder, .. } => Ok(Rc::clone(folder)),
            _ => Err(Stop::Errno(errno::NOTDIR)),
        }
    }

    /// Opens something, by the lowest free number.
    pub fn insert(&mut self, open: Open) -> Result<u32, Stop> {
        let free = self.open.iter().position(Option::is_none).unwrap_or(self.open.len());
        if free >= MOST_OPEN {
            return Err(Stop::Errno(errno::MFILE));
        }
        if free == self.open.len() {
            self.open.push(None);
        }
        self.open[free] = Some(open);
        Ok(free as u32)
    }

    /// Closes something.
    pub fn close(&mut self, number: u32) -> Result<Open, Stop> {
        self.open.get_mut(number as usize).and_then(Option::take).ok_or(Stop::Errno(errno::BADF))
    }

    /// Gives something the number of something else, which is closed.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<(), Stop> {
        self.get(to)?;
        let open = self.close(from)?;
        self.open[to as usize] = Some(open);
        Ok(())
    }
}

/// A module gets what memory there is, and is told when there is no more.
impl ResourceLimiter for Context {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(self.world.has_room(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(self.world.has_room(desired.saturating_sub(current).saturating_mul(ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        100
    }

    fn memories(&self) -> usize {
        1
    }
}
