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
//! A stream is over when Exited and Eof of both channels were said. Kinds 64 and up are left for
//! streams that are not jobs: connections to guest ports, file transfer.

use crate::codec::{Malformed, Reader, Writer};

/// Version of everything in this crate.
pub const PROTOCOL_VERSION: u16 = 1;
/// Most jobs that run at a time.
pub const MAX_RUNNING_JOBS: usize = 200;
/// Most ended jobs whose status is remembered.
pub const MAX_ENDED_JOBS: usize = 200;
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
    /// Where; the user's home unless said.
    pub cwd: Option<Vec<u8>>,
    /// As whom; empty is root.
    pub user: String,
    /// On a terminal of its own, or on three pipes.
    pub pty: Option<Pty>,
    /// Whether it goes on, on its terminal, when the host's end is lost. Without it a terminal
    /// hangs up. Jobs on pipes go on anyway.
    pub keep: bool,
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
}

/// A refusal in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What kind.
    pub why: Refusal,
    /// In words.
    pub words: String,
}

impl Identity {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.bytes(self.lease.as_bytes()).u64(self.generation).bytes(self.hostname.as_bytes());
        w.u64(self.wall_clock_micros).bytes(&self.entropy);
        w.u32(self.cpu_millicores).u32(self.vcpus).u64(self.memory_mib).u64(self.disk_gib);
        w.0
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let identity = Self {
            lease: r.text(MAX_TEXT_BYTES)?,
            generation: r.u64()?,
            hostname: r.text(64)?,
            wall_clock_micros: r.u64()?,
            entropy: r.bytes()?.to_vec(),
            cpu_millicores: r.u32()?,
            vcpus: r.u32()?,
            memory_mib: r.u64()?,
            disk_gib: r.u64()?,
        };
        r.end().map(|()| identity)
    }
}

impl Ready {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u64(self.uptime_micros).bytes(self.kernel.as_bytes()).u32(self.vcpus).u64(self.memory_kib);
        w.0
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let ready =
            Self { uptime_micros: r.u64()?, kernel: r.text(MAX_TEXT_BYTES)?, vcpus: r.u32()?, memory_kib: r.u64()? };
        r.end().map(|()| ready)
    }
}

impl Exec {
    /// As a payload; it may be too long for a frame, which the sender checks.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.bytes(self.job.as_bytes());
        match &self.command {
            Command::Argv(words) => {
                w.u8(0).u32(words.len() as u32);
                for word in words {
                    w.bytes(word);
                }
            }
            Command::Line(line) => {
                w.u8(1).bytes(line);
            }
            Command::Login => {
                w.u8(2);
            }
        }
        w.u32(self.env.len() as u32);
        for (name, value) in &self.env {
            w.bytes(name).bytes(value);
        }
        match &self.cwd {
            Some(cwd) => w.u8(1).bytes(cwd),
            None => w.u8(0),
        };
        w.bytes(self.user.as_bytes());
        match &self.pty {
            Some(pty) => w.u8(1).bytes(pty.term.as_bytes()).u16(pty.rows).u16(pty.cols),
            None => w.u8(0),
        };
        w.u8(self.keep.into());
        w.0
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let exec = Self {
            job: r.text(MAX_JOB_ID_BYTES)?,
            command: match r.u8()? {
                0 => Command::Argv(r.list(MAX_WORDS, |r| Ok(r.bytes()?.to_vec()))?),
                1 => Command::Line(r.bytes()?.to_vec()),
                2 => Command::Login,
                _ => return Err(Malformed),
            },
            env: r.list(MAX_WORDS, |r| Ok((r.bytes()?.to_vec(), r.bytes()?.to_vec())))?,
            cwd: match r.u8()? {
                0 => None,
                _ => Some(r.bytes()?.to_vec()),
            },
            user: r.text(256)?,
            pty: match r.u8()? {
                0 => None,
                _ => Some(Pty { term: r.text(256)?, rows: r.u16()?, cols: r.u16()? }),
            },
            keep: r.u8()? != 0,
        };
        r.end().map(|()| exec)
    }
}

