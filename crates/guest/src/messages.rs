//! What host and guest say: kinds of frames, their contents and limits.
//!
//! ```text
//! host                                     guest
//!  | zeros, Hello{version} ----------------> |   a new session: half frames and old streams dropped
//!  | <--- Welcome{version, boot id, jobs} -- |
//!  | Identity ----------------------------> |    before it nothing runs
//!  | <------------------------------ Ready   |
//!  | Exec (stream n) ---------------------> |
//!  | <------------------- Started | Refused  |
//!  | Data, Eof, Credit, Signal, Window ----> |
//!  | <--------- Data(0|1), Eof(0|1), Credit  |
//!  | <------------------------------ Exited  |   data already written may still follow, up to Eof
//! ```
//!
//! A machine of which copies are to be started is told so before it has an identity:
//!
//! ```text
//!  | Template ----------------------------> |   refused while it still boots, or once it has an identity
//!  | <------------------------------- Done   |   stopped now; each copy begins with Hello and Identity
//! ```
//!
//! A detached job is started by Record and found again by Attach, by this host or the next one:
//!
//! ```text
//!  | Record (stream n) -------------------> |    as Exec; stdout and stderr are one, there is no input
//!  | <--------------------------- Started   |
//!  | <------------------------ Data(0), Eof |    held by the guest until Credit: nothing is lost
//!  | ------- the host is gone ------------- |    held up to a limit, then the oldest goes
//!  | Attach{job, from} (stream m) ---------> |   from: how many bytes the host has
//!  | <-------------------- Attached{start}   |   what lies between is gone
//!  | <------------- Data(0), Eof(0|1), Exited
//!  | Forget{job} -------------------------> |    once it has ended and all of it is kept
//!  | <------------------------------- Done   |
//! ```
//!
//! A stream is over when Exited and Eof of both channels were said. Kinds 64 and up are left for
//! streams that are not jobs: connections to guest ports, file transfer.

use alloc::string::String;
use alloc::vec::Vec;

mod payloads;

pub use payloads::{decode_jobs, encode_jobs};

/// Version of everything in this crate.
pub const PROTOCOL_VERSION: u16 = 1;
/// Most jobs that run at a time.
pub const MAX_RUNNING_JOBS: usize = 200;
/// Most ended jobs whose status is remembered.
pub const MAX_ENDED_JOBS: usize = 200;
/// Most detached jobs that run, or have ended and were not forgotten yet.
pub const MAX_RECORDED_JOBS: usize = 64;
/// Longest job id in bytes; the host makes them.
pub const MAX_JOB_ID_BYTES: usize = 64;
/// Most bytes kept of what a detached job says.
pub const TAIL_BYTES: usize = 48 * 1024;
/// Longest text (names, reasons) in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;
/// Most words or variables of a command.
pub const MAX_WORDS: usize = 4096;

/// The program a job names to run this very program: file transfer and forwarded connections are jobs
/// of it. The name is the kernel's, so it is there in every image, wherever the program was put.
pub const OWN_PROGRAM: &str = "/proc/self/exe";
/// What a forwarded connection says on stdout once it stands; what follows is the other end's.
pub const CONNECTED: u8 = b'+';
/// Most connections that wait to be taken from one port that is listened on.
pub const MAX_WAITING_CONNECTIONS: usize = 64;

/// Kinds of frames.
#[allow(missing_docs, reason = "each is the name of a message below")]
pub mod kind {
    pub const HELLO: u16 = 1;
    pub const IDENTITY: u16 = 2;
    pub const EXEC: u16 = 3;
    pub const SIGNAL: u16 = 4;
    pub const WINDOW: u16 = 5;
    pub const CLOSE: u16 = 6;
    pub const JOBS: u16 = 7;
    pub const TAIL: u16 = 8;
    pub const STATS: u16 = 9;
    pub const SHUTDOWN: u16 = 10;
    pub const PING: u16 = 11;
    pub const RECORD: u16 = 12;
    pub const ATTACH: u16 = 13;
    pub const FORGET: u16 = 14;
    /// You are copied soon: nothing has used you, and nothing will.
    pub const TEMPLATE: u16 = 15;

    pub const DATA: u16 = 16;
    pub const EOF: u16 = 17;
    pub const CREDIT: u16 = 18;

