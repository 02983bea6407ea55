//! How each message is laid out in a payload.

use super::{
    Attach, Command, Exec, Identity, JobState, MAX_ENDED_JOBS, MAX_JOB_ID_BYTES, MAX_RUNNING_JOBS, MAX_TEXT_BYTES,
    MAX_WORDS, PROTOCOL_VERSION, Pty, Ready, Refusal, Refused, Stats, Status, Tail, Welcome,
};
use crate::codec::{Malformed, Reader, Writer};
use alloc::vec::Vec;

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

impl Attach {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.bytes(self.job.as_bytes()).u64(self.from);
        w.0
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let attach = Self { job: r.text(MAX_JOB_ID_BYTES)?, from: r.u64()? };
        r.end().map(|()| attach)
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
            6 => Refusal::Pointless,
            7 => Refusal::Begun,
            _ => return Err(Malformed),
        };
        let words = r.text(MAX_TEXT_BYTES)?;
        r.end().map(|()| Self { why, words })
    }
}
