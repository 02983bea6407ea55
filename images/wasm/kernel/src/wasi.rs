//! WASI, preview 1: what a module may ask of this system. What is not here answers [`ABSENT`].
//!
//! Each call is a function of the module's memory, its [`Context`] and the call's arguments. One that has
//! to wait says so, and is asked again until it need not.

mod basics;
mod context;
mod folders;
mod memory;
mod poll;
mod streams;

pub use context::Context;

use crate::files::Trouble;
use alloc::vec::Vec;
use core::fmt;
use memory::Memory;
use sublet_guest::messages::Status;
use wasmi::errors::HostError;
use wasmi::{AsContextMut, Caller, Error, FuncType, Linker, Store, Val, ValType};

/// The name under which it is imported.
pub const MODULE: &str = "wasi_snapshot_preview1";
/// ENOSYS.
pub const ABSENT: i32 = 52;

/// Fuel of a call, and of sixteen bytes that it moves: else a slice of calls could last for ever.
const CALL_FUEL: u64 = 50;
const BYTES_A_FUEL: u64 = 16;
/// Most arguments of a call.
const MOST_ARGUMENTS: usize = 9;

/// Error numbers of WASI.
#[allow(missing_docs, reason = "each is the name of an error of POSIX")]
pub mod errno {
    pub const BADF: u16 = 8;
    pub const EXIST: u16 = 20;
    pub const FAULT: u16 = 21;
    pub const INVAL: u16 = 28;
    pub const ISDIR: u16 = 31;
    pub const MFILE: u16 = 33;
    pub const NAMETOOLONG: u16 = 37;
    pub const NOENT: u16 = 44;
    pub const NOSPC: u16 = 51;
    pub const NOTDIR: u16 = 54;
    pub const NOTEMPTY: u16 = 55;
    pub const NOTSUP: u16 = 58;
    pub const SPIPE: u16 = 70;
    pub const NOTCAPABLE: u16 = 76;
}

/// Why a call did not simply succeed.
pub enum Stop {
    /// It failed, and the module is told.
    Errno(u16),
    /// It has to wait; until this time at most, if there is one.
    Wait(Option<u64>),
    /// The module ends.
    Exit(Status),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Errno(match trouble {
            Trouble::NotFound => errno::NOENT,
            Trouble::NotFolder => errno::NOTDIR,
            Trouble::IsFolder => errno::ISDIR,
            Trouble::Exists => errno::EXIST,
            Trouble::NotEmpty => errno::NOTEMPTY,
            Trouble::NoRoom => errno::NOSPC,
            Trouble::TooLong => errno::NAMETOOLONG,
            Trouble::Outside => errno::NOTCAPABLE,
            Trouble::Invalid => errno::INVAL,
        })
    }
}

/// How a call goes.
pub type Answer = Result<(), Stop>;

/// What a call is given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arguments([u64; MOST_ARGUMENTS]);

impl Arguments {
    fn of(values: &[Val]) -> Self {
        let mut arguments = Self::default();
        for (place, value) in arguments.0.iter_mut().zip(values) {
            *place = match value {
                Val::I32(value) => u64::from(*value as u32),
                Val::I64(value) => *value as u64,
                _ => 0,
            };
        }
        arguments
    }

    /// One that is 32 bits wide, as places in memory are.
    pub fn small(&self, at: usize) -> u32 {
        self.0[at] as u32
    }

    /// One that is 64 bits wide.
    pub fn large(&self, at: usize) -> u64 {
        self.0[at]
    }
}

/// What does a call.
type Work = fn(&mut Memory<'_>, &mut Context, &Arguments) -> Answer;

/// A call that is under way.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    work: Work,
    arguments: Arguments,
}

/// A call has to wait.
#[derive(Debug)]
pub struct Waits(pub Call);

/// The module ends.
#[derive(Debug)]
pub struct Exit(pub Status);

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a call that waits")
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the end of a module")
    }
}

impl HostError for Waits {}
impl HostError for Exit {}