impl Status {
    fn write(self, w: &mut Writer) {
        match self {
            Self::Code(code) => w.u8(0).u8(code),
            Self::Signal(signal) => w.u8(1).u8(signal),
        };
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match (r.u8()?, r.u8()?) {
            (0, code) => Ok(Self::Code(code)),
            (1, signal) => Ok(Self::Signal(signal)),
            _ => Err(Malformed),
        }
    }

    /// As a payload.
    pub fn encode(self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.0
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let status = Self::read(&mut r)?;
        r.end().map(|()| status)
    }
}

fn write_jobs(jobs: &[JobState], w: &mut Writer) {
    w.u32(jobs.len() as u32);
    for job in jobs {
        w.bytes(job.job.as_bytes());
        match job.ended {
            None => {
                w.u8(0);
            }
            Some(status) => status.write(w.u8(1)),
        }
    }
}

fn read_jobs(r: &mut Reader<'_>) -> Result<Vec<JobState>, Malformed> {
    r.list(MAX_RUNNING_JOBS + MAX_ENDED_JOBS, |r| {
        let job = r.text(MAX_JOB_ID_BYTES)?;
        let ended = match r.u8()? {
            0 => None,
            _ => Some(Status::read(r)?),
        };
        Ok(JobState { job, ended })
    })
}

/// A list of jobs as a payload.
pub fn encode_jobs(jobs: &[JobState]) -> Vec<u8> {
    let mut w = Writer::default();
    write_jobs(jobs, &mut w);
    w.0
}

/// A list of jobs from a payload.
pub fn decode_jobs(payload: &[u8]) -> Result<Vec<JobState>, Malformed> {
    let mut r = Reader(payload);
    let jobs = read_jobs(&mut r)?;
    r.end().map(|()| jobs)
}

impl Welcome {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u16(self.version).bytes(self.boot_id.as_bytes());
        match &self.identity {
            Some((lease, generation)) => w.u8(1).bytes(lease.as_bytes()).u64(*generation),
            None => w.u8(0),
        };
        write_jobs(&self.jobs, &mut w);
        w.0
    }

    /// From a payload. Of another version only the version is understood.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let version = r.u16()?;
        if version != PROTOCOL_VERSION {
            return Ok(Self { version, ..Self::default() });
        }
        let boot_id = r.text(64)?;
        let identity = match r.u8()? {
            0 => None,
            _ => Some((r.text(MAX_TEXT_BYTES)?, r.u64()?)),
        };
        let jobs = read_jobs(&mut r)?;
        r.end().map(|()| Self { version, boot_id, identity, jobs })
    }
}

impl Tail {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u64(self.dropped_bytes).bytes(&self.bytes);
        w.0
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let tail = Self { dropped_bytes: r.u64()?, bytes: r.bytes()?.to_vec() };
        r.end().map(|()| tail)
    }
}

impl Stats {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u64(self.uptime_micros).u64(self.memory_total_kib).u64(self.memory_available_kib);
        w.u32(self.load_permille).u32(self.processes).u32(self.jobs);
        w.0
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let stats = Self {
            uptime_micros: r.u64()?,
            memory_total_kib: r.u64()?,
            memory_available_kib: r.u64()?,
            load_permille: r.u32()?,
            processes: r.u32()?,
            jobs: r.u32()?,
        };
        r.end().map(|()| stats)
    }
}

impl Refused {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        let mut end = self.words.len().min(MAX_TEXT_BYTES);
        while !self.words.is_char_boundary(end) {
            end -= 1;
        }
        w.u8(self.why as u8).bytes(&self.words.as_bytes()[..end]);
        w.0
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let why = match r.u8()? {
            0 => Refusal::NoIdentity,
            1 => Refusal::OtherIdentity,
            2 => Refusal::Protocol,
            3 => Refusal::TooMany,
            4 => Refusal::NotFound,
            5 => Refusal::Failed,
            _ => return Err(Malformed),
        };
        let words = r.text(MAX_TEXT_BYTES)?;
        r.end().map(|()| Self { why, words })
    }
}

#[cfg(test)]
mod tests;