    pub const WELCOME: u16 = 32;
    pub const READY: u16 = 33;
    pub const STARTED: u16 = 34;
    pub const EXITED: u16 = 35;
    pub const JOBS_ARE: u16 = 36;
    pub const TAIL_IS: u16 = 37;
    pub const STATS_ARE: u16 = 38;
    pub const DONE: u16 = 39;
    pub const REFUSED: u16 = 40;
    pub const PONG: u16 = 41;
    pub const ATTACHED: u16 = 43;
    /// The guest knows no session: it was started anew. Comes with session 0.
    pub const LOST: u16 = 42;
}

/// Who the guest is, and what makes it differ from its template's other clones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The lease it serves.
    pub lease: String,
    /// The partition's generation under that lease.
    pub generation: u64,
    /// Name of the machine, as users see it in a prompt.
    pub hostname: String,
    /// Time of day, microseconds since 1970.
    pub wall_clock_micros: u64,
    /// Fresh randomness, at least 64 bytes.
    pub entropy: Vec<u8>,
    /// Entitlement: thousandths of a hardware thread.
    pub cpu_millicores: u32,
    /// Entitlement: hardware threads it may see.
    pub vcpus: u32,
    /// Entitlement: memory in MiB.
    pub memory_mib: u64,
    /// Entitlement: disk in GiB.
    pub disk_gib: u64,
}

/// The guest has its identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ready {
    /// Since the guest's kernel started.
    pub uptime_micros: u64,
    /// `uname -r`.
    pub kernel: String,
    /// Hardware threads the guest sees.
    pub vcpus: u32,
    /// Memory the guest sees, in KiB.
    pub memory_kib: u64,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// These words, without a shell.
    Argv(Vec<Vec<u8>>),
    /// This line, by the user's shell.
    Line(Vec<u8>),
    /// The user's shell itself, as at login.
    Login,
}

/// The terminal a job gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// `TERM`.
    pub term: String,
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// A job to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The host's name for it, under which it can be found again.
    pub job: String,
    /// What to run.
    pub command: Command,
    /// Variables beside those of a login.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where, below the user's home unless it is said from the root on; that home if absent.
    pub cwd: Option<Vec<u8>>,
    /// As whom; empty is root.
    pub user: String,
    /// On a terminal of its own, or on three pipes.
    pub pty: Option<Pty>,
    /// Whether it goes on, on its terminal, when the host's end is lost. Without it a terminal
    /// hangs up. Jobs on pipes go on anyway.
    pub keep: bool,
}

/// A host asks for a detached job's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Which job.
    pub job: String,
    /// How many bytes of its output the host has.
    pub from: u64,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    /// The host's name for it.
    pub job: String,
    /// How it ended, unless it runs.
    pub ended: Option<Status>,
}

/// The guest's answer to Hello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Welcome {
    /// What the guest speaks.
    pub version: u16,
    /// The kernel's id of this boot; empty before the identity was told, for copies differ in it.
    pub boot_id: String,
    /// Lease and generation, once told.
    pub identity: Option<(String, u64)>,
    /// Jobs that run, and those that ended lately.
    pub jobs: Vec<JobState>,
}

/// What a detached job said last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail {
    /// Bytes that came before and are gone.
    pub dropped_bytes: u64,
    /// The last of stdout and stderr, as they came.
    pub bytes: Vec<u8>,
}

/// How the guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Since the guest's kernel started.
    pub uptime_micros: u64,
    /// Memory the guest sees, in KiB.
    pub memory_total_kib: u64,
    /// Memory that could be given to a new job, in KiB.
    pub memory_available_kib: u64,
    /// Load of the last minute in thousandths.
    pub load_permille: u32,
    /// Processes and threads.
    pub processes: u32,
    /// Jobs that run.
    pub jobs: u32,
}

/// Why the guest did not do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing runs before the identity is set.
    NoIdentity,
    /// It has another identity already.
    OtherIdentity,
    /// The message did not decode, or came at the wrong moment.
    Protocol,
    /// A limit of this file.
    TooMany,
    /// No such user, job or stream.
    NotFound,
    /// The kernel said no; the words say what.
    Failed,
    /// It could, and nothing would be gained: not now, and not later.
    Pointless,
    /// The job was begun by an earlier life of this program: what became of it is not known.
    Begun,
}

/// A refusal in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What kind.
    pub why: Refusal,
    /// In words.
    pub words: String,
}

#[cfg(test)]
mod tests;
