//! The two processes of a machine, held by descriptors: a number may be reused, these cannot.

use crate::guard::record::{Answer, PidRecord, ProcessId, boot_id};
use crate::vmm::Usage;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// The guard answers at once; it has little to do.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// Longer than any answer of a guard.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

/// Starts a guard in a directory that holds its order, and waits for its one line. What stands in
/// no file comes by `input`.
pub async fn start_guard(program: &Path, run_dir: &Path, input: Option<OwnedFd>) -> Result<PidRecord, String> {
    let mut command = Command::new(program);
    command.arg("guard").arg("--run-dir").arg(run_dir).env_clear().current_dir("/");
    command.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut guard = command.spawn().map_err(|error| format!("failed to run {}: {error}", program.display()))?;
    drop(command);
    let answer = match guard.stdout.take() {
        Some(out) => read_answer(OwnedFd::from(out)).await,
        None => Err("the guard has no standard output".to_owned()),
    };
    match answer {
        // It is waited for by its descriptor from here on.
        Ok(Answer::Started(record)) if record.guard.pid == guard.id() as i32 => Ok(record),
        other => {
            // Whatever it started dies with it.
            let _ = guard.kill();
            let _ = guard.wait();
            Err(match other {
                Ok(Answer::Failed(reason)) | Err(reason) => reason,
                Ok(Answer::Started(_)) => "the guard spoke for another process".to_owned(),
            })
        }
    }
}

async fn read_answer(out: OwnedFd) -> Result<Answer, String> {
    let reading = async {
        let mut line = String::new();
        BufReader::new(pipe::Receiver::from_owned_fd(out)?.take(MAX_ANSWER_BYTES)).read_line(&mut line).await?;
        if line.is_empty() {
            return Err(io::Error::other("it ended without a word"));
        }
        Ok(serde_json::from_str(&line)?)
    };
    let answer: io::Result<Answer> =
        timeout(ANSWER_PATIENCE, reading).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
    answer.map_err(|error| format!("no answer from the guard: {error}"))
}

/// Guard and QEMU of one machine. One that is gone already is not held.
#[derive(Debug)]
pub struct Processes {
    guard: Option<AsyncFd<OwnedFd>>,
    monitor: Option<AsyncFd<OwnedFd>>,
    /// QEMU's number.
    pub monitor_pid: i32,
}

impl Processes {
    /// Takes hold of those processes of `record` that still run.
    pub fn hold(record: &PidRecord) -> io::Result<Self> {
        let same_boot = boot_id()? == record.boot_id;
        let hold = |id: ProcessId| if same_boot { hold(id) } else { Ok(None) };
        Ok(Self { guard: hold(record.guard)?, monitor: hold(record.monitor)?, monitor_pid: record.monitor.pid })
    }

    /// Whether any of them still ran when it was taken hold of.
    pub fn any(&self) -> bool {
        self.guard.is_some() || self.monitor.is_some()
    }

    /// Whether both did.
    pub fn both(&self) -> bool {
        self.guard.is_some() && self.monitor.is_some()
    }

    /// Returns when both have ended.
    pub async fn ended(&self) {
        for process in [&self.guard, &self.monitor].into_iter().flatten() {
            // A descriptor that cannot be waited for belongs to a process that is not there.
            let _ = process.readable().await;
            // A guard this agent started is its child; an adopted one is not, and that is no error.
            let _ = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }

    /// Asks the guard to end QEMU and say so.
    pub fn ask_to_stop(&self) {
        match &self.guard {
            Some(_) => send(&self.guard, Signal::TERM),
            None => self.kill(),
        }
    }

    /// Kills QEMU: the guard then says how it ended, if there is one that can.
    pub fn kill_monitor(&self) {
        send(&self.monitor, Signal::KILL);
    }

    /// Kills both.
    pub fn kill(&self) {
        self.kill_monitor();
        send(&self.guard, Signal::KILL);
    }

    /// What QEMU used, where no control group counts it.
    pub fn usage(&self) -> io::Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.monitor_pid))?;
        let fields: Vec<u64> = stat[stat.rfind(')').map_or(0, |at| at + 1)..]
            .split_ascii_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        // Fields 14, 15 and 24 of the line, which is read from field 3 on.
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Ok(Usage {
            cpu_nanoseconds: (field(14) + field(15)).saturating_mul(tick_ns),
            memory_bytes: field(24).saturating_mul(rustix::param::page_size() as u64),
        })
    }
}

/// A process that has ended meanwhile is what the signal was for.
fn send(process: &Option<AsyncFd<OwnedFd>>, signal: Signal) {
    if let Some(process) = process {
        let _ = pidfd_send_signal(process, signal);
    }
}

#[allow(unsafe_code, reason = "tokio cannot know that a descriptor stays the same one")]
fn hold(id: ProcessId) -> io::Result<Option<AsyncFd<OwnedFd>>> {
    let Some(pid) = Pid::from_raw(id.pid) else { return Ok(None) };
    let held = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(held) => held,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Looked at after it is held: what matches now is what is held.
    if !id.is_alive() {
        return Ok(None);
    }
    // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped.
    let held = unsafe { AsyncFd::register_with_interest(held, tokio::io::Interest::READABLE) };
    Ok(Some(held?))
}
