//! What all jobs share: files, time, randomness, memory.

use crate::files::Files;
use crate::random::Random;
use core::cell::{Cell, RefCell};

/// Memory that jobs and files never get: what the kernel itself needs to go on answering.
pub const KEPT_BYTES: usize = 8 << 20;

/// The machine below.
pub trait Machine {
    /// Since the kernel started.
    fn micros(&self) -> u64;
    /// Bytes that nobody has.
    fn free_bytes(&self) -> usize;
    /// Bytes that there are.
    fn memory_bytes(&self) -> u64;
    /// Processors that there are; one of them is used.
    fn vcpus(&self) -> u16;
    /// Says a line where only the host sees it.
    fn say(&self, line: &str);
}

/// What all jobs share.
pub struct World {
    /// The machine below.
    pub machine: &'static dyn Machine,
    /// The one file system, in memory.
    pub files: RefCell<Files>,
    /// Without a seed until the identity was told.
    pub random: RefCell<Random>,
    /// The time of day when the kernel started, in microseconds since 1970.
    pub began: Cell<u64>,
}

impl World {
    /// Empty, at a time that nobody has told yet.
    pub fn new(machine: &'static dyn Machine) -> Self {
        Self { machine, files: RefCell::default(), random: RefCell::default(), began: Cell::new(0) }
    }

    /// Microseconds since 1970.
    pub fn wall_micros(&self) -> u64 {
        self.began.get() + self.machine.micros()
    }

    /// Whether jobs and files may have so much more.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.machine.free_bytes() >= bytes.saturating_add(KEPT_BYTES)
    }
}
