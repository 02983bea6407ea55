//! One job: its record, its output, and who waits for news of it.

use super::Ring;
use crate::clock::wall_clock;
use crate::guard::record::Boottime;
use crate::guest_link::{Command, ExecRequest, OWN_PROGRAM};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sublet_model::job::{JobEvent, JobState};
use sublet_model::units::Timestamp;
use sublet_wire::jobs::{JobView, NewJob};
use tokio::sync::watch;

/// What the guest calls its detached jobs.
pub(super) const PREFIX: &str = "detached_";
/// No record is longer.
const MOST_RECORD_BYTES: u64 = 256 * 1024;

/// What is kept of a job, replaced as a whole whenever it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The first of a lease is 1.
    pub number: u32,
    /// Made by this host: what the guest knows it by.
    pub id: uuid::Uuid,
    /// As submitted.
    pub job: NewJob,
    /// The try it is at.
    pub attempt: u32,
    /// Where it stands.
    pub state: JobState,
    /// In more words.
    pub detail: Option<String>,
    /// On the wall clock, for people.
    pub submitted_at: Timestamp,
    /// When this try began, on the wall clock.
    pub started_at: Option<Timestamp>,
    /// The same on CLOCK_BOOTTIME, from which its time counts.
    pub started_boot_us: Option<i64>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

impl Record {
    /// A job that was submitted just now.
    pub fn new(number: u32, job: NewJob) -> Self {
        Self {
            number,
            id: uuid::Uuid::now_v7(),
            job,
            attempt: 1,
            state: JobState::Waiting,
            detail: None,
            submitted_at: wall_clock(),
            started_at: None,
            started_boot_us: None,
            ended_at: None,
        }
    }

    fn attempts(&self) -> u32 {
        u32::from(self.job.retries) + 1
    }

    /// What the guest knows this try by.
    pub fn guest_name(&self) -> String {
        format!("{PREFIX}{}.{}", self.id.simple(), self.attempt)
    }

    /// What the guest is asked to run.
    pub fn request(&self, user: &str) -> ExecRequest {
        let argv = |words: Vec<&str>| Command::Argv(words.into_iter().map(Into::into).collect());
        let words = self.job.command.iter().map(String::as_str);
        let command = match (&self.job.whole, self.job.command.as_slice()) {
            (None, [line]) => Command::Line(line.clone().into_bytes()),
            (None, _) => argv(words.collect()),
            (Some(file), [line]) => argv(vec![OWN_PROGRAM, "whole", file, "/bin/sh", "-c", line]),
            (Some(file), _) => argv([OWN_PROGRAM, "whole", file].into_iter().chain(words).collect()),
        };
        let own = [("SUBLET_JOB", self.number.to_string()), ("SUBLET_ATTEMPT", self.attempt.to_string())];
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into_bytes()));
        let theirs = self.job.env.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()));
        ExecRequest {
            job: self.guest_name(),
            command,
            env: own.chain(theirs).collect(),
            cwd: self.job.cwd.clone().map(String::into_bytes),
            user: user.to_owned(),
            pty: None,
            keep: true,
        }
    }

    /// The same after an event.
    fn after(&self, event: JobEvent, detail: Option<String>) -> Self {
        let state = self.state.after(event, self.attempt < self.attempts());
        let mut next = Self { state, ..self.clone() };
        if detail.is_some() && state != self.state {
            next.detail = detail;
        }
        // One that the guest had no room for was no try.
        let not_begun = event == JobEvent::Busy && self.state == JobState::Starting;
        if state == JobState::Waiting && self.state != JobState::Waiting && !not_begun {
            next.attempt += 1;
        }
        if event == JobEvent::Began && self.state == JobState::Starting {
            next.detail = None;
            (next.started_at, next.started_boot_us) = (Some(wall_clock()), Some(Boottime::now().0));
        }
        if state.is_over() {
            next.ended_at = Some(wall_clock());
        }
        next
    }
}

/// A job and its files.
#[derive(Debug)]
pub struct Job {
    folder: PathBuf,
    held: Mutex<Held>,
    /// Raised whenever its record changes.
    changed: watch::Sender<u64>,
    /// Raised whenever it has said more.
    grown: watch::Sender<u64>,
}