/// Every call: its name, its arguments (`i` of 32 bits, `I` of 64), and what does it.
const CALLS: [(&str, &str, Work); 36] = [
    ("args_get", "ii", basics::args),
    ("args_sizes_get", "ii", basics::args_sizes),
    ("clock_res_get", "ii", basics::clock_resolution),
    ("clock_time_get", "iIi", basics::clock_time),
    ("environ_get", "ii", basics::environ),
    ("environ_sizes_get", "ii", basics::environ_sizes),
    ("fd_advise", "iIIi", basics::nothing),
    ("fd_close", "i", streams::close),
    ("fd_datasync", "i", basics::nothing),
    ("fd_fdstat_get", "ii", streams::state),
    ("fd_fdstat_set_flags", "ii", basics::nothing),
    ("fd_filestat_get", "ii", streams::file_state),
    ("fd_filestat_set_size", "iI", streams::set_size),
    ("fd_pread", "iiiIi", streams::read_at),
    ("fd_prestat_dir_name", "iii", folders::given_name),
    ("fd_prestat_get", "ii", folders::given),
    ("fd_pwrite", "iiiIi", streams::write_at),
    ("fd_read", "iiii", streams::read),
    ("fd_readdir", "iiiIi", folders::list),
    ("fd_renumber", "ii", streams::renumber),
    ("fd_seek", "iIii", streams::seek),
    ("fd_sync", "i", basics::nothing),
    ("fd_tell", "ii", streams::tell),
    ("fd_write", "iiii", streams::write),
    ("path_create_directory", "iii", folders::make),
    ("path_filestat_get", "iiiii", folders::state),
    ("path_filestat_set_times", "iiiiIIi", basics::nothing),
    ("path_open", "iiiiiIIii", folders::open),
    ("path_remove_directory", "iii", folders::remove_folder),
    ("path_rename", "iiiiii", folders::rename),
    ("path_unlink_file", "iii", folders::remove_file),
    ("poll_oneoff", "iiii", poll::poll),
    ("proc_exit", "i", basics::exit),
    ("random_get", "ii", basics::random),
    ("sched_yield", "", basics::nothing),
    ("fd_filestat_set_times", "iIIi", basics::nothing),
];

/// Whether there is such a call.
pub fn knows(name: &str) -> bool {
    CALLS.iter().any(|(known, ..)| *known == name)
}

/// Links all of it.
pub fn link(linker: &mut Linker<Context>) -> Result<(), Error> {
    for (name, arguments, work) in CALLS {
        let kind = |letter| if letter == 'I' { ValType::I64 } else { ValType::I32 };
        let results: &[ValType] = if name == "proc_exit" { &[] } else { &[ValType::I32] };
        let kind = FuncType::new(arguments.chars().map(kind).collect::<Vec<_>>(), results.iter().copied());
        linker.func_new(MODULE, name, kind, move |mut caller: Caller<'_, Context>, values, results| {
            let call = Call { work, arguments: Arguments::of(values) };
            let answer = attempt(&mut caller, &call);
            let cost = CALL_FUEL + core::mem::take(&mut caller.data_mut().moved) / BYTES_A_FUEL;
            let fuel = caller.get_fuel()?;
            caller.set_fuel(fuel.saturating_sub(cost))?;
            match answer {
                Ok(number) => results.iter_mut().for_each(|result| *result = Val::I32(number)),
                Err(Stop::Exit(status)) => return Err(Error::host(Exit(status))),
                Err(_) => return Err(Error::host(Waits(call))),
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Does a call, unless it has to wait.
fn attempt(mut store: impl AsContextMut<Data = Context>, call: &Call) -> Result<i32, Stop> {
    let mut store = store.as_context_mut();
    let answer = match store.data().memory {
        Some(memory) => {
            let (bytes, context) = memory.data_and_store_mut(&mut store);
            (call.work)(&mut Memory(bytes), context, &call.arguments)
        }
        // It has none: nothing can be told it but an exit.
        None => (call.work)(&mut Memory(&mut []), store.data_mut(), &call.arguments),
    };
    match answer {
        Ok(()) => Ok(0),
        Err(Stop::Errno(number)) => Ok(number.into()),
        Err(stop) => Err(stop),
    }
}

/// Asks a call again that has waited: its answer, or nothing if it goes on waiting. `wake` may become the
/// time at which it has to be asked again.
pub fn again(store: &mut Store<Context>, call: &Call, wake: &mut Option<u64>) -> Option<Result<i32, Exit>> {
    match attempt(store, call) {
        Ok(answer) => Some(Ok(answer)),
        Err(Stop::Exit(status)) => Some(Err(Exit(status))),
        Err(Stop::Wait(until)) => {
            *wake = [*wake, until].into_iter().flatten().min();
            None
        }
        Err(Stop::Errno(number)) => Some(Ok(number.into())),
    }
}