#[derive(Debug)]
struct Held {
    record: Record,
    ring: Ring,
}

impl Job {
    /// Writes down a new one. The record comes last: what could not be taken in must not run later.
    pub fn create(folder: &Path, record: Record) -> io::Result<Arc<Self>> {
        let job = Self::with(folder, record)?;
        if let Err(error) = save(folder, &job.record()) {
            // It may be there, though not for certain.
            for path in [record_path(folder, job.record().number), output_path(folder, job.record().number)] {
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
        Ok(job)
    }

    /// Reads one that was written down.
    pub fn load(folder: &Path, number: u32) -> io::Result<Arc<Self>> {
        let path = record_path(folder, number);
        if std::fs::metadata(&path)?.len() > MOST_RECORD_BYTES {
            return Err(io::Error::other("the record is longer than any we write"));
        }
        Self::with(folder, serde_json::from_slice(&std::fs::read(&path)?)?)
    }

    fn with(folder: &Path, record: Record) -> io::Result<Arc<Self>> {
        let ring = Ring::open(&output_path(folder, record.number))?;
        let (changed, grown) = (watch::Sender::new(0), watch::Sender::new(0));
        Ok(Arc::new(Self { folder: folder.to_owned(), held: Mutex::new(Held { record, ring }), changed, grown }))
    }

    /// Removes its files.
    pub fn remove(&self) -> io::Result<()> {
        let number = self.record().number;
        std::fs::remove_file(record_path(&self.folder, number))?;
        std::fs::remove_file(output_path(&self.folder, number))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is written down.
    pub fn record(&self) -> Record {
        self.lock().record.clone()
    }

    /// Where it stands.
    pub fn state(&self) -> JobState {
        self.lock().record.state
    }

    /// As its client sees it.
    pub fn view(&self) -> JobView {
        let held = self.lock();
        let Record { number, job, attempt, state, detail, submitted_at, started_at, ended_at, .. } =
            held.record.clone();
        JobView {
            number,
            name: job.name,
            state,
            detail,
            command: job.command,
            cwd: job.cwd,
            out: job.out,
            attempt,
            attempts: u32::from(job.retries) + 1,
            timeout_seconds: job.timeout_seconds,
            submitted_at,
            started_at,
            ended_at,
            output: held.ring.view(),
        }
    }

    /// Tells of changes of its record.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Tells of more output.
    pub fn watch_output(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// Records what happened, durably, and says where it stands then. Blocks for as long as the disk
    /// takes; where it fails nothing has changed.
    pub fn apply(&self, event: JobEvent, detail: Option<String>) -> io::Result<JobState> {
        let mut held = self.lock();
        let next = held.record.after(event, detail);
        if next != held.record {
            save(&self.folder, &next)?;
            held.record = next;
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(held.record.state)
    }

    /// How far this try's output is here.
    pub fn taken(&self) -> u64 {
        let mut held = self.lock();
        let attempt = held.record.attempt;
        held.ring.taken(attempt)
    }

    /// Keeps what a try said at `at` of its own count.
    pub fn append(&self, attempt: u32, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut held = self.lock();
        // The word of a try that is over already is not the next one's.
        let kept = if held.record.attempt == attempt { held.ring.append(attempt, at, bytes) } else { Ok(()) };
        self.grown.send_modify(|count| *count += 1);
        kept
    }

    /// Reads output: see [`Ring::read`].
    pub fn read(&self, from: u64, most: usize) -> io::Result<(u64, Vec<u8>)> {
        self.lock().ring.read(from, most)
    }

    /// The first byte that is kept, and the one after the last.
    pub fn span(&self) -> (u64, u64) {
        let held = self.lock();
        (held.ring.oldest(), held.ring.end())
    }
}

fn record_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number}.json"))
}

fn output_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number}.out"))
}

fn save(folder: &Path, record: &Record) -> io::Result<()> {
    replace(folder, &record_path(folder, record.number), &serde_json::to_vec(record)?)
}

/// Replaces a file as a whole, durably.
pub(super) fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}
